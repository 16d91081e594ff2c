import { firsts } from '../firsts.js';
import { api, type Api } from '../protocol/api.js';
import { describeResource } from '../config-resources.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, arrayOf, bool, int16, int32, int8, string } from '../protocol/schema.js';

const request = {
  resources: array({
    resourceType: int8(),
    resourceName: string(),
    configurationKeys: arrayOf(string(), { nullable: 0 }),
  }),
  includeSynonyms: bool({ default: false }),
  includeDocumentation: bool({ since: 3, default: false }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  results: array({
    errorCode: int16(),
    errorMessage: string({ nullable: 0 }),
    resourceType: int8(),
    resourceName: string(),
    configs: array({
      name: string(),
      value: string({ nullable: 0 }),
      readOnly: bool(),
      configSource: int8({ default: -1 }),
      isSensitive: bool(),
      synonyms: array({
        name: string(),
        value: string({ nullable: 0 }),
        source: int8(),
      }),
      configType: int8({ since: 3, default: 0 }),
      documentation: string({ since: 3, nullable: 0 }),
    }),
  }),
};

export const describeConfigs: Api = api({
  key: 32,
  name: 'DescribeConfigs',
  versions: [1, 4],
  flexible: 4,
  request,
  response,
  handle({ resources, includeSynonyms }, { node }) {
    const isFirst = firsts();
    const asked = resources.filter((each) => isFirst(`${each.resourceType} ${each.resourceName}`));
    const results = asked.map(({ configurationKeys, resourceType, resourceName }) => {
      const resource = { resourceType, resourceName };
      try {
        const configs = describeResource(node, resource)
          .filter(({ name }) => configurationKeys?.includes(name) ?? true)
          .map((config) => (includeSynonyms ? config : { ...config, synonyms: [] }));
        return { ...resource, errorCode: noError, errorMessage: null, configs };
      } catch (error) {
        const errorMessage = error instanceof Error ? error.message : null;
        return { ...resource, errorCode: errorNumberOf(error), errorMessage, configs: [] };
      }
    });
    return { results };
  },
});
