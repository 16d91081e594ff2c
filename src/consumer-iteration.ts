import type { TopicPartition } from './assignment.js';
import type { Commits, Progress } from './consumer-commits.js';
import { invalidRecordIn, passOver, type InvalidRecord } from './consumer-invalid.js';
import {
  ConsumerBatch,
  type BatchOf,
  type ConsumerRecord,
  type RecordOf,
  type TransactionSource,
} from './consumer-record.js';
import type { Engine, Fetched, Reader } from './engine.js';
import type { TopicRef } from './serde.js';
import { onAbort } from './signal.js';

/** Records being handed out, and how many of them were. */
interface Run {
  readonly fetched: Fetched<ConsumerRecord>;
  readonly progress: Progress;
  /** Records before this one are processed. */
  marked: number;
  /** Records before this one are handed out. */
  handedOut: number;
  /** Its partition was paused: what is not marked when the iteration ends is fetched again, once resumed. */
  isCut: boolean;
}

export interface IterationOptions {
  readonly reader: Reader<ConsumerRecord>;
  readonly commits: Commits;
  readonly maxPollRecords: number;
  /** Resolves when the reader has been told what to read, or the consumer is closed. Throws nothing at once. */
  readonly join: () => Promise<void>;
  /** How far an owned partition is. */
  readonly progressOf: (at: TopicPartition) => Progress | undefined;
  /** Tells of a record that cannot be decoded. False: it is not to be passed over. */
  readonly passesOver: (invalid: InvalidRecord) => boolean;
  readonly commitBatch: (batch: Fetched<ConsumerRecord>) => Promise<void>;
  /** Gives a batch, whose first record has this offset, into a transaction. */
  readonly takeInto: (
    engine: Engine,
    batch: Fetched<ConsumerRecord>,
    base: number,
  ) => TransactionSource;
}

/** Hands a consumer's records out, to one iterator at a time, and marks those that are processed. */
export class Iteration<T extends TopicRef> {
  readonly #options: IterationOptions;
  #run: Run | null = null;
  #fetching: Promise<unknown> | null = null;
  /** Called when what is in flight is marked or given up. */
  #landed: (() => void) | null = null;
  /** Stands for the iterator in use. */
  #current: object | null = null;
  #isStopped = false;

  constructor(options: IterationOptions) {
    this.#options = options;
  }

  /** @throws TypeError if another iterator is in use */
  records(): AsyncGenerator<RecordOf<T>, undefined, undefined> {
    return this.#iterator((iteration) => this.#nextRecord(iteration));
  }

  /** @throws TypeError if another iterator is in use */
  batches(): AsyncGenerator<BatchOf<T>, undefined, undefined> {
    return this.#iterator((iteration) => this.#nextBatch(iteration));
  }

