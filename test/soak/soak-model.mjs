/** What the soak writes, and how whoever reads it knows that it is right. */

/** How topics are made: something is freed in each of the ways there are. */
export const soakTopics = {
  sized: { partitions: 4, segmentBytes: 2 ** 21, retentionBytes: 2 ** 23 },
  timed: { partitions: 2, segmentBytes: 2 ** 20, retentionMs: 10_000 },
  consumed: { partitions: 3, segmentBytes: 2 ** 20, retention: 'consumed' },
  compacted: {
    partitions: 2,
    segmentBytes: 2 ** 20,
    cleanupPolicy: 'compact',
    minCleanableDirtyRatio: 0.3,
    deleteRetentionMs: 1000,
  },
};

const filler = 'abcdefghij'.repeat(40);
const keyCount = 2000;

/**
 * The record that belongs at an offset. Each partition has one writer, who counts: so what is lost, comes
 * twice or in another order shows at the next offset.
 */
export function recordAt(topic, partition, offset) {
  const value = `${topic}-${partition}/${offset}/${filler.slice(0, (offset * 7919) % 397)}`;
  if (topic !== 'compacted') return { partition, key: `k${offset % 97}`, value };
  const key = `k${(offset * 31) % keyCount}`;
  return offset % 13 === 0 ? { partition, key, value: null } : { partition, key, value };
}

/** @throws Error if this is not the record that belongs there */
export function checkRecord({ topic, partition, offset, key, value }) {
  const expected = recordAt(topic, partition, offset);
  const text = value === null ? null : String(value);
  if (text === expected.value && String(key) === expected.key) return;
  throw new Error(`${topic}-${partition} at offset ${offset}: ${key}, ${text}`);
}

/** Reads a topic up to its end, and checks that nothing is missing in between. */
export async function readThrough(ottla, topic, from = 'earliest') {
  const next = new Map();
  let count = 0;
  for await (const batch of ottla.read(topic, { from }).batches()) {
    for (const record of batch) {
      checkRecord(record);
      const { partition, offset } = record;
      const expected = next.get(partition) ?? offset;
      const isNext = topic === 'compacted' ? offset >= expected : offset === expected;
      if (!isNext && (await beginsAt(ottla, topic, partition)) < offset) {
        throw new Error(`${topic}-${partition}: offset ${offset} after ${expected - 1}`);
      }
      next.set(partition, offset + 1);
      count++;
    }
  }
  return count;
}

/** Where a partition begins: what came before was freed. */
export async function beginsAt(ottla, topic, partition) {
  return (await ottla.topics.describe(topic)).partitions[partition].logStartOffset;
}
