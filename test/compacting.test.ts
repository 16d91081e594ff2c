import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import type { Partition } from '../src/partition.js';
import { TopicReading } from '../src/consumer-read.js';
import { LocalEngine } from '../src/local.js';
import { offsetForTimestamp } from '../src/partition-offsets.js';
import { PartitionReader } from '../src/partition-reader.js';
import { encodeMarker } from '../src/record-marker.js';
import { readBatchHeader } from '../src/record.js';
import { encodeBatch } from '../src/record-writer.js';
import { put } from '../src/storage/meta-store.js';
import { FaultyMachine } from './faulty-machine.js';
import { keyedBatch, keyedRecords } from './keyed.js';
import { append, createTopic, firstLog, partitionOf } from './machine.js';
import { noSpace } from './watched-files.js';

const large = 'x'.repeat(400);
const day = 86_400_000;
const compacted = { segmentBytes: 1024, cleanupPolicy: 'compact', indexIntervalBytes: 0 } as const;

let machine: FaultyMachine;
let broker: Broker;
let warnings: string[];
beforeEach(async () => {
  machine = new FaultyMachine();
  broker = await machine.open();
  warnings = [];
  broker.onWarning = (warning) => warnings.push(warning);
});

/** Two of them fill a segment. */
async function appendLarge(partition: Partition, ...keys: readonly string[]): Promise<void> {
  for (const key of keys) await append(partition, keyedBatch([[key, large]], 1000), 'all');
}

const offsetsOf = async (partition: Partition): Promise<number[]> =>
  (await keyedRecords(partition)).map(({ offset }) => offset);

