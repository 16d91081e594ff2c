import { OttlaError } from './errors.js';
import { isAgo, type From, type Isolation } from './options.js';
import type { Partition } from './partition.js';
import { PartitionReader } from './partition-reader.js';
import { RecordReader } from './record-reader.js';
import { checkBatch, readBatchHeader } from './record.js';

const chunkBytes = 64 * 1024;

/**
 * The offset that `from` means in a partition at the time `now`; null for 'none'. A date after all records:
 * the end.
 */
export async function offsetFor(
  partition: Partition,
  from: From,
  now: number,
  isolation: Isolation = 'read_committed',
): Promise<number | null> {
  if (from === 'none') return null;
  if (from === 'earliest') return partition.logStartOffset;
  // Taken before the search: what is appended meanwhile is not to be passed over.
  const end = partition.endFor(isolation);
  if (from === 'latest') return end;
  const timestamp = isAgo(from) ? now - from.durationMs : from.getTime();
  return Math.min(end, (await offsetForTimestamp(partition, timestamp)) ?? end);
}

/** Offset of the first record with this timestamp or a later one; null if there is none. */
export async function offsetForTimestamp(
  partition: Partition,
  timestamp: number,
): Promise<number | null> {
  for (;;) {
    try {
      return await findTimestamp(partition, timestamp);
    } catch (error) {
      // What was being searched has been deleted from the log's start.
      if (!(error instanceof OttlaError) || error.code !== 'OFFSET_OUT_OF_RANGE') throw error;
    }
  }
}

async function findTimestamp(partition: Partition, timestamp: number): Promise<number | null> {
  const start = partition.offsetBeforeTimestamp(timestamp);
  if (start === null) return null;
  const reader = new PartitionReader(partition, start);
  let buffer = Buffer.allocUnsafe(chunkBytes);
  const records = new RecordReader();
  for (;;) {
    const length = await reader.readAsync(buffer);
    if (length === 0) return null;
    if (length < 0) {
      buffer = Buffer.allocUnsafe(-length);
      continue;
    }
    for (let at = 0; at < length;) {
      const batch = readBatchHeader(buffer, at, length)!;
      if (batch.maxTimestamp >= timestamp && batch.nextOffset > start && !batch.isControl) {
        checkBatch(buffer, at, batch);
        records.open(buffer, at, batch, start);
        while (records.next()) if (records.timestamp >= timestamp) return records.offset;
      }
      at += batch.size;
    }
  }
}
