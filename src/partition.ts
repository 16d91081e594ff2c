import { join } from 'node:path';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { Isolation, TopicSettings } from './options.js';
import { PartitionAppends, type AppendListener, type AppendWaiter } from './partition-append.js';
import { PartitionCompaction } from './partition-compaction.js';
import type { LogEnvironment } from './partition-environment.js';
import { followLogStart, isOutdated, readOn } from './partition-follow.js';
import { PartitionLog } from './partition-log.js';
import { recoverLog } from './partition-recovery.js';
import type { StoredExtent } from './partition-row.js';
import { beginAt, freeSegments } from './partition-freeing.js';
import { encodeMarker, type Marker } from './record-marker.js';
import type { ProducerState } from './storage/producer-state.js';
import type { PartitionRow } from './storage/meta-store.js';
import type { Segment } from './storage/segment.js';
import { Slices } from './storage/slices.js';
import type { AbortedTransaction } from './storage/transaction-index.js';

/** A log whose segments are held. */
export interface HeldLog {
  /** As it is stored. */
  readonly row: PartitionRow;
  /** Written to the active segment. */
  readonly activeBytes: number;
}

/**
 * One ordered log, from opening to closing: appends in order, group commit, watermarks, what is freed.
 * Its PartitionLog is another one after a reopening.
 */
export class Partition {
  readonly topic: string;
  readonly topicId: string;
  readonly index: number;
  readonly directory: string;
  readonly #env: LogEnvironment;
  #log: PartitionLog;
  #compaction: PartitionCompaction;
  readonly #appends: PartitionAppends;
  #refreshing: Promise<void> | null = null;

  constructor(
    env: LogEnvironment,
    directory: string,
    topic: { readonly name: string; readonly id: string; readonly settings: TopicSettings },
    index: number,
  ) {
    this.#env = env;
    this.topic = topic.name;
    this.topicId = topic.id;
    this.index = index;
    this.directory = join(directory, `${topic.name}-${index}`);
    this.#log = this.#newLog(topic.settings);
    this.#appends = new PartitionAppends(env, this.#log, () => void this.compact());
    this.#compaction = new PartitionCompaction(env, this.#log);
  }

  #newLog(settings: TopicSettings): PartitionLog {
    const { topic, topicId, index: partition, directory } = this;
    return new PartitionLog(this.#env, { topic, topicId, partition, directory }, settings);
  }

  get clock(): Clock {
    return this.#env.clock;
  }

  get name(): string {
    return this.#log.name;
  }

  get settings(): TopicSettings {
    return this.#log.settings;
  }

  set settings(settings: TopicSettings) {
    this.#log.settings = settings;
  }

  get logStartOffset(): number {
    return this.#log.segments.startOffset;
  }

  /** Offset after the last record written. */
  get logEndOffset(): number {
    return this.#log.active.nextOffset;
  }

  /** Exclusive end of what consumers may read: all that is written, as in Kafka with one replica. */
  get highWatermark(): number {
    return this.logEndOffset;
  }

  /**
   * First offset of the oldest open transaction, else the high watermark.
   * @throws CORRUPT_MESSAGE if a damaged snapshot leaves unknown which are open
   */
  get lastStableOffset(): number {
    this.open();
    const unstable = this.#log.producers.known.firstUnstableOffset;
    return unstable === -1 ? this.highWatermark : Math.max(unstable, this.logStartOffset);
  }

  /** Exclusive end of what a reader with this isolation may read. */
  endFor(isolation: Isolation): number {
    return isolation === 'read_committed' ? this.lastStableOffset : this.highWatermark;
  }

  /** Who numbers batches in this log, as it is now. */
  get producers(): ProducerState {
    this.open();
    return this.#log.producers.state;
  }

  /** Whether transactions are open, as far as is known without opening it. */
  get hasOpenTransactions(): boolean {
    return this.#log.hasOpenTransactions;
  }

  /** Aborted transactions that reach into the offsets from `from` to below `end`. @throws CORRUPT_MESSAGE */
  abortedBetween(from: number, end: number): AbortedTransaction[] {
    return this.#log.segments.abortedBetween(from, end);
  }

  get leaderEpoch(): number {
    return this.#log.epochs.current;
  }

  /** Whether compaction may have left gaps between batches. */
  get mayHaveGaps(): boolean {
    return this.#log.mayHaveGaps;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return this.#log.segments.bytes;
  }

