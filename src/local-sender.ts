import type { Clock } from './clock.js';
import type { OttlaError } from './errors.js';
import { behindFailure, type AppendListener } from './partition-append.js';
import type { Partition } from './partition.js';
import { readBatchHeader, type BatchOrigin } from './record.js';
import type { ProducerIdentity, TransactionCoordinator } from './transaction.js';

/** Who is told of batches that are sent, and may be sent again. */
export interface SendListener extends AppendListener {
  /** The first so many records stay where they were written last; what follows is on its way again. */
  stays(count: number): void;
}

/** How closed batches get into a log. */
export interface BatchSender {
  /** What the header of the next batch says of who wrote it. It is sent before the next one is asked for. */
  origin(partition: Partition, recordCount: number): BatchOrigin | undefined;
  /** As Partition.append(). @returns what withdraw() wants to know of it */
  append(
    partition: Partition,
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: SendListener,
  ): AppendListener;
  /** What took too long: what is not written never will be, and fails, with what waits behind it. */
  withdraw(partition: Partition, sent: AppendListener, error: OttlaError): void;
}

/** Batches of nobody in particular: a failure is the caller's to act on. */
export const plainSender: BatchSender = {
  origin: () => undefined,
  append(partition, bytes, start, end, wantsDurable, listener) {
    partition.append(bytes, start, end, wantsDurable, listener);
    return listener;
  },
  withdraw: (partition, sent, error) => partition.withdraw(sent, error),
};

const maxSequence = 2 ** 31 - 1;
/** Kafka's retry.backoff.ms. */
const retryBackoffMs = 100;

/** The sequence of one producer in one partition. */
interface Stream {
  readonly partition: Partition;
  /** Of the batch that came last; one for all of them. */
  readonly origin: BatchOrigin & { baseSequence: number };
  nextSequence: number;
  /** Of the next batches to send. */
  sentSequence: number;
  nextOrder: number;
  /** Whether it was told that something is tried again, and nothing has got through since. */
  isFailing: boolean;
  /** What failed and will be sent again, and what came after it; in order. */
  readonly queue: SentBatches[];
}

export interface IdempotenceOptions {
  readonly clock: Clock;
  readonly newProducerId: () => bigint;
  readonly warn: (message: string) => void;
}

/**
 * Numbers the batches of one producer, and sends again what failed or is in doubt, in order, until it is
 * withdrawn: the log takes each one once. After that a new producer id begins: what was given up is never
 * sent again.
 */
export class IdempotentSender implements BatchSender {
  readonly options: IdempotenceOptions;
  readonly #streams = new Map<Partition, Stream>();
  /** The one that was asked for last. */
  #last: Stream | null = null;
  #producerId: bigint;

  constructor(options: IdempotenceOptions) {
    this.options = options;
    this.#producerId = options.newProducerId();
  }

  #stream(partition: Partition): Stream {
    if (this.#last?.partition === partition) return this.#last;
    let stream = this.#streams.get(partition);
    if (stream === undefined) {
      const origin = { producerId: this.#producerId, producerEpoch: 0, baseSequence: 0 };
      stream = {
        partition,
        origin,
        nextSequence: 0,
        sentSequence: 0,
        nextOrder: 0,
        isFailing: false,
        queue: [],
      };
      this.#streams.set(partition, stream);
    }
    this.#last = stream;
    return stream;
  }

  origin(partition: Partition, recordCount: number): BatchOrigin {
    const stream = this.#stream(partition);
    const { origin, nextSequence } = stream;
    origin.baseSequence = nextSequence;
    stream.nextSequence = (nextSequence + recordCount) & maxSequence;
    return origin;
  }

  append(
    partition: Partition,
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: SendListener,
  ): SentBatches {
    const stream = this.#stream(partition);
    const batches = new SentBatches(this, stream, wantsDurable, listener);
    if (stream.queue.length > 0) {
      batches.keep(bytes, start, end);
      stream.queue.push(batches);
    } else {
      batches.send(bytes, start, end);
    }
    return batches;
  }

  withdraw(partition: Partition, sent: SentBatches, error: OttlaError): void {
    const { stream } = sent;
    sent.isWithdrawn = true;
    if (stream.queue.includes(sent)) this.#giveUp(stream, error);
    else partition.withdraw(sent, error);
  }

  /** Puts batches back, to be sent again. */
  failed(batches: SentBatches, error: OttlaError): void {
    const { stream } = batches;
    // Other codes are refusals: the same bytes are refused again.
    const isPassing = error.code === 'KAFKA_STORAGE_ERROR' && !batches.isWithdrawn;
    const behind = stream.queue.findIndex(({ order }) => order > batches.order);
    stream.queue.splice(behind === -1 ? stream.queue.length : behind, 0, batches);
    if (!isPassing) {
      this.#giveUp(stream, error);
    } else if (stream.queue.length === 1) {
      if (!stream.isFailing) this.#warn(error);
      stream.isFailing = true;
      this.#retryLater(stream);
    }
  }

  #warn(error: OttlaError): void {
    this.options.warn(
      `${error.message}; an idempotent producer tries again until its deliveryTimeoutMs`,
    );
  }

  #retryLater(stream: Stream): void {
    this.options.clock.after(retryBackoffMs, () => this.#retry(stream), true);
  }

  #retry(stream: Stream): void {
    const { queue } = stream;
    while (queue.length > 0) {
      const batches = queue.shift()!;
      const isLast = queue.length === 0;
      batches.sendAgain();
      if (queue[0] !== batches) continue;
      // A queue of one has begun to wait by itself.
      if (!isLast) this.#retryLater(stream);
      return;
    }
  }

  /** What is behind batches that will never be sent must not overtake them. */
  #giveUp(stream: Stream, error: OttlaError): void {
    if (this.#streams.get(stream.partition) === stream) this.#streams.delete(stream.partition);
    this.#last = null;
    this.#producerId = this.options.newProducerId();
    const [first, ...behind] = stream.queue.splice(0);
    first?.giveUp(error);
    for (const batches of behind) batches.giveUp(behindFailure(stream.partition.name));
  }
}

