import { join } from 'node:path';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { Isolation, TopicSettings } from './options.js';
import { FlushInterval } from './partition-flush.js';
import { PartitionCompaction } from './partition-compaction.js';
import { PartitionLog, type LogEnvironment } from './partition-log.js';
import type { StoredExtent } from './partition-row.js';
import { encodeMarker, type Marker } from './record-marker.js';
import { readBatchHeader, stampBatch, stampLogAppendTime } from './record.js';
import type { ProducerState } from './storage/producer-state.js';
import type { PartitionRow } from './storage/meta-store.js';
import type { Segment } from './storage/segment.js';
import type { AbortedTransaction } from './storage/transaction-index.js';

/** Told once what became of an append: written or failed; then, if it asked for durability, durable or failed. */
export interface AppendListener {
  /** `timestamp` is the log's where the topic takes its own, else -1. */
  written(baseOffset: number, timestamp: number): void;
  durable(): void;
  failed(error: OttlaError): void;
}

/** Woken at the next append. */
export interface AppendWaiter {
  wake(): void;
}

/** A log whose segments are held. */
export interface HeldLog {
  /** As it is stored. */
  readonly row: PartitionRow;
  /** Written to the active segment. */
  readonly activeBytes: number;
}

interface QueuedAppend {
  readonly bytes: Buffer;
  readonly listener: AppendListener;
  readonly wantsDurable: boolean;
}

/** A background sync begins when this much is unsynced, and appends wait for it at eight times as much. */
const unsyncedBytesTarget = 8 * 1024 * 1024;

/**
 * One ordered log: appends in order, group commit, watermarks, who waits for records.
 *
 * An append is written before it returns, unless a roll is under way: then it queues, in order. Order of
 * a roll: sync the old file, await the rows that seal it and name the new one, then the new one's first
 * byte.
 */
