import { array, arrayOf, bool, int16, int32, string } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    count: int32(),
    assignments: array(
      {
        brokerIds: arrayOf(int32()),
      },
      { nullable: 0 },
    ),
  }),
  timeoutMs: int32(),
  validateOnly: bool(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  results: array({
    name: string(),
    errorCode: int16(),
    errorMessage: string({ nullable: 0, default: null }),
  }),
};

export const createPartitions: Api = api({
  key: 37,
  name: 'CreatePartitions',
  versions: [0, 3],
  flexible: 2,
  request,
  response,
  handle,
});
