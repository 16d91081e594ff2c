import type { Broker } from '../../broker.js';
import { byTopic } from '../by-topic.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bigint64,
  int16,
  int32,
  int64,
  string,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  transactionalIds: arrayOf(string()),
};

const transaction = {
  errorCode: int16(),
  transactionalId: string(),
  transactionState: string({ default: '' }),
  transactionTimeoutMs: int32({ default: 0 }),
  transactionStartTimeMs: int64({ default: 0 }),
  producerId: bigint64({ default: 0n }),
  producerEpoch: int16({ default: 0 }),
  topics: array({ topic: string(), partitions: arrayOf(int32()) }, { default: [] }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  transactionStates: array(transaction),
};

export const describeTransactions: Api = api({
  key: 65,
  name: 'DescribeTransactions',
  versions: [0, 0],
  flexible: 0,
  request,
  response,
  handle({ transactionalIds }, { node }) {
    return { transactionStates: transactionalIds.map((id) => describe(node.broker, id)) };
  },
});

function describe(broker: Broker, transactionalId: string): Encodable<typeof transaction> {
  const refused = (error: 'INVALID_REQUEST' | 'TRANSACTIONAL_ID_NOT_FOUND') => ({
    transactionalId,
    errorCode: errorNumber(error),
  });
  if (transactionalId === '') return refused('INVALID_REQUEST');
  const found = broker.transactions.describe(transactionalId);
  if (found === undefined) return refused('TRANSACTIONAL_ID_NOT_FOUND');
  return {
    errorCode: noError,
    transactionalId,
    transactionState: found.state,
    transactionTimeoutMs: found.timeoutMs,
    transactionStartTimeMs: found.startedAt,
    producerId: found.producerId,
    producerEpoch: found.producerEpoch,
    topics: byTopic(found.partitions, ({ topicId }) => topicId).flatMap(({ first, partitions }) => {
      const topic = broker.topics.byId(first.topicId)?.name;
      return topic === undefined ? [] : [{ topic, partitions }];
    }),
  };
}
