import { keyOf, type TopicPartition } from './assignment.js';
import { withDeadline, type Clock } from './clock.js';
import type { Commits, Progress } from './consumer-commits.js';
import type { HandOver } from './consumer-hand-over.js';
import { invalidRecordIn, passOver, type InvalidRecord } from './consumer-invalid.js';
import type { ConsumerEvents } from './consumer-options.js';
import { letterOf, readRaw, type LetterKind } from './consumer-letters.js';
import { ConsumerBatch, type ConsumerRecord } from './consumer-record.js';
import { RetriedRecord, type Retry } from './consumer-retried.js';
import type { CheckedRunOptions } from './consumer-run-options.js';
import { RunPartition, RunTask, type TaskHost } from './consumer-run-task.js';
import type { Engine, Fetched, Reader } from './engine.js';
import { OttlaError, inWords, isOttlaError, type RecordPlace } from './errors.js';
import { Lanes } from './run-lanes.js';
import { RunProgress, type Taken } from './run-progress.js';
import { Slots } from './run-slots.js';
import { onAbort } from './signal.js';

export interface RunDependencies {
  readonly engine: Engine;
  readonly group: string | null;
  readonly reader: Reader<ConsumerRecord>;
  readonly commits: Commits;
  readonly clock: Clock;
  readonly maxPollRecords: number;
  /** Resolves when the reader has been told what to read. */
  readonly join: () => Promise<void>;
  readonly progressOf: (at: TopicPartition) => Progress | undefined;
  readonly handOver: HandOver;
  /** Tells of a record that cannot be decoded. False: it is not to be passed over. */
  readonly passesOver: (invalid: InvalidRecord) => boolean;
  /** Tells of a partition that was paused. */
  readonly failed: (error: OttlaError) => void;
  readonly beforeHandler: ConsumerEvents['beforeHandler'];
}

/** Calls a handler for a consumer's records, until it is stopped or a record fails for good. */
export class Run implements TaskHost {
  readonly #options: CheckedRunOptions;
  readonly #with: RunDependencies;
  readonly #partitions = new Map<Progress, RunPartition>();
  readonly #lanes: Lanes<RunTask>;
  readonly #slots: Slots;
  /** Handlers at work, of lost partitions too; the one that was heard of longest ago is the first. */
  readonly #running = new Set<RunTask>();
  readonly #stopping = new AbortController();
  #isAborted = false;
  #failure: { readonly error: unknown } | null = null;
  #settled: () => void = () => undefined;
  /** Settles when no handler is at work any more, but for lost partitions, and what is finished is committed. */
  readonly done: Promise<void>;

