import { OttlaError } from '../errors.js';

const entryBytes = 8;
const maxInt32 = 2 ** 31 - 1;

/** An entry of an offset index. */
export interface OffsetPosition {
  readonly offset: number;
  /** Byte in the segment's .log file. */
  readonly position: number;
}

/**
 * Sparse map from an offset to the byte position of a batch in one segment's .log: Kafka's .index file,
 * in memory. No I/O here: the segment reads and appends the file.
 *
 * Entries are 8 bytes, big endian: offset − baseOffset as int32, then the position as int32; both
 * strictly grow. With base 50, offset 55 at byte 1000 is stored as 00000005 000003e8. The offset is the
 * LAST of the batch that begins at the position. Not checksummed: a hint, rebuilt whenever it disagrees.
 */
export class OffsetIndex {
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
  static fromBytes(baseOffset: number, bytes: Uint8Array): OffsetIndex {
    const index = new OffsetIndex(baseOffset);
    if (bytes.length % entryBytes !== 0) {
      throw corrupt(baseOffset, `${bytes.length} bytes are not a multiple of ${entryBytes}`);
    }
    index.#bytes = Buffer.from(bytes);
    index.length = bytes.length / entryBytes;
    for (let entry = 0, offset = -1, position = -1; entry < index.length; entry++) {
      const nextOffset = index.#relativeOffset(entry);
      const nextPosition = index.#position(entry);
      if (nextOffset <= offset || nextPosition <= position) {
        throw corrupt(
          baseOffset,
          `entry ${entry} says offset ${baseOffset + nextOffset} is at byte ${nextPosition}, the one before ${baseOffset + offset} at ${position}`,
        );
      }
      offset = nextOffset;
      position = nextPosition;
    }
    return index;
  }

  /** Bytes of the file that holds all entries. */
  get byteLength(): number {
    return this.length * entryBytes;
  }

  /** Whether an offset can be stored relative to the base: 2^31 offsets fit a segment. */
  canHold(offset: number): boolean {
    return offset >= this.baseOffset && offset - this.baseOffset <= maxInt32;
  }

  /**
   * Adds the batch that begins at `position` and ends with `offset`. Both must be larger than the last
   * entry's.
   * @throws RangeError for what the index cannot hold; nothing is added
   */
  append(offset: number, position: number): void {
    const last = this.length - 1;
    const minOffset = last < 0 ? this.baseOffset : this.baseOffset + this.#relativeOffset(last) + 1;
    const minPosition = last < 0 ? 0 : this.#position(last) + 1;
    const maxOffset = this.baseOffset + maxInt32;
    if (!(offset >= minOffset && offset <= maxOffset)) {
      throw new RangeError(
        `index of segment ${this.baseOffset}: expected an offset from ${minOffset} to ${maxOffset}, got ${offset}`,
      );
    }
    if (!(position >= minPosition && position <= maxInt32)) {
      throw new RangeError(
        `index of segment ${this.baseOffset}: expected a position from ${minPosition} to ${maxInt32}, got ${position}`,
      );
    }
    const end = this.byteLength;
    if (end === this.#bytes.length) this.#bytes = grown(this.#bytes);
    this.#bytes.writeInt32BE(offset - this.baseOffset, end);
    this.#bytes.writeInt32BE(position, end + 4);
    this.length++;
  }

  /** The last entry whose offset is not above `offset`; (baseOffset, 0) where there is none. */
  lookup(offset: number): OffsetPosition {
    const entry = this.#countUpTo(offset) - 1;
    if (entry < 0) return { offset: this.baseOffset, position: 0 };
    return {
      offset: this.baseOffset + this.#relativeOffset(entry),
      position: this.#position(entry),
    };
  }

  /** Whether every entry is of an offset below `offset`. */
  endsBefore(offset: number): boolean {
    return this.length === 0 || this.baseOffset + this.#relativeOffset(this.length - 1) < offset;
  }

  /** Forgets the entries of `offset` and above. */
  truncateTo(offset: number): void {
    this.length = this.#countUpTo(offset - 1);
  }

  /** What the file lacks when it holds the first `entries` entries. A view, good until the index changes. */
  bytesFrom(entries: number): Buffer {
    return this.#bytes.subarray(entries * entryBytes, this.byteLength);
  }

  /** Number of entries whose offset is not above `offset`. */
  #countUpTo(offset: number): number {
    const relative = offset - this.baseOffset;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#relativeOffset(middle) <= relative) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #relativeOffset(entry: number): number {
    return this.#bytes.readInt32BE(entry * entryBytes);
  }

  #position(entry: number): number {
    return this.#bytes.readInt32BE(entry * entryBytes + 4);
  }
}

function grown(bytes: Buffer): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(16 * entryBytes, 2 * bytes.length));
  bytes.copy(larger);
  return larger;
}

function corrupt(baseOffset: number, reason: string): OttlaError {
  return new OttlaError('CORRUPT_MESSAGE', `index of segment ${baseOffset}: ${reason}`);
}
