import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { encodePartitionMetadata, newTopicId } from '../src/storage/checkpoint.js';
import { DyingMachine } from './dying-machine.js';
import { append, batchOf, createTopic, firstLog, partitionOf, valuesIn } from './machine.js';
import { WatchedFiles } from './watched-files.js';

/** Runs `work` with each of its changes failing in turn, then without a fault. @returns how many there are */
async function atEachChange(
  once: boolean,
  prepare: (broker: Broker) => Promise<void>,
  work: (broker: Broker) => Promise<unknown>,
  check: (machine: DyingMachine, broker: Broker, done: boolean) => Promise<void>,
): Promise<number> {
  for (let changes = 0; ; changes++) {
    const machine = new DyingMachine(once);
    const broker = await machine.open();
    await prepare(broker);
    machine.left = changes;
    machine.asked = 0;
    const done = await work(broker).then(
      () => true,
      () => false,
    );
    const wasReached = machine.asked > changes;
    machine.left = Infinity;
    await check(machine, broker, done);
    if (!wasReached) return changes;
  }
}

const tDirectories = ['t-0', 't-1', 't-2'];

async function withRecords(broker: Broker): Promise<void> {
  await createTopic(broker, { segmentBytes: 1024 }, 3);
  for (let i = 0; i < 30; i++) {
    await append(partitionOf(broker, i % 3), batchOf([`${i}`.padStart(200, '.')]), 'all');
  }
  const { topicId } = partitionOf(broker);
  const at = { topicId, partition: 0, offset: 5, leaderEpoch: 0, metadata: '' };
  await broker.offsets.commit('g', [at]);
}

/** After a kill while the topic was created. */
async function expectWholeOrNotThere(machine: DyingMachine, done: boolean): Promise<void> {
  const broker = await machine.open();
  const names = [...broker.topics.all()].map(({ name }) => name);
  expect(done ? [['t']] : [[], ['t']]).toContainEqual(names);
  expect(machine.directories).toEqual(names.length === 1 ? tDirectories : []);
  await createTopic(broker, {}, 3);
  await expectAllWork(broker);
  expect(machine.directories).toEqual(tDirectories);
}

async function expectAllWork(broker: Broker): Promise<void> {
  for (const partition of [0, 1, 2]) {
    expect(await append(partitionOf(broker, partition), batchOf(['a']))).toBe(0);
  }
}

/** What is left of topic t. */
async function leftOf(machine: DyingMachine, broker: Broker): Promise<unknown> {
  const topic = broker.topics.find('t');
  const kinds = ['topic', 'tombstone', 'partition', 'segment', 'offset'] as const;
  return {
    directories: machine.directories,
    records: topic === undefined ? 0 : (await valuesIn(topic.partition(0))).length,
    commit: topic && broker.offsets.fetch('g', topic.id, 0)?.offset,
    rows: kinds.filter((kind) => [...machine.store.range([kind])].length > 0),
  };
}

const whole = {
  directories: tDirectories,
  records: 10,
  commit: 5,
  rows: ['topic', 'partition', 'segment', 'offset'],
};
const gone = { directories: [], records: 0, commit: undefined, rows: [] };

/** After a kill while the topic was deleted. */
async function expectWholeOrGone(machine: DyingMachine, done: boolean): Promise<void> {
  const broker = await machine.open();
  expect(done ? [gone] : [whole, gone]).toContainEqual(await leftOf(machine, broker));
  if (broker.topics.find('t') !== undefined) await broker.topics.delete('t');
  // Created anew it has nothing of the old one.
  const partition = await createTopic(broker, {}, 3);
  expect(partition.logEndOffset).toBe(0);
  expect(await append(partition, batchOf(['new']))).toBe(0);
}

