import { readFileSync, readdirSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { decodePartitionMetadata, encodeLeaderEpochs } from '../src/storage/checkpoint.js';
import {
  put,
  remove,
  type Change,
  type PartitionRow,
  type SegmentRow,
} from '../src/storage/meta-store.js';
import {
  Machine,
  append,
  batchOf,
  createTopic,
  firstLog,
  partitionOf,
  valuesIn,
} from './machine.js';
import { WatchedFiles } from './watched-files.js';

// The crash states of docs/format.md, made by hand: files and rows as a crash leaves them.

const values = ['a', 'b', 'c', 'd', 'e', 'f'];
const size = batchOf(['a']).length;
const secondLog = '00000000000000000003.log';
const noCommit = undefined;

let machine: Machine;
let id: string;

/** A log of six batches of one record each, in segments of three, after a clean close. */
beforeEach(async () => {
  machine = new Machine();
  const broker = await machine.open();
  await createTopic(broker, { segmentBytes: 1024, indexIntervalBytes: 0 });
  id = broker.topics.get('t').id;
  for (const value of values.slice(0, 3)) await append(partitionOf(broker), batchOf([value]));
  await broker.topics.alter('t', { segmentBytes: 1024 * 1024 });
  await broker.close();
});

/** Seals the three batches that are there, and appends three more. */
async function roll(): Promise<void> {
  const { active, ...row } = rowOf();
  const { nextOffset, bytes, lastBatchBytes, lastCrc } = active;
  const { maxTimestamp, checksum, transactionIndex } = active;
  const end = { nextOffset, bytes, lastBatchBytes, lastCrc };
  const sealed: SegmentRow = { ...end, maxTimestamp, checksum, transactionIndex };
  const empty = { ...active, ...emptyAt(nextOffset) };
  await machine.store.write([
    put(['segment', id, 0, 0], sealed),
    put(['partition', id, 0], { ...row, active: empty }),
  ]);
  const broker = await machine.open();
  for (const value of values.slice(3)) await append(partitionOf(broker), batchOf([value]));
  await broker.close();
}

function emptyAt(baseOffset: number): PartitionRow['active'] {
  return {
    baseOffset,
    nextOffset: baseOffset,
    bytes: 0,
    offsetIndexBytes: 0,
    timeIndexBytes: 0,
    transactionIndex: { bytes: 0, checksum: 0 },
    lastBatchBytes: 0,
    lastCrc: 0,
    checksum: 0,
    maxTimestamp: -1,
    maxTimestampOffset: -1,
    bytesSinceIndexEntry: 0,
  };
}

function rowOf(): PartitionRow {
  return machine.store.get(['partition', id, 0])!;
}

async function writeRows(...changes: readonly Change[]): Promise<void> {
  await machine.store.write(changes);
}

async function commit(offset: number, leaderEpoch = 0): Promise<void> {
  const value = { offset, leaderEpoch, metadata: '', timestamp: 0 };
  await writeRows(put(['offset', 3, 'g', id, 0], value));
}

function committed(broker: Broker): number | undefined {
  return broker.offsets.fetch('g', id, 0)?.offset;
}

interface Expected {
  readonly records: readonly string[];
  /** What open says. */
  readonly said?: readonly RegExp[];
  readonly epoch?: number;
  readonly start?: number;
  readonly commit?: number | undefined;
}

/** Opens, and opens again: the first time it is mended, and said; the second time there is nothing to do. */
async function expectOpened(expected: Expected): Promise<void> {
  const { records, said = [], epoch = 0, start = 0, commit: offset = noCommit } = expected;
  for (const sentences of [said, []]) {
    const broker = await machine.open();
    await machine.clock.settle();
    expect(broker.recovery).toEqual(
      sentences.map((sentence) => expect.stringMatching(sentence) as unknown),
    );
    const partition = partitionOf(broker);
    expect(await valuesIn(partition)).toEqual(records);
    expect(partition.leaderEpoch).toBe(epoch);
    expect(partition.logStartOffset).toBe(start);
    expect(committed(broker)).toBe(offset);
    await broker.close();
  }
  const broker = await machine.open();
  const next = partitionOf(broker).logEndOffset;
  expect(await append(partitionOf(broker), batchOf(['new']), 'all')).toBe(next);
}

const names = (): string[] => machine.names('/');
const cut = (at: number, next: number): RegExp =>
  new RegExp(`^t-0: cut \\d+ bytes at byte ${at}, next offset ${next}: .+\\.$`);

describe('topics', () => {
  const row = (): Change<'topic'> => {
    const topic = machine.store.get(['topic', 't'])!;
    return put(['topic', 'u'], { ...topic, id: other, partitions: 2, state: 'creating' });
  };
  const other = 'AAAAAAAAQACAAAAAAAAAAA';

  it.each([
    ['no directory', []],
    ['one that is empty', ['/u-0']],
    ['one of two', ['/u-0', '/u-0/partition.metadata']],
  ])('state: topic half created (%s)', async (_what, made) => {
    await writeRows(row());
    for (const path of made) {
      if (path.endsWith('metadata')) {
        machine.write('partition.metadata', Buffer.from(`version: 0\ntopic_id: ${other}`), '/u-0');
      } else {
        machine.files.makeDirectory(path);
      }
    }
    const broker = await machine.open();
    expect(broker.recovery).toEqual(['u: finished creating the topic.']);
    expect(names()).toEqual(['t-0', 'u-0', 'u-1']);
    for (const index of [0, 1]) {
      const text = machine.read('partition.metadata', `/u-${index}`).toString();
      expect(decodePartitionMetadata(text)).toBe(other);
      expect(await append(partitionOf(broker, index, 'u'), batchOf(['x']))).toBe(0);
    }
    expect((await machine.open()).recovery).toEqual([]);
  });

  it('state: topic half deleted', async () => {
    for (const directory of ['/t-0', `/t-0.${id}-delete`]) {
      machine.files.makeDirectory('/t-0');
      if (!names().includes(directory.slice(1))) machine.files.rename('/t-0', directory);
      const tombstone = { name: 't', partitions: 1 };
      await writeRows(remove(['topic', 't']), put(['tombstone', id], tombstone));
      const broker = await machine.open();
      expect(broker.recovery).toEqual(['t: finished deleting the topic.']);
      expect(names()).toEqual([]);
      expect([...machine.store.range(['partition', id])]).toEqual([]);
      const again = await machine.open();
      expect(again.recovery).toEqual([]);
      expect((await createTopic(again)).logEndOffset).toBe(0);
      await again.topics.delete('t');
    }
  });

  it('state: another directory under the name of a deleted topic', async () => {
    await writeRows(
      remove(['topic', 't']),
      put(['tombstone', other], { name: 't', partitions: 1 }),
    );
    const files = machine.names();
    const broker = await machine.open();
    expect(broker.recovery).toEqual(['t: finished deleting the topic.']);
    expect(machine.names()).toEqual(files);
  });

  it('state: partitions half added', async () => {
    machine.files.makeDirectory('/t-1');
    machine.write('partition.metadata', Buffer.from(`version: 0\ntopic_id: ${id}`), '/t-1');
    machine.files.makeDirectory('/t-2');
    await expectOpened({ records: ['a', 'b', 'c'] });
    expect(names()).toEqual(['t-0', 't-1', 't-2']);
    const broker = await machine.open();
    expect(broker.topics.get('t').partitionCount).toBe(1);
    await broker.topics.addPartitions('t', 3);
    expect(await append(partitionOf(broker, 2), batchOf(['x']))).toBe(0);
    await broker.topics.delete('t');
    expect(names()).toEqual([]);
  });
});

describe('the end of a log', () => {
  it('state: whole batches behind the recovery point', async () => {
    machine.append(firstLog, batchOf(['d'], { baseOffset: 3 }));
    await commit(4);
    await expectOpened({ records: ['a', 'b', 'c', 'd'], commit: 4 });
  });

  it('state: torn tail', async () => {
    machine.append(firstLog, batchOf(['d'], { baseOffset: 3 }).subarray(0, size - 1));
    await expectOpened({ records: ['a', 'b', 'c'], said: [cut(3 * size, 3)], epoch: 1 });
    expect(machine.names().filter((name) => name.endsWith('.torn'))).toEqual([]);
  });

  it('state: good batches behind a torn one', async () => {
    const tail = Buffer.concat([Buffer.alloc(size), batchOf(['e'], { baseOffset: 4 })]);
    machine.append(firstLog, tail);
    await expectOpened({ records: ['a', 'b', 'c'], said: [cut(3 * size, 3)], epoch: 1 });
    expect(machine.read('00000000000000000003.torn')).toEqual(tail);
  });

  it('state: torn bytes of an earlier crash', async () => {
    const earlier = Buffer.from('kept by an earlier recovery');
    machine.write('00000000000000000003.torn', earlier);
    const tail = Buffer.concat([Buffer.alloc(size), batchOf(['e'], { baseOffset: 4 })]);
    machine.append(firstLog, tail);
    await expectOpened({ records: ['a', 'b', 'c'], said: [cut(3 * size, 3)], epoch: 1 });
    expect(machine.read('00000000000000000003.torn')).toEqual(earlier);
    expect(machine.read('00000000000000000003.1.torn')).toEqual(tail);
  });

  it('state: new epoch, log not cut yet', async () => {
    const leaderEpochs = [...rowOf().leaderEpochs, [1, 3] as const];
    await writeRows(put(['partition', id, 0], { ...rowOf(), leaderEpochs }));
    machine.append(firstLog, Buffer.from('torn'));
    await expectOpened({ records: ['a', 'b', 'c'], said: [cut(3 * size, 3)], epoch: 2 });
  });

  it('state: log cut, row not written yet', async () => {
    const leaderEpochs = [...rowOf().leaderEpochs, [1, 3] as const];
    await writeRows(put(['partition', id, 0], { ...rowOf(), leaderEpochs }));
    await expectOpened({ records: ['a', 'b', 'c'], epoch: 1 });
  });

  it('state: last batches gone without a trace', async () => {
    const lost = machine.read(firstLog).subarray(0, 2 * size);
    await writeRows(put(['partition', id, 0], { ...rowOf(), active: emptyAt(0) }));
    machine.write(firstLog, lost);
    await commit(3);
    const said = [/^group g: .* t-0 went back from 3 to 2, where the log now ends\.$/];
    await expectOpened({ records: ['a', 'b'], said, commit: 2 });
  });

  it('state: commit above the end', async () => {
    await commit(9);
    const said = [/^group g: .* t-0 went back from 9 to 3, where the log now ends\.$/];
    await expectOpened({ records: ['a', 'b', 'c'], said, commit: 3 });
  });

  it('state: commit above the end of its epoch', async () => {
    const leaderEpochs = [[0, 0] as const, [1, 2] as const];
    await writeRows(put(['partition', id, 0], { ...rowOf(), leaderEpochs }));
    await commit(3, 0);
    const said = [/^group g: .* t-0 went back from 3 to 2, where the log now ends\.$/];
    await expectOpened({ records: ['a', 'b', 'c'], said, epoch: 1, commit: 2 });
  });

  it('state: bytes that a failed sync did not write', async () => {
    machine.append(firstLog, batchOf(['d'], { baseOffset: 3 }));
    await writeRows(put(['partition', id, 0], { ...rowOf(), syncFailed: true }));
    const written: number[] = [];
    machine.files = new WatchedFiles(machine.files, ({ name, path, position }) => {
      if (name === 'write' && path.endsWith(firstLog)) written.push(position);
      return undefined;
    });
    await expectOpened({ records: ['a', 'b', 'c', 'd'] });
    expect(written).toEqual([3 * size, 4 * size]);
    expect(rowOf().syncFailed).toBeUndefined();
  });

  it('state: no file of the active segment', async () => {
    await writeRows(put(['partition', id, 0], { ...rowOf(), active: emptyAt(0) }));
    machine.write(firstLog, undefined);
    await expectOpened({ records: [] });
  });
});

describe('a roll', () => {
  it('state: old segment synced, its row not written', async () => {
    await writeRows(put(['partition', id, 0], { ...rowOf(), active: emptyAt(0) }));
    await expectOpened({ records: ['a', 'b', 'c'] });
    expect(machine.names()).not.toContain(secondLog);
  });

  it('state: rows of a roll, new segment without a file', async () => {
    await roll();
    const { active, ...row } = rowOf();
    await writeRows(put(['partition', id, 0], { ...row, active: emptyAt(active.baseOffset) }));
    machine.write(secondLog, undefined);
    await expectOpened({ records: ['a', 'b', 'c'] });
    expect(machine.names()).toContain(secondLog);
  });
});

describe('small files', () => {
  it.each([
    ['missing', undefined],
    ['too short', Buffer.alloc(8)],
    ['with others behind', Buffer.alloc(80, 1)],
  ])('state: index that is not what the recovery point says (%s)', async (_what, bytes) => {
    for (const kind of ['index', 'timeindex']) {
      machine.write(`00000000000000000000.${kind}`, bytes);
    }
    machine.append(firstLog, batchOf(['d'], { baseOffset: 3 }));
    await expectOpened({ records: ['a', 'b', 'c', 'd'] });
  });

  it.each([
    ['missing', undefined],
    ['older', Buffer.from(encodeLeaderEpochs([[0, 0]]))],
    ['newer', Buffer.from(encodeLeaderEpochs([[7, 0]]))],
  ])('state: leader-epoch-checkpoint that is not the row (%s)', async (_what, bytes) => {
    const leaderEpochs = [[0, 0] as const, [1, 2] as const];
    await writeRows(put(['partition', id, 0], { ...rowOf(), leaderEpochs }));
    machine.write('leader-epoch-checkpoint', bytes);
    await expectOpened({ records: ['a', 'b', 'c'], epoch: 1 });
  });

  it('state: temporary file', async () => {
    for (const name of [
      'partition.metadata',
      'leader-epoch-checkpoint',
      '00000000000000000003.torn',
    ]) {
      machine.write(`${name}.tmp`, Buffer.from('half of i'));
    }
    await expectOpened({ records: ['a', 'b', 'c'] });
  });
});

describe('the start of a log', () => {
  it('state: files of segments below the log start', async () => {
    await roll();
    await writeRows(
      put(['partition', id, 0], { ...rowOf(), logStartOffset: 3 }),
      remove(['segment', id, 0, 0]),
    );
    await expectOpened({ records: ['d', 'e', 'f'], start: 3 });
    expect(machine.names()).not.toContain(firstLog);
  });

  it('state: rows of segments below the log start', async () => {
    await roll();
    await writeRows(put(['partition', id, 0], { ...rowOf(), logStartOffset: 3 }));
    machine.write(firstLog, undefined);
    await expectOpened({ records: ['d', 'e', 'f'], start: 3 });
    expect([...machine.store.range(['segment', id])]).toEqual([]);
  });

  it('state: oldest segments gone, log start not moved', async () => {
    await roll();
    machine.write(firstLog, undefined);
    const broker = await machine.open();
    expect(await valuesIn(partitionOf(broker))).toEqual(['d', 'e', 'f']);
    expect(broker.recovery).toEqual([
      't-0: the log begins at offset 3: its segments from offset 0 to 3 are gone.',
    ]);
    await machine.clock.settle();
    await expectOpened({ records: ['d', 'e', 'f'], start: 3 });
  });

  it('state: log cut below its start', async () => {
    await writeRows(
      put(['partition', id, 0], { ...rowOf(), logStartOffset: 3, active: emptyAt(0) }),
    );
    machine.write(firstLog, machine.read(firstLog).subarray(0, 2 * size));
    await expectOpened({ records: [], start: 3 });
  });
});

/** Quoted with a name of a state in front. */
const inTests = /'state: ([a-z].*?)(?: \(%s\))?'/g;
const inDocs = /^\| \*\*([^*]+)\*\* /gm;

describe('docs/format.md', () => {
  const textOf = (path: string): string =>
    readFileSync(new URL(path, import.meta.url), 'utf8').replaceAll('\r\n', '\n');

  it('names every crash state that has a test, and no other', () => {
    const files = readdirSync(new URL('.', import.meta.url)).filter((name) =>
      name.endsWith('.test.ts'),
    );
    const tested = files.flatMap((name) =>
      [...textOf(name).matchAll(inTests)].map(([, state]) => state!),
    );
    const named = [...textOf('../docs/format.md').matchAll(inDocs)].map(([, state]) => state!);
    expect(new Set(named).size).toBe(named.length);
    expect(named.toSorted()).toEqual([...new Set(tested)].toSorted());
    expect(named.length).toBeGreaterThan(25);
  });
});
