import type { Compression } from '../src/compression.js';
import { RecordReader } from '../src/record-reader.js';
import { checkBatch, readBatchHeader } from '../src/record.js';
import { encodeBatch } from '../src/record-writer.js';
import { PartitionReader } from '../src/partition-reader.js';
import type { Partition } from '../src/partition.js';

/** A record of a compacted topic; value null is a tombstone. */
export interface KeyedRecord {
  readonly offset: number;
  readonly key: string;
  readonly value: string | null;
}

/** A whole batch, as a producer would hand it over. */
export function keyedBatch(
  records: readonly (readonly [key: string, value: string | null])[],
  timestamp = 1000,
  compression: Compression = 'none',
): Buffer {
  return encodeBatch({
    compression,
    baseOffset: 0,
    leaderEpoch: 0,
    records: records.map(([key, value], offset) => ({ offset, timestamp, key, value })),
  });
}

/** All records from an offset on; their offsets must grow. */
export async function keyedRecords(
  partition: Partition,
  from: number = partition.logStartOffset,
): Promise<KeyedRecord[]> {
  const reader = new PartitionReader(partition, from);
  const records = new RecordReader();
  const found: KeyedRecord[] = [];
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
        const { offset } = records;
        // Read again, because a compaction came in between.
        if (offset <= (found.at(-1)?.offset ?? -1)) continue;
        const key = String(records.key(false));
        found.push({ offset, key, value: records.value(false)?.toString() ?? null });
      }
      at += batch.size;
    }
  }
}

/** The last value of each key; tombstones count as no value. */
export function latestValues(records: readonly KeyedRecord[]): Map<string, string> {
  const latest = new Map<string, string>();
  for (const { key, value } of records) {
    if (value === null) latest.delete(key);
    else latest.set(key, value);
  }
  return latest;
}
