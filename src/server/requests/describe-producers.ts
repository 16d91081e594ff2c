import { array, arrayOf, bigint64, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    partitionIndexes: arrayOf(int32()),
  }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      errorCode: int16(),
      errorMessage: string({ nullable: 0, default: null }),
      activeProducers: array({
        producerId: bigint64(),
        producerEpoch: int32(),
        lastSequence: int32({ default: -1 }),
        lastTimestamp: int64({ default: -1 }),
        coordinatorEpoch: int32(),
        currentTxnStartOffset: int64({ default: -1 }),
      }),
    }),
  }),
};

export const describeProducers: Api = api({
  key: 61,
  name: 'DescribeProducers',
  versions: [0, 0],
  flexible: 0,
  request,
  response,
  handle,
});
