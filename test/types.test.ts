import { beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import {
  defineTopic,
  Ottla,
  type Codec,
  type ConsumerRecord,
  type Headers,
  type RecordMetadata,
  type RecordOf,
  type RecordToSend,
  type StandardSchema,
  type TopicReading,
  type WrittenRun,
} from '../src/index.js';
import { closedAfterEach, collect } from './contract.js';

/*
 * What these tests say of types is checked by tsc, which fails as well where a `@ts-expect-error` is of no
 * error. Run, they check that what does not compile is refused.
 */

interface Order {
  id: string;
  total: number;
}

const orderSchema = z.object({ id: z.string(), total: z.number() });
const orders = defineTopic('orders', { partitions: 2, key: 'string', value: orderSchema });
const visits = defineTopic('visits', {
  key: { codec: 'string', schema: z.enum(['web', 'app']) },
  value: z.object({ at: z.string().transform((text) => new Date(text)) }),
});
const price: Codec<number, number> = { encode: String, decode: Number };
const prices = defineTopic('prices', {
  value: price,
});

const opened = closedAfterEach();
let ottla: Ottla;
beforeEach(async () => {
  ottla = opened(Ottla.memory());
  for (const topic of [orders, visits, prices]) await ottla.topics.create(topic);
  await ottla.topics.create('raw');
});

describe('send', () => {
  it('takes keys and values of the definition', async () => {
    const producer = ottla.producer();
    const sent = producer.send(orders, { key: 'u1', value: { id: 'o1', total: 9 } });
    expectTypeOf(sent).toEqualTypeOf<Promise<RecordMetadata<typeof orders>>>();
    expectTypeOf((await sent).topic).toEqualTypeOf<'orders'>();
    await producer.send(visits, { key: 'web', value: { at: '2024-05-06T07:08:09.000Z' } });
    await producer.send(prices, { value: 7 });
    await producer.send('raw', { key: new Uint8Array(1), value: null });
    const runs = producer.sendBatch(orders, [{ key: null, value: { id: 'o2', total: 1 } }]);
    expectTypeOf(runs).toEqualTypeOf<Promise<WrittenRun[]>>();
    expect(await runs).toHaveLength(1);
  });

  it('takes no others', async () => {
    const producer = ottla.producer();
    const at = new Date();
    const refused = [
      // @ts-expect-error a number for the id
      producer.send(orders, { value: { id: 1, total: 9 } }),
      // @ts-expect-error no total
      producer.send(orders, { value: { id: 'o1' } }),
      // @ts-expect-error null where there is a codec
      producer.send(orders, { value: null }),
      // @ts-expect-error no value
      producer.send(orders, { key: 'u1' }),
      // @ts-expect-error a number for a key
      producer.send(orders, { key: 7, value: { id: 'o1', total: 9 } }),
      // @ts-expect-error not one of the keys
      producer.send(visits, { key: 'fax', value: { at: 'now' } }),
      // @ts-expect-error what comes out, not what goes in
      producer.send(visits, { value: { at } }),
      // @ts-expect-error an object without a codec
      producer.send('raw', { value: { id: 'o1' } }),
      // @ts-expect-error no partition
      producer.send('raw', { value: '', partition: '0' }),
      // @ts-expect-error no time
      producer.send('raw', { value: '', timestamp: at }),
      // @ts-expect-error no header
      producer.send('raw', { value: '', headers: { a: 1 } }),
      // @ts-expect-error no options
      producer.send('raw', { value: '' }, { wait: 5 }),
      // @ts-expect-error one of them is wrong
      producer.sendBatch(orders, [{ value: { id: 'o1', total: 9 } }, { value: 'o2' }]),
      // @ts-expect-error records of another topic
      producer.sendBatch(orders, [] as RecordToSend<typeof visits>[]).then(() => Promise.reject()),
    ];
    const outcomes = await Promise.allSettled(refused);
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => 'rejected'));
  });

  it('gives each codec its types', () => {
    const topicOf = {
      none: defineTopic('t'),
      string: defineTopic('t', { key: 'string', value: 'string' }),
      bytes: defineTopic('t', { key: 'bytes', value: 'bytes' }),
      json: defineTopic('t', { key: 'json', value: 'json' }),
    };
    type Sent<K extends keyof typeof topicOf> = RecordToSend<(typeof topicOf)[K]>;
    type Read<K extends keyof typeof topicOf> = RecordOf<(typeof topicOf)[K]>;
    expectTypeOf<Sent<'none'>['value']>().toEqualTypeOf<Uint8Array | string | null>();
    expectTypeOf<Read<'none'>>().toEqualTypeOf<
      ConsumerRecord<'t', Buffer | null, Buffer | null, Headers>
    >();
    expectTypeOf<Sent<'string'>['key']>().toEqualTypeOf<string | null | undefined>();
    expectTypeOf<Read<'string'>>().toEqualTypeOf<
      ConsumerRecord<'t', string | null, string, Headers>
    >();
    expectTypeOf<Sent<'bytes'>['value']>().toEqualTypeOf<Uint8Array>();
    expectTypeOf<Read<'bytes'>>().toEqualTypeOf<
      ConsumerRecord<'t', Buffer | null, Buffer, Headers>
    >();
    expectTypeOf<Sent<'json'>['value']>().toBeUnknown();
    expectTypeOf<Read<'json'>['value']>().toBeUnknown();
    expectTypeOf<RecordToSend['value']>().toEqualTypeOf<Uint8Array | string | null>();
    const byHand: StandardSchema<string, Date> = z.string().transform((text) => new Date(text));
    const dated = defineTopic('dated', { value: { codec: 'json', schema: byHand } });
    expectTypeOf<RecordToSend<typeof dated>['value']>().toEqualTypeOf<string>();
    expectTypeOf<RecordOf<typeof dated>['value']>().toEqualTypeOf<Date>();
    expect(dated.value.name).toBe('json');
  });
});

