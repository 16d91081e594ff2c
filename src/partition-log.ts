import { join } from 'node:path';
import { OttlaError, asStorageError } from './errors.js';
import { isCompacted, type TopicSettings } from './options.js';
import type { LogEnvironment } from './partition-environment.js';
import { FreedSegments } from './partition-freed.js';
import { PartitionProducers, type ProducerSnapshot } from './partition-producers.js';
import {
  emptyRecoveryPoint,
  noProducers,
  type LogPlace,
  type StoredPartition,
  type WholeTail,
} from './partition-row.js';
import { LeaderEpochs } from './partition-epochs.js';
import { LogOpening } from './partition-opening.js';
import { CountedBytes } from './partition-quota.js';
import { LogSegments } from './partition-segments.js';
import { encodeLeaderEpochs } from './storage/checkpoint.js';
import {
  put,
  remove,
  type Change,
  type PartitionRow,
  type ProducersRow,
  type RecoveryPoint,
} from './storage/meta-store.js';
import { addBatchesUpTo, addWholeTail, problemAtAnyEnd } from './storage/recovery.js';
import { Segment } from './storage/segment.js';
import type { BatchHeader } from './record.js';
import { Slices } from './storage/slices.js';
import { settleSwap } from './storage/segment-swap.js';

/** A recovery point that may be saved once what lies before it is durable. */
export interface DuePoint {
  readonly point: RecoveryPoint;
  readonly producers: ProducerSnapshot;
}

const recoveryPointBytes = 64 * 1024 * 1024;
const recoveryPointMs = 5000;

/**
 * One partition's files and rows: its segments, epochs and recovery point. Opened at first use; what a
 * crash left behind the recovery point is judged by recoverLog() before anything is appended.
 */
export class PartitionLog {
  readonly name: string;
  readonly place: LogPlace;
  readonly #topic: { readonly settings: TopicSettings };
  readonly #env: LogEnvironment;
  /** Null until opened. */
  #segments: LogSegments | null = null;
  #epochs!: LeaderEpochs;
  /** Who numbers batches in this log. */
  readonly producers: PartitionProducers;
  /** Its rows. */
  readonly stored: StoredPartition;
  readonly #freed: FreedSegments;
  #failure: OttlaError | null = null;
  /** Whether check() was done. */
  #isChecked = false;
  /** Bytes may lie in the active segment that a failed sync did not write. */
  syncFailed = false;
  /** Recovery did not come to its end: where the log ends is not known. */
  #isUnrecovered = false;
  #savedPoint: RecoveryPoint = emptyRecoveryPoint(0);
  #savedProducers: ProducersRow = noProducers;
  #savedAt = 0;
  /** Its bytes in the quota. */
  readonly counted: CountedBytes;
  /** The compaction's count of swaps that was read last. */
  swapCount = 0;
  /** Offsets of the producer snapshots that were there when it was opened. */
  #foundSnapshots: readonly number[] = [];
  /** Null until it was looked at. */
  #foundBytes: number | null = null;

  constructor(
    env: LogEnvironment,
    place: LogPlace,
    topic: { readonly settings: TopicSettings },
    stored: StoredPartition,
  ) {
    this.#env = env;
    this.place = place;
    this.name = `${place.topic}-${place.partition}`;
    this.#topic = topic;
    this.stored = stored;
    this.#freed = new FreedSegments(env);
    this.counted = new CountedBytes(env.quota);
    this.producers = new PartitionProducers(env.openFiles.files, place.directory);
  }

  get settings(): TopicSettings {
    return this.#topic.settings;
  }

  /** Why nothing can be appended any more; null: all is well. */
  get failure(): OttlaError | null {
    return this.#failure;
  }

  /** Refuses appends from now on. The first failure stays. */
  fail(error: OttlaError): void {
    const { topic, partition } = this.place;
    const reopen = `topics.reopen(${JSON.stringify(topic)}, ${partition})`;
    const mend =
      error.code === 'CORRUPT_MESSAGE'
        ? `Ottla.repair() has mended it, or the file is restored and ${reopen} called`
        : reopen;
    this.#failure ??= new OttlaError(
      error.code,
      `${this.name} takes no records until ${mend}: ${error.message}`,
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
    await this.noteFailedSync();
  }

