import { ConsumerFormat, ConsumerRecord, type Committer } from './consumer-record.js';
import { originOf, type Origin } from './consumer-letters.js';
import type { Engine, RecordFormat } from './engine.js';
import type { Headers } from './headers.js';
import { decode, decodeHeaders, definitionOf, shared, type TopicDefinition } from './serde.js';

/** What a record of a retry topic says beside what is handed out of it. */
export interface Retry extends Pick<Origin, 'group' | 'attempts' | 'dueMs'> {
  /** Of the letter, in the retry topic. */
  readonly offset: number;
}

/** A record that comes again by way of a retry topic: with the place and the headers that it first had. */
export class RetriedRecord extends ConsumerRecord {
  readonly #retry: Retry;

  constructor(retry: Retry, ...record: ConstructorParameters<typeof ConsumerRecord>) {
    super(...record);
    this.#retry = retry;
  }

  /** null: it comes for the first time. */
  static retryOf(record: ConsumerRecord): Retry | null {
    return #retry in record ? record.#retry : null;
  }
}

/** Makes the records of one stretch of reading a retry topic. */
class RetriedFormat implements RecordFormat<ConsumerRecord> {
  readonly keepsBytes = true;
  readonly #topic: string;
  readonly #ownership: number;
  readonly #committer: Committer | null;
  readonly #definition: (topic: string) => TopicDefinition;

  constructor(
    topic: string,
    ownership: number,
    committer: Committer | null,
    definition: (topic: string) => TopicDefinition,
  ) {
    this.#topic = topic;
    this.#ownership = ownership;
    this.#committer = committer;
    this.#definition = definition;
  }

  /** @throws INVALID_RECORD, naming the letter */
  make(
    partition: number,
    offset: number,
    _timestamp: number,
    key: Buffer | null,
    value: Buffer | null,
    headers: Headers,
  ): ConsumerRecord {
    const origin = originOf('retry', { topic: this.#topic, partition, offset, headers });
    const definition = this.#definition(origin.topic);
    const here = { ...definition, name: this.#topic };
    return new RetriedRecord(
      { ...origin, offset },
      new ConsumerFormat(definition, this.#ownership, this.#committer),
      origin.topic,
      origin.partition,
      origin.offset,
      origin.timestamp,
      decode(here, 'key', key, partition, offset),
      decode(here, 'value', value, partition, offset),
      decodeHeaders(here, origin.headers, partition, offset),
    );
  }
}

/** How a consumer makes records: those of its topics as they are, those of its retry topic as they first came. */
export function formatsOf(
  engine: Engine,
  topics: ReadonlyMap<string, TopicDefinition>,
  committer: Committer | null,
  retryTopic: () => string | null,
): (topic: string, ownership: number) => RecordFormat<ConsumerRecord> {
  const definition = (name: string): TopicDefinition =>
    shared(engine, topics.get(name) ?? definitionOf('consumer', name));
  return (topic, ownership) =>
    topic === retryTopic()
      ? new RetriedFormat(topic, ownership, committer, definition)
      : new ConsumerFormat(definition(topic), ownership, committer);
}
