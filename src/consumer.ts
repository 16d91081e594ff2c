import { keyOf, type TopicPartition } from './assignment.js';
import { withDeadline, withSignal, type Clock } from './clock.js';
import { Commits, beginProgress, type Progress } from './consumer-commits.js';
import {
  checkConsumerOptions,
  checkOffset,
  checkPlace,
  checkPlaces,
  type ConsumerOptions,
  type RebalanceHooks,
} from './consumer-options.js';
import { Hooks } from './consumer-hooks.js';
import { passesOver, type InvalidRecord } from './consumer-invalid.js';
import { Iteration } from './consumer-iteration.js';
import {
  ConsumerFormat,
  type BatchOf,
  type Committer,
  type ConsumerRecord,
  type RecordOf,
  type TransactionSource,
} from './consumer-record.js';
import { DeadLetters, type RawRecord } from './consumer-dead-letters.js';
import { Run } from './consumer-run.js';
import { checkRunOptions, type RunOptions } from './consumer-run-options.js';
import type { Engine, Fetched, Position, Reader } from './engine.js';
import { OttlaError, asUnheard, unknownTopic } from './errors.js';
import { aSignal, checkOptions, got, milliseconds, type From, type Isolation } from './options.js';
import { definitionOf, type TopicDefinition, type TopicRef } from './serde.js';
import { Watched } from './watched.js';

/** What a consumer asks of the Ottla that made it. */
export interface ConsumerEvents {
  /** Sends a record to a topic as its bytes, durably. */
  send(topic: string, record: RawRecord): Promise<unknown>;
  error(error: OttlaError): void;
  warning(warning: string): void;
  closed(): void;
}

/** A commit of your own choosing. */
export interface OffsetToCommit extends TopicPartition {
  /** The NEXT offset to read. */
  readonly offset: number;
  /** Kept with it; at most 4,096 bytes. */
  readonly metadata?: string;
}

/** How far behind a consumer is in a partition. */
export interface PartitionLag extends TopicPartition {
  /** The end of what may be read, minus the committed offset. */
  readonly lag: number;
}

