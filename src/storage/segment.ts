import { join } from 'node:path';
import { crc32cOfUint32 } from '../crc32c.js';
import { OttlaError, asStorageError } from '../errors.js';
import { BatchHeader, RECORD_BATCH_OVERHEAD, batchSizeAt } from '../record.js';
import { segmentFileName } from './checkpoint.js';
import { fileError, type File } from './file-system.js';
import { OffsetIndex } from './offset-index.js';
import type { OpenFileHolder, OpenFiles } from './open-files.js';
import { TimeIndex } from './time-index.js';
import { IndexFile } from './index-file.js';
import type { RecoveryPoint, SegmentRow } from './meta-store.js';
import { SegmentTransactions } from './segment-transactions.js';

/** What the segment must know of a batch to append it to its indexes. */
export interface BatchFacts {
  readonly size: number;
  readonly lastOffset: number;
  readonly maxTimestamp: number;
  readonly crc: number;
}

const headerBytes = Buffer.alloc(RECORD_BATCH_OVERHEAD);
const chunkBytes = 1024 * 1024;
/** An index entry whose batch lies further behind the offset index's own is not looked for. */
const maxWalkedBatches = 1000;
/**
 * One .log file of consecutive batches and its indexes. Batches are appended while it is active;
 * once sealed it never changes.
 */
export class Segment implements OpenFileHolder {
  readonly baseOffset: number;
  readonly directory: string;
  /** Bytes of whole batches written. */
  size = 0;
  /** Bytes known to be durable. */
  syncedSize = 0;
  /** Offset after the last one written. */
  nextOffset: number;
  maxTimestamp = -1;
  /** Largest timestamp of the first batch; null: not read yet. */
  #firstTimestamp: number | null = null;
  /** CRC-32C over the CRCs of all batches, chained. */
  checksum = 0;
  /** Of the last batch. */
  lastBatchBytes = 0;
  lastCrc = 0;
  recentlyUsed = false;
  /**
   * It is part of the log no more: freed, replaced by a compacted one, or read anew. A reader looks for its
   * offset again. Reads under way end as they would have.
   */
  isRemoved = false;
  /** Behind the names of its files while a compaction writes them, and until they are in place. */
  nameSuffix: '' | '.cleaned' | '.swap' = '';
  readonly #openFiles: OpenFiles;
  readonly #indexIntervalBytes: number;
  #file: File | null = null;
  /** Reads and syncs under way. */
  #uses = 0;
  #closing = false;
  #waitingForEndOfUse: (() => void)[] = [];
  #writable = false;
  /** Of this process: an error in writing them back is told to who syncs, as long as the file is open. */
  #hasUnsyncedWrites = false;
  #directorySynced = false;
  readonly #offsets: IndexFile<OffsetIndex>;
  readonly #times: IndexFile<TimeIndex>;
  #indexesLoaded = false;
  readonly transactions: SegmentTransactions;
  #maxTimestampOffset = -1;
  #bytesSinceIndexEntry = 0;

