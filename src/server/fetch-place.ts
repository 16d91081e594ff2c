import type { Isolation } from '../options.js';
import type { Partition } from '../partition.js';
import { PartitionReader } from '../partition-reader.js';
import { readBatchHeader } from '../record.js';
import type { AbortedTransaction } from '../storage/transaction-index.js';
import { WireError } from './protocol/errors.js';
import type { SpareBuffers } from './spare-buffers.js';

/** What a fetch asks of one partition. */
export interface FetchAsk {
  readonly fetchOffset: number;
  /** -1: unknown. */
  readonly currentLeaderEpoch: number;
  /** Of the record before fetchOffset; -1: unknown. */
  readonly lastFetchedEpoch: number;
  readonly partitionMaxBytes: number;
}

/** What was read of one partition. */
export interface FetchRead {
  /** Whole batches as they are stored. */
  readonly records: Buffer;
  /** Transactions among them that were aborted; null: they were not asked for. */
  readonly abortedTransactions: readonly AbortedTransaction[] | null;
  /** What was fetched before was cut since, from here on: nothing was read. */
  readonly divergingEpoch: { readonly epoch: number; readonly endOffset: number } | null;
}

const noRecords: Buffer = Buffer.alloc(0);

/**
 * Where a client reads in one partition. The place is kept from one fetch to the next, so that who reads on
 * in order costs no look-up. One read at a time.
 */
export class FetchPlace {
  #partition: Partition | null = null;
  #reader: PartitionReader | null = null;
  /** The reader gives the batch of this offset next. */
  #nextOffset = -1;

  /**
   * Bytes that a read would find: not 0 if there are any, and Infinity if it is not known how many.
   * @throws OFFSET_OUT_OF_RANGE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH
   */
  available(partition: Partition, ask: FetchAsk, isolation: Isolation): number {
    checkLeaderEpoch(partition, ask.currentLeaderEpoch);
    if (divergence(partition, ask) !== null) return Infinity;
    const { fetchOffset } = ask;
    if (isBetween(fetchOffset, partition.endFor(isolation), partition.highWatermark)) return 0;
    const reader = this.#readerAt(partition, fetchOffset);
    return reader.isAtTail ? reader.available : Infinity;
  }

  #readerAt(partition: Partition, offset: number): PartitionReader {
    const isThere = this.#partition === partition && this.#nextOffset === offset;
    if (this.#reader === null || !isThere) {
      this.#reader = new PartitionReader(partition, offset);
      const segment = partition.segmentFor(offset);
      this.#reader.goOnAt(segment, segment.positionOf(offset));
      this.#partition = partition;
      this.#nextOffset = offset;
    }
    return this.#reader;
  }

  /**
   * Reads up to `maxBytes` of whole batches.
   * @param takesOne the first batch is read even if it is larger than that (KIP-74)
   * @param spareBuffers what it is read into
   * @throws OFFSET_OUT_OF_RANGE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, CORRUPT_MESSAGE
   */
  async read(
    partition: Partition,
    ask: FetchAsk,
    isolation: Isolation,
    maxBytes: number,
    takesOne: boolean,
    spareBuffers: SpareBuffers,
  ): Promise<FetchRead> {
    checkLeaderEpoch(partition, ask.currentLeaderEpoch);
    const { fetchOffset } = ask;
    const divergingEpoch = divergence(partition, ask);
    const end = partition.endFor(isolation);
    let records = noRecords;
    const isAtEnd = isBetween(fetchOffset, end, partition.highWatermark);
    if (divergingEpoch === null && !isAtEnd) {
      const reader = this.#readerAt(partition, fetchOffset);
      records = await batchesFrom(reader, fetchOffset, maxBytes, takesOne, spareBuffers);
      this.#nextOffset = reader.offset;
      if (reader.offset > end) {
        records = batchesBelow(records, end);
        this.#reader = null;
      }
    }
    const isCommitted = isolation === 'read_committed';
    const aborted = (): readonly AbortedTransaction[] =>
      records.length === 0
        ? []
        : partition.abortedBetween(fetchOffset, Math.min(end, this.#nextOffset));
    return { records, abortedTransactions: isCommitted ? aborted() : null, divergingEpoch };
  }
}

function isBetween(offset: number, start: number, end: number): boolean {
  return offset >= start && offset <= end;
}

/** @throws FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH */
export function checkLeaderEpoch(partition: Partition, epoch: number): void {
  const { name, leaderEpoch } = partition;
  if (epoch === -1 || epoch === leaderEpoch) return;
  throw new WireError(
    epoch < leaderEpoch ? 'FENCED_LEADER_EPOCH' : 'UNKNOWN_LEADER_EPOCH',
    `${name}: leader epoch ${epoch}, it is ${leaderEpoch}`,
  );
}

/** @throws OFFSET_OUT_OF_RANGE for an epoch that there was not yet */
function divergence(
  partition: Partition,
  { fetchOffset, lastFetchedEpoch }: FetchAsk,
): FetchRead['divergingEpoch'] {
  if (lastFetchedEpoch === -1) return null;
  if (lastFetchedEpoch > partition.leaderEpoch) throw partition.outOfRange(fetchOffset);
  const endOffset = partition.endOfEpoch(lastFetchedEpoch);
  if (endOffset >= fetchOffset) return null;
  return { epoch: partition.epochBefore(endOffset), endOffset };
}

/** The next batches that have `offset` or later ones; none if the first does not fit and one may not. */
async function batchesFrom(
  reader: PartitionReader,
  offset: number,
  maxBytes: number,
  takesOne: boolean,
  spareBuffers: SpareBuffers,
): Promise<Buffer> {
  let buffer: Buffer = noRecords;
  let wanted = Math.min(maxBytes, reader.available);
  for (;;) {
    if (buffer.length < wanted) buffer = spareBuffers.take(wanted);
    const length = reader.isAtTail ? reader.read(buffer) : await reader.readAsync(buffer);
    if (length === 0) return noRecords;
    if (length < 0) {
      if (!takesOne) return noRecords;
      wanted = -length;
      continue;
    }
    const records = batchesFromOffset(buffer, length, offset);
    if (records.length > 0) return records;
    // All of it lay before the offset, which compaction has put far behind its index entry.
    buffer = noRecords;
  }
}

function batchesFromOffset(buffer: Buffer, length: number, offset: number): Buffer {
  let at = 0;
  while (at < length) {
    const batch = readBatchHeader(buffer, at, length)!;
    if (batch.nextOffset > offset) break;
    at += batch.size;
  }
  return buffer.subarray(at, length);
}

/** The batches before the one that begins at `end` or behind it. */
function batchesBelow(records: Buffer, end: number): Buffer {
  let at = 0;
  while (at < records.length) {
    const batch = readBatchHeader(records, at, records.length)!;
    if (batch.baseOffset >= end) break;
    at += batch.size;
  }
  return records.subarray(0, at);
}
