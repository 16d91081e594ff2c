import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { OttlaError, asStorageError } from '../src/errors.js';
import type { Partition } from '../src/partition.js';
import { PartitionReader } from '../src/partition-reader.js';
import { segmentFileName } from '../src/storage/checkpoint.js';
import { put } from '../src/storage/meta-store.js';
import { FaultyMachine } from './faulty-machine.js';
import {
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  readFrom,
  valuesIn,
} from './machine.js';
import { ioError, noSpace } from './watched-files.js';

const large = 'x'.repeat(900);

let machine: FaultyMachine;
let broker: Broker;
let partition: Partition;

/** Five segments of one record each, the last one active. */
beforeEach(async () => {
  machine = new FaultyMachine();
  broker = await machine.open();
  partition = await createTopic(broker, { segmentBytes: 1024 });
  for (let i = 0; i < 5; i++) await append(partition, batchOf([`${i}${large}`]), 'all');
  await machine.clock.settle();
  machine.log.length = 0;
});

function logs(): string[] {
  return machine.names().filter((name) => name.endsWith('.log'));
}

function names(...bases: number[]): string[] {
  return bases.map((base) => segmentFileName(base, 'log'));
}

function offsetsOf(records: readonly { readonly offset: number }[]): number[] {
  return records.map(({ offset }) => offset);
}

/** After a kill: the log begins at `start` and has no other files than those of `bases`. */
async function expectStart(start: number, ...bases: number[]): Promise<Broker> {
  machine.fault = () => undefined;
  const again = await machine.open();
  const reopened = partitionOf(again);
  expect(reopened.logStartOffset).toBe(start);
  expect(reopened.failure).toBeNull();
  await machine.clock.settle();
  expect(logs()).toEqual(names(...bases));
  const records = await readFrom(reopened, start);
  expect(offsetsOf(records)).toEqual([0, 1, 2, 3, 4].filter((offset) => offset >= start));
  return again;
}

async function sealedRows(): Promise<number[]> {
  const rows = machine.store.range(['segment', partition.topicId, 0]);
  return [...rows].map(({ key }) => key[3]);
}

