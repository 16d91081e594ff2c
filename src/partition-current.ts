import { OttlaError, asStorageError } from './errors.js';
import type { TopicSettings } from './options.js';
import { PartitionAppends } from './partition-append.js';
import { PartitionCompaction } from './partition-compaction.js';
import type { LogEnvironment } from './partition-environment.js';
import { followLogStart, isOutdated, readOn } from './partition-follow.js';
import { PartitionLog } from './partition-log.js';
import { recoverLog } from './partition-recovery.js';
import type { LogPlace, StoredPartition } from './partition-row.js';
import { Slices } from './storage/slices.js';

/**
 * The log that a partition has now, with what appends to it and compacts it. A reopening, or in read-only
 * mode a refresh, puts another one in its place, when nothing is under way.
 */
export class CurrentLog {
  readonly appends: PartitionAppends;
  readonly #env: LogEnvironment;
  readonly #place: LogPlace;
  readonly #topic: { readonly settings: TopicSettings };
  #log: PartitionLog;
  #compaction: PartitionCompaction;
  #refreshing: Promise<void> | null = null;

  /** @param stored its rows, as far as they were read */
  constructor(
    env: LogEnvironment,
    place: LogPlace,
    topic: { readonly settings: TopicSettings },
    stored: StoredPartition,
  ) {
    this.#env = env;
    this.#place = place;
    this.#topic = topic;
    this.#log = new PartitionLog(env, place, topic, stored);
    this.appends = new PartitionAppends(env, this.#log, () => void this.compact());
    this.#compaction = new PartitionCompaction(env, this.#log);
  }

  get log(): PartitionLog {
    return this.#log;
  }

  #newLog(): PartitionLog {
    return new PartitionLog(this.#env, this.#place, this.#topic, this.#log.stored.anew());
  }

  /** Partition.open(). */
  open(): void {
    try {
      this.#log.open(true);
    } catch (error) {
      this.#failOpening(this.#log, error);
    }
  }

  #failOpening(log: PartitionLog, error: unknown): void {
    const failure = asStorageError(log.name, error, false);
    if (failure.code === 'METADATA_LOST') throw failure;
    const isKnown = log.isUnrecovered;
    log.failRecovery(failure);
    if (!isKnown) this.#env.warn(`${log.failure!.message}.`);
  }

