import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, arrayOf, bigint64, int16, int32, string } from '../protocol/schema.js';

const request = {
  transactionalId: string(),
  producerId: bigint64(),
  producerEpoch: int16(),
  topics: array({ name: string(), partitions: arrayOf(int32()) }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  results: array({
    name: string(),
    partitions: array({ partitionIndex: int32(), errorCode: int16() }),
  }),
};

/** Its newer versions are for brokers among themselves. */
export const addPartitionsToTxn: Api = api({
  key: 24,
  name: 'AddPartitionsToTxn',
  versions: [0, 3],
  flexible: 3,
  request,
  response,
  async handle({ transactionalId, topics, ...identity }, { node: { broker }, version }) {
    const answer = (
      errorCode: (name: string, partition: number) => number,
    ): {
      results: { name: string; partitions: { partitionIndex: number; errorCode: number }[] }[];
    } => ({
      results: topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map((partitionIndex) => ({
          partitionIndex,
          errorCode: errorCode(name, partitionIndex),
        })),
      })),
    });
    const find = (name: string, index: number) => broker.topics.find(name)?.partitions[index];
    const logs = topics.flatMap(({ name, partitions }) =>
      partitions.map((index) => find(name, index)),
    );
    const found = logs.filter((log) => log !== undefined);
    if (found.length < logs.length) {
      return answer((name, index) =>
        errorNumber(
          find(name, index) === undefined
            ? 'UNKNOWN_TOPIC_OR_PARTITION'
            : 'OPERATION_NOT_ATTEMPTED',
        ),
      );
    }
    try {
      await broker.transactions.addPartitions(transactionalId, identity, found);
      return answer(() => noError);
    } catch (error) {
      const errorCode = coordinatorErrorNumberOf(error, version >= 2);
      return answer(() => errorCode);
    }
  },
});
