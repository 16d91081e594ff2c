import { longestTimerMs, type Clock, type Timer } from './clock.js';
import type { Progress } from './consumer-commits.js';
import type { ConsumerRecord } from './consumer-record.js';
import type { RunContext } from './consumer-run-options.js';
import type { Task } from './run-lanes.js';
import type { RunProgress, Taken } from './run-progress.js';
import { onAbort } from './signal.js';

/** One partition in a run, as long as it is owned and not sought. */
export class RunPartition {
  readonly progress: Progress;
  readonly records: RunProgress;
  /** Whether its records come again, each when it is due. */
  readonly isRetry: boolean;
  /** Tasks that wait or run. */
  taskCount = 0;
  /** Records that are not due yet. */
  sleepingCount = 0;
  /** No more is read of it, since so much of it waits. */
  isFull = false;
  /** No handler begins any more. */
  isClosed = false;
  /** Resolves when handlers may begin; null: they may. */
  paused: Promise<void> | null = null;
  readonly #running = new Set<RunTask>();
  readonly #asleep = new Map<() => void, Timer>();
  #resume: () => void = () => undefined;
  #landed: (() => void)[] = [];

  constructor(progress: Progress, records: RunProgress, isRetry: boolean) {
    this.progress = progress;
    this.records = records;
    this.isRetry = isRetry;
  }

  pause(): void {
    this.paused ??= new Promise((resolve) => (this.#resume = resolve));
  }

  resume(): void {
    this.paused = null;
    this.#resume();
  }

  /** What has not begun never will: it comes again to whoever reads the partition next. */
  close(): void {
    this.isClosed = true;
    this.resume();
    for (const [wake, timer] of this.#asleep) {
      timer.cancel();
      wake();
    }
    this.#asleep.clear();
  }

  /** What is at work works in vain, and is not waited for. */
  abort(): void {
    this.close();
    for (const task of this.#running) task.abort();
    this.#land();
  }

  began(task: RunTask): void {
    this.#running.add(task);
  }

  ended(task: RunTask): void {
    this.#running.delete(task);
    if (this.#running.size === 0) this.#land();
  }

  #land(): void {
    for (const landed of this.#landed.splice(0)) landed();
  }

  /** Whether handlers are at work. */
  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  /** Resolves when no handler is at work that is not in vain, or the signal aborts. */
  async landing(signal: AbortSignal): Promise<void> {
    if (!this.isBusy || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const landed = (): void => {
        cancel();
        resolve();
      };
      const cancel = onAbort(signal, landed);
      this.#landed.push(landed);
    });
  }

  /** Resolves after `ms`, or when the partition is closed. */
  async sleep(clock: Clock, ms: number): Promise<void> {
    if (this.isClosed) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#asleep.delete(wake);
        resolve();
      };
      this.#asleep.set(wake, clock.after(Math.min(ms, longestTimerMs), wake, true));
    });
  }
}

/** What a task needs of its run. */
export interface TaskHost {
  /** Resolves when one more handler may be at work; undefined: it may. */
  takeSlot(): Promise<void> | undefined;
  freeSlot(): void;
  handlerBegan(task: RunTask): void;
  /** Calls the handler. @returns how many ms to wait before it is called again; -1: never. Never rejects. */
  handle(task: RunTask): Promise<number>;
  handlerEnded(task: RunTask): void;
  handlerAlive(task: RunTask): void;
  taskEnded(partition: RunPartition): void;
  sleep(partition: RunPartition, ms: number): Promise<void>;
}

/** A record, or a batch of them, on its way through the handler. */
export class RunTask implements Task, RunContext {
  readonly lane: string | null;
  readonly partition: RunPartition;
  readonly records: readonly ConsumerRecord[];
  readonly taken: readonly Taken[];
  readonly nextOffset: number;
  attempt: number;
  readonly #host: TaskHost;
  #controller: AbortController | null = null;
  #isAborted = false;

  constructor(
    host: TaskHost,
    lane: string | null,
    partition: RunPartition,
    records: readonly ConsumerRecord[],
    taken: readonly Taken[],
    nextOffset: number,
    attempts: number,
  ) {
    this.#host = host;
    this.lane = lane;
    this.partition = partition;
    this.records = records;
    this.taken = taken;
    this.nextOffset = nextOffset;
    this.attempt = attempts;
    partition.taskCount++;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isAborted) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.#isAborted = true;
    this.#controller?.abort();
  }

  get alive(): () => void {
    return () => this.#host.handlerAlive(this);
  }

  async run(): Promise<void> {
    const { partition } = this;
    const host = this.#host;
    for (let waitMs = 0; waitMs >= 0 && (await this.#begin());) {
      this.attempt++;
      host.handlerBegan(this);
      partition.began(this);
      waitMs = await host.handle(this);
      partition.ended(this);
      host.handlerEnded(this);
      host.freeSlot();
      if (waitMs > 0) await host.sleep(partition, waitMs);
    }
    partition.taskCount--;
    host.taskEnded(partition);
  }

  /** Waits until the handler may be called, and takes a slot. False: it may no more. */
  async #begin(): Promise<boolean> {
    const { partition } = this;
    for (;;) {
      if (partition.paused !== null) await partition.paused;
      if (partition.isClosed) return false;
      const waiting = this.#host.takeSlot();
      if (waiting === undefined) return true;
      await waiting;
      if (!partition.isClosed && partition.paused === null) return true;
      this.#host.freeSlot();
    }
  }
}
