import { OttlaError, asStorageError } from './errors.js';
import type { Partition } from './partition.js';
import { BatchHeader, batchSizeAt } from './record.js';
import type { Segment } from './storage/segment.js';

/** Bytes at the end of the active segment that were written just now: the page cache has them. */
const tailBytes = 1024 * 1024;

/**
 * Reads one partition's batches in order, as the bytes they are. It keeps its place by segment and
 * byte, so that reading on needs no look-up.
 */
export class PartitionReader {
  readonly #partition: Partition;
  #segment: Segment;
  #position: number;
  /** Below it all was read. */
  #offset: number;

  /**
   * Begins at or somewhat before the batch that holds `offset`: the caller skips what lies below it.
   * @throws OFFSET_OUT_OF_RANGE
   */
  constructor(partition: Partition, offset: number) {
    const { logStartOffset, highWatermark } = partition;
    if (offset < logStartOffset || offset > highWatermark) throw partition.outOfRange(offset);
    partition.check();
    this.#partition = partition;
    this.#offset = offset;
    this.#segment = partition.segmentFor(offset);
    this.#position = this.#segment.positionBefore(offset);
  }

  /**
   * Bytes that the next read may give: 0 at the end of the log.
   * @throws OFFSET_OUT_OF_RANGE if what comes next was deleted from the log's start, or what was read was
   *   cut since; UNKNOWN_TOPIC_OR_PARTITION once the topic is deleted, CLOSED
   */
  get available(): number {
    this.#partition.refuseIfEnded();
    if (this.#segment.isRemoved) this.#findSegmentAgain();
    while (this.#position === this.#segment.size) {
      const next = this.#partition.segmentAfter(this.#segment);
      if (next === null) return 0;
      const { nextOffset } = this.#segment;
      if (nextOffset < next.baseOffset && nextOffset < this.#partition.logStartOffset) {
        throw this.#partition.outOfRange(nextOffset);
      }
      this.#segment = next;
      this.#position = 0;
      this.#offset = Math.max(this.#offset, next.baseOffset);
    }
    return this.#segment.size - this.#position;
  }

  /** The next offset to read, or one before it. */
  get offset(): number {
    return this.#offset;
  }

  /** The segment is part of the log no more: what comes next is in another one, or gone. */
  #findSegmentAgain(): void {
    const { size, nextOffset } = this.#segment;
    // What compaction removed at its end was read, too.
    const isRead = this.#position === size && nextOffset > this.#offset;
    const offset = isRead ? nextOffset : this.#offset;
    const { logStartOffset, highWatermark } = this.#partition;
    if (offset < logStartOffset || offset > highWatermark) throw this.#partition.outOfRange(offset);
    this.#offset = offset;
    this.#segment = this.#partition.segmentFor(offset);
    this.#position = this.#segment.positionOf(offset);
  }

  /**
   * Where the log ends, once all that is there was read: what compaction removed at the end lies before
   * it. -1: there is more to read, or to be found out by `available`.
   */
  get endReached(): number {
    let segment = this.#segment;
    if (segment.isRemoved) return -1;
    for (let position = this.#position; position === segment.size; position = 0) {
      const next = this.#partition.segmentAfter(segment);
      if (next === null) return segment.nextOffset;
      segment = next;
    }
    return -1;
  }

  /** Whether the next read is of what was written just now, so that it does not block. */
  get isAtTail(): boolean {
    const available = this.available;
    return available <= tailBytes && this.#partition.segmentAfter(this.#segment) === null;
  }

  /**
   * Fills the buffer with whole batches and moves behind them.
   * @returns how many bytes of them; 0 at the end; -n if the next batch needs a buffer of n bytes
   * @throws CORRUPT_MESSAGE
   */
  read(buffer: Buffer): number {
    const wanted = Math.min(buffer.length, this.available);
    if (wanted === 0) return 0;
    let length: number;
    try {
      length = this.#segment.read(buffer, wanted, this.#position);
    } catch (error) {
      throw this.#unreadable(error);
    }
    return this.#wholeBatches(buffer, length, wanted);
  }

  /** As read(), off the main thread. Not to be called again before it settled. */
  async readAsync(buffer: Buffer): Promise<number> {
    const wanted = Math.min(buffer.length, this.available);
    if (wanted === 0) return 0;
    const segment = this.#segment;
    let length: number;
    try {
      length = await segment.readAsync(buffer, wanted, this.#position);
    } catch (error) {
      throw this.#unreadable(error);
    }
    if (segment !== this.#segment) return this.readAsync(buffer);
    return this.#wholeBatches(buffer, length, wanted);
  }

  #unreadable(error: unknown): OttlaError {
    const failure = asStorageError(this.#partition.name, error);
    const { cause } = failure;
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    if (!isMissing) return failure;
    if (this.#partition.isFreed(this.#segment)) {
      return this.#partition.outOfRange(this.#segment.baseOffset);
    }
    return this.#corrupt(cause);
  }

  #wholeBatches(buffer: Buffer, length: number, wanted: number): number {
    if (this.#partition.hasOtherFiles) throw this.#corrupt(new Error('it was compacted meanwhile'));
    let at = 0;
    let last = 0;
    let size = 0;
    try {
      while (at < length) {
        size = batchSizeAt(buffer, at, length);
        if (size === -1 || at + size > length) break;
        last = at;
        at += size;
      }
    } catch (error) {
      if (at === 0) throw this.#corrupt(error);
    }
    if (at > 0) {
      this.#position += at;
      this.#offset = Math.max(this.#offset, new BatchHeader(buffer, last).nextOffset);
      return at;
    }
    const rest = this.#segment.size - this.#position;
    if (length < wanted || size > rest || (size === -1 && wanted === rest)) {
      throw this.#corrupt(new Error(`a batch of ${size} bytes passes the end of the segment`));
    }
    return -Math.max(size, 64);
  }

  /** Goes on at a byte of a segment where a batch begins. */
  goOnAt(segment: Segment, position: number): void {
    this.#segment = segment;
    this.#position = position;
  }

  /** Where the last `length` bytes were read, and so the place of damage found in them later. */
  placeBefore(length: number): ReadPlace {
    const { path, baseOffset, nextOffset } = this.#segment;
    const position = this.#position - length;
    return { partition: this.#partition.name, path, position, baseOffset, nextOffset };
  }

  #corrupt(cause: unknown): OttlaError {
    return damaged(this.placeBefore(0), cause);
  }
}

/** A byte of a segment's file. */
export interface ReadPlace {
  readonly partition: string;
  readonly path: string;
  readonly position: number;
  /** What offsets the segment has: from here to below nextOffset. */
  readonly baseOffset: number;
  readonly nextOffset: number;
}

export function damaged({ partition, path, position }: ReadPlace, cause: unknown): OttlaError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new OttlaError(
    'CORRUPT_MESSAGE',
    `${partition}: damage at byte ${position} of ${path}: ${reason}`,
    { cause },
  );
}
