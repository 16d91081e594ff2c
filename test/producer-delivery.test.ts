import { beforeEach, describe, expect, it } from 'vitest';
import type { OttlaError, ProducerOptions, RecordToSend } from '../src/index.js';
import { LocalEngine } from '../src/local.js';
import type { TopicSettings } from '../src/options.js';
import { Producer } from '../src/producer.js';
import type { Broker } from '../src/broker.js';
import { fileError } from '../src/storage/file-system.js';
import { failureOf } from './contract.js';
import { createTopic, Machine, partitionOf, valuesIn } from './machine.js';
import { WatchedFiles } from './watched-files.js';

/** Producers over logs of which those in `/t-N` sync, or write, as told. */
class Bench {
  readonly machine: Machine = new Machine();
  readonly errors: OttlaError[] = [];
  engine!: LocalEngine;
  broker!: Broker;
  /** Directories whose syncs wait. */
  readonly hanging: Set<string> = new Set();
  /** Directories whose writes fail. */
  readonly failing: Set<string> = new Set();
  #held: (() => void)[] = [];

  async open(partitions = 1, settings: Partial<TopicSettings> = {}): Promise<this> {
    this.machine.files = new WatchedFiles(this.machine.files, ({ name, path }) => {
      if (!path.endsWith('.log')) return undefined;
      const directory = path.slice(0, path.lastIndexOf('/'));
      if (name === 'write' && this.failing.has(directory)) throw fileError('ENOSPC', 'write', path);
      if (name !== 'sync' || !this.hanging.has(directory)) return undefined;
      return new Promise<void>((resolve) => this.#held.push(resolve));
    });
    this.broker = await this.machine.open();
    await createTopic(this.broker, settings, partitions);
    this.engine = new LocalEngine(this.broker, {
      error: (error) => this.errors.push(error),
      warning: () => undefined,
    });
    return this;
  }

  producer(options: ProducerOptions = {}): Producer {
    return new Producer(this.engine, this.machine.clock, () => 0.3, options, {
      error: (error) => this.errors.push(error),
      closed: () => undefined,
    });
  }

  letGo(): void {
    this.hanging.clear();
    for (const resolve of this.#held.splice(0)) resolve();
  }

  recordsIn(partition: number): number {
    return partitionOf(this.broker, partition).logEndOffset;
  }
}

let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});

