import { expect, it } from 'vitest';
import { defineTopic, type Ottla, type ReadOptions } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

/** Sends ten records to each of three partitions: value and timestamp tell partition and offset. */
async function fill(ottla: Ottla): Promise<void> {
  await ottla.topics.create('orders', { partitions: 3 });
  const producer = ottla.producer({ acks: 1 });
  for (let offset = 0; offset < 10; offset++) {
    await producer.sendBatch(
      'orders',
      [0, 1, 2].map((partition) => ({
        value: `${partition}-${offset}`,
        timestamp: 1000 + 10 * offset + partition,
        partition,
      })),
    );
  }
  await producer.close();
}

/** What is read of each partition, which must come in the order of its offsets. */
async function read(ottla: Ottla, options?: ReadOptions): Promise<number[][]> {
  const offsets: number[][] = [[], [], []];
  for (const record of await collect(ottla.read('orders', options))) {
    expect(String(record.value)).toBe(`${record.partition}-${record.offset}`);
    offsets[record.partition]!.push(record.offset);
  }
  return offsets;
}

function range(from: number, to = 10): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

async function sendOne(ottla: Ottla, value: string, partition = 0): Promise<void> {
  const producer = ottla.producer({ acks: 1 });
  await producer.send('orders', { value, partition });
  await producer.close();
}

