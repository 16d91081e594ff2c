import { Ottla, type Consumer } from 'ottla';
import { logsOf, scan, scanAndMake, scanMakeAndAwait } from './floors.js';
import {
  oneByOne,
  records,
  timed,
  type Goal,
  type Measured,
  type Row,
  type Setting,
  type Subject,
} from './harness.js';

/** A topic 'bench' full of records, and the floor of reading it. */
export async function filled(
  { directory, scaled }: Setting,
  partitions: number,
  wanted: number = 1_000_000,
): Promise<{ ottla: Ottla; count: number; logs: () => string[] }> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('bench', { partitions });
  const producer = ottla.producer({ acks: 1 });
  const calls = Math.ceil(scaled(wanted) / records.length);
  for (let i = 0; i < calls; i++) await producer.sendBatch('bench', records);
  const count = calls * records.length;
  return { ottla, count, logs: () => logsOf(directory, 'bench') };
}

async function byBatches(consumer: Consumer, count: number): Promise<void> {
  let seen = 0;
  for await (const batch of consumer.batches()) {
    for (const record of batch) if (record.value !== null) seen++;
    if (seen === count) break;
  }
}

export async function byRecords(consumer: Consumer, count: number): Promise<void> {
  let seen = 0;
  for await (const record of consumer) if (record.value !== null && ++seen === count) break;
}

/** A new group of one consumer reads the first `count` records of the topic. */
export async function consume(
  ottla: Ottla,
  round: number,
  autoCommit: boolean,
  measured: (consumer: Consumer) => Promise<Measured>,
): Promise<Measured> {
  const consumer = ottla.consumer({ group: `bench-${round}`, topics: ['bench'], autoCommit });
  await consumer.ready();
  const result = await measured(consumer);
  await consumer.close();
  return result;
}

const made = '; and for each record an object with two Buffers over copied bytes';
/** What floors do besides reading the files. */
const besides: ReadonlyMap<typeof scan, string> = new Map([
  [scanAndMake, made],
  [scanMakeAndAwait, `${made}, handed over by for await`],
]);

function row(
  name: string,
  partitions: number,
  how: string,
  read: typeof byBatches,
  goal?: Goal,
  least: typeof scan = scan,
): Row {
  const where = partitions === 1 ? '1 partition' : `${partitions} partitions`;
  return {
    name,
    unit: 'records',
    what: `a group of one consumer reads ${where} by ${how}, with automatic commits; floor: the files read 1 MiB at a time, and their CRC-32C${besides.get(least) ?? ''}`,
    ...(goal === undefined ? {} : { goal }),
    async prepare(setting) {
      const { ottla, count, logs } = await filled(setting, partitions);
      const floor = (): Promise<Measured> => least(logs(), count);
      let round = 0;
      const run = (): Promise<Measured> =>
        consume(ottla, round++, true, (consumer) => timed(count, () => read(consumer, count)));
      return { run, floor, close: () => ottla.close() };
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** One record at a time to a consumer that has found nothing and waits. */
async function latency(
  { directory, scaled }: Setting,
  send: 'send' | 'sendBatch',
): Promise<Subject> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('bench');
  const producer = ottla.producer({ acks: 1 });
  const consumer = ottla.consumer({ group: 'bench', topics: ['bench'], autoCommit: false });
  await consumer.ready();
  const iterator = consumer[Symbol.asyncIterator]();
  const count = scaled(20_000);
  let arrival: Promise<unknown> = Promise.resolve();
  const wait = async (): Promise<void> => {
    arrival = iterator.next();
    await turn();
  };
  const run = (): Promise<Measured> =>
    oneByOne(
      count,
      (i) => {
        const record = records[i % records.length]!;
        const sent =
          send === 'send' ? producer.send('bench', record) : producer.sendBatch('bench', [record]);
        return Promise.all([sent, arrival]);
      },
      wait,
    );
  const floor = (): Promise<Measured> =>
    oneByOne(count, send === 'send' ? turn : () => Promise.resolve(), turn);
  return { run, floor, close: () => ottla.close() };
}

export const rows: readonly Row[] = [
  row('deliver batches()', 1, 'batches()', byBatches, { least: 0.3 }),
  row('deliver batches(), beside records made', 1, 'batches()', byBatches, undefined, scanAndMake),
  row('deliver batches(), 8 partitions', 8, 'batches()', byBatches),
  row('deliver for await', 1, 'for await', byRecords, { least: 0.15 }),
  row(
    'deliver for await, beside records made',
    1,
    'for await',
    byRecords,
    undefined,
    scanMakeAndAwait,
  ),
  {
    name: 'deliver latency, sendBatch',
    unit: 'round trips',
    what: 'from a sendBatch of one record, acks 1, to a consumer that waits, median; floor: a promise, median',
    prepare: (setting) => latency(setting, 'sendBatch'),
  },
  {
    name: 'deliver latency, send',
    unit: 'round trips',
    what: 'from a send, acks 1, written at the end of the turn, to a consumer that waits, median; floor: setImmediate, median',
    prepare: (setting) => latency(setting, 'send'),
  },
];
