import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';
import { alterResource } from '../config-resources.js';
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
  async handle({ resources, validateOnly }, { node }) {
    const responses = [];
    for (const { configs, ...resource } of resources) {
      try {
        await alterResource(node, resource, validateOnly, (settings) =>
          configs.map(({ name, value, configOperation: operation }) =>
            changedConfig(settings, { name, value, operation }),
          ),
        );
        responses.push({ ...resource, errorCode: noError, errorMessage: null });
      } catch (error) {
        const errorMessage = error instanceof Error ? error.message : null;
        responses.push({ ...resource, errorCode: errorNumberOf(error), errorMessage });
      }
    }
    return { responses };
  },
});
