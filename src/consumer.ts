import type { TopicPartition } from './assignment.js';
import { withDeadline, type Clock } from './clock.js';
import { Commits, type Progress } from './consumer-commits.js';
import { HandOver } from './consumer-hand-over.js';
import {
  checkConsumerOptions,
  checkOffset,
  checkPlace,
  checkPlaces,
  checkPositions,
  type ConsumerEvents,
  type OffsetToCommit,
  type PartitionLag,
  type CheckedConsumerOptions,
  type ConsumerOptions,
} from './consumer-options.js';
import { passesOver, type InvalidRecord } from './consumer-invalid.js';
import { Iteration } from './consumer-iteration.js';
import { Membership, type InFlight } from './consumer-membership.js';
import type { Owned } from './consumer-owned.js';
import { Positions } from './consumer-positions.js';
import type {
  BatchOf,
  Committer,
  ConsumerRecord,
  RecordOf,
  TransactionSource,
} from './consumer-record.js';
import { formatsOf } from './consumer-retried.js';
import { Run, failedRun } from './consumer-run.js';
import { checkRunOptions, checkRunTopics, type RunOptions } from './consumer-run-options.js';
import { ConsumerTransactions, checkOffsetsOf } from './consumer-transaction.js';
import type { Engine, Position, Reader } from './engine.js';
import { OttlaError, asUnheard } from './errors.js';
import { aSignal, checkOptions, milliseconds, type From } from './options.js';
import type { TopicRef } from './serde.js';
import { withSignal } from './signal.js';
import { watched } from './watched.js';

