import { expect, it } from 'vitest';
import { defineTopic, type RecordToSend } from '../src/index.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

describeContract('producers', ({ open }) => {
  it.each<[name: string, value: unknown, error: typeof TypeError, expected: string]>([
    ['acks', 2, RangeError, "acks must be 'all' or 1 or 0, got 2"],
    ['acks', '1', TypeError, "got '1'"],
    ['lingerMs', -1, RangeError, 'an integer from 0 to 2147483647, got -1'],
    ['lingerMs', 2 ** 31, RangeError, 'got 2147483648'],
    ['batchSize', 0, RangeError, 'an integer from 1 to 268435456, got 0'],
    ['bufferMemory', 0, RangeError, 'an integer >= 1, got 0'],
    ['maxBlockMs', 'long', TypeError, "got 'long'"],
    ['partitioner', 'random', TypeError, "'default' or 'roundrobin' or a function, got 'random'"],
    ['partitioner', null, TypeError, 'got null'],
    ['linger', 5, TypeError, "unknown option 'linger'; it takes acks, lingerMs"],
  ])('%s: %s is refused', async (name, value, kind, expected) => {
    const ottla = await open();
    const error = await failureOf(() => ottla.producer({ [name]: value }));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain('producer');
    expect(error.message).toContain(expected);
  });

  it('flush writes what lingers, and resolves when it is acknowledged', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const producer = ottla.producer({ lingerMs: 2 ** 31 - 1 });
    await producer.flush();
    const settled: number[] = [];
    for (let i = 0; i < 6; i++) {
      void producer
        .send('orders', { value: 'a', partition: i % 3 })
        .then(({ offset }) => settled.push(offset));
    }
    expect(await collect(ottla.read('orders'))).toEqual([]);
    await producer.flush();
    expect(settled.toSorted((a, b) => a - b)).toEqual([0, 0, 0, 1, 1, 1]);
    expect(await collect(ottla.read('orders'))).toHaveLength(6);
  });

  it('close flushes, may be called again, and then sends are refused', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer({ lingerMs: 2 ** 31 - 1 });
    const sent = producer.send('orders', { value: 'a' });
    await Promise.all([producer.close(), producer.close({ timeoutMs: 60_000 })]);
    expect(await sent).toMatchObject({ offset: 0 });
    await producer.close();
    const closed = { name: 'OttlaError', code: 'CLOSED' };
    await expect(producer.send('orders', { value: 'b' })).rejects.toMatchObject(closed);
    await expect(producer.sendBatch('orders', [])).rejects.toMatchObject(closed);
    await producer.flush();
    expect(await ottla.producer().send('orders', { value: 'c' })).toMatchObject({ offset: 1 });
  });

  it('a close in the middle of a sendBatch ends it, saying what was written', async () => {
    const ottla = await open();
    ottla.on('error', () => undefined);
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    let closed: Promise<void> | undefined;
    const source = function* (): Generator<RecordToSend> {
      for (let i = 0; i < 10_000; i++) {
        if (i === 5000) closed = producer.close();
        yield { value: 'a' };
      }
    };
    const error = await failureOf(() => producer.sendBatch('orders', source()));
    await closed;
    expect(error).toMatchObject({ code: 'CLOSED', written: [{ partition: 0, baseOffset: 0 }] });
    const { partitions } = await ottla.topics.describe('orders');
    const { written } = error as Error & { written: { count: number }[] };
    expect(partitions[0]?.highWatermark).toBe(written[0]?.count);
  });

  it('keeps the records of sendBatch calls within and beside each other apart', async () => {
    const ottla = await open();
    await ottla.topics.create('inner');
    await ottla.topics.create('outer');
    const producer = ottla.producer();
    const sent: Promise<unknown>[] = [];
    const values = (name: string): string[] => Array.from({ length: 5000 }, (_, i) => name + i);
    const encode = (value: string): string => {
      if (value.endsWith('77')) sent.push(producer.sendBatch('inner', [{ value, key: value }]));
      return value;
    };
    const outer = defineTopic('outer', { value: { encode, decode: String } });
    function* records(name: string): Generator<{ value: string }> {
      for (const value of values(name)) yield { value };
    }
    await Promise.all([
      producer.sendBatch(outer, [...records('a')]),
      producer.sendBatch(outer, records('b')),
      producer.sendBatch(outer, [...records('c')]),
    ]);
    await Promise.all(sent);
    const read = (await collect(ottla.read(outer))).map(({ value }) => value);
    for (const name of ['a', 'b', 'c']) {
      expect(read.filter((value) => value.startsWith(name))).toEqual(values(name));
    }
    const inner = await collect(ottla.read('inner'));
    const expected = read.filter((value) => value.endsWith('77'));
    expect(inner.length).toBe(expected.length);
    expect(new Set(inner.map(({ value }) => String(value)))).toEqual(new Set(expected));
    expect(inner.every(({ key, value }) => String(key) === String(value))).toBe(true);
  });

  it('is closed by await using', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    {
      await using producer = ottla.producer({ acks: 0, lingerMs: 2 ** 31 - 1 });
      void producer.send('orders', { value: 'a' });
    }
    expect(await collect(ottla.read('orders'))).toHaveLength(1);
  });

  it('closing the Ottla flushes them all, and then sends are refused', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer({ lingerMs: 2 ** 31 - 1 });
    const sent = [1, 2, 3].map(() => producer.send('orders', { value: 'a' }));
    await Promise.all([ottla.close(), ottla.close({ timeoutMs: 60_000 })]);
    expect((await Promise.all(sent)).map(({ offset }) => offset)).toEqual([0, 1, 2]);
    const closed = { name: 'OttlaError', code: 'CLOSED' };
    await expect(producer.send('orders', { value: 'b' })).rejects.toMatchObject(closed);
    await expect(producer.sendBatch('orders', [{ value: 'b' }])).rejects.toMatchObject(closed);
    expect(() => ottla.producer()).toThrow(expect.objectContaining(closed));
    await producer.flush();
    await producer.close();
    await ottla.close();
  });
});

describeDirectory('producers after a restart', ({ open, reopen }) => {
  it('go on behind what was sent before', async () => {
    const before = await open();
    await before.topics.create('orders', { partitions: 2 });
    const producer = before.producer({ acks: 0, lingerMs: 2 ** 31 - 1 });
    for (let i = 0; i < 10; i++) {
      void producer.send('orders', { key: `k${i}`, value: String(i), partition: i % 2 });
    }
    const after = await reopen(before);
    expect(after.recovery).toEqual([]);
    const sent = await after.producer().send('orders', { value: '10', partition: 1 });
    expect(sent.offset).toBe(5);
    const read = await collect(after.read('orders', { partitions: [1] }));
    expect(read.map(({ value }) => String(value))).toEqual(['1', '3', '5', '7', '9', '10']);
  });
});
