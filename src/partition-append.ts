import { OttlaError, asStorageError } from './errors.js';
import type { LogEnvironment } from './partition-environment.js';
import type { PartitionLog } from './partition-log.js';
import { GroupCommit, type DurabilityWaiter } from './partition-sync.js';
import { readBatchHeader, stampBatch, stampLogAppendTime, type BatchHeader } from './record.js';
import type { Segment } from './storage/segment.js';

/** Told once what became of an append: written or failed; then, if it asked for durability, durable or failed. */
export interface AppendListener extends DurabilityWaiter {
  /** `timestamp` is the log's where the topic takes its own, else -1. */
  written(baseOffset: number, timestamp: number): void;
}

/** Woken at the next append. */
export interface AppendWaiter {
  wake(): void;
}

interface QueuedAppend {
  readonly bytes: Buffer;
  readonly listener: AppendListener;
  readonly wantsDurable: boolean;
}

/**
 * What is appended to one log, in order. An append is written before append() returns, unless the gate is
 * closed, as while a roll is under way: then it queues.
 */
export class PartitionAppends {
  /** Why no more appends are taken: it was closed, or the topic is gone. */
  ended: OttlaError | null = null;
  readonly commit: GroupCommit;
  readonly #env: LogEnvironment;
  readonly #onRolled: () => void;
  #log: PartitionLog;
  #queue: QueuedAppend[] = [];
  #gate: Promise<void> | null = null;
  readonly #waiters = new Set<AppendWaiter>();
  /** Of the batches that were stamped last, in order. */
  readonly #stamped: BatchHeader[] = [];

  constructor(env: LogEnvironment, log: PartitionLog, onRolled: () => void) {
    this.#env = env;
    this.#log = log;
    this.#onRolled = onRolled;
    this.commit = new GroupCommit(env, log);
  }

  get log(): PartitionLog {
    return this.#log;
  }

  /** To be changed when nothing is under way. */
  set log(log: PartitionLog) {
    this.#log = log;
    this.commit.log = log;
  }

  /** Settles when appends may go on: a roll, or too much unsynced; null: they may. Never rejects. */
  get gate(): Promise<void> | null {
    return this.#gate;
  }

  /** Why nothing can be appended now; null: it can. */
  get refusal(): OttlaError | null {
    return this.ended ?? this.#log.failure;
  }

  /** Partition.append(). */
  append(
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): void {
    const { refusal } = this;
    if (refusal !== null) {
      listener.failed(refusal);
    } else if (
      this.#gate !== null ||
      this.#tryAppend(bytes, start, end, wantsDurable, listener) === 'wait'
    ) {
      this.#queue.push({ bytes: Buffer.from(bytes.subarray(start, end)), listener, wantsDurable });
    }
  }

