import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  defineTopic,
  type Codec,
  type CodecName,
  type Ottla,
  type StandardSchema,
} from '../src/index.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

/** Dates as their milliseconds, in 8 bytes. */
const dates: Codec<Date, Date> = {
  encode(date) {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(date.getTime());
    return bytes;
  },
  decode: (bytes) => new Date(bytes.readDoubleBE()),
};

/** A Standard Schema by hand: a number from text, or a number as it is. */
const numeric: StandardSchema<string | number, number> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate(value) {
      const number = Number(value);
      if (typeof value !== 'boolean' && !Number.isNaN(number)) return { value: number };
      return { issues: [{ message: 'no number', path: ['a', { key: 0 }] }] };
    },
  },
};

/** A promise of somebody else's. */
const thenable = (value: string): Promise<{ value: string }> =>
  ({
    // oxlint-disable-next-line no-thenable
    then: (resolve: (result: { value: string }) => void) => resolve({ value }),
  }) as never;

const asyncSchemaOf = (
  answer: (value: string) => Promise<{ value: string }>,
): StandardSchema<string> => ({
  '~standard': { version: 1, vendor: 'test', validate: (value) => answer(value as string) },
});

async function rawValue(ottla: Ottla): Promise<string> {
  const [record] = await collect(ottla.read('orders'));
  return String(record!.value);
}

