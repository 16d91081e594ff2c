import { withDeadline, type Clock } from './clock.js';
import type { AppendSink, Engine, RawRecord, Writer } from './engine.js';
import { OttlaError, type WrittenRun } from './errors.js';
import {
  aSignal,
  checkOptions,
  checkValue,
  got,
  integer,
  milliseconds,
  producerDefaults,
  producerOptions,
  withDefaults,
  type Partitioner,
  type ProducerOptions,
} from './options.js';
import { RoundRobinPartitioner, partitionForKey } from './partitioner.js';
import { noHeaders, type Bytes, type RecordHeaders } from './record.js';
import {
  definitionOf,
  encode,
  type KeyIn,
  type NameOf,
  type TopicDefinition,
  type TopicRef,
  type ValueIn,
} from './serde.js';
import type { TopicInfo } from './topic.js';

/** Headers to send: pairs, in which a name may come more than once, or an object. */
export type HeadersIn =
  | readonly (readonly [name: string, value: Uint8Array | string | null])[]
  | Readonly<Record<string, Uint8Array | string | null>>;

/** A record to send to topic T. */
export interface RecordToSend<T = string> {
  /** Decides the partition, by its hash; null or absent: the partitioner chooses. */
  readonly key?: KeyIn<T> | null;
  readonly value: ValueIn<T>;
  readonly headers?: HeadersIn;
  /** ms since 1970. @default now */
  readonly timestamp?: number;
  /** @default the partitioner's choice */
  readonly partition?: number;
}

/** Where a record is. */
export interface RecordMetadata<T = string> {
  readonly topic: NameOf<T>;
  readonly partition: number;
  /** -1 with acks 0. */
  readonly offset: number;
  readonly timestamp: number;
}

/** A sendBatch takes over this many records at a time. */
const batchRecords = 4096;
/** A sendBatch works this long before the host's other work gets a turn. */
const turnMs = 5;

/** Sends records. Made by `ottla.producer()`. */
export class Producer {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #writer: Writer;
  readonly #acks: ProducerOptions['acks'];
  readonly #maxBlockMs: number;
  readonly #partitioner: Partitioner | null;
  readonly #closed: () => void;
  /** Sends that found the buffer full, in order. */
  #blocked: BlockedSend[] = [];
  #unblocking: Promise<void> | null = null;
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(
    engine: Engine,
    clock: Clock,
    random: () => number,
    options: ProducerOptions | undefined,
    closed: () => void,
  ) {
    checkOptions('producer', producerOptions, options);
    const { acks, lingerMs, batchSize, bufferMemory, maxBlockMs, partitioner } = withDefaults(
      producerDefaults,
      options,
    );
    this.#engine = engine;
    this.#clock = clock;
    this.#acks = acks;
    this.#maxBlockMs = maxBlockMs;
    this.#writer = engine.writer({ acks, lingerMs, batchSize, bufferMemory });
    this.#partitioner = partitionerFor(partitioner, random);
    this.#closed = closed;
  }

