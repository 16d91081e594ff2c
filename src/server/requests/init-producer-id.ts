import { aTransactionalId } from '../../options.js';
import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { bigint64, int16, int32, string } from '../protocol/schema.js';

const request = {
  transactionalId: string({ nullable: 0 }),
  transactionTimeoutMs: int32(),
  producerId: bigint64({ since: 3, default: -1n }),
  producerEpoch: int16({ since: 3, default: -1 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
  producerId: bigint64({ default: -1n }),
  producerEpoch: int16({ default: -1 }),
};

export const initProducerId: Api = api({
  key: 22,
  name: 'InitProducerId',
  versions: [0, 5],
  flexible: 2,
  request,
  response,
  async handle(asked, { node, version }) {
    const { transactionalId, transactionTimeoutMs, producerId, producerEpoch } = asked;
    const { transactions } = node.broker;
    const isNew = producerId === -1n;
    const isId = transactionalId === null || aTransactionalId(transactionalId) === null;
    if (!isId || isNew !== (producerEpoch === -1)) {
      return { errorCode: errorNumber('INVALID_REQUEST') };
    }
    // Without a transactional id it is somebody new, whoever it was.
    if (transactionalId === null) {
      return { errorCode: noError, producerId: transactions.newProducerId(), producerEpoch: 0 };
    }
    const expected = isNew ? null : { producerId, producerEpoch };
    try {
      const identity = await transactions.init(transactionalId, transactionTimeoutMs, expected);
      return { errorCode: noError, ...identity };
    } catch (error) {
      return { errorCode: coordinatorErrorNumberOf(error, version >= 4) };
    }
  },
});
