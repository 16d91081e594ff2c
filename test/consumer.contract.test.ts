import { describe, expect, it } from 'vitest';
import { defineTopic, type Consumer, type Ottla } from '../src/index.js';
import { committed, Loop, numbers, send, take, takeValues, valuesOf } from './consuming.js';
import { describeContract, failureOf } from './contract.js';

function consumerOf(ottla: Ottla, options: { maxPollRecords?: number } = {}): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], ...options });
}

describeContract('for await over a consumer', ({ open }) => {
  const withOrders = async (values: readonly string[], partitions = 1): Promise<Ottla> => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions });
    await send(ottla, 'orders', values);
    return ottla;
  };

  it('gives every field of a record', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { partitions: 3, key: 'string', value: 'json' });
    await ottla.topics.create(orders);
    await ottla.producer().send(orders, {
      key: 'k',
      value: { total: 9 },
      headers: { trace: 'x' },
      timestamp: 1234,
      partition: 2,
    });
    const [record] = await take(ottla.consumer({ group: 'g', topics: [orders] }), 1);
    expect(record).toMatchObject({
      topic: 'orders',
      partition: 2,
      offset: 0,
      timestamp: 1234,
      key: 'k',
      value: { total: 9 },
      headers: [['trace', Buffer.from('x')]],
    });
  });

  it('gives the records of a partition in order, then waits for more', async () => {
    const ottla = await withOrders(numbers(3));
    const records = consumerOf(ottla)[Symbol.asyncIterator]();
    for (const value of numbers(3)) expect(String((await records.next()).value?.value)).toBe(value);
    const fourth = records.next();
    await send(ottla, 'orders', ['3']);
    expect(String((await fourth).value?.value)).toBe('3');
  });

  it('marks a record when the next one is asked for, not before', async () => {
    const ottla = await withOrders(numbers(3));
    const consumer = consumerOf(ottla);
    const records = consumer[Symbol.asyncIterator]();
    await records.next();
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    await records.next();
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([1]);
  });

  it('begins after break with the record that was not marked', async () => {
    const ottla = await withOrders(numbers(4));
    const consumer = consumerOf(ottla);
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
    expect(await takeValues(consumer, 2)).toEqual(['1', '2']);
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  });

  it('begins after a throw with the record that was not marked', async () => {
    const ottla = await withOrders(numbers(3));
    const consumer = consumerOf(ottla);
    const run = async (): Promise<void> => {
      for await (const { value } of consumer) {
        if (String(value) === '1') throw new Error('a bad day');
      }
    };
    await expect(run()).rejects.toThrow('a bad day');
    expect(await takeValues(consumer, 2)).toEqual(['1', '2']);
  });

  it('does not give again what was committed before break', async () => {
    const ottla = await withOrders(numbers(3));
    const consumer = consumerOf(ottla);
    for await (const record of consumer) {
      if (record.offset < 1) continue;
      await record.commit();
      break;
    }
    expect(await takeValues(consumer, 1)).toEqual(['2']);
  });

  it('keeps the consumer and its partitions at break', async () => {
    const ottla = await withOrders(numbers(1));
    const consumer = consumerOf(ottla);
    await take(consumer, 1);
    expect(consumer.assignment()).toEqual([{ topic: 'orders', partition: 0 }]);
    const { members } = await ottla.groups.describe('g');
    expect(members).toHaveLength(1);
  });

  it('ends at close()', async () => {
    const ottla = await withOrders(numbers(2));
    const loop = new Loop(consumerOf(ottla));
    await ottla.idle();
    await loop.close();
    expect(loop.values).toEqual(['0', '1']);
  });

  it('gives nothing more after close(), though records were read ahead', async () => {
    const ottla = await withOrders(numbers(5));
    const seen: string[] = [];
    const consumer = consumerOf(ottla);
    for await (const { value } of consumer) {
      seen.push(String(value));
      if (seen.length === 2) await consumer.close();
    }
    expect(seen).toEqual(['0', '1']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([1]);
  });

  it('answers calls of next() that are not awaited one by one, in order', async () => {
    const ottla = await withOrders(numbers(3));
    const records = consumerOf(ottla)[Symbol.asyncIterator]();
    const calls = numbers(5).map(() => records.next());
    await send(ottla, 'orders', ['3', '4']);
    const results = await Promise.all(calls);
    expect(results.map(({ value }) => String(value?.value))).toEqual(numbers(5));
  });

  it('ends calls of next() that wait, at close()', async () => {
    const ottla = await withOrders([]);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    const records = consumer[Symbol.asyncIterator]();
    const calls = [records.next(), records.next()];
    await consumer.close();
    const end = { value: undefined, done: true };
    expect(await Promise.all(calls)).toEqual([end, end]);
    expect(await records.next()).toEqual(end);
  });

  it('loses no record to a call of next() that was waiting at return()', async () => {
    const ottla = await withOrders([]);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    const records = consumer[Symbol.asyncIterator]();
    const waiting = records.next();
    await records.return(undefined);
    await send(ottla, 'orders', ['0', '1']);
    expect(await waiting).toEqual({ value: undefined, done: true });
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
  });

  it('refuses a second iteration beside a live one, and takes it afterwards', async () => {
    const ottla = await withOrders(numbers(2));
    const consumer = consumerOf(ottla);
    const first = consumer[Symbol.asyncIterator]();
    await first.next();
    expect(() => consumer[Symbol.asyncIterator]()).toThrow(TypeError);
    expect(() => consumer.batches()).toThrow(TypeError);
    await first.return(undefined);
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
  });

  it('is over after return() and after throw()', async () => {
    const ottla = await withOrders(numbers(2));
    const consumer = consumerOf(ottla);
    const returned = consumer[Symbol.asyncIterator]();
    await returned.return(undefined);
    expect(await returned.next()).toEqual({ value: undefined, done: true });
    const thrown = consumer[Symbol.asyncIterator]();
    await expect(thrown.throw(new Error('mine'))).rejects.toThrow('mine');
    expect(await thrown.next()).toEqual({ value: undefined, done: true });
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
  });

  it('wakes for records that come in any microtask after it began to wait', async () => {
    const ottla = await withOrders([]);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    const producer = ottla.producer({ acks: 1 });
    const records = consumer[Symbol.asyncIterator]();
    for (let ticks = 0; ticks < 12; ticks++) {
      const waiting = records.next();
      for (let i = 0; i < ticks; i++) await Promise.resolve();
      await producer.sendBatch('orders', [{ value: String(ticks) }]);
      expect(String((await waiting).value?.value)).toBe(String(ticks));
    }
  });

  it('reads all of several topics', async () => {
    const ottla = await withOrders(['order']);
    await ottla.topics.create('bills', { partitions: 2 });
    await send(ottla, 'bills', ['bill'], 1);
    const consumer = ottla.consumer({ group: 'g', topics: ['orders', 'bills'] });
    const records = await take(consumer, 2);
    const seen = records.map(
      ({ topic, partition, value }) => `${topic}-${partition} ${String(value)}`,
    );
    expect(seen.toSorted()).toEqual(['bills-1 bill', 'orders-0 order']);
  });

  it('gives each group all records', async () => {
    const ottla = await withOrders(numbers(3));
    const one = ottla.consumer({ group: 'one', topics: ['orders'] });
    const two = ottla.consumer({ group: 'two', topics: ['orders'] });
    expect(await takeValues(one, 3)).toEqual(numbers(3));
    expect(await takeValues(two, 3)).toEqual(numbers(3));
    await one.commit();
    await two.commit([{ topic: 'orders', partition: 0, offset: 1 }]);
    expect(await committed(ottla, 'one', 'orders')).toEqual([2]);
    expect(await committed(ottla, 'two', 'orders')).toEqual([1]);
  });

  it('takes turns between partitions chunk by chunk, whatever more waits in the first', async () => {
    const ottla = await withOrders([], 3);
    const value = 'x'.repeat(100_000);
    for (const partition of [0, 1, 2]) {
      await send(
        ottla,
        'orders',
        Array.from({ length: 50 }, () => value),
        partition,
      );
    }
    const seen = (await take(consumerOf(ottla), 90)).map(({ partition }) => partition);
    // Of five megabytes each, in chunks of one.
    const counts = [0, 1, 2].map((partition) => seen.filter((each) => each === partition).length);
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(10);
  });

  it('takes turns between partitions, whatever waits in the first', async () => {
    const ottla = await withOrders([], 3);
    const big = 'x'.repeat(100_000);
    await send(
      ottla,
      'orders',
      Array.from({ length: 40 }, () => big),
    );
    await send(ottla, 'orders', ['one'], 1);
    await send(ottla, 'orders', ['two'], 2);
    const records = await take(consumerOf(ottla, { maxPollRecords: 1 }), 30);
    expect(new Set(records.map(({ partition }) => partition))).toEqual(new Set([0, 1, 2]));
  });

  describe('when a record cannot be decoded', () => {
    const bad = Buffer.from([0xff, 0xfe]);
    const strict = {
      encode: (value: Uint8Array): Uint8Array => value,
      decode: (bytes: Buffer): string => {
        if (bytes[0] === 0xff) throw new Error('not text');
        return bytes.toString();
      },
    };

    it('names the place, and seek() past it goes on', async () => {
      const ottla = await open();
      const orders = defineTopic('orders', { value: strict });
      await ottla.topics.create(orders);
      const values = [Buffer.from('0'), bad, Buffer.from('2')];
      await ottla.producer().sendBatch(
        orders,
        values.map((value) => ({ value })),
      );
      const consumer = ottla.consumer({ group: 'g', topics: [orders] });
      const seen: string[] = [];
      const run = async (): Promise<void> => {
        for await (const { value } of consumer) seen.push(value);
      };
      const error = await failureOf(run);
      expect(error).toMatchObject({ code: 'INVALID_RECORD' });
      expect(error.message).toMatch(/orders-0.*\b1\b/);
      expect(seen).toEqual(['0']);
      expect(consumer.position({ topic: 'orders', partition: 0 })).toBe(1);
      await consumer.seek({ topic: 'orders', partition: 0, offset: 2 });
      expect(valuesOf(await take(consumer, 1))).toEqual(['2']);
    });
  });
});

