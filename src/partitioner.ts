import { isUint8Array } from 'node:util/types';
import { got } from './options.js';

const SEED = 0x9747b28c;
const MULTIPLIER = 0x5bd1e995;

/** Where strings that are not plain ASCII become bytes. */
const scratch: Buffer = Buffer.allocUnsafeSlow(4096);

/**
 * Kafka's key hash: 32-bit murmur2, signed as in Java. A string is hashed as its UTF-8 bytes.
 *
 * @throws TypeError for anything but bytes or a string.
 */
export function murmur2(bytes: Uint8Array | string): number {
  if (typeof bytes === 'string') return hashString(bytes);
  if (!isUint8Array(bytes)) {
    throw new TypeError(`murmur2: expected a Uint8Array or a string, got ${got(bytes)}`);
  }
  return hashBytes(bytes, bytes.length);
}

/**
 * Partition of a record with a key: always the same for the same key and count, available or not. An
 * empty key is hashed like any other; a record without a key has no business here.
 *
 * @param partitionCount of the topic, >= 1.
 */
export function partitionForKey(key: Uint8Array | string, partitionCount: number): number {
  return (murmur2(key) & 0x7fffffff) % partitionCount;
}

/** Partitions of `__consumer_offsets`; Kafka's default of offsets.topic.num.partitions. */
const OFFSETS_PARTITION_COUNT = 50;

/**
 * Partition of `__consumer_offsets` that holds a group: by Java's hashCode of the group's id.
 * @returns 0 to 49
 */
export function offsetsPartitionFor(group: string): number {
  let hash = 0;
  for (let i = 0; i < group.length; i++) hash = (Math.imul(31, hash) + group.charCodeAt(i)) | 0;
  // -2^31 has no positive counterpart in Java's int: Kafka takes 0 for it.
  return hash === -0x80000000 ? 0 : Math.abs(hash) % OFFSETS_PARTITION_COUNT;
}

function hashBytes(bytes: Uint8Array, length: number): number {
  let hash = SEED ^ length;
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const word = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    hash = mix(hash, word);
  }
  let tail = 0;
  for (let shift = 0; i < length; i++, shift += 8) tail |= bytes[i]! << shift;
  return finish(hash, tail, length);
}

/** As hashBytes, straight from the characters while they are ASCII. */
function hashString(text: string): number {
  const { length } = text;
  let hash = SEED ^ length;
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const a = text.charCodeAt(i);
    const b = text.charCodeAt(i + 1);
    const c = text.charCodeAt(i + 2);
    const d = text.charCodeAt(i + 3);
    if ((a | b | c | d) > 127) return hashUtf8(text);
    hash = mix(hash, a | (b << 8) | (c << 16) | (d << 24));
  }
  let tail = 0;
  for (let shift = 0; i < length; i++, shift += 8) {
    const a = text.charCodeAt(i);
    if (a > 127) return hashUtf8(text);
    tail |= a << shift;
  }
  return finish(hash, tail, length);
}

function hashUtf8(text: string): number {
  // One UTF-16 unit takes at most 3 bytes.
  if (text.length * 3 <= scratch.length) return hashBytes(scratch, scratch.write(text, 'utf8'));
  const bytes = Buffer.from(text, 'utf8');
  return hashBytes(bytes, bytes.length);
}

function mix(hash: number, word: number): number {
  const product = Math.imul(word, MULTIPLIER);
  return Math.imul(hash, MULTIPLIER) ^ Math.imul(product ^ (product >>> 24), MULTIPLIER);
}

function finish(hash: number, tail: number, length: number): number {
  const whole = (length & 3) === 0 ? hash : Math.imul(hash ^ tail, MULTIPLIER);
  const mixed = Math.imul(whole ^ (whole >>> 13), MULTIPLIER);
  return mixed ^ (mixed >>> 15);
}

/** No partition is chosen yet. */
const NONE = -1;

/**
 * Partition choice for one topic's records without a key (KIP-794): stays with a partition until
 * about a batch of bytes went there, then draws the next, so that batches fill and, over time, all
 * partitions get as much.
 */
export class StickyPartitioner {
  readonly #stickyBatchSize: number;
  readonly #random: () => number;
  #partitionCount: number;
  /** Partitions to choose from; null for all. */
  #candidates: readonly number[] | null = null;
  /** Running sum of the candidates' weights; null where all weigh the same. */
  #cumulativeWeights: Int32Array | null = null;
  #current: number = NONE;
  #appendedBytes = 0;

