import { channel, type Channel } from 'node:diagnostics_channel';
import type { Clock, Timer } from './clock.js';
import type { Compression } from './compression.js';
import type { AppendSink, ProducerBatchMessage, RawRecord } from './engine.js';
import { OttlaError } from './errors.js';
import type { Account, Taken } from './local-account.js';
import type { BatchSender, SendListener } from './local-sender.js';
import { behindFailure } from './partition-append.js';
import type { Partition } from './partition.js';
import { BatchBuilder } from './record-writer.js';

/** Told of every batch of a producer, once it is settled. */
const batchChannel: Channel = channel('ottla:producer:batch');

/** A partition, and what of it is on its way into the log. */
export interface Lane {
  readonly partition: Partition;
  /** The batch that single records are being added to. */
  open: OpenBatch | null;
  /** How many deliveries are not settled, and how many of them are not written. */
  underWayCount: number;
  unwrittenCount: number;
}

/** What keeps the batches. */
export interface BatchKeeper {
  readonly clock: Clock;
  /** Told once of each batch that failed. */
  readonly onError: (error: OttlaError) => void;
  readonly sender: BatchSender;
  /** Lets go of an open batch that nothing more is added to. */
  release(batch: OpenBatch): void;
}

/** What a delivery carries. */
interface Load {
  readonly recordCount: number;
  readonly batchCount: number;
  /** Bytes as written. */
  readonly batchBytes: number;
  /** Without compression. */
  readonly plainBytes: number;
  readonly compression: Compression;
}

/**
 * Whole batches on their way into the log: at its end each record's sink was told once what became of it.
 *
 * One that takes longer than deliveryTimeoutMs fails. If it has not been written it never will be, and
 * what waits behind it fails, too, so that nothing overtakes what is sent again. If it has, it stays: it
 * is in the log, not known to be durable.
 */
abstract class Delivery implements SendListener {
  protected readonly keeper: BatchKeeper;
  protected readonly lane: Lane;
  protected baseOffset: number = -1;
  protected timestamp: number = -1;
  /** Its beginning, if only that outlived a failed sync: what follows was sent again, and written elsewhere. */
  protected readonly stayed: { readonly baseOffset: number; readonly count: number }[] = [];
  /** When its first record was taken over, in ms of the monotonic clock. */
  readonly #beganMs: number;
  /** When it was handed to the partition. */
  protected deliveredMs: number = 0;
  #load: Load | null = null;
  #deadline: Timer | null = null;
  #isOver = false;
  #failure: OttlaError | null = null;

  constructor(keeper: BatchKeeper, lane: Lane) {
    this.keeper = keeper;
    this.lane = lane;
    this.#beganMs = keeper.clock.monotonic();
  }

  /** Whether its end is to be durable. */
  protected abstract readonly wantsDurable: boolean;
  protected abstract readonly deliveryTimeoutMs: number;
  /** Tells the sinks of those producers that wait for this. */
  protected abstract acknowledge(durable: boolean): void;
  /** Tells the sinks that were told nothing yet. */
  protected abstract fail(error: OttlaError): void;

  get failure(): OttlaError | null {
    return this.#failure;
  }

