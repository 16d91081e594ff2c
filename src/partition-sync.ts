import { asStorageError, type OttlaError } from './errors.js';
import type { TopicSettings } from './options.js';
import { FlushInterval } from './partition-flush.js';
import type { LogEnvironment } from './partition-environment.js';
import type { PartitionLog } from './partition-log.js';

/** Told once whether all that was written when it asked is durable. */
export interface DurabilityWaiter {
  durable(): void;
  failed(error: OttlaError): void;
}

/** A background sync begins when this much is unsynced, and appends wait for it at eight times as much. */
const unsyncedBytesTarget = 8 * 1024 * 1024;

/** Group commit of one log: one sync after the other, each for all who asked before it began. */
export class GroupCommit {
  log: PartitionLog;
  readonly #env: LogEnvironment;
  readonly #flushes: FlushInterval;
  #waiters: DurabilityWaiter[] = [];
  #underWay: Promise<void> | null = null;

  constructor(env: LogEnvironment, log: PartitionLog) {
    this.#env = env;
    this.log = log;
    this.#flushes = new FlushInterval(env.clock, () => void this.#request());
  }

  /** Settles when the sync under way has ended; null: there is none. Never rejects. */
  get underWay(): Promise<void> | null {
    return this.#underWay;
  }

  /** Whether appends must wait for a sync. */
  get isBehind(): boolean {
    const { size, syncedSize } = this.log.active;
    return size - syncedSize >= 8 * unsyncedBytesTarget;
  }

  appended(recordCount: number, settings: TopicSettings): void {
    this.#flushes.appended(recordCount, settings);
  }

  /** Begins a sync if one is due, or if `waiter` is there to be told of it. */
  settle(waiter: DurabilityWaiter | null): void {
    if (waiter !== null) this.#waiters.push(waiter);
    const { size, syncedSize } = this.log.active;
    const isDue = this.#flushes.isDue || size - syncedSize >= unsyncedBytesTarget;
    if (waiter !== null || isDue) void this.#request();
  }

  /**
   * Makes all that is written durable, or fails the log. One sync after the other: a recovery point saved
   * by an earlier one must not undo what comes later. Never rejects.
   */
  async all(): Promise<void> {
    while (this.#underWay !== null) await this.#underWay;
    const { active } = this.log;
    if (active.syncedSize < active.size) await this.#request();
  }

  /** Nothing is appended any more. */
  stop(): void {
    this.#flushes.reset();
  }

  #request(): Promise<void> {
    this.#underWay ??= this.#env.syncs
      .run(() => this.#sync())
      .finally(() => {
        this.#underWay = null;
        if (this.#waiters.length > 0 || this.#flushes.isDue) void this.#request();
      });
    return this.#underWay;
  }

  /** Never rejects: a failed sync fails the log, and is never retried. */
  async #sync(): Promise<void> {
    const waiters = this.#waiters;
    this.#waiters = [];
    this.#flushes.reset();
    const { log } = this;
    const point = log.dueRecoveryPoint();
    if (log.failure === null) {
      try {
        await log.active.sync();
      } catch (error) {
        await log.failSync(asStorageError(log.name, error, false));
      }
    }
    const { failure } = log;
    for (const waiter of waiters) {
      if (failure === null) waiter.durable();
      else waiter.failed(failure);
    }
    if (point !== null && failure === null) await log.saveRecoveryPoint(point);
  }
}