describe('a compacted partition', () => {
  it('is compacted after a roll, once enough is dirty', async () => {
    const partition = await createTopic(broker, { ...compacted, minCleanableDirtyRatio: 0.6 });
    // Of the first segment all is dirty; then one of two is, then two of three are.
    await appendLarge(partition, 'a', 'b', 'a', 'b', 'c');
    await machine.clock.settle();
    expect(await offsetsOf(partition)).toEqual([0, 1, 2, 3, 4]);
    await appendLarge(partition, 'c', 'd');
    await machine.clock.settle();
    expect(await offsetsOf(partition)).toEqual([2, 3, 5, 6]);
  });

  it('is looked at every 15 seconds, without a roll, after a restart too', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'a', 'a', 'a', 'a');
    expect(machine.clock.timerCount).toBe(0);
    await broker.topics.alter('t', { cleanupPolicy: ['compact', 'delete'] });
    await broker.close();
    expect(machine.clock.timerCount).toBe(0);
    broker = await machine.open();
    await machine.clock.advance(14_999);
    expect(await offsetsOf(partitionOf(broker))).toEqual([0, 1, 2, 3, 4]);
    await machine.clock.advance(1);
    expect(await offsetsOf(partitionOf(broker))).toEqual([3, 4]);
    await broker.close();
    expect(machine.clock.timerCount).toBe(0);
  });

  it('is never compacted twice at once', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'a', 'a', 'a', 'a');
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    machine.log.length = 0;
    await Promise.all([partition.compact(), partition.compact(), partition.compact()]);
    expect(machine.count('write rows segment segment compaction partition')).toBe(2);
    expect(machine.count('write rows compaction partition')).toBe(1);
    expect(await offsetsOf(partition)).toEqual([3, 4]);
  });

  it('goes on with what is left when records are deleted meanwhile', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'b', 'a', 'a', 'a');
    await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
    const reader = new PartitionReader(partition, 0);
    let deleted: Promise<void> | undefined;
    machine.fault = ({ name, path }) => {
      if (name === 'write' && path.endsWith('.cleaned')) deleted ??= partition.deleteRecords(2);
      return undefined;
    };
    await partition.compact();
    await deleted;
    expect(partition.logStartOffset).toBe(2);
    expect(await offsetsOf(partition)).toEqual([3, 4]);
    expect(() => reader.available).toThrow(/offset 0 is out of range, the log has 2 to 5/);
    expect(machine.names().filter((name) => /cleaned|swap|deleted/.test(name))).toEqual([]);
    await partition.reopen();
    expect(await offsetsOf(partition)).toEqual([3, 4]);
    expect(warnings).toEqual([]);
  });

  it('is compacted to the end, however often retention frees segments meanwhile', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    const keys = Array.from({ length: 41 }, (_, i) => `k${i % 4}`);
    await appendLarge(partition, ...keys);
    const segmentBytes = 4096;
    await broker.topics.alter('t', { cleanupPolicy: ['compact', 'delete'], segmentBytes });
    const frees: Promise<void>[] = [];
    machine.fault = ({ name, path }) => {
      const isOfPass = name === 'readAsync' && path.endsWith('.log');
      if (isOfPass && partition.logStartOffset < 20 && frees.length < 60) {
        frees.push(partition.freeSegments(() => 1));
      }
      return undefined;
    };
    await partition.compact();
    await Promise.all(frees);
    machine.fault = () => undefined;
    expect(partition.logStartOffset).toBeGreaterThan(10);
    const { firstDirtyOffset } = machine.store.get(['compaction', partition.topicId, 0])!;
    expect(firstDirtyOffset).toBe(40);
    const records = await keyedRecords(partition);
    expect(records.slice(-5).map(({ key }) => key)).toEqual(['k0', 'k1', 'k2', 'k3', 'k0']);
    expect(records).toHaveLength(5);
    expect(machine.names().filter((name) => /cleaned|swap|deleted/.test(name))).toEqual([]);
    expect(warnings).toEqual([]);
    await partition.reopen();
    expect(await keyedRecords(partition)).toEqual(records);
  });

  it.each([false, true])(
    'is left alone from an open transaction on; its end, a commit: %s, lets it go on',
    async (isCommit) => {
      const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
      await appendLarge(partition, 'a', 'a');
      const origin = { producerId: 7n, producerEpoch: 0 };
      const inTransaction = encodeBatch({
        ...origin,
        baseOffset: 0,
        leaderEpoch: -1,
        baseSequence: 0,
        isTransactional: true,
        records: [{ offset: 0, timestamp: 1000, key: 'b', value: large }],
      });
      await append(partition, inTransaction, 'all');
      await appendLarge(partition, 'a', 'a', 'a');
      await broker.topics.alter('t', { cleanupPolicy: 'compact' });
      await partition.compact();
      expect(partition.lastStableOffset).toBe(2);
      expect(await offsetsOf(partition)).toEqual([1, 2, 3, 4, 5]);
      const marker = { ...origin, isCommit, coordinatorEpoch: 0, timestamp: 1000 };
      await append(partition, encodeMarker(marker), 'all');
      await appendLarge(partition, 'c', 'c');
      await partition.compact();
      // 6 is the marker; the last batch of a producer stays, be it empty.
      const left = await offsetsOf(partition);
      expect(left.includes(2)).toBe(isCommit);
      expect(left.filter((offset) => offset !== 2)).toEqual([5, 6, 7, 8]);
      const again = await partition.reopen();
      expect(again).toBeNull();
      expect(partition.lastStableOffset).toBe(9);
      expect(await offsetsOf(partition)).toEqual(left);
      expect(warnings).toEqual([]);
    },
  );

  it('gives the host its turn every 2 ms, however long its batches are', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    const many = Array.from({ length: 1000 }, (_, i) => [`k${i % 50}`, `${i}`] as const);
    for (let i = 0; i < 8; i++) await append(partition, keyedBatch(many), 'all');
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    // Each look at the clock takes 0.1 ms, as if work had been done in between.
    const { clock } = machine;
    const monotonic = clock.monotonic.bind(clock);
    const soon = clock.soon.bind(clock);
    let now = monotonic();
    let turnBegan = now;
    let longest = 0;
    let turns = 0;
    clock.monotonic = () => (now += 0.1);
    clock.soon = (run) => {
      longest = Math.max(longest, now - turnBegan);
      turns++;
      soon(() => {
        turnBegan = now;
        run();
      });
    };
    await partition.compact();
    expect((await keyedRecords(partition, 6950)).length).toBeGreaterThan(0);
    expect(turns).toBeGreaterThan(10);
    expect(longest).toBeLessThan(2.2);
  });

  it('loses segments to retention only if its policy deletes, too', async () => {
    const partition = await createTopic(broker, { ...compacted, retentionBytes: 0 });
    await appendLarge(partition, 'a', 'b', 'c', 'd', 'e');
    await broker.retention.check();
    expect(await offsetsOf(partition)).toEqual([0, 1, 2, 3, 4]);
    await broker.topics.alter('t', { cleanupPolicy: ['compact', 'delete'] });
    await broker.retention.check();
    expect(partition.logStartOffset).toBe(5);
    expect(await offsetsOf(partition)).toEqual([]);
  });

  it('keeps a reader in place whose segment is compacted, and another freed', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'b', 'c', 'a', 'a');
    const reader = new PartitionReader(partition, 0);
    const buffer = Buffer.alloc(1024);
    expect(await reader.readAsync(buffer)).toBeGreaterThan(0);
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    await partition.compact();
    await partition.deleteRecords(2);
    expect(await reader.readAsync(buffer)).toBeGreaterThan(0);
    expect(readBatchHeader(buffer, 0, buffer.length)!.nextOffset).toBe(3);
  });

  it('stays as it is when compacting fails, which is told once, and heals itself', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    machine.fault = ({ name, path }) =>
      name === 'write' && path.endsWith('.cleaned') ? noSpace(path) : undefined;
    await appendLarge(partition, 'a', 'b', 'a', 'a', 'a');
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    await machine.clock.advance(60_000);
    expect(warnings).toEqual([expect.stringMatching(/^t-0 could not be compacted: .*ENOSPC/)]);
    expect(await offsetsOf(partition)).toEqual([0, 1, 2, 3, 4]);
    expect(machine.names().filter((name) => name.endsWith('.cleaned'))).toEqual([]);
    machine.fault = () => undefined;
    await machine.clock.advance(15_000);
    expect(await offsetsOf(partition)).toEqual([1, 3, 4]);
  });

  it('with damage is given up, until it is reopened', async () => {
    const created = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(created, 'a', 'a', 'a', 'a', 'a');
    await broker.close();
    const whole = machine.read(firstLog);
    const damaged = Buffer.from(whole);
    damaged[200]! ^= 1;
    machine.write(firstLog, damaged);
    broker = await machine.open();
    broker.onWarning = (warning) => warnings.push(warning);
    const partition = partitionOf(broker);
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    await partition.compact();
    expect(warnings).toEqual([expect.stringMatching(/^t-0 could not be compacted: .* crc /)]);
    machine.write(firstLog, whole);
    machine.fault = ({ path }) => (path.endsWith('.log') ? noSpace(path) : undefined);
    await partition.compact();
    machine.fault = () => undefined;
    await partition.reopen();
    await partition.compact();
    expect(await offsetsOf(partition)).toEqual([3, 4]);
    expect(warnings).toHaveLength(1);
  });

  it('lets appends, deletion and closing go on at once while it is compacted', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'a', 'a', 'a', 'a');
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    const compacting = partition.compact();
    expect(await append(partition, keyedBatch([['b', 'B']]), 'all')).toBe(5);
    await Promise.all([compacting, broker.topics.delete('t')]);
    expect(warnings).toEqual([]);
    expect(machine.files.isDirectory('/t-0')).toBe(false);
    expect([...machine.store.range(['compaction'])]).toEqual([]);
    expect(machine.watched.openCount).toBe(0);
  });
});