describe('headers', () => {
  const traced = defineTopic('traced', {
    headers: z.object({ trace: z.string(), tries: z.string().transform(Number).optional() }),
  });
  const free = defineTopic('free', { headers: z.object({ trace: z.string().optional() }) });
  const texts = defineTopic('texts', { headers: 'string' });

  it('take and give what the definition says, in each place that records go through', async () => {
    for (const topic of [traced, free, texts]) await ottla.topics.create(topic);
    const producer = ottla.producer();
    await producer.send(traced, { value: 'v', headers: { trace: 'x', tries: '3' } });
    await producer.sendBatch(free, [{ value: 'v' }, { value: 'v', headers: { trace: 'x' } }]);
    await producer.send(texts, { value: 'v', headers: { any: 'x', none: null } });
    const refused = [
      // @ts-expect-error no headers, of which one must be there
      producer.send(traced, { value: 'v' }),
      // @ts-expect-error not the one that must be there
      producer.send(traced, { value: 'v', headers: { tries: '3' } }),
      // @ts-expect-error what comes out, not what goes in
      producer.send(traced, { value: 'v', headers: { trace: 'x', tries: 3 } }),
      // @ts-expect-error pairs
      producer.send(texts, { value: 'v', headers: [['any', 'x']] }),
      // @ts-expect-error a number for a string
      producer.send(texts, { value: 'v', headers: { any: 3 } }),
      // @ts-expect-error one of them is wrong
      producer.sendBatch(traced, [{ value: 'v', headers: { trace: 1 } }]),
      // @ts-expect-error no headers
      ottla.producer({ transactionalId: 't' }).transaction((t) => t.send(traced, { value: 'v' })),
    ];
    const outcomes = await Promise.allSettled(refused);
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => 'rejected'));

    interface Tried {
      trace: string;
      tries?: number | undefined;
    }
    expectTypeOf<RecordOf<typeof traced>['headers']>().toEqualTypeOf<Tried>();
    expectTypeOf<RecordOf<typeof texts>['headers']>().toEqualTypeOf<
      Readonly<Record<string, string | null>>
    >();
    expectTypeOf<RecordOf<typeof orders>['headers']>().toEqualTypeOf<Headers>();
    const consumer = ottla.consumer({ group: 'g', topics: [traced, orders] });
    const seen: unknown[] = [];
    void consumer.run({
      eachRecord: (record) => {
        if (record.topic === 'traced') {
          expectTypeOf(record.headers).toEqualTypeOf<Tried>();
          seen.push(record.headers.tries?.toFixed(1));
        } else expectTypeOf(record.headers).toEqualTypeOf<Headers>();
      },
    });
    await ottla.idle();
    expect(seen).toEqual(['3.0']);
    // @ts-expect-error structures are of keys and values
    expect(() => defineTopic('t', { headers: 'msgpack-shared' })).toThrow(TypeError);
  });
});

