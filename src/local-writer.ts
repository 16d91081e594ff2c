import type { Clock, Timer } from './clock.js';
import type { Compression } from './compression.js';
import { loadCompressor } from './compressor.js';
import type { AppendSink, RawRecord, RawRecords, Writer, WriterOptions } from './engine.js';
import { OttlaError } from './errors.js';
import type { BatchSender } from './local-sender.js';
import { isCompacted } from './options.js';
import type { AppendListener, Partition } from './partition.js';
import { StickyPartitioner } from './partitioner.js';
import { BatchBuilder, recordSizeUpperBound } from './record-writer.js';
import { RECORD_BATCH_OVERHEAD } from './record.js';
import type { Topic, TopicInfo } from './topic.js';

/** A bulk append fills batches up to this size, and writes adjacent ones in one call. */
const bulkBatchBytes = 128 * 1024;
const bulkWriteBytes = 1024 * 1024;
const pooledBuffers = 64;

export interface AccumulatorOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** The topic itself. @throws UNKNOWN_TOPIC_OR_PARTITION if it was deleted since */
  readonly topic: (info: TopicInfo) => Topic;
  /** Told once of each batch that failed. */
  readonly onError: (error: OttlaError) => void;
  readonly sender: BatchSender;
}

/** The open batches of a topic, by partition. */
interface TopicQueues {
  readonly topic: Topic;
  readonly sticky: StickyPartitioner;
  /** The partition count that `sticky` knows. */
  partitionCount: number;
  readonly open: (OpenBatch | undefined)[];
}

/**
 * Gathers single records into one open batch per partition, shared by all producers that do not number
 * their batches, and writes it when it is full, when its linger time is over, or at the end of the turn. Holds a buffer only while a batch
 * is open.
 */
export class Accumulator {
  readonly clock: Clock;
  readonly onError: (error: OttlaError) => void;
  readonly sender: BatchSender;
  readonly #options: AccumulatorOptions;
  readonly #queues = new Map<Topic, TopicQueues>();
  readonly #pool: Buffer[] = [];
  readonly #open = new Set<OpenBatch>();
  #dueSoon: OpenBatch[] = [];
  #bulk: Buffer | null = null;
  #last: TopicQueues | null = null;

  constructor(options: AccumulatorOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.onError = options.onError;
    this.sender = options.sender;
  }

  #queuesOf(info: TopicInfo, writer: LocalWriter): TopicQueues {
    const last = this.#last;
    if (last !== null && last.topic === info && last.partitionCount === info.partitionCount) {
      return last;
    }
    const topic = this.#options.topic(info);
    const { partitionCount } = topic;
    let queues = this.#queues.get(topic);
    if (queues === undefined) {
      const { batchSize } = writer.options;
      const random = (): number => (this.#options.random() * 2 ** 32) | 0;
      const sticky = new StickyPartitioner(batchSize, partitionCount, random);
      queues = { topic, sticky, partitionCount, open: [] };
      this.#queues.set(topic, queues);
    } else if (queues.partitionCount !== partitionCount) {
      queues.partitionCount = partitionCount;
      queues.sticky.update(partitionCount);
    }
    this.#last = queues;
    return queues;
  }

  /** A deleted topic: what is open for it fails when it is written. */
  forgetTopic(topic: Topic): void {
    this.#queues.delete(topic);
    this.#last = null;
  }

  /** Adds one record to its partition's open batch; returns the partition. @throws MESSAGE_TOO_LARGE, INVALID_RECORD */
  append(
    writer: LocalWriter,
    info: TopicInfo,
    partition: number,
    record: RawRecord,
    sink: AppendSink,
  ): number {
    const queues = this.#queuesOf(info, writer);
    if (record.key === null) refuseKeyless(queues.topic);
    const index = partition === -1 ? queues.sticky.current() : partition;
    let batch = queues.open[index];
    const isOther =
      batch !== undefined && batch.compression !== compressionOf(queues.topic, writer);
    let bytes = batch === undefined || isOther ? 0 : batch.add(writer, record, sink);
    if (batch === undefined || bytes === 0) {
      if (batch !== undefined) this.write(batch);
      batch = this.#begin(queues, index, writer, record);
      bytes = batch.add(writer, record, sink);
    }
    if (writer.options.lingerMs < batch.lingerMs) this.#linger(batch, writer.options.lingerMs);
    const { isFull } = batch;
    if (partition === -1) queues.sticky.appended(bytes, isFull);
    if (isFull) this.write(batch);
    return index;
  }

