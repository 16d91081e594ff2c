import type { Partition } from '../../src/partition.js';
import { PartitionReader } from '../../src/partition-reader.js';
import { RecordReader } from '../../src/record-reader.js';
import { checkBatch, readBatchHeader } from '../../src/record.js';

/** A record as it is read back. */
export interface FoundRecord {
  readonly offset: number;
  readonly timestamp: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly leaderEpoch: number;
}

/** All records from an offset on. */
export async function readLog(
  partition: Partition,
  from: number = partition.logStartOffset,
): Promise<FoundRecord[]> {
  const reader = new PartitionReader(partition, from);
  const records = new RecordReader();
  const found: FoundRecord[] = [];
  let buffer = Buffer.alloc(4096);
  for (;;) {
    const length = await reader.readAsync(buffer);
    if (length === 0) return found;
    if (length < 0) {
      buffer = Buffer.alloc(-length);
      continue;
    }
    for (let at = 0; at < length;) {
      const batch = readBatchHeader(buffer, at, length)!;
      checkBatch(buffer, at, batch);
      records.open(buffer, at, batch, from);
      while (records.next()) {
        const { offset, timestamp } = records;
        // Read again, because a compaction came in between.
        if (offset <= (found.at(-1)?.offset ?? -1)) continue;
        const key = records.key(false)?.toString() ?? null;
        const value = records.value(false)?.toString() ?? null;
        found.push({ offset, timestamp, key, value, leaderEpoch: batch.leaderEpoch });
      }
      at += batch.size;
    }
  }
}

/** What lies behind the last good batch of a file. */
export interface TornTail {
  readonly bytes: Buffer;
  /** Whether a good batch lies in it. */
  readonly hasGoodBatch: boolean;
}

/** Judges a log file from a byte on, at which the batch of `nextOffset` begins; null: it ends well. */
export function tornTail(file: Buffer, position: number, nextOffset: number): TornTail | null {
  let at = position;
  let next = nextOffset;
  while (at < file.length) {
    const batch = goodBatch(file, at);
    if (batch === null || batch.baseOffset !== next) break;
    at += batch.size;
    next = batch.nextOffset;
  }
  if (at === file.length) return null;
  let hasGoodBatch = false;
  for (let later = at + 1; later < file.length && !hasGoodBatch; later++) {
    hasGoodBatch = (goodBatch(file, later)?.baseOffset ?? -1) >= next;
  }
  return { bytes: file.subarray(at), hasGoodBatch };
}

function goodBatch(
  file: Buffer,
  at: number,
): { baseOffset: number; nextOffset: number; size: number } | null {
  // An error for every other byte would take its time.
  if (file[at + 16] !== 2) return null;
  try {
    const batch = readBatchHeader(file, at, file.length);
    if (batch === null || at + batch.size > file.length) return null;
    checkBatch(file, at, batch);
    return batch;
  } catch {
    return null;
  }
}
