import type { Random } from '../power/random.js';

const interesting = [0, 1, -1, 0x7f, 0x80, 0xff, 0x7fff, -0x8000, 0x7fffffff, -0x80000000];

/** The bytes of a request with something wrong in them: mostly behind a length that is right again. */
export function mutated(frame: Buffer, other: Buffer, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(frame);
  for (let left = 1 + random.below(3); left > 0; left--) {
    bytes = random.oneOf(mutations)(bytes, other, random);
  }
  if (bytes.length < 4) return Buffer.concat([bytes, other]);
  if (random.chance(0.85)) bytes.writeInt32BE(bytes.length - 4, 0);
  return bytes;
}

type Mutation = (bytes: Buffer, other: Buffer, random: Random) => Buffer;

const at = (bytes: Buffer, random: Random): number => random.below(bytes.length + 1);

const mutations: readonly Mutation[] = [
  function flip(bytes, _, random) {
    if (bytes.length > 0) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    return bytes;
  },
  function overwrite(bytes, _, random) {
    const size = random.oneOf([1, 2, 4, 8]);
    const number = Buffer.alloc(8, random.chance(0.2) ? 0xff : 0);
    number.writeInt32BE(random.oneOf(interesting), 4);
    number.copy(bytes, at(bytes, random), 8 - size);
    return bytes;
  },
  function truncate(bytes, _, random) {
    return bytes.subarray(0, at(bytes, random));
  },
  function extend(bytes, _, random) {
    const more = Array.from({ length: 1 + random.below(40) }, () => random.below(256));
    return Buffer.concat([bytes, Buffer.from(more)]);
  },
  function splice(bytes, other, random) {
    return Buffer.concat([bytes.subarray(0, at(bytes, random)), other.subarray(at(other, random))]);
  },
  function repeat(bytes, _, random) {
    const from = at(bytes, random);
    const part = bytes.subarray(from, from + random.below(30));
    return Buffer.concat([bytes.subarray(0, from), part, bytes.subarray(from)]);
  },
  function cut(bytes, _, random) {
    const from = at(bytes, random);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + random.below(12))]);
  },
];

/** Bytes that nobody made a request of. */
export function noise(random: Random): Buffer {
  const length = random.oneOf([0, 1, 4, 8, 14, 60, 400]);
  const bytes = Buffer.from(Array.from({ length: length + 4 }, () => random.below(256)));
  if (random.chance(0.8)) bytes.writeInt32BE(length, 0);
  // A header that there is, before a body of noise.
  if (length >= 14 && random.chance(0.7)) {
    bytes.writeInt16BE(random.below(80), 4);
    bytes.writeInt16BE(random.below(14), 6);
    bytes.writeInt16BE(-1, 12);
  }
  return bytes;
}