  /** Partition.recover(). */
  async recover(): Promise<string | null> {
    const report = await this.#recover(this.#log, false);
    // In the background, if it is much: the next open shall not have to read all of it again.
    if (this.#log.failure === null) this.appends.commit.settle(null);
    return report;
  }

  async #recover(log: PartitionLog, afterFailedSync: boolean): Promise<string | null> {
    if (log.failure !== null) return null;
    try {
      return await recoverLog(log, this.#env, afterFailedSync);
    } catch (error) {
      this.#failOpening(log, error);
      return null;
    }
  }

  /** Partition.compact(). */
  async compact(): Promise<void> {
    while (this.appends.gate !== null) await this.appends.gate;
    if (this.appends.ended !== null || this.#env.readOnly || this.#log.failure !== null) return;
    try {
      this.#log.open();
    } catch {
      // Whoever uses the partition is told.
      return;
    }
    await this.#compaction.run();
  }

  /** Partition.refresh(). */
  async refresh(anew: boolean): Promise<void> {
    if (this.appends.ended !== null) return;
    this.#refreshing ??= this.#refresh(anew).finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
  }

  async #refresh(anew: boolean): Promise<void> {
    try {
      const isAnew = anew || isOutdated(this.#log);
      const log = isAnew ? this.#newLog() : this.#log;
      followLogStart(log);
      if (log.producers.isLost) {
        await log.producers.rebuild(
          log.segments.all,
          [],
          new Slices(this.#env.clock, `recovery of ${log.name}`),
        );
      }
      await readOn(log);
      if (isAnew) this.#replaceLog(log);
    } catch (error) {
      throw asStorageError(this.#log.name, error);
    }
  }

  /** Partition.reopen(). */
  reopen(): Promise<string | null> {
    return this.#whenSettled(() => {
      this.refuseIfEnded();
      const reopening = this.#readAnew();
      void this.appends.closeGate(() => reopening.then(() => undefined));
      return reopening;
    });
  }

  async #readAnew(): Promise<string | null> {
    // One that waits for its turn would write rows as the old log knows them.
    void this.#compaction.stop();
    // A swap that failed half way is settled now.
    await this.#log.release();
    const log = this.#newLog();
    let report: string | null;
    try {
      log.open(true);
      report = log.needsRecovery() ? await this.#recover(log, this.#log.syncFailed) : null;
      if (!log.isUnrecovered) {
        log.check();
        await this.#markCut(log);
      }
    } catch (error) {
      log.closeFiles();
      throw asStorageError(log.name, error);
    }
    if (log.isUnrecovered) {
      // What was there before can be read on.
      log.closeFiles();
      throw log.failure!;
    }
    this.#replaceLog(log);
    if (log.failure !== null) throw log.failure;
    return report;
  }

  /** A log that ends sooner, at the end of a batch, shows no damage: but its offsets are given out again. */
  async #markCut(log: PartitionLog): Promise<void> {
    const before = this.#log;
    if (!before.isOpen || before.isUnrecovered) return;
    if (before.epochs.current !== log.epochs.current) return;
    const { nextOffset } = log.active;
    if (nextOffset < before.active.nextOffset) await log.beginEpoch(nextOffset);
  }

  #replaceLog(log: PartitionLog): void {
    this.#log.retire();
    this.#log.counted.set(0);
    this.#log = log;
    this.appends.log = log;
    if (this.#env.quota.isBounded) log.count();
    this.#compaction = new PartitionCompaction(this.#env, log);
    this.appends.wake();
  }

  /** Runs `then` when nothing is under way, before anything else can begin. */
  async #whenSettled<T>(then: () => T | Promise<T>): Promise<T> {
    for (;;) {
      await this.#refreshing?.catch(() => undefined);
      await this.#compaction.stop();
      const { moving } = this.#log;
      const isQuiet =
        this.appends.gate === null && this.appends.commit.underWay === null && moving === null;
      if (isQuiet && !this.#compaction.isUnderWay) {
        // One that waits for its turn will do nothing.
        void this.#compaction.stop();
        return then();
      }
      await this.appends.gate;
      await this.appends.commit.underWay;
      await moving;
    }
  }

  /** Partition.refuseIfEnded(). */
  refuseIfEnded(): void {
    if (this.appends.ended !== null) throw this.appends.ended;
  }

  /** Partition.close(). */
  async close(): Promise<void> {
    if (this.appends.ended !== null) return;
    await this.#whenSettled(() => {
      this.appends.ended = new OttlaError('CLOSED', `${this.#log.name} is closed`);
    });
    this.appends.commit.stop();
    // What a kill has left is made durable, too, and the next open finds nothing to look at.
    if (this.#log.stored.tail !== null) this.#openAtEnd();
    if (this.#log.isOpen && !this.#env.readOnly && this.#log.failure === null) {
      await this.appends.commit.all();
      if (this.#log.failure === null) await this.#log.saveEnd();
    }
    this.#log.closeFiles();
  }

  #openAtEnd(): void {
    try {
      this.#log.open();
    } catch (error) {
      // Who opens it next is told.
      asStorageError(this.#log.name, error);
    }
  }

  /** Partition.abandon(). */
  async abandon(error: OttlaError): Promise<void> {
    this.appends.ended ??= error;
    await this.#whenSettled(() => undefined);
    this.appends.commit.stop();
    this.#log.counted.set(0);
    await this.#log.release();
    this.#log.retire();
    this.appends.wake();
  }
}
