import type { Broker } from '../../broker.js';
import { nameOfTopic } from '../committed-topics.js';
import { firsts } from '../firsts.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int16,
  int32,
  int64,
  string,
  uuid,
  type Encodable,
} from '../protocol/schema.js';

const asked = { partitionIndexes: arrayOf(int32()) };

const request = {
  groupId: string({ until: 7 }),
  topics: array({ name: string(), ...asked }, { until: 7, nullable: 2 }),
  groups: array(
    {
      groupId: string(),
      memberId: string({ since: 9, nullable: 9 }),
      memberEpoch: int32({ since: 9 }),
      topics: array(
        { name: string({ until: 9 }), topicId: uuid({ since: 10 }), ...asked },
        { nullable: 8 },
      ),
    },
    { since: 8 },
  ),
  requireStable: bool({ since: 7 }),
};

const topicFields = {
  name: string({ until: 9 }),
  topicId: uuid({ since: 10 }),
  partitions: array({
    partitionIndex: int32(),
    committedOffset: int64(),
    committedLeaderEpoch: int32({ since: 5 }),
    metadata: string({ nullable: 0 }),
    errorCode: int16(),
  }),
};

const response = {
  throttleTimeMs: int32({ since: 3, default: 0 }),
  topics: array(topicFields, { until: 7, default: [] }),
  errorCode: int16({ since: 2, until: 7, default: 0 }),
  groups: array(
    { groupId: string(), topics: array(topicFields), errorCode: int16() },
    { since: 8, default: [] },
  ),
};

interface AskedTopic {
  readonly name: string;
  readonly topicId: string;
  readonly partitionIndexes: readonly number[];
}

type TopicAnswer = Encodable<typeof topicFields>;

export const offsetFetch: Api = api({
  key: 9,
  name: 'OffsetFetch',
  versions: [1, 10],
  flexible: 6,
  request,
  response,
  handle({ groupId, topics, groups, requireStable }, { node: { broker }, version }) {
    if (version < 8) {
      const named = topics?.map((topic) => ({ ...topic, topicId: '' })) ?? null;
      return { topics: fetch(broker, groupId, named, requireStable) };
    }
    const isFirst = firsts();
    // All that a group has is told once.
    const distinct = groups.filter((each) => each.topics !== null || isFirst(each.groupId));
    return {
      groups: distinct.map((group) => {
        const named =
          version < 10
            ? group.topics
            : (group.topics?.map((topic) => ({
                ...topic,
                name: nameOfTopic(broker, topic.topicId),
              })) ?? null);
        const { groupId: id, memberId, memberEpoch } = group;
        // Members of the consumer protocol tell who they are, from version 9 on.
        const refused =
          version < 9 ? null : broker.coordinator.checkFetch(id, memberId, memberEpoch);
        if (refused !== null) return { groupId: id, errorCode: errorNumber(refused), topics: [] };
        return {
          groupId: id,
          errorCode: noError,
          topics: fetch(broker, id, named, requireStable),
        };
      }),
    };
  },
});

/** @param topics null: all that the group has committed */
function fetch(
  broker: Broker,
  groupId: string,
  topics: readonly AskedTopic[] | null,
  requireStable: boolean,
): TopicAnswer[] {
  return (topics ?? allTopics(broker, groupId)).map(({ name, topicId, partitionIndexes }) => ({
    name,
    topicId,
    partitions: partitionIndexes.map((partition) =>
      fetchOne(broker, groupId, { topic: name, partition }, requireStable),
    ),
  }));
}

function allTopics({ groups }: Broker, groupId: string): AskedTopic[] {
  const topics = new Map<string, AskedTopic & { readonly partitionIndexes: number[] }>();
  for (const { topic, topicId, partition } of groups.allCommitted(groupId)) {
    const found = topics.get(topicId);
    if (found !== undefined) found.partitionIndexes.push(partition);
    else topics.set(topicId, { name: topic, topicId, partitionIndexes: [partition] });
  }
  return [...topics.values()];
}

function fetchOne(
  broker: Broker,
  groupId: string,
  at: { readonly topic: string; readonly partition: number },
  requireStable: boolean,
): TopicAnswer['partitions'][number] {
  const none = {
    partitionIndex: at.partition,
    committedOffset: -1,
    committedLeaderEpoch: -1,
    metadata: '',
    errorCode: noError,
  };
  // Of an id that nobody has.
  if (at.topic === '') return { ...none, errorCode: errorNumber('UNKNOWN_TOPIC_ID') };
  const topicId = broker.topics.find(at.topic)?.id;
  if (topicId === undefined) return none;
  if (requireStable && broker.transactions.hasPendingOffset(groupId, topicId, at.partition)) {
    return { ...none, errorCode: errorNumber('UNSTABLE_OFFSET_COMMIT') };
  }
  const committed = broker.offsets.fetch(groupId, topicId, at.partition);
  if (committed === undefined) return none;
  const { offset: committedOffset, leaderEpoch: committedLeaderEpoch, metadata } = committed;
  return { ...none, committedOffset, committedLeaderEpoch, metadata };
}
