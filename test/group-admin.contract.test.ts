import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Ottla, ResetOffsetsOptions, ResetTo } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { committed, numbers, send, takeValues } from './consuming.js';
import { describeContract, describeDirectory, failureOf } from './contract.js';

const good = { group: 'g', topics: ['orders'] };

/** Two partitions of five records; group g, without members, has committed 2 of the first. */
async function withCommits(open: () => Promise<Ottla>): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions: 2 });
  for (const partition of [0, 1]) await send(ottla, 'orders', numbers(5), partition);
  const consumer = ottla.consumer({ ...good, from: 'none', autoCommit: false });
  await commitAll(ottla, [2, -1]);
  await consumer.close();
  return ottla;
}

/** Commits an offset of each partition; -1 leaves it without. */
async function commitAll(ottla: Ottla, offsets: readonly number[]): Promise<void> {
  for (const [partition, offset] of offsets.entries()) {
    if (offset === -1) continue;
    const to = { offset };
    await ottla.groups.resetOffsets('g', { to, topic: 'orders', partitions: [partition] });
  }
}

async function stateOf(ottla: Ottla): Promise<number[]> {
  const { partitions } = await ottla.groups.describe('g');
  const offsets = new Map(partitions.map((at) => [at.partition, at.committed]));
  return [offsets.get(0) ?? -1, offsets.get(1) ?? -1];
}

describeContract('groups.resetOffsets', ({ open }) => {
  it.each<[string, ResetTo, number]>([
    ['the first record', 'earliest', 1],
    ['the end', 'latest', 5],
    ['a time before all records', new Date(0), 1],
    ['a time after all records', new Date(8e15), 5],
    ['long ago', { durationMs: 1e12 }, 1],
    ['two further', { shift: 2 }, 4],
    ['one back', { shift: -1 }, 1],
    ['further than the end', { shift: 9 }, 5],
    ['back behind the beginning', { shift: -9 }, 1],
    ['an offset', { offset: 3 }, 3],
    ['an offset that was deleted', { offset: 0 }, 1],
    ['an offset that is not there yet', { offset: 6 }, 5],
  ])('moves what a group has committed to %s', async (_name, to, offset) => {
    const ottla = await withCommits(open);
    await ottla.topics.deleteRecords('orders', 0, 1);
    const moved = [{ topic: 'orders', partition: 0, committed: 2, offset }];
    expect(await ottla.groups.resetOffsets('g', { to, dryRun: true })).toEqual(moved);
    expect(await stateOf(ottla)).toEqual([2, -1]);
    expect(await ottla.groups.resetOffsets('g', { to })).toEqual(moved);
    expect(await stateOf(ottla)).toEqual([offset, -1]);
  });

  it('takes a whole topic, and partitions of it', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.resetOffsets('g', { to: 'latest', topic: 'orders' });
    expect(await stateOf(ottla)).toEqual([5, 5]);
    await ottla.groups.resetOffsets('g', { to: { offset: 1 }, topic: 'orders', partitions: [1] });
    expect(await stateOf(ottla)).toEqual([5, 1]);
  });

  it('lets the group go on there', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.resetOffsets('g', { to: { offset: 4 }, topic: 'orders' });
    const consumer = ottla.consumer(good);
    expect(await takeValues(consumer, 2)).toEqual(['4', '4']);
  });

  it('makes a group that is new', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.resetOffsets('new', { to: 'latest', topic: 'orders' });
    expect(await committed(ottla, 'new', 'orders')).toEqual([5, 5]);
  });

  it('moves nothing of a group with members', async () => {
    const ottla = await withCommits(open);
    await ottla.consumer(good).ready();
    const reset = ottla.groups.resetOffsets('g', { to: 'latest', topic: 'orders' });
    expect(await failureOf(() => reset)).toMatchObject({ code: 'NON_EMPTY_GROUP' });
    expect(await stateOf(ottla)).toEqual([2, 0]);
    const wouldMove = await ottla.groups.resetOffsets('g', { to: 'latest', dryRun: true });
    expect(wouldMove.map(({ committed: from, offset }) => [from, offset])).toEqual([
      [2, 5],
      [0, 5],
    ]);
    expect(await stateOf(ottla)).toEqual([2, 0]);
  });

  it('leaves no metadata with what it moves', async () => {
    const ottla = await withCommits(open);
    const commits = [0, 1].map((partition) => ({ topic: 'orders', partition, offset: 3 }));
    const consumer = ottla.consumer(good);
    await consumer.ready();
    await consumer.commit(commits.map((at) => ({ ...at, metadata: 'mine' })));
    await consumer.close();
    await ottla.groups.resetOffsets('g', { to: { shift: 0 }, topic: 'orders', partitions: [0] });
    const again = ottla.consumer(good);
    expect(await again.committed()).toEqual([
      { ...commits[0], metadata: '' },
      { ...commits[1], metadata: 'mine' },
    ]);
  });

  it.each<[string, string, ResetOffsetsOptions, string]>([
    ['an unknown group', 'x', { to: 'latest' }, 'GROUP_ID_NOT_FOUND'],
    ['an unknown topic', 'g', { to: 'latest', topic: 'x' }, 'UNKNOWN_TOPIC_OR_PARTITION'],
    [
      'an unknown partition',
      'g',
      { to: 'latest', topic: 'orders', partitions: [0, 2] },
      'UNKNOWN_TOPIC_OR_PARTITION',
    ],
    ['no commit to shift', 'g', { to: { shift: 1 }, topic: 'orders' }, 'NO_OFFSET_FOR_PARTITION'],
  ])('moves nothing: %s', async (_name, group, options, code) => {
    const ottla = await withCommits(open);
    expect(await failureOf(() => ottla.groups.resetOffsets(group, options))).toMatchObject({
      code,
    });
    expect(await stateOf(ottla)).toEqual([2, -1]);
  });

  it.each<[string, unknown[]]>([
    ['no options', ['g']],
    ['no place', ['g', {}]],
    ['an unknown place', ['g', { to: 'none' }]],
    ['two places', ['g', { to: { shift: 1, offset: 1 } }]],
    ['a negative offset', ['g', { to: { offset: -1 } }]],
    ['an invalid date', ['g', { to: new Date(Number.NaN) }]],
    ['partitions of no topic', ['g', { to: 'latest', partitions: [0] }]],
    ['an unknown option', ['g', { to: 'latest', dry: true }]],
    ['no group', [undefined, { to: 'latest' }]],
  ])('refuses %s', async (_name, args) => {
    const ottla = await withCommits(open);
    const [group, options] = args as [string, ResetOffsetsOptions];
    const failure = await failureOf(() => ottla.groups.resetOffsets(group, options));
    expect(failure.name).toMatch(/^(Type|Range)Error$/);
    expect(failure.message).toContain('groups.resetOffsets');
  });
});

