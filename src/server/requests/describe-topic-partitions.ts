import { array, arrayOf, bool, int16, int32, string, struct, uuid } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
  }),
  responsePartitionLimit: int32({ default: 2000 }),
  cursor: struct(
    {
      topicName: string(),
      partitionIndex: int32(),
    },
    { nullable: 0 },
  ),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    errorCode: int16(),
    name: string({ nullable: 0 }),
    topicId: uuid(),
    isInternal: bool({ default: false }),
    partitions: array({
      errorCode: int16(),
      partitionIndex: int32(),
      leaderId: int32(),
      leaderEpoch: int32({ default: -1 }),
      replicaNodes: arrayOf(int32()),
      isrNodes: arrayOf(int32()),
      eligibleLeaderReplicas: arrayOf(int32(), { nullable: 0, default: null }),
      lastKnownElr: arrayOf(int32(), { nullable: 0, default: null }),
      offlineReplicas: arrayOf(int32()),
    }),
    topicAuthorizedOperations: int32({ default: -2147483648 }),
  }),
  nextCursor: struct(
    {
      topicName: string(),
      partitionIndex: int32(),
    },
    { nullable: 0 },
  ),
};

export const describeTopicPartitions: Api = api({
  key: 75,
  name: 'DescribeTopicPartitions',
  versions: [0, 0],
  flexible: 0,
  request,
  response,
  handle,
});