describeContract('codecs', ({ open }) => {
  const nested = { id: 'o1', lines: [{ count: 2, note: null }], tags: {}, ok: true, total: 9.5 };

  const anything = [
    nested,
    [],
    '',
    -1,
    2 ** 40,
    0.1,
    false,
    new Date(1_700_000_000_123),
    Buffer.from([0, 255, 3]),
    { when: new Date(0), bytes: Buffer.from('x'), deep: [[[{ a: [1, 'b'] }]]] },
    2n ** 60n,
  ];

  it.each<[codec: CodecName, values: unknown[]]>([
    ['string', ['', 'a', 'é\u20ac\u{1f600}', '\u0000\n', 'x'.repeat(70_000)]],
    ['json', [nested, [], 'text', 7, true, { a: null }, '']],
    ['msgpack', anything],
    ['msgpack-shared', anything],
  ])('%s gives back equal values, and keys', async (codec, values) => {
    const ottla = await open();
    const orders = defineTopic('orders', { key: codec, value: codec });
    await ottla.topics.create(orders);
    const producer = ottla.producer();
    const records = values.map((value) => ({ key: value, value }) as never);
    await Promise.all(records.map((record) => producer.send(orders, record)));
    await producer.sendBatch(orders, records);
    const read = await collect(ottla.read(orders));
    const expected = [...values, ...values];
    expect(read.map(({ value }) => plain(value))).toEqual(expected.map(plain));
    expect(read.map(({ key }) => plain(key))).toEqual(expected.map(plain));
  });

  it.each(['json', 'msgpack', 'msgpack-shared'] as const)(
    '%s keeps many apart in one sendBatch',
    async (codec) => {
      const ottla = await open();
      const orders = defineTopic('orders', { value: codec });
      await ottla.topics.create(orders);
      const values = Array.from({ length: 10_000 }, (_, i) => ({ i, text: 't'.repeat(i % 50) }));
      await ottla.producer().sendBatch(
        orders,
        values.map((value) => ({ value })),
      );
      const read = await collect(ottla.read(orders));
      expect(read.map(({ value }) => value)).toEqual(values);
    },
  );

  it('bytes takes a Uint8Array, and gives a Buffer', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { key: 'bytes', value: 'bytes' });
    await ottla.topics.create(orders);
    await ottla.producer().send(orders, { key: new Uint8Array([1]), value: new Uint8Array(0) });
    const [record] = await collect(ottla.read(orders));
    expect(record).toMatchObject({ key: Buffer.from([1]), value: Buffer.alloc(0) });
    expect(Buffer.isBuffer(record?.value)).toBe(true);
    const text = 'text' as unknown as Uint8Array;
    await expect(ottla.producer().send(orders, { value: text })).rejects.toThrow(/got 'text'/);
  });

  it('a codec of your own', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { key: { encode: String, decode: Number }, value: dates });
    await ottla.topics.create(orders);
    await ottla.producer().send(orders, { key: 7, value: new Date(5) });
    expect(await collect(ottla.read(orders))).toMatchObject([{ key: 7, value: new Date(5) }]);
    expect((await collect(ottla.read('orders')))[0]?.key).toEqual(Buffer.from('7'));
  });

  it.each([undefined, 'no', Object.freeze(new Error('no'))])(
    'that throws %s refuses the send, or fails the reading, as one that throws an Error',
    async (thrown) => {
      const ottla = await open();
      const encodes = defineTopic('orders', {
        value: {
          encode: (): string => {
            throw thrown;
          },
          decode: String,
        },
      });
      const decodes = defineTopic('orders', {
        value: {
          encode: String,
          decode: () => {
            throw thrown;
          },
        },
      });
      await ottla.topics.create('orders');
      const failure = await failureOf(() => ottla.producer().send(encodes, { value: 1 }));
      expect(failure).toBeInstanceOf(TypeError);
      expect(failure.message).toMatch(/^orders: value: /);
      await ottla.producer().send(decodes, { value: 'v' });
      await expect(collect(ottla.read(decodes))).rejects.toMatchObject({ code: 'INVALID_RECORD' });
    },
  );

  it('may keep the bytes it is given', async () => {
    const ottla = await open();
    const same = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes };
    const orders = defineTopic('orders', { value: same });
    await ottla.topics.create(orders);
    const values = Array.from({ length: 3000 }, (_, i) => Buffer.alloc((i * 7) % 9000, i));
    await ottla.producer().sendBatch(
      orders,
      values.map((value) => ({ value })),
    );
    const read = await collect(ottla.read(orders));
    expect(read.every(({ value }, i) => value.equals(values[i]!))).toBe(true);
  });

  it('the key is optional with any codec', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { key: 'json', value: 'string' });
    await ottla.topics.create(orders);
    await ottla.producer().sendBatch(orders, [{ value: 'a' }, { key: null, value: 'b' }]);
    expect(await collect(ottla.read(orders))).toMatchObject([{ key: null }, { key: null }]);
  });

  it.each(['json', 'msgpack', 'msgpack-shared'] as const)(
    '%s does not let __proto__ pollute',
    async (codec) => {
      const ottla = await open();
      const orders = defineTopic('orders', { value: codec });
      await ottla.topics.create(orders);
      const evil = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';
      await ottla.producer().send(orders, { value: JSON.parse(evil) as unknown });
      await ottla.producer().send('orders', {
        // {"__proto__": {"polluted": true}}, as another program may write it.
        value: Buffer.concat([
          Buffer.from([0x81, 0xa9]),
          Buffer.from('__proto__'),
          Buffer.from([0x81, 0xa8]),
          Buffer.from('polluted'),
          Buffer.from([0xc3]),
        ]),
      });
      const reading = ottla.read(orders)[Symbol.asyncIterator]();
      const { value: record } = await reading.next();
      const outcome = await Promise.allSettled([reading.next()]);
      expect(outcome).toHaveLength(1);
      expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
      expect((record!.value as { polluted?: boolean }).polluted).toBeUndefined();
      expect(Object.getPrototypeOf(record!.value)).toBe(Object.prototype);
    },
  );

  it.each(['string', 'json', 'msgpack', 'bytes', numeric, dates] as const)(
    'null is no value where there is a codec (%o)',
    async (codec) => {
      const ottla = await open();
      const orders = defineTopic('orders', { value: codec });
      await ottla.topics.create(orders);
      const producer = ottla.producer();
      for (const value of [null, undefined] as never[]) {
        await expect(producer.send(orders, { value })).rejects.toThrow(
          new TypeError(`orders: expected a value, got ${String(value)}`),
        );
        await expect(producer.sendBatch(orders, [{ value }])).rejects.toThrow(TypeError);
      }
      await producer.send('orders', { value: null });
      await expect(collect(ottla.read(orders))).rejects.toMatchObject({ code: 'INVALID_RECORD' });
    },
  );

  it.each<[what: string, topic: { key?: never; value?: never }, record: object, expected: RegExp]>([
    ['a number for a string', { value: 'string' as never }, { value: 7 }, /orders: value:.+got 7/],
    [
      'a key that is no string',
      { key: 'string' as never },
      { key: {}, value: '' },
      /key:.+got \{\}/,
    ],
    ['undefined in JSON', { value: 'json' as never }, { value: () => 1 }, /value:.+JSON.+got/],
    ['a bigint in JSON', { value: 'json' as never }, { value: 1n }, /orders: value:/],
    ['NaN in JSON', { value: 'json' as never }, { value: NaN }, /value:.+JSON.+got NaN/],
    ['infinity in JSON', { value: 'json' as never }, { value: -Infinity }, /JSON.+got -Infinity/],
    ['a cycle in JSON', { value: 'json' as never }, { value: cyclic() }, /orders: value:/],
    ['a function in msgpack', { value: 'msgpack' as never }, { value: () => 1 }, /orders: value:/],
    [
      'a codec that gives no bytes',
      { value: { encode: (x: unknown) => x, decode: String } as never },
      { value: 7 },
      /encode must return.+got 7/,
    ],
  ])('%s is a TypeError', async (_, options, record, expected) => {
    const ottla = await open();
    const orders = defineTopic('orders', options);
    await ottla.topics.create(orders);
    const error = await failureOf(() => ottla.producer().send(orders, record as never));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(expected);
    expect(await collect(ottla.read('orders'))).toEqual([]);
  });
});

