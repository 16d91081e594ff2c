import { byTopic } from '../by-topic.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber } from '../protocol/errors.js';
import { array, arrayOf, int16, int32, string, struct, uuid } from '../protocol/schema.js';

const topicPartitions = { topicId: uuid(), partitions: arrayOf(int32()) };

const request = {
  groupId: string(),
  memberId: string(),
  memberEpoch: int32(),
  instanceId: string({ nullable: 0 }),
  rackId: string({ nullable: 0 }),
  rebalanceTimeoutMs: int32({ default: -1 }),
  subscribedTopicNames: arrayOf(string(), { nullable: 0 }),
  subscribedTopicRegex: string({ since: 1, nullable: 1 }),
  serverAssignor: string({ nullable: 0 }),
  topicPartitions: array(topicPartitions, { nullable: 0 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
  errorMessage: string({ nullable: 0 }),
  memberId: string({ nullable: 0 }),
  memberEpoch: int32(),
  heartbeatIntervalMs: int32(),
  assignment: struct({ topicPartitions: array(topicPartitions) }, { nullable: 0 }),
};

export const consumerGroupHeartbeat: Api = api({
  key: 68,
  name: 'ConsumerGroupHeartbeat',
  versions: [0, 1],
  flexible: 0,
  request,
  response,
  handle(asked, { node, peer, version, clientId }) {
    // KIP-1082: clients name themselves.
    if (version >= 1 && asked.memberId === '') {
      const errorMessage = 'MemberId is empty.';
      const refused = { memberId: null, memberEpoch: 0, heartbeatIntervalMs: 0, assignment: null };
      return { ...refused, errorCode: errorNumber('INVALID_REQUEST'), errorMessage };
    }
    const { errorCode, assignment, ...answer } = node.broker.coordinator.consumerHeartbeat({
      ...asked,
      clientId,
      clientHost: peer.clientHost,
      topics: asked.subscribedTopicNames,
      pattern: asked.subscribedTopicRegex,
      assignor: asked.serverAssignor,
      owned:
        asked.topicPartitions?.flatMap(({ topicId: topic, partitions }) =>
          partitions.map((partition) => ({ topic, partition })),
        ) ?? null,
    });
    const topics = assignment === null ? null : byTopic(assignment, ({ topic }) => topic);
    return {
      ...answer,
      errorCode: errorNumber(errorCode),
      assignment:
        topics === null
          ? null
          : {
              topicPartitions: topics.map(({ first, partitions }) => ({
                topicId: first.topic,
                partitions,
              })),
            },
    };
  },
});