  /** By its bytes a file does not tell that some were not written, to another process neither. */
  async noteFailedSync(): Promise<void> {
    this.syncFailed = true;
    try {
      await this.writeRows([], () => undefined);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  get isUnrecovered(): boolean {
    return this.#isUnrecovered;
  }

  get isOpen(): boolean {
    return this.#segments !== null;
  }

  /** Opens the log, if that has not been done. */
  get segments(): LogSegments {
    return this.open();
  }

  /** The segment that is written to. */
  get active(): Segment {
    return this.segments.active;
  }

  get epochs(): LeaderEpochs {
    this.open();
    return this.#epochs;
  }

  /**
   * Reads what the metadata and the directory say. Damage in what was durable fails the log: it can be
   * read up to there, and nothing is appended behind it.
   * @param toRecover recoverLog() follows, if need be
   * @throws METADATA_LOST if the metadata is not this directory's; KAFKA_STORAGE_ERROR
   */
  open(toRecover: boolean = false): LogSegments {
    if (this.#isUnrecovered) throw this.#failure!;
    if (this.#segments !== null) return this.#segments;
    try {
      return this.#open(toRecover);
    } catch (error) {
      // Nothing is known yet: it is tried again at the next use.
      this.closeFiles();
      this.#segments = null;
      this.#freed.clear();
      this.#foundBytes = null;
      throw asStorageError(this.name, error);
    }
  }

  #open(toRecover: boolean): LogSegments {
    const { openFiles, readOnly, clock } = this.#env;
    const opening = new LogOpening(this.#env, this.place, this.stored, this.#newSegment);
    const found = opening.find(this.#foundBytes);
    const { row, swapping, swapped, sealed, active, activeBytes, missing, damage } = found;
    for (const base of found.freedRows) this.#freed.rows.add(base);
    for (const segment of found.freedFiles) this.#freed.addFiles(segment);
    if (damage !== null) this.damaged(damage);
    const { tail } = this.stored;
    const isSeen = tail === null ? toRecover : activeBytes === tail.fileSize;
    if (activeBytes > row.active.bytes && !isSeen && !readOnly) throw this.#unseen(active);
    const isWritable = !readOnly && this.#failure === null;
    active.restoreActive(row.active, isWritable);
    // Not before the rows are known to be of these files: older ones may count what others have replaced.
    if (isWritable && found.hasSwapFiles) {
      settleSwap(openFiles.files, this.place.directory, swapping);
      if (swapped !== null) swapped.nameSuffix = '';
    }
    const segments = new LogSegments(sealed, active, row.logStartOffset, this.counted);
    this.#epochs = new LeaderEpochs(row.leaderEpochs);
    this.swapCount = found.swaps;
    this.#foundSnapshots = found.snapshots;
    this.#foundBytes = activeBytes;
    this.syncFailed ||= row.syncFailed === true;
    this.#savedPoint = row.active;
    this.#savedProducers = row.producers;
    this.producers.restore(row.active.nextOffset, row.producers);
    // What a kill has left behind the point is not to be read at each open: the first sync moves it.
    this.#savedAt = activeBytes > row.active.bytes ? -Infinity : clock.monotonic();
    this.#segments = segments;
    if (tail !== null && this.#failure === null && !this.#addTail(active, tail)) {
      throw this.#unseen(active);
    }
    if (missing !== null) {
      const { startOffset } = segments;
      this.#env.warn(
        `${this.name}: the log begins at offset ${startOffset}: its segments from offset ${missing} to ${segments.all[0]!.baseOffset} are gone.`,
      );
    }
    if (this.hasLeftovers) this.#env.onceAllAreSeen(() => void this.removeLeftovers());
    return segments;
  }

  #addTail(active: Segment, { fileSize }: WholeTail): boolean {
    return addWholeTail(active, fileSize, (bytes, at, header) => this.added(bytes, at, header));
  }

  #unseen({ path }: Segment): OttlaError {
    const what = `${path} is not as it was seen when all was opened, and must be recovered`;
    this.failRecovery(new OttlaError('KAFKA_STORAGE_ERROR', what));
    return this.#failure!;
  }

  /** What was compacted once stays so, whatever its policy is now. */
  get mayHaveGaps(): boolean {
    return isCompacted(this.settings) || this.stored.compaction() !== undefined;
  }

  /** Whether a compacted segment took the place of others since files and rows were looked at. */
  get wasCompacted(): boolean {
    return (this.stored.compaction()?.swaps ?? 0) !== this.swapCount;
  }

  readonly #newSegment = (baseOffset: number): Segment =>
    new Segment(
      this.#env.openFiles,
      this.place.directory,
      baseOffset,
      this.settings.indexIntervalBytes,
    );

  /**
   * Looks once, before the first append or reading, at what tells cheaply that something durable was damaged:
   * the first and the last batch of sealed segments, and the last one before the recovery point.
   * @throws KAFKA_STORAGE_ERROR if the active segment cannot be read; others are left to their readers
   */
  check(): void {
    if (this.#isChecked || this.#env.readOnly) return;
    const { sealed, active } = this.segments;
    const problem = this.#failure === null ? problemAtAnyEnd(sealed, active) : null;
    if (problem !== null) this.damaged(problem);
    this.#isChecked = true;
  }

  /** Damage in what was durable: nothing may be written over it. */
  damaged(what: string): void {
    if (this.#failure !== null) return;
    this.fail(new OttlaError('CORRUPT_MESSAGE', what));
    this.#env.warn(`${this.#failure!.message}.`);
  }

  /** Bytes that the active segment's file had when the log was opened. */
  get foundBytes(): number {
    this.open(true);
    return this.#foundBytes!;
  }

  /** The row as it was written last. */
  get row(): PartitionRow {
    return this.#row(this.#savedPoint);
  }

  #row(active: RecoveryPoint): PartitionRow {
    return {
      logStartOffset: this.#segments!.startOffset,
      leaderEpochs: this.#epochs.all,
      active,
      producers: this.#savedProducers,
      ...(this.syncFailed ? { syncFailed: true } : {}),
    };
  }

  /**
   * Whether bytes lie behind the recovery point that recoverLog() must judge, or the producer snapshot or a
   * transaction index is to be made anew.
   * @param activeBytes of the active segment's file, where it was looked at before the log is opened
   */
  needsRecovery(activeBytes: number = this.foundBytes): boolean {
    this.#foundBytes = activeBytes;
    const { active, producers, syncFailed } = this.stored.read();
    if (syncFailed === true || activeBytes !== active.bytes) return true;
    if (!this.producers.isWhole(active.nextOffset, producers)) return true;
    if (!producers.hasAborted) return false;
    return this.segments.all.some((segment) => !segment.transactions.isWhole);
  }

  /** Whether transactions are open; of a log that was not opened, as it needs no recovery, the row tells. */
  get hasOpenTransactions(): boolean {
    if (this.isOpen) return this.producers.state.openTransactions.size > 0;
    return this.stored.read().producers.open > 0;
  }

  /** Takes a batch into account that lies at the end of the active segment. */
  added(bytes: Buffer, at: number, header: BatchHeader): void {
    const { active } = this;
    active.added(header);
    if (!header.hasProducerId) return;
    const aborted = this.producers.added(bytes, at, header);
    if (aborted !== null) active.transactions.index.append(aborted);
  }

  /** Adds the whole batches that lie between what is known and the end of the file. */
  addBatchesUpTo(fileSize: number): ReturnType<typeof addBatchesUpTo> {
    const slices = new Slices(this.#env.clock, `reading of ${this.name}`);
    return addBatchesUpTo(this.active, fileSize, slices, (bytes, at, header) =>
      this.added(bytes, at, header),
    );
  }

  /**
   * Makes the quota count what there is: to be called when segments came or went, or were read anew. Of
   * a log that was not opened the rows tell.
   */
  count(): void {
    this.counted.set(this.#segments?.bytes ?? this.stored.extent().bytes);
  }

  /** At a cut. The file is for Kafka's tools: the row counts here. */
  async beginEpoch(startOffset: number): Promise<void> {
    this.#epochs = this.#epochs.cutAt(startOffset);
    await this.#env.openFiles.files.replaceFile(
      join(this.place.directory, 'leader-epoch-checkpoint'),
      encodeLeaderEpochs(this.#epochs.all),
    );
    await this.#saveRow(this.#savedPoint);
  }

  #saveRow(point: RecoveryPoint, others: readonly Change[] = []): Promise<void> {
    return this.stored.write(
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
    return { point: this.active.recoveryPoint(), producers };
  }

  /** Order: the snapshot of the producers, the row that counts on it, then the snapshot before goes. */
  async #savePoint({ point, producers }: DuePoint, others: readonly Change[] = []): Promise<void> {
    await this.producers.save(point.nextOffset, producers);
    const before = this.#savedPoint.nextOffset;
    const hadSnapshot = this.#savedProducers.snapshotCrc !== null;
    const { segments } = this;
    const hasAborted = segments.all.some(({ transactions }) => transactions.mayHaveAborted);
    this.#savedProducers = { snapshotCrc: producers.crc, open: producers.open, hasAborted };
    await this.#saveRow(point, others);
    if (!hadSnapshot || before === point.nextOffset) return;
    if (!segments.beginAt(before)) this.producers.forget(before);
  }

  /** Saves what recovery has found, once that is synced. */
  async recovered(): Promise<void> {
    this.syncFailed = false;
    await this.active.saveIndexes();
    await this.#savePoint(this.#point());
  }

  /** Removes snapshots of producers that a crash has left, and no row counts on. */
  removeOldSnapshots(): void {
    if (this.#foundSnapshots.length === 0) return;
    const bases = this.segments.all.map(({ baseOffset }) => baseOffset);
    const needed = new Set([...bases, this.#savedPoint.nextOffset]);
    this.producers.removeOthers(needed, this.#foundSnapshots);
  }

  /** The recovery point to save after a sync that begins now; null if the saved one is recent enough. */
  dueRecoveryPoint(): DuePoint | null {
    const isDue =
      this.active.size - this.#savedPoint.bytes >= recoveryPointBytes ||
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
      await this.active.saveIndexes();
      if (due.point.baseOffset === this.active.baseOffset) await this.#savePoint(due);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  /** Seals the active segment, which must be synced, and begins the next: the rows come before its first byte. */
  async roll(): Promise<void> {
    const { topicId, partition } = this.place;
    const { segments } = this;
    const old = segments.active;
    old.seal();
    await old.saveIndexes();
    const point = emptyRecoveryPoint(Math.max(old.nextOffset, segments.startOffset));
    // What can fail comes before the rows: behind them there is a new active segment.
    const next = this.#newSegment(point.baseOffset);
    next.restoreActive(point, true);
    const { producers } = this.#point();
    await this.#savePoint({ point, producers }, [
      put(['segment', topicId, partition, old.baseOffset], old.row()),
    ]);
    segments.rolled(next);
  }

  /** Writes rows along with the partition's own. `done` is called before anything else of it is written. */
  writeRows(others: readonly Change[], done: () => void): Promise<void> {
    return this.stored.write(() => this.#row(this.#savedPoint), others, done);
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
    const below = this.segments.sealedBelow(offset);
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
    const { segments } = this;
    const start = Math.max(offset, segments.startOffset);
    return this.stored.write(
      () => ({ ...this.#row(this.#savedPoint), logStartOffset: start }),
      bases.map((base) => remove(['segment', topicId, partition, base])),
      () => {
        segments.startOffset = start;
        this.#drop(below);
        for (const base of bases) this.#freed.rows.delete(base);
      },
    );
  }

  /** Takes the oldest segments out of the log. */
  #drop(below: readonly Segment[]): void {
    if (below.length === 0) return;
    this.segments.drop(below);
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
      await this.moveLogStart(this.segments.startOffset);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  /** Makes the recovery point what is written. The active segment must be synced. */
  async saveEnd(): Promise<void> {
    if (this.active.size === this.#savedPoint.bytes) return;
    await this.saveRecoveryPoint(this.#point());
  }

  /** As closeFiles(), once no read is under way. */
  async release(): Promise<void> {
    await this.#segments?.whenUnused();
    this.closeFiles();
  }

  closeFiles(): void {
    this.#segments?.close();
  }

  /** Closes the files: another log was read in the place of this one, which writes nothing any more. */
  retire(): void {
    this.#freed.clear();
    this.#segments?.retire();
  }
}
