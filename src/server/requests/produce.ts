import { array, int16, int32, int64, records, string, struct } from '../protocol/schema.js';

const request = {
  transactionalId: string({ nullable: 3, default: null }),
  acks: int16(),
  timeoutMs: int32(),
  topicData: array({
    name: string(),
    partitionData: array({
      index: int32(),
      records: records({ nullable: 0 }),
    }),
  }),
};

const response = {
  responses: array({
    name: string(),
    partitionResponses: array({
      index: int32(),
      errorCode: int16(),
      baseOffset: int64(),
      logAppendTimeMs: int64({ default: -1 }),
      logStartOffset: int64({ since: 5, default: -1 }),
      recordErrors: array(
        {
          batchIndex: int32({ since: 8 }),
          batchIndexErrorMessage: string({ since: 8, nullable: 8, default: null }),
        },
        { since: 8 },
      ),
      errorMessage: string({ since: 8, nullable: 8, default: null }),
      currentLeader: struct(
        {
          leaderId: int32({ since: 10, default: -1 }),
          leaderEpoch: int32({ since: 10, default: -1 }),
        },
        { since: 10, tag: 0 },
      ),
    }),
  }),
  throttleTimeMs: int32({ default: 0 }),
  nodeEndpoints: array(
    {
      nodeId: int32({ since: 10 }),
      host: string({ since: 10 }),
      port: int32({ since: 10 }),
      rack: string({ since: 10, nullable: 10, default: null }),
    },
    { since: 10, tag: 0, default: [] },
  ),
};

export const produce: Api = api({
  key: 0,
  name: 'Produce',
  versions: [3, 12],
  flexible: 9,
  request,
  response,
  handle,
});