describe('a reader of a compacted log', () => {
  it('that holds a place in an old segment finds its offset in the new one', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    const keys = ['a', 'b', 'c', 'a', 'd', 'e', 'b', 'f', 'g'];
    await appendLarge(partition, ...keys);
    await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
    const readers = Array.from(
      { length: 10 },
      (_, offset) => new PartitionReader(partition, offset),
    );
    const buffer = Buffer.alloc(600);
    for (const reader of readers) await reader.readAsync(buffer);
    await partition.compact();
    expect(partition.segmentCount).toBe(2);
    const left = [2, 3, 4, 5, 6, 7, 8];
    for (const [start, reader] of readers.entries()) {
      const found = new Set<number>();
      for (let length = 1; length > 0;) {
        length = await reader.readAsync(buffer);
        if (length > 0) found.add(Number(buffer.readBigInt64BE(0)));
      }
      expect([...found].filter((offset) => offset > start)).toEqual(
        left.filter((offset) => offset > start),
      );
      expect(reader.endReached).toBe(9);
    }
  });

  it('whose read is under way gets what it asked for', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'a', 'a', 'a', 'a');
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    const waiting: (() => void)[] = [];
    const held = new Promise<void>((resolve) => waiting.push(resolve));
    machine.watched.onCall = ({ name, bytes }) =>
      name === 'readAsync' && bytes === 500 ? held : undefined;
    const reader = new PartitionReader(partition, 0);
    const buffer = Buffer.alloc(500);
    const reading = reader.readAsync(buffer);
    const compacting = partition.compact();
    await machine.clock.settle();
    waiting[0]!();
    expect(await reading).toBeGreaterThan(400);
    expect(buffer.readBigInt64BE(0)).toBe(0n);
    await compacting;
    machine.watched.onCall = () => undefined;
    expect(await reader.readAsync(buffer)).toBeGreaterThan(400);
    expect(buffer.readBigInt64BE(0)).toBe(3n);
  });

  it('beside the owner follows what it compacts', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    await appendLarge(partition, 'a', 'b', 'a', 'b', 'c');
    const follower = await machine.open({ readOnly: true });
    await partitionOf(follower).refresh();
    expect(await offsetsOf(partitionOf(follower))).toEqual([0, 1, 2, 3, 4]);
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    await partition.compact();
    await partitionOf(follower).refresh();
    expect(await offsetsOf(partitionOf(follower))).toEqual([2, 3, 4]);
  });

  it('looks times up across gaps', async () => {
    const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
    for (const [i, key] of ['a', 'b', 'a', 'b', 'c'].entries()) {
      await append(partition, keyedBatch([[key, large]], 1000 + i), 'all');
    }
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    await partition.compact();
    const found = [];
    for (let time = 999; time < 1006; time++) found.push(await offsetForTimestamp(partition, time));
    expect(found).toEqual([2, 2, 2, 2, 3, 4, null]);
  });
});

