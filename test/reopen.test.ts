import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { PartitionReader } from '../src/partition-reader.js';
import type { Partition } from '../src/partition.js';
import { FaultyMachine, appendEach, failing, notRetriable } from './faulty-machine.js';
import { keyedBatch, keyedRecords } from './keyed.js';
import {
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  valuesIn,
} from './machine.js';
import { ioError } from './watched-files.js';

/** What is read off the main thread, and so can be held. */
const long = 'b'.repeat(40_000);

describe('a reopening', () => {
  let machine: FaultyMachine;
  let broker: Broker;
  let partition: Partition;
  let letReadsGo: () => void;
  let reader: PartitionReader;
  beforeEach(async () => {
    machine = new FaultyMachine();
    broker = await machine.open();
    partition = await createTopic(broker);
    await append(partition, batchOf(['a']), 'all');
    await append(partition, batchOf([long]));
    reader = new PartitionReader(partition, 0);
    while (reader.read(Buffer.alloc(65_536)) > 0);
    const held = new Promise<void>((resolve) => (letReadsGo = resolve));
    const { onCall } = machine.watched;
    machine.watched.onCall = (call) => (call.name === 'readAsync' ? held : onCall(call));
  });

  async function expectSurvives(): Promise<void> {
    const again = await machine.open();
    expect(again.recovery).toEqual([]);
    expect(await valuesIn(partitionOf(again))).toEqual(['a', long, 'c', 'd']);
  }

  it('lets appends wait until it is done', async () => {
    const reopened = partition.reopen();
    await machine.clock.settle();
    const outcomes = appendEach(partition, ['c', 'd'], 1);
    await machine.clock.settle();
    expect(reader.available).toBe(0);
    letReadsGo();
    expect(await reopened).toBeNull();
    expect((await outcomes).map(({ outcome }) => outcome)).toEqual([2, 3]);
    expect(await reader.readAsync(Buffer.alloc(65_536))).toBe(2 * batchOf(['c']).length);
    expect(await valuesIn(partition)).toEqual(['a', long, 'c', 'd']);
    await expectSurvives();
  });

  it('after a failure refuses appends until it is done', async () => {
    machine.fault = failing('sync', ioError('fdatasync', firstLog));
    expect((await appendEach(partition, ['c'], 'all'))[0]?.outcome).toEqual(notRetriable);
    const reopened = partition.reopen();
    await machine.clock.settle();
    expect((await appendEach(partition, ['d'], 1))[0]?.outcome).toEqual(notRetriable);
    expect(reader.available).toBe(batchOf(['c']).length);
    letReadsGo();
    expect(await reopened).toBeNull();
    expect((await appendEach(partition, ['d'], 1))[0]?.outcome).toBe(3);
    await expectSurvives();
  });

  it('may be asked for several times at once', async () => {
    const reopened = Promise.all([partition.reopen(), partition.reopen(), partition.reopen()]);
    const outcomes = appendEach(partition, ['c', 'd'], 'all');
    letReadsGo();
    expect(await reopened).toEqual([null, null, null]);
    expect((await outcomes).map(({ outcome }) => outcome)).toEqual([2, 3]);
    await broker.close();
    expect(machine.watched.openCount).toBe(0);
    await expectSurvives();
  });

  it('that finds the metadata lost leaves the partition as it was, and refused', async () => {
    machine.write('00000000000000009999.log', Buffer.from('x'));
    const reopened = failureOf(partition.reopen());
    letReadsGo();
    expect(await reopened).toMatchObject({ code: 'METADATA_LOST' });
    expect((await appendEach(partition, ['c'], 1))[0]?.outcome).toMatchObject({
      code: 'METADATA_LOST',
    });
    expect(await valuesIn(partition)).toEqual(['a', long]);
    machine.write('00000000000000009999.log', undefined);
    expect(await partition.reopen()).toBeNull();
    expect((await appendEach(partition, ['c'], 1))[0]?.outcome).toBe(2);
  });

  it('that cannot read leaves no file open', async () => {
    letReadsGo();
    machine.fault = ({ name, path }) => (name === 'read' ? ioError('read', path) : undefined);
    expect(await failureOf(partition.reopen())).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    expect(machine.watched.openCount).toBe(0);
    machine.fault = () => undefined;
    expect(await partition.reopen()).toBeNull();
    expect(await valuesIn(partition)).toEqual(['a', long]);
  });

  it('that comes before a deletion of records does not undo it', async () => {
    const reopened = partition.reopen();
    await machine.clock.settle();
    const deleted = partition.deleteRecords(1);
    await machine.clock.settle();
    letReadsGo();
    await Promise.all([reopened, deleted]);
    expect(partition.logStartOffset).toBe(1);
    await append(partition, batchOf(['c']), 'all');
    await broker.close();
    expect(partitionOf(await machine.open()).logStartOffset).toBe(1);
  });
});

