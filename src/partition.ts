import { join, sep } from 'node:path';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { Isolation, TopicSettings } from './options.js';
import type { AppendListener, AppendWaiter } from './partition-append.js';
import { CurrentLog } from './partition-current.js';
import type { LogEnvironment } from './partition-environment.js';
import { followLogStart } from './partition-follow.js';
import type { PartitionLog } from './partition-log.js';
import {
  StoredPartition,
  type LogPlace,
  type StoredExtent,
  type WholeTail,
} from './partition-row.js';
import { wholeTail } from './partition-tail.js';
import { beginAt, freeSegments } from './partition-freeing.js';
import { encodeMarker, type Marker } from './record-marker.js';
import { segmentFileName } from './storage/checkpoint.js';
import type { ProducerState } from './storage/producer-state.js';
import type { PartitionRow } from './storage/meta-store.js';
import type { Segment } from './storage/segment.js';
import type { AbortedTransaction } from './storage/transaction-index.js';

/** A log whose segments are held. */
export interface HeldLog {
  /** As it is stored. */
  readonly row: PartitionRow;
  /** Written to the active segment. */
  readonly activeBytes: number;
}

/** What a partition must know of its topic, which changes. */
interface PartitionTopic {
  readonly name: string;
  readonly id: string;
  readonly settings: TopicSettings;
}

/**
 * One ordered log, from opening to closing: appends in order, group commit, watermarks, what is freed. Of
 * one that nobody has used there is no more than its place.
 */
export class Partition {
  readonly index: number;
  readonly #env: LogEnvironment;
  readonly #root: string;
  readonly #topic: PartitionTopic;
  /** Null until it is used. */
  #used: CurrentLog | null = null;
  /** What open has seen behind its recovery point. */
  #tail: WholeTail | null = null;

  /** @param root the data directory */
  constructor(env: LogEnvironment, root: string, topic: PartitionTopic, index: number) {
    this.#env = env;
    this.#root = root;
    this.#topic = topic;
    this.index = index;
  }

  get topic(): string {
    return this.#topic.name;
  }

  get topicId(): string {
    return this.#topic.id;
  }

  get #current(): CurrentLog {
    return this.#used ?? this.#use(this.#newStored());
  }

  #use(stored: StoredPartition): CurrentLog {
    this.#used = new CurrentLog(this.#env, this.#place, this.#topic, stored);
    return this.#used;
  }

  get #place(): LogPlace {
    const { topic, topicId, index: partition, name } = this;
    return { topic, topicId, partition, directory: join(this.#root, name) };
  }

  #newStored(): StoredPartition {
    const { store, readOnly } = this.#env;
    return new StoredPartition(store, this.topicId, this.index, !readOnly, this.#tail);
  }

  get #log(): PartitionLog {
    return this.#current.log;
  }

  get clock(): Clock {
    return this.#env.clock;
  }

  get name(): string {
    return `${this.#topic.name}-${this.index}`;
  }

  get settings(): TopicSettings {
    return this.#topic.settings;
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

  /** Whether transactions are open, as far as needsRecovery() has told. */
  get hasOpenTransactions(): boolean {
    return this.#used !== null && this.#log.hasOpenTransactions;
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
    return (this.#used?.log.stored ?? this.#newStored()).extent();
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
    this.#current.appends.append(bytes, start, end, wantsDurable, listener);
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
    return this.#current.appends.sync();
  }

  /**
   * Takes back an append that still waits for a roll or a sync: it fails, and all behind it, in order.
   * Nothing happens once it was written.
   */
  withdraw(listener: AppendListener, error: OttlaError): void {
    this.#current.appends.withdraw(listener, error);
  }

  /**
   * Compacts what is sealed, if the topic asks for it and enough of it is dirty. Never rejects: what goes
   * wrong is a warning, and leaves the log as it was.
   */
  compact(): Promise<void> {
    return this.#current.compact();
  }

  /** @throws why there is nothing to read here any more: the topic was deleted, or all is closed */
  refuseIfEnded(): void {
    this.#current.refuseIfEnded();
  }

  /** Calls `waiter` at every append until forgotten. */
  notifyAppends(waiter: AppendWaiter): void {
    this.#current.appends.notify(waiter);
  }

  forget(waiter: AppendWaiter): void {
    this.#current.appends.forget(waiter);
  }

  /**
   * Whether recover() has something to judge or to make anew. Of a log that ends where its row says, and that
   * no producer numbers batches in, this is one look at a file's size, and nothing of it is kept. Of one with
   * few whole batches behind, it is that they are there: they are added when the log is used.
   */
  needsRecovery(): boolean {
    if (this.#used !== null) return this.#log.needsRecovery();
    const stored = this.#newStored();
    const row = stored.read();
    const { active, producers, syncFailed } = row;
    const { files } = this.#env.openFiles;
    const place = this.#place;
    const path = `${place.directory}${sep}${segmentFileName(active.baseOffset, 'log')}`;
    const activeBytes = Math.max(0, files.size(path));
    if (producers.snapshotCrc === null && !producers.hasAborted && syncFailed !== true) {
      if (activeBytes === active.bytes) return false;
      this.#tail = wholeTail(files, place, row, activeBytes);
      if (this.#tail !== null) return false;
    }
    return this.#use(stored).log.needsRecovery(activeBytes);
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
    return this.#used === null ? null : this.#log.failure;
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
    this.#current.open();
  }

  /**
   * Takes over or cuts what lies behind the recovery point.
   * @returns a sentence on what was cut, or null
   * @throws METADATA_LOST; any other failure is this partition's own
   */
  recover(): Promise<string | null> {
    return this.#current.recover();
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

  /** How often it had been compacted when files and rows were looked at. */
  get swapCount(): number {
    return this.#log.swapCount;
  }

  /**
   * Read-only, beside a running owner: takes over what it wrote since.
   * @param anew reads files and rows again, whether or not anything seems to have changed
   */
  refresh(anew: boolean = false): Promise<void> {
    return this.#current.refresh(anew);
  }

  /**
   * The way out of a failure: reads files and rows again. Until that is done readers see what was there
   * before, and appends wait, or are refused as before.
   * @returns a sentence on what was cut, or null
   * @throws why it takes no records still; METADATA_LOST; UNKNOWN_TOPIC_OR_PARTITION, CLOSED
   */
  reopen(): Promise<string | null> {
    return this.#current.reopen();
  }

  /**
   * Runs `work` while no segment leaves the log: what retention and compaction would change waits for it.
   * @param work is given what tells the log's row and end, whenever it is asked
   * @throws why the partition is no more; METADATA_LOST
   */
  async holdSegments(work: (look: () => HeldLog) => Promise<void>): Promise<void> {
    while (this.#current.appends.gate !== null) await this.#current.appends.gate;
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
    return freeSegments(this.#current.appends, choose);
  }

  /** Whether what lies below the log start is still to be removed, as far as is known. */
  get hasLeftovers(): boolean {
    return this.#used !== null && this.#log.hasLeftovers;
  }

  /**
   * Deletes the records before `offset`, durably, and frees the segments that lie wholly below it.
   * @throws OFFSET_OUT_OF_RANGE above the high watermark; KAFKA_STORAGE_ERROR
   */
  async deleteRecords(offset: number): Promise<void> {
    await beginAt(this.#current.appends, offset, () => {
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
  close(): Promise<void> {
    return this.#current.close();
  }

  /** Closes the files without another write: the topic is gone. Appends are refused from now on. */
  abandon(error: OttlaError): Promise<void> {
    return this.#current.abandon(error);
  }
}