  /**
   * @param stickyBatchSize bytes after which to go on to another partition: the batch size.
   * @param partitionCount of the topic, >= 1.
   * @param random draws any 32-bit integer, as Java's nextInt.
   * @throws RangeError if stickyBatchSize or partitionCount is no integer >= 1.
   */
  constructor(stickyBatchSize: number, partitionCount: number, random: () => number) {
    if (!Number.isInteger(stickyBatchSize) || stickyBatchSize < 1) {
      throw new RangeError(`stickyBatchSize: expected an integer >= 1, got ${stickyBatchSize}`);
    }
    this.#stickyBatchSize = stickyBatchSize;
    this.#random = random;
    this.#partitionCount = checkedCount(partitionCount);
  }

  /** Where the next record without a key goes. */
  current(): number {
    if (this.#current === NONE) this.#current = this.#draw();
    return this.#current;
  }

  /**
   * Tells that a record was appended to the current partition, and whether this left no open batch
   * there with room. Goes on to another partition once stickyBatchSize bytes were appended, but not
   * before the batch is done or that size is reached twice: an early leave would split batches.
   */
  appended(bytes: number, batchDone: boolean): void {
    this.#appendedBytes += bytes;
    const enough = batchDone ? this.#stickyBatchSize : this.#stickyBatchSize * 2;
    if (this.#appendedBytes >= enough) this.#leave(this.#draw());
  }

  /**
   * Tells how many partitions there are, which of them can be written to (all, if not given; where
   * none can, all are candidates again) and how many batches wait for each of these, in the same
   * order (equally many, if not given). The longer its queue, the less often a partition is drawn:
   * queues of 0, 3 and 1 weigh 4, 1 and 3. A current partition that is not among the candidates is
   * left at once.
   *
   * @throws RangeError if partitionCount is no integer >= 1 or the two lists differ in length.
   */
  update(
    partitionCount: number,
    available?: readonly number[],
    queueSizes?: readonly number[],
  ): void {
    this.#partitionCount = checkedCount(partitionCount);
    const expected = available?.length ?? partitionCount;
    if (queueSizes !== undefined && queueSizes.length !== expected) {
      throw new RangeError(`queueSizes: expected ${expected}, got ${queueSizes.length}`);
    }
    this.#candidates = available === undefined || available.length === 0 ? null : [...available];
    this.#cumulativeWeights = queueSizes === undefined ? null : cumulativeWeights(queueSizes);
    if (this.#candidates?.includes(this.#current) === false) this.#leave(NONE);
  }

  #leave(next: number): void {
    this.#current = next;
    this.#appendedBytes = 0;
  }

  #draw(): number {
    const random = this.#random() & 0x7fffffff;
    const index =
      this.#cumulativeWeights === null
        ? random % (this.#candidates?.length ?? this.#partitionCount)
        : weightedIndex(this.#cumulativeWeights, random);
    return this.#candidates === null ? index : this.#candidates[index]!;
  }
}

/** Null where all weigh the same. */
function cumulativeWeights(queueSizes: readonly number[]): Int32Array | null {
  const longest = queueSizes.reduce((a, b) => Math.max(a, b), 0);
  if (queueSizes.every((size) => size === longest)) return null;
  let sum = 0;
  return Int32Array.from(queueSizes, (size) => (sum += longest + 1 - size));
}

/** Index of the first sum above the random number, taken modulo the last sum. */
function weightedIndex(sums: Int32Array, random: number): number {
  const wanted = random % sums.at(-1)!;
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sums[middle]! > wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}

function checkedCount(partitionCount: number): number {
  if (Number.isInteger(partitionCount) && partitionCount >= 1) return partitionCount;
  throw new RangeError(`partitionCount: expected an integer >= 1, got ${partitionCount}`);
}

/** Every record to the next partition of its topic, whatever its key, from a random one on. */
export class RoundRobinPartitioner {
  readonly #random: () => number;
  readonly #turns = new Map<string, { next: number }>();

  /** @param random draws any 32-bit integer. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** @param partitionCount of the topic, >= 1; it may have grown since the last call. */
  partition(topic: string, partitionCount: number): number {
    let turn = this.#turns.get(topic);
    if (turn === undefined) {
      turn = { next: this.#random() };
      this.#turns.set(topic, turn);
    }
    const partition = (turn.next & 0x7fffffff) % partitionCount;
    turn.next = (turn.next + 1) | 0;
    return partition;
  }
}
