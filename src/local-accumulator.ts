import type { Clock } from './clock.js';
import type { Compression } from './compression.js';
import { loadCompressor } from './compressor.js';
import type { AppendSink, RawRecord, RawRecords } from './engine.js';
import { OttlaError } from './errors.js';
import type { Account } from './local-account.js';
import { BulkWrite, OpenBatch, type BatchKeeper, type Lane } from './local-batch.js';
import type { BatchSender } from './local-sender.js';
import { isCompacted } from './options.js';
import type { Partition } from './partition.js';
import type { StickyPartitioner } from './partitioner.js';
import { BatchBuilder, recordSizeUpperBound } from './record-writer.js';
import { RECORD_BATCH_OVERHEAD, type Bytes, type RecordHeaders } from './record.js';
import type { Topic, TopicInfo } from './topic.js';

/** A bulk append fills batches up to this size, and writes adjacent ones in one call. */
const bulkBatchBytes = 128 * 1024;
const bulkWriteBytes = 1024 * 1024;
const pooledBuffers = 64;

export interface AccumulatorOptions {
  readonly clock: Clock;
  /** The topic itself. @throws UNKNOWN_TOPIC_OR_PARTITION if it was deleted since */
  readonly topic: (info: TopicInfo) => Topic;
  /** Told once of each batch that failed. */
  readonly onError: (error: OttlaError) => void;
  readonly sender: BatchSender;
}

/** A topic's partitions, as far as they were sent to. */
interface TopicLanes {
  readonly topic: Topic;
  readonly lanes: (Lane | undefined)[];
}

/**
 * Gathers single records into one open batch per partition, shared by producers whose options allow it,
 * and writes it when it is full, when its linger time is over, or at the end of the turn. Holds a buffer
 * only while a batch is open.
 */
export class Accumulator implements BatchKeeper {
  readonly clock: Clock;
  readonly onError: (error: OttlaError) => void;
  readonly sender: BatchSender;
  readonly #options: AccumulatorOptions;
  readonly #topics = new Map<Topic, TopicLanes>();
  readonly #pool: Buffer[] = [];
  readonly #open = new Set<OpenBatch>();
  #dueSoon: OpenBatch[] = [];
  #bulk: Buffer | null = null;
  #last: TopicLanes | null = null;

  constructor(options: AccumulatorOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.onError = options.onError;
    this.sender = options.sender;
  }

  #lanesOf(info: TopicInfo): TopicLanes {
    if (this.#last !== null && this.#last.topic === info) return this.#last;
    const topic = this.#options.topic(info);
    let lanes = this.#topics.get(topic);
    if (lanes === undefined) {
      lanes = { topic, lanes: [] };
      this.#topics.set(topic, lanes);
    }
    this.#last = lanes;
    return lanes;
  }

  /** A deleted topic: what is open for it fails when it is written. */
  forgetTopic(topic: Topic): void {
    this.#topics.delete(topic);
    this.#last = null;
  }

  /** Adds one record to its partition's open batch; returns the partition. @throws MESSAGE_TOO_LARGE, INVALID_RECORD */
  append(
    account: Account,
    info: TopicInfo,
    partition: number,
    record: RawRecord,
    sink: AppendSink,
  ): number {
    const topicLanes = this.#lanesOf(info);
    const { topic } = topicLanes;
    if (record.key === null) refuseKeyless(topic);
    if (account.options.bufferMemory < topic.settings.maxMessageBytes) {
      refuseTooLarge(topic, account, batchSizeFor(record.key, record.value, record.headers));
    }
    const sticky = partition === -1 ? account.stickyFor(topic) : null;
    const index = sticky === null ? partition : sticky.current();
    const lane = laneOf(topicLanes, index);
    let batch = lane.open;
    const fits = batch !== null && batch.takes(account, compressionOf(topic, account));
    let bytes = fits ? batch!.add(account, record, sink) : 0;
    if (batch === null || bytes === 0) {
      if (batch !== null) this.write(batch);
      batch = this.#begin(topic, lane, account, record);
      bytes = batch.add(account, record, sink);
    }
    const { lingerMs } = account.options;
    if (lingerMs < batch.lingerMs) this.#linger(batch, lingerMs);
    const { isFull } = batch;
    if (sticky !== null) {
      if (isFull) weigh(sticky, topicLanes);
      sticky.appended(bytes, isFull);
    }
    if (isFull) this.write(batch);
    return index;
  }

