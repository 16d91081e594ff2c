import type { TopicPartition } from './assignment.js';
import type { Fetched, RecordFormat } from './engine.js';
import { OttlaError } from './errors.js';
import type { Isolation } from './options.js';
import type { Partition } from './partition.js';
import type { AppendWaiter } from './partition-append.js';
import { PartitionReader, damaged, type ReadPlace } from './partition-reader.js';
import type { ReadablePlace } from './partition-seek.js';
import { RecordReader, restingReader } from './record-reader.js';
import { checkBatch, readBatchHeader, type BatchHeader } from './record.js';
import { AbortedBatches } from './storage/transaction-index.js';

const noHeaders: readonly [] = Object.freeze([]);

/** Whole batches of one partition, being turned into records. */
interface Chunk {
  readonly buffer: Buffer;
  /** Of its first byte. */
  readonly place: ReadPlace;
  readonly end: number;
  at: number;
  batch: BatchHeader | null;
  /** Exclusive. */
  readonly endOffset: number;
  /** What was aborted, as far as that was decided up to an offset. */
  aborted: AbortedBatches | null;
  decidedUpTo: number;
  /** Behind the chunk there is nothing up to here, where the log ends; -1: there is more. */
  readonly logEnd: number;
}

export interface PartitionFetchOptions<R> {
  readonly format: RecordFormat<R>;
  readonly position: number;
  readonly ownership: number;
  readonly isolation: Isolation;
  /** Of one take(). */
  readonly maxBytes: number;
  /** There may be more to read than there was: by an append, or at another position. */
  readonly woken: (fetch: PartitionFetch<R>) => void;
}

/**
 * One assigned partition of a reader: where it is, and the chunk it is handing records out of.
 *
 * The bytes of a chunk are lent: records copy what they keep, and the buffer goes back when the chunk
 * is done.
 */
export class PartitionFetch<R> implements AppendWaiter {
  readonly partition: Partition;
  readonly ownership: number;
  readonly format: RecordFormat<R>;
  paused = false;
  /** Not now: the owner is being told that it is assigned, or has a transaction with records of it. */
  isHeld = false;
  /** Grows when the position is moved from outside: what was read before is void then. */
  version = 0;
  readonly #maxBytes: number;
  /** That the take() under way may still hand out. */
  #bytesLeft = 0;
  #position: number;
  #reader: PartitionReader | null = null;
  #chunk: Chunk | null = null;
  #records: RecordReader = restingReader;
  readonly #isolation: Isolation;

  readonly #woken: (fetch: PartitionFetch<R>) => void;

  constructor(partition: Partition, options: PartitionFetchOptions<R>) {
    this.partition = partition;
    this.format = options.format;
    this.ownership = options.ownership;
    this.#position = options.position;
    this.#isolation = options.isolation;
    this.#maxBytes = options.maxBytes;
    this.#woken = options.woken;
    partition.notifyAppends(this);
  }

  wake(): void {
    this.#woken(this);
  }

