import { Ottla, type Consumer } from 'ottla';
import { logsOf, scan } from './floors.js';
import {
  records,
  timed,
  type Goal,
  type Measured,
  type Row,
  type Setting,
  type Subject,
} from './harness.js';

const total = 1_000_000;

/** A topic 'bench' full of records, and the floor of reading it. */
export async function filled(
  { directory, scaled }: Setting,
  partitions: number,
  count: number = total,
): Promise<{ ottla: Ottla; count: number; floor: () => Measured }> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('bench', { partitions });
  const producer = ottla.producer({ acks: 1 });
  const calls = Math.ceil(scaled(count) / records.length);
  for (let i = 0; i < calls; i++) await producer.sendBatch('bench', records);
  const filledCount = calls * records.length;
  return {
    ottla,
    count: filledCount,
    floor: () => scan(logsOf(directory, 'bench'), filledCount),
  };
}

async function byBatches(consumer: Consumer, count: number): Promise<void> {
  let seen = 0;
  for await (const batch of consumer.batches()) {
    seen += batch.records.length;
    if (seen >= count) break;
  }
}

async function byRecords(consumer: Consumer, count: number): Promise<void> {
  let seen = 0;
  for await (const record of consumer) {
    if (record.value === null) throw new Error('no value');
    if (++seen === count) break;
  }
}

/** A new group of one consumer that reads the whole topic. */
export async function consumeAll(
  ottla: Ottla,
  round: number,
  autoCommit: boolean,
  count: number,
  consume: (consumer: Consumer, count: number) => Promise<void>,
): Promise<Measured> {
  const consumer = ottla.consumer({ group: `bench-${round}`, topics: ['bench'], autoCommit });
  await consumer.ready();
  const measured = await timed(count, () => consume(consumer, count));
  await consumer.close();
  return measured;
}

function row(
  name: string,
  what: string,
  partitions: number,
  consume: typeof byBatches,
  goal?: Goal,
): Row {
  return {
    name,
    unit: 'records',
    what: `${what}, automatic commits; floor: the same files read 1 MiB at a time, and their CRC-32C`,
    ...(goal === undefined ? {} : { goal }),
    async prepare(setting) {
      const { ottla, count, floor } = await filled(setting, partitions);
      let round = 0;
      return {
        run: () => consumeAll(ottla, round++, true, count, consume),
        floor,
        close: () => ottla.close(),
      };
    },
  };
}

/** One record at a time to a consumer that waits: from the call of sendBatch or send to the record. */
async function latency({ directory, scaled }: Setting, single: boolean): Promise<Subject> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('bench');
  const producer = ottla.producer({ acks: 1 });
  const consumer = ottla.consumer({ group: 'bench', topics: ['bench'], autoCommit: false });
  await consumer.ready();
  const iterator = consumer[Symbol.asyncIterator]();
  const count = scaled(20_000);
  let waiting = iterator.next();
  const run = async (): Promise<Measured> => {
    let ms = 0;
    for (let i = 0; i < count; i++) {
      const record = records[i % records.length]!;
      // The consumer has found nothing and waits.
      await new Promise((resolve) => setImmediate(resolve));
      const began = performance.now();
      const sent = single ? producer.send('bench', record) : producer.sendBatch('bench', [record]);
      await waiting;
      ms += performance.now() - began;
      await sent;
      waiting = iterator.next();
    }
    return { count, ms };
  };
  const floor = async (): Promise<Measured> => {
    let ms = 0;
    for (let i = 0; i < count; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      const began = performance.now();
      await new Promise((resolve) =>
        single ? setImmediate(resolve) : queueMicrotask(() => resolve(null)),
      );
      ms += performance.now() - began;
    }
    return { count, ms };
  };
  return { run, floor, close: () => ottla.close() };
}

export const rows: readonly Row[] = [
  row('deliver batches()', 'a group of one consumer reads 1 partition by batches()', 1, byBatches, {
    least: 0.3,
  }),
  row(
    'deliver batches(), 8 partitions',
    'a group of one consumer reads 8 partitions by batches()',
    8,
    byBatches,
  ),
  row(
    'deliver for await',
    'a group of one consumer reads 1 partition record by record',
    1,
    byRecords,
    { least: 0.15 },
  ),
  {
    name: 'deliver latency, sendBatch',
    unit: 'round trips',
    what: 'from the call of sendBatch with one record, acks 1, until a waiting for await has it; floor: a promise resolved in a microtask',
    prepare: (setting) => latency(setting, false),
  },
  {
    name: 'deliver latency, send',
    unit: 'round trips',
    what: 'as before with send, which is written at the end of the turn; floor: a promise resolved by setImmediate',
    prepare: (setting) => latency(setting, true),
  },
];
