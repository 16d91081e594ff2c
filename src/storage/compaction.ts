import type { Clock } from '../clock.js';
import { OttlaError } from '../errors.js';
import { RecordReader } from '../record-reader.js';
import { BatchHeader, batchSizeAt, checkBatch, readBatchHeader } from '../record.js';
import { encodeBatch, type PlacedRecord } from '../record-writer.js';
import { OffsetMap } from './offset-map.js';
import type { Segment } from './segment.js';
import type { SyncQueue } from './sync-queue.js';
import { AbortedBatches, type AbortedTransaction } from './transaction-index.js';

/*
 * Kafka's log cleaner. A pass reads the dirty section of a log, what came since the last pass, into a map
 * from keys to latest offsets; then it writes every sealed segment up to the section's end anew, without
 * the records that the map says are superseded. Offsets never change, nor do the base and last offset of
 * a batch. (Kafka's Cleaner, KIP-58 for the terms, KIP-534 for delete horizons.)
 */

const chunkBytes = 1024 * 1024;
const sliceMs = 2;
/** A batch may hold thousands of records. */
const recordsPerTurn = 64;
const unsyncedBytesTarget = 8 * 1024 * 1024;
const maxInt32 = 2 ** 31 - 1;

/** Gives the host its turn every 2 ms, and ends the work when it is told to stop. */
export class Pace {
  readonly #clock: Clock;
  #sliceEnd: number;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sliceEnd = clock.monotonic() + sliceMs;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** @throws ABORTED once stopped */
  check(): void {
    if (this.#stopped) throw new OttlaError('ABORTED', 'the compaction was stopped');
  }

  /** To be awaited between two pieces of work. @throws ABORTED once stopped */
  async turn(): Promise<void> {
    this.check();
    if (this.#clock.monotonic() < this.#sliceEnd) return;
    await new Promise<void>((resolve) => this.#clock.soon(resolve));
    this.#sliceEnd = this.#clock.monotonic() + sliceMs;
    this.check();
  }
}

export interface BatchInPlace {
  readonly bytes: Buffer;
  readonly at: number;
  readonly header: BatchHeader;
}

/**
 * The batches of a segment from a position on, each checked. The bytes are good until the next one. Of a
 * segment that is freed meanwhile nothing more comes.
 * @throws CORRUPT_MESSAGE: damage is not carried over into a new file
 */
export async function* batchesOf(
  segment: Segment,
  from: number,
  pace: Pace,
): AsyncGenerator<BatchInPlace> {
  const { size } = segment;
  let chunk: Buffer = Buffer.allocUnsafe(Math.min(chunkBytes, size - from));
  for (let position = from; position < size;) {
    await pace.turn();
    if (segment.isRemoved) return;
    const wanted = Math.min(chunk.length, size - position);
    const length = await segment.readAsync(chunk, wanted, position);
    let at = 0;
    for (;;) {
      const header = at < length ? readBatchHeader(chunk, at, length) : null;
      if (header === null) break;
      checkBatch(chunk, at, header);
      yield { bytes: chunk, at, header };
      at += header.size;
      await pace.turn();
    }
    if (at === 0) chunk = largerChunk(chunk, length, segment, position);
    position += at;
  }
}

/** For a batch that is larger than the chunk. */
function largerChunk(chunk: Buffer, length: number, segment: Segment, position: number): Buffer {
  const size = batchSizeAt(chunk, 0, length);
  if (size > chunk.length && position + size <= segment.size) return Buffer.allocUnsafe(size);
  throw new OttlaError('CORRUPT_MESSAGE', `${segment.path}: no whole batch at byte ${position}`);
}

/** What a pass goes by. */
export interface CleaningTerms {
  /** What came before was compacted already. */
  readonly firstDirtyOffset: number;
  /** Exclusive: where the active segment begins, or the first segment that an open transaction reaches into. */
  readonly endOffset: number;
  /** Those that reach into what lies below endOffset. */
  readonly aborted: readonly AbortedTransaction[];
  /** Bounds the map. */
  readonly maxMapBytes: number;
  readonly deleteRetentionMs: number;
  /** Wall clock, ms since 1970. */
  readonly now: number;
}

/** What a pass keeps and what it drops: the dirty section, read into memory. */
export class CleaningPlan {
  /** Exclusive end of what was read: below the section's end if the map has no room for more keys. */
  endOffset: number;
  readonly #terms: CleaningTerms;
  readonly #segments: readonly Segment[];
  readonly #pace: Pace;
  readonly #map: OffsetMap;
  /** Last offset of each producer's last batch of records, or of its last marker where there is none. */
  readonly #lastOffsets = new Map<bigint, number>();
  /** Of these only markers were read. */
  readonly #onlyMarkers = new Set<bigint>();
  #knowsAllProducers = false;
  readonly #records = new RecordReader();

  private constructor(segments: readonly Segment[], terms: CleaningTerms, pace: Pace) {
    this.#segments = segments;
    this.#terms = terms;
    this.#pace = pace;
    this.endOffset = terms.endOffset;
    const dirtyOffsets = terms.endOffset - terms.firstDirtyOffset;
    this.#map = new OffsetMap(Math.min(OffsetMap.capacityOf(terms.maxMapBytes), dirtyOffsets));
  }

  /**
   * Reads the dirty section.
   * @param segments all sealed ones, in order
   * @throws CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE, KAFKA_STORAGE_ERROR
   */
  static async read(
    segments: readonly Segment[],
    terms: CleaningTerms,
    pace: Pace,
  ): Promise<CleaningPlan> {
    const plan = new CleaningPlan(segments, terms, pace);
    const aborted = new AbortedBatches(terms.aborted);
    const { firstDirtyOffset } = terms;
    for (const segment of segments) {
      if (segment.nextOffset <= firstDirtyOffset || segment.isRemoved) continue;
      const from = segment.positionBefore(firstDirtyOffset);
      for await (const batch of batchesOf(segment, from, pace)) {
        if (batch.header.nextOffset <= firstDirtyOffset) continue;
        if (!(await plan.#readBatch(batch, aborted))) return plan;
      }
    }
    return plan;
  }

  /** The latest offset of a key in the section; -1 for a key that is not there. */
  latestOffset(key: Uint8Array): number {
    return this.#map.get(key);
  }

  /** @returns false if the map is full: then the section ends here */
  async #readBatch({ bytes, at, header }: BatchInPlace, aborted: AbortedBatches): Promise<boolean> {
    this.#noteProducer(header);
    if (header.isControl) return true;
    // What was aborted hides nothing.
    if (header.isTransactional && aborted.has(header.producerId, header.baseOffset)) return true;
    const records = this.#records;
    records.open(bytes, at, header, this.#terms.firstDirtyOffset);
    for (let i = 1; records.next(); i++) {
      if (i % recordsPerTurn === 0) await this.#pace.turn();
      const key = records.key(false);
      if (key === null || this.#map.put(key, records.offset)) continue;
      this.endOffset = records.offset;
      return false;
    }
    return true;
  }

  #noteProducer({ hasProducerId, producerId, isControl, lastOffset }: BatchHeader): void {
    if (!hasProducerId) return;
    const last = this.#lastOffsets.get(producerId);
    const hasOnlyMarkers = last === undefined || this.#onlyMarkers.has(producerId);
    if (isControl && !hasOnlyMarkers) return;
    if (isControl) this.#onlyMarkers.add(producerId);
    else this.#onlyMarkers.delete(producerId);
    const isFirstOfKind = last === undefined || (!isControl && hasOnlyMarkers);
    this.#lastOffsets.set(producerId, isFirstOfKind ? lastOffset : Math.max(last, lastOffset));
  }

  /**
   * What becomes of a batch: it stays as it is, it gets other bytes, or it goes. Of a producer's last batch
   * at least the header stays, so that its next sequence number, or its epoch, is known.
   */
  async clean(
    { bytes, at, header }: BatchInPlace,
    transactions: TransactionsCleaned,
  ): Promise<Buffer | 'stays' | 'goes'> {
    if (header.isControl) return this.#cleanMarker(bytes, at, header, transactions);
    const isAborted = header.isTransactional && transactions.isAborted(header);
    const survivors: boolean[] = [];
    const records = this.#records;
    let hasTombstone = false;
    let count = 0;
    records.open(bytes, at, header);
    for (let i = 1; records.next(); i++) {
      if (i % recordsPerTurn === 0) await this.#pace.turn();
      const survives = !isAborted && this.#survives(records, header);
      survivors.push(survives);
      if (!survives) continue;
      count++;
      if (records.valueStart < 0) hasTombstone = true;
    }
    const needsHorizon = hasTombstone && !header.hasDeleteHorizon;
    if (count === 0 && !(await this.#isLastOfProducer(header))) return 'goes';
    if (count === header.recordCount && !needsHorizon) return 'stays';
    records.open(bytes, at, header);
    const kept: PlacedRecord[] = [];
    for (let i = 0; records.next(); i++) {
      if (survivors[i] === true) kept.push(recordAt(records));
    }
    return rewritten(header, kept, needsHorizon ? this.#horizon : undefined);
  }

  /**
   * A marker stays as long as batches of its transaction were there when the pass began, and from then on
   * for deleteRetentionMs: who reads slowly meets it after them (KIP-534).
   */
  async #cleanMarker(
    bytes: Buffer,
    at: number,
    header: BatchHeader,
    transactions: TransactionsCleaned,
  ): Promise<Buffer | 'stays' | 'goes'> {
    if (transactions.end(header) && header.recordCount > 0) return 'stays';
    const isExpired = header.hasDeleteHorizon && this.#terms.now >= header.baseTimestamp;
    const isEmpty = header.recordCount === 0 || isExpired;
    if (isEmpty && !(await this.#isLastOfProducer(header))) return 'goes';
    if (header.recordCount === 0 || (header.hasDeleteHorizon && !isExpired)) return 'stays';
    if (isExpired) return rewritten(header, [], undefined);
    const records = this.#records;
    records.open(bytes, at, header);
    const kept: PlacedRecord[] = [];
    while (records.next()) kept.push(recordAt(records));
    return rewritten(header, kept, this.#horizon);
  }

  get #horizon(): number {
    return this.#terms.now + this.#terms.deleteRetentionMs;
  }

  #survives(records: RecordReader, header: BatchHeader): boolean {
    const key = records.key(false);
    if (key === null) return false;
    if (records.offset < this.#map.get(key)) return false;
    // The older records of its key are only sure to be gone where the map was read to.
    const isTombstone = records.valueStart < 0 && records.offset < this.endOffset;
    const mayExpire = isTombstone && header.hasDeleteHorizon;
    return !mayExpire || this.#terms.now < header.baseTimestamp;
  }

  async #isLastOfProducer(header: BatchHeader): Promise<boolean> {
    if (!header.hasProducerId) return false;
    const id = header.producerId;
    if (!this.#lastOffsets.has(id)) await this.#readCleanProducers();
    return this.#lastOffsets.get(id) === header.lastOffset;
  }

  /** Of the clean section, which is read for nothing else than to be written anew: only when needed. */
  async #readCleanProducers(): Promise<void> {
    if (this.#knowsAllProducers) return;
    this.#knowsAllProducers = true;
    for (const segment of this.#segments) {
      for await (const { header } of batchesOf(segment, 0, this.#pace)) {
        this.#noteProducer(header);
      }
    }
  }
}

/** Where a pass is in the transactions of a log, as it goes through it. */
export class TransactionsCleaned {
  readonly #aborted: readonly AbortedTransaction[];
  readonly #batches: AbortedBatches;
  /** Producers of whose transaction batches have come, and no marker yet. */
  readonly #begun: Set<bigint>;

  constructor(aborted: readonly AbortedTransaction[], begun: Iterable<bigint> = []) {
    this.#aborted = aborted;
    this.#batches = new AbortedBatches(aborted);
    this.#begun = new Set(begun);
  }

  /** The same place, to go on from, and to come back to. */
  copy(): TransactionsCleaned {
    return new TransactionsCleaned(this.#aborted, this.#begun);
  }

  /** Takes note of a batch of a transaction. */
  isAborted({ producerId, baseOffset }: BatchHeader): boolean {
    this.#begun.add(producerId);
    return this.#batches.has(producerId, baseOffset);
  }

  /** Takes note of a marker. @returns whether batches of its transaction have come */
  end({ producerId }: BatchHeader): boolean {
    return this.#begun.delete(producerId);
  }
}

function recordAt(records: RecordReader): PlacedRecord {
  return {
    offset: records.offset,
    timestamp: records.timestamp,
    key: records.key(false),
    value: records.value(false),
    headers: records.headers(false),
  };
}

function rewritten(
  header: BatchHeader,
  records: readonly PlacedRecord[],
  horizon: number | undefined,
): Buffer {
  const { baseOffset, lastOffset, leaderEpoch, maxTimestamp, producerEpoch, baseSequence } = header;
  const { producerId, isTransactional, isControl, compression } = header;
  const deleteHorizonMs =
    horizon ?? (header.hasDeleteHorizon && records.length > 0 ? header.baseTimestamp : undefined);
  return encodeBatch({
    baseOffset,
    lastOffset,
    leaderEpoch,
    records,
    producerId,
    producerEpoch,
    baseSequence,
    isTransactional,
    isControl,
    ...(compression === 'unknown' ? {} : { compression }),
    ...(records.length === 0 ? { maxTimestamp } : {}),
    ...(header.isLogAppendTime ? { logAppendTime: maxTimestamp } : {}),
    ...(deleteHorizonMs === undefined ? {} : { deleteHorizonMs }),
  });
}

/**
 * Runs of segments that are written anew as one: what compaction has made small is put together, as long
 * as it fits a segment and its offsets fit the indexes (Kafka's groupSegmentsBySize).
 */
export function groupSegments(segments: readonly Segment[], segmentBytes: number): Segment[][] {
  const groups: Segment[][] = [];
  let bytes = 0;
  for (const segment of segments) {
    const group = groups.at(-1);
    bytes += segment.size;
    const offsets = segment.nextOffset - 1 - (group?.[0]?.baseOffset ?? 0);
    if (group !== undefined && bytes <= segmentBytes && offsets <= maxInt32) {
      group.push(segment);
    } else {
      groups.push([segment]);
      bytes = segment.size;
    }
  }
  return groups;
}

/**
 * Writes what survives of a group to the end of `cleaned`, with its indexes, and makes all of it durable.
 * @param transactions is moved on to the group's end
 * @returns whether anything was dropped or changed
 */
export async function writeCleaned(
  group: readonly Segment[],
  cleaned: Segment,
  plan: CleaningPlan,
  transactions: TransactionsCleaned,
  pace: Pace,
  syncs: SyncQueue,
): Promise<boolean> {
  let isChanged = false;
  for (const segment of group) {
    for (const aborted of segment.transactions.index.entries) {
      cleaned.transactions.index.append(aborted);
    }
    for await (const batch of batchesOf(segment, 0, pace)) {
      const outcome = await plan.clean(batch, transactions);
      isChanged ||= outcome !== 'stays';
      if (outcome === 'goes') continue;
      if (outcome === 'stays') {
        cleaned.write(batch.bytes, batch.at, batch.at + batch.header.size);
        cleaned.added(batch.header);
      } else {
        cleaned.write(outcome, 0, outcome.length);
        cleaned.added(new BatchHeader(outcome, 0));
      }
      if (cleaned.size - cleaned.syncedSize < unsyncedBytesTarget) continue;
      await syncs.run(() => cleaned.sync());
    }
  }
  cleaned.seal();
  await syncs.run(() => cleaned.sync());
  await cleaned.saveIndexes();
  return isChanged;
}