/** Reads records, alone or as a member of a group. Made by `ottla.consumer()`. */
export class Consumer<T extends TopicRef = TopicRef>
  implements AsyncIterable<RecordOf<T>>, Committer
{
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #events: ConsumerEvents;
  readonly #reader: Reader<ConsumerRecord>;
  readonly #topics: ReadonlyMap<string, TopicDefinition>;
  readonly #patterns: readonly RegExp[];
  readonly #hasGroup: boolean;
  readonly #isolation: Isolation;
  readonly #commits: Commits;
  readonly #iteration: Iteration<T>;
  readonly #passesOver: (invalid: InvalidRecord) => boolean;
  readonly #random: () => number;
  readonly #maxPollRecords: number;
  readonly #autoCommit: boolean;
  readonly #groupId: string | null;
  #run: Run | null = null;
  readonly #hooks: Hooks;
  readonly #on: RebalanceHooks;
  readonly #progress = new Map<string, Progress>();
  /** Of partitions that are being given up. */
  readonly #releases = new Set<Promise<void>>();
  #joined: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  #hasLeft = false;

  /** @internal */
  constructor(
    engine: Engine,
    clock: Clock,
    random: () => number,
    options: ConsumerOptions,
    events: ConsumerEvents,
  ) {
    const checked = checkConsumerOptions(options);
    this.#engine = engine;
    this.#clock = clock;
    this.#events = events;
    this.#topics = checked.topics;
    this.#patterns = checked.patterns;
    this.#hasGroup = checked.group !== undefined;
    this.#isolation = checked.isolation;
    this.#groupId = checked.group?.groupId ?? null;
    this.#random = random;
    this.#maxPollRecords = checked.maxPollRecords;
    this.#autoCommit = checked.autoCommit;
    this.#hooks = new Hooks(clock, checked.revokeTimeoutMs, (error) => events.error(error));
    this.#on = checked.hooks;
    const committer = this.#hasGroup ? this : null;
    this.#reader = engine.reader({
      ...(checked.group === undefined ? {} : { group: checked.group }),
      from: checked.from,
      isolation: checked.isolation,
      maxPollBytes: checked.maxPollBytes,
      formatFor: (topic, ownership) =>
        new ConsumerFormat(
          this.#topics.get(topic) ?? definitionOf('consumer', topic),
          ownership,
          committer,
        ),
      idle: () => this.#commits.commitNow(),
      isAtWork: () => this.#run?.isBusy ?? null,
    });
    this.#commits = new Commits({
      reader: this.#reader,
      clock,
      autoCommit: checked.autoCommit && this.#hasGroup,
      owned: () => this.#progress.values(),
      failed: (error) => events.error(error),
    });
    this.#passesOver = (invalid) =>
      passesOver(checked.onInvalid, invalid, (warning) => events.warning(warning));
    this.#iteration = new Iteration({
      passesOver: this.#passesOver,
      reader: this.#reader,
      commits: this.#commits,
      maxPollRecords: checked.maxPollRecords,
      join: async () => {
        if (this.#closing !== null) return;
        this.#join();
        await this.#joined;
      },
      progressOf: (at) => this.#progress.get(keyOf(at)),
      commitBatch: ({ topic, partition, nextOffset, ownership }) =>
        this.commitTo(topic, partition, nextOffset, ownership),
      takeInto: (other, fetched, base) => this.#takeInto(other, fetched, base),
    });
  }

  /**
   * Joins the group if that has not happened. Resolves when this member has its assignment: nothing
   * sent from then on is missed. Never waits for code of the caller's own handlers: in a hook of this
   * consumer it returns at once.
   * @throws UNKNOWN_TOPIC_OR_PARTITION, INCONSISTENT_GROUP_PROTOCOL, NO_OFFSET_FOR_PARTITION, ABORTED
   */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    checkOptions('ready', { signal: aSignal }, options);
    if (this.#hooks.isAsking) return;
    this.#join();
    this.#reader.alive();
    const ready = this.#joined!.then(() => this.#reader.ready());
    await withSignal(ready, options.signal, 'ready');
    this.#refuseClosed();
  }

  #join(): void {
    this.#refuseClosed();
    if (this.#joined !== null) return;
    if (!this.#hasGroup) {
      throw new TypeError('this consumer has no group: call assign() first');
    }
    const subscription = { topics: [...this.#topics.keys()], patterns: this.#patterns };
    this.#reader.subscribe(subscription, {
      assigned: async (positions) => {
        for (const position of positions) this.#begin(position);
        await this.#hooks.call(this.#on.onAssigned, positions);
      },
      revoked: (partitions, signal) => this.#release(partitions, signal),
      lost: (partitions) => void this.#hooks.call(this.#on.onLost, this.#drop(partitions)),
      failed: () => undefined,
    });
    this.#joined = Promise.resolve();
  }

  #refuseClosed(): void {
    if (this.#closing !== null) throw closed();
  }

  #begin(position: Parameters<typeof beginProgress>[0]): void {
    this.#progress.set(keyOf(position), beginProgress(position));
  }

  /** The barrier of a revocation: hand out nothing more, let what is in flight land, commit, let go. */
  #release(
    partitions: readonly TopicPartition[],
    signal: AbortSignal,
  ): { busy: boolean; released: Promise<void> } {
    // close() gives up everything, with one call of the hook.
    if (this.#closing !== null) return { busy: true, released: this.#closing };
    const leaving = this.#progressOf(partitions);
    for (const progress of leaving) progress.isLeaving = true;
    const running = this.#run?.leaving(leaving) ?? [];
    const isInFlight = this.#iteration.isLeavingInFlight || running.some(({ isBusy }) => isBusy);
    const release = async (): Promise<void> => {
      if (this.#iteration.isLeavingInFlight) await this.#iteration.landing(signal);
      for (const partition of running) await partition.landing(signal);
      if (signal.aborted) return;
      const committed = this.#commits.commitMarked(leaving);
      await committed.catch(() => undefined);
      if (signal.aborted) return;
      await this.#hooks.call(this.#on.onRevoked, leaving);
      await this.#commits.settled();
      for (const progress of leaving) this.#forget(progress);
      await committed;
    };
    const busy = isInFlight || this.#on.onRevoked !== undefined;
    const released = release();
    const ended = (): void => void this.#releases.delete(released);
    this.#releases.add(released);
    released.then(ended, ended);
    return { busy, released };
  }

  #drop(partitions: readonly TopicPartition[]): Progress[] {
    const dropped = this.#progressOf(partitions);
    for (const progress of dropped) {
      progress.isLeaving = true;
      progress.isLost = true;
      this.#forget(progress);
    }
    return dropped;
  }

  #forget(progress: Progress): void {
    this.#run?.drop(progress);
    const key = keyOf(progress);
    if (this.#progress.get(key) === progress) this.#progress.delete(key);
  }

  #progressOf(partitions: readonly TopicPartition[]): Progress[] {
    return partitions.flatMap((at) => this.#progress.get(keyOf(at)) ?? []);
  }

  /** @throws ILLEGAL_GENERATION */
  #owned({ topic, partition }: TopicPartition): Progress {
    const progress = this.#progress.get(keyOf({ topic, partition }));
    if (progress !== undefined) return progress;
    throw notOwned({ topic, partition });
  }

  /** As #owned(), and not being given up. @throws ILLEGAL_GENERATION, CLOSED */
  #assigned(where: string, at: TopicPartition): Progress {
    this.#refuseClosed();
    checkPlace(where, at);
    const progress = this.#owned(at);
    if (progress.isLeaving) throw notOwned(at);
    return progress;
  }

  /**
   * One record after the other. Asking for the next marks the one before as processed; `break` and
   * `throw` do not, so the next iteration begins with it. `break` ends the iteration, not the consumer;
   * close() ends both. While it waits the process stays alive.
   * @throws TypeError if another iteration is going on; INVALID_RECORD for a record that cannot be
   *   decoded: seek() past its offset to leave it out
   */
  [Symbol.asyncIterator](): AsyncGenerator<RecordOf<T>, undefined, undefined> {
    this.#refuseClosed();
    this.#refuseInRun('an iteration');
    return this.#iteration.records();
  }

  /** Runs of records of one partition, at most maxPollRecords each; otherwise as the records. */
  batches(): AsyncGenerator<BatchOf<T>, undefined, undefined> {
    this.#refuseClosed();
    this.#refuseInRun('an iteration');
    return this.#iteration.batches();
  }

  /**
   * Calls a handler for each record, or each batch, several at once if so told, and commits what is finished:
   * never past a record that is not. What is finished beyond such a record is kept in the commit's metadata,
   * so that little comes again after a crash: at least once. Resolves when stopped, by stop(), close() or the
   * signal; nothing is handed out by other means meanwhile.
   * @throws what a handler threw, once its attempts are used up and there is no dead-letter topic: what else
   *   was at work is finished and committed first; UNKNOWN_TOPIC_OR_PARTITION; TypeError, RangeError for
   *   options, and if the consumer is being iterated, or has autoCommit false
   */
  async run(options: RunOptions<T>): Promise<void> {
    this.#refuseClosed();
    const checked = checkRunOptions(options, this.#random);
    if (this.#run !== null || this.#iteration.isInUse) {
      throw new TypeError('run: this consumer is being iterated, or run, already');
    }
    if (!this.#autoCommit) throw new TypeError('run commits by itself: autoCommit must be true');
    const { deadLetter } = checked;
    const send = (topic: string, record: RawRecord): Promise<unknown> =>
      this.#events.send(topic, record);
    const deadLetters =
      deadLetter === null ? null : new DeadLetters(this.#engine, send, deadLetter, this.#groupId);
    this.#iteration.rewind();
    this.#run = new Run(checked, {
      reader: this.#reader,
      commits: this.#commits,
      clock: this.#clock,
      maxPollRecords: this.#maxPollRecords,
      join: async () => {
        this.#join();
        await this.#joined;
      },
      progressOf: (at) => this.#progress.get(keyOf(at)),
      deadLetters,
      passesOver: this.#passesOver,
      failed: (error) => this.#events.error(error),
    });
    try {
      await this.#run.done;
    } finally {
      this.#run = null;
    }
  }

  /**
   * Ends run(): nothing more is begun, what is at work is finished, for `timeoutMs` at the most (then its
   * signals abort), what is finished is committed, and the group is left. Otherwise as close(). A handler that
   * awaited it would be waited for by it: there it is called without `await`.
   */
  async stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    checkOptions('stop', { timeoutMs: milliseconds }, options);
    await this.#run?.end(options.timeoutMs);
    await this.close();
  }

  #refuseInRun(what: string): void {
    if (this.#run !== null)
      throw new TypeError(`run() is going on, beside which ${what} has no place`);
  }

  /**
   * Commits these offsets, or without an argument all that is marked as processed. Durable once
   * resolved; need not be awaited: commits are written in the order of the calls, before partitions move
   * and before close() leaves, and a failure that nobody awaits is told by the 'error' event.
   * @throws ILLEGAL_GENERATION, writing nothing, unless every partition is owned; RangeError for an
   *   offset that is none
   */
  commit(offsets?: readonly OffsetToCommit[]): Promise<void> {
    return this.#watched(this.#commit(offsets));
  }

  /** A commit that fails and that nobody awaits ends no process. */
  #watched(commit: Promise<void>): Promise<void> {
    const watched = new Watched<void>((resolve) => resolve(commit));
    return watched.watch(this.#clock, (error) => this.#events.error(asUnheard(error)));
  }

  async #commit(offsets: readonly OffsetToCommit[] | undefined): Promise<void> {
    // onRevoked, called by close(), may still commit.
    if (this.#hasLeft) throw closed();
    if (!this.#hasGroup) throw new TypeError('commit: this consumer has no group');
    this.#refuseInRun('a commit');
    if (offsets === undefined) {
      await this.#commits.commitProcessed(this.#progress.values());
      return;
    }
    await this.#commits.commitOffsets(this.#offsetsToCommit('commit', offsets));
  }

  /** @throws TypeError, RangeError, ILLEGAL_GENERATION */
  #offsetsToCommit(
    where: string,
    offsets: readonly OffsetToCommit[],
  ): { readonly progress: Progress; readonly offset: number; readonly metadata?: string }[] {
    checkPlaces(where, offsets);
    return offsets.map(({ topic, partition, offset, metadata }) => {
      checkOffset(where, offset);
      if (metadata !== undefined && typeof metadata !== 'string') {
        throw new TypeError(`${where}: expected metadata to be a string, got ${got(metadata)}`);
      }
      const progress = this.#owned({ topic, partition });
      return metadata === undefined ? { progress, offset } : { progress, offset, metadata };
    });
  }

  /** @internal */
  commitTo(topic: string, partition: number, offset: number, ownership: number): Promise<void> {
    return this.#watched(this.#commitTo({ topic, partition }, offset, ownership));
  }

  async #commitTo(at: TopicPartition, offset: number, ownership: number): Promise<void> {
    this.#refuseInRun('a commit');
    const progress = this.#owned(at);
    if (progress.ownership !== ownership) throw notOwned(at);
    await this.#commits.commitForward(progress, offset);
    this.#iteration.committed(progress, offset);
  }

  /**
   * What a transaction of an engine commits of this consumer, as commit() would.
   * @internal
   */
  transactionSource(
    engine: Engine,
    offsets: readonly OffsetToCommit[],
  ): Omit<TransactionSource, 'aborted'> {
    this.#refuseOther('sendOffsets', engine);
    const list = this.#offsetsToCommit('sendOffsets', offsets);
    return {
      reader: this.#reader,
      positions: list.map(({ progress: { topic, partition, ownership }, ...rest }) => ({
        topic,
        partition,
        ownership,
        ...rest,
      })),
      committed: () => {
        for (const { progress, offset } of list) {
          progress.committed = offset;
          progress.processed = Math.max(progress.processed, offset);
        }
      },
    };
  }

  #refuseOther(where: string, engine: Engine): void {
    if (engine !== this.#engine) {
      throw new TypeError(`${where}: the consumer is of another Ottla than the producer`);
    }
    if (!this.#hasGroup) throw new TypeError(`${where}: this consumer has no group`);
  }

  #takeInto(
    engine: Engine,
    { topic, partition, nextOffset, ownership }: Fetched<ConsumerRecord>,
    base: number,
  ): TransactionSource {
    this.#refuseOther('transaction', engine);
    const progress = this.#owned({ topic, partition });
    if (progress.ownership !== ownership) throw notOwned({ topic, partition });
    if (progress.isInTransaction) {
      throw new OttlaError(
        'CONCURRENT_TRANSACTIONS',
        `a batch of ${topic}-${partition} belongs to another transaction that is open`,
      );
    }
    progress.isInTransaction = true;
    return {
      reader: this.#reader,
      positions: [{ topic, partition, offset: nextOffset, ownership }],
      committed: () => {
        progress.isInTransaction = false;
        progress.processed = nextOffset;
        progress.committed = nextOffset;
        this.#iteration.settle(progress);
      },
      aborted: () => {
        progress.isInTransaction = false;
        const isOwned = this.#progress.get(keyOf(progress)) === progress;
        if (isOwned && !progress.isLeaving && this.#closing === null) {
          this.#reader.seek({ topic, partition, offset: base });
        }
        this.#iteration.drop(progress);
      },
    };
  }

  /** Partitions that this consumer owns or was assigned, without those that it is giving up. */
  assignment(): TopicPartition[] {
    return [...this.#progress.values()]
      .filter(({ isLeaving }) => !isLeaving)
      .map(({ topic, partition }) => ({ topic, partition }));
  }

  /**
   * Reads these partitions instead of a group's share of topics. Replaces what was assigned before. Where they
   * begin is looked up first: assignment(), position() and pause() know them after ready().
   * @throws TypeError for a consumer with a group, or a partition that is given twice;
   *   UNKNOWN_TOPIC_OR_PARTITION
   */
  assign(partitions: readonly (TopicPartition & { readonly offset?: number })[]): void {
    this.#refuseClosed();
    if (this.#hasGroup) throw new TypeError('assign: this consumer has a group that assigns');
    checkPlaces('assign', partitions);
    const places = new Set<string>();
    for (const at of partitions) {
      if (places.size === places.add(keyOf(at)).size) {
        throw new TypeError(
          `assign: expected each partition once, got ${at.topic}-${at.partition} twice`,
        );
      }
    }
    const positions = partitions.map(({ topic, partition, offset }) => {
      if (offset !== undefined) checkOffset('assign', offset);
      const count = this.#engine.topic(topic)?.partitionCount;
      if (count === undefined) throw unknownTopic(topic, 'assign: ');
      if (Number.isInteger(partition) && partition >= 0 && partition < count) {
        return { topic, partition, offset: offset ?? -1 };
      }
      throw new OttlaError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `assign: expected a partition of ${topic} from 0 to ${count - 1}, got ${got(partition)}`,
      );
    });
    this.#drop([...this.#progress.values()]);
    this.#joined = this.#assign(positions, this.#joined);
    // Who iterates or awaits ready() learns of a failure.
    this.#joined.catch(() => undefined);
  }

  async #assign(positions: readonly Position[], previous: Promise<void> | null): Promise<void> {
    await previous?.catch(() => undefined);
    await this.#reader.assign(positions);
    this.#drop([...this.#progress.values()]);
    for (const position of this.#reader.positions()) this.#begin({ ...position, ownership: 0 });
  }

  /**
   * Goes on at an offset, or at the first record with this timestamp (ms since 1970) or a later one. That
   * place is the next to be committed.
   * @throws ILLEGAL_GENERATION unless the partition is assigned
   */
  async seek(
    at: TopicPartition & ({ readonly offset: number } | { readonly timestamp: number }),
  ): Promise<void> {
    checkPlace('seek', at);
    checkOffset('seek', 'offset' in at ? at.offset : at.timestamp);
    if (!this.#hasGroup) await this.#joined;
    if ('offset' in at) this.#seek(at, at.offset);
    else await this.#seekTo([at], new Date(at.timestamp));
  }

  /** As seek() to the first record there is, in these partitions or in all assigned ones. */
  async seekToBeginning(partitions?: readonly TopicPartition[]): Promise<void> {
    await this.#seekTo(partitions, 'earliest');
  }

  /** As seek() to the end, in these partitions or in all assigned ones. */
  async seekToEnd(partitions?: readonly TopicPartition[]): Promise<void> {
    await this.#seekTo(partitions, 'latest');
  }

  async #seekTo(partitions: readonly TopicPartition[] | undefined, to: From): Promise<void> {
    this.#refuseClosed();
    if (partitions !== undefined) checkPlaces('seek', partitions);
    if (!this.#hasGroup) await this.#joined;
    const places = partitions ?? this.assignment();
    for (const at of places) this.#assigned('seek', at);
    const offsets = await Promise.all(
      places.map((at) => this.#engine.offsetFor(at, to, this.#isolation)),
    );
    for (const [i, at] of places.entries()) this.#seek(at, offsets[i]!);
  }

  #seek({ topic, partition }: TopicPartition, offset: number): void {
    const progress = this.#assigned('seek', { topic, partition });
    this.#reader.seek({ topic, partition, offset });
    this.#iteration.drop(progress);
    this.#run?.drop(progress);
    this.#commits.move(progress, offset);
  }

  /**
   * Hands out nothing of these until resume(). What is in flight stays in flight.
   * @throws ILLEGAL_GENERATION unless every partition is assigned
   */
  pause(partitions: readonly TopicPartition[]): void {
    checkPlaces('pause', partitions);
    for (const at of partitions) this.#assigned('pause', at);
    this.#reader.pause(partitions);
    for (const { topic, partition } of partitions) {
      const progress = this.#owned({ topic, partition });
      this.#run?.pause(progress);
      // What is not handed out is fetched again later.
      const offset = this.#iteration.cut(progress);
      if (offset !== undefined) this.#reader.seek({ topic, partition, offset });
    }
  }

  /** Takes back pause(). @throws ILLEGAL_GENERATION unless every partition is assigned */
  resume(partitions: readonly TopicPartition[]): void {
    checkPlaces('resume', partitions);
    for (const at of partitions) this.#run?.resume(this.#assigned('resume', at));
    for (const at of partitions) this.#assigned('resume', at);
    this.#reader.resume(partitions);
  }

  /** The next offset that will be handed out; in run(), taken over. @throws ILLEGAL_GENERATION unless the partition is assigned */
  position(at: TopicPartition): number {
    const progress = this.#assigned('position', at);
    const next = this.#iteration.nextOffset(progress);
    if (next !== undefined) return next;
    const key = keyOf(progress);
    return this.#reader.positions().find((position) => keyOf(position) === key)!.offset;
  }

  /**
   * What the group has committed of these partitions, or of all assigned ones: offset -1 where there is
   * nothing.
   * @throws TypeError for a consumer without a group
   */
  async committed(partitions?: readonly TopicPartition[]): Promise<Required<OffsetToCommit>[]> {
    if (!this.#hasGroup) throw new TypeError('committed: this consumer has no group');
    if (partitions !== undefined) checkPlaces('committed', partitions);
    await this.ready();
    return (partitions ?? this.assignment()).map(({ topic, partition }) => {
      const { offset = -1, metadata = '' } = this.#reader.committed({ topic, partition }) ?? {};
      return { topic, partition, offset, metadata };
    });
  }

  /** Of each assigned partition: how far the group's commits, without a group the position, is behind. */
  lag(): PartitionLag[] {
    return this.assignment().map((at) => {
      const done = this.#hasGroup ? (this.#reader.committed(at)?.offset ?? -1) : this.position(at);
      return { ...at, lag: Math.max(0, this.#reader.endOffset(at) - done) };
    });
  }

  /**
   * Ends the iteration, commits what is marked, leaves the group. What is in flight is not waited for:
   * it will come again, to whoever owns the partition then. Idempotent. In a hook of its own it does not
   * wait for the end.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs, in ms: it goes on all the same
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.#close();
    if (this.#hooks.isAsking) {
      this.#closing.catch(() => undefined);
      return;
    }
    await withDeadline(this.#clock, this.#closing, options.timeoutMs, 'close of the consumer');
  }

  async #close(): Promise<void> {
    this.#commits.stop();
    this.#iteration.stop();
    this.#run?.abort();
    await Promise.allSettled(this.#releases);
    try {
      await this.#commits.commitMarked(this.#progress.values());
    } finally {
      if (this.#hasGroup) await this.#hooks.call(this.#on.onRevoked, this.assignment());
      await this.#commits.settled();
      this.#hasLeft = true;
      await this.#reader.close();
      this.#progress.clear();
      this.#events.closed();
    }
  }

  /** As close(): for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function closed(): OttlaError {
  return new OttlaError('CLOSED', 'the consumer is closed');
}

function notOwned({ topic, partition }: TopicPartition): OttlaError {
  return new OttlaError(
    'ILLEGAL_GENERATION',
    `${topic}-${partition} is not assigned to this consumer, or not without a break since`,
  );
}