  #iterator<V>(
    next: (iteration: object) => Promise<IteratorResult<V, undefined>>,
  ): AsyncGenerator<V, undefined, undefined> {
    if (this.#current !== null) {
      throw new TypeError('this consumer is being iterated already: end that iteration first');
    }
    const iteration = {};
    this.#current = iteration;
    const finish = (): Promise<IteratorResult<V, undefined>> => {
      this.#end(iteration);
      return Promise.resolve({ value: undefined, done: true });
    };
    const iterator: AsyncGenerator<V, undefined, undefined> = {
      next: () => {
        if (this.#current !== iteration) return finish();
        if (this.#fetching !== null) {
          const again = (): Promise<IteratorResult<V, undefined>> => iterator.next();
          return this.#fetching.then(again, again);
        }
        try {
          return next(iteration);
        } catch (error) {
          this.#end(iteration);
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

  get isInUse(): boolean {
    return this.#current !== null;
  }

  /** Forgets what was fetched and not processed: it is fetched again. */
  rewind(): void {
    const run = this.#run;
    if (run === null) return;
    this.#run = null;
    const { topic, partition, processed, isLeaving } = run.progress;
    if (isLeaving) return;
    this.#options.reader.seek({ topic, partition, offset: processed });
  }

  /** What was handed out and is neither marked nor committed comes again. */
  #end(iteration: object): void {
    if (this.#current !== iteration) return;
    this.#current = null;
    const run = this.#run;
    if (run === null) return;
    this.#pass(run, run.handedOut, run.progress.processed);
    if (run.isCut) this.rewind();
    this.#land();
  }

  /** Of the first `count` records of a run, those before `offset` are processed, and none is in flight. */
  #pass(run: Run, count: number, offset: number): void {
    const { records, nextOffset } = run.fetched;
    while (run.marked < count && records[run.marked]!.offset < offset) run.marked++;
    run.handedOut = run.marked;
    if (run.marked === records.length) this.#options.commits.mark(run.progress, nextOffset);
  }

  #land(): void {
    const landed = this.#landed;
    this.#landed = null;
    landed?.();
  }

  #nextRecord(iteration: object): Promise<IteratorResult<RecordOf<T>, undefined>> {
    const run = this.#advance();
    if (run !== null) {
      const value = run.fetched.records[run.handedOut++] as RecordOf<T>;
      return Promise.resolve({ value, done: false });
    }
    return this.#fetch(iteration, (fetched) => {
      fetched.handedOut++;
      return fetched.fetched.records[0] as RecordOf<T>;
    });
  }

  #nextBatch(iteration: object): Promise<IteratorResult<BatchOf<T>, undefined>> {
    const run = this.#advance();
    if (run !== null) return Promise.resolve({ value: this.#rest(run), done: false });
    return this.#fetch(iteration, (fetched) => this.#rest(fetched));
  }

  /** All records of a run that are not handed out yet. */
  #rest(run: Run): BatchOf<T> {
    const { fetched } = run;
    const { records, topic, partition, baseOffset, nextOffset } = fetched;
    const rest = run.handedOut === 0 ? records : records.slice(run.handedOut);
    const base = run.handedOut === 0 ? baseOffset : rest[0]!.offset;
    run.handedOut = records.length;
    const commit = (): Promise<void> => this.#options.commitBatch(fetched);
    const takeInto = (engine: Engine): TransactionSource =>
      this.#options.takeInto(engine, fetched, base);
    const batch = new ConsumerBatch(topic, partition, base, nextOffset, rest, commit, takeInto);
    // The topic is one of T, and its format made the records.
    return batch as BatchOf<T>;
  }

  /** Marks what was handed out. @returns the run if it has more to hand out */
  #advance(): Run | null {
    const { reader, commits } = this.#options;
    reader.alive();
    const run = this.#run;
    if (run === null) return null;
    const { records, nextOffset } = run.fetched;
    if (run.handedOut > run.marked) {
      run.marked = run.handedOut;
      const isAll = run.marked === records.length;
      commits.mark(run.progress, isAll ? nextOffset : records[run.marked - 1]!.offset + 1);
      if (this.#landed !== null) this.#land();
    }
    if (run.handedOut < records.length && !run.progress.isLeaving) return run;
    this.#run = null;
    return null;
  }

  #fetch<V>(iteration: object, take: (run: Run) => V): Promise<IteratorResult<V, undefined>> {
    const fetching = this.#takeNext(iteration, take);
    this.#fetching = fetching;
    return fetching;
  }

  /**
   * Nothing comes between the making of a run and what is taken of it: a seek() drops it, or finds it taken.
   * What is fetched for an iterator that ended meanwhile is left to the next one.
   */
  async #takeNext<V>(
    iteration: object,
    take: (run: Run) => V,
  ): Promise<IteratorResult<V, undefined>> {
    try {
      await this.#options.join();
      while (!this.#isStopped) {
        const fetched = await this.#poll();
        if (fetched === null) break;
        const run = this.#begin(fetched);
        if (run === null) continue;
        if (this.#current !== iteration) break;
        return { value: take(run), done: false };
      }
      return { value: undefined, done: true };
    } catch (error) {
      this.#end(iteration);
      throw error;
    } finally {
      this.#fetching = null;
    }
  }

  /** @returns null if nothing of it is to be handed out */
  #begin(fetched: Fetched<ConsumerRecord>): Run | null {
    if (this.#isStopped) return null;
    const progress = this.#options.progressOf(fetched);
    if (progress === undefined || progress.ownership !== fetched.ownership) return null;
    if (progress.isLeaving) return null;
    if (fetched.records.length === 0) {
      this.#options.commits.mark(progress, fetched.nextOffset);
      return null;
    }
    this.#run = { fetched, progress, marked: 0, handedOut: 0, isCut: false };
    return this.#run;
  }

  async #poll(): Promise<Fetched<ConsumerRecord> | null> {
    const { reader, maxPollRecords, progressOf, passesOver: mayPass } = this.#options;
    try {
      return reader.pollNow(maxPollRecords) ?? (await reader.poll(maxPollRecords, null));
    } catch (error) {
      const invalid = invalidRecordIn(error);
      const progress = invalid === null ? undefined : progressOf(invalid);
      if (invalid === null || progress === undefined || !mayPass(invalid)) throw error;
      return passOver(reader, invalid, progress.ownership);
    }
  }

  /** Whether records of a partition that is being given up are handed out and not yet marked. */
  get isLeavingInFlight(): boolean {
    const run = this.#run;
    return run !== null && run.progress.isLeaving && run.handedOut > run.marked;
  }

  /** Resolves when what is in flight is marked or given up, or the signal aborts. */
  landing(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#landed;
      const done = (): void => {
        cancel();
        before?.();
        resolve();
      };
      this.#landed = done;
      const cancel = onAbort(signal, done);
    });
  }

  /** All before `offset` was committed: what is not handed out of it never will be. */
  committed(progress: Progress, offset: number): void {
    const run = this.#run;
    if (run?.progress !== progress || run.handedOut > run.marked) return;
    this.#pass(run, run.fetched.records.length, offset);
  }

  /**
   * The transaction with a batch of these has ended. Committed, they are processed; else none of what is in
   * flight of their partition is marked.
   */
  settle(progress: Progress, fetched: Fetched<ConsumerRecord>, isCommitted: boolean): void {
    const run = this.#run;
    if (isCommitted && run?.fetched === fetched) run.marked = run.handedOut;
    else if (run?.progress === progress) this.#run = null;
    this.#land();
  }

  /** The next offset to hand out of what was fetched; undefined: none was fetched of this partition. */
  nextOffset(progress: Progress): number | undefined {
    const run = this.#run;
    return run?.progress === progress ? run.fetched.records[run.handedOut]?.offset : undefined;
  }

  /** Hands out nothing more of what was fetched from this partition, and marks none of it. */
  drop(progress: Progress): void {
    if (this.#run?.progress !== progress) return;
    this.#run = null;
    this.#land();
  }

  /** As drop(), but what is in flight stays so. @returns the first offset that was not handed out */
  cut(progress: Progress): number | undefined {
    const run = this.#run;
    if (run?.progress !== progress) return undefined;
    run.isCut = true;
    const nextOffset = this.nextOffset(progress);
    if (nextOffset === undefined) return undefined;
    const records = run.fetched.records.slice(0, run.handedOut);
    this.#run = { ...run, fetched: { ...run.fetched, records, nextOffset } };
    return nextOffset;
  }

  /** The iterator in use ends, and nothing is handed out any more. */
  stop(): void {
    this.#isStopped = true;
    this.#current = null;
    // What is in flight will never be marked.
    this.#land();
  }
}
