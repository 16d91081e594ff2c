import { describe, expect, it } from 'vitest';
import {
  assignors,
  type Assignor,
  type Consumer,
  type ConsumerOptions,
  type Ottla,
} from '../src/index.js';
import { committed, Loop, numbers, owned, send, take, takeValues } from './consuming.js';
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

/** Gives partition i to member i, in the order of joining. */
const inOrder: Assignor = {
  name: 'in-order',
  assign: ({ partitions, members }) => {
    const places = Object.entries(partitions).flatMap(([topic, count]) =>
      Array.from({ length: count }, (_, partition) => ({ topic, partition })),
    );
    return new Map(
      members.map(({ memberId }, i) => [
        memberId,
        places.filter((_place, at) => at % members.length === i),
      ]),
    );
  },
};

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

describeContract('a rebalance', ({ open }) => {
  it('leaves alone what does not move, in flight or not', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(4), 0);
    const one = consumerOf(ottla, { assignor: inOrder });
    const records = one[Symbol.asyncIterator]();
    await records.next();
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    expect([owned(one), owned(two)]).toEqual([['orders-0'], ['orders-1']]);
    for (const value of ['1', '2', '3']) {
      expect(String((await records.next()).value?.value)).toBe(value);
    }
  });

  it('g39: commits what was processed before a partition moves; the next owner goes on there', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(20), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    await take(one, 11);
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 10]);
    expect(await takeValues(two, 1)).toEqual(['10']);
  });

  it('lets the record in flight be finished and committed before the partition moves', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    const records = one[Symbol.asyncIterator]();
    await records.next();
    await records.next();
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    expect(owned(two)).toEqual([]);
    const next = takeValues(two, 1);
    void records.next();
    expect(await next).toEqual(['2']);
    expect(owned(one)).toEqual(['orders-0']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 2]);
  });

  it('gives back what break left unmarked, without waiting for it', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    await take(one, 3);
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    expect(owned(two)).toEqual(['orders-1']);
    expect(await takeValues(two, 1)).toEqual(['2']);
  });

  it('takes a record in flight that break ends for unmarked', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    const two = consumerOf(ottla, { assignor: inOrder });
    for await (const { value } of one) {
      if (String(value) !== '1') continue;
      await two.ready();
      expect(owned(one)).toEqual(['orders-0']);
      break;
    }
    expect(await takeValues(two, 1)).toEqual(['1']);
  });

  it('with autoCommit false gives again what was processed and not committed', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const options = { assignor: inOrder, autoCommit: false };
    const one = consumerOf(ottla, options);
    const records = await take(one, 4);
    await records[1]!.commit();
    const two = consumerOf(ottla, options);
    expect(await takeValues(two, 1)).toEqual(['2']);
  });

  it('refuses commits of what has moved, writing nothing', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    const records = await take(one, 4);
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    const refused = { code: 'ILLEGAL_GENERATION', retriable: false };
    await expect(records[3]!.commit()).rejects.toMatchObject(refused);
    const p1 = { topic: 'orders', partition: 1 };
    await expect(one.commit([{ ...p1, offset: 4 }])).rejects.toMatchObject(refused);
    const both = [
      { topic: 'orders', partition: 0, offset: 0 },
      { ...p1, offset: 4 },
    ];
    await expect(one.commit(both)).rejects.toMatchObject(refused);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 3]);
  });

  it('refuses a commit of an earlier stretch of owning, though the partition came back', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    const records = await take(one, 4);
    const two = consumerOf(ottla, { assignor: inOrder });
    await two.ready();
    await two.close();
    await one.ready();
    expect(owned(one)).toEqual(['orders-0', 'orders-1']);
    await expect(records[3]!.commit()).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' });
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 3]);
    const [again] = await take(one, 1);
    expect(again!.offset).toBe(3);
    await again!.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 4]);
  });

  it('keeps the commit of a record whose partition did not move', async () => {
    const ottla = await withOrders(open, 2);
    await send(ottla, 'orders', numbers(5), 0);
    const one = consumerOf(ottla, { assignor: inOrder });
    const records = await take(one, 4);
    await consumerOf(ottla, { assignor: inOrder }).ready();
    await records[3]!.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([4, 0]);
  });

  it.each(['range', 'roundrobin', 'sticky', 'cooperative-sticky', inOrder] as const)(
    'under way gives every record to one member once: %s',
    async (assignor) => {
      const ottla = await withOrders(open, 5);
      await ottla.topics.create('bills', { partitions: 3 });
      const producer = ottla.producer({ acks: 1 });
      let sent = 0;
      const sendMore = async (): Promise<void> => {
        for (let i = 0; i < 40; i++) {
          const [topic, partition] = i < 25 ? ['orders', i % 5] : ['bills', i % 3];
          await producer.send(String(topic), {
            value: String(sent++),
            partition: Number(partition),
          });
        }
      };
      const options = { group: 'g', topics: ['orders', 'bills'], assignor };
      const loops = [new Loop(ottla.consumer(options))];
      await sendMore();
      await ottla.idle();
      for (let i = 0; i < 2; i++) {
        loops.push(new Loop(ottla.consumer(options)));
        await sendMore();
      }
      await Promise.all(loops.map(({ consumer }) => consumer.ready()));
      const all = loops.flatMap(({ consumer }) => owned(consumer));
      expect(new Set(all).size).toBe(8);
      expect(all).toHaveLength(8);
      await sendMore();
      await ottla.idle();
      await loops.shift()!.consumer.close();
      await sendMore();
      await ottla.idle();
      await Promise.all(loops.map((loop) => loop.close()));
      const { partitions } = await ottla.groups.describe('g');
      expect(partitions.reduce((sum, { committed: offset }) => sum + offset, 0)).toBe(sent);
    },
  );
});

