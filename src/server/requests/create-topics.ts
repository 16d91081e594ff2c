import { OttlaError } from '../../errors.js';
import type { Topic } from '../../topic.js';
import { topicNameProblem } from '../../topic-name.js';
import { api, type Api, type Node } from '../protocol/api.js';
import { errorNumberOf, noError, WireError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int16,
  int32,
  int8,
  string,
  uuid,
  type Decoded,
  type Encodable,
} from '../protocol/schema.js';
import { configsOf, configSources, settingsOf } from '../topic-configs.js';
import { createTopic, maxPartitionsAtOnce, tooManyPartitions } from '../topic-creation.js';

const newTopic = {
  name: string(),
  numPartitions: int32(),
  replicationFactor: int16(),
  assignments: array({ partitionIndex: int32(), brokerIds: arrayOf(int32()) }),
  configs: array({ name: string(), value: string({ nullable: 0 }) }),
};

const request = {
  topics: array(newTopic),
  timeoutMs: int32({ default: 60_000 }),
  validateOnly: bool({ default: false }),
};

const created = {
  name: string(),
  topicId: uuid({ since: 7, default: 'AAAAAAAAAAAAAAAAAAAAAA' }),
  errorCode: int16(),
  errorMessage: string({ nullable: 0, default: null }),
  topicConfigErrorCode: int16({ since: 5, tag: 0, default: 0 }),
  numPartitions: int32({ since: 5, default: -1 }),
  replicationFactor: int16({ since: 5, default: -1 }),
  configs: array(
    {
      name: string(),
      value: string({ nullable: 5 }),
      readOnly: bool({ default: false }),
      configSource: int8({ default: -1 }),
      isSensitive: bool({ default: false }),
    },
    { since: 5, nullable: 5, default: null },
  ),
};

const response = { throttleTimeMs: int32({ default: 0 }), topics: array(created) };

type NewTopic = Decoded<typeof newTopic>;
type Created = Encodable<typeof created>;

/** What a client sends that leaves it open. */
const open = -1;

export const createTopics: Api = api({
  key: 19,
  name: 'CreateTopics',
  versions: [2, 7],
  flexible: 5,
  request,
  response,
  async handle({ topics, validateOnly }, { node }) {
    const answers: Created[] = [];
    const times = new Map<string, number>();
    for (const { name } of topics) times.set(name, (times.get(name) ?? 0) + 1);
    const counts = topics.map(({ numPartitions, assignments }) =>
      numPartitions === open ? Math.max(node.defaultPartitions, assignments.length) : numPartitions,
    );
    const tooMany = tooManyPartitions(counts);
    for (const topic of topics) {
      try {
        if (tooMany !== null) throw tooMany;
        if (times.get(topic.name)! > 1) {
          throw new OttlaError('INVALID_REQUEST', `topic ${topic.name} is there twice`);
        }
        answers.push(await create(node, topic, validateOnly));
      } catch (error) {
        const errorMessage = error instanceof Error ? error.message : null;
        answers.push({ name: topic.name, errorCode: errorNumberOf(error), errorMessage });
      }
    }
    return { topics: answers };
  },
});

async function create(node: Node, asked: NewTopic, validateOnly: boolean): Promise<Created> {
  const { name, configs } = asked;
  const problem = topicNameProblem(name);
  if (problem !== null) throw new OttlaError('INVALID_TOPIC_EXCEPTION', problem);
  if (node.broker.topics.find(name) !== undefined) {
    throw new OttlaError('TOPIC_ALREADY_EXISTS', `topic ${name} exists`);
  }
  const partitionCount = partitionsOf(node, asked);
  const settings = settingsOf(configs);
  if (!validateOnly) {
    return answer(await createTopic(node, name, partitionCount, settings));
  }
  return { name, errorCode: noError, numPartitions: partitionCount, replicationFactor: 1 };
}

/** @throws INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_REQUEST */
function partitionsOf({ nodeId, defaultPartitions }: Node, asked: NewTopic): number {
  const { numPartitions, replicationFactor, assignments } = asked;
  if (assignments.length > 0) {
    if (numPartitions !== open || replicationFactor !== open) {
      throw new OttlaError('INVALID_REQUEST', 'expected assignments or numbers, got both');
    }
    const indexes = new Set(assignments.map(({ partitionIndex }) => partitionIndex));
    const isWhole = assignments.every(
      ({ brokerIds }, index) =>
        indexes.has(index) && brokerIds.length === 1 && brokerIds[0] === nodeId,
    );
    if (isWhole && indexes.size === assignments.length) return indexes.size;
    throw new WireError(
      'INVALID_REPLICA_ASSIGNMENT',
      `expected node ${nodeId} alone for each partition from 0 on`,
    );
  }
  if (replicationFactor !== open && replicationFactor !== 1) {
    throw new WireError(
      'INVALID_REPLICATION_FACTOR',
      `replication factor ${replicationFactor}: there is one node`,
    );
  }
  if (numPartitions === open) return defaultPartitions;
  if (numPartitions >= 1 && numPartitions <= maxPartitionsAtOnce) return numPartitions;
  throw new OttlaError(
    'INVALID_PARTITIONS',
    `expected 1 to ${maxPartitionsAtOnce} partitions, got ${numPartitions}`,
  );
}

function answer({ name, id, partitionCount, settings }: Topic): Created {
  return {
    name,
    topicId: id,
    errorCode: noError,
    numPartitions: partitionCount,
    replicationFactor: 1,
    configs: configsOf(settings).map(({ name: config, value, isDefault }) => ({
      name: config,
      value,
      configSource: isDefault ? configSources.DEFAULT : configSources.DYNAMIC_TOPIC,
    })),
  };
}
