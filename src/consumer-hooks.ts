import { AsyncLocalStorage } from 'node:async_hooks';
import type { TopicPartition } from './assignment.js';
import { withDeadline, type Clock } from './clock.js';
import type { RebalanceHook } from './consumer-options.js';
import { OttlaError, inWords } from './errors.js';

/** Whose hook is being run: there a consumer must not wait for itself. */
const running = new AsyncLocalStorage<unknown>();

/** Calls a consumer's hooks, one after the other, each within bounds. */
export class Hooks {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #failed: (error: OttlaError) => void;
  /** Resolves when the last one has ended; null: none is under way. */
  #last: Promise<void> | null = null;

  constructor(clock: Clock, timeoutMs: number, failed: (error: OttlaError) => void) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#failed = failed;
  }

  /** Whether this runs in one of them. */
  get isInside(): boolean {
    return running.getStore() === this;
  }

  /** Resolves when the hook has ended, or its time. Never rejects. */
  async call(
    hook: RebalanceHook | undefined,
    partitions: readonly TopicPartition[],
  ): Promise<void> {
    if (hook === undefined || partitions.length === 0) return;
    const places = partitions.map(({ topic, partition }) => ({ topic, partition }));
    const called = this.#last?.then(() => this.#run(hook, places)) ?? this.#run(hook, places);
    this.#last = called;
    await called;
    if (this.#last === called) this.#last = null;
  }

  async #run(hook: RebalanceHook, places: readonly TopicPartition[]): Promise<void> {
    try {
      const called = running.run(this, async () => hook(places));
      await withDeadline(this.#clock, called, this.#timeoutMs, 'a hook of the consumer');
    } catch (cause) {
      const message = `a hook of the consumer failed: ${inWords(cause)}`;
      this.#failed(new OttlaError('UNKNOWN_SERVER_ERROR', message, { cause }));
    }
  }
}