/** Reads records, alone or as a member of a group. Made by `ottla.consumer()`. */
export class Consumer<T extends TopicRef = TopicRef>
  implements AsyncIterable<RecordOf<T>>, Committer
{
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #events: ConsumerEvents;
  readonly #reader: Reader<ConsumerRecord>;
  readonly #settings: CheckedConsumerOptions;
  readonly #hasGroup: boolean;
  readonly #commits: Commits;
  readonly #iteration: Iteration<T>;
  readonly #passesOver: (invalid: InvalidRecord) => boolean;
  readonly #random: () => number;
  #run: Run | null = null;
  readonly #handOver: HandOver;
  readonly #membership: Membership;
  readonly #owned: Owned;
  readonly #positions: Positions;
  readonly #transactions: ConsumerTransactions;
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
    this.#settings = checked;
    this.#hasGroup = checked.group !== undefined;
    this.#random = random;
    this.#reader = engine.reader({
      ...(checked.group === undefined ? {} : { group: checked.group }),
      from: checked.from,
      isolation: checked.isolation,
      maxPollBytes: checked.maxPollBytes,
      formatFor: formatsOf(
        engine,
        checked.topics,
        this.#hasGroup ? this : null,
        () => this.#membership.retryTopic,
      ),
      idle: () => this.#commits.commitNow(),
      isAtWork: () => this.#run?.isBusy ?? null,
    });
    this.#commits = new Commits({
      reader: this.#reader,
      clock,
      autoCommit: checked.autoCommit && this.#hasGroup,
      owned: () => this.#owned,
      failed: (error) => events.error(error),
    });
    this.#membership = new Membership({
      reader: this.#reader,
      commits: this.#commits,
      clock,
      settings: checked,
      hookFailed: (error) => events.error(error),
      leaving: (list) => this.#leaving(list),
      forgotten: (progress) => this.#run?.drop(progress),
    });
    this.#owned = this.#membership.owned;
    this.#handOver = new HandOver(engine, clock, this.#reader, this.#commits, this.#hasGroup);
    this.#passesOver = (invalid) =>
      passesOver(checked.onInvalid, invalid, (warning) => events.warning(warning));
    this.#iteration = new Iteration({
      passesOver: this.#passesOver,
      reader: this.#reader,
      commits: this.#commits,
      maxPollRecords: checked.maxPollRecords,
      join: () => this.#joinUnlessClosed(),
      progressOf: (at) => this.#owned.at(at),
      commitBatch: ({ topic, partition, nextOffset, ownership }) =>
        this.commitTo(topic, partition, nextOffset, ownership),
      takeInto: (other, fetched, base) => this.#transactions.takeBatch(other, fetched, base),
    });
    this.#transactions = new ConsumerTransactions({
      engine,
      hasGroup: this.#hasGroup,
      reader: this.#reader,
      commits: this.#commits,
      iteration: this.#iteration,
      owned: this.#owned,
      isClosing: () => this.#closing !== null,
    });
    this.#positions = new Positions({
      engine,
      reader: this.#reader,
      commits: this.#commits,
      iteration: this.#iteration,
      run: () => this.#run,
      isolation: checked.isolation,
      require: (at) => {
        this.#refuseClosed();
        return this.#owned.requireKept(at);
      },
    });
  }

  /**
   * Joins the group if that has not happened. Resolves when this member has its assignment: nothing
   * sent from then on is missed. Never waits for code of the caller's own handlers: in a hook of this
   * consumer it returns at once. A failure that nobody awaits ends no process: the 'error' event tells it.
   * @throws UNKNOWN_TOPIC_OR_PARTITION, INCONSISTENT_GROUP_PROTOCOL, NO_OFFSET_FOR_PARTITION, ABORTED
   */
  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#watched(this.#ready(options));
  }

  async #ready(options: { readonly signal?: AbortSignal }): Promise<void> {
    checkOptions('ready', { signal: aSignal }, options);
    if (this.#membership.isInHook) return;
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
    this.#membership.join();
    this.#joined = Promise.resolve();
  }

  async #joinUnlessClosed(): Promise<void> {
    if (this.#closing !== null) return;
    this.#reader.gaveUp(null);
    this.#join();
    await this.#joined;
  }

  #refuseClosed(isClosed = this.#closing !== null): void {
    if (isClosed) throw new OttlaError('CLOSED', 'the consumer is closed');
  }

  #leaving(list: readonly Progress[]): InFlight {
    const iteration = this.#iteration;
    const running = this.#run?.leaving(list) ?? [];
    const isInTransaction = (): boolean =>
      this.#closing === null && list.some((progress) => progress.isInTransaction);
    return {
      isBusy:
        iteration.isLeavingInFlight || isInTransaction() || running.some(({ isBusy }) => isBusy),
      landing: async (signal) => {
        if (iteration.isLeavingInFlight) await iteration.landing(signal);
        while (isInTransaction() && !signal.aborted) await iteration.landing(signal);
        for (const partition of running) await partition.landing(signal);
      },
    };
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
   * signal; nothing is handed out by other means meanwhile. A failure that nobody awaits ends no process: the
   * 'error' event tells it.
   * @throws what a handler threw, once its attempts are used up and there is no dead-letter topic: what else
   *   was at work is finished and committed first; UNKNOWN_TOPIC_OR_PARTITION; TypeError, RangeError for
   *   options, and if the consumer is being iterated, or has autoCommit false
   */
  run(options: RunOptions<T>): Promise<void> {
    return watched(this.#runUntilStopped(options), this.#clock, (error) => {
      const failure = failedRun(error);
      this.#events.error(failure);
      if (this.#run === null) this.#reader.gaveUp(failure);
    });
  }

  async #runUntilStopped(options: RunOptions<T>): Promise<void> {
    this.#refuseClosed();
    const checked = checkRunOptions(options, this.#random);
    if (this.#run !== null || this.#iteration.isInUse) {
      throw new TypeError('run: this consumer is being iterated, or run, already');
    }
    const { group, autoCommit, maxPollRecords } = this.#settings;
    if (!autoCommit) throw new TypeError('run commits by itself: autoCommit must be true');
    checkRunTopics(checked, this.#settings, (topic) => this.#engine.topic(topic) !== undefined);
    this.#iteration.rewind();
    const retryTopic = checked.retry.topic;
    if (retryTopic !== null) this.#membership.readRetries(retryTopic);
    this.#run = new Run(checked, {
      engine: this.#engine,
      group: group?.groupId ?? null,
      reader: this.#reader,
      commits: this.#commits,
      clock: this.#clock,
      maxPollRecords,
      join: () => this.#joinUnlessClosed(),
      progressOf: (at) => this.#owned.at(at),
      handOver: this.#handOver,
      passesOver: this.#passesOver,
      failed: (error) => this.#events.error(error),
      beforeHandler: this.#events.beforeHandler,
    });
    try {
      await this.#run.done;
    } finally {
      if (retryTopic !== null && this.#closing === null) {
        this.#membership.readRetries(null);
        // Until they are given up nobody may iterate over the records of retries.
        await this.#reader.ready().catch(() => undefined);
      }
      this.#run = null;
    }
  }

  /**
   * Ends run(): nothing more is begun, what is at work is finished, for `timeoutMs` at the most (then its
   * signals abort), what is finished is committed, and the group is left. Otherwise as close(). A handler that
   * awaited it would be waited for by it: there it is called without `await`.
   */
  stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    return this.#watched(this.#stop(options));
  }

  async #stop(options: { readonly timeoutMs?: number }): Promise<void> {
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
    return this.#expected(this.#commit(offsets));
  }

  #expected(commit: Promise<void>): Promise<void> {
    this.#commits.expect(commit);
    return this.#watched(commit);
  }

  /** A failure that nobody awaits ends no process. */
  #watched<R>(promise: Promise<R>): Promise<R> {
    return watched(promise, this.#clock, (error) => this.#events.error(asUnheard(error)));
  }

  async #commit(offsets: readonly OffsetToCommit[] | undefined): Promise<void> {
    // onRevoked, called by close(), may still commit.
    this.#refuseClosed(this.#hasLeft);
    if (!this.#hasGroup) throw new TypeError('commit: this consumer has no group');
    this.#refuseInRun('a commit');
    if (offsets === undefined) await this.#commits.commitProcessed(this.#owned);
    else await this.#commits.commitOffsets(checkOffsetsOf(this.#owned, 'commit', offsets));
  }

  /** @internal */
  commitTo(topic: string, partition: number, offset: number, ownership: number): Promise<void> {
    return this.#expected(this.#commitTo({ topic, partition }, offset, ownership));
  }

  async #commitTo(at: TopicPartition, offset: number, ownership: number): Promise<void> {
    this.#refuseInRun('a commit');
    const progress = this.#owned.requireSince(at, ownership);
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
    return this.#transactions.takeOffsets(engine, offsets);
  }

  /** Partitions that this consumer owns or was assigned, without those that it is giving up. */
  assignment(): TopicPartition[] {
    return this.#owned.kept();
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
    const positions = checkPositions(
      partitions,
      (topic) => this.#engine.topic(topic)?.partitionCount,
    );
    this.#membership.drop([...this.#owned]);
    this.#joined = this.#assign(positions, this.#joined);
    // Who iterates or awaits ready() learns of a failure.
    this.#joined.catch(() => undefined);
  }

  async #assign(positions: readonly Position[], previous: Promise<void> | null): Promise<void> {
    await previous?.catch(() => undefined);
    await this.#reader.assign(positions);
    this.#membership.drop([...this.#owned]);
    for (const position of this.#reader.positions())
      this.#owned.begin({ ...position, ownership: 0 });
  }

  /**
   * Goes on at an offset, or at the first record with this timestamp (ms since 1970) or a later one. That
   * place is the next to be committed.
   * @throws ILLEGAL_GENERATION unless the partition is assigned
   */
  seek(
    at: TopicPartition & ({ readonly offset: number } | { readonly timestamp: number }),
  ): Promise<void> {
    return this.#watched(this.#seek(at));
  }

  async #seek(
    at: TopicPartition & ({ readonly offset: number } | { readonly timestamp: number }),
  ): Promise<void> {
    checkPlace('seek', at);
    checkOffset('seek', 'offset' in at ? at.offset : at.timestamp);
    if (!this.#hasGroup) await this.#joined;
    if ('offset' in at) this.#positions.seek(at, at.offset);
    else await this.#positions.seekTo([at], new Date(at.timestamp));
  }

  /** As seek() to the first record there is, in these partitions or in all assigned ones. */
  seekToBeginning(partitions?: readonly TopicPartition[]): Promise<void> {
    return this.#watched(this.#seekTo(partitions, 'earliest'));
  }

  /** As seek() to the end, in these partitions or in all assigned ones. */
  seekToEnd(partitions?: readonly TopicPartition[]): Promise<void> {
    return this.#watched(this.#seekTo(partitions, 'latest'));
  }

  async #seekTo(partitions: readonly TopicPartition[] | undefined, to: From): Promise<void> {
    this.#refuseClosed();
    if (partitions !== undefined) checkPlaces('seek', partitions);
    if (!this.#hasGroup) await this.#joined;
    await this.#positions.seekTo(partitions ?? this.assignment(), to);
  }

  /**
   * Hands out nothing of these until resume(). What is in flight stays in flight.
   * @throws ILLEGAL_GENERATION unless every partition is assigned
   */
  pause(partitions: readonly TopicPartition[]): void {
    checkPlaces('pause', partitions);
    this.#positions.pause(partitions);
  }

  /** Takes back pause(). @throws ILLEGAL_GENERATION unless every partition is assigned */
  resume(partitions: readonly TopicPartition[]): void {
    checkPlaces('resume', partitions);
    this.#positions.resume(partitions);
  }

  /** The next offset that will be handed out; in run(), taken over. @throws ILLEGAL_GENERATION unless the partition is assigned */
  position(at: TopicPartition): number {
    checkPlace('position', at);
    return this.#positions.at(at);
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
   * wait for the end. A failure that nobody awaits ends no process: the 'error' event tells it.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs, in ms: it goes on all the same
   */
  close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    return this.#watched(this.#closeWithin(options));
  }

  async #closeWithin(options: { readonly timeoutMs?: number }): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.#close();
    const { timeoutMs } = options;
    if (this.#membership.isInHook) this.#closing.catch(() => undefined);
    else await withDeadline(this.#clock, this.#closing, timeoutMs, 'close of the consumer');
  }

  async #close(): Promise<void> {
    this.#commits.stop();
    this.#iteration.stop();
    this.#run?.abort();
    try {
      await this.#handOver.close();
      if (this.#hasGroup) await this.#membership.leave();
    } finally {
      this.#hasLeft = true;
      await this.#reader.close();
      this.#owned.clear();
      this.#events.closed();
    }
  }

  /** As close(): for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
