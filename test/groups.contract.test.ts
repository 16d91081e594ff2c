import { expect, it } from 'vitest';
import type { Ottla } from '../src/index.js';
import { committed, Loop, numbers, send, take } from './consuming.js';
import { describeContract, describeDirectory, failureOf } from './contract.js';

async function withOrders(open: () => Promise<Ottla>, partitions = 1): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions });
  await send(ottla, 'orders', numbers(3));
  return ottla;
}

const good = { group: 'g', topics: ['orders'] };

const strangeIds = [
  '../x',
  '/etc/passwd',
  'a b',
  'ünïcödé 群組 🐙',
  'é'.repeat(512),
  '\u0000\u0001\u0004\ue000\uffff',
  '__proto__',
  '%2e%2e',
  'con',
];

describeContract('groups', ({ open, files }) => {
  it('are listed in order, those with members and those with commits', async () => {
    const ottla = await withOrders(open);
    expect(await ottla.groups.list()).toEqual([]);
    await ottla.consumer({ ...good, group: 'b' }).ready();
    const gone = ottla.consumer({ ...good, group: 'a' });
    await gone.ready();
    await gone.close();
    expect(await ottla.groups.list()).toEqual(['a', 'b']);
  });

  it('are described with members, assignment, commits and lag', async () => {
    const ottla = await withOrders(open, 2);
    const consumer = ottla.consumer({
      ...good,
      assignor: 'sticky',
      autoCommit: false,
      clientId: 'till',
    });
    await consumer.ready();
    await consumer.commit([{ topic: 'orders', partition: 0, offset: 1 }]);
    const described = await ottla.groups.describe('g');
    const memberId = described.members[0]?.memberId;
    expect(memberId).toMatch(/^till-.+/);
    expect(described).toEqual({
      groupId: 'g',
      state: 'Stable',
      generation: 1,
      assignor: 'sticky',
      members: [
        {
          memberId,
          clientId: 'till',
          topics: ['orders'],
          assignment: [
            { topic: 'orders', partition: 0 },
            { topic: 'orders', partition: 1 },
          ],
        },
      ],
      partitions: [
        { topic: 'orders', partition: 0, committed: 1, end: 3, lag: 2, memberId },
        { topic: 'orders', partition: 1, committed: 0, end: 0, lag: 0, memberId },
      ],
    });
  });

  it('are Empty without members, and keep their generation and commits', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer(good);
    await take(consumer, 2);
    await consumer.close();
    expect(await ottla.groups.describe('g')).toMatchObject({
      groupId: 'g',
      state: 'Empty',
      assignor: null,
      members: [],
      partitions: [{ topic: 'orders', partition: 0, committed: 1, lag: 2, memberId: null }],
    });
  });

  it('g30: tell what they have committed, and nothing of partitions without a commit', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer(good);
    await consumer.ready();
    await consumer.commit([{ topic: 'orders', partition: 0, offset: 2 }]);
    await consumer.close();
    await ottla.topics.addPartitions('orders', 2);
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    const failure = await failureOf(() => ottla.groups.describe('unknown'));
    expect(failure).toMatchObject({ code: 'GROUP_ID_NOT_FOUND' });
  });

  it('do not exist before the first member', async () => {
    const ottla = await withOrders(open);
    ottla.consumer(good);
    const failure = await failureOf(() => ottla.groups.describe('g'));
    expect(failure).toMatchObject({ code: 'GROUP_ID_NOT_FOUND', retriable: false });
    expect(failure.message).toMatch(/"g"/);
    await expect(ottla.groups.describe(5 as never)).rejects.toThrow(TypeError);
  });

  it('lose the commits of a deleted topic, and with the last one themselves', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer(good);
    await take(consumer, 2);
    await consumer.close();
    await ottla.topics.delete('orders');
    expect(await ottla.groups.list()).toEqual([]);
    await ottla.topics.create('orders');
    await ottla.consumer(good).ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });

  it('keep no commit that was under way when its topic was deleted', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({ ...good, autoCommit: false });
    const records = await take(consumer, 3);
    const commits = records.map((record) => failureOf(() => record.commit()).catch(() => null));
    await Promise.all([ottla.topics.delete('orders'), ...commits]);
    await consumer.close();
    expect(await ottla.groups.list()).toEqual([]);
  });

  it.each(strangeIds.map((id) => [id.slice(0, 20), id]))('may be called %j', async (_name, id) => {
    const ottla = await withOrders(open);
    const before = files();
    const consumer = ottla.consumer({ ...good, group: id });
    await take(consumer, 2);
    await consumer.commit();
    expect(await ottla.groups.list()).toEqual([id]);
    expect(await committed(ottla, id, 'orders')).toEqual([1]);
    expect(files()).toEqual(before);
  });
});

