import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  defineTopic,
  type Compression,
  type Ottla,
  type ProducerOptions,
  type RecordToSend,
  type TopicOptions,
} from '../src/index.js';
import { readBatchHeader } from '../src/record.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

const codecs = ['gzip', 'snappy', 'lz4', 'zstd'] as const;
const start = 1_700_000_000_000;

function* numbered(from: number, to: number): Generator<RecordToSend & { timestamp: number }> {
  for (let i = from; i < to; i++) {
    const value = `value ${i} ${'-'.repeat(i % 200)}`;
    yield { key: `key ${i % 10}`, value, headers: { i: `${i}` }, timestamp: start + i * 1000 };
  }
}

const valuesOf = (records: Iterable<RecordToSend>): string[] =>
  [...records].map(({ value }) => String(value));

async function read(ottla: Ottla, from: 'earliest' | Date = 'earliest'): Promise<string[]> {
  return (await collect(ottla.read('orders', { from }))).map(({ value }) => String(value));
}

describeContract('compressed records', ({ open }) => {
  it.each(codecs)('with %s come back as they were', async (compression) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer({ compression });
    const [first, ...others] = [...numbered(0, 1500)];
    const sent = await producer.send('orders', first!);
    expect(sent).toMatchObject({ partition: 0, offset: 0, timestamp: start });
    await Promise.all(others.slice(0, 499).map((record) => producer.send('orders', record)));
    await producer.sendBatch('orders', others.slice(499));
    const records = await collect(ottla.read('orders'));
    expect(records.map(({ offset }) => offset)).toEqual(records.map((_, i) => i));
    expect(
      records.map(({ key, value, headers, timestamp }) => ({
        key: String(key),
        value: String(value),
        headers: { i: String(headers[0]![1]) },
        timestamp,
      })),
    ).toEqual([...numbered(0, 1500)]);
    // Much smaller than what was sent.
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions[0]!.bytes).toBeLessThan(80_000);
  });

  it.each(codecs)('with %s are found by time', async (compression) => {
    const ottla = await open();
    await ottla.topics.create('orders', { segmentBytes: 4096, indexIntervalBytes: 100 });
    const producer = ottla.producer({ compression });
    for (let i = 0; i < 400; i += 20) await producer.sendBatch('orders', numbered(i, i + 20));
    expect(await read(ottla, new Date(start + 234_001))).toEqual(valuesOf(numbered(235, 400)));
  });

  it.each(codecs)('with %s reach a group, in runs smaller than a batch', async (compression) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await ottla.producer({ compression }).sendBatch('orders', numbered(0, 300));
    const options = { group: 'g', topics: ['orders'], maxPollRecords: 7 };
    const consumer = ottla.consumer(options);
    const values: string[] = [];
    for await (const batch of consumer.batches()) {
      for (const { value } of batch.records) values.push(String(value));
      await batch.commit();
      if (values.length >= 150) break;
    }
    await consumer.close();
    expect(values).toEqual(valuesOf(numbered(0, 154)));
    const next = ottla.consumer(options);
    for await (const { value } of next) {
      values.push(String(value));
      if (values.length === 300) break;
    }
    expect(values).toEqual(valuesOf(numbered(0, 300)));
  });

  it('of two producers keep the order of the calls', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producers = (['none', ...codecs] as const).map((compression) =>
      ottla.producer({ compression, lingerMs: 5 }),
    );
    const sent = [...numbered(0, 200)].map((record, i) =>
      producers[(i >> 2) % producers.length]!.send('orders', record),
    );
    const offsets = (await Promise.all(sent)).map(({ offset }) => offset);
    expect(offsets).toEqual(offsets.map((_, i) => i));
    expect(await read(ottla)).toEqual(valuesOf(numbered(0, 200)));
  });

  it('may be as large as the topic takes, and not compressible', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { maxMessageBytes: 4096 });
    const noise = Buffer.from(
      Array.from({ length: 3900 }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 13) & 0xff),
    );
    for (const compression of codecs) {
      await ottla.producer({ compression }).send('orders', { value: noise });
      await ottla.producer({ compression }).sendBatch('orders', [{ value: noise }]);
    }
    const records = await collect(ottla.read('orders'));
    expect(records.map(({ value }) => value!.equals(noise))).toEqual(Array(8).fill(true));
  });

  it('count as they were before: what is too large for the topic is refused', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { maxMessageBytes: 4096 });
    const producer = ottla.producer({ compression: 'gzip' });
    await expect(producer.send('orders', { value: 'x'.repeat(4096) })).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
    expect(await read(ottla)).toEqual([]);
  });

  it('have the log’s time where the topic asks for it', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { messageTimestampType: 'LogAppendTime' });
    const sent = await ottla
      .producer({ compression: 'lz4' })
      .send('orders', { value: 'v', timestamp: 5 });
    const [record] = await collect(ottla.read('orders'));
    expect(record!.timestamp).toBe(sent.timestamp);
    expect(sent.timestamp).toBeGreaterThan(start);
  });

  it.each<[what: string, value: unknown]>([
    ['an unknown codec', 'brotli'],
    ['the topic’s word', 'producer'],
    ['an object', { type: 'gzip', level: 9 }],
    ['null', null],
  ])('are no option of a producer with %s', async (_, compression) => {
    const ottla = await open();
    const error = await failureOf(() => ottla.producer({ compression } as ProducerOptions));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(
      /^producer: compression must be 'none' or 'gzip' or 'snappy' or 'lz4' or 'zstd', got /,
    );
  });

  it('are no option of a topic with an unknown codec', async () => {
    const ottla = await open();
    const options = { compression: 'uncompressed' } as unknown as TopicOptions;
    const error = await failureOf(() => ottla.topics.create('orders', options));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("compression must be 'producer' or 'none' or 'gzip'");
  });
});

