import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, describe, expect, it } from 'vitest';
import { Ottla, type ProducerBatchMessage } from '../src/index.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';

const opened = closedAfterEach();

async function withOrders(partitions = 1) {
  const clock = new ManualClock();
  const faults = new FaultInjector();
  const ottla = opened(Ottla.memory({ clock, faults }));
  ottla.on('error', () => undefined);
  await ottla.topics.create('orders', { partitions, maxMessageBytes: 10_000 });
  return { ottla, clock, faults };
}

describe('metrics of a producer', () => {
  it('begin at nothing', async () => {
    const { ottla } = await withOrders();
    expect(ottla.producer({ bufferMemory: 5000 }).metrics()).toEqual({
      recordCount: 0,
      recordErrorCount: 0,
      recordBytes: 0,
      recordsPerSecond: 0,
      bytesPerSecond: 0,
      batchCount: 0,
      recordsPerBatch: 0,
      batchAverageBytes: 0,
      batchMaxBytes: 0,
      compressionRatio: 1,
      queueAverageMs: 0,
      queueMaxMs: 0,
      bufferTotalBytes: 5000,
      bufferUsedBytes: 0,
      waitingSendCount: 0,
    });
  });

  it('count records, batches and bytes', async () => {
    const { ottla, clock } = await withOrders();
    const producer = ottla.producer({ lingerMs: 10 });
    const sent = [1, 2, 3].map(() => producer.send('orders', { value: 'v'.repeat(91) }));
    expect(producer.metrics()).toMatchObject({ recordCount: 0, bufferUsedBytes: 300 });
    await clock.advance(10);
    await Promise.all(sent);
    const [other, last] = [ottla.producer({ lingerMs: 4 }), { value: 'v'.repeat(91) }];
    const shared = [producer.send('orders', last), other.send('orders', last)];
    await clock.advance(4);
    await Promise.all(shared);
    // 61 bytes, and 100 for each record.
    expect(producer.metrics()).toMatchObject({
      recordCount: 4,
      recordErrorCount: 0,
      recordBytes: 400,
      batchCount: 2,
      recordsPerBatch: 2.5,
      batchAverageBytes: (361 + 261) / 2,
      batchMaxBytes: 361,
      compressionRatio: 1,
      queueAverageMs: 7,
      queueMaxMs: 10,
      bufferUsedBytes: 0,
    });
    expect(other.metrics()).toMatchObject({ recordCount: 1, batchCount: 1, batchMaxBytes: 261 });
  });

  it('count what sendBatch writes, and how small compression makes it', async () => {
    const { ottla } = await withOrders(3);
    const producer = ottla.producer({ compression: 'gzip', acks: 1 });
    const records = Array.from({ length: 300 }, (_, i) => ({
      value: 'v'.repeat(91),
      partition: i % 3,
    }));
    await producer.sendBatch('orders', records);
    const metrics = producer.metrics();
    expect(metrics).toMatchObject({ recordCount: 300, batchCount: 6, recordsPerBatch: 50 });
    expect(metrics.compressionRatio).toBeLessThan(0.1);
    expect(metrics.batchMaxBytes).toBeLessThan(500);
    expect(metrics.recordBytes).toBeGreaterThan(30_000);
  });

  it('say how fast, over the last 30 to 60 seconds', async () => {
    const { ottla, clock } = await withOrders();
    const producer = ottla.producer({ acks: 1 });
    const second = async (): Promise<void> => {
      await producer.sendBatch(
        'orders',
        Array.from({ length: 20 }, () => ({ value: 'v' })),
      );
      await clock.advance(1000);
    };
    for (let i = 0; i < 10; i++) await second();
    expect(producer.metrics().recordsPerSecond).toBeCloseTo(20);
    for (let i = 0; i < 80; i++) await second();
    expect(producer.metrics().recordsPerSecond).toBeCloseTo(20);
    expect(producer.metrics().bytesPerSecond).toBeGreaterThan(20 * 8);
    await clock.advance(20_000);
    expect(producer.metrics().recordsPerSecond).toBeCloseTo(12, 0);
    await clock.advance(70_000);
    expect(producer.metrics()).toMatchObject({ recordsPerSecond: 0, recordCount: 1800 });
  });

  it('count what fails once it was taken over', async () => {
    const { ottla, clock, faults } = await withOrders();
    const producer = ottla.producer({ lingerMs: 10 });
    faults.fail('write', { topic: 'orders', code: 'ENOSPC' });
    const failed = failureOf(() => producer.send('orders', { value: 'v' }));
    await failureOf(() => producer.send('orders', { value: 'v'.repeat(10_000) }));
    await clock.advance(10);
    await failed;
    expect(producer.metrics()).toMatchObject({ recordCount: 0, recordErrorCount: 1 });
  });
});

describe('the channel ottla:producer:batch', () => {
  const messages: ProducerBatchMessage[] = [];
  const listen = (message: unknown): void => {
    messages.push(message as ProducerBatchMessage);
  };
  afterEach(() => {
    unsubscribe('ottla:producer:batch', listen);
    messages.length = 0;
  });

  it('tells of each batch when it is settled', async () => {
    const { ottla, clock } = await withOrders(2);
    subscribe('ottla:producer:batch', listen);
    const producer = ottla.producer({ lingerMs: 7, compression: 'gzip' });
    const sent = [1, 2].map(() =>
      producer.send('orders', { value: 'v'.repeat(991), partition: 1 }),
    );
    expect(messages).toEqual([]);
    await clock.advance(7);
    await Promise.all(sent);
    const [message] = messages;
    expect(message).toEqual({
      topic: 'orders',
      partition: 1,
      baseOffset: 0,
      recordCount: 2,
      batchCount: 1,
      batchBytes: message!.batchBytes,
      plainBytes: 61 + 2 * 1000,
      compression: 'gzip',
      queueMs: 7,
      deliveryMs: 0,
      error: null,
    });
    expect(message!.batchBytes).toBeLessThan(200);
    await producer.sendBatch('orders', [{ value: 'v', partition: 0 }]);
    expect(messages.slice(1)).toMatchObject([{ partition: 0, recordCount: 1, queueMs: 0 }]);
  });

  it('tells of what failed, and why', async () => {
    const { ottla, clock, faults } = await withOrders();
    faults.fail('write', { topic: 'orders', code: 'ENOSPC' });
    subscribe('ottla:producer:batch', listen);
    const failed = failureOf(() => ottla.producer({ lingerMs: 3 }).send('orders', { value: 'v' }));
    await clock.advance(3);
    const error = await failed;
    expect(messages).toMatchObject([{ baseOffset: -1, recordCount: 1, queueMs: 3 }]);
    expect(messages[0]!.error).toBe(error);
  });

  it('tells of what failed with the batch before it', async () => {
    const { ottla, faults } = await withOrders();
    subscribe('ottla:producer:batch', listen);
    const gate = faults.hold('sync', { topic: 'orders' });
    const sent = failureOf(() => ottla.producer().send('orders', { value: 'v' }));
    await gate.arrived();
    const open = failureOf(() => ottla.producer({ lingerMs: 50 }).send('orders', { value: 'v' }));
    faults.fail('sync', { topic: 'orders', code: 'EIO' });
    gate.open();
    await Promise.all([sent, open]);
    expect(messages).toMatchObject([
      { baseOffset: 0, batchCount: 1, recordCount: 1 },
      { baseOffset: -1, batchCount: 0, batchBytes: 0, recordCount: 1, plainBytes: 69 },
    ]);
  });
});