describe('read', () => {
  it('gives what the definition gives', async () => {
    const at = '2024-05-06T07:08:09.000Z';
    await ottla.producer().send(visits, { key: 'app', value: { at } });
    const reading = ottla.read(visits);
    expectTypeOf(reading).toEqualTypeOf<TopicReading<typeof visits>>();
    const [record] = await collect(reading);
    expectTypeOf(record!).toEqualTypeOf<
      ConsumerRecord<'visits', 'web' | 'app' | null, { at: Date }, Headers>
    >();
    expectTypeOf(record!.headers).toEqualTypeOf<
      readonly (readonly [name: string, value: Buffer | null])[]
    >();
    expect(record!.value.at.toISOString()).toBe(at);
    const [batch] = await collect(reading.batches());
    expectTypeOf(batch!.topic).toEqualTypeOf<'visits'>();
    expectTypeOf(batch!.records).toEqualTypeOf<readonly RecordOf<typeof visits>[]>();
    expect([...batch!][0]!.key).toBe('app');
  });

  it('gives Buffers for a name, be it a literal or not', async () => {
    await ottla.producer().send('raw', { key: 'k', value: 'v' });
    for await (const record of ottla.read('raw')) {
      expectTypeOf(record).toEqualTypeOf<
        ConsumerRecord<'raw', Buffer | null, Buffer | null, Headers>
      >();
      expect(record.value!.toString()).toBe('v');
    }
    const name: string = 'raw';
    for await (const record of ottla.read(name)) {
      expectTypeOf(record).toEqualTypeOf<
        ConsumerRecord<string, Buffer | null, Buffer | null, Headers>
      >();
    }
    // @ts-expect-error not a place to read from
    expect(() => ottla.read('raw', { from: 'none' })).toThrow(TypeError);
    // @ts-expect-error not an option
    expect(() => ottla.read('raw', { form: 'earliest' })).toThrow(TypeError);
  });
});

describe('a consumer of several topics', () => {
  it('narrows a record by its topic', async () => {
    const producer = ottla.producer();
    await producer.send(orders, { key: 'u1', value: { id: 'o1', total: 9 } });
    await producer.send(prices, { value: 5 });
    await producer.send('raw', { value: 'v' });
    const consumer = ottla.consumer({ group: 'g', topics: [orders, prices, 'raw'] });
    const seen: string[] = [];
    for await (const record of consumer) {
      expectTypeOf(record.topic).toEqualTypeOf<'orders' | 'prices' | 'raw'>();
      expectTypeOf(record.value).toEqualTypeOf<Order | number | Buffer | null>();
      if (record.topic === 'orders') {
        expectTypeOf(record.key).toEqualTypeOf<string | null>();
        seen.push(record.value.id);
      } else if (record.topic === 'prices') {
        seen.push(record.value.toFixed(2));
      } else {
        expectTypeOf(record.value).toEqualTypeOf<Buffer | null>();
        seen.push(String(record.value));
      }
      if (seen.length === 3) break;
    }
    expect(seen.toSorted()).toEqual(['5.00', 'o1', 'v']);
  });

  it('narrows the records of a batch by its topic', async () => {
    await ottla.producer().send(orders, { value: { id: 'o1', total: 9 } });
    const consumer = ottla.consumer({ group: 'g', topics: [orders, prices] });
    const totals: number[] = [];
    for await (const batch of consumer.batches()) {
      expectTypeOf(batch.topic).toEqualTypeOf<'orders' | 'prices'>();
      if (batch.topic === 'orders') {
        expectTypeOf(batch.records[0]!.value).toEqualTypeOf<Order>();
        for (const record of batch) totals.push(record.value.total);
      }
      break;
    }
    expect(totals).toEqual([9]);
  });

  it('does not know a topic that it was not given', () => {
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    const use = async (): Promise<void> => {
      for await (const record of consumer) {
        // @ts-expect-error of another topic
        if (record.topic === 'prices') return;
      }
    };
    expectTypeOf(use).returns.resolves.toBeVoid();
    // @ts-expect-error not an assignor
    expect(() => ottla.consumer({ group: 'g', topics: [orders], assignor: 'best' })).toThrow(
      TypeError,
    );
    // @ts-expect-error no topic
    expect(() => ottla.consumer({ group: 'g', topics: [7] })).toThrow(TypeError);
  });
});

