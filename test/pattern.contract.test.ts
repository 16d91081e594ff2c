import { describe, expect, expectTypeOf, it } from 'vitest';
import { defineTopic, Ottla, type Consumer } from '../src/index.js';
import { Loop, committed, numbers, send, takeValues } from './consuming.js';
import { describeContract, describeDirectory, failureOf } from './contract.js';

async function withTopics(open: () => Promise<Ottla>, ...topics: string[]): Promise<Ottla> {
  const ottla = await open();
  for (const topic of topics) {
    await ottla.topics.create(topic);
    await send(ottla, topic, [`in ${topic}`]);
  }
  return ottla;
}

function topicsOf(consumer: Pick<Consumer, 'assignment'>): string[] {
  return consumer
    .assignment()
    .map(({ topic }) => topic)
    .toSorted();
}

describeContract('a subscription by pattern', ({ open }) => {
  it('reads the topics that match, and names beside it', async () => {
    const ottla = await withTopics(open, 'orders-eu', 'orders-us', 'visits', 'others');
    const consumer = ottla.consumer({ group: 'g', topics: [/^orders-/, 'visits'] });
    await consumer.ready();
    expect(topicsOf(consumer)).toEqual(['orders-eu', 'orders-us', 'visits']);
    expect((await takeValues(consumer, 3)).toSorted()).toEqual([
      'in orders-eu',
      'in orders-us',
      'in visits',
    ]);
    const [member] = (await ottla.groups.describe('g')).members;
    expect(member!.topics.toSorted()).toEqual(['orders-eu', 'orders-us', 'visits']);
  });

  it.each(['earliest', 'latest', 'none'] as const)(
    "reads a topic that is created later from its first record on, with from '%s'",
    async (from) => {
      const ottla = await withTopics(open);
      const consumer = ottla.consumer({ group: 'g', topics: [/^orders/], from });
      await consumer.ready();
      expect(topicsOf(consumer)).toEqual([]);
      await ottla.topics.create('orders-eu', { partitions: 2 });
      await send(ottla, 'orders-eu', numbers(2), 1);
      expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
      await ottla.topics.create('visits');
      await consumer.ready();
      expect(topicsOf(consumer)).toEqual(['orders-eu', 'orders-eu']);
    },
  );

  it('gives up a topic that is deleted, and reads it anew when it is created again', async () => {
    const ottla = await withTopics(open, 'orders-eu', 'orders-us');
    const loop = new Loop(ottla.consumer({ group: 'g', topics: [/orders/] }));
    await ottla.idle();
    await ottla.topics.delete('orders-eu');
    await loop.consumer.ready();
    expect(topicsOf(loop.consumer)).toEqual(['orders-us']);
    await ottla.topics.create('orders-eu');
    await send(ottla, 'orders-eu', ['again']);
    await ottla.idle();
    expect(loop.values.toSorted()).toEqual(['again', 'in orders-eu', 'in orders-us']);
    await loop.close();
  });

  it('shares what it matches with other members, whatever they subscribe to', async () => {
    const ottla = await withTopics(open, 'orders-eu', 'orders-us');
    const options = { group: 'g', assignor: 'roundrobin' } as const;
    const byPattern = ottla.consumer({ ...options, topics: [/^orders-/] });
    const byName = ottla.consumer({ ...options, topics: ['orders-us'] });
    await Promise.all([byPattern.ready(), byName.ready()]);
    expect([topicsOf(byPattern), topicsOf(byName)]).toEqual([['orders-eu'], ['orders-us']]);
    await byName.close();
    await byPattern.ready();
    expect(topicsOf(byPattern)).toEqual(['orders-eu', 'orders-us']);
  });

  it('does not hang on where a pattern with memory was', async () => {
    const ottla = await withTopics(open, 'orders-eu', 'orders-us');
    const pattern = /orders/gy;
    pattern.lastIndex = 3;
    const consumer = ottla.consumer({ group: 'g', topics: [pattern] });
    await consumer.ready();
    expect(topicsOf(consumer)).toEqual(['orders-eu', 'orders-us']);
  });

  it('matches no store of our own', async () => {
    const ottla = await withTopics(open, 'orders');
    const consumer = ottla.consumer({ group: 'g', topics: [/./] });
    await consumer.ready();
    expect(topicsOf(consumer)).toEqual(['orders']);
  });

  it('needs a topic or a pattern', async () => {
    const ottla = await withTopics(open);
    for (const topics of [[], [1], /orders/]) {
      const consumer = failureOf(() =>
        ottla.consumer({ group: 'g', topics: topics as unknown as string[] }),
      );
      expect(await consumer).toBeInstanceOf(TypeError);
    }
  });
});

describeDirectory('a group that subscribes by pattern', ({ open, reopen }) => {
  it('goes on after a restart where it was', async () => {
    let ottla = await withTopics(open, 'orders-eu');
    const loop = new Loop(ottla.consumer({ group: 'g', topics: [/^orders-/] }));
    await ottla.idle();
    await loop.close();
    ottla = await reopen(ottla);
    expect(await committed(ottla, 'g', 'orders-eu')).toEqual([1]);
    await send(ottla, 'orders-eu', ['next']);
    const consumer = ottla.consumer({ group: 'g', topics: [/^orders-/] });
    expect(await takeValues(consumer, 1)).toEqual(['next']);
  });
});

describe('types of a subscription by pattern', () => {
  it('are Buffers, and a definition beside it keeps its own', () => {
    const ottla = Ottla.memory();
    const visits = defineTopic('visits', { value: 'json' });
    const consumer = ottla.consumer({ group: 'g', topics: [/orders/, visits] });
    expectTypeOf(consumer).toEqualTypeOf<Consumer<string | typeof visits>>();
    const byPattern = ottla.consumer({ group: 'g', topics: [/orders/] });
    expectTypeOf(byPattern).toEqualTypeOf<Consumer<string>>();
    expect(consumer.assignment()).toEqual([]);
  });
});
