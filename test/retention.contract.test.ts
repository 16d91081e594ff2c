import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Ottla, type PartitionInfo, type TopicOptions } from '../src/index.js';
import { closedAfterEach, collect, describeContract, describeDirectory } from './contract.js';
import { ManualClock } from './manual-clock.js';

const hour = 60 * 60 * 1000;
const value = 'x'.repeat(900);

async function describeOrders(ottla: Ottla): Promise<PartitionInfo> {
  return (await ottla.topics.describe('orders')).partitions[0]!;
}

/** A topic with ten segments of one record each, the last one active. */
async function fill(ottla: Ottla, options: TopicOptions, timestamp?: number): Promise<void> {
  await ottla.topics.create('orders', { segmentBytes: 1024, ...options });
  const producer = ottla.producer();
  for (let i = 0; i < 10; i++) {
    await producer.send('orders', timestamp === undefined ? { value } : { value, timestamp });
  }
}

/** Reads and commits the first `count` records as a group, which then has no member. */
async function consume(ottla: Ottla, group: string, count: number): Promise<void> {
  const consumer = ottla.consumer({ group, topics: ['orders'] });
  let seen = 0;
  for await (const { offset } of consumer) {
    expect(offset).toBe(seen++);
    if (seen === count) break;
  }
  await consumer.commit([{ topic: 'orders', partition: 0, offset: count }]);
  await consumer.close();
}

/** Lets turns of the event loop pass until the log begins there. */
async function untilStart(ottla: Ottla, start: number): Promise<void> {
  while ((await describeOrders(ottla)).logStartOffset < start) await turn();
}

function isLog(name: string): boolean {
  return name.endsWith('.log');
}

function offsetsFrom(start: number): number[] {
  return Array.from({ length: 10 - start }, (_, i) => start + i);
}

async function offsetsIn(ottla: Ottla): Promise<number[]> {
  return (await collect(ottla.read('orders'))).map(({ offset }) => offset);
}

describe('retention in memory, at a time of its own', () => {
  const opened = closedAfterEach();

  it('frees by time, and makes what a reader was at begin later', async () => {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await fill(ottla, { retentionMs: hour });
    await clock.advance(hour - 1);
    expect(await offsetsIn(ottla)).toEqual(offsetsFrom(0));
    await clock.advance(10 * 60_000);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 10, highWatermark: 10 });
    expect(await offsetsIn(ottla)).toEqual([]);
  });

  it('frees what is consumed about a second after the commit', async () => {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await fill(ottla, { retention: 'consumed' });
    await consume(ottla, 'g', 7);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 0 });
    await clock.advance(1000);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 7, segments: 3 });
    expect(await offsetsIn(ottla)).toEqual(offsetsFrom(7));
  });

  it('holds everything for a member that has committed nothing yet', async () => {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await fill(ottla, { retention: 'consumed' });
    const late = ottla.consumer({ group: 'late', topics: ['orders'] });
    await late.ready();
    await consume(ottla, 'g', 7);
    await clock.advance(1000);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 0 });
  });

  it('a queue that is worked off takes little room, and loses nothing', async () => {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await ottla.topics.create('orders', { retention: 'consumed', segmentBytes: 4096 });
    const producer = ottla.producer();
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    await consumer.ready();
    const records = consumer[Symbol.asyncIterator]();
    let mostSegments = 0;
    for (let i = 0; i < 200; i++) {
      await producer.send('orders', { value: `${i}${value}` });
      const { value: record } = (await records.next()) as { value: { offset: number } };
      expect(record.offset).toBe(i);
      await clock.advance(500);
      mostSegments = Math.max(mostSegments, (await describeOrders(ottla)).segments);
    }
    expect(mostSegments).toBeLessThan(4);
    expect((await describeOrders(ottla)).logStartOffset).toBeGreaterThan(190);
  });
});

describeContract('retention', ({ open }) => {
  it('frees nothing by default', async () => {
    const ottla = await open();
    await fill(ottla, {}, 1000);
    await consume(ottla, 'g', 10);
    await ottla.topics.alter('orders', { indexIntervalBytes: 100 });
    expect(await offsetsIn(ottla)).toEqual(offsetsFrom(0));
  });
});

describeDirectory('retention right after open', ({ open, reopen, files }) => {
  it.each<[string, TopicOptions, number]>([
    ['retentionMs', { retentionMs: hour }, 10],
    ['retentionBytes', { retentionBytes: 3000 }, 6],
  ])('goes by %s, without being used', async (_name, options, start) => {
    const before = await open();
    await fill(before, options, Date.now() - 2 * hour);
    const after = await reopen(before);
    await untilStart(after, start);
    expect(await offsetsIn(after)).toEqual(offsetsFrom(start));
    while (files().filter(isLog).length > 10 - start) await turn();
    const last = await reopen(after);
    expect(last.recovery).toEqual([]);
    expect(await describeOrders(last)).toMatchObject({ logStartOffset: start, highWatermark: 10 });
  });

  it('frees what was consumed before', async () => {
    const before = await open();
    await fill(before, { retention: 'consumed' });
    await consume(before, 'a', 8);
    await consume(before, 'b', 6);
    const after = await reopen(before);
    await untilStart(after, 6);
    expect(await offsetsIn(after)).toEqual(offsetsFrom(6));
    await consumeRest(after, 'b', 6);
    await consumeRest(after, 'a', 8);
  });

  it('leaves a reader what it holds, and takes it on where the log begins', async () => {
    const before = await open();
    await fill(before, {}, Date.now() - 2 * hour);
    const ottla = await reopen(before);
    ottla.on('warning', () => undefined);
    const seen: number[] = [];
    for await (const { offset } of ottla.read('orders')) {
      if (seen.length === 0) await ottla.topics.deleteRecords('orders', 0, 8);
      seen.push(offset);
    }
    const resumed = seen.findIndex((offset) => offset >= 8);
    expect(seen.slice(0, resumed)).toEqual(offsetsFrom(0).slice(0, resumed));
    expect(seen.slice(resumed)).toEqual([8, 9]);
  });
});

async function consumeRest(ottla: Ottla, group: string, from: number): Promise<void> {
  const consumer = ottla.consumer({ group, topics: ['orders'] });
  for await (const { offset } of consumer) {
    expect(offset).toBe(from++);
    if (offset === 9) break;
  }
  await consumer.close();
}
