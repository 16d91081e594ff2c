import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { TopicSettings } from './options.js';
import { FreedSegments } from './partition-freed.js';
import { PartitionProducers, type ProducerSnapshot } from './partition-producers.js';
import {
  StoredPartition,
  emptyRecoveryPoint,
  noProducers,
  listSegments,
  metadataLost,
} from './partition-row.js';
import type { LogPlace, StoredExtent } from './partition-row.js';
import type { LogQuota } from './partition-quota.js';
import { encodeLeaderEpochs, segmentFileName, type LeaderEpoch } from './storage/checkpoint.js';
import {
  put,
  remove,
  type Change,
  type CompactionRow,
  type MetaStore,
  type PartitionRow,
  type ProducersRow,
  type RecoveryPoint,
  type Row,
} from './storage/meta-store.js';
import type { OpenFiles } from './storage/open-files.js';
import { addBatchesUpTo, endsWithKnownBatch, hasLaterBatch } from './storage/recovery.js';
import { Pace } from './storage/compaction.js';
import { Segment } from './storage/segment.js';
import type { AbortedTransaction } from './storage/transaction-index.js';
import type { BatchHeader } from './record.js';
import { pathInSwap, settleSwap } from './storage/segment-swap.js';
import type { SyncQueue } from './storage/sync-queue.js';

/** What every partition of one data directory works with. */
export interface LogEnvironment {
  readonly openFiles: OpenFiles;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly syncs: SyncQueue;
  /** One compaction at a time: each takes memory for its keys. */
  readonly compactions: SyncQueue;
  readonly readOnly: boolean;
  readonly quota: LogQuota;
  /** Told, in a sentence, of what is found amiss. */
  readonly warn: (message: string) => void;
}

/** A recovery point that may be saved once what lies before it is durable. */
export interface DuePoint {
  readonly point: RecoveryPoint;
  readonly producers: ProducerSnapshot;
}

/** Rows and files of one moment. */
interface Look {
  readonly row: PartitionRow;
  readonly compaction: CompactionRow | undefined;
  readonly sealed: readonly Row<'segment'>[];
  /** Base offsets of the .log files that are there. */
  readonly present: Set<number>;
  /** Bytes of sealed segments by base offset; -1 for one that is not there. */
  readonly sizes: ReadonlyMap<number, number>;
}

const recoveryPointBytes = 64 * 1024 * 1024;
const recoveryPointMs = 5000;

/**
 * One partition's files and rows: its segments, epochs and recovery point. Opened at first use; what a
 * crash left behind the recovery point is judged by recover() before anything is appended.
 */
export class PartitionLog {
  readonly name: string;
  readonly place: LogPlace;
  settings: TopicSettings;
  readonly #env: LogEnvironment;
  /** In order of offsets; the last one is the active one. Empty until opened. */
  #segments: Segment[] = [];
  #active!: Segment;
  #leaderEpochs: LeaderEpoch[] = [];
  #logStartOffset = 0;
  /** Who numbers batches in this log. */
  readonly producers: PartitionProducers;
  readonly #stored: StoredPartition;
  readonly #freed: FreedSegments;
  #failure: OttlaError | null = null;
  #syncFailed = false;
  /** Recovery did not come to its end: where the log ends is not known. */
  #isUnrecovered = false;
  #savedPoint: RecoveryPoint = emptyRecoveryPoint(0);
  #savedProducers: ProducersRow = noProducers;
  #savedAt = 0;
  /** Bytes of this log in the quota. */
  #countedBytes = 0;
  /** The compaction's count of swaps that was read last. */
  #swaps = 0;

  constructor(env: LogEnvironment, place: LogPlace, settings: TopicSettings) {
    this.#env = env;
    this.place = place;
    this.name = `${place.topic}-${place.partition}`;
    this.settings = settings;
    const { topicId, partition } = place;
    this.#stored = new StoredPartition(env.store, topicId, partition);
    this.#freed = new FreedSegments(env);
    this.producers = new PartitionProducers(env.openFiles.files, place.directory);
  }

