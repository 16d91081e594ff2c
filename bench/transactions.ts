import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, type Producer, type ProducerOptions } from 'ottla';
import {
  oneByOne,
  records,
  timed,
  type Goal,
  type Measured,
  type Row,
  type Setting,
} from './harness.js';

/** What a promise costs, beside the same records without it. */
interface Cost {
  readonly name: string;
  readonly what: string;
  readonly goal?: Goal;
  readonly count: number;
  readonly options: ProducerOptions;
  readonly send: (producer: Producer, count: number) => Promise<Measured>;
  readonly plainOptions: ProducerOptions;
  readonly plain: (producer: Producer, count: number) => Promise<Measured>;
}

const windowCount = records.length;
const window = `${windowCount.toLocaleString('en-US')} records`;

function batches(producer: Producer, count: number): Promise<Measured> {
  return timed(count, async () => {
    for (let sent = 0; sent < count; sent += windowCount) {
      await producer.sendBatch('bench', records);
    }
  });
}

function transactions(producer: Producer, count: number): Promise<Measured> {
  return timed(count, async () => {
    for (let sent = 0; sent < count; sent += windowCount) {
      await producer.transaction((t) => {
        for (const record of records) t.send('bench', record);
      });
    }
  });
}

const costs: readonly Cost[] = [
  {
    name: 'idempotent sendBatch, 1 partition',
    what: `sendBatch of ${window} with idempotent: true, acks 1, each call awaited; floor: the same without idempotent`,
    goal: { least: 0.95 },
    count: 1_000_000,
    options: { acks: 1, idempotent: true },
    send: batches,
    plainOptions: { acks: 1 },
    plain: batches,
  },
  {
    name: 'idempotent sendBatch, acks all',
    what: `sendBatch of ${window} with idempotent: true, each call awaited; floor: the same without idempotent`,
    count: 200_000,
    options: { idempotent: true },
    send: batches,
    plainOptions: {},
    plain: batches,
  },
  {
    name: 'transaction of 1,000 records',
    what: `${window} sent and committed, one transaction after the other; floor: sendBatch of them with acks 'all', each call awaited`,
    count: 200_000,
    options: { transactionalId: 'bench' },
    send: transactions,
    plainOptions: {},
    plain: batches,
  },
  {
    name: 'transaction of one record',
    what: "one record sent and committed, one transaction after the other, median; floor: a send with acks 'all', awaited, median",
    count: 1000,
    options: { transactionalId: 'bench' },
    send: (producer, count) =>
      oneByOne(count, (i) =>
        producer.transaction((t) => t.send('bench', records[i % windowCount]!)),
      ),
    plainOptions: {},
    plain: (producer, count) =>
      oneByOne(count, (i) => producer.send('bench', records[i % windowCount]!)),
  },
];

function row({ name, what, goal, count, options, send, plainOptions, plain }: Cost): Row {
  const prepare = async ({ directory, scaled }: Setting) => {
    const total = Math.ceil(scaled(count) / windowCount) * windowCount;
    let round = 0;
    const measured = async (
      made: ProducerOptions,
      work: (producer: Producer, count: number) => Promise<Measured>,
    ): Promise<Measured> => {
      const data = join(directory, String(round++));
      const ottla = await Ottla.open(data);
      await ottla.topics.create('bench');
      const result = await work(ottla.producer(made), total);
      await ottla.close();
      rmSync(data, { recursive: true });
      return result;
    };
    await measured(plainOptions, plain);
    return {
      run: () => measured(options, send),
      floor: () => measured(plainOptions, plain),
    };
  };
  return { name, unit: 'records', what, ...(goal === undefined ? {} : { goal }), prepare };
}

export const rows: readonly Row[] = costs.map(row);
