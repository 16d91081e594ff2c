import { describe, expect, it } from 'vitest';
import {
  assignors,
  type Assignor,
  type Consumer,
  type ConsumerOptions,
  type Ottla,
} from '../src/index.js';
import { inOrder, owned, take } from './consuming.js';
import { describeContract, failureOf } from './contract.js';

type Options = Omit<ConsumerOptions, 'group' | 'topics'>;

function consumerOf(ottla: Ottla, options: Options = {}): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], ...options });
}

async function withOrders(open: () => Promise<Ottla>, partitions = 2): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions });
  return ottla;
}

describeContract('an assignor of your own', ({ open }) => {
  it('is asked with partitions, members, what they own and the generation', async () => {
    const ottla = await withOrders(open, 2);
    const inputs: Parameters<Assignor['assign']>[0][] = [];
    const asking: Assignor = {
      name: 'asking',
      assign: (input) => {
        inputs.push(input);
        return inOrder.assign(input);
      },
    };
    const one = consumerOf(ottla, { assignor: asking, clientId: 'one' });
    await one.ready();
    await consumerOf(ottla, { assignor: asking, clientId: 'two' }).ready();
    const [first, second] = inputs.map(({ partitions, members }) => ({
      partitions: { ...partitions },
      members: members.map(({ memberId, ...rest }) => ({ ...rest, who: memberId.slice(0, 3) })),
    }));
    const places = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    expect(first).toEqual({
      partitions: { orders: 2 },
      members: [{ who: 'one', topics: ['orders'], owned: [], generation: 0 }],
    });
    expect(second).toEqual({
      partitions: { orders: 2 },
      members: [
        { who: 'one', topics: ['orders'], owned: places, generation: 1 },
        { who: 'two', topics: ['orders'], owned: [], generation: 1 },
      ],
    });
    expect(owned(one)).toEqual(['orders-0']);
  });

  it('may leave partitions to nobody', async () => {
    const ottla = await withOrders(open, 3);
    const frugal: Assignor = {
      name: 'frugal',
      assign: ({ members }) =>
        new Map([[members[0]!.memberId, [{ topic: 'orders', partition: 1 }]]]),
    };
    const consumers = [
      consumerOf(ottla, { assignor: frugal }),
      consumerOf(ottla, { assignor: frugal }),
    ];
    await Promise.all(consumers.map((consumer) => consumer.ready()));
    expect(consumers.map(owned)).toEqual([['orders-1'], []]);
    expect(await ottla.groups.describe('g')).toMatchObject({ state: 'Stable' });
  });

  const place = { topic: 'orders', partition: 0 };
  describe.each<[string, (memberIds: readonly string[]) => unknown]>([
    [
      'throws',
      () => {
        throw new Error('no idea');
      },
    ],
    [
      'throws what is no Error',
      () => {
        throw 'no idea';
      },
    ],
    ['gives nothing', () => undefined],
    ['gives a promise', () => Promise.resolve(new Map())],
    ['gives no map', () => ({ a: [place] })],
    ['gives no list', ([a]) => new Map([[a, place]])],
    ['gives holes', ([a]) => new Map([[a, [null]]])],
    [
      'gives a partition twice',
      ([a, b]) =>
        new Map([
          [a, [place]],
          [b, [place]],
        ]),
    ],
    [
      'gives a partition that does not exist',
      ([a]) => new Map([[a, [{ ...place, partition: 2 }]]]),
    ],
    ['gives partition -1', ([a]) => new Map([[a, [{ ...place, partition: -1 }]]])],
    ['gives a partition by its text', ([a]) => new Map([[a, [{ ...place, partition: '0' }]]])],
    ['gives another topic', ([a]) => new Map([[a, [{ topic: 'bills', partition: 0 }]]])],
    ['gives to somebody else', () => new Map([['somebody', [place]]])],
  ])('that %s', (_what, nonsense) => {
    it('is told to every member, and leaves nobody waiting', async () => {
      const ottla = await withOrders(open, 2);
      await ottla.topics.create('bills');
      let isBroken = false;
      const assignor: Assignor = {
        name: 'mine',
        assign: (input) =>
          isBroken
            ? (nonsense(input.members.map(({ memberId }) => memberId)) as never)
            : inOrder.assign(input),
      };
      const [one, two] = [consumerOf(ottla, { assignor }), consumerOf(ottla, { assignor })];
      await one.ready();
      const waiting = failureOf(() => take(one, 1));
      isBroken = true;
      const failure = { code: 'INCONSISTENT_GROUP_PROTOCOL' };
      await expect(two.ready()).rejects.toMatchObject(failure);
      expect(await waiting).toMatchObject(failure);
      await expect(one.ready()).rejects.toMatchObject(failure);
      expect([owned(one), owned(two)]).toEqual([[], []]);
      await Promise.all([one.close(), two.close()]);
      isBroken = false;
      const three = consumerOf(ottla, { assignor });
      await three.ready();
      expect(owned(three)).toHaveLength(2);
    });
  });

  it('goes by its name: two objects of one name are the same', async () => {
    const ottla = await withOrders(open, 2);
    const one = consumerOf(ottla, { assignor: assignors.range });
    const two = consumerOf(ottla, { assignor: { ...assignors.range } });
    await Promise.all([one.ready(), two.ready()]);
    expect([...owned(one), ...owned(two)].toSorted()).toEqual(['orders-0', 'orders-1']);
  });
});
