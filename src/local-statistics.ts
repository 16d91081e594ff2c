import type { Clock } from './clock.js';
import type { WriterMetrics } from './engine.js';

const windowMs = 30_000;

/** A total, and how fast it grew over the last 30 to 60 seconds: Kafka's two samples. */
class Meter {
  total = 0;
  readonly #clock: Clock;
  #windowStart: number;
  #windowTotal = 0;
  #earlierStart: number;
  #earlierTotal = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#windowStart = clock.monotonic();
    this.#earlierStart = this.#windowStart;
  }

  add(amount: number, nowMs: number): void {
    this.#roll(nowMs);
    this.total += amount;
  }

  get perSecond(): number {
    const now = this.#clock.monotonic();
    this.#roll(now);
    const ms = now - this.#earlierStart;
    return ms <= 0 ? 0 : ((this.total - this.#earlierTotal) * 1000) / ms;
  }

  #roll(now: number): void {
    const windows = Math.floor((now - this.#windowStart) / windowMs);
    if (windows <= 0) return;
    // After more than one window nothing was added since the end of the first.
    this.#earlierTotal = windows === 1 ? this.#windowTotal : this.total;
    this.#windowTotal = this.total;
    this.#windowStart += windows * windowMs;
    this.#earlierStart = this.#windowStart - windowMs;
  }
}

/** Counts what becomes of one producer's records. */
export class WriterStatistics {
  readonly #records: Meter;
  readonly #bytes: Meter;
  #recordErrorCount = 0;
  #batchCount = 0;
  #batchRecordCount = 0;
  #batchBytes = 0;
  #batchMaxBytes = 0;
  #plainBytes = 0;
  #queuedCount = 0;
  #queueMs = 0;
  #queueMaxMs = 0;

  constructor(clock: Clock) {
    this.#records = new Meter(clock);
    this.#bytes = new Meter(clock);
  }

  acknowledged(records: number, bytes: number, nowMs: number): void {
    this.#records.add(records, nowMs);
    this.#bytes.add(bytes, nowMs);
  }

  failed(records: number): void {
    this.#recordErrorCount += records;
  }

  /** A batch is handed to the log. `plainBytes`: what it would take without compression. */
  batch(records: number, bytes: number, plainBytes: number): void {
    this.#batchCount++;
    this.#batchRecordCount += records;
    this.#batchBytes += bytes;
    this.#plainBytes += plainBytes;
    if (bytes > this.#batchMaxBytes) this.#batchMaxBytes = bytes;
  }

  /** A batch lay open that long. */
  queued(ms: number): void {
    this.#queuedCount++;
    this.#queueMs += ms;
    if (ms > this.#queueMaxMs) this.#queueMaxMs = ms;
  }

  read(): Omit<WriterMetrics, 'bufferTotalBytes' | 'bufferUsedBytes'> {
    return {
      recordCount: this.#records.total,
      recordErrorCount: this.#recordErrorCount,
      recordBytes: this.#bytes.total,
      recordsPerSecond: this.#records.perSecond,
      bytesPerSecond: this.#bytes.perSecond,
      batchCount: this.#batchCount,
      recordsPerBatch: average(this.#batchRecordCount, this.#batchCount),
      batchAverageBytes: average(this.#batchBytes, this.#batchCount),
      batchMaxBytes: this.#batchMaxBytes,
      compressionRatio: this.#plainBytes === 0 ? 1 : this.#batchBytes / this.#plainBytes,
      queueAverageMs: average(this.#queueMs, this.#queuedCount),
      queueMaxMs: this.#queueMaxMs,
    };
  }
}

function average(sum: number, count: number): number {
  return count === 0 ? 0 : sum / count;
}