describeContract('read', ({ open }) => {
  it.each<[what: string, options: ReadOptions | undefined, expected: number[][]]>([
    ['everything, unless told otherwise', undefined, [range(0), range(0), range(0)]],
    ['from earliest', { from: 'earliest' }, [range(0), range(0), range(0)]],
    ['from latest: nothing', { from: 'latest' }, [[], [], []]],
    ['from a time on', { from: new Date(1051) }, [range(6), range(5), range(5)]],
    ['from a time before all', { from: new Date(0) }, [range(0), range(0), range(0)]],
    ['from a time after all', { from: new Date(2 ** 41) }, [[], [], []]],
    ['from offsets', { from: { 0: 4, 1: 9, 2: 0 } }, [range(4), [9], range(0)]],
    ['from an offset, others from the beginning', { from: { 1: 8 } }, [range(0), [8, 9], range(0)]],
    ['from the end on', { from: { 0: 10, 1: 10, 2: 9 } }, [[], [], [9]]],
    ['of some partitions', { partitions: [2, 0] }, [range(0), [], range(0)]],
    ['of a partition named twice', { partitions: [1, 1] }, [[], range(0), []]],
    ['of a partition from an offset', { partitions: [1], from: { 1: 7 } }, [[], range(7), []]],
    ['until the end', { until: 'end' }, [range(0), range(0), range(0)]],
    [
      'with options that are undefined',
      { from: undefined!, partitions: undefined! },
      [range(0), range(0), range(0)],
    ],
  ])('reads %s', async (_, options, expected) => {
    const ottla = await open();
    await fill(ottla);
    expect(await read(ottla, options)).toEqual(expected);
  });

  it('reads an empty topic to its end at once', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    expect(await read(ottla)).toEqual([[], [], []]);
    expect(await collect(ottla.read('orders').batches())).toEqual([]);
    await sendOne(ottla, '1-0', 1);
    expect(await read(ottla)).toEqual([[], [0], []]);
  });

  it('begins anew with each iteration', async () => {
    const ottla = await open();
    await fill(ottla);
    const reading = ottla.read('orders', { partitions: [0] });
    expect(await collect(reading)).toHaveLength(10);
    await sendOne(ottla, '0-10');
    const [one, other] = await Promise.all([collect(reading), collect(reading)]);
    expect([one.length, other.length]).toEqual([11, 11]);
  });

  it('does not include what is appended after its beginning', async () => {
    const ottla = await open();
    await fill(ottla);
    const seen: string[] = [];
    for await (const { value } of ottla.read('orders')) {
      seen.push(String(value));
      if (seen.length < 20) await sendOne(ottla, 'later', seen.length % 3);
    }
    expect(seen).toHaveLength(30);
    expect(seen).not.toContain('later');
  });

  it('ends each partition where it ended, whatever has come behind', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { partitions: 3, value: 'json' });
    await ottla.topics.create(orders);
    const producer = ottla.producer({ acks: 1 });
    for (const partition of [0, 1, 2]) {
      await producer.sendBatch(
        orders,
        range(0).map((value) => ({ value, partition })),
      );
    }
    const ends: number[] = [];
    for await (const { partition, nextOffset, records } of ottla.read(orders).batches()) {
      ends.push(nextOffset);
      expect(records).toHaveLength(10);
      if (ends.length > 1) continue;
      const undecodable = range(0, 3).map((at) => ({ value: '{', partition: at }));
      await producer.sendBatch('orders', undecodable);
      await producer.send('orders', { value: '1', partition });
    }
    expect(ends).toEqual([10, 10, 10]);
  });

  it('gives runs of one partition as batches', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await ottla.producer().sendBatch(
      'orders',
      Array.from({ length: 2400 }, (_, i) => ({ value: String(i), partition: i % 2 })),
    );
    const next = [100, 0];
    const batches = await collect(ottla.read('orders', { from: { 0: 100 } }).batches());
    for (const batch of batches) {
      const { topic, partition, baseOffset, nextOffset, records } = batch;
      expect({ topic, baseOffset }).toEqual({ topic: 'orders', baseOffset: next[partition] });
      expect(records.length).toBeGreaterThan(0);
      expect(records.length).toBeLessThanOrEqual(500);
      expect([...batch]).toEqual(records);
      expect(records.map(({ offset }) => offset)).toEqual(range(baseOffset, nextOffset));
      expect(records.every((record) => record.partition === partition)).toBe(true);
      next[partition] = nextOffset;
    }
    expect(next).toEqual([1200, 1200]);
  });

  it('has no commits to offer', async () => {
    const ottla = await open();
    await fill(ottla);
    const [record] = await collect(ottla.read('orders'));
    expect(() => record!.commit()).toThrow(TypeError);
    const [batch] = await collect(ottla.read('orders').batches());
    expect(() => batch!.commit()).toThrow(TypeError);
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('may be broken off and begun again, as often as one likes', async () => {
    const ottla = await open();
    await fill(ottla);
    for (let i = 0; i < 50; i++) {
      for await (const record of ottla.read('orders', { until: 'never', from: { 0: i % 10 } })) {
        if (record.partition === 2) break;
      }
    }
    const thrown = new Error('enough');
    const throwing = async (): Promise<void> => {
      for await (const _ of ottla.read('orders')) throw thrown;
    };
    await expect(throwing()).rejects.toBe(thrown);
    await ottla.close();
  });

  it.each<[what: string, options: object, expected: RegExp]>([
    ['what is no option', { form: 'earliest' }, /unknown option 'form'; it takes from, until/],
    ['from nowhere', { from: 'none' }, /from must be.+got 'none'/],
    ['from a time that is none', { from: new Date(NaN) }, /from must be.+Invalid Date/],
    ['from a number', { from: 5 }, /from must be.+got 5/],
    ['from a negative offset', { from: { 0: -1 } }, /from must be.+-1/],
    ['from half an offset', { from: { 0: 0.5 } }, /from must be/],
    ['from an offset of no partition', { from: { a: 1 } }, /from must be/],
    ['until a word', { until: 'now' }, /until must be 'end' or 'never', got 'now'/],
    ['no partitions', { partitions: [] }, /partitions must be.+got \[\]/],
    ['a partition that is none', { partitions: [-1] }, /partitions must be.+-1/],
    ['a signal that is none', { signal: {} }, /signal must be an AbortSignal, got \{\}/],
    ['a list of options', [], /object of options/],
  ])('%s is refused', async (_, options, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    expect(() => ottla.read('orders', options)).toThrow(expected);
  });

  it.each<[what: string, options: ReadOptions, error: object]>([
    [
      'an offset behind the end',
      { from: { 1: 11 } },
      {
        code: 'OFFSET_OUT_OF_RANGE',
        message: expect.stringMatching(/orders-1.+0 to 10, got 11/),
      },
    ],
    [
      'the same without an end',
      { from: { 1: 11 }, until: 'never' },
      { code: 'OFFSET_OUT_OF_RANGE' },
    ],
    [
      'a partition that is not there',
      { partitions: [0, 3] },
      { code: 'UNKNOWN_TOPIC_OR_PARTITION', message: expect.stringMatching(/0 to 2, got 3/) },
    ],
    [
      'an offset of a partition that is not there',
      { from: { 7: 0 } },
      { code: 'UNKNOWN_TOPIC_OR_PARTITION', message: expect.stringMatching(/0 to 2, got 7/) },
    ],
  ])('%s fails the reading', async (_, options, expected) => {
    const ottla = await open();
    await fill(ottla);
    const error = await failureOf(() => collect(ottla.read('orders', options)));
    expect(error).toMatchObject({ name: 'OttlaError', retriable: false, ...expected });
  });

  it('is refused after close', async () => {
    const ottla = await open();
    await fill(ottla);
    const reading = ottla.read('orders');
    await ottla.close();
    await expect(collect(reading)).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => ottla.read('orders')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });
});

