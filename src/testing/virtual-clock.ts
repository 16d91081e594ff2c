import { systemClock, type Clock, type Timer } from '../clock.js';

interface Due {
  readonly at: number;
  /** Tells those of one time apart: first made, first run. */
  readonly order: number;
  readonly keepAlive: boolean;
  readonly run: () => void;
}

/** Where the time begins. */
export interface VirtualClockOptions {
  /** What `now()` begins with, in ms since 1970. @default 1,700,000,000,000 ms, in November 2023 */
  readonly startMs?: number;
}

/**
 * A clock that moves only when told, for `Ottla.memory({ clock })`: linger, intervals between commits,
 * maxPollIntervalMs, retention, retries and deadlines all wait for it. The end of a turn is a real one, so
 * that promises settle as ever.
 */
export class VirtualClock implements Clock {
  readonly #startMs: number;
  readonly #timers = new Set<Due>();
  #pendingSoon = 0;
  #ms = 0;
  #made = 0;

  /** A clock at `startMs`. @throws RangeError if that is no time */
  constructor(options: VirtualClockOptions = {}) {
    const { startMs = 1_700_000_000_000 } = options;
    if (!Number.isSafeInteger(startMs) || startMs < 0) {
      throw new RangeError(`VirtualClock: startMs: expected ms since 1970, got ${String(startMs)}`);
    }
    this.#startMs = startMs;
  }

  /** Wall clock in ms since 1970. */
  now(): number {
    return this.#startMs + this.#ms;
  }

  /** Ms that have passed in it. */
  monotonic(): number {
    return this.#ms;
  }

  /** Runs once when `ms` more have passed in it. */
  after(ms: number, run: () => void, keepAlive = false): Timer {
    const due = { at: this.#ms + ms, order: this.#made++, keepAlive, run };
    this.#timers.add(due);
    return { cancel: () => void this.#timers.delete(due) };
  }

  /** Runs at the end of this turn of the event loop, a real one. */
  soon(run: () => void): void {
    this.#pendingSoon++;
    systemClock.soon(() => {
      this.#pendingSoon--;
      run();
    });
  }

  /** Timers that wait for their time. */
  get timerCount(): number {
    return this.#timers.size;
  }

  /** Timers that would keep a process alive. */
  get keepAliveCount(): number {
    return [...this.#timers].filter(({ keepAlive }) => keepAlive).length;
  }

  /** Resolves after `ms` of this clock: what a handler under test waits for. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /** Resolves when what was under way has come to rest: nothing goes on before the time does. */
  async settle(): Promise<void> {
    let quietTurns = 0;
    while (quietTurns < 3) {
      quietTurns = this.#pendingSoon === 0 ? quietTurns + 1 : 0;
      await new Promise<void>((resolve) => systemClock.soon(resolve));
    }
  }

  /** Moves on by `ms`, running each timer at its time and letting things settle after each. */
  async advance(ms: number): Promise<void> {
    checkMs('advance', ms);
    await this.settle();
    const end = this.#ms + ms;
    while (await this.#runNext(end));
    this.#ms = end;
  }

  /**
   * Moves from timer to timer until a promise has settled, and settles as it does.
   * @param withinMs for so long in it at the most: a day, if it is not given
   * @throws Error if it waits for something that no timer will bring; RangeError
   */
  async runUntil<T>(promise: Promise<T>, withinMs: number = 86_400_000): Promise<T> {
    checkMs('runUntil', withinMs);
    const end = this.#ms + withinMs;
    const state = { isPending: true };
    const settled = (): void => void (state.isPending = false);
    promise.then(settled, settled);
    await this.settle();
    while (state.isPending) {
      if (await this.#runNext(end)) continue;
      const why =
        this.timerCount === 0
          ? 'and no timer is left to run'
          : `after ${withinMs} ms of this clock`;
      throw new Error(`runUntil: the promise is pending, ${why}`);
    }
    return promise;
  }

  /** Runs the first timer due by `end`, and lets things settle. False: there is none. */
  async #runNext(end: number): Promise<boolean> {
    let next: Due | undefined;
    for (const due of this.#timers) {
      const isEarlier =
        next === undefined || due.at < next.at || (due.at === next.at && due.order < next.order);
      if (due.at <= end && isEarlier) next = due;
    }
    if (next === undefined) return false;
    this.#timers.delete(next);
    this.#ms = Math.max(this.#ms, next.at);
    next.run();
    await this.settle();
    return true;
  }
}

function checkMs(where: string, ms: unknown): void {
  if (typeof ms === 'number' && ms >= 0) return;
  throw new RangeError(`${where}: expected ms, 0 or more, got ${String(ms)}`);
}
