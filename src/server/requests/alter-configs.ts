import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';

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

export const alterConfigs: Api = api({
  key: 33,
  name: 'AlterConfigs',
  versions: [0, 2],
  flexible: 2,
  request,
  response,
  handle,
});