  /** Why nothing can be appended any more; null: all is well. */
  get failure(): OttlaError | null {
    return this.#failure;
  }

  /** Refuses appends from now on. The first failure stays. */
  fail(error: OttlaError): void {
    const { topic, partition } = this.place;
    this.#failure ??= new OttlaError(
      error.code,
      `${this.name} takes no records until topics.reopen(${JSON.stringify(topic)}, ${partition}): ${error.message}`,
      { cause: error, retriable: false },
    );
  }

  /** As fail(), because of what kept it from being opened or recovered: nothing can be read either. */
  failRecovery(error: OttlaError): void {
    this.fail(error);
    this.#isUnrecovered = true;
  }

  /** As fail(), after a sync that failed; noted in the row, if that can be written. Never rejects. */
  async failSync(error: OttlaError): Promise<void> {
    this.fail(error);
    await this.#noteFailedSync();
  }

  /** By its bytes a file does not tell that some were not written, to another process neither. */
  async #noteFailedSync(): Promise<void> {
    this.#syncFailed = true;
    try {
      await this.writeRows([], () => undefined);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  get syncFailed(): boolean {
    return this.#syncFailed;
  }

  get isUnrecovered(): boolean {
    return this.#isUnrecovered;
  }

  get isOpen(): boolean {
    return this.#segments.length > 0;
  }

  get segments(): readonly Segment[] {
    this.open();
    return this.#segments;
  }

  /** The segment that is written to. */
  get active(): Segment {
    this.open();
    return this.#active;
  }

  get logStartOffset(): number {
    this.open();
    return this.#logStartOffset;
  }

  get leaderEpoch(): number {
    this.open();
    return this.#leaderEpochs.at(-1)![0];
  }

  /** The segment that holds `offset`, or the last one that begins before it. */
  segmentFor(offset: number): Segment {
    const segments = this.segments;
    let low = 0;
    let high = segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (segments[middle]!.baseOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return segments[low]!;
  }

  /** The epoch in which the record before `offset` was written. */
  epochBefore(offset: number): number {
    this.open();
    const last = this.#leaderEpochs.findLast(([, startOffset]) => startOffset < offset);
    return (last ?? this.#leaderEpochs[0]!)[0];
  }

  /**
   * Where what was written in `epoch` ends: a reader beyond it has read what was cut since. -1, unknown:
   * the end of the log.
   */
  endOfEpoch(epoch: number): number {
    this.open();
    const next =
      epoch === -1 ? undefined : this.#leaderEpochs.find(([candidate]) => candidate > epoch);
    return next === undefined ? this.#active.nextOffset : next[1];
  }

  /**
   * Reads what the metadata and the directory say. Damage in what was durable fails the log: it can be
   * read up to there, and nothing is appended behind it.
   * @param toRecover recover() follows, if need be
   * @throws METADATA_LOST if the metadata is not this directory's; KAFKA_STORAGE_ERROR
   */
  open(toRecover: boolean = false): void {
    if (this.#isUnrecovered) throw this.#failure!;
    if (this.#segments.length > 0) return;
    try {
      this.#open(toRecover);
    } catch (error) {
      // Nothing is known yet: it is tried again at the next use.
      this.#freed.clear();
      throw asStorageError(this.name, error);
    }
  }

  #open(toRecover: boolean): void {
    const { row, compaction, sealed, present, sizes } = this.#look();
    const swapping = compaction?.swapping ?? null;
    const { files } = this.#env.openFiles;
    const segments: Segment[] = [];
    let missing: number | null = null;
    let swapped: Segment | null = null;
    for (const { key, value } of sealed) {
      const base = key[3];
      const segment = this.#newSegment(base);
      segment.restoreSealed(value);
      if (value.nextOffset <= row.logStartOffset) {
        this.#freed.rows.add(base);
        if (present.delete(base)) this.#freed.addFiles(segment);
        continue;
      }
      if (swapping?.baseOffset === base) {
        swapped = segment;
        if (pathInSwap(files, segment.path) !== segment.path) segment.nameSuffix = '.swap';
      }
      if (present.delete(base)) {
        this.#checkSize(segment.path, sizes.get(base) ?? -1, value.bytes, value.bytes);
      } else if (segments.length > 0) {
        this.#damaged(`sealed segment ${segment.path} is missing`);
      } else if (files.size(`${segment.path}.deleted`) >= 0) {
        throw this.#metadataLost(`${segmentFileName(base, 'log')} was replaced by a compaction`);
      } else {
        this.#freed.rows.add(base);
        missing ??= base;
        continue;
      }
      segments.push(segment);
    }
    present.delete(row.active.baseOffset);
    const firstBase = segments[0]?.baseOffset ?? row.active.baseOffset;
    for (const base of present) {
      // The rows say that all up to the first segment that they know was to be removed.
      if (base < firstBase && firstBase <= row.logStartOffset) {
        this.#freed.addFiles(this.#newSegment(base));
        continue;
      }
      throw this.#metadataLost(`no metadata of segment ${segmentFileName(base, 'log')}`);
    }
    const active = this.#newSegment(row.active.baseOffset);
    const activeBytes = Math.max(0, active.fileSize());
    this.#checkSize(active.path, activeBytes, row.active.bytes, Infinity);
    if (activeBytes > row.active.bytes && !toRecover && !this.#env.readOnly) {
      const what = `${active.path} could not be seen when all was opened, and must be recovered`;
      this.failRecovery(new OttlaError('KAFKA_STORAGE_ERROR', what));
      throw this.#failure!;
    }
    active.restoreActive(row.active, !this.#env.readOnly && this.#failure === null);
    // Not before the rows are known to be of these files: older ones may count what others have replaced.
    if (!this.#env.readOnly && this.#failure === null) {
      settleSwap(files, this.place.directory, swapping);
      if (swapped !== null) swapped.nameSuffix = '';
    }
    this.#segments = [...segments, active];
    this.#active = active;
    const first = this.#segments[0]!.baseOffset;
    this.#logStartOffset = Math.max(row.logStartOffset, first);
    this.#leaderEpochs = row.leaderEpochs.slice();
    this.#syncFailed ||= row.syncFailed === true;
    this.#savedPoint = row.active;
    this.#savedProducers = row.producers;
    this.producers.restore(row.active.nextOffset, row.producers);
    this.#savedAt = this.#env.clock.monotonic();
    if (missing !== null) {
      this.#env.warn(
        `${this.name}: the log begins at offset ${this.#logStartOffset}: its segments from offset ${missing} to ${first} are gone.`,
      );
    }
    // Not now: first every partition is looked at, and nothing is changed if metadata turns out to be lost.
    if (this.hasLeftovers) this.#env.clock.soon(() => void this.removeLeftovers());
  }

  /** Rows and files. An owner beside us may roll, free or compact in between: then they are looked at again. */
  #look(): Look {
    for (let look = this.#lookOnce(); ;) {
      this.#swaps = look.compaction?.swaps ?? 0;
      if (!this.#env.readOnly) return look;
      const again = this.#lookOnce();
      if (isDeepStrictEqual(again, look)) return look;
      look = again;
    }
  }

  #lookOnce(): Look {
    const { topicId, partition, directory } = this.place;
    const { files } = this.#env.openFiles;
    const row = this.#stored.read();
    const compaction = this.#compactionRow();
    const present = listSegments(files, this.place);
    const sealed = [...this.#env.store.range(['segment', topicId, partition])];
    const swapping = compaction?.swapping ?? null;
    const sizes = new Map<number, number>();
    for (const { key, value } of sealed) {
      const base = key[3];
      let path = join(directory, segmentFileName(base, 'log'));
      if (swapping?.baseOffset === base) {
        path = pathInSwap(files, path);
        // Of the old segments nothing counts any more.
        for (const old of present) {
          if (old > base && old < swapping.nextOffset) present.delete(old);
        }
        if (files.size(path) >= 0) present.add(base);
      }
      if (value.nextOffset > row.logStartOffset) sizes.set(base, files.size(path));
    }
    return { row, compaction, sealed, present, sizes };
  }

  #compactionRow(): CompactionRow | undefined {
    return this.#env.store.get(['compaction', this.place.topicId, this.place.partition]);
  }

  /** Whether a compacted segment took the place of others since files and rows were looked at. */
  get wasCompacted(): boolean {
    return (this.#compactionRow()?.swaps ?? 0) !== this.#swaps;
  }

  #metadataLost(why: string): OttlaError {
    return metadataLost(this.place.directory, why);
  }

  #checkSize(path: string, size: number, min: number, max: number): void {
    if (size >= min && size <= max) return;
    const expected = min === max ? `${min}` : `at least ${min}`;
    this.#damaged(`${path} has ${size} bytes, expected ${expected}`);
  }

  #newSegment(baseOffset: number): Segment {
    const { directory } = this.place;
    return new Segment(
      this.#env.openFiles,
      directory,
      baseOffset,
      this.settings.indexIntervalBytes,
    );
  }

  /** Damage in what was durable: nothing may be written over it. */
  #damaged(what: string): void {
    if (this.#failure !== null) return;
    this.fail(new OttlaError('CORRUPT_MESSAGE', what));
    this.#env.warn(`${this.#failure!.message}.`);
  }

  /** The row as it was written last. */
  get row(): PartitionRow {
    return this.#row(this.#savedPoint);
  }

  #row(active: RecoveryPoint): PartitionRow {
    return {
      logStartOffset: this.#logStartOffset,
      leaderEpochs: this.#leaderEpochs,
      active,
      producers: this.#savedProducers,
      ...(this.#syncFailed ? { syncFailed: true } : {}),
    };
  }

  /**
   * Whether bytes lie behind the recovery point that recover() must judge, or the producer snapshot or a
   * transaction index is to be made anew. Of a log without producers, one look at a file's size.
   */
  needsRecovery(): boolean {
    const { active, producers, syncFailed } = this.#stored.read();
    if (syncFailed === true) return true;
    const path = join(this.place.directory, segmentFileName(active.baseOffset, 'log'));
    if (Math.max(0, this.#env.openFiles.files.size(path)) !== active.bytes) return true;
    if (!this.producers.isWhole(active.nextOffset, producers)) return true;
    if (!producers.hasAborted) return false;
    return this.segments.some((segment) => !segment.hasTransactionIndex);
  }

  /** How far it is, as far as its rows tell: what can be known of a log that cannot be opened. */
  get storedExtent(): StoredExtent {
    return this.#stored.extent();
  }

  /** Whether transactions were open at the recovery point, as far as the row tells. */
  get hadOpenTransactions(): boolean {
    return this.#stored.read().producers.open > 0;
  }

  /** Takes a batch into account that lies at the end of the active segment. */
  added(bytes: Buffer, at: number, header: BatchHeader): void {
    this.#active.added(header);
    if (!header.hasProducerId) return;
    const aborted = this.producers.added(bytes, at, header);
    if (aborted !== null) this.#active.transactionIndex.append(aborted);
  }

  /** Aborted transactions that reach into the offsets from `from` to below `end`. */
  abortedBetween(from: number, end: number): AbortedTransaction[] {
    const found: AbortedTransaction[] = [];
    const { segments } = this;
    for (let i = segments.indexOf(this.segmentFor(from)); i < segments.length; i++) {
      if (segments[i]!.transactionIndex.collect(from, end, found)) break;
    }
    return found;
  }

  /**
   * Takes over what was written behind the recovery point. The first batch that is not whole and valid
   * ends the log: it was never acknowledged as durable. What is cut is reported; if good batches lie
   * behind the bad one, all of it is kept aside in a .torn file. Order: the new epoch, then the cut.
   * @param afterFailedSync what the failed sync did not write is written again, so that the next one
   *   covers it
   * @returns a sentence on what was cut, or null
   * @throws METADATA_LOST, KAFKA_STORAGE_ERROR
   */
  async recover(afterFailedSync: boolean): Promise<string | null> {
    const mustWriteAgain = afterFailedSync || this.#stored.read().syncFailed === true;
    this.#syncFailed = mustWriteAgain;
    this.open(true);
    const { clock } = this.#env;
    const active = this.#active;
    if (this.#failure === null && !(await endsWithKnownBatch(active))) {
      this.#damaged(
        `${active.path} is another file: what ends at byte ${active.size} is not known`,
      );
    }
    if (this.#failure !== null) return null;
    const damaged = this.#segments.filter((segment) => !segment.hasTransactionIndex);
    if (this.producers.isLost || damaged.length > 0) {
      await this.producers.rebuild(this.#segments, damaged, new Pace(clock));
    }
    const fileSize = Math.max(0, active.fileSize());
    if (mustWriteAgain) await active.writeAgain(active.size, fileSize);
    const { position, problem } = await this.#addBatchesUpTo(fileSize);
    let report: string | null = null;
    if (problem !== null) {
      const next = active.nextOffset;
      report = `${this.name}: cut ${fileSize - position} bytes at byte ${position}, next offset ${next}: ${problem}.`;
      if (await hasLaterBatch(active, position, fileSize, next, clock)) {
        const path = await this.#keepAside(position, fileSize);
        report += ` Good batches lay behind; they are kept in ${path}.`;
      }
      await this.#beginEpoch(next);
      active.cut(position);
    }
    try {
      await active.sync();
    } catch (error) {
      await this.#noteFailedSync();
      throw error;
    }
    this.#syncFailed = false;
    await active.saveIndexes();
    await this.#savePoint(this.#point());
    const bases = this.#segments.map(({ baseOffset }) => baseOffset);
    this.producers.removeOthers(new Set([...bases, active.nextOffset]));
    if (active.nextOffset < this.#logStartOffset) {
      // What lay between was deleted: its offsets are not given out again.
      await this.roll();
      await this.moveLogStart(this.#logStartOffset);
    }
    return report;
  }

  #addBatchesUpTo(fileSize: number): ReturnType<typeof addBatchesUpTo> {
    return addBatchesUpTo(this.#active, fileSize, this.#env.clock, (bytes, at, header) =>
      this.added(bytes, at, header),
    );
  }

  /**
   * Makes the quota count what there is: to be called when segments came or went, or were read anew. Of
   * a log that was not opened the rows tell.
   */
  count(): void {
    let bytes = 0;
    if (this.isOpen) for (const segment of this.#segments) bytes += segment.size;
    else ({ bytes } = this.#stored.extent());
    this.countMore(bytes - this.#countedBytes);
  }

  /** Counts what was appended. */
  countMore(bytes: number): void {
    this.#countedBytes += bytes;
    this.#env.quota.add(bytes);
  }

  /** The log is gone. */
  countNothing(): void {
    this.countMore(-this.#countedBytes);
  }

  /** Under a name of its own, unless a recovery that a crash cut short has kept the same. */
  async #keepAside(position: number, fileSize: number): Promise<string> {
    const { files } = this.#env.openFiles;
    const bytes = Buffer.alloc(fileSize - position);
    await this.#active.readAsync(bytes, bytes.length, position);
    for (let number = 0; ; number++) {
      const suffix = number === 0 ? 'torn' : `${number}.torn`;
      const path = join(this.place.directory, segmentFileName(this.#active.nextOffset, suffix));
      const there = files.readFile(path);
      if (there !== undefined && !there.equals(bytes)) continue;
      await files.replaceFile(path, bytes);
      return path;
    }
  }

  /**
   * At a cut: offsets from here on may have been given out before, so they get a new epoch. The file is
   * for Kafka's tools: the row counts here.
   */
  async #beginEpoch(startOffset: number): Promise<void> {
    const epoch = this.#leaderEpochs.at(-1)![0] + 1;
    this.#leaderEpochs = this.#leaderEpochs.filter(([, start]) => start < startOffset);
    this.#leaderEpochs.push([epoch, startOffset]);
    await this.#env.openFiles.files.replaceFile(
      join(this.place.directory, 'leader-epoch-checkpoint'),
      Buffer.from(encodeLeaderEpochs(this.#leaderEpochs)),
    );
    await this.#saveRow(this.#savedPoint);
  }

  #saveRow(point: RecoveryPoint, others: readonly Change[] = []): Promise<void> {
    return this.#stored.write(
      () => this.#row(point),
      others,
      () => {
        this.#savedPoint = point;
        this.#savedAt = this.#env.clock.monotonic();
      },
    );
  }

  #point(): DuePoint {
    const producers = this.producers.take(this.#env.clock.now());
    return { point: this.#active.recoveryPoint(), producers };
  }

  /** Order: the snapshot of the producers, the row that counts on it, then the snapshot before goes. */
  async #savePoint({ point, producers }: DuePoint, others: readonly Change[] = []): Promise<void> {
    await this.producers.save(point.nextOffset, producers);
    const before = this.#savedPoint.nextOffset;
    const hadSnapshot = this.#savedProducers.count > 0;
    const hasAborted = this.#segments.some((segment) => segment.mayHaveAborted);
    this.#savedProducers = { count: producers.count, open: producers.open, hasAborted };
    await this.#saveRow(point, others);
    if (!hadSnapshot || before === point.nextOffset) return;
    const isOfSegment = this.#segments.some(({ baseOffset }) => baseOffset === before);
    if (!isOfSegment) this.producers.forget(before);
  }

  /** The recovery point to save after a sync that begins now; null if the saved one is recent enough. */
  dueRecoveryPoint(): DuePoint | null {
    const isDue =
      this.#active.size - this.#savedPoint.bytes >= recoveryPointBytes ||
      this.#env.clock.monotonic() - this.#savedAt >= recoveryPointMs;
    return isDue ? this.#point() : null;
  }

  /**
   * Saves a point up to which the log is durable. Failing here costs nothing but a longer recovery, so
   * it is left to the next time.
   */
  async saveRecoveryPoint(due: DuePoint): Promise<void> {
    this.#savedAt = this.#env.clock.monotonic();
    try {
      await this.#active.saveIndexes();
      if (due.point.baseOffset === this.#active.baseOffset) await this.#savePoint(due);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  /** Seals the active segment, which must be synced, and begins the next: the rows come before its first byte. */
  async roll(): Promise<void> {
    const { topicId, partition } = this.place;
    const old = this.#active;
    old.seal();
    await old.saveIndexes();
    const point = emptyRecoveryPoint(Math.max(old.nextOffset, this.#logStartOffset));
    // What can fail comes before the rows: behind them there is a new active segment.
    const next = this.#newSegment(point.baseOffset);
    next.restoreActive(point, true);
    const { producers } = this.#point();
    await this.#savePoint({ point, producers }, [
      put(['segment', topicId, partition, old.baseOffset], old.row()),
    ]);
    this.#active = next;
    this.#segments.push(next);
  }

  /** Writes rows along with the partition's own. `done` is called before anything else of it is written. */
  writeRows(others: readonly Change[], done: () => void): Promise<void> {
    return this.#stored.write(() => this.#row(this.#savedPoint), others, done);
  }

  /** Puts a compacted segment in the place of those it was made of, whose rows it has replaced. */
  replaceSegments(old: readonly Segment[], compacted: Segment): void {
    this.#segments = this.#segments.toSpliced(
      this.#segments.indexOf(old[0]!),
      old.length,
      compacted,
    );
    for (const segment of old) {
      segment.isRemoved = true;
      segment.close();
    }
    if (this.#env.quota.isBounded) this.count();
  }

  /** Runs what takes segments out of the log when nothing else does. */
  changeSegments(change: () => Promise<void>): Promise<void> {
    return this.#freed.inOrder(change);
  }

  /**
   * Moves the log start up to `offset`, which must be durable in the log, and frees the sealed segments
   * below. Order: the row, durably, then the files: what a crash leaves of them is below the row's start,
   * and open removes it. Only on a full disk, where no row can be written, files go first: open finds the
   * oldest segments missing and begins behind them.
   * @throws KAFKA_STORAGE_ERROR: the start is not there, or not durably
   */
  moveLogStart(offset: number): Promise<void> {
    return this.changeSegments(() => this.#moveLogStart(offset));
  }

  /** Settles when no segments are being taken out of the log; null: none are. Never rejects. */
  get moving(): Promise<void> | null {
    return this.#freed.underWay;
  }

  async #moveLogStart(offset: number): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const below = this.#sealedBelow(offset);
    try {
      await this.#writeLogStart(offset, below);
    } catch (error) {
      if (below.length === 0 || !(error instanceof OttlaError) || !error.retriable) throw error;
      this.#drop(below);
      for (const { baseOffset } of below) this.#freed.rows.add(baseOffset);
      await this.#freed.removeFiles();
      await this.#writeLogStart(offset, []);
    }
    await this.#freed.removeFiles();
  }

  #writeLogStart(offset: number, below: readonly Segment[]): Promise<void> {
    const bases = [...this.#freed.rows, ...below.map(({ baseOffset }) => baseOffset)];
    const { topicId, partition } = this.place;
    const start = Math.max(offset, this.#logStartOffset);
    return this.#stored.write(
      () => ({ ...this.#row(this.#savedPoint), logStartOffset: start }),
      bases.map((base) => remove(['segment', topicId, partition, base])),
      () => {
        this.#logStartOffset = start;
        this.#drop(below);
        for (const base of bases) this.#freed.rows.delete(base);
      },
    );
  }

  #sealedBelow(offset: number): Segment[] {
    return this.segments.filter(
      (segment) => segment !== this.#active && segment.nextOffset <= offset,
    );
  }

  /** Takes the oldest segments out of the log. */
  #drop(below: readonly Segment[]): void {
    if (below.length === 0) return;
    this.#segments = this.#segments.slice(below.length);
    for (const { size } of below) this.countMore(-size);
    this.#logStartOffset = Math.max(this.#logStartOffset, this.#segments[0]!.baseOffset);
    for (const segment of below) this.#freed.addFiles(segment);
  }

  /** Whether rows or files of segments below the log start are still there. */
  get hasLeftovers(): boolean {
    return !this.#freed.isEmpty;
  }

  /** Removes what a crash, or a failure to remove it, left below the log start. Never rejects. */
  async removeLeftovers(): Promise<void> {
    if (!this.isOpen || this.#env.readOnly || !this.hasLeftovers) return;
    try {
      await this.moveLogStart(this.#logStartOffset);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  /** Read-only, beside a running owner: takes over which segments it freed. */
  followLogStart(): void {
    const { logStartOffset } = this.#stored.read();
    if (logStartOffset <= this.logStartOffset) return;
    for (const segment of this.#sealedBelow(logStartOffset)) {
      segment.isRemoved = true;
      segment.close();
    }
    this.#segments = this.#segments.filter(({ isRemoved }) => !isRemoved);
    this.#logStartOffset = Math.max(logStartOffset, this.#logStartOffset);
  }

  /** Read-only: whether the owner has rolled, compacted, or cut what was torn, so that all must be read anew. */
  isOutdated(): boolean {
    const { active, leaderEpochs } = this.#stored.read();
    return (
      active.baseOffset !== this.active.baseOffset ||
      leaderEpochs.at(-1)![0] !== this.leaderEpoch ||
      this.wasCompacted
    );
  }

  /** Read-only: takes over what the owner has written since, up to the first incomplete batch. */
  async readOn(): Promise<void> {
    const { active } = this;
    const fileSize = active.fileSize();
    if (fileSize > active.size) await this.#addBatchesUpTo(fileSize);
  }

  /** Makes the recovery point what is written. The active segment must be synced. */
  async saveEnd(): Promise<void> {
    if (this.#active.size === this.#savedPoint.bytes) return;
    await this.saveRecoveryPoint(this.#point());
  }

  /** As closeFiles(), once no read is under way: Windows renames and removes no open file. */
  async release(): Promise<void> {
    await Promise.all(this.#segments.map((segment) => segment.whenUnused(() => undefined)));
    this.closeFiles();
  }

  closeFiles(): void {
    for (const segment of this.#segments) segment.close();
  }

  /** Closes the files: another log was read in the place of this one, which writes nothing any more. */
  retire(): void {
    this.#freed.clear();
    this.closeFiles();
    for (const segment of this.#segments) segment.isRemoved = true;
  }
}