describeContract('groups.deleteOffsets', ({ open }) => {
  it('forgets commits, so that the group begins there anew', async () => {
    const ottla = await withCommits(open);
    await commitAll(ottla, [2, 3]);
    await ottla.groups.deleteOffsets('g', [{ topic: 'orders', partition: 1 }]);
    expect(await stateOf(ottla)).toEqual([2, -1]);
    await ottla.groups.deleteOffsets('g', [{ topic: 'orders', partition: 0 }]);
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('makes a partition that was added begin anew, too, while others of the group read on', async () => {
    const ottla = await withCommits(open);
    await ottla.topics.create('bills');
    const inOrders = { ...good, assignor: 'roundrobin', from: 'latest' } as const;
    const first = ottla.consumer(inOrders);
    await Promise.all([first.ready(), ottla.consumer({ ...inOrders, topics: ['bills'] }).ready()]);
    await ottla.topics.addPartitions('orders', 3);
    await send(ottla, 'orders', numbers(5), 2);
    await first.ready();
    await first.close();
    await ottla.groups.deleteOffsets('g', [{ topic: 'orders', partition: 2 }]);
    // In a generation of its own: the group has read on without the topic.
    await turn();
    const second = ottla.consumer(inOrders);
    await second.ready();
    expect(second.position({ topic: 'orders', partition: 2 })).toBe(5);
  });

  it('is fine where nothing was committed', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.deleteOffsets('g', [{ topic: 'orders', partition: 1 }]);
    await ottla.groups.deleteOffsets('g', []);
    expect(await stateOf(ottla)).toEqual([2, -1]);
  });

  it('forgets nothing while a member subscribes to the topic, and what is of other topics', async () => {
    const ottla = await withCommits(open);
    await ottla.topics.create('visits');
    await ottla.groups.resetOffsets('g', { to: 'latest', topic: 'visits' });
    await ottla.consumer(good).ready();
    const places = [
      { topic: 'visits', partition: 0 },
      { topic: 'orders', partition: 0 },
    ];
    expect(await failureOf(() => ottla.groups.deleteOffsets('g', places))).toMatchObject({
      code: 'GROUP_SUBSCRIBED_TO_TOPIC',
    });
    expect(await committed(ottla, 'g', 'visits')).toEqual([0]);
    await ottla.groups.deleteOffsets('g', places.slice(0, 1));
    expect(await committed(ottla, 'g', 'visits')).toEqual([]);
  });

  it('says what there is not', async () => {
    const ottla = await withCommits(open);
    const { groups } = ottla;
    expect(await failureOf(() => groups.deleteOffsets('x', []))).toMatchObject({
      code: 'GROUP_ID_NOT_FOUND',
    });
    const nowhere = [{ topic: 'x', partition: 0 }];
    expect(await failureOf(() => groups.deleteOffsets('g', nowhere))).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(await failureOf(() => groups.deleteOffsets('g', {} as []))).toBeInstanceOf(TypeError);
  });
});

describeContract('groups.delete', ({ open }) => {
  it('forgets a group and its commits', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.delete('g');
    expect(await ottla.groups.list()).toEqual([]);
    const failure = await failureOf(() => ottla.groups.delete('g'));
    expect(failure).toMatchObject({ code: 'GROUP_ID_NOT_FOUND' });
    const consumer = ottla.consumer(good);
    expect(await takeValues(consumer, 1)).toEqual(['0']);
    expect((await ottla.groups.describe('g')).generation).toBe(1);
  });

  it('forgets no group with members', async () => {
    const ottla = await withCommits(open);
    const consumer = ottla.consumer(good);
    await consumer.ready();
    const failure = await failureOf(() => ottla.groups.delete('g'));
    expect(failure).toMatchObject({ code: 'NON_EMPTY_GROUP' });
    expect(await stateOf(ottla)).toEqual([2, 0]);
    await consumer.close();
    await ottla.groups.delete('g');
    expect(await ottla.groups.list()).toEqual([]);
  });
});

