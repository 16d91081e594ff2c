import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla, OttlaError } from '../src/index.js';
import { committed, inOrder, Loop, numbers, send, take, takeValues } from './consuming.js';
import { describeContract, describeDirectory, failureOf } from './contract.js';

type Options = Omit<ConsumerOptions, 'group' | 'topics'>;

function consumerOf(ottla: Ottla, options: Options = {}): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], ...options });
}

const p0 = { topic: 'orders', partition: 0 };
const p1 = { topic: 'orders', partition: 1 };

describeContract('commits', ({ open }) => {
  const withOrders = async (count: number, partitions = 1): Promise<Ottla> => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions });
    await send(ottla, 'orders', numbers(count));
    return ottla;
  };

  it('commits by itself what is marked, up to the end when the loop waits', async () => {
    const ottla = await withOrders(5);
    const loop = new Loop(consumerOf(ottla));
    await ottla.idle();
    expect(await committed(ottla, 'g', 'orders')).toEqual([5]);
    await loop.close();
  });

  it('commits at close what is marked, and not what is in flight', async () => {
    const ottla = await withOrders(5);
    const consumer = consumerOf(ottla);
    await take(consumer, 3);
    await consumer.close();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  });

  it('commits what is marked when the Ottla is closed', async () => {
    const ottla = await withOrders(5);
    const consumer = consumerOf(ottla);
    const records = consumer[Symbol.asyncIterator]();
    await records.next();
    await records.next();
    await records.next();
    await ottla.close();
    expect(await records.next()).toEqual({ value: undefined, done: true });
  });

  it('goes on behind the commits with another member after the first one closed', async () => {
    const ottla = await withOrders(4);
    const first = consumerOf(ottla);
    await take(first, 3);
    await first.close();
    expect(await takeValues(consumerOf(ottla), 2)).toEqual(['2', '3']);
  });

  it('commits nothing by itself with autoCommit false, but the start', async () => {
    const ottla = await withOrders(4);
    const consumer = consumerOf(ottla, { autoCommit: false });
    await take(consumer, 3);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    await consumer.close();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    expect(await takeValues(consumerOf(ottla), 1)).toEqual(['0']);
  });

  it('commit() without an argument commits what is marked, whatever autoCommit says', async () => {
    const ottla = await withOrders(4);
    const consumer = consumerOf(ottla, { autoCommit: false });
    await take(consumer, 3);
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  });

  describe('of a record', () => {
    it('commits it and all before it, marked or not', async () => {
      const ottla = await withOrders(4);
      const records = await take(consumerOf(ottla, { autoCommit: false }), 3);
      await records[1]!.commit();
      expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    });

    it('never moves back', async () => {
      const ottla = await withOrders(4);
      const records = await take(consumerOf(ottla, { autoCommit: false }), 4);
      await records[2]!.commit();
      await records[0]!.commit();
      expect(await committed(ottla, 'g', 'orders')).toEqual([3]);
    });

    it('never moves back when commits are under way at the same time', async () => {
      const ottla = await withOrders(6);
      const consumer = consumerOf(ottla);
      const records = await take(consumer, 6);
      const order = [4, 1, 3, 0, 2];
      await Promise.all([consumer.commit(), ...order.map((i) => records[i]!.commit())]);
      expect(await committed(ottla, 'g', 'orders')).toEqual([5]);
    });

    it('may be asked for without waiting, record after record', async () => {
      const ottla = await withOrders(500);
      const commits: Promise<void>[] = [];
      const loop = new Loop(consumerOf(ottla), async (record) => {
        commits.push(record.commit());
      });
      await ottla.idle();
      await Promise.all(commits);
      expect(await committed(ottla, 'g', 'orders')).toEqual([500]);
      await loop.close();
    });

    it('is a TypeError for one that was read without a group', async () => {
      const ottla = await withOrders(1);
      const alone = ottla.consumer({});
      alone.assign([p0]);
      const [assigned] = await take(alone, 1);
      expect(() => assigned!.commit()).toThrow(TypeError);
      const [read] = await take(ottla.read('orders'), 1);
      expect(() => read!.commit()).toThrow(TypeError);
      const [batch] = await take(ottla.read('orders').batches(), 1);
      expect(() => batch!.commit()).toThrow(TypeError);
      await expect(alone.commit()).rejects.toThrow(TypeError);
    });
  });

  describe('that is not awaited', () => {
    it('is made before close() leaves, in the order of the calls', async () => {
      const ottla = await withOrders(1);
      const consumer = consumerOf(ottla, { autoCommit: false });
      const [first] = await take(consumer, 1);
      void first!.commit();
      void consumer.commit([{ ...p0, offset: 3 }]);
      void consumer.commit([{ ...p0, offset: 2 }]);
      await consumer.close();
      expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    });

    it('is made before its partition moves', async () => {
      const ottla = await withOrders(0, 2);
      await send(ottla, 'orders', numbers(5), 1);
      const options = { autoCommit: false, assignor: inOrder };
      const one = consumerOf(ottla, options);
      const records = one[Symbol.asyncIterator]();
      for (let i = 0; i < 4; i++) void (await records.next()).value?.commit();
      const two = consumerOf(ottla, options);
      const next = takeValues(two, 1);
      await two.ready();
      const waiting = records.next();
      expect(await next).toEqual(['4']);
      await one.close();
      await waiting;
    });

    it("tells by 'error' that it failed, and ends no process", async () => {
      const ottla = await withOrders(1);
      const errors: OttlaError[] = [];
      ottla.on('error', (error) => errors.push(error));
      const consumer = consumerOf(ottla);
      const [first] = await take(consumer, 1);
      void consumer.commit([{ ...p0, offset: -1 }]);
      await consumer.close();
      void consumer.commit();
      void first!.commit();
      while (errors.length < 3) await turn();
      const codes = errors.map(({ code }) => code).toSorted();
      expect(codes).toEqual(['CLOSED', 'ILLEGAL_GENERATION', 'INVALID_REQUEST']);
    });

    it("tells nothing by 'error' where it is awaited", async () => {
      const ottla = await withOrders(1);
      const errors: Error[] = [];
      ottla.on('error', (error) => errors.push(error));
      const consumer = consumerOf(ottla);
      await consumer.close();
      expect(await failureOf(() => consumer.commit())).toMatchObject({ code: 'CLOSED' });
      for (let i = 0; i < 3; i++) await turn();
      expect(errors).toEqual([]);
    });
  });

  describe('of your own choosing', () => {
    it('commits exactly these offsets, also back', async () => {
      const ottla = await withOrders(4, 2);
      const consumer = consumerOf(ottla, { autoCommit: false });
      await consumer.ready();
      await consumer.commit([
        { ...p0, offset: 3, metadata: 'why' },
        { ...p1, offset: 0 },
      ]);
      expect(await committed(ottla, 'g', 'orders')).toEqual([3, 0]);
      await consumer.commit([{ ...p0, offset: 1 }]);
      expect(await committed(ottla, 'g', 'orders')).toEqual([1, 0]);
      expect(consumer.position(p0)).toBe(0);
    });

    it('g29: takes 4,096 bytes of metadata and refuses 4,097, writing nothing of the call', async () => {
      const ottla = await withOrders(4, 2);
      const consumer = consumerOf(ottla, { autoCommit: false });
      await consumer.ready();
      await consumer.commit([{ ...p0, offset: 1, metadata: 'é'.repeat(2048) }]);
      const tooLarge = consumer.commit([
        { ...p0, offset: 2 },
        { ...p1, offset: 0, metadata: `${'é'.repeat(2048)}x` },
      ]);
      const error = await failureOf(() => tooLarge);
      expect(error).toMatchObject({ code: 'OFFSET_METADATA_TOO_LARGE', retriable: false });
      expect(error.message).toMatch(/4097.*4096/);
      expect(await committed(ottla, 'g', 'orders')).toEqual([1, 0]);
    });

    it('refuses a partition that is not assigned, writing nothing of the call', async () => {
      const ottla = await withOrders(4, 2);
      const consumer = consumerOf(ottla, { autoCommit: false });
      await consumer.ready();
      const refused = consumer.commit([
        { ...p0, offset: 2 },
        { topic: 'orders', partition: 2, offset: 0 },
      ]);
      await expect(refused).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' });
      expect(await committed(ottla, 'g', 'orders')).toEqual([0, 0]);
    });

    it('g28: refuses anything before the member has joined', async () => {
      const ottla = await withOrders(1);
      const refused = consumerOf(ottla).commit([{ ...p0, offset: 1 }]);
      await expect(refused).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' });
    });

    it.each([
      ['no list', 5, TypeError],
      ['an offset that is text', [{ ...p0, offset: '1' }], TypeError],
      ['an offset below 0', [{ ...p0, offset: -1 }], RangeError],
      ['a broken offset', [{ ...p0, offset: 1.5 }], RangeError],
      ['metadata that is no text', [{ ...p0, offset: 1, metadata: 5 }], TypeError],
      ['nothing where an offset should be', [null], TypeError],
    ])('refuses %s', async (_what, offsets, type) => {
      const ottla = await withOrders(1);
      const consumer = consumerOf(ottla);
      await consumer.ready();
      const error = await failureOf(() => consumer.commit(offsets as never));
      expect(error).toBeInstanceOf(type);
      expect(error.message).toMatch(/^commit: .*expected .* got /);
      expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    });
  });
});

