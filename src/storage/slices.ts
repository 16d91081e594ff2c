import type { Clock } from '../clock.js';
import { OttlaError } from '../errors.js';

const sliceMs = 2;

/** Long work in slices of 2 ms, so that the host stays responsive, until it is told to end. */
export class Slices {
  readonly clock: Clock;
  readonly #what: string;
  readonly #signal: AbortSignal | undefined;
  #isStopped = false;
  #end: number;

  /** @param what named by the error when it is aborted */
  constructor(clock: Clock, what: string, signal?: AbortSignal) {
    this.clock = clock;
    this.#what = what;
    this.#signal = signal;
    this.#end = clock.monotonic() + sliceMs;
    this.refuseAborted();
  }

  /** Whether it is time for next(). */
  get isOver(): boolean {
    return this.clock.monotonic() >= this.#end;
  }

  /** Lets the host's other work have its turn. @throws ABORTED */
  async next(): Promise<void> {
    await new Promise<void>((resolve) => this.clock.soon(resolve));
    this.refuseAborted();
    this.#end = this.clock.monotonic() + sliceMs;
  }

  /** To be awaited between two pieces of work: next(), if it is time. @throws ABORTED */
  async turn(): Promise<void> {
    this.refuseAborted();
    if (this.isOver) await this.next();
  }

  /** Ends the work at its next turn. */
  stop(): void {
    this.#isStopped = true;
  }

  /** @throws ABORTED once stopped, or the signal has aborted */
  refuseAborted(): void {
    if (!this.#isStopped && this.#signal?.aborted !== true) return;
    throw new OttlaError('ABORTED', `${this.#what} was aborted`, { cause: this.#signal?.reason });
  }
}
