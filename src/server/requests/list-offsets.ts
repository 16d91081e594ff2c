import { array, int16, int32, int64, int8, string } from '../protocol/schema.js';

const request = {
  replicaId: int32(),
  isolationLevel: int8({ since: 2 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      currentLeaderEpoch: int32({ since: 4, default: -1 }),
      timestamp: int64(),
    }),
  }),
  timeoutMs: int32({ since: 10 }),
};

const response = {
  throttleTimeMs: int32({ since: 2, default: 0 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      errorCode: int16(),
      timestamp: int64({ default: -1 }),
      offset: int64({ default: -1 }),
      leaderEpoch: int32({ since: 4, default: -1 }),
    }),
  }),
};

export const listOffsets: Api = api({
  key: 2,
  name: 'ListOffsets',
  versions: [1, 11],
  flexible: 6,
  request,
  response,
  handle,
});
