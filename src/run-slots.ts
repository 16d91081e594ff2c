import type { Clock, Timer } from './clock.js';

/** At most so many of something in so long a time. */
export interface RateLimit {
  readonly records: number;
  readonly perMs: number;
}

/** Bounds how many handlers run at once, and how many begin in a span of time. First come, first served. */
export class Slots {
  readonly #clock: Clock;
  readonly #rate: RateLimit | null;
  readonly #waiting: (() => void)[] = [];
  #free: number;
  /** Beginnings that the rate still allows at #countedAt. */
  #allowance: number;
  #countedAt: number;
  #timer: Timer | null = null;

  constructor(clock: Clock, count: number, rate: RateLimit | null) {
    this.#clock = clock;
    this.#free = count;
    this.#rate = rate;
    this.#allowance = rate?.records ?? Infinity;
    this.#countedAt = clock.monotonic();
  }

  /** Resolves when a slot is taken; undefined: one was taken at once. */
  take(): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#tryTake()) return undefined;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#serve();
    });
  }

  free(): void {
    this.#free++;
    this.#serve();
  }

  /** Nothing begins any more: who waits is let go at once. */
  close(): void {
    this.#timer?.cancel();
    for (const letGo of this.#waiting.splice(0)) letGo();
  }

  #tryTake(): boolean {
    if (this.#free === 0) return false;
    if (this.#rate !== null) {
      const now = this.#clock.monotonic();
      const { records, perMs } = this.#rate;
      const grown = ((now - this.#countedAt) / perMs) * records;
      this.#allowance = Math.min(records, this.#allowance + grown);
      this.#countedAt = now;
      if (this.#allowance < 1) return false;
      this.#allowance--;
    }
    this.#free--;
    return true;
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#tryTake()) this.#waiting.shift()!();
    if (this.#waiting.length === 0 || this.#free === 0 || this.#timer !== null) return;
    const { records, perMs } = this.#rate!;
    const waitMs = Math.max(1, Math.ceil(((1 - this.#allowance) * perMs) / records));
    this.#timer = this.#clock.after(
      waitMs,
      () => {
        this.#timer = null;
        this.#serve();
      },
      true,
    );
  }
}
