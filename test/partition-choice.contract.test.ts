import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { murmur2, type Ottla, type Partitioner } from '../src/index.js';
import { collect, describeContract } from './contract.js';

const { vectors } = JSON.parse(
  readFileSync(new URL('vectors/murmur2.json', import.meta.url), 'utf8'),
) as { vectors: { hex: string; partition: Record<string, number> }[] };

/** As the partitioner gets it: strings are not encoded yet. */
function text(key: Uint8Array | string | null): string {
  return key === null ? 'null' : Buffer.from(key).toString();
}

const thrown = new Error('no idea');
const refusing: Partitioner = () => {
  throw thrown;
};

async function partitionsOf(ottla: Ottla, topic: string): Promise<number[]> {
  const records = await collect(ottla.read(topic));
  return records.map(({ partition }) => partition);
}

describeContract('choice of the partition', ({ open }) => {
  it('p01: an explicit one is used, key and partitioner are ignored', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    for (const partitioner of ['default', 'roundrobin', refusing] as const) {
      const producer = ottla.producer({ partitioner });
      for (const partition of [0, 1, 2]) {
        const sent = await producer.send('orders', { key: 'k', value: '', partition });
        expect(sent.partition).toBe(partition);
      }
      await producer.sendBatch('orders', [{ key: 'k', value: '', partition: 2 }]);
    }
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions.map(({ highWatermark }) => highWatermark)).toEqual([3, 3, 6]);
  });

  it.each([
    ['p02: negative', -1],
    ['p03: the number of partitions', 3],
    ['p03: larger', 2 ** 40],
    ['a fraction', 0.5],
    ['NaN', NaN],
  ])('%s is refused', async (_, partition) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const producer = ottla.producer();
    const refused = {
      name: 'RangeError',
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
      message: `topic orders: expected a partition from 0 to 2, got ${partition}`,
    };
    await expect(producer.send('orders', { value: '', partition })).rejects.toMatchObject(refused);
    const batch = producer.sendBatch('orders', [{ value: '' }, { value: '', partition }]);
    await expect(batch).rejects.toMatchObject({ ...refused, written: [] });
    expect(await partitionsOf(ottla, 'orders')).toEqual([]);
  });

  it('p04: without a key records stick to a partition until a batch is full', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 12 });
    const producer = ottla.producer({ acks: 1 });
    const few = await Promise.all(
      [null, undefined, null].map((key) => producer.send('orders', { key: key!, value: 'a' })),
    );
    expect(new Set(few.map(({ partition }) => partition)).size).toBe(1);
    // 64 batches: that all go to one of 12 partitions has a chance of 12 ** -63.
    const value = Buffer.alloc(1024);
    const many = await Promise.all(
      Array.from({ length: 1024 }, () => producer.send('orders', { value })),
    );
    expect(new Set(many.map(({ partition }) => partition)).size).toBeGreaterThan(1);
    await producer.sendBatch(
      'orders',
      Array.from({ length: 1024 }, () => ({ value })),
    );
    expect(await partitionsOf(ottla, 'orders')).toHaveLength(2051);
  });

  it('p05: an empty key is hashed', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 50 });
    expect(murmur2(Buffer.alloc(0))).toBe(275_646_681);
    const producer = ottla.producer();
    for (const key of ['', Buffer.alloc(0)]) {
      expect(await producer.send('orders', { key, value: '' })).toMatchObject({ partition: 31 });
    }
  });

  it.each([3, 12])('a key goes to the partition of its hash, out of %i', async (partitions) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions });
    const keys = vectors.map(({ hex }) => Buffer.from(hex, 'hex'));
    const expected = vectors.map(({ partition }) => partition[partitions]!);
    const producer = ottla.producer();
    const sent = await Promise.all(keys.map((key) => producer.send('orders', { key, value: '' })));
    expect(sent.map(({ partition }) => partition)).toEqual(expected);
    await producer.sendBatch(
      'orders',
      keys.map((key) => ({ key, value: '' })),
    );
    const records = await collect(ottla.read('orders'));
    expect(records).toHaveLength(2 * keys.length);
    const wrong = records.filter(
      ({ key, partition }) => (murmur2(key!) & 0x7fffffff) % partitions !== partition,
    );
    expect(wrong).toEqual([]);
  });

  it('a string is hashed as its UTF-8', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 50 });
    const producer = ottla.producer();
    for (const key of ['a', 'é', '\u20ac'.repeat(40), '\u{1f600}', 'x'.repeat(5000), '\ud800']) {
      const expected = (murmur2(Buffer.from(key)) & 0x7fffffff) % 50;
      expect(await producer.send('orders', { key, value: '' })).toMatchObject({
        partition: expected,
      });
    }
  });

  it('p07: a key may go elsewhere once there are more partitions', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 1 });
    const producer = ottla.producer();
    await producer.send('orders', { key: 'k', value: '' });
    await ottla.topics.addPartitions('orders', 50);
    const { partition } = await producer.send('orders', { key: 'k', value: '' });
    expect(partition).toBe((murmur2(Buffer.from('k')) & 0x7fffffff) % 50);
  });

  it('p06: roundrobin takes turns, whatever the key, topic by topic', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    await ottla.topics.create('bills', { partitions: 3 });
    const producer = ottla.producer({ partitioner: 'roundrobin' });
    const chosen: Record<'orders' | 'bills', number[]> = { orders: [], bills: [] };
    for (let i = 0; i < 6; i++) {
      for (const topic of ['orders', 'bills'] as const) {
        chosen[topic].push((await producer.send(topic, { key: 'k', value: '' })).partition);
      }
    }
    for (const partitions of Object.values(chosen)) {
      const [first] = partitions;
      expect(partitions).toEqual([0, 1, 2, 3, 4, 5].map((i) => (first! + i) % 3));
    }
    await producer.sendBatch(
      'orders',
      Array.from({ length: 9 }, () => ({ key: 'k', value: '' })),
    );
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions.map(({ highWatermark }) => highWatermark)).toEqual([5, 5, 5]);
  });

  it('a partitioner of your own is asked for topic, key and number of partitions', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 4 });
    const asked: unknown[] = [];
    const producer = ottla.producer({
      partitioner: (topic, key, partitionCount) => {
        asked.push([topic, text(key), partitionCount]);
        return key === null ? 3 : Number(text(key));
      },
    });
    const sent = [
      await producer.send('orders', { key: '1', value: '' }),
      await producer.send('orders', { key: Buffer.from('2'), value: '' }),
      await producer.send('orders', { value: '' }),
    ];
    expect(sent.map(({ partition }) => partition)).toEqual([1, 2, 3]);
    expect(asked).toEqual([
      ['orders', '1', 4],
      ['orders', '2', 4],
      ['orders', 'null', 4],
    ]);
    expect(await producer.sendBatch('orders', [{ key: '0', value: '' }])).toEqual([
      { partition: 0, baseOffset: 0, count: 1 },
    ]);
  });

  it.each<[what: string, result: unknown, error: typeof TypeError]>([
    ['-1', -1, RangeError],
    ['the number of partitions', 4, RangeError],
    ['a fraction', 1.5, RangeError],
    ['NaN', NaN, RangeError],
    ['a string', '1', TypeError],
    ['nothing', undefined, TypeError],
    ['a promise', Promise.resolve(1), TypeError],
  ])('a partitioner that returns %s is refused', async (_, result, kind) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 4 });
    const producer = ottla.producer({ partitioner: () => result as number });
    const sent = producer.send('orders', { key: 'k', value: '' });
    await expect(sent).rejects.toThrow(kind);
    await expect(sent).rejects.toThrow(/expected a partition from 0 to 3, got/);
    await expect(producer.sendBatch('orders', [{ value: '' }])).rejects.toThrow(kind);
    expect(await partitionsOf(ottla, 'orders')).toEqual([]);
  });

  it('what a partitioner throws fails the send', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer({ partitioner: refusing });
    await expect(producer.send('orders', { value: '' })).rejects.toBe(thrown);
    await expect(producer.sendBatch('orders', [{ value: '' }])).rejects.toBe(thrown);
  });
});
