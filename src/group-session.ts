import { longestTimerMs, type Clock, type Timer } from './clock.js';

/** The time within which a member must be heard of. */
export class Session {
  readonly #clock: Clock;
  readonly #expired: () => void;
  #timer: Timer | null = null;
  #end = 0;

  /** @param expired called when it is over; it may begin anew */
  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** It ends so late from now. A timer that is due too early is set again, so that a heartbeat costs none. */
  extend(ms: number): void {
    const end = this.#clock.monotonic() + ms;
    const isSooner = end < this.#end;
    this.#end = end;
    if (isSooner) this.stop();
    if (this.#timer === null) this.#watch(ms);
  }

  #watch(ms: number): void {
    this.#timer = this.#clock.after(Math.min(ms, longestTimerMs), () => {
      const left = this.#end - this.#clock.monotonic();
      if (left > 0) {
        this.#watch(left);
        return;
      }
      this.#timer = null;
      this.#expired();
    });
  }

  /** It is watched no more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
