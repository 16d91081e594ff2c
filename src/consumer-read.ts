import type { TopicPartition } from './assignment.js';
import {
  ConsumerBatch,
  ConsumerFormat,
  type ConsumerRecord,
  type RecordOf,
} from './consumer-record.js';
import {
  invalidRecordIn,
  onInvalidCheck,
  passOver,
  passesOver,
  type OnInvalid,
} from './consumer-invalid.js';
import type { Engine, Fetched, Position, Reader, SkippedRange } from './engine.js';
import { OttlaError } from './errors.js';
import {
  aFunction,
  aSignal,
  checkOptions,
  either,
  got,
  integer,
  isAgo,
  isolationCheck,
  oneOf,
  timeCheck,
  type Ago,
  type Isolation,
} from './options.js';
import { definitionOf, shared, type TopicDefinition, type TopicRef } from './serde.js';

/** Where to begin: everywhere alike, or by partition (others from the beginning). */
export type ReadFrom = 'earliest' | 'latest' | Date | Ago | Readonly<Record<number, number>>;

/** Which part of a topic to read. */
export interface ReadOptions {
  /** Where to begin: see ReadFrom. @default 'earliest' */
  readonly from?: ReadFrom;
  /** 'end': what is there when the reading begins; 'never': go on with what comes. @default 'end' */
  readonly until?: 'end' | 'never';
  /** Numbers of the partitions to read. @default all */
  readonly partitions?: readonly number[];
  /**
   * What to do where damage has made records unreadable. 'fail': reject with CORRUPT_MESSAGE, which names
   * topic, partition, offset, file and byte. 'skip': go on at the next batch that is whole and valid, and
   * tell by a 'warning' what was passed over. A function: the same, told of it instead; what it throws
   * ends the reading. @default 'fail'
   */
  readonly onCorrupt?: 'fail' | 'skip' | ((skipped: SkippedRange) => void);
  /** Which records of transactions are read: see Isolation. @default 'read_committed' */
  readonly isolation?: Isolation;
  /**
   * What to do with a record that cannot be decoded. 'fail': reject with INVALID_RECORD, whose `at` says which
   * it is. 'skip': pass over it, and tell by a 'warning'. A function: the same, told of it instead; what it
   * throws ends the reading. @default 'fail'
   */
  readonly onInvalid?: OnInvalid;
  /** Ends the reading, without an error. @default none */
  readonly signal?: AbortSignal;
}

const batchRecords = 500;
const batchBytes = 1024 * 1024;
const offsetCheck = integer(0);

const fromOffsets = (value: unknown): string | null =>
  typeof value === 'object' &&
  value !== null &&
  !(value instanceof Date) &&
  Object.entries(value).every(
    ([partition, offset]) => /^\d+$/.test(partition) && offsetCheck(offset) === null,
  )
    ? null
    : 'an object from partition to offset';

const partitionList = (value: unknown): string | null =>
  Array.isArray(value) && value.length > 0 && value.every((item) => offsetCheck(item) === null)
    ? null
    : 'a list of partition numbers';

/** One reading of a topic, without a group. Every iteration begins anew. Made by `ottla.read()`. */
export class TopicReading<T extends TopicRef = TopicRef> implements AsyncIterable<RecordOf<T>> {
  readonly #engine: Engine;
  readonly #topic: TopicDefinition;
  readonly #options: ReadOptions;
  readonly #isolation: Isolation;
  readonly #warn: (warning: string) => void;

  /** @internal */
  constructor(
    engine: Engine,
    topic: T,
    options: ReadOptions = {},
    warn: (warning: string) => void = () => undefined,
  ) {
    checkOptions<ReadOptions>(
      'read',
      {
        from: either(oneOf('earliest', 'latest'), fromOffsets, timeCheck),
        until: oneOf('end', 'never'),
        partitions: partitionList,
        onCorrupt: either(oneOf('fail', 'skip'), aFunction),
        isolation: isolationCheck,
        onInvalid: onInvalidCheck,
        signal: aSignal,
      },
      options,
    );
    this.#engine = engine;
    this.#topic = definitionOf('read', topic);
    this.#options = options;
    this.#isolation = options.isolation ?? 'read_committed';
    this.#warn = warn;
  }

  /** One record after the other; the partitions take turns. */
  [Symbol.asyncIterator](): AsyncGenerator<RecordOf<T>, undefined, undefined> {
    return endable((ended) => this.#records(ended), this.#options.signal);
  }

  /** Runs of records of one partition. */
  batches(): AsyncGenerator<ConsumerBatch<RecordOf<T>>, undefined, undefined> {
    return endable((ended) => this.#batches(ended), this.#options.signal);
  }

  async *#records(signal: AbortSignal): AsyncGenerator<RecordOf<T>, undefined, undefined> {
    for await (const batch of this.#batches(signal)) {
      for (const record of batch.records) {
        if (signal.aborted) return;
        yield record;
      }
    }
  }

  async *#batches(
    signal: AbortSignal,
  ): AsyncGenerator<ConsumerBatch<RecordOf<T>>, undefined, undefined> {
    const { name } = this.#topic;
    const format = new ConsumerFormat(shared(this.#engine, this.#topic), 0, null);
    let ends: Map<number, number> | null = null;
    const reader: Reader<ConsumerRecord> = this.#engine.reader({
      from: 'earliest',
      isolation: this.#isolation,
      maxPollBytes: batchBytes,
      formatFor: () => format,
      idle: () => {
        // What was deleted meanwhile from the log's start is not waited for.
        for (const { partition, offset } of reader.positions()) {
          if (offset >= (ends?.get(partition) ?? Infinity)) ends?.delete(partition);
        }
        if (ends?.size === 0) void reader.close();
      },
      ...this.#onCorrupt(),
    });
    try {
      ends = await this.#begin(reader);
      const isOver = (): boolean => ends?.size === 0 || signal.aborted;
      while (!isOver()) {
        const fetched = await this.#poll(reader, signal);
        if (fetched === null) {
          if (ends === null || isOver()) return;
          throw new OttlaError('CLOSED', `read of ${name}: closed before the end`);
        }
        const end = ends === null ? Infinity : (ends.get(fetched.partition) ?? 0);
        if (fetched.nextOffset >= end) {
          ends?.delete(fetched.partition);
          reader.pause([fetched]);
        }
        const batch = this.#batch(fetched, end);
        if (batch.records.length > 0) yield batch;
      }
    } finally {
      await reader.close();
    }
  }

