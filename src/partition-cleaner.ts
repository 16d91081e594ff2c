import type { Clock, Timer } from './clock.js';
import { isCompacted } from './options.js';
import type { Partition } from './partition.js';

/** How often logs are looked at that no roll has called for (Kafka's log.cleaner.backoff.ms). */
const intervalMs = 15_000;

/** Compacts the partitions of compacted topics one after the other, at an interval. */
export class LogCleaner {
  readonly #clock: Clock;
  readonly #partitions: () => readonly Partition[];
  #timer: Timer | null = null;

  constructor(clock: Clock, partitions: () => readonly Partition[]) {
    this.#clock = clock;
    this.#partitions = partitions;
  }

  /** Begins, if there is a compacted topic. Fine when it has begun. */
  start(): void {
    if (this.#timer !== null || !this.#partitions().some(isWanted)) return;
    this.#timer = this.#clock.after(intervalMs, () => void this.#run());
  }

  async #run(): Promise<void> {
    const timer = this.#timer;
    for (const partition of this.#partitions().filter(isWanted)) {
      if (this.#timer !== timer) return;
      await partition.compact();
      await new Promise<void>((resolve) => this.#clock.soon(resolve));
    }
    if (this.#timer !== timer) return;
    this.#timer = null;
    this.start();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}

function isWanted({ settings }: Partition): boolean {
  return isCompacted(settings);
}
