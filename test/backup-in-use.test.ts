import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { backupTo } from '../src/backup.js';
import { Broker } from '../src/broker.js';
import { Ottla } from '../src/index.js';
import { openDataDirectory } from '../src/data-directory.js';
import { systemDisk, type Disk } from '../src/storage/disk.js';
import { SyncQueue } from '../src/storage/sync-queue.js';
import { verifyStore } from '../src/verify.js';
import { committedIn } from './committed-records.js';
import { collect, closedAfterEach } from './contract.js';
import { FaultyMachine } from './faulty-machine.js';
import { keyedBatch, keyedRecords, latestValues } from './keyed.js';
import { append, batchOf, createTopic, failureOf, partitionOf, valuesIn } from './machine.js';
import { MemoryDisk } from './memory-disk.js';
import { numberedBatch } from './numbered.js';
import { WatchedFiles, ioError, type Call } from './watched-files.js';

const target = resolve('/copy');
const large = 'x'.repeat(400);

describe('a backup', () => {
  let machine: FaultyMachine;
  let broker: Broker;
  let disk: MemoryDisk;
  beforeEach(async () => {
    machine = new FaultyMachine();
    broker = await machine.open();
    disk = new MemoryDisk();
  });

  /** What is done while a file of a log is copied, once for each that it takes. */
  function whileCopying(...steps: (() => Promise<unknown>)[]): Promise<unknown>[] {
    const done: Promise<unknown>[] = [];
    let isDoing = false;
    machine.fault = ({ name, path }) => {
      if (isDoing || name !== 'readAsync' || !path.endsWith('.log')) return undefined;
      const step = steps.shift();
      isDoing = true;
      if (step !== undefined) done.push(step());
      isDoing = false;
      return undefined;
    };
    return done;
  }

  async function backup(): Promise<Broker> {
    await backupTo(broker.backupSource, target, undefined, disk);
    machine.fault = () => undefined;
    const store = await disk.openStore(join(target, 'meta'));
    const { files } = disk;
    const report = await verifyStore({ directory: target, files, store, clock: machine.clock });
    expect(report.problems).toEqual([]);
    expect(report.notes).toEqual([]);
    const copy = new Broker({
      directory: target,
      files,
      store,
      clock: machine.clock,
      random: () => 0.5,
      syncs: new SyncQueue(2),
      readOnly: false,
      defaults: {},
    });
    await copy.recover();
    return copy;
  }

  it('holds a compaction off until a partition is copied', async () => {
    const partition = await createTopic(broker, { segmentBytes: 1024 }, 2);
    for (const index of [0, 1]) {
      for (const key of ['a', 'b', 'a', 'a', 'b', 'c']) {
        await append(partitionOf(broker, index), keyedBatch([[key, large]]), 'all');
      }
    }
    const before = await keyedRecords(partition);
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    const done = whileCopying(() =>
      Promise.all([partition.compact(), partitionOf(broker, 1).compact()]),
    );
    const copy = await backup();
    await Promise.all(done);
    expect((await keyedRecords(partition)).length).toBeLessThan(before.length);
    expect(await keyedRecords(partitionOf(copy))).toEqual(before);
    const other = await keyedRecords(partitionOf(copy, 1));
    expect(latestValues(other)).toEqual(latestValues(before));
    await copy.close();
  });

  it('leaves out what a producer elsewhere has open', async () => {
    const partition = await createTopic(broker);
    const identity = await broker.transactions.init('elsewhere', 60_000);
    await broker.transactions.addPartitions('elsewhere', identity, [partition]);
    const origin = { ...identity, baseSequence: 0, isTransactional: true, timestamp: 1000 };
    await append(partition, numberedBatch(['open'], origin), 'all');
    const copy = await backup();
    expect(await committedIn(partitionOf(copy))).toEqual([]);
    expect(partitionOf(copy).lastStableOffset).toBe(2);
    const failure = await failureOf(copy.transactions.end('elsewhere', identity, true));
    expect(failure).toMatchObject({ code: 'INVALID_TXN_STATE' });
    await broker.transactions.end('elsewhere', identity, true);
    expect(await committedIn(partition)).toEqual(['open']);
    await copy.close();
  });

  it('that meets a swap under way has the new segment under its name', async () => {
    const partition = await createTopic(broker, { segmentBytes: 1024 });
    for (const key of ['a', 'b', 'a', 'a', 'b', 'c']) {
      await append(partition, keyedBatch([[key, large]]), 'all');
    }
    await broker.topics.alter('t', { cleanupPolicy: 'compact' });
    machine.fault = ({ name, path }) =>
      name === 'rename' && path.endsWith('.swap') ? ioError('rename', path) : undefined;
    await partition.compact();
    expect(machine.names().some((name) => name.endsWith('.log.swap'))).toBe(true);
    machine.fault = () => undefined;
    const copy = await backup();
    expect(await keyedRecords(partitionOf(copy))).toEqual(await keyedRecords(partition));
    const { swapping } = (await disk.openStore(join(target, 'meta'))).get([
      'compaction',
      partition.topicId,
      0,
    ])!;
    expect(swapping).toBeNull();
    await copy.close();
  });

  it('holds retention and deleteRecords off until a partition is copied', async () => {
    const partition = await createTopic(broker, { segmentBytes: 1024 });
    const values = Array.from({ length: 12 }, (_, i) => `${i}`.padStart(400, '.'));
    for (const value of values) await append(partition, batchOf([value]), 'all');
    const done = whileCopying(
      () => partition.freeSegments((segments) => segments.length - 2),
      () => partition.deleteRecords(11),
    );
    const copy = await backup();
    await Promise.all(done);
    expect(partition.logStartOffset).toBe(11);
    expect(await valuesIn(partitionOf(copy))).toEqual(values);
    await copy.close();
  });

  it('has what was acknowledged before it, however the log rolls meanwhile', async () => {
    const partition = await createTopic(broker, { segmentBytes: 1024 });
    const values = Array.from({ length: 5 }, (_, i) => `${i}`.padStart(400, '.'));
    for (const value of values) await append(partition, batchOf([value]), 'all');
    const rolls = Array.from(
      { length: 3 },
      (_, i) => () => append(partition, batchOf([`later ${i}`.padStart(900, '.')]), 'all'),
    );
    const done = whileCopying(...rolls);
    const copy = await backup();
    await Promise.all(done);
    const found = await valuesIn(partitionOf(copy));
    expect(found.slice(0, 5)).toEqual(values);
    expect(await valuesIn(partition)).toEqual([...found, ...(await valuesIn(partition))].slice(-8));
    await copy.close();
  });

  it.each([
    ['before its turn', 't'],
    ['while it is copied', 'u'],
  ])('has a topic as it was, that is deleted %s', async (_when, trigger) => {
    await append(await createTopic(broker, {}, 2, 't'), batchOf(['t']), 'all');
    await append(await createTopic(broker, {}, 3, 'u'), batchOf(['u']), 'all');
    let deleted: Promise<void> | undefined;
    machine.fault = ({ name, path }) => {
      const isTrigger = name === 'readAsync' && path.includes(`/${trigger}-0/`);
      if (isTrigger) deleted ??= broker.topics.delete('u');
      return undefined;
    };
    const copy = await backup();
    await deleted;
    expect(machine.names('/').filter((name) => name.startsWith('u'))).toEqual([]);
    expect([...copy.topics.all()].map(({ name }) => name)).toEqual(['t', 'u']);
    expect(await valuesIn(partitionOf(copy))).toEqual(['t']);
    expect(await valuesIn(partitionOf(copy, 0, 'u'))).toEqual(['u']);
    await copy.close();
  });

  it('leaves out a topic that was deleted before its moment', async () => {
    await append(await createTopic(broker, {}, 2, 't'), batchOf(['t']), 'all');
    await createTopic(broker, {}, 3, 'u');
    const deleted = broker.topics.delete('u');
    const copy = await backup();
    await deleted;
    expect([...copy.topics.all()].map(({ name }) => name)).toEqual(['t']);
    expect(disk.files.list(target).filter((name) => name.startsWith('u'))).toEqual([]);
    await copy.close();
  });

  it('is of one moment: what is appended to a later partition meanwhile is not in it', async () => {
    await createTopic(broker, { segmentBytes: 1024 }, 3);
    const [first, , last] = [0, 1, 2].map((index) => partitionOf(broker, index));
    const before = ['a', 'b', 'c'].map((value) => value.padStart(300, '.'));
    for (const value of before) {
      await append(first!, batchOf([value]), 'all');
      await append(last!, batchOf([value]), 'all');
    }
    const done = whileCopying(async () => {
      for (const value of ['x', 'y', 'z']) {
        await append(last!, batchOf([value.padStart(900, '.')]), 'all');
      }
    });
    const copy = await backup();
    await Promise.all(done);
    expect(last!.segmentCount).toBeGreaterThan(3);
    expect(await valuesIn(partitionOf(copy, 0))).toEqual(before);
    expect(await valuesIn(partitionOf(copy, 2))).toEqual(before);
    await copy.close();
  });

  it('of thousands of partitions has one file open, and its copy, and no large buffer or write', async () => {
    const count = 2000;
    const partition = await createTopic(broker, {}, count);
    await append(partition, batchOf(['x'.repeat(100)]), 'all');
    for (let i = 0; i < count; i += 7)
      await append(partitionOf(broker, i), batchOf([`${i}`]), 'all');
    await broker.close();
    broker = await machine.open();
    let mostOpen = 0;
    let mostBytes = 0;
    const watch = (call: Call): undefined => {
      if (call.name !== 'readAsync' && call.name !== 'write') return undefined;
      mostBytes = Math.max(mostBytes, call.bytes);
      mostOpen = Math.max(mostOpen, machine.watched.openCount + copied.openCount);
      return undefined;
    };
    const copied = new WatchedFiles(disk.files, watch);
    disk.files = copied;
    machine.fault = watch;
    let mostRows = 0;
    const openStore: Disk['openStore'] = async (directory) => {
      const store = await disk.openStore(directory);
      const write = store.write.bind(store);
      store.write = (changes) => {
        mostRows = Math.max(mostRows, changes.length);
        return write(changes);
      };
      return store;
    };
    await backupTo(broker.backupSource, target, undefined, {
      files: copied,
      openStore,
      salvage: disk.salvage,
      lock: disk.lock,
    });
    const store = await disk.openStore(join(target, 'meta'));
    expect(mostOpen).toBe(2);
    expect(mostBytes).toBeLessThan(1000);
    expect(mostRows).toBeLessThanOrEqual(1000);
    const copiedRows = [...store.range(['partition'])];
    expect(copiedRows).toHaveLength(count);
    expect(copiedRows).toEqual(
      expect.arrayContaining([...machine.store.range(['partition'])]) as unknown,
    );
  });
});