/** Adjacent batches on their way. */
class SentBatches implements AppendListener {
  readonly listener: SendListener;
  readonly stream: Stream;
  readonly order: number;
  /** It is not sent any more. */
  isWithdrawn = false;
  readonly #sender: IdempotentSender;
  readonly #wantsDurable: boolean;
  #recordCount: number;
  /** While they are sent for the first time, the caller's; then their own; null once they are settled. */
  #bytes: Buffer | null = null;
  #start = 0;
  #end = 0;
  #isKept = false;
  #isSettled = false;
  /** Where they were written, and in which epoch; -1: they were not. */
  #baseOffset = -1;
  #leaderEpoch = -1;

  constructor(
    sender: IdempotentSender,
    stream: Stream,
    wantsDurable: boolean,
    listener: SendListener,
  ) {
    this.#sender = sender;
    this.stream = stream;
    this.#wantsDurable = wantsDurable;
    this.listener = listener;
    this.order = stream.nextOrder++;
    this.#recordCount = (stream.nextSequence - stream.sentSequence) & maxSequence;
    stream.sentSequence = stream.nextSequence;
  }

  keep(bytes: Buffer, start: number, end: number): void {
    this.#bytes = Buffer.from(bytes.subarray(start, end));
    this.#start = 0;
    this.#end = end - start;
    this.#isKept = true;
  }

  send(bytes: Buffer, start: number, end: number): void {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.stream.partition.append(bytes, start, end, this.#wantsDurable, this);
    if (this.#isSettled) this.#bytes = null;
    else if (!this.#isKept) this.keep(bytes, start, end);
  }

  sendAgain(): void {
    const { partition } = this.stream;
    const end = this.#baseOffset < 0 ? -1 : partition.endOfEpoch(this.#leaderEpoch);
    const left = end - this.#baseOffset;
    if (left >= this.#recordCount) {
      // Whether it is durable was in doubt.
      partition.sync().then(
        () => this.durable(),
        (error: unknown) => this.failed(error as OttlaError),
      );
    } else {
      if (left > 0) this.#leave(left);
      partition.append(this.#bytes!, this.#start, this.#end, this.#wantsDurable, this);
    }
  }

  /** The log was cut behind so many records: they are there, and only what follows is sent again. */
  #leave(count: number): void {
    for (let passed = 0; passed < count;) {
      const header = readBatchHeader(this.#bytes!, this.#start, this.#end)!;
      passed += header.recordCount;
      this.#start += header.size;
    }
    this.#recordCount -= count;
    this.#baseOffset = -1;
    this.listener.stays(count);
  }

  written(baseOffset: number, timestamp: number): void {
    this.#baseOffset = baseOffset;
    this.#leaderEpoch = this.stream.partition.leaderEpoch;
    if (!this.#wantsDurable) this.#settle();
    this.listener.written(baseOffset, timestamp);
  }

  durable(): void {
    this.#settle();
    this.listener.durable();
  }

  #settle(): void {
    this.#isSettled = true;
    this.stream.isFailing = false;
  }

  giveUp(error: OttlaError): void {
    this.#isSettled = true;
    this.listener.failed(error);
  }

  failed(error: OttlaError): void {
    if (!this.#isKept) this.keep(this.#bytes!, this.#start, this.#end);
    this.#sender.failed(this, error);
  }
}

/** Sends the batches of transactions, of whoever holds a transactional id. */
export class TransactionalSender implements BatchSender {
  readonly #coordinator: TransactionCoordinator;
  readonly #transactionalId: string;
  readonly #sequences = new Map<Partition, number>();
  #identity: ProducerIdentity | null = null;
  /** Of the transaction that is open: whether anything was sent, and whether some of that failed. */
  hasSent = false;
  hasFailed = false;

  constructor(coordinator: TransactionCoordinator, transactionalId: string) {
    this.#coordinator = coordinator;
    this.#transactionalId = transactionalId;
  }

  get identity(): ProducerIdentity | null {
    return this.#identity;
  }

  /** A new one numbers its batches anew. */
  set identity(identity: ProducerIdentity) {
    const before = this.#identity;
    const isSame =
      before?.producerId === identity.producerId && before.producerEpoch === identity.producerEpoch;
    if (!isSame) this.#sequences.clear();
    this.#identity = identity;
  }

  origin(partition: Partition, recordCount: number): BatchOrigin {
    const baseSequence = this.#sequences.get(partition) ?? 0;
    this.#sequences.set(partition, (baseSequence + recordCount) & maxSequence);
    return { ...this.#identity, baseSequence, isTransactional: true };
  }

  append(
    partition: Partition,
    bytes: Buffer,
    start: number,
    end: number,
    wantsDurable: boolean,
    listener: AppendListener,
  ): AppendListener {
    const told: AppendListener = {
      written: (baseOffset, timestamp) => listener.written(baseOffset, timestamp),
      durable: () => listener.durable(),
      failed: (error) => {
        this.hasFailed = true;
        listener.failed(error);
      },
    };
    try {
      this.#coordinator.add(this.#transactionalId, this.#identity!, partition);
    } catch (error) {
      told.failed(error as OttlaError);
      return told;
    }
    this.hasSent = true;
    partition.append(bytes, start, end, wantsDurable, told);
    return told;
  }

  withdraw(partition: Partition, sent: AppendListener, error: OttlaError): void {
    partition.withdraw(sent, error);
  }
}
