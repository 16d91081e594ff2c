import { expect, it } from 'vitest';
import type { Consumer, Ottla } from '../src/index.js';
import { committed, Loop, numbers, owned, send, take, takeValues } from './consuming.js';
import { describeContract } from './contract.js';

const options = { group: 'g', topics: ['orders', 'bills'], assignor: 'sticky' } as const;

function consumerOf(ottla: Ottla): Consumer {
  return ottla.consumer(options);
}

async function withTopics(open: () => Promise<Ottla>): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions: 2 });
  await ottla.topics.create('bills');
  return ottla;
}

const unowned = { code: 'ILLEGAL_GENERATION' };

describeContract('topics that change under a group', ({ open }) => {
  it('gives added partitions to members, and leaves alone what they have', async () => {
    const ottla = await withTopics(open);
    await send(ottla, 'orders', numbers(3), 0);
    const [one, two] = [consumerOf(ottla), consumerOf(ottla)];
    await Promise.all([one.ready(), two.ready()]);
    const before = [owned(one), owned(two)];
    await ottla.topics.addPartitions('orders', 4);
    await Promise.all([one.ready(), two.ready()]);
    const after = [owned(one), owned(two)];
    expect(after.flat().toSorted()).toEqual(['bills-0', ...numbers(4).map((i) => `orders-${i}`)]);
    for (const i of [0, 1]) expect(after[i]).toEqual(expect.arrayContaining(before[i]!));
    await Promise.all([one, two].map((consumer) => consumer.close()));
  });

  it('reads added partitions from their beginning', async () => {
    const ottla = await withTopics(open);
    const loop = new Loop(consumerOf(ottla));
    await loop.consumer.ready();
    await ottla.topics.addPartitions('orders', 3);
    await send(ottla, 'orders', numbers(3), 2);
    await ottla.idle();
    expect(loop.values).toEqual(numbers(3));
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 0, 3]);
    await loop.close();
  });

  it('takes a deleted topic from its members; the loop goes on with the others', async () => {
    const ottla = await withTopics(open);
    await send(ottla, 'orders', numbers(3), 0);
    const consumer = consumerOf(ottla);
    const records = consumer[Symbol.asyncIterator]();
    const inFlight = (await records.next()).value!;
    await ottla.topics.delete('orders');
    expect(owned(consumer)).toEqual(['bills-0']);
    await expect(inFlight.commit()).rejects.toMatchObject(unowned);
    const next = records.next();
    await send(ottla, 'bills', ['bill']);
    expect(String((await next).value?.value)).toBe('bill');
    await consumer.close();
    expect((await ottla.groups.describe('g')).partitions).toMatchObject([
      { topic: 'bills', committed: 0 },
    ]);
  });

  it('reads a topic that is created anew from its beginning, and fences the old one', async () => {
    const ottla = await withTopics(open);
    await send(ottla, 'orders', numbers(3), 0);
    const consumer = consumerOf(ottla);
    const [old] = await take(consumer, 1);
    await ottla.topics.delete('orders');
    await ottla.topics.create('orders', { partitions: 1 });
    await send(ottla, 'orders', ['new']);
    await consumer.ready();
    expect(owned(consumer)).toEqual(['bills-0', 'orders-0']);
    await expect(old!.commit()).rejects.toMatchObject(unowned);
    expect(await takeValues(consumer, 1)).toEqual(['new']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });

  it('waits while all its topics are gone, and goes on when one is back', async () => {
    const ottla = await withTopics(open);
    const loop = new Loop(consumerOf(ottla));
    await loop.consumer.ready();
    await ottla.topics.delete('orders');
    await ottla.topics.delete('bills');
    await loop.consumer.ready();
    expect(owned(loop.consumer)).toEqual([]);
    await ottla.idle();
    await ottla.topics.create('bills');
    await send(ottla, 'bills', ['bill']);
    await ottla.idle();
    expect(loop.values).toEqual(['bill']);
    await loop.close();
  });

  it('gives each change one generation, and moves no more than it must', async () => {
    const ottla = await withTopics(open);
    const consumers = [consumerOf(ottla), consumerOf(ottla)];
    await Promise.all(consumers.map((consumer) => consumer.ready()));
    await ottla.topics.addPartitions('orders', 5);
    await Promise.all(consumers.map((consumer) => consumer.ready()));
    await ottla.topics.delete('bills');
    await Promise.all(consumers.map((consumer) => consumer.ready()));
    expect(await ottla.groups.describe('g')).toMatchObject({ state: 'Stable', generation: 3 });
    expect(consumers.flatMap(owned)).toHaveLength(5);
  });
});
