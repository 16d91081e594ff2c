import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';

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
  handle,
});
