import type { Clock, Timer } from '../clock.js';
import type { AppendWaiter } from '../partition-append.js';
import type { Partition } from '../partition.js';
import type { Peer } from './protocol/api.js';

/**
 * Waits for appends to some partitions, for a time, and no longer than there is somebody to answer who has
 * nothing else to ask: clients send heartbeats on the connection on which they fetch, too.
 */
export class FetchWait implements AppendWaiter {
  /** Nothing is waited for any more. */
  isOver = false;
  readonly #partitions: readonly Partition[];
  readonly #timer: Timer;
  readonly #peer: Peer;
  readonly #end = (): void => {
    this.isOver = true;
    this.wake();
  };
  #hasChanged = false;
  #resolve: (() => void) | null = null;

  constructor(partitions: readonly Partition[], clock: Clock, maxWaitMs: number, peer: Peer) {
    this.#partitions = partitions;
    this.#peer = peer;
    this.#timer = clock.after(maxWaitMs, this.#end);
    for (const partition of partitions) partition.notifyAppends(this);
    peer.onQueued = this.#end;
    peer.signal.addEventListener('abort', this.#end);
    if (peer.signal.aborted || peer.hasQueued) this.#end();
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
    this.#peer.onQueued = null;
    this.#peer.signal.removeEventListener('abort', this.#end);
    for (const partition of this.#partitions) partition.forget(this);
  }
}
