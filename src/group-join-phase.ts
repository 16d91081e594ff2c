import type { Clock, Timer } from './clock.js';

/** When the join phase of a rebalance may end, and when it must. */
export class JoinPhase {
  readonly #clock: Clock;
  readonly #tryToEnd: () => void;
  readonly #end: () => void;
  #hold: Timer | null = null;
  #deadline: Timer | null = null;
  #isHeld = false;
  #hasNewcomer = false;

  /**
   * @param tryToEnd called when it may end, if all have joined
   * @param end called when it must
   */
  constructor(clock: Clock, tryToEnd: () => void, end: () => void) {
    this.#clock = clock;
    this.#tryToEnd = tryToEnd;
    this.#end = end;
  }

  /** It must not end yet, even if all have joined. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** It must end within this time. */
  within(ms: number): void {
    this.#deadline = this.#clock.after(ms, this.#end);
  }

  /** Joins of one turn are of one generation. */
  holdForTurn(): void {
    let isCancelled = false;
    this.#hold?.cancel();
    this.#hold = { cancel: () => (isCancelled = true) };
    this.#isHeld = true;
    this.#clock.soon(() => {
      if (isCancelled) return;
      this.#isHeld = false;
      this.#tryToEnd();
    });
  }

  /** As Kafka begins with an empty group: for `delayMs`, and as long again if somebody came, up to `leftMs`. */
  holdForOthers(delayMs: number, leftMs: number): void {
    const ms = Math.min(delayMs, leftMs);
    this.#isHeld = true;
    this.#hasNewcomer = false;
    this.#hold = this.#clock.after(ms, () => {
      if (this.#hasNewcomer && leftMs > ms) this.holdForOthers(delayMs, leftMs - ms);
      else this.#end();
    });
  }

  newcomer(): void {
    this.#hasNewcomer = true;
  }

  /** It has ended. */
  stop(): void {
    this.#deadline?.cancel();
    this.#hold?.cancel();
    this.#isHeld = false;
  }
}
