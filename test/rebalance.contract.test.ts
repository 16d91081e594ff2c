import { expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla } from '../src/index.js';
import { committed, inOrder, Loop, numbers, owned, send, take, takeValues } from './consuming.js';
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
          const topic = i < 25 ? 'orders' : 'bills';
          const partition = i % (topic === 'orders' ? 5 : 3);
          await producer.send(topic, {
            value: String(sent++),
            partition,
          });
        }
      };
      const options = { group: 'g', topics: ['orders', 'bills'], assignor };
      const loops = [new Loop(ottla.consumer(options))];
      const everyLoop = [...loops];
      await sendMore();
      await ottla.idle();
      for (let i = 0; i < 2; i++) {
        const loop = new Loop(ottla.consumer(options));
        loops.push(loop);
        everyLoop.push(loop);
        await sendMore();
      }
      await Promise.all(loops.map(({ consumer }) => consumer.ready()));
      const all = loops.flatMap(({ consumer }) => owned(consumer));
      expect(new Set(all).size).toBe(8);
      expect(all).toHaveLength(8);
      await sendMore();
      await ottla.idle();
      await loops.shift()!.close();
      await sendMore();
      await ottla.idle();
      await Promise.all(loops.map((loop) => loop.close()));
      const seen = everyLoop.flatMap(({ values }) => values);
      expect(seen.toSorted()).toEqual(numbers(sent).toSorted());
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