describe('at any moment of a reopening', () => {
  const value = 'v'.repeat(400);

  /** Awaits `steps` microtasks, then does `work`. */
  async function after(steps: number, work: () => Promise<unknown>): Promise<void> {
    for (let i = 0; i < steps; i++) await Promise.resolve();
    await work();
  }

  it.each([
    ['records are deleted', (partition: Partition) => partition.deleteRecords(4), [4]],
    ['segments are freed', (partition: Partition) => partition.freeSegments(() => 1), [2]],
    [
      'all segments are freed',
      (partition: Partition) => partition.freeSegments(({ length }) => length),
      [5, 6],
    ],
    ['records make it roll', () => Promise.resolve(), [0]],
  ])('%s, and nothing is lost or comes back', async (_what, free, starts) => {
    for (let steps = 0; steps < 60; steps++) {
      for (const reopensFirst of [true, false]) {
        const machine = new FaultyMachine();
        const broker = await machine.open();
        const partition = await createTopic(broker, { segmentBytes: 1024 });
        for (let i = 0; i < 5; i++) await append(partition, batchOf([value]), 1);
        const works = [
          () => partition.reopen(),
          () => Promise.all([free(partition), append(partition, batchOf([value]), 'all')]),
        ];
        await Promise.all(
          works.map((work, i) => after((i === 0) === reopensFirst ? 0 : steps, work)),
        );
        const { logStartOffset } = partition;
        expect(starts).toContain(logStartOffset);
        expect(await append(partition, batchOf([value]), 'all')).toBe(6);
        await broker.close();
        const again = partitionOf(await machine.open());
        expect([again.logStartOffset, again.logEndOffset]).toEqual([logStartOffset, 7]);
        expect(await valuesIn(again)).toHaveLength(7 - logStartOffset);
      }
    }
  });
});

describe('a compaction that waits for its turn', () => {
  const keyed = (i: number): Buffer => keyedBatch([[`k${i}`, 'v'.repeat(400)]]);

  it('writes nothing any more once its partition was reopened', async () => {
    for (let steps = 0; steps < 40; steps++) {
      const machine = new FaultyMachine();
      const broker = await machine.open();
      const partition = await createTopic(broker, { segmentBytes: 1024 }, 2);
      const other = partitionOf(broker, 1);
      for (let i = 0; i < 20; i++) {
        await append(i < 5 ? partition : other, keyed(i), 1);
      }
      await broker.topics.alter('t', { cleanupPolicy: 'compact' });
      const compacted = other.compact();
      const reopened = partition.reopen();
      for (let i = 0; i < steps; i++) await Promise.resolve();
      await Promise.all([partition.compact(), reopened]);
      for (let i = 5; i < 10; i++) await append(partition, keyed(i), 1);
      await compacted;
      await broker.close();
      const again = partitionOf(await machine.open());
      expect(await keyedRecords(again)).toHaveLength(10);
    }
  });
});

describe('a reopening', () => {
  it.each([0, 1, 2, 3, 4, 5, 6, 8, 10, 15])(
    'does not undo what was begun %s ticks after it',
    async (ticks) => {
      const machine = new FaultyMachine();
      const broker = await machine.open();
      const partition = await createTopic(broker, { segmentBytes: 1024 });
      await append(partition, batchOf(['a']));
      const reopened = partition.reopen();
      for (let i = 0; i < ticks; i++) await Promise.resolve();
      const values = ['b', 'c'.repeat(900), 'd'.repeat(900)];
      const outcomes = appendEach(partition, values, 'all');
      const deleted = partition.deleteRecords(1);
      expect(await reopened).toBeNull();
      expect((await outcomes).map(({ outcome }) => outcome)).toEqual([1, 2, 3]);
      await deleted;
      for (let round = 0; round < 2; round++) {
        const again = await machine.open();
        expect(partitionOf(again).logStartOffset).toBe(1);
        expect(await valuesIn(partitionOf(again))).toEqual(values);
        expect(again.recovery).toEqual([]);
        await again.close();
      }
    },
  );

  it('of a deleted topic is refused, and nothing is said of its files', async () => {
    const machine = new FaultyMachine();
    const broker = await machine.open();
    const partition = await createTopic(broker);
    await broker.topics.delete('t');
    expect(await failureOf(partition.reopen())).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(broker.recovery).toEqual([]);
  });
});
