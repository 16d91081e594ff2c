import type { Isolation } from '../../options.js';
import type { Partition } from '../../partition.js';
import { recordFrom } from '../../partition-offsets.js';
import { checkLeaderEpoch } from '../fetch-place.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, int16, int32, int64, int8, string, type Encodable } from '../protocol/schema.js';

const request = {
  replicaId: int32(),
  isolationLevel: int8({ since: 2 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      currentLeaderEpoch: int32({ since: 4, default: -1 }),
      timestamp: int64(),
    }),
  }),
  timeoutMs: int32({ since: 10 }),
};

const partitionResponse = {
  partitionIndex: int32(),
  errorCode: int16(),
  timestamp: int64({ default: -1 }),
  offset: int64({ default: -1 }),
  leaderEpoch: int32({ since: 4, default: -1 }),
};

const response = {
  throttleTimeMs: int32({ since: 2, default: 0 }),
  topics: array({ name: string(), partitions: array(partitionResponse) }),
};

export const listOffsets: Api = api({
  key: 2,
  name: 'ListOffsets',
  versions: [1, 11],
  flexible: 6,
  request,
  response,
  async handle({ topics, isolationLevel }, { node }) {
    const isolation = isolationLevel === 1 ? 'read_committed' : 'read_uncommitted';
    const answers = [];
    for (const { name, partitions } of topics) {
      const found = [];
      for (const { partitionIndex, currentLeaderEpoch, timestamp } of partitions) {
        try {
          const partition = node.broker.topics.partition({
            topic: name,
            partition: partitionIndex,
          });
          checkLeaderEpoch(partition, currentLeaderEpoch);
          const offset = await find(partition, timestamp, isolation);
          found.push({ partitionIndex, errorCode: noError, ...offset });
        } catch (error) {
          found.push({ partitionIndex, errorCode: errorNumberOf(error) });
        }
      }
      answers.push({ name, partitions: found });
    }
    return { topics: answers };
  },
});

/** What a timestamp below 0 asks for. */
const latest = -1;
const earliest = -2;
const maxTimestamp = -3;
const earliestLocal = -4;
/** Nothing lies in a second tier: there is no last such offset, and none that waits for it. */
const tiered: ReadonlySet<number> = new Set([-5, -6]);

type Found = Omit<Encodable<typeof partitionResponse>, 'partitionIndex' | 'errorCode'>;

async function find(partition: Partition, timestamp: number, isolation: Isolation): Promise<Found> {
  const end = partition.endFor(isolation);
  if (timestamp === latest) return { offset: end, leaderEpoch: partition.leaderEpoch };
  if (timestamp === earliest || timestamp === earliestLocal) {
    const offset = partition.logStartOffset;
    return { offset, leaderEpoch: partition.epochBefore(offset + 1) };
  }
  if (tiered.has(timestamp)) return { leaderEpoch: partition.leaderEpoch };
  const from = timestamp === maxTimestamp ? partition.maxTimestamp : timestamp;
  const found = from < 0 ? null : await recordFrom(partition, from);
  if (found === null || found.offset >= end) return {};
  return { ...found, leaderEpoch: partition.epochBefore(found.offset + 1) };
}