describeContract('code of the user in a rebalance', ({ open }) => {
  const inLoop = async (
    ottla: Ottla,
    body: (one: Consumer, two: Consumer) => Promise<void>,
  ): Promise<[Consumer, Consumer]> => {
    await send(ottla, 'orders', numbers(2), 1);
    const one = consumerOf(ottla, { assignor: inOrder });
    const two = consumerOf(ottla, { assignor: inOrder });
    for await (const { value } of one) {
      if (String(value) === '0') await body(one, two);
      else break;
      if (owned(one).length === 1) break;
    }
    return [one, two];
  };

  it('may await ready() of the member that waits for its record', async () => {
    const ottla = await withOrders(open, 2);
    const [, two] = await inLoop(ottla, (_one, other) => other.ready());
    expect(await takeValues(two, 1)).toEqual(['0']);
  });

  it('may await its own ready() meanwhile', async () => {
    const ottla = await withOrders(open, 2);
    const [one] = await inLoop(ottla, async (mine, other) => {
      await other.ready();
      await mine.ready();
    });
    expect(owned(one)).toEqual(['orders-0']);
  });

  it('may await its own close()', async () => {
    const ottla = await withOrders(open, 2);
    const [, two] = await inLoop(ottla, async (mine, other) => {
      await other.ready();
      await mine.close();
    });
    await two.ready();
    expect(owned(two)).toEqual(['orders-0', 'orders-1']);
    expect(await takeValues(two, 1)).toEqual(['0']);
  });

  it("may await the other's close()", async () => {
    const ottla = await withOrders(open, 2);
    const [one] = await inLoop(ottla, async (mine, other) => {
      await other.ready();
      await other.close();
      await mine.ready();
    });
    expect(await takeValues(one, 2)).toEqual(['0', '1']);
  });

  it('may use what stays, and not what leaves', async () => {
    const ottla = await withOrders(open, 2);
    const [p0, p1] = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    await inLoop(ottla, async (one, two) => {
      await two.ready();
      expect(one.position(p0!)).toBe(0);
      one.pause([p0!]);
      one.resume([p0!]);
      await one.seekToBeginning();
      const refused = { code: 'ILLEGAL_GENERATION' };
      expect(await failureOf(() => one.position(p1!))).toMatchObject(refused);
      expect(await failureOf(() => one.seek({ ...p1!, offset: 0 }))).toMatchObject(refused);
      expect(await failureOf(() => one.pause([p1!]))).toMatchObject(refused);
      await one.commit([{ ...p1!, offset: 1 }]);
      expect(await committed(ottla, 'g', 'orders')).toEqual([0, 1]);
    });
  });
});

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
