import { admitBatch } from '../admission.js';
import { OttlaError } from '../errors.js';
import { isCompacted } from '../options.js';
import type { AppendListener } from '../partition-append.js';
import type { Partition } from '../partition.js';

/** The first version of Produce in which clients may use zstd (KIP-110). */
const zstdSince = 7;

/** One partition's part of a Produce request: what became of its batch. */
export class WireAppend implements AppendListener {
  readonly index: number;
  error: OttlaError | null = null;
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

  /** Checks what a client sent in this version, and appends it as it is. */
  begin(partition: Partition, bytes: Buffer | null, version: number): void {
    this.#partition = partition;
    try {
      check(partition, bytes, version);
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error;
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

  failed(error: OttlaError): void {
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
function check(partition: Partition, bytes: Buffer | null, version: number): void {
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
}

function refused(what: string): OttlaError {
  return new OttlaError('INVALID_RECORD', what);
}