  /** 'wait': the append must wait for a roll or a sync, which this started. */
  #tryAppend(
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): 'done' | 'failed' | 'refused' | 'wait' {
    const log = this.#log;
    const headers = this.#stamped;
    let baseOffset: number;
    let nextOffset: number;
    let logAppendTime = -1;
    try {
      log.check();
      const { active } = log;
      if (log.failure !== null) throw log.failure;
      baseOffset = active.nextOffset;
      if (log.settings.messageTimestampType === 'LogAppendTime') {
        logAppendTime = this.#env.clock.now();
      }
      nextOffset = this.#stamp(bytes, start, end, baseOffset, logAppendTime);
      const known = headers[0]!.hasProducerId ? this.#admit(bytes, start, listener) : -1;
      if (known === 'refused') return 'refused';
      if (known >= 0) {
        this.#acknowledge(known, -1, wantsDurable, listener);
        return 'done';
      }
      if (this.commit.isBehind) {
        void this.closeGate(() => this.commit.all());
        return 'wait';
      }
      this.#env.quota.refuseBeyond(log.name, end - start);
      if (active.size > 0 && this.#mustRoll(active, end - start, nextOffset - 1)) {
        void this.roll();
        return 'wait';
      }
      active.write(bytes, start, end);
      log.counted.add(end - start);
      let at = start;
      for (const header of headers) {
        log.added(bytes, at, header);
        at += header.size;
      }
    } catch (error) {
      const failure = asStorageError(log.name, error);
      if (!failure.retriable) log.fail(failure);
      listener.failed(failure);
      return 'failed';
    }
    this.commit.appended(nextOffset - baseOffset, log.settings);
    this.#acknowledge(baseOffset, logAppendTime, wantsDurable, listener);
    this.wake();
    return 'done';
  }

  #acknowledge(
    baseOffset: number,
    logAppendTime: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): void {
    listener.written(baseOffset, logAppendTime);
    this.commit.settle(wantsDurable ? listener : null);
  }

  /** What the log knows of batches with sequence numbers. A refusal is theirs alone: others go on. */
  #admit(bytes: Buffer, start: number, listener: AppendListener): number | 'refused' {
    try {
      return this.#log.producers.admit(bytes, start, this.#stamped);
    } catch (error) {
      listener.failed(asStorageError(this.#log.name, error));
      return 'refused';
    }
  }

  /** Kafka's LogSegment.shouldRoll: by size, by the time that the records span, by what indexes can hold. */
  #mustRoll(active: Segment, bytes: number, lastOffset: number): boolean {
    const { segmentBytes, segmentMs } = this.#log.settings;
    if (active.size + bytes > segmentBytes || !active.canHold(lastOffset)) return true;
    const first = active.firstTimestamp();
    if (first < 0) return false;
    for (const { maxTimestamp } of this.#stamped) if (maxTimestamp - first > segmentMs) return true;
    return false;
  }

  /** @returns the offset after the last one */
  #stamp(
    bytes: Buffer,
    start: number,
    end: number,
    baseOffset: number,
    logAppendTime: number,
  ): number {
    const epoch = this.#log.epochs.current;
    const headers = this.#stamped;
    headers.length = 0;
    let nextOffset = baseOffset;
    for (let at = start; at < end;) {
      stampBatch(bytes, at, nextOffset, epoch);
      if (logAppendTime >= 0) stampLogAppendTime(bytes, at, logAppendTime);
      const header = readBatchHeader(bytes, at, end);
      if (header === null) {
        throw new RangeError(`${this.#log.name}: append of an incomplete batch`);
      }
      headers.push(header);
      nextOffset = header.nextOffset;
      at += header.size;
    }
    return nextOffset;
  }

  /** Holds appends back until `work` is done, then lets the queued ones go on. Never rejects. */
  closeGate(work: () => Promise<void>): Promise<void> {
    const { name } = this.#log;
    this.#gate = work().then(
      () => this.#openGate(null),
      (error: unknown) => this.#openGate(asStorageError(name, error)),
    );
    return this.#gate;
  }

  /** One failure fails all that queued behind it, in order: nothing may overtake what a caller sends again. */
  #openGate(error: OttlaError | null): void {
    this.#gate = null;
    const log = this.#log;
    const queue = this.#queue;
    this.#queue = [];
    if (error?.retriable === false) log.fail(error);
    let failure = error ?? log.failure ?? this.ended;
    for (const queued of queue) {
      const { bytes, listener, wantsDurable } = queued;
      if (failure !== null) listener.failed(failure);
      else if (this.#gate !== null) this.#queue.push(queued);
      else {
        const outcome = this.#tryAppend(bytes, 0, bytes.length, wantsDurable, listener);
        if (outcome === 'wait') this.#queue.push(queued);
        if (outcome === 'failed') failure = log.failure ?? behindFailure(log.name);
      }
    }
  }

  /** Partition.withdraw(). */
  withdraw(listener: AppendListener, error: OttlaError): void {
    const at = this.#queue.findIndex((queued) => queued.listener === listener);
    if (at === -1) return;
    for (const queued of this.#queue.splice(at)) {
      queued.listener.failed(queued.listener === listener ? error : behindFailure(this.#log.name));
    }
  }

  /**
   * Begins a new segment. Order: sync the old file, await the rows that seal it and name the new one, then
   * the new one's first byte. Never rejects.
   */
  roll(): Promise<void> {
    return this.closeGate(async () => {
      const log = this.#log;
      await this.commit.all();
      if (log.failure !== null) throw log.failure;
      await log.roll();
      this.#onRolled();
    });
  }

  /** Makes all that is written by now durable. @throws why it is not */
  async sync(): Promise<void> {
    while (this.#gate !== null) await this.#gate;
    const { refusal } = this;
    if (refusal !== null) throw refusal;
    const { size, syncedSize } = this.#log.active;
    if (size === syncedSize) return;
    await new Promise<void>((resolve, reject) => {
      this.commit.settle({ durable: resolve, failed: reject });
    });
  }

  /** Calls `waiter` at every append until forgotten. */
  notify(waiter: AppendWaiter): void {
    this.#waiters.add(waiter);
  }

  forget(waiter: AppendWaiter): void {
    this.#waiters.delete(waiter);
  }

  /** Wakes all who wait for appends. */
  wake(): void {
    for (const waiter of this.#waiters) waiter.wake();
  }
}

/** Of what was not written, because what came before it was not. */
export function behindFailure(name: string): OttlaError {
  return new OttlaError(
    'KAFKA_STORAGE_ERROR',
    `${name}: not written, because an append before it failed: order is kept when both are sent again`,
  );
}
