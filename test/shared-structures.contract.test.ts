import { expect, it } from 'vitest';
import { z } from 'zod';
import { Ottla, defineTopic } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

const order = z.object({
  id: z.string(),
  paid: z.boolean(),
  lines: z.array(z.object({ item: z.string() })),
});
const orders = defineTopic('orders', { value: { codec: 'msgpack-shared', schema: order } });
const orderOf = (n: number): z.infer<typeof order> => ({
  id: `order-${n}`,
  paid: n % 2 === 0,
  lines: [{ item: 'tea' }, { item: 'ink' }],
});

/** Sends orders one by one, of which the first are stored before their property names are. */
async function sendOrders(ottla: Ottla, count: number): Promise<void> {
  await ottla.topics.create(orders);
  const producer = ottla.producer();
  for (let n = 0; n < count; n++) await producer.send(orders, { value: orderOf(n) });
}

const values = async (ottla: Ottla): Promise<unknown[]> =>
  (await collect(ottla.read(orders))).map(({ value }) => value);

const expected = (count: number): unknown[] => Array.from({ length: count }, (_, n) => orderOf(n));

describeContract('structures of a topic', ({ open }) => {
  it('are stored once, and make later records smaller', async () => {
    const ottla = await open();
    await ottla.topics.create(orders);
    const producer = ottla.producer();
    const sizes: number[] = [];
    // A record is smaller once its structure is durable: how many come before depends on the disk.
    while (sizes.length < 3 || sizes.at(-1)! >= 30) {
      const { offset } = await producer.send(orders, { value: orderOf(sizes.length) });
      const [record] = await collect(ottla.read('orders', { from: { 0: offset } }));
      sizes.push(record!.value!.length);
    }
    expect(sizes[0]).toBeGreaterThan(45);
    expect(await values(ottla)).toEqual(expected(sizes.length));
  });

  it('are of any number, of which 32 are stored', async () => {
    const ottla = await open();
    const any = defineTopic('any', { key: 'msgpack-shared', value: 'msgpack-shared' });
    await ottla.topics.create(any);
    const producer = ottla.producer();
    const sent = Array.from({ length: 200 }, (_, n) => {
      const value: Record<string, unknown> = {
        [`property${n % 50}`]: n,
        nested: [{ [`n${n % 3}`]: 1 }],
      };
      return { key: { user: n % 7 }, value };
    });
    for (const record of sent) await producer.send(any, record);
    const read = await collect(ottla.read(any));
    expect(read.map(({ key, value }) => ({ key, value }))).toEqual(sent);
  });

  it('are those of one topic, not of the next one of its name', async () => {
    const ottla = await open();
    await sendOrders(ottla, 10);
    await ottla.topics.delete('orders');
    await sendOrders(ottla, 10);
    expect(await values(ottla)).toEqual(expected(10));
  });

  it('serve transactions and groups', async () => {
    const ottla = await open();
    await sendOrders(ottla, 5);
    const producer = ottla.producer({ transactionalId: 't' });
    for (let n = 5; n < 10; n++) {
      await producer.transaction((t) => t.send(orders, { value: orderOf(n) }));
    }
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    const ids = [];
    for await (const { value } of consumer) if (ids.push(value.id) === 10) break;
    expect(ids).toEqual(expected(10).map((value) => (value as { id: string }).id));
  });
});

describeDirectory('structures of a topic', ({ open, reopen, directoryOf }) => {
  it('are there again after a restart, and for who only reads', async () => {
    const ottla = await open();
    await sendOrders(ottla, 3);
    const beside = await Ottla.open(directoryOf(ottla), { readOnly: true });
    const other = defineTopic('orders', { value: { codec: 'msgpack-shared', schema: order } });
    const read = async (): Promise<unknown[]> =>
      (await collect(beside.read(other))).map(({ value }) => value);
    expect(await read()).toEqual(expected(3));
    // More of them since, which the reader does not know yet.
    const more = defineTopic('orders', { value: 'msgpack-shared' });
    const producer = ottla.producer();
    for (let n = 0; n < 5; n++) await producer.send(more, { value: { ...orderOf(n), note: 'n' } });
    const notes = (await collect(beside.read(more))).map(({ value }) => value).slice(3);
    expect(notes).toEqual(Array.from({ length: 5 }, (_, n) => ({ ...orderOf(n), note: 'n' })));
    await beside.close();
    const again = await reopen(ottla);
    expect(await values(again)).toHaveLength(8);
    expect((await values(again)).slice(0, 3)).toEqual(expected(3));
  });
});

it('a record whose structure is not known is one that cannot be decoded', async (test) => {
  const { ottla } = testOttla(test);
  const copies = defineTopic('copies', { value: 'msgpack-shared' });
  await ottla.topics.create(copies);
  await sendOrders(ottla, 5);
  for (const { value } of await collect(ottla.read('orders'))) {
    await ottla.producer().send('copies', { value });
  }
  // The first ones have their property names with them; the last one refers to those of another topic.
  const skipped: number[] = [];
  await collect(ottla.read(copies, { onInvalid: ({ offset }) => void skipped.push(offset) }));
  expect(skipped).toContain(4);
  const failure = await failureOf(() => collect(ottla.read(copies)));
  expect(failure).toMatchObject({ code: 'INVALID_RECORD' });
  expect(failure.message).toContain('structure 0 of its topic is not known');
});

it('structures belong to one Ottla, though its topics have the ids of others', async (test) => {
  const [first, second] = [testOttla(test).ottla, testOttla(test).ottla];
  await second.topics.create(orders);
  const loose = defineTopic('orders', { value: 'msgpack-shared' });
  for (let n = 0; n < 3; n++) await second.producer().send(loose, { value: { other: n } });
  await sendOrders(first, 4);
  for (let n = 0; n < 3; n++) await second.producer().send(orders, { value: orderOf(n) });
  expect((await first.topics.describe('orders')).id).toBe(
    (await second.topics.describe('orders')).id,
  );
  expect(await values(first)).toEqual(expected(4));
  const read = (await collect(second.read(loose))).map(({ value }) => value);
  expect(read).toEqual([{ other: 0 }, { other: 1 }, { other: 2 }, ...expected(3)]);
});
