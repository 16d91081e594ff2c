import { OttlaError } from '../../errors.js';
import type { Partition } from '../../partition.js';
import { topicNameProblem } from '../../topic-name.js';
import type { Topic } from '../../topic.js';
import { firsts } from '../firsts.js';
import { api, type Api, type Node } from '../protocol/api.js';
import { errorNumber, errorNumberOf, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int16,
  int32,
  string,
  uuid,
  type Encodable,
} from '../protocol/schema.js';
import { createTopic, maxPartitionsAtOnce } from '../topic-creation.js';

const noId = 'AAAAAAAAAAAAAAAAAAAAAA';

const request = {
  topics: array({ topicId: uuid({ since: 10 }), name: string({ nullable: 10 }) }, { nullable: 1 }),
  allowAutoTopicCreation: bool({ since: 4, default: true }),
  includeClusterAuthorizedOperations: bool({ since: 8, until: 10 }),
  includeTopicAuthorizedOperations: bool({ since: 8 }),
};

/** Nobody asks for rights here: none are told. */
const notTold = -(2 ** 31);

const topicFields = {
  errorCode: int16(),
  name: string({ nullable: 12 }),
  topicId: uuid({ since: 10, default: noId }),
  isInternal: bool({ since: 1, default: false }),
  partitions: array({
    errorCode: int16(),
    partitionIndex: int32(),
    leaderId: int32(),
    leaderEpoch: int32({ since: 7, default: -1 }),
    replicaNodes: arrayOf(int32()),
    isrNodes: arrayOf(int32()),
    offlineReplicas: arrayOf(int32(), { since: 5, default: [] }),
  }),
  topicAuthorizedOperations: int32({ since: 8, default: notTold }),
};

const response = {
  throttleTimeMs: int32({ since: 3, default: 0 }),
  brokers: array({
    nodeId: int32(),
    host: string(),
    port: int32(),
    rack: string({ since: 1, nullable: 1, default: null }),
  }),
  clusterId: string({ since: 2, nullable: 2, default: null }),
  controllerId: int32({ since: 1, default: -1 }),
  topics: array(topicFields),
  clusterAuthorizedOperations: int32({ since: 8, until: 10, default: notTold }),
  errorCode: int16({ since: 13, default: 0 }),
};

/** From this version on topics may be named by their ids: an answer of one before has no way to name none. */
const idsSince = 12;

type TopicMetadata = Encodable<typeof topicFields>;

export const metadata: Api = api({
  key: 3,
  name: 'Metadata',
  versions: [0, 13],
  flexible: 9,
  request,
  response,
  async handle({ topics: asked, allowAutoTopicCreation }, { node, version }) {
    if (
      version < idsSince &&
      asked?.some(({ name, topicId }) => name === null || topicId !== noId)
    ) {
      const errorCode = errorNumber('INVALID_REQUEST');
      const refused = asked.map(({ name, topicId }) => {
        return { errorCode, name: name ?? '', topicId, partitions: [] };
      });
      return { brokers: [], clusterId: null, topics: refused };
    }
    const { broker, nodeId, clusterId, endpoint } = node;
    const answer = { brokers: [{ nodeId, ...endpoint }], clusterId, controllerId: nodeId };
    // Version 0 knows no null: an empty list asks for all.
    const isForAll = asked === null || (version === 0 && asked.length === 0);
    if (isForAll)
      return { ...answer, topics: [...broker.topics.all()].map((topic) => known(node, topic)) };
    const isFirst = firsts();
    const distinct = asked.filter(({ name, topicId }) => isFirst(`${topicId} ${name}`));
    const isNew = distinct.filter(
      ({ name }) => name !== null && broker.topics.find(name) === undefined,
    );
    const mayCreate =
      allowAutoTopicCreation && isNew.length * node.defaultPartitions <= maxPartitionsAtOnce;
    const topics = await Promise.all(
      distinct.map(({ name, topicId }) => find(node, name, topicId, mayCreate)),
    );
    return { ...answer, topics };
  },
});

function known({ nodeId }: Node, { name, id, partitions }: Topic): TopicMetadata {
  return {
    errorCode: noError,
    name,
    topicId: id,
    partitions: partitions.map((partition) => ({
      ...led(partition),
      partitionIndex: partition.index,
      leaderId: nodeId,
      replicaNodes: [nodeId],
      isrNodes: [nodeId],
    })),
  };
}

function led(partition: Partition): { errorCode: number; leaderEpoch?: number } {
  try {
    return { errorCode: noError, leaderEpoch: partition.leaderEpoch };
  } catch (error) {
    return { errorCode: errorNumberOf(error) };
  }
}

function byId(node: Node, topicId: string): TopicMetadata {
  const topic = node.broker.topics.byId(topicId);
  if (topic !== undefined) return known(node, topic);
  return { errorCode: errorNumber('UNKNOWN_TOPIC_ID'), name: null, topicId, partitions: [] };
}

async function find(
  node: Node,
  name: string | null,
  topicId: string,
  mayCreate: boolean,
): Promise<TopicMetadata> {
  if (name === null) return byId(node, topicId);
  const refused = (errorCode: number): TopicMetadata => ({ errorCode, name, partitions: [] });
  const topic = node.broker.topics.find(name);
  if (topic !== undefined) return known(node, topic);
  if (topicNameProblem(name) !== null) return refused(errorNumber('INVALID_TOPIC_EXCEPTION'));
  if (!mayCreate || !node.autoCreateTopics)
    return refused(errorNumber('UNKNOWN_TOPIC_OR_PARTITION'));
  try {
    return known(node, await createTopic(node, name));
  } catch (error) {
    const created = node.broker.topics.find(name);
    if (created !== undefined && error instanceof OttlaError) return known(node, created);
    return refused(errorNumberOf(error));
  }
}
