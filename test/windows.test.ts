import { resolve } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { backupTo } from '../src/backup.js';
import type { Broker } from '../src/broker.js';
import { openDataDirectory } from '../src/data-directory.js';
import { OttlaError } from '../src/index.js';
import type { Partition } from '../src/partition.js';
import { PartitionReader } from '../src/partition-reader.js';
import { repairDirectory } from '../src/repair.js';
import { verifyDirectory } from '../src/verify.js';
import { keyedBatch, keyedRecords, latestValues } from './keyed.js';
import { append, batchOf, createTopic, partitionOf, valuesIn } from './machine.js';
import { MemoryDisk } from './memory-disk.js';
import { WatchedFiles } from './watched-files.js';
import { WindowsFiles } from './windows-files.js';

const large = 'x'.repeat(400);

/** As much is done as can be without what is held. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolveTurn) => setImmediate(resolveTurn));
}

/** Data directories on files that refuse what Windows refuses. */
describe('where open files are neither renamed nor removed, and case does not count,', () => {
  const data = resolve('/data');
  let disk: MemoryDisk;
  let files: WatchedFiles;
  let broker: Broker;
  let release: () => void;
  let warnings: string[];
  /** Reads that were begun go on when this is called. */
  let letReadsGo: () => void;
  let readsHeld: Promise<void> | null;

  async function open(): Promise<void> {
    const opened = await openDataDirectory(data, { readOnly: false, random: Math.random, disk });
    ({ broker } = opened);
    release = () => opened.release();
    broker.onWarning = (warning) => warnings.push(warning);
  }

  async function close(): Promise<void> {
    await broker.close();
    release();
  }

  beforeEach(async () => {
    disk = new MemoryDisk();
    readsHeld = null;
    files = new WatchedFiles(new WindowsFiles(), ({ name, path }) => {
      const isHeld = name === 'readAsync' && path.endsWith('.log');
      return isHeld && readsHeld !== null ? readsHeld : undefined;
    });
    disk.files = files;
    warnings = [];
    await open();
  });

  function holdReads(): void {
    readsHeld = new Promise((resolveHeld) => {
      letReadsGo = () => {
        readsHeld = null;
        resolveHeld();
      };
    });
  }

  /** A reader with its file open, in the first segment. */
  function reading(partition: Partition): PartitionReader {
    const reader = new PartitionReader(partition, partition.logStartOffset);
    reader.read(Buffer.alloc(500));
    return reader;
  }

  async function fill(settings: object = {}): Promise<Partition> {
    const partition = await createTopic(broker, { segmentBytes: 1024, ...settings });
    for (const key of ['a', 'b', 'c', 'a', 'a', 'b', 'd']) {
      await append(partition, keyedBatch([[key, large]]), 'all');
    }
    return partition;
  }

  const expectSound = async (directory = data): Promise<void> => {
    const { problems } = await verifyDirectory(directory, {}, disk);
    expect(problems).toEqual([]);
    expect(warnings).toEqual([]);
  };

  it('a log is compacted under its readers', async () => {
    const partition = await fill();
    const reader = reading(partition);
    const latest = latestValues(await keyedRecords(partition));
    await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
    holdReads();
    const held = reader.readAsync(Buffer.alloc(500));
    const compacting = partition.compact();
    await turns();
    letReadsGo();
    await held;
    await compacting;
    expect(latestValues(await keyedRecords(partition))).toEqual(latest);
    expect((await keyedRecords(partition)).length).toBeLessThan(7);
    expect(reader.available).toBeGreaterThan(0);
    await close();
    await expectSound();
  });

  it('segments are freed and records deleted under readers', async () => {
    const partition = await fill();
    const reader = reading(partition);
    holdReads();
    const held = reader.readAsync(Buffer.alloc(500));
    const deleting = partition.deleteRecords(4);
    await turns();
    letReadsGo();
    await held;
    await deleting;
    await partition.freeSegments((segments) => segments.length);
    expect(partition.logStartOffset).toBe(7);
    expect(files.list(`${data}/t-0`).filter((name) => name.endsWith('.log'))).toHaveLength(0);
    await close();
    await expectSound();
  });

  it('a topic is deleted under readers, and made again', async () => {
    const partition = await fill();
    const reader = reading(partition);
    holdReads();
    const held = reader.readAsync(Buffer.alloc(500));
    const deleting = broker.topics.delete('t');
    await turns();
    letReadsGo();
    await held;
    await deleting;
    expect(() => reader.available).toThrow(/was deleted/);
    expect(files.list(data).filter((name) => name.startsWith('t'))).toEqual([]);
    await append(await createTopic(broker), batchOf(['new']), 'all');
    expect(await valuesIn(partitionOf(broker))).toEqual(['new']);
    await close();
    await expectSound();
  });

  it('a swap that failed half way is finished by reopen, under readers', async () => {
    const partition = await fill();
    await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
    const { onCall } = files;
    files.onCall = ({ name, path }) => {
      const isMoveIn = name === 'rename' && path.endsWith('.log.swap');
      if (isMoveIn) throw Object.assign(new Error('EBUSY: a scanner has it'), { code: 'EBUSY' });
      return undefined;
    };
    await partition.compact();
    files.onCall = onCall;
    expect(warnings).toEqual([expect.stringContaining('EBUSY')]);
    warnings.length = 0;
    const records = await keyedRecords(partition);
    reading(partition);
    await partition.reopen();
    expect(await keyedRecords(partition)).toEqual(records);
    expect(files.list(`${data}/t-0`).filter((name) => name.includes('swap'))).toEqual([]);
    await close();
    await expectSound();
  });

  it('a log is backed up in use, and the copy opened', async () => {
    const partition = await fill();
    reading(partition);
    const records = await keyedRecords(partition);
    const copy = resolve('/copy');
    await Promise.all([
      backupTo(broker.backupSource, copy, undefined, disk),
      partition.deleteRecords(3),
    ]);
    await close();
    await expectSound(copy);
    const opened = await openDataDirectory(copy, { readOnly: false, random: Math.random, disk });
    const found = await keyedRecords(partitionOf(opened.broker));
    expect(found).toEqual(records.slice(-found.length));
    await opened.broker.close();
  });

  it('what was written behind the recovery point is taken over, and a torn tail cut', async () => {
    await fill();
    await broker.abandon(new OttlaError('CLOSED', 'killed'));
    const [last] = files
      .list(`${data}/t-0`)
      .filter((name) => name.endsWith('.log'))
      .toReversed();
    const file = files.open(`${data}/t-0/${last}`, 'write');
    file.write(Buffer.from('torn'), 0, 4, file.size());
    file.close();
    await open();
    expect(broker.recovery).toEqual([expect.stringContaining('cut 4 bytes')]);
    expect((await keyedRecords(partitionOf(broker))).length).toBe(7);
    await close();
    await expectSound();
  });

  const damage = (name: string, at: number): void => {
    const path = `${data}/t-0/${name}`;
    const bytes = files.readFile(path)!;
    bytes[at]! ^= 1;
    const file = files.open(path, 'write');
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  };
  it.each([
    ['a damaged segment', () => damage('00000000000000000002.log', 600)],
    ['a segment damaged from its first byte on', () => damage('00000000000000000002.log', 20)],
    ['a missing segment', () => files.removeFile(`${data}/t-0/00000000000000000002.log`)],
    ['an index', () => damage('00000000000000000002.timeindex', 7)],
    ['a partition.metadata', () => damage('partition.metadata', 3)],
    ['a lost directory', () => files.removeDirectory(`${data}/t-0`)],
    ['the metadata', () => files.removeDirectory(`${data}/meta`)],
  ])('%s is repaired', async (_what, break_) => {
    await fill({ indexIntervalBytes: 0 });
    await close();
    break_();
    expect((await repairDirectory(data, Math.random, undefined, disk)).length).toBeGreaterThan(0);
    await expectSound();
    await open();
    await append(partitionOf(broker), keyedBatch([['z', 'more']]), 'all');
    expect((await keyedRecords(partitionOf(broker))).at(-1)).toMatchObject({ key: 'z' });
    await close();
    await expectSound();
  });
});
