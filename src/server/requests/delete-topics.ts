import { array, arrayOf, int16, int32, string, uuid } from '../protocol/schema.js';

const request = {
  topics: array(
    {
      name: string({ since: 6, nullable: 6, default: null }),
      topicId: uuid({ since: 6 }),
    },
    { since: 6 },
  ),
  topicNames: arrayOf(string(), { until: 5 }),
  timeoutMs: int32(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  responses: array({
    name: string({ nullable: 6 }),
    topicId: uuid({ since: 6 }),
    errorCode: int16(),
    errorMessage: string({ since: 5, nullable: 5, default: null }),
  }),
};

export const deleteTopics: Api = api({
  key: 20,
  name: 'DeleteTopics',
  versions: [1, 6],
  flexible: 4,
  request,
  response,
  handle,
});
