import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla, TopicPartition } from '../src/index.js';
import { committed, inOrder, numbers, owned, send, take, takeValues } from './consuming.js';
import { describeContract } from './contract.js';

const p0 = { topic: 'orders', partition: 0 };
const p1 = { topic: 'orders', partition: 1 };

function consumerOf(
  ottla: Ottla,
  options: Omit<ConsumerOptions, 'group' | 'topics'> = {},
): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], assignor: inOrder, ...options });
}

async function withOrders(open: () => Promise<Ottla>): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions: 2 });
  for (const partition of [0, 1]) await send(ottla, 'orders', numbers(5), partition);
  return ottla;
}

function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open!: () => void;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open };
}

describeContract('onAssigned', ({ open }) => {
  it('is awaited before ready() resolves and before a record is handed out', async () => {
    const ottla = await withOrders(open);
    const { passed, open: letPass } = gate();
    const told: (readonly TopicPartition[])[] = [];
    const consumer = consumerOf(ottla, {
      onAssigned: async (partitions) => {
        told.push(partitions);
        await passed;
      },
    });
    const seen: string[] = [];
    const ready = consumer.ready().then(() => seen.push('ready'));
    const first = takeValues(consumer, 1).then(() => seen.push('record'));
    while (told.length === 0) await turn();
    expect(seen).toEqual([]);
    letPass();
    await Promise.all([ready, first]);
    expect(seen.toSorted()).toEqual(['ready', 'record']);
    expect(told).toEqual([[p0, p1]]);
  });

  it('may seek to where another store says the reading was', async () => {
    const ottla = await withOrders(open);
    const elsewhere = new Map([
      [0, 3],
      [1, 4],
    ]);
    const consumer = consumerOf(ottla, {
      autoCommit: false,
      onAssigned: async (partitions) => {
        for (const at of partitions) {
          await consumer.seek({ ...at, offset: elsewhere.get(at.partition)! });
        }
      },
    });
    const seen = await take(consumer, 3);
    const places = seen.map(({ partition, offset }) => `${partition}: ${offset}`);
    expect(places.toSorted()).toEqual(['0: 3', '0: 4', '1: 4']);
  });

  it('is told only what is new', async () => {
    const ottla = await withOrders(open);
    const told: (readonly TopicPartition[])[] = [];
    const one = consumerOf(ottla, { onAssigned: (partitions) => void told.push(partitions) });
    await one.ready();
    const two = consumerOf(ottla);
    await two.ready();
    await two.close();
    await one.ready();
    expect(told).toEqual([[p0, p1], [p1]]);
  });
});

describeContract('onRevoked', ({ open }) => {
  it('is awaited before the partition moves; what is processed is committed then', async () => {
    const ottla = await withOrders(open);
    const { passed, open: letPass } = gate();
    const told: unknown[] = [];
    const one = consumerOf(ottla, {
      onRevoked: async (partitions) => {
        told.push(partitions, await committed(ottla, 'g', 'orders'));
        await passed;
      },
    });
    await take(one, 8);
    const two = consumerOf(ottla);
    await two.ready();
    while (told.length === 0) await turn();
    expect([owned(one), owned(two)]).toEqual([['orders-0'], []]);
    letPass();
    expect(await takeValues(two, 1)).toEqual(['2']);
    expect(told).toEqual([[p1], [expect.any(Number), 2]]);
  });

  it('may commit for the last time', async () => {
    const ottla = await withOrders(open);
    const one = consumerOf(ottla, {
      autoCommit: false,
      onRevoked: (partitions) => one.commit(partitions.map((at) => ({ ...at, offset: 4 }))),
    });
    await one.ready();
    const two = consumerOf(ottla);
    expect(await takeValues(two, 1)).toEqual(['4']);
    await one.close();
    expect(await committed(ottla, 'g', 'orders')).toEqual([4, 4]);
    await expect(one.commit()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('is called at close(), with all that is owned', async () => {
    const ottla = await withOrders(open);
    const told: (readonly TopicPartition[])[] = [];
    const consumer = consumerOf(ottla, { onRevoked: (partitions) => void told.push(partitions) });
    await consumer.ready();
    await consumer.close();
    expect(told).toEqual([[p0, p1]]);
  });

  it('is not called for a consumer that never joined', async () => {
    const ottla = await withOrders(open);
    const told: unknown[] = [];
    const consumer = consumerOf(ottla, { onRevoked: (partitions) => void told.push(partitions) });
    await consumer.close();
    expect(told).toEqual([]);
  });
});

describeContract('a hook', ({ open }) => {
  it('of a loss is told what was lost', async () => {
    const ottla = await withOrders(open);
    const told: unknown[] = [];
    const consumer = consumerOf(ottla, {
      onLost: (partitions) => void told.push(['lost', partitions]),
      onRevoked: (partitions) => void told.push(['revoked', partitions]),
    });
    await consumer.ready();
    await ottla.topics.delete('orders');
    expect(told).toEqual([['lost', [p0, p1]]]);
  });

  it('is called after the one before has ended', async () => {
    const ottla = await withOrders(open);
    const { passed, open: letPass } = gate();
    const told: string[] = [];
    const hook = (name: string) => async () => {
      told.push(`${name} begins`);
      await passed;
      told.push(`${name} ends`);
    };
    const one = consumerOf(ottla, { onAssigned: hook('assigned'), onRevoked: hook('revoked') });
    const ready = one.ready();
    while (told.length === 0) await turn();
    const two = consumerOf(ottla);
    await two.ready();
    for (let i = 0; i < 10; i++) await turn();
    expect(told).toEqual(['assigned begins']);
    letPass();
    await ready;
    while (told.length < 4) await turn();
    expect(told).toEqual(['assigned begins', 'assigned ends', 'revoked begins', 'revoked ends']);
  });

  it('may seek in what moves on meanwhile', async () => {
    const ottla = await withOrders(open);
    const { passed, open: letPass } = gate();
    const errors: Error[] = [];
    ottla.on('error', (error) => errors.push(error));
    const told: unknown[] = [];
    const one = consumerOf(ottla, {
      onAssigned: async (partitions) => {
        told.push(partitions);
        await passed;
        for (const at of partitions.toReversed()) await one.seek({ ...at, offset: 3 });
      },
    });
    const first = takeValues(one, 1);
    while (told.length === 0) await turn();
    const two = consumerOf(ottla);
    await two.ready();
    letPass();
    expect([await first, await takeValues(two, 1), errors]).toEqual([['3'], ['3'], []]);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no luck');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no luck'))],
  ])('that %s is reported, and the rebalance goes on', async (_what, hook) => {
    const ottla = await withOrders(open);
    const errors: Error[] = [];
    ottla.on('error', (error) => errors.push(error));
    const one = consumerOf(ottla, { onAssigned: hook, onRevoked: hook, onLost: hook });
    await one.ready();
    const two = consumerOf(ottla);
    expect(await takeValues(two, 1)).toEqual(['0']);
    await ottla.topics.delete('orders');
    await one.close();
    expect(errors).toHaveLength(3);
    for (const error of errors) {
      expect(error).toMatchObject({ code: 'UNKNOWN_SERVER_ERROR', cause: new Error('no luck') });
    }
  });
});