  /** Reads no more. */
  close(): void {
    this.partition.forget(this);
    this.moveTo(this.#position);
  }

  /** The next offset to hand out. */
  get position(): number {
    return this.#position;
  }

  get place(): TopicPartition {
    return { topic: this.partition.topic, partition: this.partition.index };
  }

  get hasChunk(): boolean {
    return this.#chunk !== null;
  }

  /** Goes on at another offset, or at this one after what was read is of no use. */
  moveTo(offset: number): void {
    this.version++;
    this.#position = offset;
    this.#chunk = null;
    this.#reader = null;
    this.#woken(this);
  }

  /** Goes on at an offset, past damage before it, where its batch is known to begin. */
  goOnAt({ segment, position, offset }: ReadablePlace): void {
    this.moveTo(offset);
    this.reader.goOnAt(segment, position);
  }

  /** @throws OFFSET_OUT_OF_RANGE */
  get reader(): PartitionReader {
    this.#reader ??= new PartitionReader(this.partition, this.#position);
    return this.#reader;
  }

  /**
   * Whether there is more to read, or to pass over up to the end of the log.
   * @throws OFFSET_OUT_OF_RANGE once what was read is handed out
   */
  get hasMore(): boolean {
    if (this.#chunk === null && this.#position < this.partition.logStartOffset) {
      throw this.partition.outOfRange(this.#position);
    }
    const { reader } = this;
    const { available } = reader;
    const next = this.#chunk === null ? this.#position : reader.offset;
    if (next >= this.partition.endFor(this.#isolation)) return false;
    return available > 0 || (this.#chunk === null && this.#position < reader.endReached);
  }

  /** Hands records out of this chunk from now on. */
  begin(buffer: Buffer, length: number): void {
    const { reader } = this;
    const place = reader.placeBefore(length);
    this.#chunk = {
      buffer,
      place,
      end: length,
      at: 0,
      batch: null,
      endOffset: reader.offset,
      aborted: null,
      decidedUpTo: 0,
      logEnd: reader.endReached,
    };
    if (this.#records === restingReader) this.#records = new RecordReader();
    this.#records.hasLent = false;
  }

  /**
   * The next records of the chunk; null, and no chunk any more, when it is used up and held nothing new.
   * An error leaves the position at the record that has it.
   * @throws CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE, and what the format throws
   */
  take(maxRecords: number): Fetched<R> | null {
    const baseOffset = this.#position;
    const records: R[] = [];
    this.#bytesLeft = this.#maxBytes;
    try {
      this.#fill(records, maxRecords);
    } catch (error) {
      this.moveTo(this.#position);
      if (records.length === 0) throw error;
    }
    if (this.#position === baseOffset) return null;
    const { topic, index: partition } = this.partition;
    const { ownership } = this;
    return { topic, partition, records, baseOffset, nextOffset: this.#position, ownership };
  }

  #fill(records: R[], maxRecords: number): void {
    while (records.length < maxRecords && this.#bytesLeft > 0) {
      const chunk = this.#chunk;
      if (chunk === null) return;
      chunk.batch ??= this.#nextBatch(chunk);
      if (chunk.batch === null) {
        if (this.#chunk === null) return;
        this.#position = Math.max(this.#position, chunk.logEnd);
        this.#chunk = null;
        return;
      }
      this.#readBatch(chunk, records, maxRecords);
    }
  }

  /** The next batch with records that are wanted. */
  #nextBatch(chunk: Chunk): BatchHeader | null {
    /** Where the batch before begins, if its checksum was not looked at. */
    let before = -1;
    while (chunk.at < chunk.end) {
      let start = chunk.at;
      try {
        const batch = readBatchHeader(chunk.buffer, chunk.at, chunk.end)!;
        chunk.at += batch.size;
        refuseMisplaced(batch, chunk.place);
        if (batch.nextOffset <= this.#position) {
          // The next chunk begins where this one's length says.
          if (chunk.at === chunk.end) checkBatch(chunk.buffer, start, batch);
          before = start;
          continue;
        }
        if (batch.baseOffset > this.#position && before !== -1) {
          // A gap that compaction left, or the length of the batch before led past what is wanted.
          const here = start;
          start = before;
          checkBatch(chunk.buffer, before, readBatchHeader(chunk.buffer, before, chunk.end)!);
          start = here;
        }
        const end = this.partition.endFor(this.#isolation);
        if (batch.baseOffset >= end) {
          // Undecided: it is read again once it is decided.
          this.moveTo(Math.max(this.#position, end));
          return null;
        }
        checkBatch(chunk.buffer, start, batch);
        if (batch.isControl || this.#isAborted(chunk, batch, end)) {
          this.#position = batch.nextOffset;
          continue;
        }
        this.#records.open(chunk.buffer, start, batch, this.#position);
        return batch;
      } catch (error) {
        if (!(error instanceof OttlaError)) throw error;
        if (error.code === 'UNSUPPORTED_COMPRESSION_TYPE') throw error;
        const { place } = chunk;
        throw damaged({ ...place, position: place.position + start }, error);
      }
    }
    return null;
  }

  #isAborted(chunk: Chunk, batch: BatchHeader, end: number): boolean {
    if (!batch.isTransactional || this.#isolation === 'read_uncommitted') return false;
    const { baseOffset } = batch;
    if (chunk.aborted === null || baseOffset >= chunk.decidedUpTo) {
      chunk.aborted = new AbortedBatches(
        this.partition.abortedBetween(baseOffset, chunk.endOffset),
      );
      chunk.decidedUpTo = end;
    }
    return chunk.aborted.has(batch.producerId, baseOffset);
  }

  #readBatch(chunk: Chunk, records: R[], maxRecords: number): void {
    const cursor = this.#records;
    const { format } = this;
    const { keepsBytes } = format;
    const { index } = this.partition;
    const stopAt = cursor.end + this.#bytesLeft;
    while (records.length < maxRecords && cursor.end < stopAt) {
      if (!cursor.next()) {
        this.#position = chunk.batch!.nextOffset;
        chunk.batch = null;
        break;
      }
      const record = format.make(
        index,
        cursor.offset,
        cursor.timestamp,
        cursor.key(keepsBytes),
        cursor.value(keepsBytes),
        cursor.headerCount === 0 ? noHeaders : cursor.headers(true),
      );
      records.push(record);
      this.#position = cursor.offset + 1;
    }
    this.#bytesLeft = stopAt - cursor.end;
  }

  /** Whether records hold views of the chunk, so that its buffer must not be used again. */
  get hasLentChunk(): boolean {
    return this.#records.hasLent;
  }
}

/** A valid batch with offsets that the segment has not: the file is another segment's. */
function refuseMisplaced(batch: BatchHeader, { baseOffset, nextOffset }: ReadPlace): void {
  if (batch.baseOffset >= baseOffset && batch.nextOffset <= nextOffset) return;
  throw new OttlaError(
    'CORRUPT_MESSAGE',
    `a batch of offsets ${batch.baseOffset} to ${batch.lastOffset} in a segment of ${baseOffset} to ${nextOffset - 1}`,
  );
}
