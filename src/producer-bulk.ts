import type { Clock } from './clock.js';
import type { Writer } from './engine.js';
import { got, type Acks } from './options.js';
import type { BlockedSends } from './producer-blocked.js';
import { Chunk } from './producer-chunk.js';
import { ignore, nobody, type PendingBatch } from './producer-outcome.js';
import type { PartitionChoice } from './producer-partition.js';
import type { AnyRecord } from './producer-record.js';
import type { TopicDefinition } from './serde.js';
import { withSignal } from './signal.js';
import type { TopicInfo } from './topic.js';

/** A sendBatch works this long before the host's other work gets a turn. */
const turnMs = 5;

type Records = Iterable<AnyRecord> | AsyncIterable<AnyRecord>;

export interface BulkOptions {
  readonly clock: Clock;
  readonly writer: Writer;
  readonly acks: Acks;
  readonly bufferMemory: number;
  readonly choice: PartitionChoice;
  readonly blocked: BlockedSends;
  /** @throws UNKNOWN_TOPIC_OR_PARTITION, CLOSED */
  readonly topic: (name: string) => TopicInfo;
}

/** One call of sendBatch. */
interface Sending {
  readonly definition: TopicDefinition;
  readonly batch: PendingBatch;
  readonly signal: AbortSignal | undefined;
}

/** Hands the records of one producer's sendBatch calls to the engine, chunk by chunk. */
export class BulkSends {
  readonly #options: BulkOptions;
  /** Of a call that is over, for the next one. */
  #spare: Chunk | null = null;
  /** When this turn of the event loop has had enough of sendBatch; 0: it has had none. */
  #turnEnd = 0;

  constructor(options: BulkOptions) {
    this.#options = options;
  }

  /** Resolves once all is taken over. */
  async send(
    definition: TopicDefinition,
    records: Records,
    batch: PendingBatch,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const sending = { definition, batch, signal };
    if (isAsyncIterable(records)) return this.#sendAsync(sending, records);
    this.#beginTurn();
    return Array.isArray(records)
      ? this.#sendArray(sending, records)
      : this.#sendIterable(sending, iterable(records));
  }

  async #sendArray(sending: Sending, records: readonly AnyRecord[]): Promise<void> {
    let at = 0;
    do {
      const chunk = this.#newChunk(sending);
      at = chunk.addAll(records, at);
      await this.#appendAll(chunk, sending);
    } while (at < records.length);
  }

  async #sendIterable(sending: Sending, records: Iterable<AnyRecord>): Promise<void> {
    let chunk = this.#newChunk(sending);
    for (const record of records) {
      chunk.addCopy(record);
      if (!chunk.isFull) continue;
      await this.#appendAll(chunk, sending);
      chunk = this.#newChunk(sending);
    }
    await this.#appendAll(chunk, sending);
  }

  /** What has come is written at the end of the turn at the latest: nothing waits for more to come. */
  async #sendAsync(sending: Sending, records: AsyncIterable<AnyRecord>): Promise<void> {
    const { clock } = this.#options;
    const { signal } = sending;
    const iterator = records[Symbol.asyncIterator]();
    let chunk = this.#newChunk(sending);
    let turnOver: Promise<null> | null = null;
    this.#beginTurn();
    let next = iterator.next();
    let isWaiting = true;
    try {
      for (;;) {
        const coming: Promise<IteratorResult<AnyRecord> | null> =
          turnOver === null ? next : Promise.race([next, turnOver]);
        const result =
          signal === undefined
            ? await coming
            : await withSignal(coming, signal, 'sendBatch, while it waited for records,');
        if (result === null || result.done === true || chunk.isFull) {
          await this.#appendAll(chunk, sending);
          chunk = this.#newChunk(sending);
          turnOver = null;
        }
        if (result === null) continue;
        isWaiting = false;
        if (result.done === true) return;
        chunk.addCopy(result.value);
        turnOver ??= new Promise((resolve) => clock.soon(() => resolve(null)));
        next = iterator.next();
        isWaiting = true;
      }
    } catch (error) {
      next.catch(ignore);
      const returned = Promise.resolve(iterator.return?.()).catch(ignore);
      // A source that pauses ends when it goes on, if ever.
      if (!isWaiting) await returned;
      throw error;
    }
  }

  #newChunk({ definition }: Sending): Chunk {
    const { choice, bufferMemory, topic, clock } = this.#options;
    const [info, now] = [topic(definition.name), clock.now()];
    const chunk = this.#spare;
    if (chunk === null) return new Chunk(choice, bufferMemory, definition, info, now);
    this.#spare = null;
    chunk.begin(definition, info, now);
    return chunk;
  }

  async #appendAll(chunk: Chunk, { batch, signal }: Sending): Promise<void> {
    const { acks, blocked, topic, writer } = this.#options;
    // Sends that wait for room came first.
    if (blocked.count > 0) {
      await withSignal(blocked.passed(), signal, 'sendBatch, behind sends that wait for room,');
    }
    batch.refuseIfFailed();
    const { name } = chunk.definition;
    const sink = acks === 0 ? nobody : batch;
    const deadline = blocked.deadline();
    topic(name);
    // Of the topic that the partitions were chosen for: one created anew since is another.
    while (!writer.appendAll(chunk.info, chunk, sink)) {
      await blocked.room(name, chunk.bytes, deadline, signal);
    }
    if (acks === 0) batch.takenOver(chunk.partitions.subarray(0, chunk.count));
    else batch.expect(chunk.count);
    chunk.clear();
    this.#spare = chunk;
    await this.#takeTurns();
  }

  /** Turns are counted over calls: one that awaits sendBatch after sendBatch keeps others waiting as well. */
  #beginTurn(): void {
    if (this.#turnEnd > 0) return;
    const { clock } = this.#options;
    this.#turnEnd = clock.monotonic() + turnMs;
    clock.soon(() => {
      this.#turnEnd = 0;
    });
  }

  /** Once its turn is over, lets the host's other work have one. */
  async #takeTurns(): Promise<void> {
    const { clock } = this.#options;
    if (this.#turnEnd > 0 && clock.monotonic() >= this.#turnEnd) {
      await new Promise<void>((resolve) => clock.soon(resolve));
    }
    this.#beginTurn();
  }
}

function isAsyncIterable<T>(records: Iterable<T> | AsyncIterable<T>): records is AsyncIterable<T> {
  return typeof (records as AsyncIterable<T> | null)?.[Symbol.asyncIterator] === 'function';
}

function iterable<T>(records: Iterable<T>): Iterable<T> {
  if (typeof (records as Iterable<T> | null)?.[Symbol.iterator] === 'function') return records;
  throw new TypeError(`sendBatch: expected an iterable of records, got ${got(records)}`);
}