it('nothing is left of tombstones after their time, but the end stays where it was', async () => {
  const partition = await createTopic(broker, { ...compacted, minCleanableDirtyRatio: 0 });
  await append(partition, keyedBatch([['a', large]]), 'all');
  await append(partition, keyedBatch([['a', null]]), 'all');
  await appendLarge(partition, 'b', 'c');
  await machine.clock.settle();
  expect(await offsetsOf(partition)).toEqual([1, 2, 3]);
  await machine.clock.advance(day);
  await appendLarge(partition, 'b', 'c');
  await machine.clock.settle();
  expect(await offsetsOf(partition)).not.toContain(1);
  expect(partition.logStartOffset).toBe(0);
  expect(partition.logEndOffset).toBe(6);
});

/** A log that ends with a tombstone in a sealed segment; the active one is empty. */
async function emptied(): Promise<Partition> {
  const partition = await createTopic(broker, { ...compacted, cleanupPolicy: 'delete' });
  await append(partition, keyedBatch([['a', large]]), 'all');
  await append(partition, keyedBatch([['a', null]]), 'all');
  const failing = append(partition, keyedBatch([['b', `${large}${large}`]]), 'all');
  machine.fault = ({ name, path }) =>
    name === 'write' && path.endsWith('2.log') ? noSpace(path) : undefined;
  await failing.catch(() => undefined);
  machine.fault = () => undefined;
  await broker.topics.alter('t', { cleanupPolicy: 'compact', minCleanableDirtyRatio: 0 });
  return partition;
}

describe('a log whose last records are gone', () => {
  it('is read to its end', async () => {
    const partition = await emptied();
    expect([partition.segmentCount, partition.logEndOffset]).toEqual([2, 2]);
    await broker.topics.alter('t', { deleteRetentionMs: 0 });
    await partition.compact();
    expect(await offsetsOf(partition)).toEqual([1]);
    // Dirty again only by what comes: nothing is compacted, and nothing is lost, until then.
    await partition.compact();
    expect(await offsetsOf(partition)).toEqual([1]);
    const engine = new LocalEngine(broker, { error: () => undefined, warning: () => undefined });
    const seen: number[] = [];
    for await (const { offset } of new TopicReading(engine, 't')) seen.push(offset);
    expect(seen).toEqual([1]);
    await machine.store.write([
      put(['compaction', partition.topicId, 0], { firstDirtyOffset: 0, swaps: 1, swapping: null }),
    ]);
    await partition.compact();
    expect([await offsetsOf(partition), partition.bytes]).toEqual([[], 0]);
    for (const from of [{ 0: 0 }, { 0: 1 }]) {
      const reading = new TopicReading(engine, 't', { from });
      for await (const { offset } of reading) seen.push(offset);
    }
    expect(seen).toEqual([1]);
    expect(await append(partition, keyedBatch([['b', 'B']]), 'all')).toBe(2);
    for await (const { offset } of new TopicReading(engine, 't')) seen.push(offset);
    expect(seen).toEqual([1, 2]);
  });
});

describe('a compressed batch', () => {
  it.each(['gzip', 'snappy', 'lz4', 'zstd'] as const)('stays so with %s', async (compression) => {
    const partition = await createTopic(broker, compacted);
    const batch = keyedBatch(
      [
        ['a', '1'],
        ['b', 'old '.repeat(50)],
        ['c', null],
      ],
      1000,
      compression,
    );
    await append(partition, batch, 'all');
    await append(partition, keyedBatch([['b', 'new '.repeat(50)]], 1000, compression), 'all');
    await appendLarge(partition, 'x', 'y', 'z', 'v', 'w');
    await machine.clock.settle();
    expect((await keyedRecords(partition)).slice(0, 3)).toEqual([
      { offset: 0, key: 'a', value: '1' },
      { offset: 2, key: 'c', value: null },
      { offset: 3, key: 'b', value: 'new '.repeat(50) },
    ]);
    const bytes = machine.read('00000000000000000000.log');
    const header = readBatchHeader(bytes, 0, bytes.length)!;
    expect(header).toMatchObject({ compression, recordCount: 2, baseOffset: 0, lastOffset: 2 });
    expect(warnings).toEqual([]);
  });
});