  #begin(queues: TopicQueues, index: number, writer: LocalWriter, record: RawRecord): OpenBatch {
    const { topic } = queues;
    const { batchSize, lingerMs } = writer.options;
    const needed = batchSizeFor(record);
    refuseTooLarge(topic, needed);
    const compression = compressionOf(topic, writer);
    loadCompressor(compression);
    const limit = Math.min(Math.max(batchSize, needed), topic.settings.maxMessageBytes);
    const partition = topic.partition(index);
    const buffer = this.#takeBuffer(limit);
    const batch = new OpenBatch(this, queues.open, partition, buffer, limit, compression);
    queues.open[index] = batch;
    this.#open.add(batch);
    this.#linger(batch, lingerMs);
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

  /** What was taken over for a partition fails with the batch before it, in order. */
  failOpen(batch: OpenBatch, error: OttlaError): void {
    this.#discard(batch);
    batch.failed(error);
  }

  #discard(batch: OpenBatch): void {
    this.#open.delete(batch);
    batch.close();
    this.#giveBack(batch.buffer);
  }

  /**
   * Writes many records at once, partition by partition, behind what is open for them. A partition of -1
   * is filled in by the sticky rule.
   * @throws MESSAGE_TOO_LARGE, INVALID_RECORD, having written nothing
   */
  appendAll(
    writer: LocalWriter,
    info: TopicInfo,
    { records, partitions, longest }: RawRecords,
    sink: AppendSink,
  ): void {
    const { topic, sticky, open } = this.#queuesOf(info, writer);
    // A string takes at most three bytes for each of its units.
    if (longest * 3 >= topic.settings.maxMessageBytes - 128) {
      for (const record of records) refuseTooLarge(topic, batchSizeFor(record));
    }
    for (let i = 0; i < records.length; i++) {
      if (records[i]!.key === null) refuseKeyless(topic);
      if (partitions[i] !== -1) continue;
      partitions[i] = sticky.current();
      sticky.appended(batchSizeFor(records[i]!) - RECORD_BATCH_OVERHEAD, false);
    }
    loadCompressor(compressionOf(topic, writer));
    const byPartition = orderByPartition(partitions, records.length, topic.partitionCount);
    let from = 0;
    while (from < records.length) {
      const index = partitions[byPartition[from]!]!;
      let to = from + 1;
      while (to < records.length && partitions[byPartition[to]!] === index) to++;
      const batch = open[index];
      if (batch !== undefined) this.write(batch);
      this.#writeRun(writer, topic.partition(index), open, records, byPartition, from, to, sink);
      from = to;
    }
  }

  /** Writes records of one partition, up to 1 MiB of whole batches in each call; none behind one that fails. */
  #writeRun(
    writer: LocalWriter,
    partition: Partition,
    open: readonly (OpenBatch | undefined)[],
    records: readonly RawRecord[],
    order: Int32Array,
    from: number,
    to: number,
    sink: AppendSink,
  ): void {
    const { maxMessageBytes, segmentBytes } = partition.settings;
    const batchBytes = Math.min(bulkBatchBytes, maxMessageBytes);
    const writeBytes = Math.min(bulkWriteBytes, segmentBytes);
    let buffer = this.#takeBulk(bulkWriteBytes);
    const compression = compressionOf(partition, writer);
    const builder = new BatchBuilder();
    let at = 0;
    let inWrite = 0;
    let failure: OttlaError | null = null;
    const writeOut = (): void => {
      if (at === 0) return;
      if (failure === null) {
        const write = new BulkWrite(this, writer, partition, open, sink, inWrite, at);
        writer.took(at);
        const wantsDurable = writer.options.acks === 'all';
        this.sender.append(partition, buffer, 0, at, wantsDurable, write);
        failure = write.failure;
      } else {
        sink.failed(failure, partition.index, -1, inWrite);
      }
      at = 0;
      inWrite = 0;
    };
    for (let i = from; i < to;) {
      if (writeBytes - at < RECORD_BATCH_OVERHEAD) writeOut();
      builder.begin(buffer, at, Math.min(at + batchBytes, writeBytes), compression);
      let added = 0;
      while (i < to) {
        const record = records[order[i]!]!;
        if (!builder.append(record.timestamp, record.key, record.value, record.headers)) break;
        added++;
        i++;
      }
      if (added > 0) {
        at += builder.finish(this.sender.origin(partition, builder.count));
        inWrite += added;
      } else if (at > 0) {
        writeOut();
      } else {
        // Larger than a bulk batch: alone in one of its own.
        const record = records[order[i++]!]!;
        buffer = this.#takeBulk(Math.max(bulkWriteBytes, maxMessageBytes));
        builder.begin(buffer, 0, maxMessageBytes, compression);
        builder.append(record.timestamp, record.key, record.value, record.headers);
        at = builder.finish(this.sender.origin(partition, builder.count));
        inWrite = 1;
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

/** The topic's counts, unless it leaves it to the producer. */
function compressionOf(
  { settings: { compression } }: Topic | Partition,
  writer: LocalWriter,
): Compression {
  return compression === 'producer' ? writer.options.compression : compression;
}

/** Indexes of the records, those of one partition together, else in their order. */
function orderByPartition(
  partitions: Int32Array,
  count: number,
  partitionCount: number,
): Int32Array {
  const starts = new Int32Array(partitionCount + 1);
  for (let i = 0; i < count; i++) starts[partitions[i]! + 1]!++;
  for (let i = 0; i < partitionCount; i++) starts[i + 1]! += starts[i]!;
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[starts[partitions[i]!]!++] = i;
  return order;
}

/** Bytes that a batch with only this record may need. */
function batchSizeFor({ key, value, headers }: RawRecord): number {
  return RECORD_BATCH_OVERHEAD + recordSizeUpperBound(key, value, headers);
}

/** @throws MESSAGE_TOO_LARGE */
function refuseTooLarge({ name, settings }: Topic, bytes: number): void {
  if (bytes <= settings.maxMessageBytes) return;
  throw new OttlaError(
    'MESSAGE_TOO_LARGE',
    `${name}: a record whose batch takes up to ${bytes} bytes, expected at most ${settings.maxMessageBytes}, the topic's maxMessageBytes`,
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

/** A batch that single records are being added to. */
class OpenBatch implements AppendListener {
  readonly buffer: Buffer;
  readonly compression: Compression;
  linger: Timer | null = null;
  lingerMs: number = Infinity;
  readonly #accumulator: Accumulator;
  readonly #open: (OpenBatch | undefined)[];
  readonly #partition: Partition;
  readonly #limit: number;
  readonly #builder = new BatchBuilder();
  /** By record. */
  readonly #writers: LocalWriter[] = [];
  readonly #sinks: AppendSink[] = [];
  readonly #sizes: number[] = [];
  #baseOffset = -1;
  #timestamp = -1;

  constructor(
    accumulator: Accumulator,
    open: (OpenBatch | undefined)[],
    partition: Partition,
    buffer: Buffer,
    limit: number,
    compression: Compression,
  ) {
    this.#accumulator = accumulator;
    this.compression = compression;
    this.#open = open;
    this.#partition = partition;
    this.#limit = limit;
    this.buffer = buffer;
    this.#builder.begin(buffer, 0, limit, compression);
  }

  /** Whether not even a small record is likely to fit. */
  get isFull(): boolean {
    return this.#builder.bytes + 16 >= this.#limit;
  }

  /** @returns the record's bytes in the batch, 0 if it does not fit */
  add(writer: LocalWriter, record: RawRecord, sink: AppendSink): number {
    const before = this.#builder.bytes;
    if (!this.#builder.append(record.timestamp, record.key, record.value, record.headers)) return 0;
    const bytes = this.#builder.bytes - before;
    this.#writers.push(writer);
    this.#sinks.push(sink);
    this.#sizes.push(bytes);
    writer.took(bytes);
    return bytes;
  }

  write(): void {
    this.close();
    const { sender } = this.#accumulator;
    const bytes = this.#builder.finish(sender.origin(this.#partition, this.#builder.count));
    const wantsDurable = this.#writers.some((writer) => writer.options.acks === 'all');
    sender.append(this.#partition, this.buffer, 0, bytes, wantsDurable, this);
  }

  /** No more records are added. */
  close(): void {
    this.linger?.cancel();
    if (this.#open[this.#partition.index] === this) this.#open[this.#partition.index] = undefined;
  }

  written(baseOffset: number, timestamp: number): void {
    this.#baseOffset = baseOffset;
    this.#timestamp = timestamp;
    this.#acknowledge(false);
  }

  durable(): void {
    this.#acknowledge(true);
  }

  #acknowledge(durable: boolean): void {
    for (let i = 0; i < this.#sinks.length; i++) {
      const writer = this.#writers[i]!;
      if ((writer.options.acks === 'all') !== durable) continue;
      this.#sinks[i]!.acknowledged(this.#partition.index, this.#baseOffset + i, 1, this.#timestamp);
      writer.settled(this.#sizes[i]!);
    }
  }

  failed(error: OttlaError): void {
    this.close();
    this.#accumulator.onError(error);
    const isWritten = this.#baseOffset >= 0;
    for (let i = 0; i < this.#sinks.length; i++) {
      const writer = this.#writers[i]!;
      if (isWritten && writer.options.acks !== 'all') continue;
      const offset = isWritten ? this.#baseOffset + i : -1;
      this.#sinks[i]!.failed(error, this.#partition.index, offset, 1);
      writer.settled(this.#sizes[i]!);
    }
    const behind = this.#open[this.#partition.index];
    if (behind !== undefined) this.#accumulator.failOpen(behind, error);
  }
}

/** One call's worth of a bulk append. */
class BulkWrite implements AppendListener {
  failure: OttlaError | null = null;
  #baseOffset = -1;
  #timestamp = -1;
  readonly #accumulator: Accumulator;
  readonly #writer: LocalWriter;
  readonly #partition: Partition;
  readonly #open: readonly (OpenBatch | undefined)[];
  readonly #sink: AppendSink;
  readonly #count: number;
  readonly #bytes: number;

  constructor(
    accumulator: Accumulator,
    writer: LocalWriter,
    partition: Partition,
    open: readonly (OpenBatch | undefined)[],
    sink: AppendSink,
    count: number,
    bytes: number,
  ) {
    this.#accumulator = accumulator;
    this.#writer = writer;
    this.#partition = partition;
    this.#open = open;
    this.#sink = sink;
    this.#count = count;
    this.#bytes = bytes;
  }

  written(baseOffset: number, timestamp: number): void {
    this.#baseOffset = baseOffset;
    this.#timestamp = timestamp;
    if (this.#writer.options.acks !== 'all') this.durable();
  }

  durable(): void {
    const { index } = this.#partition;
    this.#sink.acknowledged(index, this.#baseOffset, this.#count, this.#timestamp);
    this.#writer.settled(this.#bytes);
  }

  failed(error: OttlaError): void {
    this.failure = error;
    this.#accumulator.onError(error);
    this.#sink.failed(error, this.#partition.index, this.#baseOffset, this.#count);
    this.#writer.settled(this.#bytes);
    const behind = this.#open[this.#partition.index];
    if (behind !== undefined) this.#accumulator.failOpen(behind, error);
  }
}

/** One producer's way into the log: counts what it has taken over and not yet acknowledged. */
export class LocalWriter implements Writer {
  readonly options: WriterOptions;
  readonly #accumulator: Accumulator;
  readonly #closed: (writer: LocalWriter) => void;
  #unacknowledgedBytes = 0;
  #waitingForRoom: (() => void)[] = [];
  #waitingForAll: (() => void)[] = [];

  constructor(
    accumulator: Accumulator,
    options: WriterOptions,
    closed: (writer: LocalWriter) => void,
  ) {
    this.#accumulator = accumulator;
    this.options = options;
    this.#closed = closed;
  }

  get isEmpty(): boolean {
    return this.#unacknowledgedBytes === 0;
  }

  append(topic: TopicInfo, partition: number, record: RawRecord, sink: AppendSink): number {
    if (this.#unacknowledgedBytes >= this.options.bufferMemory) return -1;
    return this.#accumulator.append(this, topic, partition, record, sink);
  }

  appendAll(topic: TopicInfo, records: RawRecords, sink: AppendSink): boolean {
    if (this.#unacknowledgedBytes >= this.options.bufferMemory) return false;
    this.#accumulator.appendAll(this, topic, records, sink);
    return true;
  }

  /** Writes what lingers, of all that share its batches. */
  writeNow(): void {
    this.#accumulator.writeAll();
  }

  forgetTopic(topic: Topic): void {
    this.#accumulator.forgetTopic(topic);
  }

  took(bytes: number): void {
    this.#unacknowledgedBytes += bytes;
  }

  settled(bytes: number): void {
    this.#unacknowledgedBytes -= bytes;
    if (this.#waitingForRoom.length > 0 && this.#unacknowledgedBytes < this.options.bufferMemory) {
      const waiting = this.#waitingForRoom;
      this.#waitingForRoom = [];
      for (const resolve of waiting) resolve();
    }
    if (this.#unacknowledgedBytes === 0 && this.#waitingForAll.length > 0) {
      const waiting = this.#waitingForAll;
      this.#waitingForAll = [];
      for (const resolve of waiting) resolve();
    }
  }

  /** What lingers is written first: it is what fills the buffer. */
  drained(): Promise<void> {
    if (this.#unacknowledgedBytes < this.options.bufferMemory) return Promise.resolve();
    this.#accumulator.writeAll();
    if (this.#unacknowledgedBytes < this.options.bufferMemory) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForRoom.push(resolve));
  }

  flush(): Promise<void> {
    this.#accumulator.writeAll();
    if (this.#unacknowledgedBytes === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForAll.push(resolve));
  }

  async close(): Promise<void> {
    await this.flush();
    this.#closed(this);
  }
}
