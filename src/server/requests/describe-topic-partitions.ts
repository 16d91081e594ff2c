import type { Topic } from '../../topic.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int16,
  int32,
  string,
  struct,
  uuid,
  type Encodable,
} from '../protocol/schema.js';

const place = { topicName: string(), partitionIndex: int32() };

const request = {
  topics: array({ name: string() }),
  responsePartitionLimit: int32({ default: 2000 }),
  cursor: struct(place, { nullable: 0 }),
};

const topicResponse = {
  errorCode: int16(),
  name: string({ nullable: 0 }),
  topicId: uuid({ default: 'AAAAAAAAAAAAAAAAAAAAAA' }),
  isInternal: bool({ default: false }),
  partitions: array({
    errorCode: int16(),
    partitionIndex: int32(),
    leaderId: int32(),
    leaderEpoch: int32({ default: -1 }),
    replicaNodes: arrayOf(int32()),
    isrNodes: arrayOf(int32()),
    eligibleLeaderReplicas: arrayOf(int32(), { nullable: 0, default: [] }),
    lastKnownElr: arrayOf(int32(), { nullable: 0, default: [] }),
    offlineReplicas: arrayOf(int32(), { default: [] }),
  }),
  topicAuthorizedOperations: int32({ default: -(2 ** 31) }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array(topicResponse),
  nextCursor: struct(place, { nullable: 0 }),
};

type TopicAnswer = Encodable<typeof topicResponse>;

/** Kafka's max.request.partition.size.limit. */
const maxPartitions = 2000;

/** Topics in the order of their names, page by page: the cursor is where the next one begins (KIP-966). */
export const describeTopicPartitions: Api = api({
  key: 75,
  name: 'DescribeTopicPartitions',
  versions: [0, 0],
  flexible: 0,
  request,
  response,
  handle({ topics: asked, responsePartitionLimit, cursor }, { node }) {
    const { broker, nodeId } = node;
    const all = asked.length === 0 ? [...broker.topics.all()] : asked;
    const names = [...new Set(all.map(({ name }) => name))]
      .filter((name) => cursor === null || name >= cursor.topicName)
      .toSorted();
    const topics: TopicAnswer[] = [];
    let left = Math.max(1, Math.min(responsePartitionLimit, maxPartitions));
    for (const name of names) {
      const topic = broker.topics.find(name);
      const first = cursor?.topicName === name ? Math.max(0, cursor.partitionIndex) : 0;
      if (left === 0) return { topics, nextCursor: { topicName: name, partitionIndex: first } };
      if (topic === undefined) {
        topics.push({ errorCode: errorNumber('UNKNOWN_TOPIC_OR_PARTITION'), name, partitions: [] });
        continue;
      }
      const described = describe(topic, first, left, nodeId);
      topics.push(described);
      left -= described.partitions.length;
      const partitionIndex = first + described.partitions.length;
      if (partitionIndex >= topic.partitionCount) continue;
      return { topics, nextCursor: { topicName: name, partitionIndex } };
    }
    return { topics };
  },
});

function describe(topic: Topic, first: number, count: number, nodeId: number): TopicAnswer {
  const partitions = topic.partitions.slice(first, first + count).map(({ index, leaderEpoch }) => ({
    errorCode: noError,
    partitionIndex: index,
    leaderId: nodeId,
    leaderEpoch,
    replicaNodes: [nodeId],
    isrNodes: [nodeId],
    // Kafka's own client takes no null here.
    eligibleLeaderReplicas: [],
    lastKnownElr: [],
  }));
  return { errorCode: noError, name: topic.name, topicId: topic.id, partitions };
}