describeContract('read until never', ({ open }) => {
  it('goes on with what comes, from all partitions', async () => {
    const ottla = await open();
    await fill(ottla);
    const reading = ottla.read('orders', { from: 'latest', until: 'never' }).batches();
    for (const partition of [2, 0, 1]) {
      const next = reading.next();
      await ottla.topics.describe('orders');
      await sendOne(ottla, `for ${partition}`, partition);
      expect((await next).value).toMatchObject({ partition, baseOffset: 10, nextOffset: 11 });
    }
    await reading.return(undefined);
  });

  it('ends when its signal aborts while it waits', async () => {
    const ottla = await open();
    await fill(ottla);
    const controller = new AbortController();
    const { signal } = controller;
    const seen: string[] = [];
    for await (const { value } of ottla.read('orders', { until: 'never', signal })) {
      seen.push(String(value));
      if (seen.length === 30) setImmediate(() => controller.abort());
    }
    expect(seen).toHaveLength(30);
  });

  it('ends when its signal aborts between two records', async () => {
    const ottla = await open();
    await fill(ottla);
    for (const until of ['end', 'never'] as const) {
      for (const what of ['records', 'batches'] as const) {
        const controller = new AbortController();
        const reading = ottla.read('orders', { until, signal: controller.signal });
        const seen: unknown[] = [];
        for await (const item of what === 'batches' ? reading.batches() : reading) {
          seen.push(item);
          controller.abort();
        }
        expect(seen).toHaveLength(1);
      }
    }
  });

  it('does not begin if its signal has aborted', async () => {
    const ottla = await open();
    await fill(ottla);
    const signal = AbortSignal.abort();
    expect(await collect(ottla.read('orders', { until: 'never', signal }))).toEqual([]);
  });

  it('ends when the Ottla is closed, as a consumer does', async () => {
    const ottla = await open();
    await fill(ottla);
    let seen = 0;
    for await (const _ of ottla.read('orders', { until: 'never' })) {
      seen++;
      if (seen === 30) void ottla.close();
    }
    expect(seen).toBe(30);
  });

  it.each(['orders', 'others'])(
    'fails when its topic is deleted, though %s is created',
    async (name) => {
      const ottla = await open();
      await fill(ottla);
      const seen: string[] = [];
      const failing = failureOf(async () => {
        for await (const { value } of ottla.read('orders', { until: 'never' })) {
          seen.push(String(value));
          if (seen.length < 30) continue;
          await ottla.topics.delete('orders');
          await ottla.topics.create(name);
          await ottla.producer().send(name, { value: 'new' });
        }
      });
      expect(await failing).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
      expect(seen).toHaveLength(30);
    },
  );

  it('keeps many who wait apart', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const readings = Array.from({ length: 20 }, async (_, i) => {
      const partitions = [i % 3];
      for await (const { value } of ottla.read('orders', { until: 'never', partitions })) {
        return String(value);
      }
      return undefined;
    });
    for (const partition of [2, 0, 1]) await sendOne(ottla, `for ${partition}`, partition);
    expect(await Promise.all(readings)).toEqual(readings.map((_, i) => `for ${i % 3}`));
  });

  it.each(['records', 'batches'] as const)('ends a wait with return() (%s)', async (kind) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const reading = ottla.read('orders', { until: 'never' });
    const iterator = kind === 'records' ? reading[Symbol.asyncIterator]() : reading.batches();
    const waiting = iterator.next();
    expect(await iterator.return(undefined)).toEqual({ value: undefined, done: true });
    expect(await waiting).toEqual({ value: undefined, done: true });
    expect((await iterator.next()).done).toBe(true);
  });
});
