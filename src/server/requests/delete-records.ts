import { array, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      offset: int64(),
    }),
  }),
  timeoutMs: int32(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      lowWatermark: int64(),
      errorCode: int16(),
    }),
  }),
};

export const deleteRecords: Api = api({
  key: 21,
  name: 'DeleteRecords',
  versions: [0, 2],
  flexible: 2,
  request,
  response,
  handle,
});
