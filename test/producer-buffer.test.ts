import { beforeEach, describe, expect, it } from 'vitest';
import type { OttlaError, ProducerOptions, RecordMetadata, RecordToSend } from '../src/index.js';
import { LocalEngine } from '../src/local.js';
import { Producer } from '../src/producer.js';
import type { TopicSettings } from '../src/options.js';
import { fileError } from '../src/storage/file-system.js';
import { failureOf } from './contract.js';
import { createTopic, Machine, valuesIn } from './machine.js';
import type { Partition } from '../src/partition.js';
import { WatchedFiles } from './watched-files.js';

/** A producer over a log whose syncs wait for letGo(), and whose writes fail on demand. */
class Bench {
  readonly machine: Machine = new Machine();
  readonly errors: OttlaError[] = [];
  engine!: LocalEngine;
  partition!: Partition;
  /** How many of the coming writes to a log fail, as on a full disk. */
  failingWrites = 0;
  #held: (() => void)[] | null = [];

  async open(settings: Partial<TopicSettings> = {}): Promise<this> {
    this.machine.files = new WatchedFiles(this.machine.files, ({ name, path }) => {
      if (!path.endsWith('.log')) return undefined;
      if (name === 'write' && this.failingWrites > 0) {
        this.failingWrites--;
        throw fileError('ENOSPC', 'write', path);
      }
      if (name !== 'sync' || this.#held === null) return undefined;
      const held = this.#held;
      return new Promise<void>((resolve) => held.push(resolve));
    });
    const broker = await this.machine.open();
    this.partition = await createTopic(broker, settings);
    this.engine = new LocalEngine(broker, {
      error: (error) => this.errors.push(error),
      warning: () => undefined,
    });
    return this;
  }

  producer(options: ProducerOptions): Producer {
    return new Producer(this.engine, this.machine.clock, () => 0, options, {
      error: (error) => this.errors.push(error),
      closed: () => undefined,
    });
  }

  /** Lets the syncs that wait, and all later ones, go on. */
  letGo(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const resolve of held) resolve();
  }

  get records(): number {
    return this.partition.logEndOffset;
  }
}

let bench: Bench;
beforeEach(async () => {
  bench = await new Bench().open();
});

/** Sends one record of about this size. */
function sendBytes(
  producer: Producer,
  size: number,
  signal?: AbortSignal,
): Promise<RecordMetadata> {
  return producer.send('t', { value: 'v'.repeat(size) }, signal === undefined ? {} : { signal });
}