/** The compression of each batch in the first segment of orders-0. */
function compressionsIn(directory: string): string[] {
  const bytes = readFileSync(join(directory, 'orders-0', '00000000000000000000.log'));
  const found: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const header = readBatchHeader(bytes, at, bytes.length)!;
    found.push(header.compression);
    at += header.size;
  }
  return found;
}

describeDirectory('compression', ({ open, reopen, directoryOf }) => {
  const each: Compression[] = ['none', ...codecs];

  it('is the producer’s where the topic leaves it to it', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    for (const compression of each)
      await ottla.producer({ compression }).send('orders', { value: 'v' });
    await ottla.producer().send('orders', { value: 'v' });
    expect(compressionsIn(directoryOf(ottla))).toEqual([...each, 'none']);
  });

  it('is the topic’s where that has one, from the next batch on', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { compression: 'zstd' });
    await ottla.topics.create(orders);
    const producer = ottla.producer({ compression: 'gzip' });
    await producer.send('orders', { value: 'v' });
    await producer.sendBatch('orders', [{ value: 'v' }]);
    for (const compression of ['none', 'lz4', 'producer'] as const) {
      await ottla.topics.alter('orders', { compression });
      await producer.send('orders', { value: 'v' });
    }
    expect(compressionsIn(directoryOf(ottla))).toEqual(['zstd', 'zstd', 'none', 'lz4', 'gzip']);
  });

  it.each(codecs)(
    'with %s survives a restart, and verify reads the records',
    async (compression) => {
      let ottla = await open();
      await ottla.topics.create('orders', { compression });
      await ottla.producer().sendBatch('orders', numbered(0, 500));
      const directory = directoryOf(ottla);
      ottla = await reopen(ottla);
      expect(ottla.recovery).toEqual([]);
      await ottla.producer().send('orders', { value: 'more' });
      expect(await read(ottla)).toEqual([...valuesOf(numbered(0, 500)), 'more']);
      await ottla.close();
      const { Ottla: opened } = await import('../src/index.js');
      expect(await opened.verify(directory)).toMatchObject({ ok: true, records: 501, notes: [] });
    },
  );
});

describe('Compression', () => {
  it('is a type that users can name', () => {
    const compression: Compression = 'gzip';
    expect(compression).toBe('gzip');
  });
});
