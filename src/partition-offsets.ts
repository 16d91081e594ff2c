import { OttlaError } from './errors.js';
import { isAgo, type From, type Isolation } from './options.js';
import type { Partition } from './partition.js';
import { PartitionReader } from './partition-reader.js';
import { findReadable } from './partition-seek.js';
import { RecordReader } from './record-reader.js';
import { checkBatch, readBatchHeader } from './record.js';

const chunkBytes = 64 * 1024;

/** Told of damage that a search passes over: the offset that cannot be read, and the next one that can. */
export type OnDamage = (offset: number, nextOffset: number, error: OttlaError) => void;

/**
 * The offset that `from` means in a partition at the time `now`; null for 'none'. A date after all records:
 * the end.
 * @param onDamage as of offsetForTimestamp()
 */
export async function offsetFor(
  partition: Partition,
  from: From,
  now: number,
  isolation: Isolation = 'read_committed',
  onDamage?: OnDamage,
): Promise<number | null> {
  if (from === 'none') return null;
  if (from === 'earliest') return partition.logStartOffset;
  // Taken before the search: what is appended meanwhile is not to be passed over.
  const end = partition.endFor(isolation);
  if (from === 'latest') return end;
  const timestamp = isAgo(from) ? now - from.durationMs : from.getTime();
  return Math.min(end, (await offsetForTimestamp(partition, timestamp, onDamage)) ?? end);
}

/**
 * Offset of the first record with this timestamp or a later one; null if there is none. A search that meets
 * damage ends there, with the offset that cannot be read: what is lost may have been such a record.
 * @param onDamage the search goes on behind damage instead, and is told of it
 */
export async function offsetForTimestamp(
  partition: Partition,
  timestamp: number,
  onDamage?: OnDamage,
): Promise<number | null> {
  return (await recordFrom(partition, timestamp, onDamage))?.offset ?? null;
}

/** Where a record is, and when it is from. */
export interface TimedOffset {
  readonly offset: number;
  readonly timestamp: number;
}

/** As offsetForTimestamp(), with the record's own timestamp; where damage ends the search, the one searched for. */
export async function recordFrom(
  partition: Partition,
  timestamp: number,
  onDamage?: OnDamage,
): Promise<TimedOffset | null> {
  for (;;) {
    const start = partition.offsetBeforeTimestamp(timestamp);
    if (start === null) return null;
    try {
      return await new TimestampSearch(partition, timestamp, start).run(onDamage);
    } catch (error) {
      // What was being searched has been deleted from the log's start.
      if (!isError(error, 'OFFSET_OUT_OF_RANGE')) throw error;
    }
  }
}

class TimestampSearch {
  readonly #partition: Partition;
  readonly #timestamp: number;
  readonly #reader: PartitionReader;
  readonly #records: RecordReader = new RecordReader();
  #buffer: Buffer = Buffer.allocUnsafe(chunkBytes);
  /** Below it all was looked at. */
  #offset: number;

  /** @throws OFFSET_OUT_OF_RANGE */
  constructor(partition: Partition, timestamp: number, start: number) {
    this.#partition = partition;
    this.#timestamp = timestamp;
    this.#reader = new PartitionReader(partition, start);
    this.#offset = start;
  }

  async run(onDamage: OnDamage | undefined): Promise<TimedOffset | null> {
    for (let passedAt = ''; ;) {
      try {
        return await this.#search();
      } catch (error) {
        if (!isError(error, 'CORRUPT_MESSAGE')) throw error;
        const offset = this.#offset;
        const place = await findReadable(this.#partition, offset);
        const at = `${place.segment.baseOffset} ${place.position}`;
        // Damage that cannot be passed is met by who reads.
        if (at === passedAt || (place.offset > offset && onDamage === undefined)) {
          return { offset, timestamp: this.#timestamp };
        }
        passedAt = at;
        if (place.offset > offset) onDamage?.(offset, place.offset, error);
        this.#offset = place.offset;
        this.#reader.goOnAt(place.segment, place.position);
      }
    }
  }

  async #search(): Promise<TimedOffset | null> {
    for (;;) {
      const length = await this.#reader.readAsync(this.#buffer);
      if (length === 0) return null;
      if (length < 0) this.#buffer = Buffer.allocUnsafe(-length);
      for (let at = 0; at < length;) {
        const batch = readBatchHeader(this.#buffer, at, length)!;
        // Of one that is damaged neither length nor timestamp says anything.
        checkBatch(this.#buffer, at, batch);
        if (batch.nextOffset > this.#offset) {
          if (batch.maxTimestamp >= this.#timestamp && !batch.isControl) {
            this.#records.open(this.#buffer, at, batch, this.#offset);
            while (this.#records.next()) {
              const { offset, timestamp } = this.#records;
              if (timestamp >= this.#timestamp) return { offset, timestamp };
            }
          }
          this.#offset = batch.nextOffset;
        }
        at += batch.size;
      }
    }
  }
}

function isError(error: unknown, code: OttlaError['code']): error is OttlaError {
  return error instanceof OttlaError && error.code === code;
}