describe('a backup on the disk', { timeout: 60_000 }, () => {
  let place: string;
  beforeAll(() => {
    place = mkdtempSync(join(tmpdir(), 'ottla-backup-crash-'));
  });
  afterAll(() => rmSync(place, { recursive: true, force: true }));
  const closed = closedAfterEach();

  async function fill(name: string): Promise<Ottla> {
    const ottla = closed(await Ottla.open(join(place, name)));
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    await ottla.topics.create('k', {
      segmentBytes: 1024,
      cleanupPolicy: 'compact',
      minCleanableDirtyRatio: 0,
    });
    const producer = ottla.producer();
    for (let i = 0; i < 20; i++) {
      await producer.send('t', { value: `${i}`.padStart(100, '.'), partition: i % 2 });
      await producer.send('k', { key: `${i % 3}`, value: `${i}`.padStart(100, '.') });
    }
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    await consumer.commit([{ topic: 't', partition: 0, offset: 4 }]);
    await consumer.close();
    return ottla;
  }

  async function contentOf(ottla: Ottla): Promise<unknown[]> {
    const found: unknown[] = [];
    for (const topic of await ottla.topics.list()) {
      const { id, options, partitions } = await ottla.topics.describe(topic);
      found.push(id, options, partitions);
      for (const { partition, offset, timestamp, key, value } of await collect(ottla.read(topic))) {
        found.push([partition, offset, timestamp, String(key), String(value)]);
      }
    }
    const { partitions } = await ottla.groups.describe('g');
    found.push(
      partitions.map(({ topic, partition, committed, lag }) => ({
        topic,
        partition,
        committed,
        lag,
      })),
    );
    return found;
  }

  it('cut short by a crash at any call leaves what open refuses, or all of it', async () => {
    // Closed and opened again: a compaction has ended, or will not go on.
    await (await fill('source')).close();
    const ottla = closed(await Ottla.open(join(place, 'source')));
    const content = await contentOf(ottla);
    const nodeDisk = await systemDisk();
    await ottla.close();
    const opened = await openDataDirectory(join(place, 'source'), {
      readOnly: false,
      random: Math.random,
    });
    const { broker } = opened;
    let calls = 0;
    let left = Infinity;
    const changing = new Set([
      'write',
      'sync',
      'replaceFile',
      'makeDirectory',
      'removeFile',
      'syncDirectory',
    ]);
    const files = new WatchedFiles(nodeDisk.files, ({ name, path }) => {
      if (!changing.has(name)) return undefined;
      calls++;
      if (left-- <= 0) throw ioError(name, path);
      return undefined;
    });
    await backupTo(broker.backupSource, join(place, 'whole'), undefined, { ...nodeDisk, files });
    const all = calls;
    expect(all).toBeGreaterThan(30);
    const found = async (directory: string): Promise<unknown> => {
      await using copy = await Ottla.open(directory);
      return await contentOf(copy);
    };
    const disk = { ...nodeDisk, files };
    // The first makes the directory, the second the file that says that it is not whole.
    for (let last = 2; last < all; last++) {
      const directory = join(place, `copy ${last}`);
      left = last;
      const backup = backupTo(broker.backupSource, directory, undefined, disk);
      await expect(backup, `${last}`).rejects.toThrow('EIO');
      left = Infinity;
      const refused = expect.objectContaining({
        code: 'KAFKA_STORAGE_ERROR',
        message: expect.stringContaining('holds a backup that was not finished') as unknown,
      }) as unknown;
      const isMarked = readdirSync(directory).includes('unfinished-backup');
      // The last makes durable that the file is gone: all else is.
      expect(isMarked).toBe(last < all - 1);
      const outcome = await found(directory).catch((error: unknown) => error);
      expect(outcome, `${last}`).toEqual(isMarked ? refused : content);
      const repaired = await Ottla.repair(directory).catch((error: unknown) => error);
      expect(repaired, `${last}`).toEqual(isMarked ? refused : []);
      expect((await Ottla.verify(directory)).ok).toBe(!isMarked);
      rmSync(directory, { recursive: true });
    }
    await broker.close();
    opened.release();
    const copy = closed(await Ottla.open(join(place, 'whole')));
    expect(copy.recovery).toEqual([]);
    expect(await contentOf(copy)).toEqual(content);
  });

  it('ends with CLOSED when the Ottla is closed', async () => {
    const ottla = await fill('closing');
    const running = failureOf(ottla.backup(join(place, 'closed')));
    await ottla.close();
    expect(await running).toMatchObject({ code: 'CLOSED' });
  });
});
