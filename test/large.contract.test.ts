import { expect, it } from 'vitest';
import { defineTopic, type Ottla, type RecordToSend } from '../src/index.js';
import { collect, describeContract } from './contract.js';

/** Bytes that differ from those of any other number, wherever one looks. */
function bytesOf(number: number, size: number): Buffer {
  const pattern = Buffer.alloc(8);
  pattern.writeUInt32LE(number);
  pattern.writeUInt32LE(Math.imul(number, 0x9e3779b1) >>> 0, 4);
  return Buffer.alloc(size, pattern);
}

/** Around 4 KiB small values cease to be copied; chunks of 64 KiB and 1 MiB are read. */
const sizes = [10, 100, 1000, 4095, 4096, 5000, 20_000, 65_536, 100_000];

function sizeOf(number: number): number {
  return sizes[number % sizes.length]!;
}

function* records(count: number): Generator<RecordToSend> {
  for (let i = 0; i < count; i++) {
    yield {
      key: bytesOf(i, i % 50),
      value: bytesOf(i, sizeOf(i)),
      headers: { small: bytesOf(i, 5), large: bytesOf(i, i % 7 === 0 ? 6000 : 30) },
    };
  }
}

interface Held {
  readonly offset: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [string, Buffer | null])[];
}

/** Whether each part is what was sent, of the record with this number. */
function isIntact({ offset, key, value, headers }: Held): boolean {
  const parts = [key, value, headers[0]?.[1], headers[1]?.[1]];
  const expectedSizes = [offset % 50, sizeOf(offset), 5, offset % 7 === 0 ? 6000 : 30];
  return parts.every((part, i) => part!.equals(bytesOf(offset, expectedSizes[i]!)));
}

describeContract('large values', ({ open }) => {
  it('pass 1 MiB where the topic says so', async () => {
    const ottla = await open();
    const maxMessageBytes = 8 * 1024 * 1024;
    const orders = defineTopic('orders', { maxMessageBytes, value: 'bytes' });
    await ottla.topics.create(orders);
    const producer = ottla.producer();
    const large = [3 * 1024 * 1024, 5, 1024 * 1024, 7 * 1024 * 1024, 1_048_588, 5];
    const values = large.map((size, i) => bytesOf(i, size));
    await Promise.all(values.map((value) => producer.send(orders, { value })));
    await producer.sendBatch(
      orders,
      values.map((value) => ({ value })),
    );
    const read = await collect(ottla.read(orders));
    expect(read.map(({ value }) => value.length)).toEqual([...large, ...large]);
    expect(read.every(({ value }, i) => value.equals(values[i % 6]!))).toBe(true);
  });

  it('take strings of every kind of letter', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { maxMessageBytes: 8 * 1024 * 1024, value: 'string' });
    await ottla.topics.create(orders);
    const values = ['a', '\u00e9', '\u20ac', '\u{1f600}', 'a\u20ac'].map((letter) =>
      letter.repeat(600_000),
    );
    await Promise.all(values.map((value) => ottla.producer().send(orders, { value })));
    const read = await collect(ottla.read(orders));
    expect(read.map(({ value }, i) => value === values[i])).toEqual(values.map(() => true));
  });

  it.each([
    [
      'sendBatch',
      async (ottla: Ottla, count: number) => ottla.producer().sendBatch('orders', records(count)),
    ],
    [
      'send',
      async (ottla: Ottla, count: number) => {
        const producer = ottla.producer({ acks: 1 });
        await Promise.all(Array.from(records(count), (record) => producer.send('orders', record)));
      },
    ],
  ])('kept while 50 MB are read stay as they were: %s', async (_, sendAll) => {
    const ottla = await open();
    const count = 2400;
    await ottla.topics.create('orders');
    await sendAll(ottla, count);
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions[0]?.bytes).toBeGreaterThan(50_000_000);
    // Two at once: what one reads must not end up in what the other holds.
    const [one, other] = await Promise.all([
      collect(ottla.read('orders')),
      collect(ottla.read('orders').batches()),
    ]);
    const offsets = [...Array(count).keys()];
    for (const held of [one, other.flatMap((batch) => batch.records)]) {
      expect(held.map(({ offset }) => offset)).toEqual(offsets);
      expect(held.filter((record) => !isIntact(record))).toEqual([]);
    }
  });

  it('kept by a consumer stay as they were', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await ottla.producer().sendBatch('orders', records(300));
    const held: Held[] = [];
    for await (const record of ottla.consumer({ group: 'g', topics: ['orders'] })) {
      held.push(record);
      if (held.length === 300) break;
    }
    expect(held.filter((record) => !isIntact(record))).toEqual([]);
  });
});
