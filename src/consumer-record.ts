import type { CommitPosition, Engine, Reader, RecordFormat } from './engine.js';
import type { Headers } from './headers.js';
import {
  decode,
  decodeHeaders,
  type HeadersOut,
  type KeyOut,
  type NameOf,
  type TopicDefinition,
  type ValueOut,
} from './serde.js';

/** Commits the next offset to read, if this goes forward. */
export interface Committer {
  commitTo(topic: string, partition: number, offset: number, ownership: number): Promise<void>;
}

/** What a transaction commits of a consumer, and tells it. */
export interface TransactionSource {
  readonly reader: Reader<unknown>;
  readonly positions: readonly (CommitPosition & { readonly ownership: number })[];
  /** The offsets are committed. */
  readonly committed: () => void;
  /** The records will be handed out again. */
  readonly aborted: () => void;
}

/** Gives a batch into a transaction. @throws TypeError, ILLEGAL_GENERATION */
export type TakeInto = (engine: Engine) => TransactionSource;

/** The record that comes out of topic T. */
export type RecordOf<T> = T extends unknown
  ? ConsumerRecord<NameOf<T>, KeyOut<T>, ValueOut<T>, HeadersOut<T>>
  : never;

/** The batches that come out of topic T: of each topic by itself, so that its name tells the records' type. */
export type BatchOf<T> = T extends unknown ? ConsumerBatch<RecordOf<T>> : never;

/** A record that was read. */
export class ConsumerRecord<
  Topic extends string = string,
  Key = unknown,
  Value = unknown,
  HeadersOfIt = unknown,
> {
  readonly topic: Topic;
  readonly partition: number;
  readonly offset: number;
  /** ms since 1970. */
  readonly timestamp: number;
  readonly key: Key;
  readonly value: Value;
  readonly headers: HeadersOfIt;
  readonly #format: ConsumerFormat;

  /** @internal */
  constructor(
    format: ConsumerFormat,
    topic: Topic,
    partition: number,
    offset: number,
    timestamp: number,
    key: Key,
    value: Value,
    headers: HeadersOfIt,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.offset = offset;
    this.timestamp = timestamp;
    this.key = key;
    this.value = value;
    this.headers = headers;
    this.#format = format;
  }

  /**
   * Commits this record and all before it in its partition. Never moves back: a commit that is ahead
   * stays. Durable once resolved.
   * @throws ILLEGAL_GENERATION, writing nothing, if the partition was not owned without a break since
   *   the record was fetched; TypeError for a record that was read without a group
   */
  commit(): Promise<void> {
    return this.#format.commit(this.partition, this.offset + 1);
  }
}

/** Makes the records of one stretch of reading a topic. */
export class ConsumerFormat implements RecordFormat<ConsumerRecord> {
  readonly keepsBytes: boolean;
  readonly #topic: TopicDefinition;
  readonly #ownership: number;
  readonly #committer: Committer | null;

  constructor(topic: TopicDefinition, ownership: number, committer: Committer | null) {
    this.#topic = topic;
    this.#ownership = ownership;
    this.#committer = committer;
    this.keepsBytes = topic.key.keepsBytes || topic.value.keepsBytes;
  }

  make(
    partition: number,
    offset: number,
    timestamp: number,
    key: Buffer | null,
    value: Buffer | null,
    headers: Headers,
  ): ConsumerRecord {
    const topic = this.#topic;
    return new ConsumerRecord(
      this,
      topic.name,
      partition,
      offset,
      timestamp,
      decode(topic, 'key', key, partition, offset),
      decode(topic, 'value', value, partition, offset),
      decodeHeaders(topic, headers, partition, offset),
    );
  }

  commit(partition: number, offset: number): Promise<void> {
    if (this.#committer === null) {
      throw new TypeError(
        `${this.#topic.name}: a record that was read without a group has no commit`,
      );
    }
    return this.#committer.commitTo(this.#topic.name, partition, offset, this.#ownership);
  }
}

/** A run of records of one partition. */
export class ConsumerBatch<R extends ConsumerRecord = ConsumerRecord> implements Iterable<R> {
  readonly topic: R['topic'];
  readonly partition: number;
  readonly baseOffset: number;
  /** The next offset to read behind it. */
  readonly nextOffset: number;
  readonly records: readonly R[];
  readonly #commit: () => Promise<void>;
  readonly #takeInto: TakeInto | undefined;

  /** @internal */
  constructor(
    topic: R['topic'],
    partition: number,
    baseOffset: number,
    nextOffset: number,
    records: readonly R[],
    commit: () => Promise<void>,
    takeInto?: TakeInto,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.baseOffset = baseOffset;
    this.nextOffset = nextOffset;
    this.records = records;
    this.#commit = commit;
    this.#takeInto = takeInto;
  }

  /** @internal */
  static takeInto(batch: ConsumerBatch, engine: Engine): TransactionSource {
    if (batch.#takeInto !== undefined) return batch.#takeInto(engine);
    throw new TypeError('transaction: expected a batch from batches() of a consumer with a group');
  }

  /** Its records, in order. */
  [Symbol.iterator](): Iterator<R> {
    return this.records[Symbol.iterator]();
  }

  /**
   * Commits the whole batch, as ConsumerRecord.commit does a record.
   * @throws ILLEGAL_GENERATION; TypeError for a batch that was read without a group
   */
  commit(): Promise<void> {
    return this.#commit();
  }
}