describe('moving the log start', () => {
  it('writes the row first, then removes each segment, its log last', async () => {
    const calls: string[] = [];
    machine.fault = ({ name, path }) => {
      if (name === 'removeFile') calls.push(path.replace('/t-0/0000000000000000000', ''));
      return undefined;
    };
    await partition.deleteRecords(2);
    expect(machine.log).toEqual(['write rows segment segment partition']);
    expect(calls).toEqual(
      ['0', '1'].flatMap((base) =>
        ['snapshot', 'index', 'timeindex', 'txnindex', 'log'].map((name) => `${base}.${name}`),
      ),
    );
    await expectStart(2, 2, 3, 4);
  });

  it('closes a file before it is removed', async () => {
    await readFrom(partition, 0);
    const calls: string[] = [];
    machine.fault = ({ name, path }) => {
      if (path.endsWith(firstLog) && name !== 'open') calls.push(name);
      return undefined;
    };
    await partition.deleteRecords(1);
    expect(calls).toEqual(['close', 'removeFile']);
  });

  it('that is refused changes nothing', async () => {
    machine.rowFault = asStorageError('meta', ioError('write', 'data.mdb'), false);
    expect(await failureOf(partition.deleteRecords(2))).toMatchObject({
      code: 'KAFKA_STORAGE_ERROR',
    });
    expect(partition.logStartOffset).toBe(0);
    expect(logs()).toEqual(names(0, 1, 2, 3, 4));
    await partition.deleteRecords(1);
    expect(partition.logStartOffset).toBe(1);
    expect(await sealedRows()).toEqual([1, 2, 3]);
    await expectStart(1, 1, 2, 3, 4);
  });

  it('on a full disk removes the files first, and heals it', async () => {
    machine.rowFault = asStorageError('meta', noSpace('data.mdb'));
    await partition.deleteRecords(2);
    expect(machine.log).toEqual([
      'write rows segment segment partition',
      'write rows segment segment partition',
    ]);
    expect(await sealedRows()).toEqual([2, 3]);
    await expectStart(2, 2, 3, 4);
  });

  it('on a full disk, then killed, begins behind the files that are gone', async () => {
    const { store } = machine;
    const write = store.write.bind(store);
    store.write = () => Promise.reject(asStorageError('meta', noSpace('data.mdb')));
    expect(await failureOf(partition.deleteRecords(2))).toMatchObject({ retriable: true });
    expect(logs()).toEqual(names(2, 3, 4));
    expect(partition.logStartOffset).toBe(2);
    expect(offsetsOf(await readFrom(partition, 2))).toEqual([2, 3, 4]);
    store.write = write;
    const again = await expectStart(2, 2, 3, 4);
    expect(again.recovery.join()).toContain('the log begins at offset 2');
    expect(await sealedRows()).toEqual([2, 3]);
    expect((await expectStart(2, 2, 3, 4)).recovery).toEqual([]);
  });

  it('leaves a file that cannot be removed to the next time', async () => {
    const warnings: string[] = [];
    broker.onWarning = (warning) => warnings.push(warning);
    machine.fault = ({ name, path }) =>
      name === 'removeFile' && path.endsWith(firstLog) ? ioError('unlink', path) : undefined;
    await partition.deleteRecords(2);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('EIO');
    expect(partition.logStartOffset).toBe(2);
    expect(logs()).toEqual(names(0, 2, 3, 4));
    expect(partition.hasLeftovers).toBe(true);
    machine.fault = () => undefined;
    await partition.freeSegments(() => 0);
    expect(logs()).toEqual(names(2, 3, 4));
    expect(partition.hasLeftovers).toBe(false);
  });

  it('does not go back with a recovery point that is saved at the same time', async () => {
    await machine.clock.advance(10_000);
    const moved = partition.deleteRecords(3);
    const appended = append(partition, batchOf(['5']), 'all');
    await Promise.all([moved, appended]);
    await machine.clock.settle();
    expect(machine.store.get(['partition', partition.topicId, 0])!.logStartOffset).toBe(3);
  });

  it('makes durable what lies below it first', async () => {
    await append(partition, batchOf(['5']), 1);
    machine.log.length = 0;
    await partition.deleteRecords(6);
    expect(machine.log[0]).toBe(`sync ${segmentFileName(5, 'log')}`);
    const again = partitionOf(await machine.open());
    expect(again.logStartOffset).toBe(6);
    expect(again.logEndOffset).toBe(6);
  });

  it('waits for a reader, whose read ends as it would have', async () => {
    const reader = new PartitionReader(partition, 0);
    const expected = machine.read(firstLog);
    let letGo: (() => void) | undefined;
    const held = new Promise<void>((resolve) => (letGo = resolve));
    machine.watched.onCall = ({ name }) => (name === 'readAsync' ? held : undefined);
    const buffer = Buffer.alloc(4096);
    const reading = reader.readAsync(buffer);
    const moved = partition.deleteRecords(2);
    await machine.clock.settle();
    expect(partition.logStartOffset).toBe(2);
    expect(logs()).toContain(firstLog);
    letGo?.();
    const length = await reading;
    await moved;
    expect(buffer.subarray(0, length)).toEqual(expected);
    expect(logs()).toEqual(names(2, 3, 4));
    expect(() => reader.available).toThrow(
      expect.objectContaining({ code: 'OFFSET_OUT_OF_RANGE' }),
    );
  });

  it('lets a reader at the end of what is freed go on', async () => {
    const reader = new PartitionReader(partition, 0);
    const buffer = Buffer.alloc(1200);
    for (const segment of [0, 1]) {
      expect(await reader.readAsync(buffer)).toBe(machine.read(names(segment)[0]!).length);
    }
    await partition.deleteRecords(2);
    expect(reader.available).toBeGreaterThan(0);
    const length = await reader.readAsync(buffer);
    expect(buffer.subarray(0, length)).toEqual(machine.read(names(2)[0]!));
  });

  it('gives a reader in what is freed OFFSET_OUT_OF_RANGE', async () => {
    const readers = [0, 1, 2].map((offset) => new PartitionReader(partition, offset));
    await partition.deleteRecords(2);
    const outOfRange = { code: 'OFFSET_OUT_OF_RANGE' };
    for (const reader of readers.slice(0, 2)) {
      expect(await failureOf(reader.readAsync(Buffer.alloc(4096)))).toMatchObject(outOfRange);
    }
    expect(await readers[2]!.readAsync(Buffer.alloc(4096))).toBeGreaterThan(0);
  });
});