  get segmentCount(): number {
    return this.#log.segments.all.length;
  }

  /** How far it is, as far as its rows tell: what can be known of a log that cannot be opened. */
  get storedExtent(): StoredExtent {
    return this.#log.stored.extent();
  }

  /** The segment that holds `offset`, or the last one that begins before it. */
  segmentFor(offset: number): Segment {
    return this.#log.segments.at(offset);
  }

  /** The segment after `segment`, or null if that is the active one. */
  segmentAfter(segment: Segment): Segment | null {
    const { segments } = this.#log;
    return segment === segments.active ? null : segments.at(segment.nextOffset);
  }

  /** The latest of its batches' timestamps; -1: there is none. */
  get maxTimestamp(): number {
    return this.#log.segments.all.reduce((max, segment) => Math.max(max, segment.maxTimestamp), -1);
  }

  /** An offset before which every record is older than `timestamp`; null if all records are. */
  offsetBeforeTimestamp(timestamp: number): number | null {
    const { all, startOffset } = this.#log.segments;
    const segment = all.find(({ maxTimestamp }) => maxTimestamp >= timestamp);
    if (segment === undefined) return null;
    return Math.max(startOffset, segment.offsetBeforeTimestamp(timestamp));
  }

  /** The epoch in which the record before `offset` was written. */
  epochBefore(offset: number): number {
    return this.#log.epochs.before(offset);
  }

  /** Where what was written in `epoch` ends: a reader beyond it has read what was cut since. */
  endOfEpoch(epoch: number): number {
    return this.#log.epochs.endOf(epoch, this.logEndOffset);
  }

  /**
   * Appends adjacent whole batches as one unit: all of them or none, and never across a roll. Their base
   * offsets and leader epochs are set here. The bytes are written or copied before this returns. Batches
   * that their producer has numbered are of one producer and must come in their order; what the log has
   * already is not written again, and gets the offsets that it has.
   */
  append(
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): void {
    this.#appends.append(bytes, start, end, wantsDurable, listener);
  }

