import { join } from 'node:path';
import { OttlaError, asStorageError } from './errors.js';
import { readMarker } from './record-marker.js';
import type { BatchHeader } from './record.js';
import { batchesOf } from './storage/compaction.js';
import { parseSegmentFileName, segmentFileName } from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import type { ProducersRow } from './storage/meta-store.js';
import { ProducerState } from './storage/producer-state.js';
import type { Segment } from './storage/segment.js';
import type { Slices } from './storage/slices.js';
import type { AbortedTransaction } from './storage/transaction-index.js';

/** A snapshot of the producers, to be saved with a recovery point. */
export interface ProducerSnapshot {
  /** Null: there are no producers, and no file is needed. */
  readonly crc: number | null;
  readonly open: number;
  readonly bytes: Buffer;
}

/**
 * The producers of one log that number their batches, and their .snapshot files: one at the recovery
 * point, which the partition's row counts on, and those at the beginnings of segments, as Kafka has them.
 */
export class PartitionProducers {
  /** What is known at the end of the log. */
  state: ProducerState = new ProducerState();
  /** Offset of a snapshot that could not be read, or is another one than it was; -1: none. */
  #lostAt = -1;
  readonly #files: FileSystem;
  readonly #directory: string;

  constructor(files: FileSystem, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  /** Takes over the snapshot at the recovery point. */
  restore(offset: number, { snapshotCrc }: ProducersRow): void {
    const state = snapshotCrc === null ? new ProducerState() : this.#read(offset, snapshotCrc);
    this.#lostAt = state === null ? offset : -1;
    this.state = state ?? new ProducerState();
  }

  /** Whether the state is unknown until it is made anew from the log. */
  get isLost(): boolean {
    return this.#lostAt !== -1;
  }

  /** Whether the snapshot that the row counts on is there, whole, and not another one. */
  isWhole(offset: number, { snapshotCrc }: ProducersRow): boolean {
    return snapshotCrc === null || this.#read(offset, snapshotCrc) !== null;
  }

  #read(offset: number, crc?: number): ProducerState | null {
    const bytes = this.#files.readFile(this.#path(offset));
    if (bytes === undefined) return null;
    try {
      const state = ProducerState.decode(bytes);
      return crc === undefined || ProducerState.snapshotCrc(bytes) === crc ? state : null;
    } catch (error) {
      if (error instanceof OttlaError) return null;
      throw error;
    }
  }

  #path(offset: number): string {
    return join(this.#directory, segmentFileName(offset, 'snapshot'));
  }

  /** The state. @throws CORRUPT_MESSAGE if it is lost, until it was made anew */
  get known(): ProducerState {
    if (!this.isLost) return this.state;
    throw new OttlaError(
      'CORRUPT_MESSAGE',
      `a .snapshot in ${this.#directory} is missing or damaged: the next open, or topics.reopen, makes it anew`,
    );
  }

  /** What is known now, to be saved. */
  take(now: number): ProducerSnapshot {
    this.state.expire(now);
    const { count, openTransactions } = this.state;
    const bytes = this.state.encode();
    const crc = count === 0 ? null : ProducerState.snapshotCrc(bytes);
    return { crc, open: openTransactions.size, bytes };
  }

  /** To be called before a row that counts on it. */
  async save(offset: number, { crc, bytes }: ProducerSnapshot): Promise<void> {
    if (crc !== null) await this.#files.replaceFile(this.#path(offset), bytes);
  }

  /** Once no row counts on it any more. Never throws: the row is written, and one that stays harms nothing. */
  forget(offset: number): void {
    try {
      this.#remove(offset);
    } catch (error) {
      asStorageError(this.#directory, error);
    }
  }

  /**
   * Removes snapshots of other offsets than these.
   * @param among offsets of those that are there
   */
  removeOthers(offsets: ReadonlySet<number>, among: readonly number[] = this.#saved()): void {
    for (const offset of among) if (!offsets.has(offset)) this.#remove(offset);
  }

  #remove(offset: number): void {
    this.#files.removeFile(this.#path(offset));
  }

  #saved(): number[] {
    return this.#files
      .list(this.#directory)
      .map((name) => parseSegmentFileName(name, 'snapshot'))
      .filter((offset) => offset !== null);
  }

  /**
   * Looks at batches that are to be appended as one unit: of one producer, or without sequences.
   * @param start of the first one's bytes
   * @returns the base offset that they were given before; -1: they are new
   * @throws OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE,
   *   TRANSACTION_COORDINATOR_FENCED
   */
  admit(bytes: Buffer, start: number, headers: readonly BatchHeader[]): number {
    const { state } = this;
    const first = headers[0]!;
    if (first.isControl) {
      const marker = readMarker(bytes, start, first);
      if (marker !== null) state.checkMarker(first, marker);
      return -1;
    }
    const known = state.duplicateOf(first);
    if (known === -1) state.checkBatch(first);
    for (let i = 1; i < headers.length; i++) {
      const header = headers[i]!;
      const follows =
        header.hasProducerOf(first) &&
        header.producerEpoch === first.producerEpoch &&
        header.isTransactional === first.isTransactional &&
        header.baseSequence === ((headers[i - 1]!.lastSequence + 1) & 0x7fff_ffff);
      if (follows && (known === -1 || state.duplicateOf(header) !== -1)) continue;
      throw new OttlaError(
        'OUT_OF_ORDER_SEQUENCE_NUMBER',
        `producer ${first.producerId}: batches that do not follow each other; nothing was written`,
      );
    }
    return known;
  }

  /** Takes a batch into account that is in the log. @returns the transaction that it aborts, if any */
  added(bytes: Buffer, at: number, header: BatchHeader): AbortedTransaction | null {
    if (!header.isControl) {
      this.state.added(header);
      return null;
    }
    const marker = readMarker(bytes, at, header);
    return marker === null ? null : this.state.ended(header, marker);
  }

  /**
   * Makes the state at the end of `segments`, and the transaction indexes of those that are damaged, anew
   * from the log: from the last whole snapshot before the damage on, else from its beginning.
   */
  async rebuild(
    segments: readonly Segment[],
    damaged: readonly Segment[],
    slices: Slices,
  ): Promise<void> {
    const limit = damaged[0]?.baseOffset ?? Infinity;
    const bases = new Set(segments.map(({ baseOffset }) => baseOffset));
    const candidates = this.#saved().filter(
      (offset) => bases.has(offset) && offset <= limit && offset !== this.#lostAt,
    );
    let from = segments[0]!.baseOffset;
    this.state = new ProducerState();
    for (const offset of candidates.toSorted((one, other) => other - one)) {
      const state = this.#read(offset);
      if (state === null) continue;
      this.state = state;
      from = offset;
      break;
    }
    for (const segment of segments) {
      if (segment.nextOffset <= from) continue;
      const aborted: AbortedTransaction[] = [];
      for await (const { bytes, at, header } of batchesOf(segment, 0, slices)) {
        if (!header.hasProducerId) continue;
        const transaction = this.added(bytes, at, header);
        if (transaction !== null) aborted.push(transaction);
      }
      if (!damaged.includes(segment)) continue;
      segment.transactions.replace(aborted);
      await segment.saveIndexes();
    }
    this.#lostAt = -1;
  }
}