  #begin(load: Load): void {
    this.#load = load;
    this.deliveredMs = this.keeper.clock.monotonic();
    this.lane.underWayCount++;
    this.lane.unwrittenCount++;
  }

  /** Fails it with what comes before it: nothing of it is handed to the partition. */
  protected drop(load: Load, error: OttlaError): void {
    this.#begin(load);
    this.failed(error);
  }

  /** Hands the bytes to the partition. */
  protected deliver(buffer: Buffer, bytes: number, load: Load): void {
    this.#begin(load);
    this.keeper.sender.append(this.lane.partition, buffer, 0, bytes, this.wantsDurable, this);
    if (this.#isOver) return;
    const leftMs = this.deliveryTimeoutMs - this.queueMs;
    this.#deadline = this.keeper.clock.after(Math.max(0, leftMs), () => this.#expire());
  }

  /** How long its records waited for being handed over. */
  protected get queueMs(): number {
    return this.deliveredMs - this.#beganMs;
  }

  written(baseOffset: number, timestamp: number): void {
    if (this.#isOver) return;
    // What is sent again may have been written before.
    if (this.baseOffset < 0) this.lane.unwrittenCount--;
    this.baseOffset = baseOffset;
    this.timestamp = timestamp;
    if (!this.wantsDurable) this.#end(null);
    this.acknowledge(false);
  }

  stays(count: number): void {
    if (this.#isOver) return;
    this.stayed.push({ baseOffset: this.baseOffset, count });
    this.baseOffset = -1;
    this.lane.unwrittenCount++;
  }

  durable(): void {
    if (this.#isOver) return;
    this.#end(null);
    this.acknowledge(true);
  }

  failed(error: OttlaError): void {
    if (this.#isOver) return;
    this.#fail(error);
    // What was taken over for the partition behind it fails with it, in order: the partition fails what it
    // holds, and after the last of that comes what is open.
    if (this.lane.unwrittenCount > 0) return;
    const { name } = this.lane.partition;
    this.lane.open?.abandon(error.code === 'REQUEST_TIMED_OUT' ? behindFailure(name) : error);
  }

  #fail(error: OttlaError): void {
    this.#failure = error;
    this.#end(error);
    this.keeper.onError(error);
    this.fail(error);
  }

  #expire(): void {
    const { partition } = this.lane;
    const late = `${partition.name}: not acknowledged within ${this.deliveryTimeoutMs} ms (deliveryTimeoutMs)`;
    const outcome =
      this.baseOffset < 0
        ? this.stayed.length > 0
          ? 'only its beginning was written'
          : 'nothing was written'
        : `written at offset ${this.baseOffset}, not known to be durable`;
    const error = new OttlaError('REQUEST_TIMED_OUT', `${late}; ${outcome}`);
    if (this.baseOffset >= 0) this.#fail(error);
    this.keeper.sender.withdraw(partition, this, error);
  }

  #end(error: OttlaError | null): void {
    this.#isOver = true;
    this.#deadline?.cancel();
    this.lane.underWayCount--;
    if (this.baseOffset < 0) this.lane.unwrittenCount--;
    if (batchChannel.hasSubscribers) this.#publish(error);
  }

  #publish(error: OttlaError | null): void {
    const { topic, index } = this.lane.partition;
    const message: ProducerBatchMessage = {
      topic,
      partition: index,
      baseOffset: this.stayed[0]?.baseOffset ?? this.baseOffset,
      ...this.#load!,
      queueMs: this.queueMs,
      deliveryMs: this.keeper.clock.monotonic() - this.deliveredMs,
      error,
    };
    batchChannel.publish(message);
  }
}

/** Records side by side in a batch, of one producer and between the same flushes. */
interface Share {
  readonly taken: Taken;
  bytes: number;
  /** Index behind the last one. */
  end: number;
}

/** A batch that single records are being added to. */
export class OpenBatch extends Delivery {
  readonly buffer: Buffer;
  readonly compression: Compression;
  linger: Timer | null = null;
  lingerMs: number = Infinity;
  protected wantsDurable: boolean = false;
  protected readonly deliveryTimeoutMs: number;
  readonly #limit: number;
  readonly #builder = new BatchBuilder();
  /** By record. */
  readonly #sinks: AppendSink[] = [];
  readonly #shares: Share[] = [];
  #lastShare: Share | null = null;

  constructor(
    keeper: BatchKeeper,
    lane: Lane,
    buffer: Buffer,
    limit: number,
    compression: Compression,
    deliveryTimeoutMs: number,
  ) {
    super(keeper, lane);
    this.buffer = buffer;
    this.compression = compression;
    this.deliveryTimeoutMs = deliveryTimeoutMs;
    this.#limit = limit;
    this.#builder.begin(buffer, 0, limit, compression);
  }

  /** Whether not even a small record is likely to fit. */
  get isFull(): boolean {
    return this.#builder.bytes + 16 >= this.#limit;
  }

  /** Whether this producer's records may be in it. */
  takes(account: Account, compression: Compression): boolean {
    return (
      compression === this.compression &&
      account.options.deliveryTimeoutMs === this.deliveryTimeoutMs
    );
  }

