import type { Clock, Timer } from '../clock.js';
import type { AppendWaiter } from '../partition-append.js';
import type { Partition } from '../partition.js';

/** Waits for appends to some partitions, for a time, and as long as there is somebody to answer. */
export class FetchWait implements AppendWaiter {
  /** The time is up, or nobody waits for the answer. */
  isOver = false;
  readonly #partitions: readonly Partition[];
  readonly #timer: Timer;
  readonly #signal: AbortSignal;
  readonly #end = (): void => {
    this.isOver = true;
    this.wake();
  };
  #hasChanged = false;
  #resolve: (() => void) | null = null;

  constructor(
    partitions: readonly Partition[],
    clock: Clock,
    maxWaitMs: number,
    signal: AbortSignal,
  ) {
    this.#partitions = partitions;
    this.#signal = signal;
    this.#timer = clock.after(maxWaitMs, this.#end);
    for (const partition of partitions) partition.notifyAppends(this);
    signal.addEventListener('abort', this.#end);
    if (signal.aborted) this.#end();
  }

  /** Resolves once something came since the last time, or it is over. */
  async change(): Promise<void> {
    if (!this.#hasChanged && !this.isOver) {
      await new Promise<void>((resolve) => (this.#resolve = resolve));
    }
    this.#hasChanged = false;
  }

  wake(): void {
    this.#hasChanged = true;
    this.#resolve?.();
    this.#resolve = null;
  }

  /** To be called in the end. */
  stop(): void {
    this.#timer.cancel();
    this.#signal.removeEventListener('abort', this.#end);
    for (const partition of this.#partitions) partition.forget(this);
  }
}
