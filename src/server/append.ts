import { admitBatch } from '../admission.js';
import { OttlaError } from '../errors.js';
import { isCompacted } from '../options.js';
import type { AppendListener } from '../partition-append.js';
import type { Partition } from '../partition.js';
import type { BatchHeader } from '../record.js';
import type { TransactionCoordinator } from '../transaction.js';
import { WireError } from './protocol/errors.js';

/** The first version of Produce in which clients may use zstd (KIP-110). */
const zstdSince = 7;

/** What a Produce request says of all its batches. */
export interface AppendTerms {
  readonly version: number;
  /** null: they belong to no transaction. */
  readonly transactionalId: string | null;
  readonly transactions: TransactionCoordinator;
}

/** One partition's part of a Produce request: what became of its batch. */
export class WireAppend implements AppendListener {
  readonly index: number;
  error: OttlaError | WireError | null = null;
  baseOffset = -1;
  /** -1: the records' own times are kept. */
  logAppendTimeMs = -1;
  logStartOffset = -1;
  isSettled = false;
  /** Called when it is settled from then on. */
  onSettled: (() => void) | null = null;
  readonly #wantsDurable: boolean;
  #partition: Partition | null = null;

  constructor(index: number, wantsDurable: boolean) {
    this.index = index;
    this.#wantsDurable = wantsDurable;
  }

  /** Checks what a client sent, and appends it as it is. */
  begin(partition: Partition, bytes: Buffer | null, terms: AppendTerms): void {
    this.#partition = partition;
    try {
      check(partition, bytes, terms);
    } catch (error) {
      if (!(error instanceof OttlaError || error instanceof WireError)) throw error;
      this.failed(error);
      return;
    }
    partition.append(bytes!, 0, bytes!.length, this.#wantsDurable, this);
  }

  written(baseOffset: number, timestamp: number): void {
    this.baseOffset = baseOffset;
    this.logAppendTimeMs = timestamp;
    this.logStartOffset = this.#partition!.logStartOffset;
    if (!this.#wantsDurable) this.#settle();
  }

  durable(): void {
    this.#settle();
  }

  failed(error: OttlaError | WireError): void {
    if (this.isSettled) return;
    this.error = error;
    this.#settle();
  }

  /** It is waited for no longer. What was not written by now never is. */
  timedOut(error: OttlaError): void {
    this.#partition?.withdraw(this, error);
    this.failed(error);
  }

  #settle(): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.onSettled?.();
  }
}

/** @throws as Kafka's ProduceRequest.validateRecords and LogValidator do */
function check(partition: Partition, bytes: Buffer | null, terms: AppendTerms): void {
  const { version } = terms;
  if (bytes === null || bytes.length === 0) throw refused('no record batch, expected exactly one');
  if (bytes.length > 16 && bytes[16]! < 2) {
    throw refused(`records of magic ${bytes[16]}, expected 2: clients since Kafka 0.11 write it`);
  }
  const { settings } = partition;
  if (bytes.length > settings.maxMessageBytes) {
    throw new OttlaError(
      'MESSAGE_TOO_LARGE',
      `${partition.name}: a batch of ${bytes.length} bytes, max.message.bytes is ${settings.maxMessageBytes}`,
    );
  }
  const isLogAppendTime = settings.messageTimestampType === 'LogAppendTime';
  const header = admitBatch(bytes, {
    baseOffset: 0,
    leaderEpoch: partition.leaderEpoch,
    compacted: isCompacted(settings),
    ...(isLogAppendTime && { logAppendTime: partition.clock.now() }),
  });
  if (version < zstdSince && header.compression === 'zstd') {
    throw new OttlaError('UNSUPPORTED_COMPRESSION_TYPE', `zstd in version ${version} of Produce`);
  }
  if (header.isTransactional) checkTransaction(partition, header, terms);
}

/** @throws as Kafka's ReplicaManager, with what clients of all versions understand here */
function checkTransaction(
  partition: Partition,
  { producerId, producerEpoch }: BatchHeader,
  { transactionalId, transactions }: AppendTerms,
): void {
  if (transactionalId === null) {
    const code = 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED';
    throw new WireError(
      code,
      `${partition.name}: a transactional batch without a transactional id`,
    );
  }
  try {
    transactions.refuseUnadded(transactionalId, { producerId, producerEpoch }, partition);
  } catch (error) {
    const { code, message } = error as OttlaError;
    if (code === 'PRODUCER_FENCED') throw new WireError('INVALID_PRODUCER_EPOCH', message);
    if (code === 'CONCURRENT_TRANSACTIONS') throw new WireError('NOT_ENOUGH_REPLICAS', message);
    throw error;
  }
}

function refused(what: string): OttlaError {
  return new OttlaError('INVALID_RECORD', what);
}