describeDirectory('commits and a restart', ({ open, reopen }) => {
  it('goes on behind the last commit', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await send(ottla, 'orders', numbers(3), 0);
    await send(ottla, 'orders', numbers(3, 10), 1);
    const loop = new Loop(consumerOf(ottla));
    await ottla.idle();
    const again = await reopen(ottla);
    await loop.ended();
    await send(again, 'orders', ['3'], 0);
    expect(await takeValues(consumerOf(again), 1)).toEqual(['3']);
    expect(await committed(again, 'g', 'orders')).toEqual([3, 3]);
  });

  it('gives again what was in flight, and nothing that was marked', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await send(ottla, 'orders', numbers(5));
    await take(consumerOf(ottla), 3);
    const again = await reopen(ottla);
    expect(await takeValues(consumerOf(again), 3)).toEqual(['2', '3', '4']);
  });

  it("keeps groups' commits apart, with their metadata's partition and topic", async () => {
    const ottla = await open();
    for (const topic of ['orders', 'bills']) {
      await ottla.topics.create(topic, { partitions: 2 });
      await send(ottla, topic, numbers(9), 1);
    }
    for (const [group, offset] of [
      ['one', 4],
      ['two', 7],
    ] as const) {
      const consumer = ottla.consumer({ group, topics: ['orders', 'bills'], autoCommit: false });
      await consumer.ready();
      await consumer.commit([{ topic: 'bills', partition: 1, offset, metadata: group }]);
    }
    const again = await reopen(ottla);
    expect(await again.groups.list()).toEqual(['one', 'two']);
    expect(await committed(again, 'one', 'bills')).toEqual([0, 4]);
    expect(await committed(again, 'two', 'bills')).toEqual([0, 7]);
    expect(await committed(again, 'two', 'orders')).toEqual([0, 0]);
  });

  it('counts generations on', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await consumerOf(ottla).ready();
    const { generation } = await ottla.groups.describe('g');
    expect(generation).toBe(1);
    const again = await reopen(ottla);
    expect((await again.groups.describe('g')).generation).toBeGreaterThanOrEqual(1);
    await consumerOf(again).ready();
    expect((await again.groups.describe('g')).generation).toBeGreaterThan(1);
  });
});