describe('a crash while the log start moves', () => {
  it('before any file is removed: open removes them', async () => {
    const files = names(0, 1).map((name) => [name, machine.read(name)] as const);
    await partition.deleteRecords(2);
    for (const [name, bytes] of files) machine.write(name, bytes);
    expect((await expectStart(2, 2, 3, 4)).recovery).toEqual([]);
  });

  it.each([0, 1, 2, 3, 4, 5])('after %i of the files: open removes the others', async (count) => {
    const removed: string[] = [];
    machine.fault = ({ name, path }) => {
      if (name !== 'removeFile') return undefined;
      if (removed.length === count) return ioError('unlink', path);
      removed.push(path);
      return undefined;
    };
    await partition.deleteRecords(2);
    const again = await expectStart(2, 2, 3, 4);
    expect(again.recovery).toEqual([]);
    expect(machine.names().filter((name) => /^0{19}[01]\./.test(name))).toEqual([]);
  });

  it('leaves a row below the start: row and file go', async () => {
    const key = ['partition', partition.topicId, 0] as const;
    const row = machine.store.get(key)!;
    await machine.store.write([put(key, { ...row, logStartOffset: 2 })]);
    expect((await expectStart(2, 2, 3, 4)).recovery).toEqual([]);
    expect(await sealedRows()).toEqual([2, 3]);
  });

  it('in the middle of a segment: it stays', async () => {
    await append(partition, batchOf(['5', '6', '7']), 'all');
    await append(partition, batchOf([large]), 'all');
    await partition.deleteRecords(6);
    const again = partitionOf(await machine.open());
    expect(again.logStartOffset).toBe(6);
    expect(await valuesIn(again)).toEqual(['6', '7', large]);
    expect(again.segmentCount).toBe(2);
  });
});

describe('a file that the metadata does not know', () => {
  it('is left alone above the log start', async () => {
    await partition.deleteRecords(2);
    machine.write(names(9)[0]!, Buffer.from('not ours'));
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
    expect(logs()).toEqual(names(2, 3, 4, 9));
  });

  it('is left alone where the first segment begins above the log start', async () => {
    const bytes = machine.read(names(1)[0]!);
    await partition.deleteRecords(2);
    const key = ['partition', partition.topicId, 0] as const;
    const row = machine.store.get(key)!;
    await machine.store.write([put(key, { ...row, logStartOffset: 1 })]);
    machine.write(names(0)[0]!, bytes);
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
    await machine.clock.settle();
    expect(logs()).toEqual(names(0, 2, 3, 4));
  });

  it('is left alone while another partition has lost its metadata', async () => {
    const other = await createTopic(broker, {}, 1, 'u');
    await append(other, batchOf(['a']));
    const bytes = machine.read(firstLog);
    await append(partition, batchOf(['5']));
    await partition.deleteRecords(2);
    machine.write(firstLog, bytes);
    machine.write(names(1)[0]!, bytes, '/u-0');
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
    // As who opens does then.
    machine.store.write = () => Promise.reject(new OttlaError('CLOSED', 'the metadata is closed'));
    await machine.clock.settle();
    expect(logs()).toContain(firstLog);
  });
});

describe('a log that was cut below its start', () => {
  it('begins anew at its start: no offset is given out twice', async () => {
    await append(partition, batchOf(['5']), 'all');
    await append(partition, batchOf(['6']), 'all');
    await partition.deleteRecords(7);
    const name = logs().at(-1)!;
    const bytes = machine.read(name);
    bytes[bytes.length - 1]! ^= 1;
    machine.write(name, bytes);
    const again = await machine.open();
    const reopened = partitionOf(again);
    expect(again.recovery).toHaveLength(1);
    expect(reopened.logStartOffset).toBe(7);
    expect(reopened.logEndOffset).toBe(7);
    expect(await append(reopened, batchOf(['7']), 'all')).toBe(7);
    expect(await valuesIn(reopened)).toEqual(['7']);
    await machine.clock.settle();
    expect(logs()).toEqual(names(7));
    const last = partitionOf(await machine.open());
    expect(await valuesIn(last)).toEqual(['7']);
  });
});

describe('read-only beside an owner that frees segments', () => {
  it('takes over the log start, and reads on', async () => {
    const beside = partitionOf(await machine.open({ readOnly: true }));
    expect(beside.logStartOffset).toBe(0);
    const readers = [0, 2].map((offset) => new PartitionReader(beside, offset));
    await partition.deleteRecords(2);
    const buffer = Buffer.alloc(4096);
    expect(await failureOf(readers[0]!.readAsync(buffer))).toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
    });
    expect(await readers[1]!.readAsync(buffer)).toBeGreaterThan(0);
    await beside.refresh();
    expect(beside.logStartOffset).toBe(2);
    expect(offsetsOf(await readFrom(beside, 2))).toEqual([2, 3, 4]);
  });
});