describeContract('batches() of a consumer', ({ open }) => {
  it('gives runs of one partition with their place', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await send(ottla, 'orders', numbers(3), 0);
    await send(ottla, 'orders', numbers(2, 3), 1);
    const batches = await take(consumerOf(ottla).batches(), 2);
    const seen = batches
      .toSorted((a, b) => a.partition - b.partition)
      .map(({ topic, partition, baseOffset, nextOffset, records }) => {
        return { topic, partition, baseOffset, nextOffset, values: valuesOf(records) };
      });
    expect(seen).toEqual([
      { topic: 'orders', partition: 0, baseOffset: 0, nextOffset: 3, values: ['0', '1', '2'] },
      { topic: 'orders', partition: 1, baseOffset: 0, nextOffset: 2, values: ['3', '4'] },
    ]);
    expect(batches.every((batch) => [...batch].length === batch.records.length)).toBe(true);
  });

  it('gives at most maxPollRecords, each record once', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await send(ottla, 'orders', numbers(10));
    const batches = await take(consumerOf(ottla, { maxPollRecords: 4 }).batches(), 3);
    expect(batches.map(({ records }) => records.length)).toEqual([4, 4, 2]);
    expect(batches.map(({ baseOffset }) => baseOffset)).toEqual([0, 4, 8]);
    expect(batches.flatMap(({ records }) => valuesOf(records))).toEqual(numbers(10));
  });

  it('marks a batch when the next one is asked for; break and throw do not', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await send(ottla, 'orders', numbers(6));
    const consumer = consumerOf(ottla, { maxPollRecords: 2 });
    await take(consumer.batches(), 2);
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    const run = async (): Promise<void> => {
      for await (const { baseOffset } of consumer.batches()) {
        if (baseOffset === 4) throw new Error('a bad day');
      }
    };
    await expect(run()).rejects.toThrow('a bad day');
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([4]);
  });

  it('gives after records the rest of their run, and after a batch the records behind it', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await send(ottla, 'orders', numbers(6));
    const consumer = consumerOf(ottla, { maxPollRecords: 4 });
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
    const [rest] = await take(consumer.batches(), 1);
    expect(valuesOf(rest!)).toEqual(['1', '2', '3']);
    expect(rest).toMatchObject({ baseOffset: 1, nextOffset: 4 });
    await rest!.commit();
    expect(await takeValues(consumer, 1)).toEqual(['4']);
  });

  it('commits a batch whole', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await send(ottla, 'orders', numbers(5));
    const [batch] = await take(consumerOf(ottla, { maxPollRecords: 3 }).batches(), 1);
    await batch!.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([3]);
  });
});