describe('deliveryTimeoutMs', () => {
  it('fails what is written and not durable by then, and says where it is', async () => {
    await bench.open();
    bench.hanging.add('/t-0');
    const { clock } = bench.machine;
    const producer = bench.producer({ deliveryTimeoutMs: 500 });
    const sent = failureOf(() => producer.send('t', { value: 'a' }));
    const batch = failureOf(() => producer.sendBatch('t', [{ value: 'b' }, { value: 'c' }]));
    await clock.advance(499);
    expect(bench.errors).toEqual([]);
    await clock.advance(1);
    expect(await sent).toMatchObject({
      code: 'REQUEST_TIMED_OUT',
      retriable: true,
      message:
        't-0: not acknowledged within 500 ms (deliveryTimeoutMs); written at offset 0, not known to be durable',
    });
    expect(await batch).toMatchObject({
      code: 'REQUEST_TIMED_OUT',
      written: [{ partition: 0, baseOffset: 1, count: 2 }],
    });
    expect(bench.errors).toHaveLength(2);
    await producer.flush();
    bench.letGo();
    // What was late is in the log, and what comes after is not held up.
    expect(await producer.send('t', { value: 'd' })).toMatchObject({ offset: 3 });
    expect(bench.errors).toHaveLength(2);
    expect(clock.timerCount).toBe(0);
  });

  it('takes back what waits for a roll, and all behind it: nothing overtakes a retry', async () => {
    await bench.open(1, { segmentBytes: 1024 });
    const { clock } = bench.machine;
    const producer = bench.producer({ acks: 1, deliveryTimeoutMs: 500 });
    await producer.send('t', { value: 'x'.repeat(900) });
    bench.hanging.add('/t-0');
    const hurried = failureOf(() => producer.send('t', { value: 'y'.repeat(200) }));
    await clock.settle();
    const patient = bench.producer({ acks: 1 });
    const behind = failureOf(() => patient.send('t', { value: 'behind' }));
    await clock.settle();
    const lingering = bench.producer({ acks: 1, lingerMs: 10_000 });
    const open = failureOf(() => lingering.send('t', { value: 'open' }));
    const order: unknown[] = [];
    for (const failed of [open, behind, hurried]) void failed.then((error) => order.push(error));
    await clock.advance(500);
    expect(order).toEqual([await hurried, await behind, await open]);
    expect(await hurried).toMatchObject({
      code: 'REQUEST_TIMED_OUT',
      message: expect.stringContaining('nothing was written') as string,
    });
    const overtaken = { code: 'KAFKA_STORAGE_ERROR', retriable: true };
    expect(await behind).toMatchObject(overtaken);
    expect(await open).toMatchObject(overtaken);
    bench.letGo();
    await clock.settle();
    expect(bench.recordsIn(0)).toBe(1);
    for (const value of ['y', 'behind', 'open']) await patient.send('t', { value });
    expect((await valuesIn(partitionOf(bench.broker))).slice(1)).toEqual(['y', 'behind', 'open']);
  });

  it('begins when a record is taken over, not when it is written', async () => {
    await bench.open();
    bench.hanging.add('/t-0');
    const { clock } = bench.machine;
    const producer = bench.producer({ lingerMs: 400, deliveryTimeoutMs: 500 });
    const sent = failureOf(() => producer.send('t', { value: 'a' }));
    await clock.advance(400);
    expect(bench.recordsIn(0)).toBe(1);
    await clock.advance(99);
    expect(bench.errors).toEqual([]);
    await clock.advance(1);
    expect(await sent).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
  });

  it('is each producer’s own, and leaves the order of their calls', async () => {
    await bench.open();
    bench.hanging.add('/t-0');
    const { clock } = bench.machine;
    const [hurried, patient] = [
      bench.producer({ deliveryTimeoutMs: 100 }),
      bench.producer({ deliveryTimeoutMs: 1000 }),
    ];
    const late = failureOf(() => hurried.send('t', { value: '0' }));
    const sent = patient.send('t', { value: '1' });
    await clock.advance(500);
    expect(await late).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
    expect(await sent).toMatchObject({ offset: 1 });
    expect(await valuesIn(partitionOf(bench.broker))).toEqual(['0', '1']);
  });

  it('is at least lingerMs: 120 s, or as long as that, if it is not given', async () => {
    await bench.open();
    const given = { lingerMs: 500, deliveryTimeoutMs: 499 };
    expect(() => bench.producer(given)).toThrow(
      new RangeError('producer: deliveryTimeoutMs must be at least lingerMs, 500, got 499'),
    );
    const { clock } = bench.machine;
    const sent = bench.producer({ lingerMs: 200_000 }).send('t', { value: 'a' });
    await clock.advance(200_000);
    expect(await sent).toMatchObject({ offset: 0 });
    bench.hanging.add('/t-0');
    const late = failureOf(() => bench.producer().send('t', { value: 'a' }));
    await clock.advance(119_999);
    expect(bench.errors).toEqual([]);
    await clock.advance(1);
    expect(await late).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
  });
});

