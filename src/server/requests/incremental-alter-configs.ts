import { api, type Api } from '../protocol/api.js';
import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';
import { alterResources } from '../config-resources.js';
import { changedConfig } from '../topic-configs.js';

const request = {
  resources: array({
    resourceType: int8(),
    resourceName: string(),
    configs: array({
      name: string(),
      configOperation: int8(),
      value: string({ nullable: 0 }),
    }),
  }),
  validateOnly: bool(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  responses: array({
    errorCode: int16(),
    errorMessage: string({ nullable: 0 }),
    resourceType: int8(),
    resourceName: string(),
  }),
};

export const incrementalAlterConfigs: Api = api({
  key: 44,
  name: 'IncrementalAlterConfigs',
  versions: [0, 1],
  flexible: 1,
  request,
  response,
  handle: ({ resources, validateOnly }, { node }) =>
    alterResources(node, resources, validateOnly, (configs, settings) =>
      configs.map(({ name, value, configOperation: operation }) =>
        changedConfig(settings, { name, value, operation }),
      ),
    ),
});
