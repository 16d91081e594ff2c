import { OttlaError } from '../errors.js';

const entryBytes = 12;
const maxInt32 = 2 ** 31 - 1;
const two32 = 2 ** 32;

/** An entry of a time index: every record up to `offset` has a timestamp of at most `timestamp`. */
export interface TimestampOffset {
  /** ms since 1970. */
  readonly timestamp: number;
  readonly offset: number;
}

/**
 * Sparse map from a timestamp to an offset in one segment: Kafka's .timeindex file, in memory. No I/O
 * here: the segment reads and appends the file.
 *
 * Entries are 12 bytes, big endian: timestamp in ms as int64, then offset − baseOffset as int32.
 * Timestamps strictly grow, offsets never fall. (T, o) says that every record before o + 1 has a
 * timestamp of at most T: so records later than T begin after o. Not checksummed: a hint, rebuilt
 * whenever it disagrees.
 */
export class TimeIndex {
  readonly baseOffset: number;
  /** Number of entries. */
  length = 0;
  #bytes: Buffer;

  constructor(baseOffset: number) {
    this.baseOffset = baseOffset;
    this.#bytes = Buffer.alloc(0);
  }

  /**
   * Reads the bytes of a whole file; they are copied.
   * @throws CORRUPT_MESSAGE if they cannot be what was appended: rebuild the index from the log
   */
  static fromBytes(baseOffset: number, bytes: Uint8Array): TimeIndex {
    const index = new TimeIndex(baseOffset);
    if (bytes.length % entryBytes !== 0) {
      throw corrupt(baseOffset, `${bytes.length} bytes are not a multiple of ${entryBytes}`);
    }
    index.#bytes = Buffer.from(bytes);
    index.length = bytes.length / entryBytes;
    for (let entry = 0, timestamp = -1, offset = 0; entry < index.length; entry++) {
      const nextTimestamp = index.#timestamp(entry);
      const nextOffset = index.#relativeOffset(entry);
      if (
        nextTimestamp <= timestamp ||
        nextOffset < offset ||
        !Number.isSafeInteger(nextTimestamp)
      ) {
        throw corrupt(
          baseOffset,
          `entry ${entry} has timestamp ${nextTimestamp} and offset ${baseOffset + nextOffset}, the one before ${timestamp} and ${baseOffset + offset}`,
        );
      }
      timestamp = nextTimestamp;
      offset = nextOffset;
    }
    return index;
  }

  /** Bytes of the file that holds all entries. */
  get byteLength(): number {
    return this.length * entryBytes;
  }

  /**
   * Adds that no record up to `offset` is later than `timestamp`; stored only if the timestamp is larger
   * than the last entry's (than −1 where there is none). Returns whether it was.
   * @throws RangeError for an offset below the last entry's, or 2^31 or more above the base
   */
  append(timestamp: number, offset: number): boolean {
    const last = this.length - 1;
    const minOffset = last < 0 ? this.baseOffset : this.baseOffset + this.#relativeOffset(last);
    const maxOffset = this.baseOffset + maxInt32;
    if (!(offset >= minOffset && offset <= maxOffset)) {
      throw new RangeError(
        `time index of segment ${this.baseOffset}: expected an offset from ${minOffset} to ${maxOffset}, got ${offset}`,
      );
    }
    if (timestamp <= (last < 0 ? -1 : this.#timestamp(last))) return false;
    if (!Number.isSafeInteger(timestamp)) {
      throw new RangeError(
        `time index of segment ${this.baseOffset}: expected a timestamp in ms below 2^53, got ${timestamp}`,
      );
    }
    const end = this.byteLength;
    if (end === this.#bytes.length) this.#bytes = grown(this.#bytes);
    this.#bytes.writeUInt32BE(Math.floor(timestamp / two32), end);
    this.#bytes.writeUInt32BE(timestamp % two32, end + 4);
    this.#bytes.writeInt32BE(offset - this.baseOffset, end + 8);
    this.length++;
    return true;
  }

  /** The last entry whose timestamp is not above `timestamp`; (−1, baseOffset) where there is none. */
  lookup(timestamp: number): TimestampOffset {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#timestamp(middle) <= timestamp) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return { timestamp: -1, offset: this.baseOffset };
    return {
      timestamp: this.#timestamp(low - 1),
      offset: this.baseOffset + this.#relativeOffset(low - 1),
    };
  }

  /** Whether every entry is of an offset below `offset`. */
  endsBefore(offset: number): boolean {
    return this.length === 0 || this.baseOffset + this.#relativeOffset(this.length - 1) < offset;
  }

  /** Forgets the entries of `offset` and above. */
  truncateTo(offset: number): void {
    const relative = offset - this.baseOffset;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#relativeOffset(middle) < relative) low = middle + 1;
      else high = middle;
    }
    this.length = low;
  }

  /** What the file lacks when it holds the first `entries` entries. A view, good until the index changes. */
  bytesFrom(entries: number): Buffer {
    return this.#bytes.subarray(entries * entryBytes, this.byteLength);
  }

  #timestamp(entry: number): number {
    const at = entry * entryBytes;
    return this.#bytes.readInt32BE(at) * two32 + this.#bytes.readUInt32BE(at + 4);
  }

  #relativeOffset(entry: number): number {
    return this.#bytes.readInt32BE(entry * entryBytes + 8);
  }
}

function grown(bytes: Buffer): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(16 * entryBytes, 2 * bytes.length));
  bytes.copy(larger);
  return larger;
}

function corrupt(baseOffset: number, reason: string): OttlaError {
  return new OttlaError('CORRUPT_MESSAGE', `time index of segment ${baseOffset}: ${reason}`);
}
