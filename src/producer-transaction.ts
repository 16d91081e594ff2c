import { Consumer } from './consumer.js';
import type { OffsetToCommit } from './consumer-options.js';
import { ConsumerBatch, type TransactionSource } from './consumer-record.js';
import type { AppendSink, Engine, TransactionalWriter } from './engine.js';
import { OttlaError, inWords, isOttlaError } from './errors.js';
import { got } from './options.js';
import type { AnyRecord, RecordToSend } from './producer-record.js';
import type { TopicRef } from './serde.js';

/** What a transaction is of its producer. */
export interface TransactionHost {
  readonly engine: Engine;
  readonly writer: TransactionalWriter;
  /** @throws TypeError, RangeError, MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION, CLOSED */
  send(topic: TopicRef, record: AnyRecord, sink: AppendSink): void;
  /** Resolves once all that was sent is settled. */
  flush(): Promise<void>;
  /** What still waits for room in the buffer is not sent any more. */
  abandon(error: OttlaError): void;
}

/** A transaction that is open: what it sends becomes visible all at once, or never. */
export class Transaction {
  readonly #host: TransactionHost;
  readonly #sends: TransactionSends;
  readonly #committed: (() => void)[] = [];
  #isOver = false;

  /** @internal */
  constructor(host: TransactionHost, sends: TransactionSends) {
    this.#host = host;
    this.#sends = sends;
  }

  /**
   * Sends a record as part of the transaction, as Producer.send does. The transaction waits for it, and
   * fails with the first one that fails.
   * @throws TypeError, RangeError for a wrong argument; MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION;
   *   INVALID_TXN_STATE once the transaction's function has settled
   */
  send<const T extends TopicRef>(topic: T, record: RecordToSend<T>): void {
    this.#refuseOver('send');
    this.#host.send(topic, record, this.#sends);
  }

  /**
   * Commits offsets of a consumer's group as part of the transaction: the NEXT ones to read. The consumer
   * should have `autoCommit: false`.
   * @throws ILLEGAL_GENERATION unless every partition is owned; TypeError for a consumer of another Ottla,
   *   or without a group; INVALID_TXN_STATE once the transaction's function has settled
   */
  sendOffsets(consumer: Consumer, positions: readonly OffsetToCommit[]): void {
    this.#refuseOver('sendOffsets');
    if (!(consumer instanceof Consumer)) {
      throw new TypeError(`sendOffsets: expected a consumer, got ${got(consumer)}`);
    }
    this.#take(consumer.transactionSource(this.#host.engine, positions));
  }

  #take({ reader, positions, committed }: Omit<TransactionSource, 'aborted'>): void {
    this.#host.writer.sendOffsets(reader, positions);
    this.#committed.push(committed);
  }

  #refuseOver(what: string): void {
    if (this.#isOver) throw over(what);
  }

  /** @internal */
  async run<R>(
    work: (t: Transaction) => R | Promise<R>,
    source: TransactionSource | null,
  ): Promise<R> {
    const { writer } = this.#host;
    let isCommitted = false;
    try {
      const result = await work(this);
      if (source !== null) this.#take(source);
      this.#isOver = true;
      await this.#host.flush();
      if (this.#sends.failure !== null) throw this.#sends.failure;
      await writer.commit();
      isCommitted = true;
      return result;
    } finally {
      this.#isOver = true;
      if (isCommitted) {
        for (const committed of this.#committed) committed();
      } else {
        this.#host.abandon(over('send'));
        // What failed is told; that an abort comes later changes nothing of it.
        await writer.abort().catch(() => undefined);
        source?.aborted();
      }
    }
  }
}

/** @throws TypeError for a batch that is no consumer's of this Ottla; ILLEGAL_GENERATION for one not owned since */
export function sourceOf(batch: unknown, engine: Engine): TransactionSource {
  if (!(batch instanceof ConsumerBatch)) {
    throw new TypeError(`transaction: expected a batch of a consumer, got ${got(batch)}`);
  }
  return ConsumerBatch.takeInto(batch, engine);
}

function over(what: string): OttlaError {
  return new OttlaError('INVALID_TXN_STATE', `${what}: the transaction is over`);
}

/** What the 'error' event tells of a transaction that failed, and that nobody awaited. */
export function failedWork(error: unknown): OttlaError {
  if (isOttlaError(error)) return error;
  const message = `a transaction was aborted, or refused: ${inWords(error)}`;
  return new OttlaError('UNKNOWN_SERVER_ERROR', message, { cause: error });
}

/** The sends of one transaction. */
export class TransactionSends implements AppendSink {
  /** The first one. */
  failure: OttlaError | null = null;

  acknowledged(): void {}

  failed(error: OttlaError): void {
    this.failure ??= error;
  }
}
