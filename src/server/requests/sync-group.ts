import { api, type Api } from '../protocol/api.js';
import { errorNumber } from '../protocol/errors.js';
import { array, bytes, int16, int32, string } from '../protocol/schema.js';

const request = {
  groupId: string(),
  generationId: int32(),
  memberId: string(),
  groupInstanceId: string({ since: 3, nullable: 3 }),
  protocolType: string({ since: 5, nullable: 5 }),
  protocolName: string({ since: 5, nullable: 5 }),
  assignments: array({ memberId: string(), assignment: bytes() }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  errorCode: int16(),
  protocolType: string({ since: 5, nullable: 5 }),
  protocolName: string({ since: 5, nullable: 5 }),
  assignment: bytes(),
};

export const syncGroup: Api = api({
  key: 14,
  name: 'SyncGroup',
  versions: [0, 5],
  flexible: 4,
  request,
  response,
  async handle(asked, { node }) {
    const { errorCode, ...answer } = await node.broker.coordinator.syncGroup(asked);
    return { ...answer, errorCode: errorNumber(errorCode) };
  },
});