  /**
   * Sends one record. It is encoded before this returns, so the caller may use the object again. Records
   * of one partition are written in the order of the calls.
   *
   * @param options.signal ends the wait for room in the buffer, nothing else
   * @returns where the record is, once that is as sure as `acks` asks
   * @throws TypeError, RangeError for a wrong argument; MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION;
   *   REQUEST_TIMED_OUT after maxBlockMs without room; KAFKA_STORAGE_ERROR; CLOSED
   */
  send<const T extends TopicRef>(
    topic: T,
    record: RecordToSend<T>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<RecordMetadata<T>> {
    try {
      return this.#send(topic, record, options?.signal) as Promise<RecordMetadata<T>>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #send(
    topic: TopicRef,
    record: RecordToSend<TopicRef>,
    signal: AbortSignal | undefined,
  ): Promise<RecordMetadata> {
    const definition = definitionOf('send', topic);
    const info = this.#topic(definition.name);
    if (signal !== undefined) checkValue('send', 'signal', aSignal, signal);
    const raw = rawRecord(definition, record, this.#clock.now());
    const partition = this.#partitionOf(info, record.partition, raw.key);
    const send = new PendingSend(info.name, raw.timestamp);
    if (this.#blocked.length > 0 || !this.#tryAppend(info, partition, raw, send)) {
      return this.#block(info, partition, raw, send, signal);
    }
    return send.promise;
  }

  /** @returns false if there is no room */
  #tryAppend(info: TopicInfo, partition: number, raw: RawRecord, send: PendingSend): boolean {
    const sink = this.#acks === 0 ? nobody : send;
    const chosen = this.#writer.append(info, partition, raw, sink);
    if (chosen === -1) return false;
    if (this.#acks === 0) send.acknowledged(chosen, -1);
    return true;
  }

  #topic(name: string): TopicInfo {
    if (this.#closing !== null) throw new OttlaError('CLOSED', 'the producer is closed');
    const info = this.#engine.topic(name);
    if (info !== undefined) return info;
    throw new OttlaError(
      'UNKNOWN_TOPIC_OR_PARTITION',
      `there is no topic ${JSON.stringify(name)}: create it first`,
    );
  }

  /** -1: the sticky rule of the engine. */
  #partitionOf(info: TopicInfo, explicit: number | undefined, key: Bytes | null): number {
    const { name, partitionCount } = info;
    if (explicit !== undefined) return checkedPartition(name, explicit, partitionCount);
    if (this.#partitioner !== null) {
      return checkedPartition(name, this.#partitioner(name, key, partitionCount), partitionCount);
    }
    if (key === null) return partitionCount === 1 ? 0 : -1;
    return partitionCount === 1 ? 0 : partitionForKey(key, partitionCount);
  }

  /** The caller may reuse what it passed: bytes are copied now. */
  #block(
    info: TopicInfo,
    partition: number,
    raw: RawRecord,
    send: PendingSend,
    signal: AbortSignal | undefined,
  ): Promise<RecordMetadata> {
    const deadline = this.#clock.monotonic() + this.#maxBlockMs;
    const blocked: BlockedSend = { info, partition, raw: copied(raw), send, deadline };
    if (signal?.aborted === true) {
      send.fail(waitAborted(signal));
      return send.promise;
    }
    this.#blocked.push(blocked);
    if (signal !== undefined) this.#failOnAbort(blocked, signal);
    this.#unblocking ??= this.#unblock();
    return send.promise;
  }

  #failOnAbort(blocked: BlockedSend, signal: AbortSignal): void {
    const onAbort = (): void => {
      const at = this.#blocked.indexOf(blocked);
      if (at === -1) return;
      this.#blocked.splice(at, 1);
      blocked.send.fail(waitAborted(signal));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    blocked.unlisten = () => signal.removeEventListener('abort', onAbort);
  }

  /** Appends what waits as room comes, in order; fails what waited for maxBlockMs. */
  async #unblock(): Promise<void> {
    for (;;) {
      const head = this.#blocked[0];
      if (head === undefined) break;
      const { info, partition, raw, send, deadline } = head;
      try {
        if (this.#tryAppend(info, partition, raw, send)) {
          this.#blocked.shift();
          head.unlisten?.();
        } else if (this.#clock.monotonic() >= deadline) {
          throw noRoom(info.name, this.#maxBlockMs);
        } else {
          await this.#roomBefore(deadline);
        }
      } catch (error) {
        this.#blocked.shift();
        head.unlisten?.();
        send.fail(error as OttlaError);
      }
    }
    this.#unblocking = null;
  }

  async #roomBefore(deadline: number, signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.#clock.after(deadline - this.#clock.monotonic(), done);
      signal?.addEventListener('abort', done);
      void this.#writer.drained().then(done);
    });
  }

  /**
   * Sends many records, in as few writes as possible; waits by itself while the buffer is full. Each
   * write of up to 1 MiB to a partition is there whole or not at all; nothing else is atomic.
   *
   * @returns one entry for each contiguous run of offsets
   * @throws as send(); the error's `written` says exactly what is in the log
   */
  async sendBatch<const T extends TopicRef>(
    topic: T,
    records: Iterable<RecordToSend<T>> | AsyncIterable<RecordToSend<T>>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<WrittenRun[]> {
    const { signal } = options;
    const definition = definitionOf('sendBatch', topic);
    if (signal !== undefined) checkValue('sendBatch', 'signal', aSignal, signal);
    const batch = new PendingBatch();
    try {
      this.#topic(definition.name);
      if (isAsyncIterable(records)) await this.#sendAsync(definition, records, batch, signal);
      else await this.#sendAll(definition, iterable(records), batch, signal);
    } catch (error) {
      batch.stop(error);
    }
    return batch.done();
  }

  async #sendAll(
    definition: TopicDefinition,
    records: Iterable<RecordToSend<TopicRef>>,
    batch: PendingBatch,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let chunk = this.#newChunk(definition);
    let turnEnd = this.#clock.monotonic() + turnMs;
    for (const record of records) {
      this.#addTo(chunk, record);
      if (chunk.records.length < batchRecords) continue;
      await this.#appendAll(chunk, batch, signal);
      if (this.#clock.monotonic() >= turnEnd) {
        await new Promise<void>((resolve) => this.#clock.soon(resolve));
        turnEnd = this.#clock.monotonic() + turnMs;
      }
      chunk = this.#newChunk(definition);
    }
    await this.#appendAll(chunk, batch, signal);
  }

  /** What has come is written at the end of the turn at the latest: nothing waits for more to come. */
  async #sendAsync(
    definition: TopicDefinition,
    records: AsyncIterable<RecordToSend<TopicRef>>,
    batch: PendingBatch,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const iterator = records[Symbol.asyncIterator]();
    let chunk = this.#newChunk(definition);
    let turnOver: Promise<null> | null = null;
    let next = iterator.next();
    try {
      for (;;) {
        const result: IteratorResult<RecordToSend<TopicRef>> | null =
          turnOver === null ? await next : await Promise.race([next, turnOver]);
        if (result === null || result.done === true || chunk.records.length === batchRecords) {
          await this.#appendAll(chunk, batch, signal);
          chunk = this.#newChunk(definition);
          turnOver = null;
        }
        if (result === null) continue;
        if (result.done === true) return;
        this.#addTo(chunk, result.value);
        turnOver ??= new Promise((resolve) => this.#clock.soon(() => resolve(null)));
        next = iterator.next();
      }
    } catch (error) {
      next.catch(() => undefined);
      await iterator.return?.();
      throw error;
    }
  }

  #newChunk(definition: TopicDefinition): Chunk {
    const partitions = new Int32Array(batchRecords);
    return { definition, records: [], partitions, now: this.#clock.now() };
  }

  #addTo({ definition, records, partitions, now }: Chunk, record: RecordToSend<TopicRef>): void {
    const raw = rawRecord(definition, record, now);
    const info = this.#topic(definition.name);
    partitions[records.length] = this.#partitionOf(info, record.partition, raw.key);
    records.push(raw);
  }

  async #appendAll(
    { definition, records, partitions: all }: Chunk,
    batch: PendingBatch,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    // Sends that wait for room came first.
    while (this.#unblocking !== null) await this.#unblocking;
    batch.refuseIfFailed();
    const { name } = definition;
    const partitions = all.subarray(0, records.length);
    const sink = this.#acks === 0 ? nobody : batch;
    const deadline = this.#clock.monotonic() + this.#maxBlockMs;
    while (!this.#writer.appendAll(this.#topic(name), partitions, records, sink)) {
      if (signal?.aborted === true) throw waitAborted(signal);
      if (this.#clock.monotonic() >= deadline) throw noRoom(name, this.#maxBlockMs);
      await this.#roomBefore(deadline, signal);
    }
    if (this.#acks === 0) batch.takenOver(partitions);
    else batch.expect(records.length);
  }

  /** Writes what lingers. Resolves when everything sent until now is acknowledged or has failed. */
  async flush(): Promise<void> {
    while (this.#unblocking !== null) await this.#unblocking;
    await this.#writer.flush();
  }

  /**
   * Flushes, then refuses sends. Idempotent.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs; what was sent settles all the same
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.flush()
      .then(() => this.#writer.close())
      .finally(this.#closed);
    await withDeadline(this.#clock, this.#closing, options.timeoutMs, 'close of the producer');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Records of a sendBatch on their way, with their partitions. */
interface Chunk {
  readonly definition: TopicDefinition;
  readonly records: RawRecord[];
  readonly partitions: Int32Array;
  readonly now: number;
}

/** With acks 0 nobody is told. */
const nobody: AppendSink = { acknowledged: () => undefined, failed: () => undefined };

interface BlockedSend {
  readonly info: TopicInfo;
  readonly partition: number;
  readonly raw: RawRecord;
  readonly send: PendingSend;
  readonly deadline: number;
  unlisten?: () => void;
}

/** One send's promise. */
class PendingSend implements AppendSink {
  readonly promise: Promise<RecordMetadata>;
  readonly #topic: string;
  readonly #timestamp: number;
  #resolve!: (metadata: RecordMetadata) => void;
  #reject!: (error: OttlaError) => void;

  constructor(topic: string, timestamp: number) {
    this.#topic = topic;
    this.#timestamp = timestamp;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  acknowledged(partition: number, offset: number, _count = 1, logAppendTime = -1): void {
    const timestamp = logAppendTime === -1 ? this.#timestamp : logAppendTime;
    this.#resolve({ topic: this.#topic, partition, offset, timestamp });
  }

  failed(error: OttlaError): void {
    this.fail(error);
  }

  /** A send that nobody awaits must not end the process: its failure is told by the 'error' event. */
  fail(error: OttlaError): void {
    this.promise.catch(() => undefined);
    this.#reject(error);
  }
}

/** One sendBatch: what it wrote, and what is still under way. */
class PendingBatch implements AppendSink {
  readonly #runs: WrittenRun[] = [];
  #expected = 0;
  #settled = 0;
  #error: unknown = null;
  #finished: (() => void) | null = null;

  expect(count: number): void {
    this.#expected += count;
  }

  /** acks 0: nothing will be known of these. */
  takenOver(partitions: Int32Array): void {
    const counts = new Map<number, number>();
    for (const partition of partitions) counts.set(partition, (counts.get(partition) ?? 0) + 1);
    for (const [partition, count] of counts) this.#runs.push({ partition, baseOffset: -1, count });
  }

  acknowledged(partition: number, baseOffset: number, count: number): void {
    this.#add(partition, baseOffset, count);
    this.#settle(count);
  }

  failed(error: OttlaError, partition: number, baseOffset: number, count: number): void {
    this.#error ??= error;
    if (baseOffset >= 0) this.#add(partition, baseOffset, count);
    this.#settle(count);
  }

  #add(partition: number, baseOffset: number, count: number): void {
    const last = this.#runs.findLastIndex((run) => run.partition === partition);
    const run = this.#runs[last];
    if (run !== undefined && run.baseOffset + run.count === baseOffset) {
      this.#runs[last] = { partition, baseOffset: run.baseOffset, count: run.count + count };
    } else {
      this.#runs.push({ partition, baseOffset, count });
    }
  }

  #settle(count: number): void {
    this.#settled += count;
    if (this.#settled >= this.#expected) this.#finished?.();
  }

  stop(error: unknown): void {
    this.#error ??= error;
  }

  refuseIfFailed(): void {
    if (this.#error !== null) throw this.#error;
  }

  async done(): Promise<WrittenRun[]> {
    if (this.#settled < this.#expected) {
      await new Promise<void>((resolve) => {
        this.#finished = resolve;
      });
    }
    if (this.#error === null) return this.#runs;
    if (!(this.#error instanceof OttlaError)) throw this.#error;
    const { code, message, retriable } = this.#error;
    throw new OttlaError(code, message, { cause: this.#error, retriable, written: this.#runs });
  }
}

function partitionerFor(
  partitioner: 'default' | 'roundrobin' | Partitioner,
  random: () => number,
): Partitioner | null {
  if (typeof partitioner === 'function') return partitioner;
  if (partitioner === 'default') return null;
  const roundRobin = new RoundRobinPartitioner(() => (random() * 2 ** 32) | 0);
  return (topic, _key, partitionCount) => roundRobin.partition(topic, partitionCount);
}

function checkedPartition(topic: string, partition: number, partitionCount: number): number {
  if (Number.isInteger(partition) && partition >= 0 && partition < partitionCount) return partition;
  const message = `topic ${topic}: expected a partition from 0 to ${partitionCount - 1}, got ${got(partition)}`;
  if (typeof partition !== 'number') throw new TypeError(message);
  throw Object.assign(new RangeError(message), { code: 'UNKNOWN_TOPIC_OR_PARTITION' });
}

const timestampCheck = integer(0);

function rawRecord(
  definition: TopicDefinition,
  record: RecordToSend<TopicRef>,
  now: number,
): RawRecord {
  if (typeof record !== 'object' || record === null) {
    throw new TypeError(`${definition.name}: expected a record { key, value }, got ${got(record)}`);
  }
  const { timestamp = now, headers } = record;
  if (timestamp !== now) checkValue(definition.name, 'timestamp', timestampCheck, timestamp);
  return {
    timestamp,
    key: encode(definition, 'key', record.key),
    value: encode(definition, 'value', record.value),
    headers: headers === undefined ? noHeaders : checkedHeaders(definition.name, headers),
  };
}

function checkedHeaders(topic: string, headers: HeadersIn): RecordHeaders {
  const isObject = typeof headers === 'object' && headers !== null;
  const pairs: RecordHeaders = !isObject
    ? noHeaders
    : isPairs(headers)
      ? headers
      : Object.entries(headers);
  for (const [name, value] of pairs) {
    const isValue = value === null || typeof value === 'string' || value instanceof Uint8Array;
    if (typeof name === 'string' && isValue) continue;
    throw new TypeError(
      `${topic}: expected header names to be strings and values a Uint8Array, a string or null, got ${got([name, value])}`,
    );
  }
  if (isObject) return pairs;
  throw new TypeError(`${topic}: expected headers to be pairs or an object, got ${got(headers)}`);
}

function isPairs(headers: HeadersIn): headers is RecordHeaders {
  return Array.isArray(headers) && headers.every((pair) => Array.isArray(pair));
}

function copied({ timestamp, key, value, headers }: RawRecord): RawRecord {
  return {
    timestamp,
    key: copiedBytes(key),
    value: copiedBytes(value),
    headers: headers.map(([name, header]) => [name, copiedBytes(header)] as const),
  };
}

function copiedBytes(bytes: Bytes | null): Bytes | null {
  return bytes instanceof Uint8Array ? Buffer.from(bytes) : bytes;
}

function isAsyncIterable<T>(records: Iterable<T> | AsyncIterable<T>): records is AsyncIterable<T> {
  return typeof (records as AsyncIterable<T> | null)?.[Symbol.asyncIterator] === 'function';
}

function iterable<T>(records: Iterable<T>): Iterable<T> {
  if (typeof (records as Iterable<T> | null)?.[Symbol.iterator] === 'function') return records;
  throw new TypeError(`sendBatch: expected an iterable of records, got ${got(records)}`);
}

function waitAborted(signal: AbortSignal): OttlaError {
  return new OttlaError('ABORTED', 'the wait for room in the buffer was aborted', {
    cause: signal.reason,
  });
}

function noRoom(topic: string, maxBlockMs: number): OttlaError {
  return new OttlaError(
    'REQUEST_TIMED_OUT',
    `${topic}: no room in the buffer for ${maxBlockMs} ms (maxBlockMs); nothing was written`,
  );
}
