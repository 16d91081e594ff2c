import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, int16, int32, string } from '../protocol/schema.js';

const identity = {
  memberId: string(),
  groupInstanceId: string({ nullable: 3 }),
};

const request = {
  groupId: string(),
  memberId: string({ until: 2 }),
  members: array({ ...identity, reason: string({ since: 5, nullable: 5 }) }, { since: 3 }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  errorCode: int16(),
  members: array({ ...identity, errorCode: int16() }, { since: 3, default: [] }),
};

export const leaveGroup: Api = api({
  key: 13,
  name: 'LeaveGroup',
  versions: [0, 5],
  flexible: 4,
  request,
  response,
  handle({ groupId, memberId, members }, { node, version }) {
    const leave = (member: { memberId: string; groupInstanceId: string | null }): number =>
      errorNumber(node.broker.coordinator.leaveGroup(groupId, member));
    if (version < 3) return { errorCode: leave({ memberId, groupInstanceId: null }) };
    if (groupId === '') return { errorCode: errorNumber('INVALID_GROUP_ID') };
    return {
      errorCode: noError,
      members: members.map((member) => ({ ...member, errorCode: leave(member) })),
    };
  },
});