export class Partition {
  readonly topic: string;
  readonly topicId: string;
  readonly index: number;
  readonly directory: string;
  readonly #env: LogEnvironment;
  #log: PartitionLog;
  #compaction: PartitionCompaction;
  /** Set when no more appends are taken: by close, or because the topic is gone. */
  #ended: OttlaError | null = null;
  #queue: QueuedAppend[] = [];
  /** Settles when appends may go on: a roll, or too much unsynced. Never rejects. */
  #gate: Promise<void> | null = null;
  #durabilityWaiters: AppendListener[] = [];
  #syncing: Promise<void> | null = null;
  readonly #flushes: FlushInterval;
  #refreshing: Promise<void> | null = null;
  readonly #appendWaiters = new Set<AppendWaiter>();
  /** The largest of the batches that were stamped last. */
  #stampedTimestamp = -1;

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
    this.#flushes = new FlushInterval(env.clock, () => void this.#requestSync());
    this.#log = this.#newLog(topic.settings);
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
    return this.#log.logStartOffset;
  }

  /** Offset after the last record written. */
  get logEndOffset(): number {
    return this.#log.active.nextOffset;
  }

  /** Exclusive end of what consumers may read: all that is written, as in Kafka with one replica. */
  get highWatermark(): number {
    return this.logEndOffset;
  }

  /** First offset of the oldest open transaction, else the high watermark. */
  get lastStableOffset(): number {
    const unstable = this.#log.producers.state.firstUnstableOffset;
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

  /** Whether transactions were open at the recovery point, as far as the metadata tells. */
  get hadOpenTransactions(): boolean {
    return this.#log.hadOpenTransactions;
  }

  /** Aborted transactions that reach into the offsets from `from` to below `end`. @throws CORRUPT_MESSAGE */
  abortedBetween(from: number, end: number): AbortedTransaction[] {
    return this.#log.abortedBetween(from, end);
  }

  get leaderEpoch(): number {
    return this.#log.leaderEpoch;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return this.#log.segments.reduce((bytes, segment) => bytes + segment.size, 0);
  }

  get segmentCount(): number {
    return this.#log.segments.length;
  }

  /** How far it is, as far as its rows tell: what can be known of a log that cannot be opened. */
  get storedExtent(): StoredExtent {
    return this.#log.storedExtent;
  }

  /** The segment that holds `offset`, or the last one that begins before it. */
  segmentFor(offset: number): Segment {
    return this.#log.segmentFor(offset);
  }

  /** The segment after `segment`, or null if that is the active one. */
  segmentAfter(segment: Segment): Segment | null {
    return segment === this.#log.active ? null : this.#log.segmentFor(segment.nextOffset);
  }

  /** An offset before which every record is older than `timestamp`; null if all records are. */
  offsetBeforeTimestamp(timestamp: number): number | null {
    const { segments, logStartOffset } = this.#log;
    const segment = segments.find(({ maxTimestamp }) => maxTimestamp >= timestamp);
    if (segment === undefined) return null;
    return Math.max(logStartOffset, segment.offsetBeforeTimestamp(timestamp));
  }

  /** The epoch in which the record before `offset` was written. */
  epochBefore(offset: number): number {
    return this.#log.epochBefore(offset);
  }

  /** Where what was written in `epoch` ends: a reader beyond it has read what was cut since. */
  endOfEpoch(epoch: number): number {
    return this.#log.endOfEpoch(epoch);
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
    const refusal = this.#ended ?? this.#log.failure;
    if (refusal !== null) {
      listener.failed(refusal);
    } else if (
      this.#gate !== null ||
      this.#tryAppend(bytes, start, end, wantsDurable, listener) === 'wait'
    ) {
      this.#queue.push({ bytes: Buffer.from(bytes.subarray(start, end)), listener, wantsDurable });
    }
  }

  /** 'wait': the append must wait for a roll or a sync, which this started. */
  #tryAppend(
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): 'done' | 'failed' | 'refused' | 'wait' {
    let baseOffset: number;
    let nextOffset: number;
    let logAppendTime = -1;
    try {
      const { active } = this.#log;
      if (this.#log.failure !== null) throw this.#log.failure;
      const known = hasProducer(bytes, start) ? this.#admit(bytes, start, end, listener) : -1;
      if (known === 'refused') return 'refused';
      if (known >= 0) {
        this.#acknowledge(known, logAppendTime, wantsDurable, listener);
        return 'done';
      }
      if (active.size - active.syncedSize >= 8 * unsyncedBytesTarget) {
        void this.#closeGate(() => this.#syncAll());
        return 'wait';
      }
      this.#env.quota.refuseBeyond(this.name, end - start);
      baseOffset = active.nextOffset;
      if (this.settings.messageTimestampType === 'LogAppendTime') {
        logAppendTime = this.#env.clock.now();
      }
      nextOffset = this.#stamp(bytes, start, end, baseOffset, logAppendTime);
      if (active.size > 0 && this.#mustRoll(active, end - start, nextOffset - 1)) {
        void this.#closeGate(() => this.#roll());
        return 'wait';
      }
      active.write(bytes, start, end);
      this.#log.countMore(end - start);
      for (let at = start; at < end;) {
        const header = readBatchHeader(bytes, at, end)!;
        this.#log.added(bytes, at, header);
        at += header.size;
      }
    } catch (error) {
      const failure = asStorageError(this.name, error);
      if (!failure.retriable) this.#log.fail(failure);
      listener.failed(failure);
      return 'failed';
    }
    this.#flushes.appended(nextOffset - baseOffset, this.settings);
    this.#acknowledge(baseOffset, logAppendTime, wantsDurable, listener);
    for (const waiter of this.#appendWaiters) waiter.wake();
    return 'done';
  }

  #acknowledge(
    baseOffset: number,
    logAppendTime: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): void {
    listener.written(baseOffset, logAppendTime);
    if (wantsDurable) this.#durabilityWaiters.push(listener);
    const { size, syncedSize } = this.#log.active;
    const isDue = this.#flushes.isDue || size - syncedSize >= unsyncedBytesTarget;
    if (wantsDurable || isDue) void this.#requestSync();
  }

  /** What the log knows of batches with sequence numbers. A refusal is theirs alone: others go on. */
  #admit(bytes: Buffer, start: number, end: number, listener: AppendListener): number | 'refused' {
    try {
      return this.#log.producers.admit(bytes, start, end);
    } catch (error) {
      listener.failed(asStorageError(this.name, error));
      return 'refused';
    }
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
  async sync(): Promise<void> {
    while (this.#gate !== null) await this.#gate;
    const refusal = this.#ended ?? this.#log.failure;
    if (refusal !== null) throw refusal;
    const { size, syncedSize } = this.#log.active;
    if (size === syncedSize) return;
    await new Promise<void>((resolve, reject) => {
      this.#durabilityWaiters.push({
        written: () => undefined,
        durable: resolve,
        failed: reject,
      });
      void this.#requestSync();
    });
  }

  /** Kafka's LogSegment.shouldRoll: by size, by the time that the records span, by what indexes can hold. */
  #mustRoll(active: Segment, bytes: number, lastOffset: number): boolean {
    const { segmentBytes, segmentMs } = this.settings;
    if (active.size + bytes > segmentBytes || !active.canHold(lastOffset)) return true;
    const first = active.firstTimestamp();
    return first >= 0 && this.#stampedTimestamp - first > segmentMs;
  }

  /** @returns the offset after the last one */
  #stamp(
    bytes: Buffer,
    start: number,
    end: number,
    baseOffset: number,
    logAppendTime: number,
  ): number {
    const epoch = this.#log.leaderEpoch;
    let nextOffset = baseOffset;
    let timestamp = -1;
    for (let at = start; at < end;) {
      stampBatch(bytes, at, nextOffset, epoch);
      if (logAppendTime >= 0) stampLogAppendTime(bytes, at, logAppendTime);
      const header = readBatchHeader(bytes, at, end);
      if (header === null) throw new RangeError(`${this.name}: append of an incomplete batch`);
      nextOffset = header.nextOffset;
      if (header.maxTimestamp > timestamp) timestamp = header.maxTimestamp;
      at += header.size;
    }
    this.#stampedTimestamp = timestamp;
    return nextOffset;
  }

  /** Holds appends back until `work` is done, then lets the queued ones go on. */
  #closeGate(work: () => Promise<void>): Promise<void> {
    this.#gate = work().then(
      () => this.#openGate(null),
      (error: unknown) => this.#openGate(asStorageError(this.name, error)),
    );
    return this.#gate;
  }

  /** One failure fails all that queued behind it, in order: nothing may overtake what a caller sends again. */
  #openGate(error: OttlaError | null): void {
    this.#gate = null;
    const queue = this.#queue;
    this.#queue = [];
    if (error?.retriable === false) this.#log.fail(error);
    let failure = error ?? this.#log.failure ?? this.#ended;
    for (const queued of queue) {
      const { bytes, listener, wantsDurable } = queued;
      if (failure !== null) listener.failed(failure);
      else if (this.#gate !== null) this.#queue.push(queued);
      else {
        const outcome = this.#tryAppend(bytes, 0, bytes.length, wantsDurable, listener);
        if (outcome === 'wait') this.#queue.push(queued);
        if (outcome === 'failed') failure = this.#log.failure ?? behindFailure(this.name);
      }
    }
  }

  /**
   * Takes back an append that still waits for a roll or a sync: it fails, and all behind it, in order.
   * Nothing happens once it was written.
   */
  withdraw(listener: AppendListener, error: OttlaError): void {
    const at = this.#queue.findIndex((queued) => queued.listener === listener);
    if (at === -1) return;
    for (const queued of this.#queue.splice(at)) {
      queued.listener.failed(queued.listener === listener ? error : behindFailure(this.name));
    }
  }

  async #roll(): Promise<void> {
    await this.#syncAll();
    if (this.#log.failure !== null) throw this.#log.failure;
    await this.#log.roll();
    void this.compact();
  }

  /**
   * Compacts what is sealed, if the topic asks for it and enough of it is dirty. Never rejects: what goes
   * wrong is a warning, and leaves the log as it was.
   */
  async compact(): Promise<void> {
    while (this.#gate !== null) await this.#gate;
    if (this.#ended !== null || this.#env.readOnly || this.#log.failure !== null) return;
    try {
      this.#log.open();
    } catch {
      // Whoever uses the partition is told.
      return;
    }
    await this.#compaction.run();
  }

  /** One sync after the other: a recovery point saved by an earlier one must not undo what comes later. */
  async #syncAll(): Promise<void> {
    while (this.#syncing !== null) await this.#syncing;
    const { active } = this.#log;
    if (active.syncedSize === active.size) return;
    await this.#requestSync();
  }

  #requestSync(): Promise<void> {
    this.#syncing ??= this.#queueSync().finally(() => {
      this.#syncing = null;
      if (this.#durabilityWaiters.length > 0 || this.#flushes.isDue) void this.#requestSync();
    });
    return this.#syncing;
  }

  #queueSync(): Promise<void> {
    return this.#env.syncs.run(() => this.#sync());
  }

  /** One sync serves all who wait. Never rejects: a failed sync fails the partition, and is never retried. */
  async #sync(): Promise<void> {
    const waiters = this.#durabilityWaiters;
    this.#durabilityWaiters = [];
    this.#flushes.reset();
    const point = this.#log.dueRecoveryPoint();
    if (this.#log.failure === null) {
      try {
        await this.#log.active.sync();
      } catch (error) {
        await this.#log.failSync(asStorageError(this.name, error, false));
      }
    }
    const { failure } = this.#log;
    for (const waiter of waiters) {
      if (failure === null) waiter.durable();
      else waiter.failed(failure);
    }
    if (point !== null && failure === null) await this.#log.saveRecoveryPoint(point);
  }

  /** @throws why there is nothing to read here any more: the topic was deleted, or all is closed */
  refuseIfEnded(): void {
    if (this.#ended !== null) throw this.#ended;
  }

  /** Calls `waiter` at every append until forgotten. */
  notifyAppends(waiter: AppendWaiter): void {
    this.#appendWaiters.add(waiter);
  }

  forget(waiter: AppendWaiter): void {
    this.#appendWaiters.delete(waiter);
  }

  /** Whether bytes lie behind the recovery point that recover() must judge. */
  needsRecovery(): boolean {
    return this.#log.needsRecovery();
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
    this.#open(this.#log);
  }

  #open(log: PartitionLog): void {
    try {
      log.open(true);
    } catch (error) {
      this.#failOpening(log, error);
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
  recover(): Promise<string | null> {
    return this.#recover(this.#log, false);
  }

  async #recover(log: PartitionLog, afterFailedSync: boolean): Promise<string | null> {
    if (log.failure !== null) return null;
    try {
      return await log.recover(afterFailedSync);
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
    if (this.#env.readOnly) this.#log.followLogStart();
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
    if (this.#ended !== null) return;
    this.#refreshing ??= this.#refresh(anew).finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
  }

  async #refresh(anew: boolean): Promise<void> {
    try {
      const isOutdated = anew || this.#log.isOutdated();
      const log = isOutdated ? this.#newLog(this.settings) : this.#log;
      log.followLogStart();
      await log.readOn();
      if (isOutdated) this.#replaceLog(log);
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
      void this.#closeGate(() => reopening.then(() => undefined));
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

  #replaceLog(log: PartitionLog): void {
    this.#log.retire();
    this.#log.countNothing();
    this.#log = log;
    if (this.#env.quota.isBounded) log.count();
    this.#compaction = new PartitionCompaction(this.#env, log);
    for (const waiter of this.#appendWaiters) waiter.wake();
  }

  /** Runs `then` when nothing is under way, before anything else can begin. */
  async #whenSettled<T>(then: () => T | Promise<T>): Promise<T> {
    for (;;) {
      await this.#refreshing?.catch(() => undefined);
      await this.#compaction.stop();
      const { moving } = this.#log;
      const isQuiet = this.#gate === null && this.#syncing === null && moving === null;
      if (isQuiet && !this.#compaction.isUnderWay) {
        // One that waits for its turn will do nothing.
        void this.#compaction.stop();
        return then();
      }
      await this.#gate;
      await this.#syncing;
      await moving;
    }
  }

  /**
   * Runs `work` while no segment leaves the log: what retention and compaction would change waits for it.
   * @param work is given what tells the log's row and end, whenever it is asked
   * @throws why the partition is no more; METADATA_LOST
   */
  async holdSegments(work: (look: () => HeldLog) => Promise<void>): Promise<void> {
    while (this.#gate !== null) await this.#gate;
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
  async freeSegments(choose: (segments: readonly Segment[]) => number): Promise<void> {
    while (this.#gate !== null) await this.#gate;
    if (this.#ended !== null || this.#log.failure !== null) return;
    const { segments, active } = this.#log;
    const count = choose(segments);
    const last = segments[count - 1];
    if (last === active) {
      const sealed = segments[count - 2];
      await this.#closeGate(() => this.#roll());
      // A disk too full to roll still lets the sealed ones go.
      const end = this.#log.active === active ? (sealed?.nextOffset ?? 0) : active.nextOffset;
      const isExpired = ({ nextOffset }: Segment): boolean => nextOffset <= end;
      await this.freeSegments((now) => now.slice(0, -1).filter(isExpired).length);
    } else if (last !== undefined) {
      await this.#log.moveLogStart(last.nextOffset);
    } else if (this.#log.hasLeftovers) {
      await this.#log.removeLeftovers();
    }
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
    for (let isSynced = false; ; isSynced = true) {
      // A reopening replaces the log: what is begun on the old one would be written over.
      while (this.#gate !== null || this.#syncing !== null) {
        await this.#gate;
        await this.#syncing;
      }
      this.refuseIfEnded();
      if (offset > this.highWatermark) throw this.outOfRange(offset);
      const { active, failure } = this.#log;
      // A log must not end below its start after a power loss.
      const isUnsynced = offset > active.baseOffset && active.syncedSize < active.size;
      if (isSynced || !isUnsynced || failure !== null) break;
      await this.#requestSync();
    }
    if (offset > this.logStartOffset) await this.#log.moveLogStart(offset);
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
    if (this.#ended !== null) return;
    await this.#whenSettled(() => {
      this.#ended = new OttlaError('CLOSED', `${this.name} is closed`);
    });
    this.#flushes.reset();
    if (this.#log.isOpen && !this.#env.readOnly && this.#log.failure === null) {
      const { active } = this.#log;
      if (active.syncedSize < active.size) await this.#queueSync();
      if (this.#log.failure === null) await this.#log.saveEnd();
    }
    this.#log.closeFiles();
  }

  /** Closes the files without another write: the topic is gone. Appends are refused from now on. */
  async abandon(error: OttlaError): Promise<void> {
    this.#ended ??= error;
    await this.#whenSettled(() => undefined);
    this.#flushes.reset();
    this.#log.countNothing();
    await this.#log.release();
    this.#log.retire();
    for (const waiter of this.#appendWaiters) waiter.wake();
  }
}

/** As BatchHeader.hasProducerId: most batches have none. */
function hasProducer(bytes: Buffer, start: number): boolean {
  return bytes[start + 43]! < 0x80;
}

/** Of what was not written, because what came before it was not. */
export function behindFailure(name: string): OttlaError {
  return new OttlaError(
    'KAFKA_STORAGE_ERROR',
    `${name}: not written, because an append before it failed: order is kept when both are sent again`,
  );
}
