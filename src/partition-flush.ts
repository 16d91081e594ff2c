import type { Clock, Timer } from './clock.js';
import type { TopicSettings } from './options.js';

/** The longest timer that Node keeps. */
const maxTimerMs = 2 ** 31 - 1;

/** When a log is synced although nobody waits for it: Kafka's flush.messages and flush.ms. */
export class FlushInterval {
  /** Whether a sync must begin for what was appended. */
  isDue: boolean = false;
  readonly #clock: Clock;
  readonly #onDue: () => void;
  #recordCount = 0;
  #timer: Timer | null = null;

  /** @param onDue called when time has made it due */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  appended(recordCount: number, { flushMessages, flushMs }: TopicSettings): void {
    this.#recordCount += recordCount;
    if (this.#recordCount >= flushMessages || flushMs === 0) this.isDue = true;
    if (this.isDue || this.#timer !== null || flushMs > maxTimerMs) return;
    this.#timer = this.#clock.after(flushMs, () => {
      this.#timer = null;
      this.isDue = true;
      this.#onDue();
    });
  }

  /** A sync begins that covers all that was appended; or there will be none any more. */
  reset(): void {
    this.#recordCount = 0;
    this.isDue = false;
    this.#timer?.cancel();
    this.#timer = null;
  }
}
