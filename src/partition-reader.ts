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
    if (offset < logStartOffset || offset > highWatermark) {
      throw new OttlaError(
        'OFFSET_OUT_OF_RANGE',
        `${partition.name}: offset ${offset} is out of range, the log has ${logStartOffset} to ${highWatermark}`,
      );
    }
    this.#partition = partition;
    this.#offset = offset;
    this.#segment = partition.segmentFor(offset);
    this.#position = this.#segment.positionBefore(offset);
  }

  /**
   * Bytes that the next read may give: 0 at the end of the log.
   * @throws UNKNOWN_TOPIC_OR_PARTITION once the topic is deleted, CLOSED
   */
  get available(): number {
    this.#partition.refuseIfEnded();
    if (this.#segment.isReplaced) {
      this.#segment = this.#partition.segmentFor(this.#offset);
      this.#position = this.#segment.positionBefore(this.#offset);
    }
    while (this.#position === this.#segment.size) {
      const next = this.#partition.segmentAfter(this.#segment);
      if (next === null) return 0;
      this.#segment = next;
      this.#position = 0;
    }
    return this.#segment.size - this.#position;
  }

  /**
   * Where the log ends, once all that is there was read: what compaction removed at the end lies before
   * it. -1: there is more to read.
   */
  get endReached(): number {
    return this.available > 0 ? -1 : this.#segment.nextOffset;
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
    return isMissing ? this.corrupt(cause, 0) : failure;
  }

  #wholeBatches(buffer: Buffer, length: number, wanted: number): number {
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
      if (at === 0) throw this.corrupt(error, 0);
    }
    if (at > 0) {
      this.#position += at;
      this.#offset = Math.max(this.#offset, new BatchHeader(buffer, last).nextOffset);
      return at;
    }
    const rest = this.#segment.size - this.#position;
    if (length < wanted || size > rest || (size === -1 && wanted === rest)) {
      throw this.corrupt(new Error(`a batch of ${size} bytes passes the end of the segment`), 0);
    }
    return -Math.max(size, 64);
  }

  /** The error for damage `bytesBack` bytes before the reading position. */
  corrupt(cause: unknown, bytesBack: number): OttlaError {
    const { path } = this.#segment;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new OttlaError(
      'CORRUPT_MESSAGE',
      `${this.#partition.name}: damage at byte ${this.#position - bytesBack} of ${path}: ${reason}`,
      { cause },
    );
  }
}
