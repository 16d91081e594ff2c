import { join } from 'node:path';
import { open } from 'lmdb';
import { defineTopic, Ottla } from 'ottla';
import { z } from 'zod';
import { timed, type Row, type Setting, type Subject } from './harness.js';

const order = z.object({
  id: z.string(),
  customer: z.string(),
  total: z.number(),
  paid: z.boolean(),
  lines: z.array(z.object({ item: z.string(), count: z.number() })),
});
const validate = order['~standard'].validate;
const batchSize = 1000;

function orderOf(i: number): z.input<typeof order> {
  return {
    id: `order-${i}`,
    customer: `customer-${i % 100}`,
    total: i * 1.25,
    paid: i % 2 === 0,
    lines: [
      { item: 'tea', count: i % 7 },
      { item: 'ink', count: 1 },
    ],
  };
}

/** Objects in lmdb, by number, with msgpackr's shared structures, not synced. */
function lmdbAt(directory: string) {
  return open<z.input<typeof order>, number>({
    path: join(directory, 'lmdb'),
    sharedStructuresKey: Symbol.for('structures'),
    noSync: true,
  });
}

/** Both sides check each object with zod, when it is written and when it is read. */
function checked(value: unknown): z.output<typeof order> {
  const result = validate(value);
  if (result instanceof Promise || result.issues !== undefined) throw new Error('it is no order');
  return result.value;
}

type ObjectCodec = 'msgpack' | 'msgpack-shared';

async function prepare({ directory, scaled }: Setting, codec: ObjectCodec) {
  const orders = defineTopic('orders', { value: { codec, schema: order } });
  const count = scaled(200_000);
  const values = Array.from({ length: count }, (_, i) => orderOf(i));
  const ottla = await Ottla.open(join(directory, 'data'));
  await ottla.topics.create(orders);
  const database = lmdbAt(directory);
  const producer = ottla.producer({ acks: 1 });
  const send = async (): Promise<void> => {
    for (let at = 0; at < count; at += batchSize) {
      await producer.sendBatch(
        orders,
        values.slice(at, at + batchSize).map((value) => ({ value })),
      );
    }
  };
  const put = async (): Promise<void> => {
    let last: Promise<boolean> | undefined;
    for (const [i, value] of values.entries()) {
      checked(value);
      last = database.put(i, value);
    }
    await last;
  };
  const close = async (): Promise<void> => {
    await ottla.close();
    await database.close();
  };
  return { orders, count, ottla, database, send, put, close };
}

const what = (codec: ObjectCodec): string =>
  `objects of five properties, as ${codec}, acks 1, each checked by zod`;

const written = (name: string, codec: ObjectCodec, goal: Pick<Row, 'goal'> = {}): Row => ({
  name,
  unit: 'objects',
  what: `${what(codec)}; floor: put() into lmdb with shared structures and no sync, checked too`,
  ...goal,
  prepare: async (setting): Promise<Subject> => {
    const { count, send, put, close } = await prepare(setting, codec);
    return { run: () => timed(count, send), floor: () => timed(count, put), close };
  },
});

const readBack = (name: string, codec: ObjectCodec, goal: Pick<Row, 'goal'> = {}): Row => ({
  name,
  unit: 'objects',
  what: `${what(codec)}; floor: getRange() of lmdb with shared structures, checked too`,
  ...goal,
  prepare: async (setting): Promise<Subject> => {
    const { orders, count, ottla, database, send, put, close } = await prepare(setting, codec);
    await send();
    await put();
    return {
      run: () =>
        timed(count, async () => {
          let total = 0;
          for await (const batch of ottla.read(orders).batches()) {
            for (const { value } of batch) total += value.total;
          }
          if (total === 0 && count > 1) throw new Error('nothing was read');
        }),
      floor: () =>
        timed(count, () => {
          let total = 0;
          for (const { value } of database.getRange()) total += checked(value).total;
          if (total === 0 && count > 1) throw new Error('nothing was read');
        }),
      close,
    };
  },
});

export const rows: readonly Row[] = [
  written('objects written', 'msgpack-shared', { goal: { least: 3 } }),
  written('objects written alone', 'msgpack'),
  readBack('objects read', 'msgpack-shared', { goal: { least: 1.5 } }),
  readBack('objects read alone', 'msgpack'),
];