describe('a partition whose syncs hang', () => {
  it('holds up no other', async () => {
    await bench.open(3);
    bench.hanging.add('/t-1');
    const producer = bench.producer();
    const stuck = failureOf(() => producer.send('t', { value: 'x', partition: 1 }));
    for (let i = 0; i < 20; i += 2) {
      const sent = [0, 2].map((partition) => producer.send('t', { value: 'x', partition }));
      expect(await Promise.all(sent)).toMatchObject([{ offset: i }, { offset: i }]);
      const batch = [0, 2].map((partition) => ({ value: 'y', partition }));
      expect(await producer.sendBatch('t', batch)).toEqual(
        [0, 2].map((partition) => ({ partition, baseOffset: i + 1, count: 1 })),
      );
    }
    await bench.machine.clock.advance(120_000);
    expect(await stuck).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
  });

  it('gets fewer of the records without a key, the longer its queue is', async () => {
    await bench.open(2);
    bench.hanging.add('/t-0');
    let state = 7;
    const random = (): number => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_648;
    const producer = new Producer(
      bench.engine,
      bench.machine.clock,
      random,
      { batchSize: 200 },
      {
        error: (error) => bench.errors.push(error),
        closed: () => undefined,
      },
    );
    const sent: Promise<unknown>[] = [];
    for (let i = 0; i < 600; i++) {
      sent.push(producer.send('t', { value: 'x'.repeat(60) }));
      if (i % 4 === 0) await bench.machine.clock.settle();
    }
    await bench.machine.clock.settle();
    expect(bench.recordsIn(0)).toBeGreaterThan(0);
    expect(bench.recordsIn(1)).toBeGreaterThan(bench.recordsIn(0) * 3);
    bench.letGo();
    await Promise.all(sent);
  });
});

describe('flush', () => {
  it('waits for what was sent before it, not for what comes after', async () => {
    await bench.open(2);
    bench.hanging.add('/t-1');
    const producer = bench.producer({ lingerMs: 1000 });
    const before = producer.send('t', { value: 'x', partition: 0 });
    const flushed = producer.flush();
    const after = producer.send('t', { value: 'x', partition: 1 });
    await flushed;
    await before;
    const [one, two] = [producer.flush(), producer.flush()];
    const done: string[] = [];
    void one.then(() => done.push('one'));
    void two.then(() => done.push('two'));
    await bench.machine.clock.settle();
    expect(done).toEqual([]);
    bench.letGo();
    await Promise.all([after, one, two]);
    await producer.flush();
  });

  it('waits for sends that wait for room, and for none that come later', async () => {
    await bench.open();
    bench.hanging.add('/t-0');
    const producer = bench.producer({ bufferMemory: 400 });
    const sends = [1, 2, 3].map(() => producer.send('t', { value: 'x'.repeat(250) }));
    const done: string[] = [];
    const flushed = producer.flush().then(() => done.push('flush'));
    expect(producer.metrics().waitingSendCount).toBe(2);
    await bench.machine.clock.settle();
    expect(done).toEqual([]);
    bench.letGo();
    await flushed;
    expect(bench.recordsIn(0)).toBe(3);
    await Promise.all(sends);
  });

  it.each(['flush', 'close'] as const)('and close: %s ends its wait by a signal', async (name) => {
    await bench.open();
    bench.hanging.add('/t-0');
    const producer = bench.producer();
    const sent = producer.send('t', { value: 'x' });
    const controller = new AbortController();
    const aborted = failureOf(() => producer[name]({ signal: controller.signal }));
    const reason = new Error('enough');
    controller.abort(reason);
    expect(await aborted).toMatchObject({
      code: 'ABORTED',
      message: `${name} of the producer was aborted`,
      cause: reason,
    });
    bench.letGo();
    expect(await sent).toMatchObject({ offset: 0 });
    await producer.close();
  });
});

