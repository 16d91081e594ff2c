import { anId } from '../../options.js';
import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { bigint64, int16, int32, string } from '../protocol/schema.js';

const request = {
  transactionalId: string(),
  producerId: bigint64(),
  producerEpoch: int16(),
  groupId: string(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
};

export const addOffsetsToTxn: Api = api({
  key: 25,
  name: 'AddOffsetsToTxn',
  versions: [0, 4],
  flexible: 3,
  request,
  response,
  async handle({ transactionalId, groupId, ...identity }, { node, version }) {
    if (anId(groupId) !== null) return { errorCode: errorNumber('INVALID_GROUP_ID') };
    try {
      await node.broker.transactions.addGroup(transactionalId, identity, groupId);
      return { errorCode: noError };
    } catch (error) {
      return { errorCode: coordinatorErrorNumberOf(error, version >= 2) };
    }
  },
});
