import { api, type Api } from '../protocol/api.js';
import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';
import { alterResources } from '../config-resources.js';
import { settableConfigs } from '../topic-configs.js';

const request = {
  resources: array({
    resourceType: int8(),
    resourceName: string(),
    configs: array({
      name: string(),
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

/** Sets what it names, and all else to its default: what IncrementalAlterConfigs replaces. */
export const alterConfigs: Api = api({
  key: 33,
  name: 'AlterConfigs',
  versions: [0, 2],
  flexible: 2,
  request,
  response,
  handle: ({ resources, validateOnly }, { node }) =>
    alterResources(node, resources, validateOnly, (configs) => [
      ...settableConfigs.map((name) => ({ name, value: null })),
      ...configs,
    ]),
});