describe('sendBatch', () => {
  it('of a source that pauses ends by a signal, and says what is in the log', async () => {
    await bench.open();
    const controller = new AbortController();
    const source = async function* (): AsyncGenerator<RecordToSend> {
      yield { value: 'a' };
      yield { value: 'b' };
      await new Promise(() => undefined);
    };
    const { signal } = controller;
    const failed = failureOf(() => bench.producer().sendBatch('t', source(), { signal }));
    await bench.machine.clock.settle();
    controller.abort();
    expect(await failed).toMatchObject({
      code: 'ABORTED',
      written: [{ partition: 0, baseOffset: 0, count: 2 }],
    });
  });

  it('that fails on one partition of twelve says exactly what is in the log', async () => {
    await bench.open(12);
    const producer = bench.producer();
    await producer.send('t', { value: 'before', partition: 7 });
    bench.failing.add('/t-7');
    const records = Array.from({ length: 600 }, (_, i) => ({ value: `${i}`, partition: i % 12 }));
    const error = await failureOf(() => producer.sendBatch('t', records));
    expect(error).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: true });
    const { written } = error as OttlaError;
    const others = Array.from({ length: 12 }, (_, partition) => partition).filter((p) => p !== 7);
    expect(written!.toSorted((a, b) => a.partition - b.partition)).toEqual(
      others.map((partition) => ({ partition, baseOffset: 0, count: 50 })),
    );
    for (const partition of others) {
      const expected = records.filter((record) => record.partition === partition);
      expect(await valuesIn(partitionOf(bench.broker, partition))).toEqual(
        expected.map(({ value }) => value),
      );
    }
    expect(await valuesIn(partitionOf(bench.broker, 7))).toEqual(['before']);
    bench.failing.clear();
    expect(await producer.send('t', { value: 'after', partition: 7 })).toMatchObject({ offset: 1 });
  });

  it('takes over no more than the buffer holds, and goes on as it empties', async () => {
    await bench.open();
    bench.hanging.add('/t-0');
    const producer = bench.producer({ bufferMemory: 100_000 });
    const records = Array.from({ length: 100 }, () => ({ value: Buffer.alloc(9000) }));
    const sent = producer.sendBatch('t', records);
    await bench.machine.clock.settle();
    expect(producer.metrics().bufferUsedBytes).toBeGreaterThan(50_000);
    expect(producer.metrics().bufferUsedBytes).toBeLessThan(120_000);
    bench.letGo();
    expect(await sent).toEqual([{ partition: 0, baseOffset: 0, count: 100 }]);
    expect(producer.metrics()).toMatchObject({ bufferUsedBytes: 0, bufferTotalBytes: 100_000 });
  });
});

describe('a record larger than bufferMemory', () => {
  const tooLarge = {
    code: 'MESSAGE_TOO_LARGE',
    retriable: false,
    message: expect.stringContaining("at most 1000, the producer's bufferMemory") as string,
  };

  it('is refused at once, in an open batch, too', async () => {
    await bench.open();
    const producer = bench.producer({ bufferMemory: 1000, lingerMs: 10 });
    const sent = producer.send('t', { value: 'small' });
    await expect(producer.send('t', { value: 'x'.repeat(1000) })).rejects.toMatchObject(tooLarge);
    await expect(
      producer.sendBatch('t', [{ value: 'a' }, { value: Buffer.alloc(1000) }]),
    ).rejects.toMatchObject({ ...tooLarge, written: [] });
    await producer.flush();
    expect(await sent).toMatchObject({ offset: 0 });
    expect(bench.recordsIn(0)).toBe(1);
  });
});

describe('the sticky choice', () => {
  it('goes by each producer’s own batch size', async () => {
    await bench.open(50);
    const small = bench.producer({ batchSize: 100, acks: 1 });
    const large = bench.producer({ batchSize: 100_000, acks: 1 });
    const partitionsOf = async (producer: Producer): Promise<number> => {
      let state = 3;
      const seen = new Set<number>();
      for (let i = 0; i < 100; i++) {
        state = (state * 16_807) % 2_147_483_647;
        seen.add((await producer.send('t', { value: 'x'.repeat(100) })).partition);
      }
      return seen.size;
    };
    // Both draw the same number again and again: what tells them apart is whose record it is.
    await partitionsOf(small);
    expect(await partitionsOf(large)).toBe(1);
  });
});