  constructor(options: CheckedRunOptions, dependencies: RunDependencies) {
    this.#options = options;
    this.#with = dependencies;
    this.#lanes = new Lanes(() => {
      if (this.#lanes.count === 0) dependencies.commits.commitNow();
      this.#settled();
    });
    this.#slots = new Slots(dependencies.clock, options.max, options.rateLimit);
    const { signal } = options;
    const cancel = signal && onAbort(signal, () => this.stop());
    if (signal?.aborted === true) this.stop();
    this.done = this.#run().finally(cancel);
  }

  /** Whether a handler is at work: then waiting for records is no sign of life. */
  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  /** Nothing more begins; what is at work is waited for. */
  stop(): void {
    this.#stopping.abort();
    for (const partition of this.#partitions.values()) partition.close();
    this.#slots.close();
    this.#settled();
  }

  /** As stop(), and waits for nothing: what is at work works in vain. */
  abort(): void {
    this.#isAborted = true;
    this.stop();
    for (const partition of this.#partitions.values()) partition.abort();
  }

  /** As stop(), and resolves when the run has ended; what is still at work after `timeoutMs` is aborted. */
  async end(timeoutMs: number | undefined): Promise<void> {
    this.stop();
    const done = this.done.catch(() => undefined);
    await withDeadline(this.#with.clock, done, timeoutMs, 'run').catch(() => this.abort());
  }

  async #run(): Promise<void> {
    try {
      await this.#with.join();
      await this.#feed();
    } catch (error) {
      this.#fail(error);
    }
    this.stop();
    while (this.#isAtWork && !this.#isAborted) await this.#change();
    if (!this.#isAborted) await this.#leaveOff();
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Whether anything is not done yet; what works for a lost partition works in vain, and is not waited for. */
  get #isAtWork(): boolean {
    for (const { taskCount } of this.#partitions.values()) if (taskCount > 0) return true;
    return false;
  }

  /** Commits what is finished, and leaves the rest to who reads on. */
  async #leaveOff(): Promise<void> {
    const { reader, commits } = this.#with;
    const list = [...this.#partitions.values()].filter(({ progress }) => !progress.isLeaving);
    for (const { progress, records, isFull } of list) {
      const { topic, partition } = progress;
      reader.seek({ topic, partition, offset: records.offset });
      if (isFull) reader.resume([progress]);
    }
    await commits.commitMarked(list.map(({ progress }) => progress));
    for (const { progress } of list) {
      // Whoever marks from now on does so in order: this says nothing about it.
      progress.beyond = null;
      progress.isSought = false;
    }
  }

  async #feed(): Promise<void> {
    const { reader, maxPollRecords } = this.#with;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const room = this.#room;
      if (room <= 0) {
        await this.#change();
        continue;
      }
      if (!this.isBusy) reader.alive();
      const count =
        this.#options.eachBatch === null ? Math.min(room, maxPollRecords) : maxPollRecords;
      try {
        const fetched = reader.pollNow(count) ?? (await reader.poll(count, signal));
        if (fetched === null) return;
        this.#take(fetched);
      } catch (error) {
        await this.#pass(error);
      }
    }
  }

  /**
   * Puts a record aside that cannot be decoded, passes over it, or pauses its partition.
   * @throws what is no such error
   */
  async #pass(error: unknown): Promise<void> {
    const { reader, progressOf, passesOver, failed } = this.#with;
    const { deadLetter } = this.#options;
    const invalid = invalidRecordIn(error);
    const progress = invalid === null ? undefined : progressOf(invalid);
    if (invalid === null || progress === undefined) throw error;
    const partition = this.#partitionOf(progress);
    if (!partition.records.wasFinished(invalid.offset)) {
      if (deadLetter !== null) {
        const taken = [partition.records.take(invalid.offset)];
        await this.#handOver('dlq', deadLetter, partition, taken, invalid.error, 0);
      } else if (!passesOver(invalid)) {
        reader.pause([invalid]);
        failed(invalid.error);
        return;
      }
    }
    if (progressOf(invalid) === progress) this.#take(passOver(reader, invalid, progress.ownership));
  }

  /** Records, or batches, that may be taken over: enough to keep all handlers at work. */
  get #room(): number {
    const { max, eachBatch } = this.#options;
    let waiting = this.#lanes.count;
    for (const { paused, isRetry, taskCount } of this.#partitions.values()) {
      if (paused !== null || isRetry) waiting -= taskCount;
    }
    const most = eachBatch === null ? Math.max(this.#with.maxPollRecords, max * 2) : max * 2;
    return most - waiting;
  }

  /** Resolves when a task has settled, or the run is stopped. */
  #change(): Promise<void> {
    return new Promise((resolve) => (this.#settled = resolve));
  }

  #take(fetched: Fetched<ConsumerRecord>): void {
    const progress = this.#with.progressOf(fetched);
    if (progress === undefined || progress.ownership !== fetched.ownership) return;
    if (progress.isLeaving) return;
    if (this.#stopping.signal.aborted) {
      this.#with.reader.seek({ ...fetched, offset: fetched.baseOffset });
      return;
    }
    const partition = this.#partitionOf(progress);
    const all = fetched.records.map((record) => partition.records.take(offsetOf(record)));
    partition.records.pass(fetched.nextOffset);

    if (this.#options.eachBatch !== null) {
      const records = fetched.records.filter((_record, i) => open(all[i]!));
      if (records.length > 0) this.#add(partition, records, all.filter(open), fetched.nextOffset);
    } else {
      for (const [i, record] of fetched.records.entries()) {
        if (!open(all[i]!)) continue;
        const retry = RetriedRecord.retryOf(record);
        if (retry !== null) this.#addLater(partition, record, all[i]!, retry);
        else this.#add(partition, [record], [all[i]!], record.offset + 1);
      }
    }
    this.#bound(partition);
    this.#with.commits.mark(progress, partition.records.offset);
  }

  /** Once it is due, unless it is another group's. */
  #addLater(
    partition: RunPartition,
    record: ConsumerRecord,
    taken: Taken,
    { group, attempts, dueMs, offset }: Retry,
  ): void {
    const { clock } = this.#with;
    if (group !== this.#with.group) {
      partition.records.finish(taken);
      return;
    }
    const begin = (): void => {
      partition.sleepingCount--;
      if (!partition.isClosed) this.#add(partition, [record], [taken], offset + 1, attempts);
    };
    partition.sleepingCount++;
    const waitMs = dueMs - clock.now();
    if (waitMs > 0) void partition.sleep(clock, waitMs).then(begin);
    else begin();
  }

  /** Of a retry topic no more is read while many of its records wait: others are read all the same. */
  #bound(partition: RunPartition): void {
    const { reader, maxPollRecords } = this.#with;
    const { progress, isRetry, isClosed, taskCount, sleepingCount } = partition;
    const isFull = taskCount + sleepingCount >= maxPollRecords;
    if (!isRetry || isClosed || isFull === partition.isFull) return;
    partition.isFull = isFull;
    if (isFull) reader.pause([progress]);
    else if (partition.paused === null) reader.resume([progress]);
  }

  taskEnded(partition: RunPartition): void {
    this.#bound(partition);
  }

  #add(
    partition: RunPartition,
    records: readonly ConsumerRecord[],
    taken: readonly Taken[],
    nextOffset: number,
    attempts = 0,
  ): void {
    const lane = this.#options.by === 'key' ? laneOfKey(records[0]!) : keyOf(records[0]!);
    this.#lanes.add(new RunTask(this, lane, partition, records, taken, nextOffset, attempts));
  }

  #partitionOf(progress: Progress): RunPartition {
    let partition = this.#partitions.get(progress);
    if (partition === undefined) {
      const committed = this.#with.reader.committed(progress);
      const isThere = committed?.offset === progress.processed && !progress.isSought;
      progress.beyond = new RunProgress(progress.processed, isThere ? committed.metadata : '');
      const isRetry = progress.topic === this.#options.retry.topic;
      partition = new RunPartition(progress, progress.beyond, isRetry);
      this.#partitions.set(progress, partition);
    }
    return partition;
  }

  takeSlot(): Promise<void> | undefined {
    return this.#slots.take();
  }

  freeSlot(): void {
    this.#slots.free();
  }

  handlerBegan(task: RunTask): void {
    this.#running.add(task);
  }

  handlerEnded(task: RunTask): void {
    // Only the end of the oldest is a sign of life: one that hangs is not hidden by others.
    const [oldest] = this.#running;
    if (oldest === task) this.#with.reader.alive();
    this.#running.delete(task);
  }

  handlerAlive(task: RunTask): void {
    const [oldest] = this.#running;
    if (oldest === task) this.#with.reader.alive();
    if (this.#running.delete(task)) this.#running.add(task);
  }

  sleep(partition: RunPartition, ms: number): Promise<void> {
    return partition.sleep(this.#with.clock, ms);
  }

  async handle(task: RunTask): Promise<number> {
    const { beforeHandler, group } = this.#with;
    try {
      if (beforeHandler !== undefined) await beforeHandler(group, task.partition.progress);
      await this.#call(task);
    } catch (error) {
      if (task.partition.isClosed) return -1;
      try {
        return await this.#meetFailure(task, error);
      } catch (failure) {
        if (!task.partition.isClosed) this.#fail(failure);
        return -1;
      }
    }
    this.#finish(task);
    return -1;
  }

  #call(task: RunTask): unknown {
    const { eachRecord, eachBatch } = this.#options;
    const { records, nextOffset } = task;
    const [first] = records;
    if (eachRecord !== null) return eachRecord(first!, task);
    const { topic, partition, offset } = first!;
    const batch = new ConsumerBatch(topic, partition, offset, nextOffset, records, refuseCommit);
    return eachBatch!(batch as never, task);
  }

  /**
   * @returns how many ms to wait before the next call; -1: there is none, or it comes by way of the retry topic
   * @throws the handler's error if there is nowhere to put the record
   */
  async #meetFailure({ partition, taken, attempt }: RunTask, error: unknown): Promise<number> {
    const { retry, deadLetter } = this.#options;
    if (attempt < retry.attempts && retry.isRetryable(error)) {
      const waitMs = retry.backoffMs(attempt);
      if (retry.topic === null) return waitMs;
      await this.#handOver('retry', retry.topic, partition, taken, error, attempt, waitMs);
    } else {
      if (deadLetter === null) throw error;
      await this.#handOver('dlq', deadLetter, partition, taken, error, attempt);
    }
    return -1;
  }

  /** Writes letters for records, which finishes them; nothing where their partition is lost or sought meanwhile. */
  async #handOver(
    kind: LetterKind,
    topic: string,
    partition: RunPartition,
    taken: readonly Taken[],
    error: unknown,
    attempts: number,
    waitMs = 0,
  ): Promise<void> {
    const { engine, clock, group, handOver, failed } = this.#with;
    const { progress, records } = partition;
    const letters = [];
    for (const { offset } of taken) {
      const at: RecordPlace = { topic: progress.topic, partition: progress.partition, offset };
      const raw = await readRaw(engine, at);
      if (raw === null) {
        failed(withoutLetter(at, topic, error));
        continue;
      }
      const due = kind === 'retry' ? { dueMs: clock.now() + waitMs } : {};
      letters.push(letterOf(kind, at, raw, { group, attempts, error, ...due }));
    }
    const isDone = await handOver.add({ topic, letters, progress, records, taken });
    if (isDone && progress.beyond === records) this.#with.commits.mark(progress, records.offset);
  }

  #finish({ partition, taken }: RunTask): void {
    const { progress, records } = partition;
    for (const one of taken) records.finish(one);
    if (progress.beyond === records) this.#with.commits.mark(progress, records.offset);
  }

  #fail(error: unknown): void {
    // What is aborted works in vain, and fails in vain.
    if (!this.#isAborted) this.#failure ??= { error };
    this.stop();
  }

  /** Partitions are being given up: nothing of them begins any more. */
  leaving(list: readonly Progress[]): RunPartition[] {
    const partitions = list.flatMap((progress) => this.#partitions.get(progress) ?? []);
    for (const partition of partitions) partition.close();
    return partitions;
  }

  /** What was read of it is void: it is sought, given up or lost. */
  drop(progress: Progress): void {
    const partition = this.#partitions.get(progress);
    if (partition === undefined) return;
    this.#partitions.delete(progress);
    progress.beyond = null;
    if (partition.isFull && !progress.isLeaving) this.#with.reader.resume([progress]);
    partition.abort();
    this.#settled();
  }

  pause(progress: Progress): void {
    this.#partitions.get(progress)?.pause();
  }

  resume(progress: Progress): void {
    this.#partitions.get(progress)?.resume();
    this.#settled();
  }
}

