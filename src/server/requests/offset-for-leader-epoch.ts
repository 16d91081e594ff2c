import { checkLeaderEpoch } from '../fetch-place.js';
import type { Partition } from '../../partition.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  replicaId: int32({ since: 3, default: -2 }),
  topics: array({
    topic: string(),
    partitions: array({
      partition: int32(),
      currentLeaderEpoch: int32({ default: -1 }),
      leaderEpoch: int32(),
    }),
  }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    topic: string(),
    partitions: array({
      errorCode: int16(),
      partition: int32(),
      leaderEpoch: int32({ default: -1 }),
      endOffset: int64({ default: -1 }),
    }),
  }),
};

export const offsetForLeaderEpoch: Api = api({
  key: 23,
  name: 'OffsetForLeaderEpoch',
  versions: [2, 4],
  flexible: 4,
  request,
  response,
  handle({ topics }, { node }) {
    return {
      topics: topics.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map(({ partition: index, currentLeaderEpoch, leaderEpoch }) => {
          try {
            const partition = node.broker.topics.partition({ topic, partition: index });
            checkLeaderEpoch(partition, currentLeaderEpoch);
            return { errorCode: noError, partition: index, ...endOf(partition, leaderEpoch) };
          } catch (error) {
            return { errorCode: errorNumberOf(error), partition: index };
          }
        }),
      })),
    };
  },
});

/** As Kafka's LeaderEpochFileCache.endOffsetFor: -1 for what is not known. */
function endOf(partition: Partition, epoch: number): { leaderEpoch?: number; endOffset?: number } {
  const { leaderEpoch } = partition;
  if (epoch < 0 || epoch > leaderEpoch) return {};
  const endOffset = partition.endOfEpoch(epoch);
  return { leaderEpoch: Math.min(epoch, partition.epochBefore(endOffset)), endOffset };
}
