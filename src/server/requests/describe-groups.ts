import type { Broker } from '../../broker.js';
import { firsts } from '../firsts.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  bytes,
  int16,
  int32,
  string,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  groups: arrayOf(string()),
  includeAuthorizedOperations: bool({ since: 3 }),
};

/** Nobody asks for rights here: none are told. */
const notTold = -(2 ** 31);

const group = {
  errorCode: int16(),
  errorMessage: string({ since: 6, nullable: 6, default: null }),
  groupId: string(),
  groupState: string(),
  protocolType: string(),
  protocolData: string(),
  members: array({
    memberId: string(),
    groupInstanceId: string({ since: 4, nullable: 4 }),
    clientId: string(),
    clientHost: string(),
    metadata: bytes(),
    assignment: bytes(),
  }),
  authorizedOperations: int32({ since: 3, default: notTold }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  groups: array(group),
};

export const describeGroups: Api = api({
  key: 15,
  name: 'DescribeGroups',
  versions: [0, 6],
  flexible: 5,
  request,
  response,
  handle({ groups }, { node, version }) {
    const asked = groups.filter(firsts());
    return { groups: asked.map((groupId) => describe(node.broker, groupId, version)) };
  },
});

function describe(
  { groups, coordinator }: Broker,
  groupId: string,
  version: number,
): Encodable<typeof group> {
  const of = { groupId, groupState: 'Dead', protocolType: '', protocolData: '', members: [] };
  if (groupId === '') return { ...of, errorCode: errorNumber('INVALID_GROUP_ID') };
  const found = coordinator.describeInBytes(groupId);
  if (found !== undefined) {
    const { state, protocolType, protocolName, members } = found;
    return {
      ...of,
      errorCode: noError,
      groupState: state,
      protocolType,
      protocolData: protocolName,
      members,
    };
  }
  const type = groups.groupIds().has(groupId) ? groups.typeOf(groupId) : null;
  if (type === 'classic') {
    const protocolType = groups.protocolTypeOf(groupId);
    return { ...of, errorCode: noError, groupState: 'Empty', protocolType };
  }
  // Kafka's brokers call an unknown group dead, and one of the consumer protocol, and say only of late that it is not there (KIP-1043).
  if (version < 6) return { ...of, errorCode: noError };
  const errorMessage = `Group ${groupId} ${type === null ? 'not found' : 'is not a classic group'}.`;
  return { ...of, errorCode: errorNumber('GROUP_ID_NOT_FOUND'), errorMessage };
}
