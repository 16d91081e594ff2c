import { api, type Api } from '../protocol/api.js';
import { errorNumber } from '../protocol/errors.js';
import { array, bool, bytes, int16, int32, string } from '../protocol/schema.js';

const request = {
  groupId: string(),
  sessionTimeoutMs: int32(),
  rebalanceTimeoutMs: int32({ since: 1, default: -1 }),
  memberId: string(),
  groupInstanceId: string({ since: 5, nullable: 5 }),
  protocolType: string(),
  protocols: array({ name: string(), metadata: bytes() }),
  reason: string({ since: 8, nullable: 8 }),
};

const response = {
  throttleTimeMs: int32({ since: 2, default: 0 }),
  errorCode: int16(),
  generationId: int32(),
  protocolType: string({ since: 7, nullable: 7 }),
  protocolName: string({ nullable: 7 }),
  leader: string(),
  skipAssignment: bool({ since: 9 }),
  memberId: string(),
  members: array({
    memberId: string(),
    groupInstanceId: string({ since: 5, nullable: 5 }),
    metadata: bytes(),
  }),
};

export const joinGroup: Api = api({
  key: 11,
  name: 'JoinGroup',
  versions: [0, 9],
  flexible: 6,
  request,
  response,
  async handle(asked, { node, peer, version, clientId }) {
    const { sessionTimeoutMs, rebalanceTimeoutMs } = asked;
    const { errorCode, protocolName, ...answer } = await node.broker.coordinator.joinGroup({
      ...asked,
      clientId,
      clientHost: peer.clientHost,
      rebalanceTimeoutMs: version === 0 ? sessionTimeoutMs : rebalanceTimeoutMs,
      requiresKnownMemberId: version >= 4,
      knowsSkipAssignment: version >= 9,
    });
    return {
      ...answer,
      errorCode: errorNumber(errorCode),
      protocolName: version >= 7 ? protocolName : (protocolName ?? ''),
    };
  },
});