describe('a full buffer', () => {
  it('makes sends wait, in order, until there is room', async () => {
    const producer = bench.producer({ bufferMemory: 1000 });
    const values = Array.from({ length: 30 }, (_, i) => String(i).padStart(100, '.'));
    const sent = values.map((value) => producer.send('t', { value }));
    await bench.machine.clock.settle();
    expect(bench.records).toBe(9);
    bench.letGo();
    const offsets = (await Promise.all(sent)).map(({ offset }) => offset);
    expect(offsets).toEqual(values.map((_, i) => i));
    expect(await valuesIn(bench.partition)).toEqual(values);
    expect(bench.errors).toEqual([]);
  });

  it('keeps the record as it was when it was sent', async () => {
    const producer = bench.producer({ bufferMemory: 200 });
    const value = Buffer.alloc(101);
    const header = Buffer.from('0');
    const sent = [0, 1, 2].map((i) => {
      value.write(String(i));
      header.write(String(i));
      return producer.send('t', { value, headers: { h: header } });
    });
    value.write('x');
    bench.letGo();
    await Promise.all(sent);
    const values = await valuesIn(bench.partition);
    expect(values.map((text) => text[0])).toEqual(['0', '1', '2']);
  });

  it('is each producer\u2019s own', async () => {
    const [full, other] = [bench.producer({ bufferMemory: 200 }), bench.producer({ acks: 1 })];
    const sent = [sendBytes(full, 110), sendBytes(full, 110)];
    expect(await sendBytes(other, 10)).toMatchObject({ offset: 1 });
    bench.letGo();
    expect(await Promise.all(sent)).toMatchObject([{ offset: 0 }, { offset: 2 }]);
  });

  it('fails a send with REQUEST_TIMED_OUT after maxBlockMs', async () => {
    const { clock } = bench.machine;
    const producer = bench.producer({ bufferMemory: 300, maxBlockMs: 500 });
    const first = sendBytes(producer, 200);
    const late = failureOf(() => sendBytes(producer, 160));
    await clock.advance(100);
    const later = failureOf(() => sendBytes(producer, 160));
    await clock.advance(399);
    expect(bench.errors).toEqual([]);
    await clock.advance(1);
    const timedOut = {
      code: 'REQUEST_TIMED_OUT',
      retriable: true,
      message: expect.stringContaining('500 ms (maxBlockMs)'),
    };
    expect(await late).toMatchObject(timedOut);
    expect(bench.errors).toEqual([await late]);
    await clock.advance(100);
    expect(await later).toMatchObject(timedOut);
    bench.letGo();
    expect(await first).toMatchObject({ offset: 0 });
    expect(await sendBytes(producer, 160)).toMatchObject({ offset: 1 });
  });

  it('fails a send at once where maxBlockMs is 0', async () => {
    const producer = bench.producer({ bufferMemory: 300, maxBlockMs: 0 });
    const first = sendBytes(producer, 200);
    await expect(sendBytes(producer, 160)).rejects.toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
    await first;
  });

  it('lets go of a send whose signal aborts, and of no other', async () => {
    const producer = bench.producer({ bufferMemory: 300 });
    const controller = new AbortController();
    const first = sendBytes(producer, 200, controller.signal);
    const second = sendBytes(producer, 160);
    const aborted = failureOf(() => sendBytes(producer, 170, controller.signal));
    const third = sendBytes(producer, 180);
    const reason = new Error('no more');
    controller.abort(reason);
    expect(await aborted).toMatchObject({ code: 'ABORTED', cause: reason });
    const atOnce = await failureOf(() => sendBytes(producer, 190, controller.signal));
    expect(atOnce).toMatchObject({ code: 'ABORTED', cause: reason });
    bench.letGo();
    expect(await Promise.all([first, second, third])).toMatchObject(
      [0, 1, 2].map((offset) => ({ offset })),
    );
    const values = await valuesIn(bench.partition);
    expect(values.map(({ length }) => length)).toEqual([200, 160, 180]);
    expect(await sendBytes(producer, 200, controller.signal)).toMatchObject({ offset: 3 });
    expect(bench.errors).toEqual([]);
  });

  it('makes a sendBatch wait behind the sends before it', async () => {
    const producer = bench.producer({ bufferMemory: 300 });
    const sends = [sendBytes(producer, 200), sendBytes(producer, 160)];
    const batch = producer.sendBatch('t', [{ value: 'b' }, { value: 'c' }]);
    bench.letGo();
    await Promise.all(sends);
    expect(await batch).toEqual([{ partition: 0, baseOffset: 2, count: 2 }]);
  });

  it('lets go of a sendBatch that waits behind sends when its signal aborts', async () => {
    const producer = bench.producer({ bufferMemory: 200 });
    const sent = [sendBytes(producer, 110), sendBytes(producer, 110)];
    const controller = new AbortController();
    const batch = producer.sendBatch('t', [{ value: 'b' }], { signal: controller.signal });
    await bench.machine.clock.settle();
    controller.abort();
    expect(await failureOf(() => batch)).toMatchObject({ code: 'ABORTED', written: [] });
    bench.letGo();
    await Promise.all(sent);
    expect(bench.records).toBe(2);
  });

  it.each([
    ['maxBlockMs', 'REQUEST_TIMED_OUT'],
    ['its signal', 'ABORTED'],
  ])('ends a sendBatch by %s: it says what was written', async (how, code) => {
    const { clock } = bench.machine;
    const producer = bench.producer({ bufferMemory: 300, maxBlockMs: 500, acks: 'all' });
    const controller = new AbortController();
    const records = Array.from({ length: 5000 }, (_, i): RecordToSend => ({ value: String(i) }));
    const { signal } = controller;
    const failed = failureOf(() => producer.sendBatch('t', records, { signal }));
    await clock.settle();
    const end = { maxBlockMs: () => clock.advance(500), 'its signal': () => controller.abort() };
    await end[how as keyof typeof end]();
    await clock.settle();
    bench.letGo();
    expect(await failed).toMatchObject({
      code,
      written: [{ partition: 0, baseOffset: 0, count: bench.records }],
    });
    expect(bench.records).toBeGreaterThan(10);
    expect(bench.records).toBeLessThan(1000);
  });

  it('holds up flush and close until all is acknowledged', async () => {
    const producer = bench.producer({ bufferMemory: 300, lingerMs: 1000 });
    const done: string[] = [];
    const sent = [1, 2, 3].map((i) => sendBytes(producer, 200).then(() => done.push(`send ${i}`)));
    const flushed = producer.flush().then(() => done.push('flush'));
    const closed = producer.close().then(() => done.push('close'));
    await expect(producer.send('t', { value: '' })).rejects.toMatchObject({ code: 'CLOSED' });
    await bench.machine.clock.settle();
    expect(done).toEqual([]);
    bench.letGo();
    await Promise.all([...sent, flushed, closed]);
    expect(done).toEqual(['send 1', 'send 2', 'send 3', 'flush', 'close']);
  });

  it('gives close a deadline, and goes on all the same', async () => {
    const { clock } = bench.machine;
    const producer = bench.producer({ lingerMs: 1000 });
    const sent = sendBytes(producer, 160);
    const closing = failureOf(() => producer.close({ timeoutMs: 50 }));
    await clock.advance(50);
    expect(await closing).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
    bench.letGo();
    await producer.close();
    expect(await sent).toMatchObject({ offset: 0 });
  });
});

