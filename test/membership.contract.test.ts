import { expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla } from '../src/index.js';
import { numbers, owned, send, take } from './consuming.js';
import { describeContract, describeDirectory } from './contract.js';

type Options = Omit<ConsumerOptions, 'group' | 'topics'>;

function consumerOf(ottla: Ottla, options: Options = {}): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], ...options });
}

async function withOrders(open: () => Promise<Ottla>, partitions = 2): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions });
  return ottla;
}

describeContract('membership', ({ open }) => {
  it('makes one generation of all joins of one turn', async () => {
    const ottla = await withOrders(open, 4);
    const consumers = [consumerOf(ottla), consumerOf(ottla), consumerOf(ottla)];
    await Promise.all(consumers.map((consumer) => consumer.ready()));
    expect(await ottla.groups.describe('g')).toMatchObject({ state: 'Stable', generation: 1 });
    expect(consumers.flatMap(owned).toSorted()).toEqual(numbers(4).map((i) => `orders-${i}`));
  });

  it('shares the partitions anew when a member joins and when one closes', async () => {
    const ottla = await withOrders(open, 4);
    const one = consumerOf(ottla);
    await one.ready();
    expect(owned(one)).toHaveLength(4);
    const two = consumerOf(ottla);
    await two.ready();
    expect(owned(one)).toHaveLength(2);
    expect([...owned(one), ...owned(two)].toSorted()).toEqual(numbers(4).map((i) => `orders-${i}`));
    expect((await ottla.groups.describe('g')).generation).toBe(2);
    await one.close();
    await two.ready();
    expect(owned(two)).toHaveLength(4);
    expect((await ottla.groups.describe('g')).generation).toBe(3);
  });

  it('g18: leaves at once and once; the rest goes on alone', async () => {
    const ottla = await withOrders(open);
    const [a, b] = [consumerOf(ottla), consumerOf(ottla)];
    await Promise.all([a.ready(), b.ready()]);
    await a.close();
    expect((await ottla.groups.describe('g')).members).toHaveLength(1);
    await a.close();
    await b.ready();
    expect(await ottla.groups.describe('g')).toMatchObject({ state: 'Stable', generation: 2 });
    expect(owned(b)).toEqual(['orders-0', 'orders-1']);
  });

  it('keeps members beyond the number of partitions as spares, which take over', async () => {
    const ottla = await withOrders(open, 1);
    const one = consumerOf(ottla);
    await one.ready();
    const spare = consumerOf(ottla);
    await spare.ready();
    const [idle, busy] = owned(one).length === 0 ? [one, spare] : [spare, one];
    expect([owned(idle), owned(busy)]).toEqual([[], ['orders-0']]);
    const waiting = take(idle, 1);
    await send(ottla, 'orders', ['0']);
    await busy.close();
    expect(String((await waiting)[0]?.value)).toBe('0');
  });

  it('forgets a group of which no member is left, and counts its generations on', async () => {
    const ottla = await withOrders(open);
    const first = consumerOf(ottla, { assignor: 'range' });
    await first.ready();
    await first.close();
    await consumerOf(ottla, { assignor: 'sticky' }).ready();
    const { generation, assignor } = await ottla.groups.describe('g');
    expect(assignor).toBe('sticky');
    expect(generation).toBeGreaterThan(1);
  });

  it('does not disturb a group when another one, or a topic that it does not read, changes', async () => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await ottla.topics.create('bills');
    await ottla.consumer({ group: 'other', topics: ['orders', 'bills'] }).ready();
    await ottla.topics.addPartitions('bills', 3);
    await ottla.topics.delete('bills');
    await consumer.ready();
    expect((await ottla.groups.describe('g')).generation).toBe(1);
  });

  it('gives a member only partitions of topics it asked for', async () => {
    const ottla = await withOrders(open, 2);
    await ottla.topics.create('bills', { partitions: 2 });
    const one = consumerOf(ottla, { assignor: 'roundrobin' });
    const two = ottla.consumer({ group: 'g', topics: ['bills'], assignor: 'roundrobin' });
    await Promise.all([one.ready(), two.ready()]);
    expect(owned(one)).toEqual(['orders-0', 'orders-1']);
    expect(owned(two)).toEqual(['bills-0', 'bills-1']);
    await two.close();
    await one.ready();
    expect(owned(one)).toEqual(['orders-0', 'orders-1']);
  });
});

describeDirectory('members with a client id each', ({ open, reopen }) => {
  it.each(['range', 'roundrobin', 'sticky', 'cooperative-sticky'] as const)(
    'have the same partitions after a restart, whoever comes first: %s',
    async (assignor) => {
      let ottla = await withOrders(open, 7);
      const shares = async (clientIds: readonly string[]): Promise<unknown> => {
        const consumers = clientIds.map((clientId) => consumerOf(ottla, { assignor, clientId }));
        await Promise.all(consumers.map((consumer) => consumer.ready()));
        return Object.fromEntries(clientIds.map((id, i) => [id, owned(consumers[i]!)]));
      };
      const before = await shares(['a', 'b', 'c']);
      ottla = await reopen(ottla);
      expect(await shares(['c', 'a', 'b'])).toEqual(before);
    },
  );
});