  #begin(topic: Topic, lane: Lane, account: Account, record: RawRecord): OpenBatch {
    const { batchSize, deliveryTimeoutMs } = account.options;
    const needed = batchSizeFor(record.key, record.value, record.headers);
    refuseTooLarge(topic, account, needed);
    const compression = compressionOf(topic, account);
    loadCompressor(compression);
    const limit = Math.min(Math.max(batchSize, needed), topic.settings.maxMessageBytes);
    const buffer = this.#takeBuffer(limit);
    const batch = new OpenBatch(this, lane, buffer, limit, compression, deliveryTimeoutMs);
    lane.open = batch;
    this.#open.add(batch);
    return batch;
  }

  /** The most impatient of the producers that share a batch decides. */
  #linger(batch: OpenBatch, lingerMs: number): void {
    batch.lingerMs = lingerMs;
    batch.linger?.cancel();
    if (lingerMs > 0) {
      batch.linger = this.clock.after(lingerMs, () => this.write(batch), true);
    } else if (this.#dueSoon.push(batch) === 1) {
      this.clock.soon(() => this.#writeDue());
    }
  }

  #takeBuffer(size: number): Buffer {
    const last = this.#pool.at(-1);
    if (last !== undefined && last.length === size) return this.#pool.pop()!;
    return Buffer.allocUnsafeSlow(size);
  }

  /** Buffers of one size, the batch size in use, are kept; others go. */
  #giveBack(buffer: Buffer): void {
    const last = this.#pool.at(-1);
    if (last !== undefined && last.length !== buffer.length) this.#pool.length = 0;
    if (this.#pool.length < pooledBuffers) this.#pool.push(buffer);
  }

  #writeDue(): void {
    const due = this.#dueSoon;
    this.#dueSoon = [];
    for (const batch of due) this.write(batch);
  }

  /** Writes an open batch. Fine if that was done already. */
  write(batch: OpenBatch): void {
    if (!this.#open.delete(batch)) return;
    batch.write();
    this.#giveBack(batch.buffer);
  }

  /** Writes everything that is open. */
  writeAll(): void {
    for (const batch of this.#open) this.write(batch);
  }

  release(batch: OpenBatch): void {
    if (this.#open.delete(batch)) this.#giveBack(batch.buffer);
  }

  /**
   * Writes many records at once, partition by partition, behind what is open for them. A partition of -1
   * is filled in by the sticky rule.
   * @throws MESSAGE_TOO_LARGE, INVALID_RECORD, having written nothing
   */
  appendAll(account: Account, info: TopicInfo, records: RawRecords, sink: AppendSink): void {
    const topicLanes = this.#lanesOf(info);
    const { topic } = topicLanes;
    const { count, keys, values, headers, partitions } = records;
    // A string takes at most three bytes for each of its units.
    if (records.longest * 3 >= largestFor(topic, account) - 128) {
      for (let i = 0; i < count; i++) {
        refuseTooLarge(topic, account, batchSizeFor(keys[i]!, values[i]!, headers[i]!));
      }
    }
    if (isCompacted(topic.settings)) {
      for (let i = 0; i < count; i++) if (keys[i] === null) refuseKeyless(topic);
    }
    let sticky: StickyPartitioner | null = null;
    for (let i = 0; i < count; i++) {
      if (partitions[i] !== -1) continue;
      if (sticky === null) {
        sticky = account.stickyFor(topic);
        weigh(sticky, topicLanes);
      }
      partitions[i] = sticky.current();
      const bytes = recordSizeUpperBound(keys[i]!, values[i]!, headers[i]!);
      sticky.appended(bytes, false);
    }
    loadCompressor(compressionOf(topic, account));
    const byPartition = orderByPartition(partitions, count, topic.partitionCount);
    let from = 0;
    while (from < count) {
      const index = partitions[byPartition[from]!]!;
      let to = from + 1;
      while (to < count && partitions[byPartition[to]!] === index) to++;
      const lane = laneOf(topicLanes, index);
      if (lane.open !== null) this.write(lane.open);
      this.#writeRun(account, lane, records, byPartition, from, to, sink);
      from = to;
    }
  }

  /** Writes records of one partition, up to 1 MiB of whole batches in each call; none behind one that fails. */
  #writeRun(
    account: Account,
    lane: Lane,
    { timestamps, keys, values, headers }: RawRecords,
    order: Int32Array,
    from: number,
    to: number,
    sink: AppendSink,
  ): void {
    const { partition } = lane;
    const { maxMessageBytes, segmentBytes } = partition.settings;
    const batchBytes = Math.min(bulkBatchBytes, maxMessageBytes);
    const writeBytes = Math.min(bulkWriteBytes, segmentBytes);
    const compression = compressionOf(partition, account);
    let buffer = this.#takeBulk(bulkWriteBytes);
    const builder = new BatchBuilder();
    let at = 0;
    let inWrite = 0;
    let batchCount = 0;
    let plainBytes = 0;
    let failure: OttlaError | null = null;
    const writeOut = (): void => {
      if (at === 0) return;
      if (failure === null) {
        const load = { recordCount: inWrite, batchCount, batchBytes: at, plainBytes, compression };
        failure = new BulkWrite(this, lane, account, sink, buffer, load).failure;
      } else {
        sink.failed(failure, partition.index, -1, inWrite);
        account.statistics.failed(inWrite);
      }
      at = 0;
      inWrite = 0;
      batchCount = 0;
      plainBytes = 0;
    };
    const finish = (added: number): void => {
      const plain = builder.bytes;
      const bytes = builder.finish(this.sender.origin(partition, added));
      account.statistics.batch(added, bytes, plain);
      at += bytes;
      inWrite += added;
      batchCount++;
      plainBytes += plain;
    };
    for (let i = from; i < to;) {
      if (writeBytes - at < RECORD_BATCH_OVERHEAD) writeOut();
      builder.begin(buffer, at, Math.min(at + batchBytes, writeBytes), compression);
      let added = 0;
      while (i < to) {
        const index = order[i]!;
        if (!builder.append(timestamps[index]!, keys[index]!, values[index]!, headers[index]!)) {
          break;
        }
        added++;
        i++;
      }
      if (added > 0) {
        finish(added);
      } else if (at > 0) {
        writeOut();
      } else {
        // Larger than a bulk batch: alone in one of its own.
        const large = order[i++]!;
        buffer = this.#takeBulk(Math.max(bulkWriteBytes, maxMessageBytes));
        builder.begin(buffer, 0, maxMessageBytes, compression);
        builder.append(timestamps[large]!, keys[large]!, values[large]!, headers[large]!);
        finish(1);
        writeOut();
      }
    }
    writeOut();
  }

  #takeBulk(size: number): Buffer {
    if (this.#bulk === null || this.#bulk.length < size) this.#bulk = Buffer.allocUnsafeSlow(size);
    return this.#bulk;
  }
}

function laneOf({ topic, lanes }: TopicLanes, index: number): Lane {
  return (lanes[index] ??= {
    partition: topic.partition(index),
    open: null,
    underWayCount: 0,
    unwrittenCount: 0,
  });
}

/** The longer a partition's queue, the less often it is chosen: a slow one gets less. */
function weigh(sticky: StickyPartitioner, { topic, lanes }: TopicLanes): void {
  const { partitionCount } = topic;
  if (partitionCount === 1) return;
  const queueSizes = Array.from({ length: partitionCount }, (_, i) => lanes[i]?.underWayCount ?? 0);
  sticky.update(partitionCount, undefined, queueSizes);
}

/** The topic's counts, unless it leaves it to the producer. */
function compressionOf(
  { settings: { compression } }: Topic | Partition,
  { options }: Account,
): Compression {
  return compression === 'producer' ? options.compression : compression;
}

/** Indexes of the records, those of one partition together, else in their order. */
function orderByPartition(
  partitions: Int32Array,
  count: number,
  partitionCount: number,
): Int32Array {
  const order = new Int32Array(count);
  if (partitionCount === 1) {
    for (let i = 0; i < count; i++) order[i] = i;
    return order;
  }
  const starts = new Int32Array(partitionCount + 1);
  for (let i = 0; i < count; i++) starts[partitions[i]! + 1]!++;
  for (let i = 0; i < partitionCount; i++) starts[i + 1]! += starts[i]!;
  for (let i = 0; i < count; i++) order[starts[partitions[i]!]!++] = i;
  return order;
}

/** Bytes that a batch with only this record may need. */
function batchSizeFor(key: Bytes | null, value: Bytes | null, headers: RecordHeaders): number {
  return RECORD_BATCH_OVERHEAD + recordSizeUpperBound(key, value, headers);
}

/** Bytes of the largest batch with one record. */
function largestFor({ settings }: Topic, { options }: Account): number {
  return Math.min(settings.maxMessageBytes, options.bufferMemory);
}

/** @throws MESSAGE_TOO_LARGE */
function refuseTooLarge(topic: Topic, account: Account, bytes: number): void {
  const { maxMessageBytes } = topic.settings;
  const largest = largestFor(topic, account);
  if (bytes <= largest) return;
  const whose =
    largest === maxMessageBytes ? "the topic's maxMessageBytes" : "the producer's bufferMemory";
  throw new OttlaError(
    'MESSAGE_TOO_LARGE',
    `${topic.name}: a record whose batch takes up to ${bytes} bytes, expected at most ${largest}, ${whose}`,
  );
}

/** A compacted topic keeps records by their keys. @throws INVALID_RECORD */
function refuseKeyless({ name, settings }: Topic): void {
  if (!isCompacted(settings)) return;
  throw new OttlaError(
    'INVALID_RECORD',
    `${name}: a record without a key, which a compacted topic cannot take`,
  );
}
