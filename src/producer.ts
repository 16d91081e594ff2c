import { withDeadline, type Clock } from './clock.js';
import { loadCompressor } from './compressor.js';
import type { AppendSink, Engine, ProducerMetrics, TransactionalWriter, Writer } from './engine.js';
import { OttlaError, asUnheard, unknownTopic, type WrittenRun } from './errors.js';
import {
  aSignal,
  checkOptions,
  got,
  milliseconds,
  producerDefaults,
  producerOptions,
  withDefaults,
  type Acks,
  type ProducerOptions,
} from './options.js';
import { BlockedSends } from './producer-blocked.js';
import { BulkSends } from './producer-bulk.js';
import { PendingBatch, PendingSend, nobody } from './producer-outcome.js';
import { PartitionChoice } from './producer-partition.js';
import { Transaction, TransactionSends, failedWork, sourceOf } from './producer-transaction.js';
import {
  copiedBytes,
  copiedHeaders,
  rawHeaders,
  rawTimestamp,
  type RecordMetadata,
  type AnyRecord,
  type RecordToSend,
} from './producer-record.js';
import type { ConsumerBatch, TransactionSource } from './consumer-record.js';
import type { Bytes, RecordHeaders } from './record.js';
import { definitionOf, encode, shared, type TopicDefinition, type TopicRef } from './serde.js';
import { withSignal } from './signal.js';
import type { TopicInfo } from './topic.js';
import { watched } from './watched.js';

/** Options of a send. */
export interface SendOptions {
  /**
   * Ends the wait for room in the buffer, and that of a sendBatch for its source, with ABORTED, and nothing
   * else. @default none
   */
  readonly signal?: AbortSignal;
}

/** Options of a wait. */
export interface WaitOptions {
  /** Ends the wait, with ABORTED, and nothing else. @default none */
  readonly signal?: AbortSignal;
}

/** What its owner is told. */
export interface ProducerEvents {
  /** A send failed that never became part of a batch, and nobody asked what became of it. */
  error(error: OttlaError): void;
  closed(): void;
}

const sendOptions = { signal: aSignal };

/** Sends records. Made by `ottla.producer()`. */
export class Producer {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #writer: Writer;
  readonly #transactional: TransactionalWriter | null = null;
  readonly #acks: ProducerOptions['acks'];
  readonly #choice: PartitionChoice;
  readonly #events: ProducerEvents;
  readonly #blocked: BlockedSends;
  readonly #bulk: BulkSends;
  #closing: Promise<void> | null = null;
  /** What send() was called with last, which was checked then: most calls are with the same. */
  #lastTopic: TopicRef | null = null;
  #lastDefinition: TopicDefinition | null = null;