describeDirectory('groups and a restart', ({ open, reopen }) => {
  it('keep their ids, whatever they are', async () => {
    const ottla = await withOrders(open);
    for (const id of strangeIds) {
      const consumer = ottla.consumer({ ...good, group: id });
      await take(consumer, 2);
      await consumer.close();
    }
    const again = await reopen(ottla);
    expect(new Set(await again.groups.list())).toEqual(new Set(strangeIds));
    for (const id of strangeIds) expect(await committed(again, id, 'orders')).toEqual([1]);
  });

  it('keep no commits of a topic that was deleted or created anew', async () => {
    const ottla = await withOrders(open);
    await ottla.topics.create('bills');
    const consumer = ottla.consumer({ group: 'g', topics: ['orders', 'bills'] });
    await consumer.ready();
    await consumer.commit([{ topic: 'orders', partition: 0, offset: 3 }]);
    await consumer.close();
    await ottla.topics.delete('orders');
    await ottla.topics.create('orders');
    const again = await reopen(ottla);
    expect(await committed(again, 'g', 'orders')).toEqual([]);
    expect(await committed(again, 'g', 'bills')).toEqual([0]);
  });
});

describeContract('idle', ({ open }) => {
  it('resolves at once when there is nothing to wait for', async () => {
    const ottla = await open();
    await ottla.idle();
    await ottla.topics.create('orders');
    ottla.consumer(good);
    await expect(ottla.idle()).resolves.toBeUndefined();
  });

  it('waits for what is being sent, and for the groups to commit it', async () => {
    const ottla = await withOrders(open, 2);
    const loop = new Loop(ottla.consumer(good));
    const producer = ottla.producer();
    void producer.send('orders', { value: 'a', partition: 0 });
    void producer.send('orders', { value: 'b', partition: 1 });
    await ottla.idle();
    expect(loop.records).toHaveLength(5);
    expect(await committed(ottla, 'g', 'orders')).toEqual([4, 1]);
    await loop.close();
  });

  it('does not wait for a group without members here, nor for one that is not asked for', async () => {
    const ottla = await withOrders(open);
    await ottla.groups.resetOffsets('left', { to: 'earliest', topic: 'orders' });
    ottla.consumer({ ...good, group: 'to come' });
    const behind = ottla.consumer({ ...good, group: 'behind' });
    await behind.ready();
    const loop = new Loop(ottla.consumer({ ...good, group: 'busy' }));
    await ottla.idle({ groups: ['busy', 'left', 'to come'] });
    expect(loop.records).toHaveLength(3);
    await behind.close();
    await ottla.idle();
    await loop.close();
  });

  it('refuses a group that nobody has heard of', async () => {
    const ottla = await withOrders(open);
    const failure = await failureOf(() => ottla.idle({ groups: ['typo'] }));
    expect(failure).toMatchObject({ code: 'GROUP_ID_NOT_FOUND' });
    expect(failure.message).toContain('typo');
  });

  it('says who is behind when the signal has aborted already, not that sends are under way', async () => {
    const ottla = await withOrders(open);
    await ottla.producer().send('orders', { value: 'a' });
    const consumer = ottla.consumer(good);
    await consumer.ready();
    const failure = await failureOf(() => ottla.idle({ signal: AbortSignal.abort() }));
    expect(failure.message).toMatch(/group g has committed 0 of 4 in orders-0/);
  });

  it('resolves when the group that is behind goes away', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer(good);
    await consumer.ready();
    const idle = ottla.idle();
    await consumer.close();
    await expect(idle).resolves.toBeUndefined();
  });

  it('resolves when the topic that is behind is deleted', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer(good);
    await consumer.ready();
    const idle = ottla.idle();
    await ottla.topics.delete('orders');
    await expect(idle).resolves.toBeUndefined();
  });

  it('says when its signal aborts which group is how far behind where', async () => {
    const ottla = await withOrders(open, 2);
    const consumer = ottla.consumer({ ...good, group: 'slow' });
    await take(consumer, 2);
    await consumer.commit();
    const controller = new AbortController();
    const failure = failureOf(() => ottla.idle({ signal: controller.signal }));
    controller.abort(new Error('enough'));
    expect(await failure).toMatchObject({ code: 'ABORTED' });
    expect((await failure).message).toMatch(/slow.*1.*3.*orders-0/);
    expect((await failure).message).not.toMatch(/orders-1/);
  });

  it('names a partition that is paused', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({ ...good, group: 'still' });
    await consumer.ready();
    consumer.pause([{ topic: 'orders', partition: 0 }]);
    const loop = new Loop(consumer);
    const failure = await failureOf(() => ottla.idle({ signal: AbortSignal.abort() }));
    expect(failure.message).toMatch(/still.*orders-0.*paused/);
    consumer.resume([{ topic: 'orders', partition: 0 }]);
    await ottla.idle();
    await loop.close();
  });

  it.each([
    ['an unknown option', { group: 'g' }],
    ['groups that are no list', { groups: 'g' }],
    ['a group that is no text', { groups: [5] }],
    ['no signal', { signal: {} }],
  ])('refuses %s', async (_what, options) => {
    const ottla = await open();
    await expect(ottla.idle(options as never)).rejects.toThrow(TypeError);
  });

  it('is refused after close()', async () => {
    const ottla = await open();
    await ottla.close();
    await expect(ottla.idle()).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
