/** What writer and oracle of the crash rounds agree on. */

/** Names of topics: ones that stay, which are consumed, and ones that come and go. */
export const topicNames = { lasting: ['orders', 'prices'], changing: ['t0', 't1', 't2'] };

/** A record's value: all of it follows from where it belongs, so the oracle knows every byte. */
export function valueOf(incarnation, partition, sequence) {
  const filler = 'abcdefghij'.repeat(31).slice(0, (sequence * 7919) % 301);
  return `${incarnation}/${partition}/${sequence}/${filler}`;
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
