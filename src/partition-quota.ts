import { OttlaError } from './errors.js';

/** The part of maxBytes from which on a warning is due. */
const warnFrom = 0.9;

/**
 * Bounds the bytes of all .log files of one data directory. Counted as they grow and shrink: nothing is
 * walked when a batch is appended.
 */
export class LogQuota {
  readonly #maxBytes: number;
  readonly #warn: (message: string) => void;
  #usedBytes = 0;
  #isWarned = false;

  /** @param maxBytes Infinity: no bound */
  constructor(maxBytes: number, warn: (message: string) => void) {
    this.#maxBytes = maxBytes;
    this.#warn = warn;
  }

  get isBounded(): boolean {
    return this.#maxBytes < Infinity;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** @throws KAFKA_STORAGE_ERROR, retriable, if so many bytes more would pass the bound */
  refuseBeyond(name: string, bytes: number): void {
    if (this.#usedBytes + bytes <= this.#maxBytes) return;
    throw new OttlaError(
      'KAFKA_STORAGE_ERROR',
      `${name}: a write of ${bytes} bytes would pass maxBytes: ${this.#usedBytes} of ${this.#maxBytes} are used. Retention, deleting topics or a larger maxBytes make room`,
    );
  }

  /** Counts bytes that came, or, negative, went. The warning comes once, until less is used again. */
  add(bytes: number): void {
    this.#usedBytes += bytes;
    const isNearlyFull = this.#usedBytes >= this.#maxBytes * warnFrom;
    if (isNearlyFull === this.#isWarned) return;
    this.#isWarned = isNearlyFull;
    if (!isNearlyFull) return;
    this.#warn(
      `the logs use ${this.#usedBytes} bytes of maxBytes ${this.#maxBytes}: beyond it sends are refused.`,
    );
  }
}

/** The bytes of one log in the quota. */
export class CountedBytes {
  readonly #quota: LogQuota;
  #bytes = 0;

  constructor(quota: LogQuota) {
    this.#quota = quota;
  }

  /** Bytes that came, or, negative, went. */
  add(bytes: number): void {
    this.#bytes += bytes;
    this.#quota.add(bytes);
  }

  /** All that there are. */
  set(bytes: number): void {
    this.add(bytes - this.#bytes);
  }
}