  async #poll(
    reader: Reader<ConsumerRecord>,
    signal: AbortSignal,
  ): Promise<Fetched<ConsumerRecord> | null> {
    const { onInvalid = 'fail' } = this.#options;
    try {
      return reader.pollNow(batchRecords) ?? (await reader.poll(batchRecords, signal));
    } catch (error) {
      const invalid = invalidRecordIn(error);
      if (invalid === null || !passesOver(onInvalid, invalid, this.#warn)) throw error;
      return passOver(reader, invalid, 0);
    }
  }

  #onCorrupt(): { onCorrupt?: (skipped: SkippedRange) => void } {
    const { onCorrupt = 'fail' } = this.#options;
    if (onCorrupt === 'fail') return {};
    if (onCorrupt !== 'skip') return { onCorrupt };
    return {
      onCorrupt: ({ offset, nextOffset, error }) =>
        this.#warn(`${error.message}; passed over offsets ${offset} to ${nextOffset - 1}`),
    };
  }

  /** Of what was fetched, the records below `end`. */
  #batch(
    { topic, partition, baseOffset, nextOffset, records }: Fetched<ConsumerRecord>,
    end: number,
  ): ConsumerBatch<RecordOf<T>> {
    const wanted = nextOffset <= end ? records : records.filter(({ offset }) => offset < end);
    return new ConsumerBatch<RecordOf<T>>(
      topic,
      partition,
      baseOffset,
      Math.min(nextOffset, end),
      // The format made them of this topic.
      wanted as readonly RecordOf<T>[],
      () => {
        throw new TypeError('a batch that was read without a group has no commit');
      },
    );
  }

  /** Assigns the partitions. @returns where each one ends that is not at its end already; null: never */
  async #begin(reader: Reader<ConsumerRecord>): Promise<Map<number, number> | null> {
    const { from = 'earliest', until = 'end', partitions } = this.#options;
    const { name: topic } = this.#topic;
    const count = this.#engine.topic(topic)?.partitionCount;
    if (count === undefined) {
      throw new OttlaError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `read: there is no topic ${JSON.stringify(topic)}: create it first`,
      );
    }
    for (const partition of [...(partitions ?? []), ...numbersIn(from)]) {
      if (partition < count) continue;
      throw new OttlaError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `read: topic ${topic} has partitions 0 to ${count - 1}, got ${got(partition)}`,
      );
    }
    const wanted = [...new Set(partitions ?? Array(count).keys())];
    const infos = await Promise.all(
      wanted.map((partition) => this.#engine.partition({ topic, partition })),
    );
    const positions: Position[] = [];
    const ends = new Map<number, number>();
    for (const { partition, logStartOffset, highWatermark, lastStableOffset } of infos) {
      const at = { topic, partition };
      const offset = await this.#start(at, from);
      if (offset < logStartOffset || offset > highWatermark) {
        throw new OttlaError(
          'OFFSET_OUT_OF_RANGE',
          `read: ${topic}-${partition} has offsets ${logStartOffset} to ${highWatermark}, got ${offset}`,
        );
      }
      positions.push({ ...at, offset });
      const end = this.#isolation === 'read_committed' ? lastStableOffset : highWatermark;
      if (offset < end) ends.set(partition, end);
    }
    const assigned =
      until === 'end' ? positions.filter(({ partition }) => ends.has(partition)) : positions;
    await reader.assign(assigned);
    return until === 'end' ? ends : null;
  }

  async #start(at: TopicPartition, from: ReadFrom): Promise<number> {
    if (!isByPartition(from)) {
      const { onCorrupt } = this.#onCorrupt();
      return (await this.#engine.offsetFor(at, from, this.#isolation, onCorrupt))!;
    }
    return from[at.partition] ?? (await this.#engine.offsetFor(at, 'earliest', this.#isolation))!;
  }
}

/** An iterator whose return() ends a wait as well: a generator's own would stand behind the next() that waits. */
function endable<V>(
  make: (ended: AbortSignal) => AsyncGenerator<V, undefined, undefined>,
  signal: AbortSignal | undefined,
): AsyncGenerator<V, undefined, undefined> {
  const ending = new AbortController();
  const { signal: ended } = ending;
  const items = make(signal === undefined ? ended : AbortSignal.any([signal, ended]));
  const iterator: AsyncGenerator<V, undefined, undefined> = {
    next: () => items.next(),
    return: () => {
      ending.abort();
      return items.return(undefined);
    },
    throw: (error: unknown) => {
      ending.abort();
      return items.throw(error);
    },
    [Symbol.asyncIterator]: () => iterator,
    [Symbol.asyncDispose]: async () => void (await iterator.return(undefined)),
  };
  return iterator;
}

function numbersIn(from: ReadFrom): number[] {
  return isByPartition(from) ? Object.keys(from).map(Number) : [];
}

function isByPartition(from: ReadFrom): from is Readonly<Record<number, number>> {
  return typeof from === 'object' && !(from instanceof Date) && !isAgo(from);
}
