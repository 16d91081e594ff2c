import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { backupTo } from '../src/backup.js';
import { Broker } from '../src/broker.js';
import type { Disk } from '../src/storage/disk.js';
import type { MetaStore } from '../src/storage/meta-store.js';
import { SyncQueue } from '../src/storage/sync-queue.js';
import { collect, describeContract } from './contract.js';
import { keyedBatch, keyedRecords, latestValues } from './keyed.js';
import { Machine, append, createTopic, failureOf, partitionOf } from './machine.js';

let place: string;
let target: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'ottla-backup-'));
  target = join(place, 'copy');
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

async function valuesOf(ottla: Ottla, partition: number): Promise<string[]> {
  const records = await collect(ottla.read('t', { partitions: [partition] }));
  for (const [i, { offset }] of records.entries()) {
    if (offset !== i) throw new Error(`offset ${offset} at ${i}`);
  }
  return records.map(({ value }) => String(value));
}

function numbers(end: number): string[] {
  return Array.from({ length: end }, (_, i) => `value ${i}`);
}

describeContract('backup', ({ open }) => {
  it('copies topics, records and commits', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    await ottla.topics.create('empty');
    const producer = ottla.producer();
    for (let i = 0; i < 50; i++) await producer.send('t', { value: `value ${i}`, partition: 0 });
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    await consumer.commit([{ topic: 't', partition: 0, offset: 20 }]);
    await ottla.backup(target);
    expect(await Ottla.verify(target)).toMatchObject({ ok: true, notes: [], records: 50 });
    await using copy = await Ottla.open(target);
    expect(copy.recovery).toEqual([]);
    expect(await copy.topics.list()).toEqual(await ottla.topics.list());
    const [mine, theirs] = [await ottla.topics.describe('t'), await copy.topics.describe('t')];
    expect(theirs.id).toBe(mine.id);
    expect(theirs.options.segmentBytes).toBe(1024);
    expect(theirs.partitions).toEqual(mine.partitions);
    expect(await valuesOf(copy, 0)).toEqual(numbers(50));
    const { partitions } = await copy.groups.describe('g');
    expect(partitions[0]).toMatchObject({ committed: 20, lag: 30 });
    // The two go their own ways.
    expect(await copy.producer().send('t', { value: 'x', partition: 0 })).toMatchObject({
      offset: 50,
    });
    expect(await valuesOf(ottla, 0)).toEqual(numbers(50));
  });

  it('while writers, readers, topics and rolls go on: no commit is ahead of its log', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    const producer = ottla.producer();
    const stop = new AbortController();
    let acknowledged = 0;
    const writing = (async () => {
      for (let i = 0; i < 300 && !stop.signal.aborted; i++) {
        await Promise.all([
          producer.send('t', { value: `value ${i}`, partition: 0 }),
          producer.send('t', { value: `value ${i}`, partition: 1 }),
        ]);
        acknowledged = i + 1;
      }
    })();
    const changing = (async () => {
      for (let i = 0; i < 40 && !stop.signal.aborted; i++) {
        await ottla.topics.create(`u${i}`, { partitions: 3 });
        await producer.send(`u${i}`, { value: 'x' });
        await ottla.topics.delete(`u${i}`);
      }
    })();
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    const reading = (async () => {
      for await (const record of consumer) await record.commit();
    })();
    for (let i = 0; i < 3; i++) {
      const before = acknowledged;
      const directory = `${target}${i}`;
      await ottla.backup(directory);
      const report = await Ottla.verify(directory);
      expect(report.problems).toEqual([]);
      expect(report.notes.filter(({ code }) => code === 'COMMIT_ASTRAY')).toEqual([]);
      await using copy = await Ottla.open(directory);
      expect(copy.recovery.filter((sentence) => !/finished creating/.test(sentence))).toEqual([]);
      for (const partition of [0, 1]) {
        const values = await valuesOf(copy, partition);
        expect(values.length).toBeGreaterThanOrEqual(before);
        expect(values).toEqual(numbers(values.length));
      }
    }
    stop.abort();
    await Promise.all([writing, changing]);
    await consumer.close();
    await reading;
  });

  it('is refused into a directory in use', async () => {
    const ottla = await open();
    writeFileSync(join(place, 'mine.txt'), 'x');
    expect(await failureOf(ottla.backup(place))).toMatchObject({
      code: 'KAFKA_STORAGE_ERROR',
      retriable: false,
    });
    expect(readdirSync(place)).toEqual(['mine.txt']);
    await expect(ottla.backup('')).rejects.toThrow(TypeError);
  });

  it('that was interrupted cannot be opened', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    await ottla.producer().send('t', { value: 'x' });
    const stop = AbortSignal.abort();
    expect(await failureOf(ottla.backup(target, { signal: stop }))).toMatchObject({
      code: 'ABORTED',
    });
    await ottla.backup((target = `${target}2`));
    rmSync(join(target, 'meta.properties'));
    expect(await failureOf(Ottla.open(target))).toMatchObject({ code: 'METADATA_LOST' });
  });
});

describe('backup of a read-only Ottla', () => {
  it('is refused', async () => {
    await (await Ottla.open(target)).close();
    await using ottla = await Ottla.open(target, { readOnly: true });
    expect(await failureOf(ottla.backup(join(place, 'other')))).toMatchObject({
      code: 'INVALID_REQUEST',
    });
  });
});

describe('backup of a log that is compacted meanwhile', () => {
  const copyDirectory = '/copy';
  const keyed = (i: number): Buffer => keyedBatch([[`k${i % 4}`, `${i}`.padStart(200, '.')]]);

  /** In the same files, with rows of its own. */
  function copyDisk(machine: Machine, store: MetaStore): Disk {
    const notAsked = (): never => {
      throw new Error('a backup does not ask for it');
    };
    return {
      files: machine.files,
      openStore: () => Promise.resolve(store),
      salvage: notAsked,
      lock: notAsked,
    };
  }

  it.each([
    ['segments are put together', 1024 * 1024],
    ['each stays by itself', 1024],
  ])('is of one moment: %s', async (_how, segmentBytes) => {
    for (let steps = 0; steps < 510; steps += 5) {
      const machine = new Machine();
      const broker = await machine.open();
      const partition = await createTopic(broker, { segmentBytes: 1024 });
      for (let i = 0; i < 30; i++) await append(partition, keyed(i), 'all');
      await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes });
      const copied = new Machine();
      const compacting = partition.compact();
      for (let i = 0; i < steps; i++) await Promise.resolve();
      await backupTo(
        broker.backupSource,
        copyDirectory,
        undefined,
        copyDisk(machine, copied.store),
      );
      await compacting;
      const copy = new Broker({
        ...broker.backupSource,
        directory: copyDirectory,
        store: copied.store,
        syncs: new SyncQueue(1),
        readOnly: false,
        defaults: {},
      });
      await copy.recover();
      expect(copy.recovery).toEqual([]);
      expect(latestValues(await keyedRecords(partitionOf(copy)))).toEqual(
        latestValues(await keyedRecords(partition)),
      );
      expect(partitionOf(copy).failure).toBeNull();
    }
  });
});
