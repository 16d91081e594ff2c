import type { TopicPartition } from './assignment.js';
import { withDeadline, withSignal, type Clock } from './clock.js';
import { Commits, beginProgress, type Progress } from './consumer-commits.js';
import { checkConsumerOptions, type ConsumerOptions } from './consumer-options.js';
import {
  ConsumerBatch,
  ConsumerFormat,
  type Committer,
  type ConsumerRecord,
  type RecordOf,
} from './consumer-record.js';
import type { Engine, Fetched, Reader } from './engine.js';
import { OttlaError } from './errors.js';
import { checkOptions, got, integer, milliseconds } from './options.js';
import { definitionOf, type TopicDefinition, type TopicRef } from './serde.js';

const positionCheck = integer(0);

/** Records being handed out, and how many of them were. */
interface Run {
  readonly fetched: Fetched<ConsumerRecord>;
  readonly progress: Progress;
  /** Records before this one are processed. */
  marked: number;
  /** Records before this one are handed out. */
  handedOut: number;
}

export interface ConsumerEvents {
  error(error: OttlaError): void;
  closed(): void;
}

/** A commit of your own choosing. */
export interface OffsetToCommit extends TopicPartition {
  /** The NEXT offset to read. */
  readonly offset: number;
  /** Kept with it; at most 4,096 bytes. */
  readonly metadata?: string;
}

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
  readonly #hasGroup: boolean;
  readonly #commits: Commits;
  readonly #maxPollRecords: number;
  readonly #progress = new Map<string, Progress>();
  #joined: Promise<void> | null = null;
  #run: Run | null = null;
  #fetching: Promise<unknown> | null = null;
  /** Called when what is in flight is marked or given up. */
  #landed: (() => void) | null = null;
  #hasIterator = false;
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(
    engine: Engine,
    clock: Clock,
    options: ConsumerOptions<readonly T[]>,
    events: ConsumerEvents,
  ) {
    const checked = checkConsumerOptions(options);
    this.#engine = engine;
    this.#clock = clock;
    this.#events = events;
    this.#topics = checked.topics;
    this.#hasGroup = checked.group !== undefined;
    this.#maxPollRecords = checked.maxPollRecords;
    const committer = this.#hasGroup ? this : null;
    this.#reader = engine.reader({
      ...(checked.group === undefined ? {} : { group: checked.group }),
      from: checked.from,
      formatFor: (topic, ownership) =>
        new ConsumerFormat(
          this.#topics.get(topic) ?? definitionOf('consumer', topic),
          ownership,
          committer,
        ),
      idle: () => this.#commits.commitNow(),
    });
    this.#commits = new Commits({
      reader: this.#reader,
      clock,
      autoCommit: checked.autoCommit && this.#hasGroup,
      owned: () => this.#progress.values(),
      failed: (error) => events.error(error as OttlaError),
    });
  }

  /**
   * Joins the group if that has not happened. Resolves when this member has its assignment: nothing
   * sent from then on is missed. Never waits for code of the caller's own handlers.
   * @throws UNKNOWN_TOPIC_OR_PARTITION, INCONSISTENT_GROUP_PROTOCOL, NO_OFFSET_FOR_PARTITION, ABORTED
   */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#join();
    const ready = this.#joined!.then(() => this.#reader.ready());
    await withSignal(ready, options.signal, 'ready');
  }

  #join(): void {
    this.#refuseClosed();
    if (this.#joined !== null) return;
    if (!this.#hasGroup) {
      throw new TypeError('this consumer has no group: call assign() first');
    }
    this.#reader.subscribe([...this.#topics.keys()], {
      assigned: (positions) => {
        for (const position of positions) this.#begin(position);
      },
      revoked: (partitions, signal) => this.#release(partitions, signal),
      lost: (partitions) => this.#drop(partitions),
      failed: () => undefined,
    });
    this.#joined = Promise.resolve();
  }

  #refuseClosed(): void {
    if (this.#closing !== null) throw new OttlaError('CLOSED', 'the consumer is closed');
  }

  #begin(position: Parameters<typeof beginProgress>[0]): void {
    this.#progress.set(keyOf(position), beginProgress(position));
  }

  /** The barrier of a revocation: hand out nothing more, let what is in flight land, commit, let go. */
  #release(
    partitions: readonly TopicPartition[],
    signal: AbortSignal,
  ): { busy: boolean; released: Promise<void> } {
    const leaving = this.#progressOf(partitions);
    for (const progress of leaving) progress.isLeaving = true;
    const run = this.#run;
    const busy = run !== null && run.progress.isLeaving && run.handedOut > run.marked;
    const release = async (): Promise<void> => {
      if (busy) await this.#landing(signal);
      if (signal.aborted) return;
      await this.#commits.commitMarked(leaving);
      for (const progress of leaving) this.#forget(progress);
    };
    return { busy, released: release() };
  }

  #landing(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#landed;
      const done = (): void => {
        signal.removeEventListener('abort', done);
        before?.();
        resolve();
      };
      this.#landed = done;
      signal.addEventListener('abort', done);
    });
  }

  #drop(partitions: readonly TopicPartition[]): void {
    for (const progress of this.#progressOf(partitions)) {
      progress.isLeaving = true;
      progress.isLost = true;
      this.#forget(progress);
    }
  }

  #forget(progress: Progress): void {
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

  /**
   * One record after the other. Asking for the next marks the one before as processed; `break` and
   * `throw` do not, so the next iteration begins with it. `break` ends the iteration, not the consumer;
   * close() ends both. While it waits the process stays alive.
   * @throws TypeError if another iteration is going on; INVALID_RECORD for a record that cannot be
   *   decoded: seek() past its offset to leave it out
   */
  [Symbol.asyncIterator](): AsyncGenerator<RecordOf<T>, undefined, undefined> {
    return this.#iterator(() => this.#nextRecord());
  }

  /** Runs of records of one partition, at most maxPollRecords each; otherwise as the records. */
  batches(): AsyncGenerator<ConsumerBatch<RecordOf<T>>, undefined, undefined> {
    return this.#iterator(() => this.#nextBatch());
  }

  #iterator<V>(
    next: () => Promise<IteratorResult<V, undefined>>,
  ): AsyncGenerator<V, undefined, undefined> {
    if (this.#hasIterator) {
      throw new TypeError('this consumer is being iterated already: end that iteration first');
    }
    this.#hasIterator = true;
    let isDone = false;
    const finish = (): Promise<IteratorResult<V, undefined>> => {
      if (!isDone) {
        isDone = true;
        this.#hasIterator = false;
        this.#giveBack();
      }
      return Promise.resolve({ value: undefined, done: true });
    };
    const iterator: AsyncGenerator<V, undefined, undefined> = {
      next: () => {
        if (isDone) return finish();
        if (this.#fetching !== null) {
          const again = (): Promise<IteratorResult<V, undefined>> => iterator.next();
          return this.#fetching.then(again, again);
        }
        try {
          return next();
        } catch (error) {
          return Promise.reject(error);
        }
      },
      return: finish,
      throw: async (error: unknown) => {
        await finish();
        throw error;
      },
      [Symbol.asyncIterator]: () => iterator,
      [Symbol.asyncDispose]: async () => void (await finish()),
    };
    return iterator;
  }

  /** What was handed out and not marked comes again. */
  #giveBack(): void {
    const run = this.#run;
    if (run === null) return;
    run.handedOut = run.marked;
    this.#land();
  }

  #land(): void {
    const landed = this.#landed;
    this.#landed = null;
    landed?.();
  }

  #nextRecord(): Promise<IteratorResult<RecordOf<T>, undefined>> {
    const run = this.#advance();
    if (run !== null) {
      const value = run.fetched.records[run.handedOut++] as RecordOf<T>;
      return Promise.resolve({ value, done: false });
    }
    return this.#fetch((fetched) => {
      fetched.handedOut++;
      return fetched.fetched.records[0] as RecordOf<T>;
    });
  }

  #nextBatch(): Promise<IteratorResult<ConsumerBatch<RecordOf<T>>, undefined>> {
    const run = this.#advance();
    if (run !== null) return Promise.resolve({ value: this.#rest(run), done: false });
    return this.#fetch((fetched) => this.#rest(fetched));
  }

  /** All records of a run that are not handed out yet. */
  #rest(run: Run): ConsumerBatch<RecordOf<T>> {
    const { records, topic, partition, baseOffset, nextOffset, ownership } = run.fetched;
    const rest = run.handedOut === 0 ? records : records.slice(run.handedOut);
    const base = run.handedOut === 0 ? baseOffset : rest[0]!.offset;
    run.handedOut = records.length;
    return new ConsumerBatch<RecordOf<T>>(
      topic,
      partition,
      base,
      nextOffset,
      rest as readonly RecordOf<T>[],
      () => this.commitTo(topic, partition, nextOffset, ownership),
    );
  }

  /** Marks what was handed out. @returns the run if it has more to hand out */
  #advance(): Run | null {
    this.#reader.alive();
    const run = this.#run;
    if (run === null) return null;
    const { records } = run.fetched;
    if (run.handedOut > run.marked) {
      run.marked = run.handedOut;
      this.#commits.mark(
        run.progress,
        run.marked === records.length
          ? run.fetched.nextOffset
          : records[run.marked - 1]!.offset + 1,
      );
      if (this.#landed !== null) this.#land();
    }
    if (run.handedOut < records.length && !run.progress.isLeaving) return run;
    this.#run = null;
    return null;
  }

  #fetch<V>(take: (run: Run) => V): Promise<IteratorResult<V, undefined>> {
    const fetching = this.#fetchRun().then(
      (run): IteratorResult<V, undefined> => {
        this.#fetching = null;
        return run === null ? { value: undefined, done: true } : { value: take(run), done: false };
      },
      (error: unknown) => {
        this.#fetching = null;
        throw error;
      },
    );
    this.#fetching = fetching;
    return fetching;
  }

  /** The next run with records; null when the consumer is closed. */
  async #fetchRun(): Promise<Run | null> {
    if (this.#closing !== null) return null;
    if (this.#joined === null) this.#join();
    await this.#joined;
    for (;;) {
      const fetched =
        this.#reader.pollNow(this.#maxPollRecords) ??
        (await this.#reader.poll(this.#maxPollRecords, null));
      if (fetched === null || this.#closing !== null) return null;
      const progress = this.#progress.get(keyOf(fetched));
      if (progress === undefined || progress.ownership !== fetched.ownership) continue;
      if (progress.isLeaving) continue;
      if (fetched.records.length === 0) {
        this.#commits.mark(progress, fetched.nextOffset);
        continue;
      }
      this.#run = { fetched, progress, marked: 0, handedOut: 0 };
      return this.#run;
    }
  }

  /**
   * Commits these offsets, or without an argument all that is marked as processed. Durable once
   * resolved.
   * @throws ILLEGAL_GENERATION, writing nothing, unless every partition is owned; RangeError for an
   *   offset that is none
   */
  async commit(offsets?: readonly OffsetToCommit[]): Promise<void> {
    this.#refuseClosed();
    if (!this.#hasGroup) throw new TypeError('commit: this consumer has no group');
    if (offsets === undefined) {
      await this.#commits.commitProcessed(this.#progress.values());
      return;
    }
    if (!Array.isArray(offsets)) {
      throw new TypeError(`commit: expected a list of offsets, got ${got(offsets)}`);
    }
    const list = offsets.map(({ topic, partition, offset, metadata }: OffsetToCommit) => {
      checkOffset('commit', offset);
      const progress = this.#owned({ topic, partition });
      return metadata === undefined ? { progress, offset } : { progress, offset, metadata };
    });
    await this.#commits.commitOffsets(list);
  }

  /** @internal */
  async commitTo(
    topic: string,
    partition: number,
    offset: number,
    ownership: number,
  ): Promise<void> {
    const progress = this.#owned({ topic, partition });
    if (progress.ownership !== ownership) throw notOwned({ topic, partition });
    await this.#commits.commitForward(progress, offset);
  }

  /** Partitions that this consumer owns or was assigned. */
  assignment(): TopicPartition[] {
    return [...this.#progress.values()].map(({ topic, partition }) => ({ topic, partition }));
  }

  /**
   * Reads these partitions instead of a group's share of topics. Replaces what was assigned before.
   * @throws TypeError for a consumer with a group; UNKNOWN_TOPIC_OR_PARTITION
   */
  assign(partitions: readonly (TopicPartition & { readonly offset?: number })[]): void {
    this.#refuseClosed();
    if (this.#hasGroup) throw new TypeError('assign: this consumer has a group that assigns');
    if (!Array.isArray(partitions)) {
      throw new TypeError(`assign: expected a list of partitions, got ${got(partitions)}`);
    }
    const positions = partitions.map(
      ({ topic, partition, offset }: (typeof partitions)[number]) => {
        if (offset !== undefined) checkOffset('assign', offset);
        const count = this.#engine.topic(topic)?.partitionCount ?? 0;
        if (Number.isInteger(partition) && partition >= 0 && partition < count) {
          return { topic, partition, offset: offset ?? -1 };
        }
        throw new OttlaError(
          'UNKNOWN_TOPIC_OR_PARTITION',
          `assign: expected a partition of ${topic} from 0 to ${count - 1}, got ${got(partition)}`,
        );
      },
    );
    this.#drop([...this.#progress.values()]);
    const assigned = this.#reader.assign(positions).then(() => {
      for (const position of this.#reader.positions()) this.#begin({ ...position, ownership: 0 });
    });
    // Who iterates or awaits ready() learns of a failure.
    assigned.catch(() => undefined);
    this.#joined = assigned;
  }

  /** Goes on at an offset, or at the first record with this timestamp or a later one. */
  async seek(
    at: TopicPartition & ({ readonly offset: number } | { readonly timestamp: number }),
  ): Promise<void> {
    this.#refuseClosed();
    if ('offset' in at) {
      checkOffset('seek', at.offset);
      this.#seek(at, at.offset);
      return;
    }
    checkOffset('seek', at.timestamp);
    this.#owned(at);
    const offset = await this.#engine.offsetFor(at, new Date(at.timestamp));
    this.#seek(at, offset!);
  }

  async seekToBeginning(partitions: readonly TopicPartition[] = this.assignment()): Promise<void> {
    for (const at of partitions) this.#seek(at, (await this.#engine.offsetFor(at, 'earliest'))!);
  }

  async seekToEnd(partitions: readonly TopicPartition[] = this.assignment()): Promise<void> {
    for (const at of partitions) this.#seek(at, (await this.#engine.offsetFor(at, 'latest'))!);
  }

  #seek({ topic, partition }: TopicPartition, offset: number): void {
    const progress = this.#owned({ topic, partition });
    this.#reader.seek({ topic, partition, offset });
    if (this.#run?.progress === progress) {
      this.#run = null;
      this.#land();
    }
    this.#commits.mark(progress, offset);
  }

  /** Hands out nothing of these until resume(). What is in flight stays in flight. */
  pause(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) {
      const progress = this.#owned(at);
      this.#reader.pause([at]);
      const run = this.#run;
      if (run?.progress !== progress) continue;
      // The rest of the run is fetched again later.
      const next = this.position(at);
      const rest = run.fetched.records.slice(0, run.handedOut);
      this.#run = { ...run, fetched: { ...run.fetched, records: rest, nextOffset: next } };
      this.#reader.seek({ topic: at.topic, partition: at.partition, offset: next });
    }
  }

  resume(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) this.#owned(at);
    this.#reader.resume(partitions);
  }

  /** The next offset that will be handed out. */
  position(at: TopicPartition): number {
    const progress = this.#owned(at);
    const run = this.#run;
    const next = run?.progress === progress ? run.fetched.records[run.handedOut] : undefined;
    if (next !== undefined) return next.offset;
    const key = keyOf(progress);
    return this.#reader.positions().find((position) => keyOf(position) === key)!.offset;
  }

  /** Of each assigned partition: how far the group's commits, without a group the position, is behind. */
  lag(): PartitionLag[] {
    return this.assignment().map((at) => {
      const done = this.#hasGroup ? this.#reader.committed(at) : this.position(at);
      return { ...at, lag: Math.max(0, this.#reader.endOffset(at) - done) };
    });
  }

  /**
   * Ends the iteration, commits what is marked, leaves the group. What is in flight is not waited for:
   * it will come again, to whoever owns the partition then. Idempotent.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs; it goes on all the same
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.#close();
    await withDeadline(this.#clock, this.#closing, options.timeoutMs, 'close of the consumer');
  }

  async #close(): Promise<void> {
    this.#commits.stop();
    try {
      await this.#commits.commitMarked(this.#progress.values());
    } finally {
      await this.#reader.close();
      this.#progress.clear();
      this.#land();
      this.#events.closed();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

function notOwned({ topic, partition }: TopicPartition): OttlaError {
  return new OttlaError(
    'ILLEGAL_GENERATION',
    `${topic}-${partition} is not assigned to this consumer, or not without a break since`,
  );
}

function checkOffset(where: string, offset: unknown): void {
  const expected = positionCheck(offset);
  if (expected === null) return;
  const message = `${where}: expected ${expected}, got ${got(offset)}`;
  throw typeof offset === 'number' ? new RangeError(message) : new TypeError(message);
}