describe('a kill at any change', () => {
  it('of creating a topic leaves it whole or not there', async () => {
    const changes = await atEachChange(
      false,
      async () => undefined,
      (broker) => createTopic(broker, {}, 3),
      (machine, _broker, done) => expectWholeOrNotThere(machine, done),
    );
    // A row, three directories with a file each, a row.
    expect(changes).toBe(8);
  });

  it('of deleting a topic leaves it whole or gone, never half', async () => {
    const changes = await atEachChange(
      false,
      withRecords,
      (broker) => broker.topics.delete('t'),
      (machine, _broker, done) => expectWholeOrGone(machine, done),
    );
    // A row with the tombstone, three renames, three removals, then the rows go.
    expect(changes).toBe(8);
  });

  it('of removing a directory file by file leaves nothing behind', async () => {
    const machine = new DyingMachine(false);
    const broker = await machine.open();
    await withRecords(broker);
    const { topicId } = partitionOf(broker);
    machine.left = 5;
    await broker.topics.delete('t').catch(() => undefined);
    machine.left = Infinity;
    const doomed = [`t-1.${topicId}-delete`, `t-2.${topicId}-delete`];
    expect(machine.directories).toEqual(doomed);
    machine.write('partition.metadata', undefined, `/t-1.${topicId}-delete`);
    const again = await machine.open();
    expect(again.recovery).toEqual(['t: finished deleting the topic.']);
    expect(machine.directories).toEqual([]);
    expect((await machine.open()).recovery).toEqual([]);
  });

  it('of adding partitions never takes one away', async () => {
    const changes = await atEachChange(
      false,
      withRecords,
      (broker) => broker.topics.addPartitions('t', 5),
      async (machine, _broker, done) => {
        const broker = await machine.open();
        const count = broker.topics.get('t').partitionCount;
        expect(done ? [5] : [3, 5]).toContain(count);
        expect((await valuesIn(partitionOf(broker, 2))).length).toBe(10);
        if (count === 3) await broker.topics.addPartitions('t', 5);
        expect(await append(partitionOf(broker, 4), batchOf(['x']))).toBe(0);
      },
    );
    expect(changes).toBe(5);
  });
});

describe('a change that fails once', () => {
  it('while a topic is created: creating it again works, and nothing is left over', async () => {
    await atEachChange(
      true,
      async () => undefined,
      (broker) => createTopic(broker, {}, 3),
      async (machine, broker, done) => {
        if (!done) await createTopic(broker, {}, 3);
        await expectAllWork(broker);
        expect(machine.directories).toEqual(tDirectories);
        await broker.close();
        const again = await machine.open();
        expect(again.recovery).toEqual([]);
        expect(await valuesIn(partitionOf(again, 2))).toEqual(['a']);
      },
    );
  });

  it('while a topic is deleted: it may be created anew, and the old files go at the next opening', async () => {
    await atEachChange(
      true,
      withRecords,
      (broker) => broker.topics.delete('t'),
      async (machine, broker) => {
        if (broker.topics.find('t') !== undefined) await broker.topics.delete('t');
        const partition = await createTopic(broker, {}, 3);
        expect(await append(partition, batchOf(['new']))).toBe(0);
        await broker.close();
        const again = await machine.open();
        expect(machine.directories).toEqual(tDirectories);
        expect(await valuesIn(partitionOf(again))).toEqual(['new']);
        expect([...machine.store.range(['tombstone'])]).toEqual([]);
      },
    );
  });
});

describe('a directory that a crash left in the way', () => {
  /** Of a partition that was never counted. */
  async function leave(machine: DyingMachine, name: string, id: string): Promise<void> {
    machine.files.makeDirectory(name);
    await machine.files.replaceFile(`${name}/partition.metadata`, encodePartitionMetadata(id));
  }

  it('goes with the topic whose partition it was to be', async () => {
    const machine = new DyingMachine(false);
    const broker = await machine.open();
    const { topicId } = await createTopic(broker);
    await leave(machine, '/t-1', topicId);
    await broker.topics.delete('t');
    expect(machine.directories).toEqual([]);
  });

  it.each([
    ['the topic is created', 0],
    ['partitions are added', 1],
  ])('with the records of another topic is set aside, durably, before %s', async (_what, count) => {
    const machine = new DyingMachine(false);
    const broker = await machine.open();
    if (count > 0) await createTopic(broker, {}, count);
    const other = newTopicId(() => 0.5);
    await leave(machine, '/t-2', other);
    machine.write(firstLog, batchOf(['foreign']), '/t-2');
    const calls: string[] = [];
    machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
      if (path === '/' || path.startsWith('/t-2')) calls.push(`${name} ${path}`);
      return undefined;
    });
    const again = await machine.open();
    if (count > 0) await again.topics.addPartitions('t', 3);
    else await createTopic(again, {}, 3);
    expect(await valuesIn(partitionOf(again, 2))).toEqual([]);
    expect(machine.read(firstLog, `/${machine.directories.at(-1)!}`)).toEqual(batchOf(['foreign']));
    const moved = calls.indexOf('rename /t-2');
    expect(calls.slice(moved, moved + 3)).toEqual([
      'rename /t-2',
      'syncDirectory /',
      'makeDirectory /t-2',
    ]);
  });

  it('empty, or half made, is used', async () => {
    const machine = new DyingMachine(false);
    const broker = await machine.open();
    machine.files.makeDirectory('/t-0');
    machine.write('partition.metadata.tmp', Buffer.from('versi'), '/t-0');
    await createTopic(broker);
    expect(machine.directories).toEqual(['t-0']);
  });
});
