import {
  array,
  arrayOf,
  bigint64,
  int16,
  int32,
  int64,
  int8,
  records,
  string,
  struct,
} from '../protocol/schema.js';

const request = {
  clusterId: string({ since: 12, nullable: 12, tag: 0, default: null }),
  replicaId: int32({ default: -1 }),
  maxWaitMs: int32(),
  minBytes: int32(),
  maxBytes: int32({ default: 2147483647 }),
  isolationLevel: int8({ default: 0 }),
  sessionId: int32({ since: 7, default: 0 }),
  sessionEpoch: int32({ since: 7, default: -1 }),
  topics: array({
    topic: string(),
    partitions: array({
      partition: int32(),
      currentLeaderEpoch: int32({ since: 9, default: -1 }),
      fetchOffset: int64(),
      lastFetchedEpoch: int32({ since: 12, default: -1 }),
      logStartOffset: int64({ since: 5, default: -1 }),
      partitionMaxBytes: int32(),
    }),
  }),
  forgottenTopicsData: array(
    {
      topic: string({ since: 7 }),
      partitions: arrayOf(int32(), { since: 7 }),
    },
    { since: 7 },
  ),
  rackId: string({ since: 11, default: '' }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16({ since: 7 }),
  sessionId: int32({ since: 7, default: 0 }),
  responses: array({
    topic: string(),
    partitions: array({
      partitionIndex: int32(),
      errorCode: int16(),
      highWatermark: int64(),
      lastStableOffset: int64({ default: -1 }),
      logStartOffset: int64({ since: 5, default: -1 }),
      divergingEpoch: struct(
        {
          epoch: int32({ since: 12, default: -1 }),
          endOffset: int64({ since: 12, default: -1 }),
        },
        { since: 12, tag: 0 },
      ),
      currentLeader: struct(
        {
          leaderId: int32({ since: 12, default: -1 }),
          leaderEpoch: int32({ since: 12, default: -1 }),
        },
        { since: 12, tag: 1 },
      ),
      snapshotId: struct(
        {
          endOffset: int64({ default: -1 }),
          epoch: int32({ default: -1 }),
        },
        { since: 12, tag: 2 },
      ),
      abortedTransactions: array(
        {
          producerId: bigint64(),
          firstOffset: int64(),
        },
        { nullable: 4 },
      ),
      preferredReadReplica: int32({ since: 11, default: -1 }),
      records: records({ nullable: 0 }),
    }),
  }),
};

export const fetch: Api = api({
  key: 1,
  name: 'Fetch',
  versions: [4, 12],
  flexible: 12,
  request,
  response,
  handle,
});
