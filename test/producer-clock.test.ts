import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Ottla, type MemoryOptions, type RecordToSend } from '../src/index.js';
import { closedAfterEach, collect } from './contract.js';
import { ManualClock } from './manual-clock.js';

const opened = closedAfterEach();

/** An Ottla with a topic of one partition, and the clock that it goes by. */
async function withOrders(): Promise<{ ottla: Ottla; clock: ManualClock }> {
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock }));
  await ottla.topics.create('orders');
  return { ottla, clock };
}

async function stateOf(ottla: Ottla): Promise<{ records: number; bytes: number }> {
  const [partition] = (await ottla.topics.describe('orders')).partitions;
  return { records: partition!.highWatermark, bytes: partition!.bytes };
}

async function recordsIn(ottla: Ottla): Promise<number> {
  return (await stateOf(ottla)).records;
}

/** What a seed decides: the id of a topic, and where records without a key go. */
async function choicesOf(seed: number): Promise<unknown> {
  const ottla = opened(Ottla.memory({ seed, clock: new ManualClock() }));
  await ottla.topics.create('orders', { partitions: 50 });
  const producer = ottla.producer();
  const record = { value: Buffer.alloc(1000), timestamp: 0 };
  const sent = await Promise.all(
    Array.from({ length: 200 }, () => producer.send('orders', record)),
  );
  return [(await ottla.topics.describe('orders')).id, sent];
}

/** Bytes of a batch before its first record. */
const overhead = 61;

describe('lingerMs', () => {
  it('0 gathers what one turn of the event loop sends', async () => {
    const { ottla, clock } = await withOrders();
    const producer = ottla.producer();
    const sent = [1, 2, 3].map(() => producer.send('orders', { value: 'v' }));
    expect(await recordsIn(ottla)).toBe(0);
    await clock.settle();
    const { records, bytes } = await stateOf(ottla);
    expect(records).toBe(3);
    expect(bytes).toBeLessThan(2 * overhead);
    expect((await Promise.all(sent)).map(({ offset }) => offset)).toEqual([0, 1, 2]);
  });

  it('holds a batch back that long from its first record on', async () => {
    const { ottla, clock } = await withOrders();
    const producer = ottla.producer({ lingerMs: 10 });
    const first = producer.send('orders', { value: 'v' });
    await clock.advance(6);
    const second = producer.send('orders', { value: 'v' });
    await clock.advance(3);
    expect(await recordsIn(ottla)).toBe(0);
    await clock.advance(1);
    expect(await recordsIn(ottla)).toBe(2);
    expect(await Promise.all([first, second])).toMatchObject([{ offset: 0 }, { offset: 1 }]);
    expect(clock.timerCount).toBe(0);
  });

  it('is of each partition by itself', async () => {
    const { ottla, clock } = await withOrders();
    await ottla.topics.addPartitions('orders', 2);
    const producer = ottla.producer({ lingerMs: 10 });
    const sent = [producer.send('orders', { value: 'v', partition: 0 })];
    await clock.advance(5);
    sent.push(producer.send('orders', { value: 'v', partition: 1 }));
    await clock.advance(5);
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions.map(({ highWatermark }) => highWatermark)).toEqual([1, 0]);
    await clock.advance(5);
    await Promise.all(sent);
  });

  it('ends early when the batch is full, flushed, overtaken by a sendBatch, or closed', async () => {
    const { ottla, clock } = await withOrders();
    const producer = ottla.producer({ lingerMs: 1000, batchSize: 500 });
    const send = (size: number): Promise<unknown> =>
      producer.send('orders', { value: 'v'.repeat(size) });
    const sent = [send(200), send(200)];
    expect(await recordsIn(ottla)).toBe(0);
    sent.push(send(200));
    expect(await recordsIn(ottla)).toBe(2);
    await producer.flush();
    expect(await recordsIn(ottla)).toBe(3);
    sent.push(send(200));
    await producer.sendBatch('orders', [{ value: 'v' }]);
    expect(await recordsIn(ottla)).toBe(5);
    sent.push(send(200));
    await producer.close();
    expect(await recordsIn(ottla)).toBe(6);
    await Promise.all(sent);
    expect(clock.timerCount).toBe(0);
  });
});

