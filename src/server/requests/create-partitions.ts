import { OttlaError } from '../../errors.js';
import { maxPartitionsAtOnce, tooManyPartitions } from '../topic-creation.js';
import { api, type Api, type Node } from '../protocol/api.js';
import { errorNumberOf, noError, WireError } from '../protocol/errors.js';
import { array, arrayOf, bool, int16, int32, string, type Decoded } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    count: int32(),
    assignments: array(
      {
        brokerIds: arrayOf(int32()),
      },
      { nullable: 0 },
    ),
  }),
  timeoutMs: int32(),
  validateOnly: bool(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  results: array({
    name: string(),
    errorCode: int16(),
    errorMessage: string({ nullable: 0, default: null }),
  }),
};

export const createPartitions: Api = api({
  key: 37,
  name: 'CreatePartitions',
  versions: [0, 3],
  flexible: 2,
  request,
  response,
  async handle({ topics, validateOnly }, { node }) {
    const results = [];
    const counts = topics.map(({ name, count }) => {
      return count - (node.broker.topics.find(name)?.partitionCount ?? count);
    });
    const tooMany = tooManyPartitions(counts);
    for (const topic of topics) {
      const { name } = topic;
      try {
        if (tooMany !== null) throw tooMany;
        await grow(node, topic, validateOnly);
        results.push({ name, errorCode: noError });
      } catch (error) {
        const errorMessage = error instanceof Error ? error.message : null;
        results.push({ name, errorCode: errorNumberOf(error), errorMessage });
      }
    }
    return { results };
  },
});

/** @throws UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT */
async function grow(
  { broker, nodeId }: Node,
  { name, count, assignments }: Decoded<typeof request>['topics'][number],
  validateOnly: boolean,
): Promise<void> {
  const before = broker.topics.get(name).partitionCount;
  if (count <= before || count - before > maxPartitionsAtOnce) {
    throw new OttlaError(
      'INVALID_PARTITIONS',
      `topic ${name} has ${before} partitions, got ${count}: expected more, by at most ${maxPartitionsAtOnce}`,
    );
  }
  const isHere = assignments?.every(
    ({ brokerIds: [id, ...more] }) => id === nodeId && !more.length,
  );
  if (assignments !== null && (isHere !== true || assignments.length !== count - before)) {
    throw new WireError(
      'INVALID_REPLICA_ASSIGNMENT',
      `expected node ${nodeId} alone for each of ${count - before} partitions`,
    );
  }
  if (!validateOnly) await broker.topics.addPartitions(name, count);
}
