import { answerOf, offsetsOf } from '../committed-topics.js';
import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, bigint64, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  transactionalId: string(),
  groupId: string(),
  producerId: bigint64(),
  producerEpoch: int16(),
  generationId: int32({ since: 3, default: -1 }),
  memberId: string({ since: 3 }),
  groupInstanceId: string({ since: 3, nullable: 3 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      committedOffset: int64(),
      committedLeaderEpoch: int32({ since: 2, default: -1 }),
      committedMetadata: string({ nullable: 0 }),
    }),
  }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({ partitionIndex: int32(), errorCode: int16() }),
  }),
};

/** Its newest version is for clients that leave AddOffsetsToTxn out (KIP-890). */
export const txnOffsetCommit: Api = api({
  key: 28,
  name: 'TxnOffsetCommit',
  versions: [0, 4],
  flexible: 3,
  request,
  response,
  async handle(asked, { node: { broker } }) {
    const { transactionalId, producerId, producerEpoch, topics, ...from } = asked;
    const offsets = offsetsOf(topics);
    const { results, commit } = broker.groups.judge({ ...from, offsets }, true);
    const identity = { producerId, producerEpoch };
    let failure = noError;
    try {
      if (commit.offsets.length > 0) {
        await broker.transactions.commitOffsets(transactionalId, identity, commit);
      }
    } catch (error) {
      failure = coordinatorErrorNumberOf(error, false);
    }
    const errorCodes = results.map((error) => (error === null ? failure : errorNumber(error)));
    return { topics: answerOf(topics, errorCodes) };
  },
});
