import type { Broker } from '../../broker.js';
import type { ConsumerMemberDescription, NamedPartition } from '../../group.js';
import { byTopic } from '../by-topic.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int8,
  int16,
  int32,
  string,
  struct,
  uuid,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  groupIds: arrayOf(string()),
  includeAuthorizedOperations: bool(),
};

const assignment = {
  topicPartitions: array({ topicId: uuid(), topicName: string(), partitions: arrayOf(int32()) }),
};

const member = {
  memberId: string(),
  instanceId: string({ nullable: 0 }),
  rackId: string({ nullable: 0 }),
  memberEpoch: int32(),
  clientId: string(),
  clientHost: string(),
  subscribedTopicNames: arrayOf(string()),
  subscribedTopicRegex: string({ nullable: 0 }),
  assignment: struct(assignment),
  targetAssignment: struct(assignment),
  memberType: int8({ since: 1, default: -1 }),
};

/** Nobody asks for rights here: none are told. */
const notTold = -(2 ** 31);

const group = {
  errorCode: int16(),
  errorMessage: string({ nullable: 0, default: null }),
  groupId: string(),
  groupState: string({ default: '' }),
  groupEpoch: int32({ default: 0 }),
  assignmentEpoch: int32({ default: 0 }),
  assignorName: string({ default: '' }),
  members: array(member, { default: [] }),
  authorizedOperations: int32({ default: notTold }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  groups: array(group),
};

/** There are no members of the classic protocol (0) in these groups. */
const ofConsumerProtocol = 1;

export const consumerGroupDescribe: Api = api({
  key: 69,
  name: 'ConsumerGroupDescribe',
  versions: [0, 1],
  flexible: 0,
  request,
  response,
  handle({ groupIds }, { node }) {
    return { groups: groupIds.map((groupId) => describe(node.broker, groupId)) };
  },
});

function describe({ groups, coordinator }: Broker, groupId: string): Encodable<typeof group> {
  if (groupId === '') return { groupId, errorCode: errorNumber('INVALID_GROUP_ID') };
  if (!groups.groupIds().has(groupId) || groups.typeOf(groupId) !== 'consumer') {
    const errorMessage = `Group ${groupId} is not a consumer group.`;
    return { groupId, errorCode: errorNumber('GROUP_ID_NOT_FOUND'), errorMessage };
  }
  const found = coordinator.describeConsumers(groupId);
  const groupEpoch = found?.epoch ?? groups.lastGeneration(groupId);
  return {
    groupId,
    errorCode: noError,
    groupState: found?.state ?? 'Empty',
    groupEpoch,
    assignmentEpoch: groupEpoch,
    assignorName: found?.assignor ?? 'uniform',
    members: found?.members.map(describeMember) ?? [],
  };
}

function describeMember(found: ConsumerMemberDescription): Encodable<typeof member> {
  return {
    ...found,
    memberEpoch: found.epoch,
    subscribedTopicNames: found.topics,
    subscribedTopicRegex: found.pattern,
    assignment: { topicPartitions: listed(found.assignment) },
    targetAssignment: { topicPartitions: listed(found.target) },
    memberType: ofConsumerProtocol,
  };
}

function listed(
  partitions: readonly NamedPartition[],
): Encodable<typeof assignment>['topicPartitions'] {
  return byTopic(partitions, ({ topicId }) => topicId).map(({ first, partitions: numbers }) => ({
    topicId: first.topicId,
    topicName: first.topic,
    partitions: numbers,
  }));
}