describe('a write that fails', () => {
  const full = { code: 'KAFKA_STORAGE_ERROR', retriable: true };

  it('fails its batch, tells of it once, and what comes later is written', async () => {
    bench.letGo();
    const producer = bench.producer({});
    bench.failingWrites = 1;
    const sent = await Promise.allSettled([1, 2, 3].map((i) => sendBytes(producer, i)));
    expect(sent).toMatchObject(sent.map(() => ({ status: 'rejected', reason: full })));
    expect(bench.errors).toMatchObject([full]);
    expect(await sendBytes(producer, 154)).toMatchObject({ offset: 0 });
    expect(bench.errors).toHaveLength(1);
  });

  it('is told of, not thrown at the process, if nobody awaits', async () => {
    bench.letGo();
    bench.failingWrites = 2;
    void sendBytes(bench.producer({ acks: 0 }), 1);
    await bench.machine.clock.settle();
    void sendBytes(bench.producer({}), 1);
    await bench.machine.clock.settle();
    expect(bench.errors).toMatchObject([full, full]);
  });

  it('lets nothing of the same sendBatch overtake it', async () => {
    bench.letGo();
    const value = 'v'.repeat(1000);
    const records = Array.from({ length: 4000 }, (): RecordToSend => ({ value }));
    bench.failingWrites = 1;
    const error = await failureOf(() => bench.producer({}).sendBatch('t', records));
    expect(error).toMatchObject({ ...full, written: [] });
    expect(bench.records).toBe(0);
  });

  it('leaves what was written before, and says so', async () => {
    bench.letGo();
    const value = 'v'.repeat(1000);
    let given = 0;
    const records = function* (): Generator<RecordToSend> {
      for (; given < 20_000; given++) {
        if (given === 10_000) bench.failingWrites = 1;
        yield { value };
      }
    };
    const error = await failureOf(() => bench.producer({}).sendBatch('t', records()));
    expect(error).toMatchObject({
      ...full,
      written: [{ partition: 0, baseOffset: 0, count: bench.records }],
    });
    expect(bench.records).toBe(9 * 1049);
    expect(given).toBeLessThan(20_000);
  });
});
