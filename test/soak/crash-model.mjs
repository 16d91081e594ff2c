/** What writer and oracle of the crash rounds agree on. */

/** Topics that stay, by name: what they are created with. All are consumed by the group. */
export const lastingTopics = {
  orders: { segmentBytes: 4096 },
  prices: {
    segmentBytes: 4096,
    cleanupPolicy: 'compact',
    minCleanableDirtyRatio: 0.2,
    deleteRetentionMs: 300,
  },
  ring: { segmentBytes: 4096, retentionBytes: 32_768 },
  queue: { segmentBytes: 4096, retention: 'consumed' },
};

/** Names of topics that come and go. */
export const changingTopics = ['t0', 't1', 't2'];

/** What a kill must come into the middle of. */
export const activities = [
  'open',
  'create',
  'delete',
  'roll',
  'commit',
  'retention',
  'deleteRecords',
  'compaction',
  'reopen',
  'backup',
  'repair',
  'close',
];

/** A record: all of it follows from where it belongs, so the oracle knows every byte. */
export function recordOf(topic, incarnation, partition, sequence) {
  const filler = 'abcdefghij'.repeat(31).slice(0, (sequence * 7919) % 301);
  const value = `${incarnation}/${partition}/${sequence}/${filler}`;
  if (topic !== 'prices') return { value };
  const key = `k${(sequence * 31) % 23}`;
  // A tombstone says in a header where it belongs.
  if (sequence % 11 === 0) return { key, value: null, headers: { value } };
  return { key, value };
}

/** Marsaglia's xorshift on 32 bits: the same numbers for the same seed. */
export function randomFrom(seed) {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) | 0 || 1;
  const below = (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * end);
  };
  for (let i = 0; i < 8; i++) below(1);
  return { below, oneOf: (items) => items[below(items.length)] };
}