describeContract('schemas', ({ open }) => {
  it('check what is sent, and transform it when it is read, once', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', {
      key: { codec: 'string', schema: z.string().min(1) },
      value: {
        codec: 'json',
        schema: z.object({ at: z.string().transform((text) => new Date(text)), total: z.number() }),
      },
    });
    await ottla.topics.create(orders);
    const at = '2024-05-06T07:08:09.000Z';
    await ottla.producer().send(orders, { key: 'k', value: { at, total: 9 } });
    expect(JSON.parse(await rawValue(ottla))).toEqual({ at, total: 9 });
    const [record] = await collect(ottla.read(orders));
    expect(record?.value).toEqual({ at: new Date(at), total: 9 });
  });

  it('store what was sent, what they do not know of included', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { value: z.object({ id: z.string().default('none') }) });
    await ottla.topics.create(orders);
    const more = { id: 'o1', extra: [1] };
    await ottla.producer().sendBatch(orders, [{ value: more }, { value: {} }]);
    const loose = defineTopic('orders', { value: 'msgpack' });
    const stored = await collect(ottla.read(loose));
    expect(stored.map(({ value }) => value)).toEqual([more, {}]);
    const parsed = await collect(ottla.read(orders));
    expect(parsed.map(({ value }) => value)).toEqual([{ id: 'o1' }, { id: 'none' }]);
  });

  it('by hand work as well', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', {
      key: numeric,
      value: { codec: 'string', schema: numeric },
    });
    await ottla.topics.create(orders);
    await ottla.producer().send(orders, { key: '12', value: '7' });
    expect(await collect(ottla.read(orders))).toMatchObject([{ key: 12, value: 7 }]);
    const bad = ottla.producer().send(orders, { value: 'x' });
    await expect(bad).rejects.toThrow(TypeError);
    await expect(bad).rejects.toThrow(/orders: value: .*a\.0: no number; got 'x'/);
  });

  it('refuse what does not fit, naming where', async () => {
    const ottla = await open();
    const schema = z.object({ lines: z.array(z.object({ count: z.number().int() })) });
    const orders = defineTopic('orders', { value: schema });
    await ottla.topics.create(orders);
    const value = { lines: [{ count: 1 }, { count: 1.5 }] };
    const error = await failureOf(() => ottla.producer().send(orders, { value }));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(/orders: value: .*lines\.1\.count/);
    const batch = ottla.producer().sendBatch(orders, [{ value: { lines: [] } }, { value }]);
    await expect(batch).rejects.toMatchObject({ name: 'TypeError', written: [] });
    expect(await collect(ottla.read('orders'))).toEqual([]);
  });

  it('that answer later are refused', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const failing = (): Promise<never> => Promise.reject(new Error('later'));
    for (const answer of [async (value: string) => ({ value }), failing, thenable]) {
      const orders = defineTopic('orders', { value: asyncSchemaOf(answer) });
      const sent = ottla.producer().send(orders, { value: 'a' });
      await expect(sent).rejects.toThrow(TypeError);
      await expect(sent).rejects.toThrow(/async/);
    }
    const refined = defineTopic('orders', { value: z.string().refine(async () => true) });
    await expect(ottla.producer().send(refined, { value: 'a' })).rejects.toThrow(TypeError);
  });

  it('that no longer fit what is stored fail the reading at that record', async () => {
    const ottla = await open();
    const before = defineTopic('orders', { value: z.object({ id: z.string() }) });
    const after = defineTopic('orders', { value: z.object({ id: z.number() }) });
    await ottla.topics.create(before);
    await ottla.producer().send(before, { value: { id: 'o1' } });
    await expect(collect(ottla.read(after))).rejects.toMatchObject({
      code: 'INVALID_RECORD',
      message: expect.stringMatching(/orders-0.+value.+offset 0.+id/),
    });
  });
});