describeDirectory('what was moved or deleted', ({ open, reopen }) => {
  it('is so after a restart', async () => {
    const ottla = await withCommits(open);
    await ottla.groups.resetOffsets('g', { to: { shift: 1 } });
    for (const group of ['h', 'i']) {
      await ottla.groups.resetOffsets(group, { to: 'latest', topic: 'orders' });
    }
    await ottla.groups.delete('h');
    await ottla.groups.deleteOffsets('i', [{ topic: 'orders', partition: 0 }]);
    const again = await reopen(ottla);
    expect(await again.groups.list()).toEqual(['g', 'i']);
    expect(await stateOf(again)).toEqual([3, -1]);
    expect(await committed(again, 'i', 'orders')).toEqual([5]);
  });
});

it('a commit that fails to move stays', async (test) => {
  const { ottla, faults } = testOttla(test);
  await withCommits(async () => ottla);
  faults.fail('commit', { code: 'ENOSPC' });
  const reset = ottla.groups.resetOffsets('g', { to: 'latest' });
  expect(await failureOf(() => reset)).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
  expect(await stateOf(ottla)).toEqual([2, -1]);
});

describeContract('topics.listOffsets', ({ open }) => {
  it('tells the first, the last, and that of a time, of each partition', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer();
    for (const timestamp of [1000, 2000, 3000]) {
      await producer.send('orders', { value: 'v', timestamp, partition: 0 });
    }
    await ottla.topics.deleteRecords('orders', 0, 1);
    const offsets = async (at: 'earliest' | 'latest' | Date): Promise<number[]> =>
      (await ottla.topics.listOffsets('orders', at)).map(({ offset }) => offset);
    expect(await ottla.topics.listOffsets('orders', 'earliest')).toEqual([
      { partition: 0, offset: 1 },
      { partition: 1, offset: 0 },
    ]);
    expect(await offsets('latest')).toEqual([3, 0]);
    expect(await offsets(new Date(2001))).toEqual([2, 0]);
    expect(await offsets(new Date(3001))).toEqual([3, 0]);
    const unknown = ottla.topics.listOffsets('x', 'latest');
    expect(await failureOf(() => unknown)).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    const none = 'none' as 'latest';
    expect(await failureOf(() => ottla.topics.listOffsets('orders', none))).toBeInstanceOf(
      TypeError,
    );
  });
});

describeContract('consumer.committed', ({ open }) => {
  it('tells what the group has committed, with its metadata', async () => {
    const ottla = await withCommits(open);
    const consumer = ottla.consumer({ ...good, autoCommit: false });
    await consumer.ready();
    await consumer.commit([{ topic: 'orders', partition: 1, offset: 4, metadata: 'mine' }]);
    expect(await consumer.committed()).toEqual([
      { topic: 'orders', partition: 0, offset: 2, metadata: '' },
      { topic: 'orders', partition: 1, offset: 4, metadata: 'mine' },
    ]);
    expect(await consumer.committed([{ topic: 'x', partition: 0 }])).toEqual([
      { topic: 'x', partition: 0, offset: -1, metadata: '' },
    ]);
    expect(await failureOf(() => ottla.consumer({}).committed())).toBeInstanceOf(TypeError);
  });
});