/** What is told of a run that nobody awaits. */
export function failedRun(error: unknown): OttlaError {
  if (isOttlaError(error)) return error;
  const message = `run() has ended: its handler, or an option of it, failed: ${inWords(error)}`;
  return new OttlaError('UNKNOWN_SERVER_ERROR', message, { cause: error });
}

function withoutLetter(at: RecordPlace, topic: string, error: unknown): OttlaError {
  const message = `${at.topic}-${at.partition}: the log no longer has the record at offset ${at.offset}, which failed: ${inWords(error)}; ${topic} gets nothing of it`;
  return new OttlaError('OFFSET_OUT_OF_RANGE', message, { cause: error, at });
}

/** Where it lies. */
function offsetOf(record: ConsumerRecord): number {
  return RetriedRecord.retryOf(record)?.offset ?? record.offset;
}

function open({ isFinished }: Taken): boolean {
  return !isFinished;
}

/** The same for the same bytes of a key; null without one. */
function laneOfKey(record: ConsumerRecord): string | null {
  const { key } = record;
  if (key === null) return null;
  return `${keyOf(record)}/${typeof key === 'string' ? key : textOf(key)}`;
}

function textOf(key: unknown): string {
  if (key instanceof Uint8Array)
    return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');
  try {
    return JSON.stringify(key) ?? String(key);
  } catch {
    // Bigints, cycles: they share a lane, which keeps every order.
    return '';
  }
}

function refuseCommit(): never {
  throw new TypeError('run() commits by itself: a batch in it has no commit');
}