describe('batchSize', () => {
  it('is what a batch may take, header included', async () => {
    const { ottla } = await withOrders();
    const producer = ottla.producer({ batchSize: 500, lingerMs: 1000 });
    const record = { value: 'v'.repeat(91) };
    // 61 and 100 for each.
    const sent = [1, 2, 3, 4].map(() => producer.send('orders', record));
    expect(await stateOf(ottla)).toEqual({ records: 0, bytes: 0 });
    sent.push(producer.send('orders', record));
    expect(await stateOf(ottla)).toEqual({ records: 4, bytes: 461 });
    await producer.flush();
    await Promise.all(sent);
    expect(await stateOf(ottla)).toEqual({ records: 5, bytes: 461 + 161 });
  });

  it('is passed by a record that is larger, in a batch of its own', async () => {
    const { ottla } = await withOrders();
    const producer = ottla.producer({ batchSize: 100, lingerMs: 1000 });
    const sizes = [10, 5000, 10, 5000, 5000, 10];
    const sent = sizes.map((size) => producer.send('orders', { value: 'v'.repeat(size) }));
    await producer.flush();
    expect(await Promise.all(sent)).toMatchObject(sizes.map((_, offset) => ({ offset })));
    const read = await collect(ottla.read('orders'));
    expect(read.map(({ value }) => value?.length)).toEqual(sizes);
    expect((await stateOf(ottla)).bytes).toBeGreaterThan(15_030 + 6 * overhead);
  });

  it('of 1 writes each record by itself', async () => {
    const { ottla } = await withOrders();
    const producer = ottla.producer({ batchSize: 1 });
    await Promise.all([1, 2, 3].map(() => producer.send('orders', { value: 'v' })));
    expect(await stateOf(ottla)).toEqual({ records: 3, bytes: 3 * (overhead + 8) });
  });
});

describe('the clock', () => {
  it('gives records their time', async () => {
    const { ottla, clock } = await withOrders();
    await ottla.topics.alter('orders', { messageTimestampType: 'CreateTime' });
    const producer = ottla.producer({ lingerMs: 100 });
    const start = clock.now();
    const sent = [producer.send('orders', { value: 'v' })];
    await clock.advance(50);
    sent.push(producer.send('orders', { value: 'v' }));
    await clock.advance(50);
    await Promise.all(sent);
    const read = await collect(ottla.read('orders'));
    expect(read.map(({ timestamp }) => timestamp - start)).toEqual([0, 50]);
  });

  it('gives them the time of the append where the topic says so', async () => {
    const { ottla, clock } = await withOrders();
    await ottla.topics.alter('orders', { messageTimestampType: 'LogAppendTime' });
    const producer = ottla.producer({ lingerMs: 100 });
    const start = clock.now();
    const sent = producer.send('orders', { value: 'v', timestamp: 7 });
    await clock.advance(100);
    expect((await sent).timestamp).toBe(start + 100);
    expect(await collect(ottla.read('orders'))).toMatchObject([{ timestamp: start + 100 }]);
  });

  it.each<[what: string, options: object, expected: RegExp, error: typeof TypeError]>([
    ['null', { clock: null }, /clock must be a Clock, got null/, TypeError],
    ['half a clock', { clock: { now: Date.now } }, /clock must be a Clock/, TypeError],
    ['a seed that is text', { seed: '1' }, /seed must be an integer.+got '1'/, TypeError],
    ['a fraction for a seed', { seed: 0.5 }, /got 0.5/, RangeError],
    [
      'what is no option',
      { clocks: 1 },
      /unknown option 'clocks'; it takes clock, seed/,
      TypeError,
    ],
  ])('%s is refused', (_, options, expected, kind) => {
    expect(() => Ottla.memory(options as MemoryOptions)).toThrow(kind);
    expect(() => Ottla.memory(options as MemoryOptions)).toThrow(expected);
  });

  it('is not asked for ids or choices: a seed gives the same ones again', async () => {
    const first = await choicesOf(7);
    expect(await choicesOf(7)).toEqual(first);
    expect(await choicesOf(8)).not.toEqual(first);
  });
});

describe('turns of the event loop', () => {
  const count = 40_000;

  it.each([
    ['sendBatch of an iterable', false],
    ['sendBatch of an async iterable', true],
  ])('%s leaves some to others', async (_, isAsync) => {
    let ms = 0;
    const clock = Object.assign(new ManualClock(), { monotonic: () => ms });
    const ottla = opened(Ottla.memory({ clock }));
    await ottla.topics.create('orders');
    let given = 0;
    const records = function* (): Generator<RecordToSend> {
      for (; given < count; given++) {
        ms += 0.01;
        yield { value: 'v' };
      }
    };
    const asyncRecords = async function* (): AsyncGenerator<RecordToSend> {
      yield* records();
    };
    const seen: number[] = [];
    const watch = async (): Promise<void> => {
      do {
        await turn();
        seen.push(given);
      } while (seen.at(-1) !== count);
    };
    const source = isAsync ? asyncRecords() : records();
    await Promise.all([ottla.producer({ acks: 1 }).sendBatch('orders', source), watch()]);
    expect(seen.filter((value) => value < count).length).toBeGreaterThan(4);
  });
});

describe('reading', () => {
  /** Every look at it takes longer than a turn may: as after a pause of the whole process. */
  class HurriedClock extends ManualClock {
    #looks = 0;

    override monotonic(): number {
      this.#looks++;
      return this.#looks * 100;
    }
  }

  it('misses nothing however long the process pauses', async () => {
    const ottla = opened(Ottla.memory({ clock: new HurriedClock() }));
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer();
    const values = Array.from({ length: 5000 }, (_, i) => String(i));
    await producer.sendBatch(
      'orders',
      values.map((value, i) => ({ value, partition: i % 2 })),
    );
    const read = await collect(ottla.read('orders'));
    const seen = read.map(({ value }) => Number(String(value))).toSorted((a, b) => a - b);
    expect(seen.map(String)).toEqual(values);
  });
});