  /**
   * Writes the end of a transaction.
   * @returns its offset
   * @throws INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED; KAFKA_STORAGE_ERROR, CLOSED
   */
  appendMarker(
    marker: Marker & { readonly producerId: bigint; readonly producerEpoch: number },
  ): Promise<number> {
    const bytes = encodeMarker({ ...marker, timestamp: this.#env.clock.now() });
    return new Promise((resolve, reject) => {
      this.append(bytes, 0, bytes.length, false, {
        written: resolve,
        durable: () => undefined,
        failed: reject,
      });
    });
  }

  /** Makes all that is written by now durable. @throws KAFKA_STORAGE_ERROR, CLOSED */
  sync(): Promise<void> {
    return this.#appends.sync();
  }

  /**
   * Takes back an append that still waits for a roll or a sync: it fails, and all behind it, in order.
   * Nothing happens once it was written.
   */
  withdraw(listener: AppendListener, error: OttlaError): void {
    this.#appends.withdraw(listener, error);
  }

  /**
   * Compacts what is sealed, if the topic asks for it and enough of it is dirty. Never rejects: what goes
   * wrong is a warning, and leaves the log as it was.
   */
  async compact(): Promise<void> {
    while (this.#appends.gate !== null) await this.#appends.gate;
    if (this.#appends.ended !== null || this.#env.readOnly || this.#log.failure !== null) return;
    try {
      this.#log.open();
    } catch {
      // Whoever uses the partition is told.
      return;
    }
    await this.#compaction.run();
  }

  /** @throws why there is nothing to read here any more: the topic was deleted, or all is closed */
  refuseIfEnded(): void {
    if (this.#appends.ended !== null) throw this.#appends.ended;
  }

  /** Calls `waiter` at every append until forgotten. */
  notifyAppends(waiter: AppendWaiter): void {
    this.#appends.notify(waiter);
  }

  forget(waiter: AppendWaiter): void {
    this.#appends.forget(waiter);
  }

  /** Whether bytes lie behind the recovery point that recover() must judge. */
  needsRecovery(): boolean {
    return this.#log.needsRecovery();
  }

  /** Looks at what tells cheaply of damage, before the first reading: then appends are refused. */
  check(): void {
    try {
      this.#log.check();
    } catch (error) {
      // What cannot be read now is met by who reads it.
      asStorageError(this.name, error);
    }
  }

  /** Why appends are refused, as far as is known; null: they are not. */
  get failure(): OttlaError | null {
    return this.#log.failure;
  }

  /** Refuses appends from now on: something is amiss that the log itself cannot know. */
  fail(error: OttlaError): void {
    this.#log.fail(error);
  }

  /**
   * Reads the files and rows, if that has not been done.
   * @throws METADATA_LOST; any other failure is this partition's own
   */
  open(): void {
    try {
      this.#log.open(true);
    } catch (error) {
      this.#failOpening(this.#log, error);
    }
  }

  #failOpening(log: PartitionLog, error: unknown): void {
    const failure = asStorageError(this.name, error, false);
    if (failure.code === 'METADATA_LOST') throw failure;
    const isKnown = log.isUnrecovered;
    log.failRecovery(failure);
    if (!isKnown) this.#env.warn(`${log.failure!.message}.`);
  }

  /**
   * Takes over or cuts what lies behind the recovery point.
   * @returns a sentence on what was cut, or null
   * @throws METADATA_LOST; any other failure is this partition's own
   */
  async recover(): Promise<string | null> {
    const report = await this.#recover(this.#log, false);
    // In the background, if it is much: the next open shall not have to read all of it again.
    if (this.#log.failure === null) this.#appends.commit.settle(null);
    return report;
  }

  async #recover(log: PartitionLog, afterFailedSync: boolean): Promise<string | null> {
    if (log.failure !== null) return null;
    try {
      return await recoverLog(log, this.#env, afterFailedSync);
    } catch (error) {
      this.#failOpening(log, error);
      return null;
    }
  }

  /** Makes the quota count this log. */
  count(): void {
    this.#log.count();
  }

  /** Whether the segment was freed: read-only, by the owner, which is looked up. */
  isFreed(segment: Segment): boolean {
    if (this.#env.readOnly) followLogStart(this.#log);
    return segment.isRemoved;
  }

  /**
   * Read-only: whether the owner has compacted since files and rows were looked at. Then a file may be
   * another than the rows said, and what was read of it is not to be believed.
   */
  get hasOtherFiles(): boolean {
    return this.#env.readOnly && this.#log.wasCompacted;
  }

  /**
   * Read-only, beside a running owner: takes over what it wrote since.
   * @param anew reads files and rows again, whether or not anything seems to have changed
   */
  async refresh(anew: boolean = false): Promise<void> {
    if (this.#appends.ended !== null) return;
    this.#refreshing ??= this.#refresh(anew).finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
  }

  async #refresh(anew: boolean): Promise<void> {
    try {
      const isAnew = anew || isOutdated(this.#log);
      const log = isAnew ? this.#newLog(this.settings) : this.#log;
      followLogStart(log);
      if (log.producers.isLost) {
        await log.producers.rebuild(
          log.segments.all,
          [],
          new Slices(this.#env.clock, `recovery of ${this.name}`),
        );
      }
      await readOn(log);
      if (isAnew) this.#replaceLog(log);
    } catch (error) {
      throw asStorageError(this.name, error);
    }
  }

  /**
   * The way out of a failure: reads files and rows again. Until that is done readers see what was there
   * before, and appends wait, or are refused as before.
   * @returns a sentence on what was cut, or null
   * @throws why it takes no records still; METADATA_LOST; UNKNOWN_TOPIC_OR_PARTITION, CLOSED
   */
  reopen(): Promise<string | null> {
    return this.#whenSettled(() => {
      this.refuseIfEnded();
      const reopening = this.#readAnew();
      void this.#appends.closeGate(() => reopening.then(() => undefined));
      return reopening;
    });
  }

  async #readAnew(): Promise<string | null> {
    // One that waits for its turn would write rows as the old log knows them.
    void this.#compaction.stop();
    // A swap that failed half way is settled now.
    await this.#log.release();
    const log = this.#newLog(this.settings);
    let report: string | null;
    try {
      log.open(true);
      report = log.needsRecovery() ? await this.#recover(log, this.#log.syncFailed) : null;
      if (!log.isUnrecovered) {
        log.check();
        await this.#markCut(log);
      }
    } catch (error) {
      throw asStorageError(this.name, error);
    }
    if (log.isUnrecovered) {
      // What was there before can be read on.
      log.closeFiles();
      throw log.failure!;
    }
    this.#replaceLog(log);
    if (log.failure !== null) throw log.failure;
    return report;
  }

  /** A log that ends sooner, at the end of a batch, shows no damage: but its offsets are given out again. */
  async #markCut(log: PartitionLog): Promise<void> {
    const before = this.#log;
    if (!before.isOpen || before.isUnrecovered) return;
    if (before.epochs.current !== log.epochs.current) return;
    const { nextOffset } = log.active;
    if (nextOffset < before.active.nextOffset) await log.beginEpoch(nextOffset);
  }

  #replaceLog(log: PartitionLog): void {
    this.#log.retire();
    this.#log.counted.set(0);
    this.#log = log;
    this.#appends.log = log;
    if (this.#env.quota.isBounded) log.count();
    this.#compaction = new PartitionCompaction(this.#env, log);
    this.#appends.wake();
  }

  /** Runs `then` when nothing is under way, before anything else can begin. */
  async #whenSettled<T>(then: () => T | Promise<T>): Promise<T> {
    for (;;) {
      await this.#refreshing?.catch(() => undefined);
      await this.#compaction.stop();
      const { moving } = this.#log;
      const isQuiet =
        this.#appends.gate === null && this.#appends.commit.underWay === null && moving === null;
      if (isQuiet && !this.#compaction.isUnderWay) {
        // One that waits for its turn will do nothing.
        void this.#compaction.stop();
        return then();
      }
      await this.#appends.gate;
      await this.#appends.commit.underWay;
      await moving;
    }
  }

  /**
   * Runs `work` while no segment leaves the log: what retention and compaction would change waits for it.
   * @param work is given what tells the log's row and end, whenever it is asked
   * @throws why the partition is no more; METADATA_LOST
   */
  async holdSegments(work: (look: () => HeldLog) => Promise<void>): Promise<void> {
    while (this.#appends.gate !== null) await this.#appends.gate;
    this.refuseIfEnded();
    this.open();
    const log = this.#log;
    await log.changeSegments(() => {
      this.refuseIfEnded();
      return work(() => ({ row: log.row, activeBytes: log.active.size }));
    });
  }

  /**
   * Frees the oldest segments, as many as `choose` says of those there are; the active one, if it is among
   * them, is rolled first. Does nothing while appends are refused.
   * @throws KAFKA_STORAGE_ERROR
   */
  freeSegments(choose: (segments: readonly Segment[]) => number): Promise<void> {
    return freeSegments(this.#appends, choose);
  }

  /** Whether what lies below the log start is still to be removed, as far as is known. */
  get hasLeftovers(): boolean {
    return this.#log.hasLeftovers;
  }

  /**
   * Deletes the records before `offset`, durably, and frees the segments that lie wholly below it.
   * @throws OFFSET_OUT_OF_RANGE above the high watermark; KAFKA_STORAGE_ERROR
   */
  async deleteRecords(offset: number): Promise<void> {
    await beginAt(this.#appends, offset, () => {
      this.refuseIfEnded();
      if (offset > this.highWatermark) throw this.outOfRange(offset);
    });
  }

  /** The error for an offset that the log does not have. */
  outOfRange(offset: number): OttlaError {
    const { logStartOffset, highWatermark } = this;
    return new OttlaError(
      'OFFSET_OUT_OF_RANGE',
      `${this.name}: offset ${offset} is out of range, the log has ${logStartOffset} to ${highWatermark}`,
    );
  }

  /** Waits for what is in flight, makes all durable, and closes the files. Appends are refused from now on. */
  async close(): Promise<void> {
    if (this.#appends.ended !== null) return;
    await this.#whenSettled(() => {
      this.#appends.ended = new OttlaError('CLOSED', `${this.name} is closed`);
    });
    this.#appends.commit.stop();
    if (this.#log.isOpen && !this.#env.readOnly && this.#log.failure === null) {
      await this.#appends.commit.all();
      if (this.#log.failure === null) await this.#log.saveEnd();
    }
    this.#log.closeFiles();
  }

  /** Closes the files without another write: the topic is gone. Appends are refused from now on. */
  async abandon(error: OttlaError): Promise<void> {
    this.#appends.ended ??= error;
    await this.#whenSettled(() => undefined);
    this.#appends.commit.stop();
    this.#log.counted.set(0);
    await this.#log.release();
    this.#log.retire();
    this.#appends.wake();
  }
}
