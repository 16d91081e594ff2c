import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { noError } from '../protocol/errors.js';
import { bigint64, bool, int16, int32, string } from '../protocol/schema.js';

const request = {
  transactionalId: string(),
  producerId: bigint64(),
  producerEpoch: int16(),
  committed: bool(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
};

/** Its newest version is for producers that get a new epoch with each transaction (KIP-890). */
export const endTxn: Api = api({
  key: 26,
  name: 'EndTxn',
  versions: [0, 4],
  flexible: 3,
  request,
  response,
  async handle({ transactionalId, committed, ...identity }, { node, version }) {
    try {
      await node.broker.transactions.end(transactionalId, identity, committed);
      return { errorCode: noError };
    } catch (error) {
      return { errorCode: coordinatorErrorNumberOf(error, version >= 2) };
    }
  },
});