describe('a handler', () => {
  it('gets records, or batches, of the definitions', async () => {
    await ottla.producer().send(orders, { key: 'u1', value: { id: 'o1', total: 9 } });
    await ottla.producer().send(visits, { key: 'web', value: { at: '2024-05-06T07:08:09.000Z' } });
    const seen: unknown[] = [];
    const each = ottla.consumer({ group: 'each', topics: [orders, visits] });
    void each.run({
      eachRecord: (record, { attempt, signal }) => {
        expectTypeOf(attempt).toEqualTypeOf<number>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        if (record.topic === 'orders') {
          expectTypeOf(record.value).toEqualTypeOf<Order>();
          seen.push(record.value.total);
        } else {
          expectTypeOf(record.key).toEqualTypeOf<'web' | 'app' | null>();
          expectTypeOf(record.value.at).toEqualTypeOf<Date>();
          seen.push(record.value.at.getUTCFullYear());
        }
        // @ts-expect-error of another topic
        expect(record.topic === 'prices').toBe(false);
      },
    });
    const all = ottla.consumer({ group: 'all', topics: [orders] });
    void all.run({
      eachBatch: (batch) => {
        expectTypeOf(batch.records[0]!.value).toEqualTypeOf<Order>();
        for (const { key, value } of batch) seen.push(`${key} ${value.id}`);
      },
    });
    await ottla.idle();
    expect(new Set(seen)).toEqual(new Set([9, 2024, 'u1 o1']));
  });
});

describe('a transaction', () => {
  it('sends what the definitions take, and gives what its function returns', async () => {
    const producer = ottla.producer({ transactionalId: 't' });
    const done = producer.transaction((t) => {
      t.send(orders, { key: 'u1', value: { id: 'o1', total: 9 } });
      t.send(visits, { key: 'app', value: { at: '2024-05-06T07:08:09.000Z' } });
      return 7;
    });
    expectTypeOf(done).toEqualTypeOf<Promise<number>>();
    expect(await done).toBe(7);
    const wrong = producer.transaction((t) => {
      // @ts-expect-error a total is a number
      t.send(orders, { key: 'u1', value: { id: 'o1', total: '9' } });
    });
    await expect(wrong).rejects.toThrow(TypeError);
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    for await (const batch of consumer.batches()) {
      await producer.transaction(batch, (t) => {
        for (const { key, value } of batch) {
          expectTypeOf(value).toEqualTypeOf<Order>();
          t.send(orders, { key, value: { ...value, total: value.total + 1 } });
        }
      });
      break;
    }
    const totals = (await collect(ottla.read(orders))).map(({ value }) => value.total);
    expect(totals).toEqual([9, 10]);
  });
});

describe('options', () => {
  it('are of the types they say', () => {
    // @ts-expect-error no acks
    expect(() => ottla.producer({ acks: 2 })).toThrow(RangeError);
    // @ts-expect-error no option
    expect(() => ottla.producer({ linger: 2 })).toThrow(TypeError);
    // @ts-expect-error a partitioner gives a number
    expect(() => ottla.producer({ partitioner: () => '0' })).not.toThrow();
    // @ts-expect-error no codec
    expect(() => defineTopic('t', { value: 'xml' })).toThrow(TypeError);
    // @ts-expect-error no option
    expect(() => defineTopic('t', { partition: 3 })).toThrow(TypeError);
    // @ts-expect-error a schema stands in the place of a codec
    expect(() => defineTopic('t', { value: { codec: 'json' } })).toThrow(TypeError);
    // @ts-expect-error no event
    expect(() => ottla.on('close', () => undefined)).toThrow(TypeError);
  });
});