  /** @internal */
  constructor(
    engine: Engine,
    clock: Clock,
    random: () => number,
    options: ProducerOptions | undefined,
    events: ProducerEvents,
  ) {
    checkOptions('producer', producerOptions, options);
    const settings = withDefaults(producerDefaults, options);
    const { acks, compression, lingerMs, maxBlockMs, partitioner } = settings;
    const deliveryTimeoutMs = checkedDeliveryTimeout(options?.deliveryTimeoutMs, lingerMs);
    const transactionalId = options?.transactionalId;
    checkAcks(acks, settings.idempotent, transactionalId);
    loadCompressor(compression);
    this.#engine = engine;
    this.#clock = clock;
    this.#acks = acks;
    if (transactionalId === undefined) {
      this.#writer = engine.writer({ ...settings, deliveryTimeoutMs });
    } else {
      const named = { ...settings, deliveryTimeoutMs, transactionalId };
      this.#transactional = engine.transactionalWriter(named);
      this.#writer = this.#transactional;
    }
    this.#blocked = new BlockedSends(
      clock,
      this.#writer,
      maxBlockMs,
      ({ info, partition, timestamp, key, value, headers, sink }) =>
        this.#tryAppend(info, partition, timestamp, key, value, headers, sink),
      (error) => this.#tell(error),
    );
    this.#choice = new PartitionChoice(partitioner, random);
    this.#bulk = new BulkSends({
      clock,
      writer: this.#writer,
      acks,
      bufferMemory: settings.bufferMemory,
      choice: this.#choice,
      blocked: this.#blocked,
      topic: (name) => this.#topic(name),
    });
    this.#events = events;
  }

  /**
   * Sends one record. It is encoded before this returns, so the caller may use the object again. Records
   * of one partition are written in the order of the calls.
   *
   * A failure that nobody awaits ends no process: the 'error' event tells it.
   *
   * @returns where the record is, once that is as sure as `acks` asks
   * @throws TypeError, RangeError for a wrong argument; MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION;
   *   REQUEST_TIMED_OUT after maxBlockMs without room; KAFKA_STORAGE_ERROR; CLOSED
   */
  send<const T extends TopicRef>(
    topic: T,
    record: RecordToSend<T>,
    options?: SendOptions,
  ): Promise<RecordMetadata<T>> {
    try {
      return this.#send(topic, record, options) as Promise<RecordMetadata<T>>;
    } catch (error) {
      return watched(Promise.reject(error as Error), this.#clock, () => this.#tell(error));
    }
  }

  /** The engine tells of failed batches itself. */
  #tell(error: unknown): void {
    this.#events.error(asUnheard(error));
  }

  #send(
    topic: TopicRef,
    record: AnyRecord,
    options: SendOptions | undefined,
  ): Promise<RecordMetadata> {
    this.#refuseTransactional('send');
    const definition = shared(this.#engine, this.#definitionOf(topic));
    const info = this.#topic(definition.name);
    checkOptions('send', sendOptions, options);
    const timestamp = rawTimestamp(definition, record, this.#clock.now());
    const send = new PendingSend(info.name, timestamp);
    this.#append(definition, info, record, timestamp, send, options?.signal);
    return send.promise;
  }

  /** Encodes a record and hands it to the engine, or to those that wait for room. */
  #append(
    definition: TopicDefinition,
    info: TopicInfo,
    record: AnyRecord,
    timestamp: number,
    sink: AppendSink,
    signal: AbortSignal | undefined,
  ): void {
    const key = encode(definition, 'key', record.key);
    const value = encode(definition, 'value', record.value);
    const headers = rawHeaders(definition, record);
    const partition = this.#choice.of(info, record.partition, key);
    const isTaken =
      this.#blocked.count === 0 &&
      this.#tryAppend(info, partition, timestamp, key, value, headers, sink);
    if (isTaken) return;
    const own = {
      key: copiedBytes(key),
      value: copiedBytes(value),
      headers: copiedHeaders(headers),
    };
    this.#blocked.add({ info, partition, timestamp, ...own, sink }, signal);
  }

  #refuseTransactional(what: string): void {
    if (this.#transactional === null) return;
    throw new OttlaError(
      'INVALID_TXN_STATE',
      `${what}: a producer with a transactionalId sends in a transaction only`,
    );
  }

  #definitionOf(topic: TopicRef): TopicDefinition {
    if (topic !== this.#lastTopic) {
      this.#lastDefinition = definitionOf('send', topic);
      this.#lastTopic = topic;
    }
    return this.#lastDefinition!;
  }

  /** @returns false if there is no room */
  #tryAppend(
    info: TopicInfo,
    partition: number,
    timestamp: number,
    key: Bytes | null,
    value: Bytes | null,
    headers: RecordHeaders,
    sink: AppendSink,
  ): boolean {
    const told = this.#acks === 0 ? nobody : sink;
    const chosen = this.#writer.append(info, partition, timestamp, key, value, headers, told);
    if (chosen === -1) return false;
    if (this.#acks === 0) sink.acknowledged(chosen, -1, 1, -1);
    return true;
  }

  #topic(name: string): TopicInfo {
    if (this.#closing !== null) throw closedError();
    const info = this.#engine.topic(name);
    if (info !== undefined) return info;
    throw unknownTopic(name);
  }

  /**
   * Sends many records, in as few writes as possible; waits by itself while the buffer is full. Each
   * write of up to 1 MiB to a partition is there whole or not at all; nothing else is atomic. What is sent
   * before it resolves may come to lie between its records.
   *
   * @param records an array, and the bytes in it, must stay as they are until then; any other source may
   *   use a record again once it is asked for the next
   * @returns one entry for each contiguous run of offsets
   * @throws as send(), and what `records` throws; the error's `written` says exactly what is in the log
   */
  sendBatch<const T extends TopicRef>(
    topic: T,
    records: Iterable<RecordToSend<T>> | AsyncIterable<RecordToSend<T>>,
    options?: SendOptions,
  ): Promise<WrittenRun[]> {
    const batch = new PendingBatch();
    const sent = this.#sendBatch(topic, records, options, batch);
    return watched(sent, this.#clock, (error) => {
      if (!batch.hasFailed) this.#tell(error);
    });
  }

  async #sendBatch(
    topic: TopicRef,
    records: Iterable<AnyRecord> | AsyncIterable<AnyRecord>,
    options: SendOptions | undefined,
    batch: PendingBatch,
  ): Promise<WrittenRun[]> {
    try {
      this.#refuseTransactional('sendBatch');
      const definition = shared(this.#engine, definitionOf('sendBatch', topic));
      checkOptions('sendBatch', sendOptions, options);
      this.#topic(definition.name);
      await this.#bulk.send(definition, records, batch, options?.signal);
    } catch (error) {
      batch.stop(error);
    }
    return batch.done();
  }

  /**
   * Calls `work` with a transaction: what it sends becomes visible to readers of 'read_committed' when
   * `work` has settled, all of it at once, with the offsets that it commits; over partitions, and over a
   * crash. If `work` throws or anything fails, none of it ever does.
   *
   * One at a time; a second call while one is open rejects. A failure that nobody awaits ends no process: the
   * 'error' event tells it.
   *
   * @returns what `work` returned, once the commit is durable
   * @throws what `work` throws; the first failure of a send; CONCURRENT_TRANSACTIONS while another one is
   *   open; PRODUCER_FENCED when the transactionalId was taken over, or the transaction timed out;
   *   ILLEGAL_GENERATION if a partition is not owned any more; TypeError without a transactionalId;
   *   KAFKA_STORAGE_ERROR, CLOSED
   */
  transaction<R>(work: (t: Transaction) => R | Promise<R>): Promise<R>;
  /**
   * As transaction(work), and the batch belongs to it: a commit moves the group's position behind it, an
   * abort seeks back to its beginning; an automatic commit keeps its hands off meanwhile.
   * @throws TypeError for a batch of another Ottla, or of read()
   */
  transaction<R>(batch: ConsumerBatch, work: (t: Transaction) => R | Promise<R>): Promise<R>;
  transaction<R>(
    first: ConsumerBatch | ((t: Transaction) => R | Promise<R>),
    second?: (t: Transaction) => R | Promise<R>,
  ): Promise<R> {
    const sends = new TransactionSends();
    const done =
      typeof first === 'function'
        ? this.#transaction(() => null, first, sends)
        : this.#transaction(() => sourceOf(first, this.#engine), second, sends);
    return watched(done, this.#clock, (error) => {
      if (error !== sends.failure) this.#events.error(failedWork(error));
    });
  }

  /** @param take gives the batch that belongs to the transaction into it; null: there is none */
  async #transaction<R>(
    take: () => TransactionSource | null,
    work: ((t: Transaction) => R | Promise<R>) | undefined,
    sends: TransactionSends,
  ): Promise<R> {
    const writer = this.#transactional;
    if (writer === null) throw new TypeError('transaction: this producer has no transactionalId');
    if (typeof work !== 'function') {
      throw new TypeError(`transaction: expected a function, got ${got(work)}`);
    }
    if (this.#closing !== null) throw closedError();
    const source = take();
    try {
      await writer.begin();
    } catch (error) {
      source?.aborted();
      throw error;
    }
    const host = {
      engine: this.#engine,
      writer,
      send: (topic: TopicRef, record: AnyRecord, sink: AppendSink) =>
        this.#sendIn(topic, record, sink),
      flush: () => this.#flush(),
      abandon: (error: OttlaError) => this.#blocked.abandon(error),
    };
    return new Transaction(host, sends).run(work, source);
  }

  #sendIn(topic: TopicRef, record: AnyRecord, sink: AppendSink): void {
    const definition = shared(this.#engine, definitionOf('send', topic));
    const info = this.#topic(definition.name);
    const timestamp = rawTimestamp(definition, record, this.#clock.now());
    this.#append(definition, info, record, timestamp, sink, undefined);
  }

  /**
   * Writes what lingers. Resolves when everything sent until now is acknowledged or has failed, whatever is
   * sent meanwhile.
   * @throws ABORTED once `signal` aborts: what was sent settles all the same
   */
  flush(options: WaitOptions = {}): Promise<void> {
    return watched(this.#flushUnless(options), this.#clock, (error) => this.#tell(error));
  }

  async #flushUnless(options: WaitOptions): Promise<void> {
    checkOptions('flush', sendOptions, options);
    await withSignal(this.#flush(), options.signal, 'flush of the producer');
  }

  async #flush(): Promise<void> {
    if (this.#blocked.count > 0) await this.#blocked.passed();
    await this.#writer.flush();
  }

  /**
   * Flushes, then refuses sends. Idempotent.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs, in ms; ABORTED: what was sent settles all
   *   the same
   */
  close(options: WaitOptions & { readonly timeoutMs?: number } = {}): Promise<void> {
    return watched(this.#close(options), this.#clock, (error) => this.#tell(error));
  }

  async #close(options: WaitOptions & { readonly timeoutMs?: number }): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds, signal: aSignal }, options);
    this.#closing ??= this.#flush()
      .then(() => this.#writer.close())
      .finally(() => this.#events.closed());
    const { timeoutMs, signal } = options;
    const closed = withSignal(this.#closing, signal, 'close of the producer');
    await withDeadline(this.#clock, closed, timeoutMs, 'close of the producer');
  }

  /** How much was sent, in how many batches, how full the buffer is: as of now, costing next to nothing. */
  metrics(): ProducerMetrics {
    return { ...this.#writer.metrics, waitingSendCount: this.#blocked.count };
  }

  /** As close(): for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Kafka refuses less than linger.ms as well. */
function checkedDeliveryTimeout(timeoutMs: number | undefined, lingerMs: number): number {
  if (timeoutMs === undefined) return Math.max(producerDefaults.deliveryTimeoutMs, lingerMs);
  if (timeoutMs >= lingerMs) return timeoutMs;
  throw new RangeError(
    `producer: deliveryTimeoutMs must be at least lingerMs, ${lingerMs}, got ${timeoutMs}`,
  );
}

/** @throws TypeError */
function checkAcks(acks: Acks, idempotent: boolean, transactionalId: string | undefined): void {
  if (transactionalId !== undefined && acks !== 'all') {
    throw new TypeError(`producer: a transactionalId needs acks 'all', got ${got(acks)}`);
  }
  if (idempotent && acks === 0) {
    throw new TypeError('producer: idempotent needs acks 1 or all, got 0');
  }
}

function closedError(): OttlaError {
  return new OttlaError('CLOSED', 'the producer is closed');
}
