import { expect, it } from 'vitest';
import type { Ottla, PartitionInfo } from '../src/index.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

async function describeOrders(ottla: Ottla): Promise<PartitionInfo> {
  return (await ottla.topics.describe('orders')).partitions[0]!;
}

const values = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(200, '.'));

/** 100 records of about 270 bytes, one a batch, so that a segment of 1024 bytes holds three. */
async function fill(ottla: Ottla): Promise<void> {
  await ottla.topics.create('orders', { segmentBytes: 1024 });
  const producer = ottla.producer({ acks: 1 });
  for (const value of values) await producer.send('orders', { value });
}

async function offsetsIn(ottla: Ottla): Promise<number[]> {
  return (await collect(ottla.read('orders'))).map(({ offset }) => offset);
}

function from(start: number, end = 100): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

describeContract('topics.deleteRecords', ({ open, files }) => {
  it('moves the log start, and frees the segments that lie wholly below', async () => {
    const ottla = await open();
    await fill(ottla);
    const before = await describeOrders(ottla);
    expect(await ottla.topics.deleteRecords('orders', 0, 50)).toBe(50);
    const after = await describeOrders(ottla);
    expect(after).toMatchObject({ logStartOffset: 50, highWatermark: 100 });
    expect(after.segments).toBe(before.segments - 16);
    expect(after.bytes).toBeLessThan(before.bytes);
    expect(await offsetsIn(ottla)).toEqual(from(50));
    expect(files().filter((name) => name.includes('00000000000000000000.'))).toEqual([]);
  });

  it('deletes all there is, and appends go on behind it', async () => {
    const ottla = await open();
    await fill(ottla);
    expect(await ottla.topics.deleteRecords('orders', 0, 100)).toBe(100);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 100, segments: 1 });
    expect(await offsetsIn(ottla)).toEqual([]);
    expect(await ottla.producer().send('orders', { value: 'x' })).toMatchObject({ offset: 100 });
    expect(await offsetsIn(ottla)).toEqual([100]);
  });

  it('never moves the log start back', async () => {
    const ottla = await open();
    await fill(ottla);
    await ottla.topics.deleteRecords('orders', 0, 50);
    expect(await ottla.topics.deleteRecords('orders', 0, 10)).toBe(50);
    expect(await ottla.topics.deleteRecords('orders', 0, 50)).toBe(50);
    expect(await describeOrders(ottla)).toMatchObject({ logStartOffset: 50 });
  });

  it('refuses an offset above the high watermark, changing nothing', async () => {
    const ottla = await open();
    await fill(ottla);
    expect(await failureOf(() => ottla.topics.deleteRecords('orders', 0, 101))).toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
      message: 'orders-0: offset 101 is out of range, the log has 0 to 100',
    });
    expect(await offsetsIn(ottla)).toEqual(from(0));
  });

  it.each([
    ['a negative offset', 0, -1, RangeError],
    ['a fraction', 0, 1.5, RangeError],
    ['no number', 0, '3', TypeError],
    ['a negative partition', -1, 0, RangeError],
  ])('refuses %s', async (_what, partition, offset, kind) => {
    const ottla = await open();
    await fill(ottla);
    const failure = failureOf(() =>
      ottla.topics.deleteRecords('orders', partition, offset as number),
    );
    expect(await failure).toBeInstanceOf(kind);
  });

  it('names a topic or partition that is not there', async () => {
    const ottla = await open();
    await fill(ottla);
    for (const [topic, partition] of [
      ['nothing', 0],
      ['orders', 1],
    ] as const) {
      expect(await failureOf(() => ottla.topics.deleteRecords(topic, partition, 0))).toMatchObject({
        code: 'UNKNOWN_TOPIC_OR_PARTITION',
      });
    }
  });

  it('runs beside others of the same partition, and appends', async () => {
    const ottla = await open();
    await fill(ottla);
    const producer = ottla.producer();
    const starts = await Promise.all([
      ...[30, 10, 60, 61, 40].map((offset) => ottla.topics.deleteRecords('orders', 0, offset)),
      ...values.map((value) => producer.send('orders', { value }).then(() => 0)),
    ]);
    expect(Math.max(...starts)).toBe(61);
    expect(await offsetsIn(ottla)).toEqual(from(61, 200));
  });

  it('makes a group that was behind go on at the new start, with a warning', async () => {
    const ottla = await open();
    await fill(ottla);
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollRecords: 1 });
    const seen: number[] = [];
    for await (const { offset } of consumer) {
      seen.push(offset);
      if (offset === 10) await ottla.topics.deleteRecords('orders', 0, 70);
      if (offset === 99) break;
    }
    expect(seen.slice(0, 11)).toEqual(from(0, 11));
    const resumed = seen.findIndex((offset) => offset >= 70);
    expect(seen.slice(0, resumed)).toEqual(from(0, resumed));
    expect(seen.slice(resumed)).toEqual(from(70));
    expect(warnings.every((warning) => warning.includes('out of range'))).toBe(true);
  });

  it('fails a consumer that was behind with OFFSET_OUT_OF_RANGE where from is none', async () => {
    const ottla = await open();
    await fill(ottla);
    const first = ottla.consumer({ group: 'g', topics: ['orders'] });
    await first.ready();
    await first.commit([{ topic: 'orders', partition: 0, offset: 5 }]);
    await first.close();
    await ottla.topics.deleteRecords('orders', 0, 70);
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'], from: 'none' });
    expect(await failureOf(() => collect(consumer))).toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
  });

  it('ends a read whose records all go while it is under way', async () => {
    const ottla = await open();
    await fill(ottla);
    ottla.on('warning', () => undefined);
    const seen: number[] = [];
    for await (const { offset } of ottla.read('orders')) {
      if (seen.length === 0) await ottla.topics.deleteRecords('orders', 0, 100);
      seen.push(offset);
    }
    expect(seen).toEqual(from(0, seen.length));
  });

  it('lets idle() resolve for a group whose records are all gone', async () => {
    const ottla = await open();
    await fill(ottla);
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    await consumer.ready();
    await ottla.topics.deleteRecords('orders', 0, 100);
    const idle = ottla.idle({ signal: AbortSignal.timeout(5000) });
    expect(await idle.then(() => 'idle')).toBe('idle');
  });
});

describeDirectory('topics.deleteRecords before a restart', ({ open, reopen, files }) => {
  it.each([1, 50, 99, 100])('to offset %i is remembered', async (start) => {
    const before = await open();
    await fill(before);
    await before.topics.deleteRecords('orders', 0, start);
    const { segments } = await describeOrders(before);
    const after = await reopen(before);
    expect(after.recovery).toEqual([]);
    expect(await describeOrders(after)).toMatchObject({ logStartOffset: start, segments });
    expect(await offsetsIn(after)).toEqual(from(start));
    expect(files().filter((name) => name.endsWith('.log'))).toHaveLength(segments);
    expect(await after.producer().send('orders', { value: 'x' })).toMatchObject({ offset: 100 });
  });
});