describeContract('a record that cannot be decoded', ({ open }) => {
  const orders = defineTopic('orders', { partitions: 2, key: 'json', value: 'json' });

  async function withBadRecord(): Promise<Ottla> {
    const ottla = await open();
    await ottla.topics.create(orders);
    const values = ['1', '2', '{', '4', '5'];
    await ottla.producer().sendBatch(
      'orders',
      values.map((value) => ({ value, partition: 1 })),
    );
    return ottla;
  }

  it('fails a reading, once all before it are given', async () => {
    const ottla = await withBadRecord();
    for (const source of [ottla.read(orders), ottla.read(orders).batches()]) {
      const seen: unknown[] = [];
      const error = await failureOf(async () => {
        for await (const item of source) {
          seen.push(...('records' in item ? item.records : [item]));
        }
      });
      expect(error).toMatchObject({
        name: 'OttlaError',
        code: 'INVALID_RECORD',
        retriable: false,
        message: expect.stringMatching(/^orders-1: the value at offset 2 .+SyntaxError/),
        cause: expect.any(SyntaxError),
      });
      expect(seen).toMatchObject([{ value: 1 }, { value: 2 }]);
    }
  });

  it('is passed by reading from behind it', async () => {
    const ottla = await withBadRecord();
    const read = await collect(ottla.read(orders, { from: { 1: 3 } }));
    expect(read).toMatchObject([{ value: 4 }, { value: 5 }]);
  });

  it('fails a consumer, again and again, until it seeks past it', async () => {
    const ottla = await withBadRecord();
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    const seen: unknown[] = [];
    const failures = [];
    while (seen.length < 4) {
      try {
        for await (const { offset, value } of consumer) {
          seen.push(value);
          if (offset === 4) break;
        }
      } catch (error) {
        failures.push(error);
        if (failures.length < 3) continue;
        await consumer.seek({ topic: 'orders', partition: 1, offset: 3 });
      }
    }
    expect(seen).toEqual([1, 2, 4, 5]);
    const invalid = { code: 'INVALID_RECORD', message: expect.stringContaining('offset 2') };
    expect(failures).toMatchObject([invalid, invalid, invalid]);
  });

  it('may be the key', async () => {
    const ottla = await withBadRecord();
    await ottla.producer().send('orders', { key: '}', value: '1', partition: 0 });
    const reading = collect(ottla.read(orders, { partitions: [0] }));
    await expect(reading).rejects.toThrow(/orders-0: the key at offset 0/);
  });
});

describeDirectory('codecs after a restart', ({ open, reopen }) => {
  it('find what they wrote, and topics.create compares their names', async () => {
    const orders = defineTopic('orders', { key: 'string', value: 'msgpack' });
    const before = await open();
    await before.topics.create(orders);
    await before.producer().send(orders, { key: 'k', value: { at: new Date(5) } });
    const after = await reopen(before);
    await after.topics.create(orders);
    expect(await collect(after.read(orders))).toMatchObject([{ value: { at: new Date(5) } }]);
    const other = defineTopic('orders', { key: 'string', value: 'json' });
    await expect(after.topics.create(other)).rejects.toMatchObject({
      code: 'TOPIC_ALREADY_EXISTS',
      message: expect.stringContaining('value codec is "msgpack", asked for "json"'),
    });
  });
});

describe('a definition', () => {
  it('keeps the topic’s options apart from its codecs', () => {
    const { name, options } = defineTopic('orders', { partitions: 3, key: 'json', value: dates });
    expect({ name, options }).toEqual({ name: 'orders', options: { partitions: 3 } });
  });
});

function cyclic(): object {
  const value: { self?: object } = {};
  value.self = value;
  return value;
}

/** Buffers and Uint8Arrays alike, as toEqual tells them apart. */
function plain(value: unknown): unknown {
  return value instanceof Uint8Array ? [...value] : value;
}
