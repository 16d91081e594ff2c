import { api, type Api } from '../protocol/api.js';
import { errorNumber } from '../protocol/errors.js';
import { int16, int32, string } from '../protocol/schema.js';

const request = {
  groupId: string(),
  generationId: int32(),
  memberId: string(),
  groupInstanceId: string({ since: 3, nullable: 3 }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  errorCode: int16(),
};

export const heartbeat: Api = api({
  key: 12,
  name: 'Heartbeat',
  versions: [0, 4],
  flexible: 4,
  request,
  response,
  handle({ groupId, generationId, ...identity }, { node }) {
    const { coordinator } = node.broker;
    return { errorCode: errorNumber(coordinator.heartbeat(groupId, identity, generationId)) };
  },
});
