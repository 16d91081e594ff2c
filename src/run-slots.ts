import type { Clock, Timer } from './clock.js';

/** At most so many of something in any span of so long a time. */
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
  /** When the last `records` began: a ring, of which #oldest is the place of the first. */
  readonly #begun: number[] = [];
  #oldest = 0;
  #timer: Timer | null = null;

  constructor(clock: Clock, count: number, rate: RateLimit | null) {
    this.#clock = clock;
    this.#free = count;
    this.#rate = rate;
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
      if (this.#waitMs(this.#rate, now) > 0) return false;
      this.#begun[this.#oldest] = now;
      this.#oldest = (this.#oldest + 1) % this.#rate.records;
    }
    this.#free--;
    return true;
  }

  /** Until the rate lets one more begin. */
  #waitMs({ perMs }: RateLimit, now: number): number {
    const oldest = this.#begun[this.#oldest];
    return oldest === undefined ? 0 : Math.ceil(oldest + perMs - now);
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#tryTake()) this.#waiting.shift()!();
    if (this.#waiting.length === 0 || this.#free === 0 || this.#timer !== null) return;
    this.#timer = this.#clock.after(
      this.#waitMs(this.#rate!, this.#clock.monotonic()),
      () => {
        this.#timer = null;
        this.#serve();
      },
      true,
    );
  }
}