  /** @returns the record's bytes in the batch, 0 if it does not fit */
  add(account: Account, record: RawRecord, sink: AppendSink): number {
    const before = this.#builder.bytes;
    if (!this.#builder.append(record.timestamp, record.key, record.value, record.headers)) return 0;
    const bytes = this.#builder.bytes - before;
    if (account.options.acks === 'all') this.wantsDurable = true;
    const taken = account.take(bytes);
    const end = this.#sinks.push(sink);
    const share = this.#lastShare;
    if (share?.taken === taken) {
      share.bytes += bytes;
      share.end = end;
    } else {
      this.#lastShare = { taken, bytes, end };
      this.#shares.push(this.#lastShare);
    }
    return bytes;
  }

  write(): void {
    this.#close();
    const plainBytes = this.#builder.bytes;
    const { sender } = this.keeper;
    const origin = sender.origin(this.lane.partition, this.#builder.count);
    const batchBytes = this.#builder.finish(origin);
    const { compression } = this;
    const recordCount = this.#sinks.length;
    this.deliver(this.buffer, batchBytes, {
      recordCount,
      batchCount: 1,
      batchBytes,
      plainBytes,
      compression,
    });
    for (const { statistics } of this.#accounts()) {
      statistics.batch(recordCount, batchBytes, plainBytes);
      statistics.queued(this.queueMs);
    }
  }

  /** Whose records are in it. */
  #accounts(): Iterable<Account> {
    return new Set(this.#shares.map(({ taken }) => taken.account));
  }

  /** Fails with a batch before it; it was not written. */
  abandon(error: OttlaError): void {
    this.#close();
    this.keeper.release(this);
    const { compression } = this;
    const [recordCount, plainBytes] = [this.#sinks.length, this.#builder.bytes];
    this.drop({ recordCount, batchCount: 0, batchBytes: 0, plainBytes, compression }, error);
  }

  /** No more records are added. */
  #close(): void {
    this.linger?.cancel();
    if (this.lane.open === this) this.lane.open = null;
  }

  protected acknowledge(durable: boolean): void {
    const { index } = this.lane.partition;
    let from = 0;
    for (const { taken, bytes, end } of this.#shares) {
      const { account } = taken;
      if ((account.options.acks === 'all') === durable) {
        for (let i = from; i < end; i++) {
          this.#sinks[i]!.acknowledged(index, this.baseOffset + i, 1, this.timestamp);
        }
        account.statistics.acknowledged(end - from, bytes, this.deliveredMs);
        account.settle(taken, bytes);
      }
      from = end;
    }
  }

  protected fail(error: OttlaError): void {
    const isWritten = this.baseOffset >= 0;
    const { index } = this.lane.partition;
    let from = 0;
    for (const { taken, bytes, end } of this.#shares) {
      const { account } = taken;
      if (!isWritten || account.options.acks === 'all') {
        for (let i = from; i < end; i++) {
          this.#sinks[i]!.failed(error, index, isWritten ? this.baseOffset + i : -1, 1);
        }
        account.statistics.failed(end - from);
        account.settle(taken, bytes);
      }
      from = end;
    }
  }
}

/** One call's worth of a bulk append. */
export class BulkWrite extends Delivery {
  protected readonly wantsDurable: boolean;
  protected readonly deliveryTimeoutMs: number;
  readonly #account: Account;
  readonly #sink: AppendSink;
  readonly #load: Load;
  readonly #taken: Taken;

  constructor(
    keeper: BatchKeeper,
    lane: Lane,
    account: Account,
    sink: AppendSink,
    buffer: Buffer,
    load: Load,
  ) {
    super(keeper, lane);
    const { acks, deliveryTimeoutMs } = account.options;
    this.wantsDurable = acks === 'all';
    this.deliveryTimeoutMs = deliveryTimeoutMs;
    this.#account = account;
    this.#sink = sink;
    this.#load = load;
    this.#taken = account.take(load.batchBytes);
    this.deliver(buffer, load.batchBytes, load);
  }

  protected acknowledge(durable: boolean): void {
    if (durable !== this.wantsDurable) return;
    const { recordCount, batchBytes, plainBytes } = this.#load;
    const { index } = this.lane.partition;
    let left = recordCount;
    for (const { baseOffset, count } of this.stayed) {
      this.#sink.acknowledged(index, baseOffset, count, this.timestamp);
      left -= count;
    }
    this.#sink.acknowledged(index, this.baseOffset, left, this.timestamp);
    this.#account.statistics.acknowledged(recordCount, plainBytes, this.deliveredMs);
    this.#account.settle(this.#taken, batchBytes);
  }

  protected fail(error: OttlaError): void {
    const { recordCount, batchBytes } = this.#load;
    const { index } = this.lane.partition;
    let left = recordCount;
    for (const { baseOffset, count } of this.stayed) {
      this.#sink.failed(error, index, baseOffset, count);
      left -= count;
    }
    this.#sink.failed(error, index, this.baseOffset, left);
    this.#account.statistics.failed(recordCount);
    this.#account.settle(this.#taken, batchBytes);
  }
}
