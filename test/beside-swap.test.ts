import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { TopicReading } from '../src/consumer-read.js';
import { LocalEngine } from '../src/local.js';
import type { Partition } from '../src/partition.js';
import { fileError } from '../src/storage/file-system.js';
import { put, type CompactionRow } from '../src/storage/meta-store.js';
import { moveNewIn } from '../src/storage/segment-swap.js';
import { FaultyMachine } from './faulty-machine.js';
import { keyedBatch, keyedRecords } from './keyed.js';
import { append, createTopic, firstLog, partitionOf } from './machine.js';
import { noSpace } from './watched-files.js';

// What an owner's compaction does between two steps of who reads beside it.

const large = 'x'.repeat(400);

let machine: FaultyMachine;
let partition: Partition;

/** Two segments of two records, of which compaction leaves those at 1 and 2; then an active one. */
beforeEach(async () => {
  machine = new FaultyMachine();
  const broker = await machine.open();
  partition = await createTopic(broker, { segmentBytes: 1024 });
  for (const key of ['a', 'b', 'a', 'a', 'a']) {
    await append(partition, keyedBatch([[key, large]], 1000), 'all');
  }
  await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
});

const rowOf = (): CompactionRow => machine.store.get(['compaction', partition.topicId, 0])!;

async function readingOf(broker: Broker): Promise<number[]> {
  const engine = new LocalEngine(broker, { error: () => undefined, warning: () => undefined });
  const seen: number[] = [];
  for await (const { offset } of new TopicReading(engine, 't')) seen.push(offset);
  return seen;
}

describe('who reads beside a compaction', () => {
  it('finds a compacted segment that gets its name while it is opened', async () => {
    machine.fault = ({ name, path }) =>
      name === 'rename' && path.endsWith('.swap') ? noSpace(path) : undefined;
    await partition.compact();
    const { swapping } = rowOf();
    const beside = await machine.open({ readOnly: true });
    let isMoved = false;
    machine.fault = ({ name, path }) => {
      if (name !== 'open' || !path.endsWith('.log.swap')) return undefined;
      machine.fault = () => undefined;
      moveNewIn(machine.files, '/t-0', swapping!);
      isMoved = true;
      return undefined;
    };
    // Up to the recovery point: nothing is looked at twice here.
    const records = await keyedRecords(partitionOf(beside));
    expect(records.map(({ offset }) => offset)).toEqual([1, 3]);
    expect(isMoved).toBe(true);
  });

  it('looks at the files again for as long as each look finds them compacted once more', async () => {
    await partition.compact();
    const beside = await machine.open({ readOnly: true });
    let failed = 0;
    let moved = 0;
    machine.fault = ({ name, path }) => {
      if (name === 'list' && moved < failed) {
        moved++;
        const row = { ...rowOf(), swaps: rowOf().swaps + 1 };
        void machine.store.write([put(['compaction', partition.topicId, 0], row)]);
      }
      if (name !== 'open' || !path.endsWith(firstLog) || failed === 5) return undefined;
      failed++;
      return fileError('ENOENT', 'open', path);
    };
    expect(await readingOf(beside)).toEqual([1, 3, 4]);
    expect([failed, moved]).toEqual([5, 5]);
  });

  it('is told of a segment that is gone although nothing was compacted since', async () => {
    await partition.compact();
    const beside = await machine.open({ readOnly: true });
    machine.fault = ({ name, path }) =>
      name === 'open' && path.endsWith(firstLog) ? fileError('ENOENT', 'open', path) : undefined;
    await expect(readingOf(beside)).rejects.toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
  });

  it('does not need the list of files to have what got its name while it was made', async () => {
    await partition.compact();
    const list = machine.files.list.bind(machine.files);
    machine.files.list = (path) => list(path).filter((name) => name !== firstLog);
    const beside = await machine.open({ readOnly: true });
    expect(await readingOf(beside)).toEqual([1, 3, 4]);
    expect(partitionOf(beside).failure).toBeNull();
  });
});
