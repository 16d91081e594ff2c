import { ReadableStream } from 'node:stream/web';
import { expect, it } from 'vitest';
import type { Ottla, OttlaError, RecordToSend, WrittenRun } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

function numbered(from: number, to: number): RecordToSend[] {
  return Array.from({ length: to - from }, (_, i) => ({ value: String(from + i) }));
}

async function valuesOf(ottla: Ottla, partition = 0): Promise<string[]> {
  const records = await collect(ottla.read('orders', { partitions: [partition] }));
  expect(records.map(({ offset }) => offset)).toEqual(records.map((_, i) => i));
  return records.map(({ value }) => String(value));
}

/** Waits until the topic has this many records. */
async function arrived(ottla: Ottla, count: number): Promise<void> {
  let left = count;
  for await (const _ of ottla.read('orders', { until: 'never' })) {
    left--;
    if (left === 0) return;
  }
}

/** The runs as they are in the log: of each partition from its first offset to its last. */
async function runsInLog(ottla: Ottla): Promise<WrittenRun[]> {
  const { partitions } = await ottla.topics.describe('orders');
  return partitions
    .filter(({ highWatermark }) => highWatermark > 0)
    .map(({ partition, highWatermark }) => ({ partition, baseOffset: 0, count: highWatermark }));
}

function byPartition(runs: readonly WrittenRun[]): WrittenRun[] {
  return runs.toSorted((a, b) => a.partition - b.partition || a.baseOffset - b.baseOffset);
}

async function* pausing(
  first: Iterable<RecordToSend>,
  pause: Promise<unknown>,
  last: Iterable<RecordToSend>,
): AsyncGenerator<RecordToSend> {
  yield* first;
  await pause;
  yield* last;
}

describeContract('sendBatch', ({ open }) => {
  it.each<[what: string, records: () => Iterable<RecordToSend> | AsyncIterable<RecordToSend>]>([
    ['an array', () => numbered(0, 10_000)],
    ['a set', () => new Set(numbered(0, 10_000))],
    ['a generator', () => numbered(0, 10_000).values()],
    ['an async generator', () => pausing(numbered(0, 10_000), Promise.resolve(), [])],
    ['a stream', () => ReadableStream.from(numbered(0, 10_000))],
  ])('takes %s', async (_, records) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const runs = await ottla.producer().sendBatch('orders', records());
    expect(runs).toEqual([{ partition: 0, baseOffset: 0, count: 10_000 }]);
    expect(await valuesOf(ottla)).toEqual(numbered(0, 10_000).map(({ value }) => value));
  });

  it('of nothing writes nothing', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    expect(await ottla.producer().sendBatch('orders', [])).toEqual([]);
    const nothing = pausing([], Promise.resolve(), []);
    expect(await ottla.producer().sendBatch('orders', nothing)).toEqual([]);
    expect(await ottla.producer({ acks: 0 }).sendBatch('orders', [])).toEqual([]);
    expect(await valuesOf(ottla)).toEqual([]);
  });

  it.each([0, 1, 5000])('says which runs of %i records went where', async (count) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const producer = ottla.producer();
    const records = numbered(0, count).map((record, i) => ({ ...record, partition: i % 3 }));
    for (const round of [0, 1]) {
      const runs = byPartition(await producer.sendBatch('orders', records));
      const expected = [0, 1, 2].map((partition) => {
        const share = Math.floor((count + 2 - partition) / 3);
        return { partition, baseOffset: round * share, count: share };
      });
      expect(runs).toEqual(expected.filter((run) => run.count > 0));
    }
    for (const partition of [0, 1, 2]) {
      const values = records.filter((_, i) => i % 3 === partition).map(({ value }) => value);
      expect(await valuesOf(ottla, partition)).toEqual([...values, ...values]);
    }
  });

  it('says a run of its own for each stretch between other records', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const other = ottla.producer();
    const between = arrived(ottla, 2).then(() => other.send('orders', { value: 'x' }));
    const source = pausing(numbered(0, 2), between, numbered(2, 5));
    expect(await ottla.producer().sendBatch('orders', source)).toEqual([
      { partition: 0, baseOffset: 0, count: 2 },
      { partition: 0, baseOffset: 3, count: 3 },
    ]);
    expect(await valuesOf(ottla)).toEqual(['0', '1', 'x', '2', '3', '4']);
  });

  it('with acks 0 says the partitions and how many', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const producer = ottla.producer({ acks: 0 });
    const records = numbered(0, 10_000).map((record) => ({ ...record, partition: 1 }));
    const last = { value: 'x', partition: 2 };
    expect(byPartition(await producer.sendBatch('orders', [...records, last]))).toEqual([
      { partition: 1, baseOffset: -1, count: 10_000 },
      { partition: 2, baseOffset: -1, count: 1 },
    ]);
    await producer.flush();
    expect(await valuesOf(ottla, 1)).toHaveLength(10_000);
  });

  it('writes what has come while its source pauses', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const first = numbered(0, 5000);
    const source = pausing(first, arrived(ottla, 5000), numbered(5000, 5001));
    const runs = await ottla.producer({ lingerMs: 2 ** 31 - 1 }).sendBatch('orders', source);
    expect(runs).toEqual([{ partition: 0, baseOffset: 0, count: 5001 }]);
  });

  it.each(['sync', 'async'])(
    'lets the source use its record again, bytes and all: %s',
    async (how) => {
      const ottla = await open();
      await ottla.topics.create('orders');
      const bytes = Buffer.from('0');
      const record = { key: bytes, value: bytes, headers: { h: bytes } };
      const source = function* (): Generator<RecordToSend> {
        for (let i = 0; i < 3; i++) {
          bytes.write(String(i));
          yield record;
        }
      };
      const asyncSource = async function* (): AsyncGenerator<RecordToSend> {
        yield* source();
      };
      await ottla.producer().sendBatch('orders', how === 'sync' ? source() : asyncSource());
      const read = await collect(ottla.read('orders'));
      const parts = read.map(({ key, value, headers }) => [key, value, headers[0]![1]].join());
      expect(parts).toEqual(['0,0,0', '1,1,1', '2,2,2']);
    },
  );

  it('takes more than the buffer holds', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer({ bufferMemory: 1000 });
    const records = numbered(0, 20_000).map((record, i) => ({ ...record, partition: i % 2 }));
    const before = producer.send('orders', { value: 'before', partition: 0 });
    const batch = producer.sendBatch('orders', records);
    const sends = numbered(0, 100).map((record) =>
      producer.send('orders', { ...record, partition: 1 }),
    );
    expect((await before).offset).toBe(0);
    const written = (await batch).reduce((sum, { count }) => sum + count, 0);
    expect(written).toBe(20_000);
    await Promise.all(sends);
    expect(await runsInLog(ottla)).toEqual([
      { partition: 0, baseOffset: 0, count: 10_001 },
      { partition: 1, baseOffset: 0, count: 10_100 },
    ]);
  });

  it('is in step with two more of its kind', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producers = [1, 'all', 1].map((acks) => ottla.producer({ acks: acks as 1 | 'all' }));
    const batches = await Promise.all(
      producers.map((producer, i) =>
        producer.sendBatch(
          'orders',
          numbered(0, 9000).map(({ value }) => ({ value: `${i}:${String(value)}` })),
        ),
      ),
    );
    const values = await valuesOf(ottla);
    expect(values).toHaveLength(27_000);
    for (const [i, runs] of batches.entries()) {
      const own = runs.flatMap(({ baseOffset, count }) =>
        values.slice(baseOffset, baseOffset + count),
      );
      expect(own).toEqual(numbered(0, 9000).map(({ value }) => `${i}:${String(value)}`));
    }
  });
});