  constructor(
    openFiles: OpenFiles,
    directory: string,
    baseOffset: number,
    indexIntervalBytes: number,
  ) {
    this.#openFiles = openFiles;
    this.directory = directory;
    this.baseOffset = baseOffset;
    this.nextOffset = baseOffset;
    this.#indexIntervalBytes = indexIntervalBytes;
    const { files } = openFiles;
    this.#offsets = new IndexFile(
      files,
      () => this.#path('index'),
      () => new OffsetIndex(baseOffset),
      (bytes) => OffsetIndex.fromBytes(baseOffset, bytes),
    );
    this.#times = new IndexFile(
      files,
      () => this.#path('timeindex'),
      () => new TimeIndex(baseOffset),
      (bytes) => TimeIndex.fromBytes(baseOffset, bytes),
    );
    this.transactions = new SegmentTransactions(files, () => this.#path('txnindex'));
  }

  get path(): string {
    return this.#path('log');
  }

  #path(suffix: 'log' | 'index' | 'timeindex' | 'txnindex'): string {
    return join(this.directory, segmentFileName(this.baseOffset, suffix)) + this.nameSuffix;
  }

  /** Takes over what the metadata says of a sealed segment; its indexes are read at first use. */
  restoreSealed(row: SegmentRow): void {
    this.size = row.bytes;
    this.syncedSize = row.bytes;
    this.nextOffset = row.nextOffset;
    this.maxTimestamp = row.maxTimestamp;
    this.checksum = row.checksum;
    this.lastBatchBytes = row.lastBatchBytes;
    this.lastCrc = row.lastCrc;
    this.transactions.restore(row.transactionIndex, false);
  }

  row(): SegmentRow {
    return {
      nextOffset: this.nextOffset,
      bytes: this.size,
      lastBatchBytes: this.lastBatchBytes,
      lastCrc: this.lastCrc,
      maxTimestamp: this.maxTimestamp,
      checksum: this.checksum,
      transactionIndex: this.transactions.sum(),
    };
  }

  /** Whether offsets up to `lastOffset` still fit the indexes' 32 bits. */
  canHold(lastOffset: number): boolean {
    return this.#offsets.entries.canHold(lastOffset);
  }

  /**
   * Writes whole batches at the end. All or nothing: what a failed or short write left behind is cut
   * off again. Index entries follow by added(), batch by batch.
   * @throws KAFKA_STORAGE_ERROR; not retriable if the remains could not be cut off
   */
  write(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    this.#hasUnsyncedWrites = true;
    try {
      const file = this.#use();
      while (at < end) {
        const written = file.write(bytes, at, end, this.size + at - start);
        if (written === 0) throw new Error(`nothing of ${end - at} bytes could be written`);
        at += written;
      }
    } catch (cause) {
      this.#undoWrite(cause);
      throw new OttlaError(
        'KAFKA_STORAGE_ERROR',
        `${this.path}: a write of ${end - start} bytes at ${this.size} failed: ${String(cause)}`,
        { cause },
      );
    }
  }

  /** Writes the bytes between two positions as they are once more. */
  async writeAgain(start: number, end: number): Promise<void> {
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, end - start));
    this.#hasUnsyncedWrites = true;
    for (let at = start; at < end;) {
      const length = await this.readAsync(chunk, Math.min(chunk.length, end - at), at);
      for (let from = 0; from < length;) {
        const written = this.#use().write(chunk, from, length, at + from);
        if (written === 0) throw fileError('ENOSPC', 'write', this.path);
        from += written;
      }
      at += length;
    }
  }

  #undoWrite(cause: unknown): void {
    if (this.#file === null) return;
    try {
      this.#file.truncate(this.size);
    } catch (undo) {
      throw new OttlaError(
        'KAFKA_STORAGE_ERROR',
        `${this.path}: a write failed (${String(cause)}), and what it left behind from byte ${this.size} on could not be cut off: ${String(undo)}`,
        { cause, retriable: false },
      );
    }
  }

  /**
   * Takes a batch into account that lies at the end of the file. The rule for index entries is Kafka's
   * LogSegment.append: one before a batch once more than indexIntervalBytes came since the last one.
   */
  added(batch: BatchFacts): void {
    if (this.size === 0) this.#firstTimestamp = batch.maxTimestamp;
    if (batch.maxTimestamp > this.maxTimestamp) {
      this.maxTimestamp = batch.maxTimestamp;
      this.#maxTimestampOffset = batch.lastOffset;
    }
    if (this.#bytesSinceIndexEntry > this.#indexIntervalBytes) {
      this.#offsets.entries.append(batch.lastOffset, this.size);
      this.#indexTime();
      this.#bytesSinceIndexEntry = 0;
    }
    this.#bytesSinceIndexEntry += batch.size;
    this.size += batch.size;
    this.nextOffset = batch.lastOffset + 1;
    this.lastBatchBytes = batch.size;
    this.lastCrc = batch.crc;
    this.checksum = crc32cOfUint32(batch.crc, this.checksum);
  }

  #indexTime(): void {
    if (this.#maxTimestampOffset >= 0) {
      this.#times.entries.append(this.maxTimestamp, this.#maxTimestampOffset);
    }
  }

  /** Largest timestamp of the first batch: what rolling by time counts from. -1 where there is none. */
  firstTimestamp(): number {
    this.#firstTimestamp ??= this.size === 0 ? -1 : (this.#headerAt(0)?.maxTimestamp ?? -1);
    return this.#firstTimestamp;
  }

  /** Adds the last time index entry. To be called once, before the indexes are saved for good. */
  seal(): void {
    this.#indexTime();
  }

  /** A byte at or before which the batch with `offset` begins. */
  positionBefore(offset: number): number {
    this.#loadIndexes();
    const entry = this.#offsets.entries.lookup(offset);
    if (entry.position === 0) return 0;
    if (this.#headerAt(entry.position)?.lastOffset === entry.offset) return entry.position;
    this.#offsets.clear();
    return 0;
  }

  /**
   * Where the batch with `offset` begins: the end if there is none with it or a later one. Where no batch has
   * it, or the index leaves too many to look at, a byte before it.
   */
  positionOf(offset: number): number {
    if (offset >= this.nextOffset) return this.size;
    let position = this.positionBefore(offset);
    let before = position;
    for (let walked = 0; walked < maxWalkedBatches && position < this.size; walked++) {
      const batch = this.#headerAt(position);
      // Of a gap who reads finds out whether it is one, or damage.
      if (batch !== null && batch.baseOffset > offset) return before;
      if (batch === null || batch.lastOffset >= offset) break;
      before = position;
      position += batch.size;
    }
    return position;
  }

  /** An offset before which every record is older than `timestamp`. */
  offsetBeforeTimestamp(timestamp: number): number {
    this.#loadIndexes();
    const entry = this.#times.entries.lookup(timestamp - 1);
    if (entry.timestamp === -1) return this.baseOffset;
    if (this.#maxTimestampOfBatch(entry.offset) === entry.timestamp) return entry.offset;
    this.#times.clear();
    return this.baseOffset;
  }

  /** Of the batch that ends with `offset`: an entry of the time index has it; null if there is none. */
  #maxTimestampOfBatch(offset: number): number | null {
    let position = this.positionBefore(offset);
    for (let walked = 0; walked < maxWalkedBatches; walked++) {
      const batch = this.#headerAt(position);
      if (batch === null || batch.lastOffset > offset) return null;
      if (batch.lastOffset === offset) return batch.maxTimestamp;
      position += batch.size;
    }
    return null;
  }

  /** What an index says is only believed when the log agrees: null if no batch begins at `position`. */
  #headerAt(position: number): BatchHeader | null {
    try {
      const length = this.read(headerBytes, RECORD_BATCH_OVERHEAD, position);
      if (length < RECORD_BATCH_OVERHEAD) return null;
      batchSizeAt(headerBytes, 0, length);
      return new BatchHeader(headerBytes, 0);
    } catch (error) {
      asStorageError(this.path, error);
      return null;
    }
  }

  /**
   * Reads a sealed segment's indexes. A file that is missing or disagrees with itself counts as empty:
   * look-ups are slower then, and as right. One that cannot be read does so until it can.
   */
  #loadIndexes(): void {
    if (this.#indexesLoaded) return;
    try {
      this.#offsets.entries = this.#offsets.read() ?? this.#offsets.entries;
      this.#times.entries = this.#times.read() ?? this.#times.entries;
      this.#indexesLoaded = true;
    } catch (error) {
      asStorageError(this.path, error);
    }
  }

  /** The state to go on from, once everything up to here is durable. */
  recoveryPoint(): RecoveryPoint {
    return {
      baseOffset: this.baseOffset,
      nextOffset: this.nextOffset,
      bytes: this.size,
      offsetIndexBytes: this.#offsets.entries.byteLength,
      timeIndexBytes: this.#times.entries.byteLength,
      transactionIndex: this.transactions.sum(),
      lastBatchBytes: this.lastBatchBytes,
      lastCrc: this.lastCrc,
      checksum: this.checksum,
      maxTimestamp: this.maxTimestamp,
      maxTimestampOffset: this.#maxTimestampOffset,
      bytesSinceIndexEntry: this.#bytesSinceIndexEntry,
    };
  }

  /** Makes this the segment that is written to, as it was at a recovery point; what follows it comes by added(). */
  restoreActive(point: RecoveryPoint, writable: boolean): void {
    this.#writable = writable;
    this.#indexesLoaded = true;
    this.size = point.bytes;
    this.syncedSize = point.bytes;
    this.nextOffset = point.nextOffset;
    this.lastBatchBytes = point.lastBatchBytes;
    this.lastCrc = point.lastCrc;
    this.checksum = point.checksum;
    this.maxTimestamp = point.maxTimestamp;
    this.#maxTimestampOffset = point.maxTimestampOffset;
    this.#bytesSinceIndexEntry = point.bytesSinceIndexEntry;
    // Written anew behind the point, a file may have other entries where the point's were.
    this.#offsets.restore(point.offsetIndexBytes, (entries) =>
      entries.endsBefore(point.nextOffset),
    );
    this.#times.restore(point.timeIndexBytes, (entries) => entries.endsBefore(point.nextOffset));
    this.transactions.restore(point.transactionIndex, true);
  }

  /** Cuts the log to `size` bytes, at the boundary of a batch. Durable with the next sync. */
  cut(size: number): void {
    this.#hasUnsyncedWrites = true;
    this.#use().truncate(size);
  }

  /** Bytes in the file, whole batches or not; -1 where there is no file. */
  fileSize(): number {
    return this.#openFiles.files.size(this.path);
  }

  read(into: Uint8Array, length: number, position: number): number {
    return this.#use().read(into, 0, length, position);
  }

  async readAsync(into: Uint8Array, length: number, position: number): Promise<number> {
    const file = this.#use();
    this.#uses++;
    try {
      return await file.readAsync(into, 0, length, position);
    } finally {
      this.#endUse();
    }
  }

  /** Makes all that is written now durable, the file's name included. Its indexes are not. */
  async sync(): Promise<void> {
    const size = this.size;
    this.#uses++;
    this.#hasUnsyncedWrites = false;
    try {
      await this.#use().sync();
      if (!this.#directorySynced) {
        await this.#openFiles.files.syncDirectory(this.directory);
        this.#directorySynced = true;
      }
    } catch (error) {
      this.#hasUnsyncedWrites = true;
      throw error;
    } finally {
      this.#endUse();
    }
    this.syncedSize = Math.max(this.syncedSize, size);
  }

  /** Appends the index entries that came since the last time to their files, and makes them durable. */
  async saveIndexes(): Promise<void> {
    await Promise.all([this.#offsets.save(), this.#times.save(), this.transactions.save()]);
  }

  /**
   * Removes its files, once no read of it is under way and it is closed: Windows removes no open file. The
   * log goes last, so that a later removal finds what a crash left of the segment.
   */
  async remove(): Promise<void> {
    this.isRemoved = true;
    const { files } = this.#openFiles;
    await this.whenUnused(() => undefined);
    files.removeFile(join(this.directory, segmentFileName(this.baseOffset, 'snapshot')));
    for (const suffix of ['index', 'timeindex', 'txnindex', 'log'] as const) {
      files.removeFile(this.#path(suffix));
    }
  }

  #use(): File {
    if (this.isRemoved) {
      throw new OttlaError('OFFSET_OUT_OF_RANGE', `${this.path} is part of the log no more`);
    }
    this.recentlyUsed = true;
    this.#file ??= this.#open();
    return this.#file;
  }

  #open(): File {
    const mode = this.#writable ? 'write' : 'read';
    try {
      return this.#openFiles.open(this.path, mode, this);
    } catch (error) {
      const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (this.nameSuffix !== '.swap' || !isMissing) throw error;
    }
    // An owner beside us has given it its name meanwhile.
    this.nameSuffix = '';
    return this.#openFiles.open(this.path, mode, this);
  }

  releaseFile(): boolean {
    if (this.#uses > 0 || this.#hasUnsyncedWrites) return false;
    this.#closeFile();
    return true;
  }

  /** Closes the file once no read or sync of it is under way, whatever was written to it. */
  close(): void {
    this.#openFiles.closed(this);
    this.#closing = this.#uses > 0;
    if (this.#closing) return;
    this.#closeFile();
  }

  /** What was written is synced, or its loss was told: an error adds nothing, and the file is closed. */
  #closeFile(): void {
    const file = this.#file;
    this.#file = null;
    try {
      file?.close();
    } catch (error) {
      asStorageError(this.path, error);
    }
  }

  /** Closes the file once no read of it is under way, and calls `then` before another one can begin. */
  async whenUnused(then: () => void): Promise<void> {
    while (this.#uses > 0) {
      await new Promise<void>((resolve) => this.#waitingForEndOfUse.push(resolve));
    }
    this.close();
    then();
  }

  #endUse(): void {
    this.#uses--;
    if (this.#closing) this.close();
    else this.#openFiles.mayRelease(this);
    const waiting = this.#waitingForEndOfUse;
    this.#waitingForEndOfUse = [];
    for (const resolve of waiting) resolve();
  }
}
