import type { Partition } from '../src/partition.js';
import { PartitionReader } from '../src/partition-reader.js';
import { RecordReader } from '../src/record-reader.js';
import { readBatchHeader } from '../src/record.js';
import { AbortedBatches } from '../src/storage/transaction-index.js';

/** What a reader of 'read_committed' sees. */
export async function committedIn(partition: Partition): Promise<string[]> {
  const end = partition.lastStableOffset;
  const aborted = new AbortedBatches(partition.abortedBetween(0, end));
  const reader = new PartitionReader(partition, partition.logStartOffset);
  const buffer = Buffer.alloc(64 * 1024);
  const values: string[] = [];
  const records = new RecordReader();
  for (;;) {
    const length = await reader.readAsync(buffer);
    if (length === 0) return values;
    for (let at = 0; at < length;) {
      const batch = readBatchHeader(buffer, at, length)!;
      const isAborted = batch.isTransactional && aborted.has(batch.producerId, batch.baseOffset);
      if (batch.baseOffset < end && !batch.isControl && !isAborted) {
        records.open(buffer, at, batch);
        while (records.next()) values.push(String(records.value(false)));
      }
      at += batch.size;
    }
  }
}
