import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';
import { alterResource } from '../config-resources.js';
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
  async handle({ resources, validateOnly }, { node }) {
    const responses = [];
    for (const { configs, ...resource } of resources) {
      try {
        await alterResource(node, resource, validateOnly, () => [
          ...settableConfigs.map((name) => ({ name, value: null })),
          ...configs,
        ]);
        responses.push({ ...resource, errorCode: noError, errorMessage: null });
      } catch (error) {
        const errorMessage = error instanceof Error ? error.message : null;
        responses.push({ ...resource, errorCode: errorNumberOf(error), errorMessage });
      }
    }
    return { responses };
  },
});
