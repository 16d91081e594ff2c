import { setImmediate as turn } from 'node:timers/promises';
import type { Clock, Timer } from '../src/index.js';

interface Due {
  readonly at: number;
  /** Tells those of one time apart: first made, first run. */
  readonly order: number;
  readonly keepAlive: boolean;
  readonly run: () => void;
}

/**
 * A clock that moves only when told. The end of a turn is a real one, so that I/O goes on as ever;
 * with `queued` it comes when settle() is called, and at no other time.
 */
export class ManualClock implements Clock {
  readonly #queued: boolean;
  readonly #timers = new Set<Due>();
  #soon: (() => void)[] = [];
  #pendingSoon = 0;
  #ms = 0;
  #made = 0;

  constructor(options: { readonly queued?: boolean } = {}) {
    this.#queued = options.queued ?? false;
  }

  now(): number {
    return 1_700_000_000_000 + this.#ms;
  }

  monotonic(): number {
    return this.#ms;
  }

  after(ms: number, run: () => void, keepAlive = false): Timer {
    const due = { at: this.#ms + ms, order: this.#made++, keepAlive, run };
    this.#timers.add(due);
    return { cancel: () => void this.#timers.delete(due) };
  }

  soon(run: () => void): void {
    this.#pendingSoon++;
    const running = (): void => {
      this.#pendingSoon--;
      run();
    };
    if (this.#queued) this.#soon.push(running);
    else void turn().then(running);
  }

  /** Timers that wait for their time. */
  get timerCount(): number {
    return this.#timers.size;
  }

  /** Timers that would keep a process alive. */
  get keepAliveCount(): number {
    return [...this.#timers].filter(({ keepAlive }) => keepAlive).length;
  }

  /** How long until the next timer is due; Infinity if there is none. */
  get msToNext(): number {
    return Math.max(0, Math.min(...[...this.#timers].map(({ at }) => at)) - this.#ms);
  }

  /** Ends turns until nothing waits for one, and lets what was under way come to rest. */
  async settle(): Promise<void> {
    let quietTurns = 0;
    while (quietTurns < 3) {
      quietTurns = this.#pendingSoon === 0 ? quietTurns + 1 : 0;
      this.endTurn();
      await turn();
    }
  }

  /** Runs what waits for the end of this turn, if turns are queued. */
  endTurn(): void {
    const due = this.#soon;
    this.#soon = [];
    for (const run of due) run();
  }

  /** Moves on by `ms`, running each timer at its time and letting things settle after each. */
  async advance(ms: number): Promise<void> {
    await this.settle();
    const end = this.#ms + ms;
    for (;;) {
      const next = [...this.#timers]
        .filter(({ at }) => at <= end)
        .toSorted((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#ms = Math.max(this.#ms, next.at);
      next.run();
      await this.settle();
    }
    this.#ms = end;
  }
}