describeContract('a sendBatch that fails', ({ open }) => {
  const bad = { value: 7 as unknown as string };
  const large = { value: Buffer.alloc(5000) };
  const unusable = new Error('the source is broken');
  const throwing = function* (records: readonly RecordToSend[]): Generator<RecordToSend> {
    yield* records;
    throw unusable;
  };

  it.each<
    [
      what: string,
      source: () => Iterable<RecordToSend> | AsyncIterable<RecordToSend>,
      expected: object,
    ]
  >([
    ['a bad record at once', () => [bad], { name: 'TypeError' }],
    [
      'a bad record late',
      () => [...numbered(0, 9000), bad, ...numbered(0, 9)],
      { name: 'TypeError' },
    ],
    ['a large record at once', () => [large], { code: 'MESSAGE_TOO_LARGE' }],
    ['a large record late', () => [...numbered(0, 9000), large], { code: 'MESSAGE_TOO_LARGE' }],
    ['a source that throws', () => throwing(numbered(0, 9000)), unusable],
    [
      'an async source that throws',
      () => pausing(numbered(0, 9000), Promise.resolve(), throwing([])),
      unusable,
    ],
    [
      'a large record of a source that never ends',
      () => pausing([...numbered(0, 9000), large], new Promise(() => undefined), []),
      { code: 'MESSAGE_TOO_LARGE' },
    ],
  ])('by %s says exactly what is in the log', async (_, source, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3, maxMessageBytes: 4096 });
    const error = await failureOf(() => ottla.producer().sendBatch('orders', source()));
    expect(error).toMatchObject(expected);
    const { written } = error as OttlaError;
    expect(byPartition(written!)).toEqual(await runsInLog(ottla));
  });

  it('tells its source', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const ended: string[] = [];
    const source = function* (): Generator<RecordToSend> {
      try {
        yield bad;
      } finally {
        ended.push('generator');
      }
    };
    const asyncSource = async function* (): AsyncGenerator<RecordToSend> {
      try {
        yield bad;
        yield bad;
      } finally {
        ended.push('async generator');
      }
    };
    const producer = ottla.producer();
    await expect(producer.sendBatch('orders', source())).rejects.toThrow(TypeError);
    await expect(producer.sendBatch('orders', asyncSource())).rejects.toThrow(TypeError);
    expect(ended).toEqual(['generator', 'async generator']);
  });

  it('does not hold up what is sent after it', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const failing = failureOf(() => producer.sendBatch('orders', [bad]));
    expect(await producer.send('orders', { value: 'a' })).toMatchObject({ offset: 0 });
    expect(await failing).toBeInstanceOf(TypeError);
    await producer.close();
  });

  it.each<unknown>([undefined, null, 7, {}, { length: 1, 0: { value: 'a' } }])(
    'because %s is not iterable',
    async (records) => {
      const ottla = await open();
      await ottla.topics.create('orders');
      const sent = ottla.producer().sendBatch('orders', records as RecordToSend[]);
      await expect(sent).rejects.toThrow(/expected an iterable of records, got/);
      await expect(sent).rejects.toThrow(TypeError);
    },
  );

  it('because the topic was deleted meanwhile', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const deleted = arrived(ottla, 10).then(() => ottla.topics.delete('orders'));
    const source = pausing(numbered(0, 10), deleted, numbered(0, 10));
    const error = await failureOf(() => ottla.producer().sendBatch('orders', source));
    expect(error).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
      written: [{ partition: 0, baseOffset: 0, count: 10 }],
    });
  });
});
