import { expect, it } from 'vitest';
import type { Ottla, RecordToSend } from '../src/index.js';
import { collect, describeContract, describeDirectory } from './contract.js';

/** Values of one partition, whose offsets must follow on each other from 0. */
async function valuesOf(ottla: Ottla, partition = 0): Promise<string[]> {
  const records = await collect(ottla.read('orders', { partitions: [partition] }));
  expect(records.map(({ offset }) => offset)).toEqual(records.map((_, i) => i));
  return records.map(({ value }) => String(value));
}

async function segmentsOf(ottla: Ottla): Promise<number[]> {
  return (await ottla.topics.describe('orders')).partitions.map(({ segments }) => segments);
}

/** Values of many lengths, each telling its number. */
function numbered(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => `${from + i}`.padEnd((i * 37) % 300, '.'));
}

function sized(value: string): RecordToSend {
  return { value, timestamp: value.length };
}

describeContract('a log of small segments', ({ open }) => {
  it.each([0, 1, 'all'] as const)('keeps the order of sends, acks %s', async (acks) => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const producer = ottla.producer({ acks, batchSize: 400 });
    const values = numbered(300);
    const sent = await Promise.all(values.map((value) => producer.send('orders', { value })));
    const expected = values.map((_, i) => (acks === 0 ? -1 : i));
    expect(sent.map(({ offset }) => offset)).toEqual(expected);
    await producer.flush();
    expect(await valuesOf(ottla)).toEqual(values);
    const [segments] = await segmentsOf(ottla);
    expect(segments).toBeGreaterThan(20);
  });

  it('keeps the order of sends that are awaited one by one', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const producer = ottla.producer({ acks: 1 });
    const values = numbered(60);
    for (const value of values) await producer.send('orders', { value });
    expect(await valuesOf(ottla)).toEqual(values);
  });

  it('rolls in the middle of a sendBatch', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3, segmentBytes: 4096 });
    const values = numbered(2000);
    const records = values.map((value, i) => ({ value, partition: i % 3 }));
    const runs = await ottla.producer().sendBatch('orders', records);
    expect(runs.toSorted((a, b) => a.partition - b.partition)).toEqual([
      { partition: 0, baseOffset: 0, count: 667 },
      { partition: 1, baseOffset: 0, count: 667 },
      { partition: 2, baseOffset: 0, count: 666 },
    ]);
    for (const partition of [0, 1, 2]) {
      expect(await valuesOf(ottla, partition)).toEqual(
        values.filter((_, i) => i % 3 === partition),
      );
    }
    for (const segments of await segmentsOf(ottla)) expect(segments).toBeGreaterThan(10);
  });

  it('keeps the order of sends and sendBatches that meet', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const producers = [ottla.producer(), ottla.producer({ acks: 1, batchSize: 300 })];
    const values = numbered(900);
    const sent: Promise<unknown>[] = [];
    for (let i = 0; i < values.length;) {
      const producer = producers[i % 2]!;
      if (i % 3 === 0) {
        const some = values.slice(i, i + 40);
        sent.push(producer.sendBatch('orders', some.map(sized)));
        i += some.length;
      } else {
        sent.push(producer.send('orders', sized(values[i]!)));
        i++;
      }
    }
    await Promise.all(sent);
    expect(await valuesOf(ottla)).toEqual(values);
  });

  it('takes a batch that is larger than a segment', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const producer = ottla.producer();
    const values = [5, 5000, 5, 200_000, 200_000, 5, 5].map((size, i) => String(i).repeat(size));
    await Promise.all(values.map((value) => producer.send('orders', { value })));
    await producer.sendBatch('orders', values.map(sized));
    expect(await valuesOf(ottla)).toEqual([...values, ...values]);
    const [segments] = await segmentsOf(ottla);
    expect(segments).toBeGreaterThan(7);
  });

  it('is read on across each roll while it grows', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const values = numbered(500);
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { offset, value } of ottla.read('orders', { until: 'never' })) {
        expect(offset).toBe(seen.length);
        seen.push(String(value));
        if (seen.length === values.length) return;
      }
    })();
    const producer = ottla.producer({ acks: 1, batchSize: 200 });
    for (let i = 0; i < values.length; i += 10) {
      await Promise.all(values.slice(i, i + 10).map((value) => producer.send('orders', { value })));
    }
    await reading;
    expect(seen).toEqual(values);
  });

  it('is read from any offset', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024, indexIntervalBytes: 100 });
    const producer = ottla.producer({ acks: 1, batchSize: 300 });
    const values = numbered(200);
    await Promise.all(values.map((value) => producer.send('orders', { value })));
    for (let from = 0; from <= values.length; from += 7) {
      const read = await collect(ottla.read('orders', { from: { 0: from } }));
      expect(read.map(({ value }) => String(value))).toEqual(values.slice(from));
    }
  });

  it('is found by time', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024, indexIntervalBytes: 100 });
    const producer = ottla.producer({ acks: 1, batchSize: 300 });
    const timestamps = Array.from({ length: 300 }, (_, i) => 1000 + ((i * 7) % 50) + i);
    await Promise.all(
      timestamps.map((timestamp) => producer.send('orders', { value: 'v', timestamp })),
    );
    for (let time = 990; time < 1360; time += 9) {
      const read = await collect(ottla.read('orders', { from: new Date(time) }));
      const first = timestamps.findIndex((timestamp) => timestamp >= time);
      expect(read[0]?.offset ?? -1).toBe(first);
    }
  });

  it('goes by segmentBytes as altered last', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 1024 });
    const producer = ottla.producer({ acks: 1 });
    const values = numbered(30);
    for (const value of values.slice(0, 10)) await producer.send('orders', { value });
    await ottla.topics.alter('orders', { segmentBytes: 1024 * 1024 });
    const before = await segmentsOf(ottla);
    for (const value of values.slice(10)) await producer.send('orders', { value });
    expect(await segmentsOf(ottla)).toEqual(before);
    expect(await valuesOf(ottla)).toEqual(values);
  });
});

describeDirectory('a log of small segments after a restart', ({ open, reopen }) => {
  it('has every record, and goes on behind the last', async () => {
    const before = await open();
    await before.topics.create('orders', { segmentBytes: 1024 });
    const values = numbered(300);
    await before.producer().sendBatch('orders', values.slice(0, 200).map(sized));
    const [segments] = await segmentsOf(before);
    const after = await reopen(before);
    expect(after.recovery).toEqual([]);
    expect(await segmentsOf(after)).toEqual([segments]);
    expect(await valuesOf(after)).toEqual(values.slice(0, 200));
    const [run] = await after.producer().sendBatch('orders', values.slice(200).map(sized));
    expect(run).toEqual({ partition: 0, baseOffset: 200, count: 100 });
    const last = await reopen(after);
    expect(await valuesOf(last)).toEqual(values);
  });
});
