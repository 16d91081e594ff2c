import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, type Producer, type ProducerOptions } from 'ottla';
import { logsOf, sizeOf, writeEach, writeFresh } from './floors.js';
import {
  oneByOne,
  records,
  timed,
  type Goal,
  type Measured,
  type Row,
  type Setting,
} from './harness.js';

interface Append {
  readonly name: string;
  readonly what: string;
  readonly goal?: Goal;
  /** @default 1 */
  readonly partitions?: number;
  readonly options: ProducerOptions;
  readonly count: number;
  /** Sends `count` records; done when all are acknowledged. */
  readonly send: (producer: Producer, count: number) => Promise<Measured>;
  /** How the floor writes what `count` records take. */
  readonly floor: (directory: string, bytes: number, count: number) => Promise<Measured>;
}

const windowCount = records.length;

function batches(producer: Producer, count: number): Promise<Measured> {
  return timed(count, async () => {
    for (let sent = 0; sent < count; sent += windowCount) {
      await producer.sendBatch('bench', records);
    }
  });
}

function pipelined(producer: Producer, count: number): Promise<Measured> {
  return timed(count, async () => {
    for (let sent = 0; sent < count; sent += windowCount) {
      let last: Promise<unknown> | undefined;
      for (const record of records) last = producer.send('bench', record);
      await last;
    }
    await producer.flush();
  });
}

function allAwaited(producer: Producer, count: number): Promise<Measured> {
  return timed(count, async () => {
    for (let sent = 0; sent < count; sent += windowCount) {
      await Promise.all(records.map((record) => producer.send('bench', record)));
    }
  });
}

function single(producer: Producer, count: number): Promise<Measured> {
  return oneByOne(count, (i) => producer.send('bench', records[i % records.length]!));
}

const each =
  (durable: boolean): Append['floor'] =>
  (directory, bytes, count) =>
    writeEach(directory, Math.round(bytes / count), count, durable);

const eachWindow: Append['floor'] = async (directory, bytes, count) => {
  const windows = count / windowCount;
  const { ms } = await writeEach(directory, Math.round(bytes / windows), windows, true);
  return { count, ms };
};

const freshFile = 'floor: writeSync of ready 1 MiB buffers to a fresh file of the same size';
const window = `${windowCount.toLocaleString('en-US')} records`;

const appends: readonly Append[] = [
  {
    name: 'append sendBatch, 1 partition',
    what: `sendBatch of ${window}, each call awaited; ${freshFile}`,
    goal: { least: 0.15 },
    options: { acks: 1, batchSize: 128 * 1024 },
    count: 1_000_000,
    send: batches,
    floor: writeFresh,
  },
  {
    name: 'append sendBatch, 8 partitions',
    what: `sendBatch of ${window} to 8 partitions by key, each call awaited; ${freshFile}`,
    goal: { least: 0.1 },
    partitions: 8,
    options: { acks: 1, batchSize: 128 * 1024 },
    count: 1_000_000,
    send: batches,
    floor: writeFresh,
  },
  {
    name: 'append send, pipelined',
    what: `send, every 1,000th awaited, batchSize 128 KiB; ${freshFile}`,
    goal: { least: 0.08 },
    options: { acks: 1, batchSize: 128 * 1024 },
    count: 1_000_000,
    send: pipelined,
    floor: writeFresh,
  },
  {
    name: 'append send, pipelined, 16 KiB',
    what: `send, every 1,000th awaited, batchSize 16 KiB, the default; ${freshFile}`,
    options: { acks: 1 },
    count: 1_000_000,
    send: pipelined,
    floor: writeFresh,
  },
  {
    name: 'append send, pipelined, 8 partitions',
    what: `send to 8 partitions by key, every 1,000th awaited, batchSize 16 KiB; ${freshFile}`,
    partitions: 8,
    options: { acks: 1 },
    count: 1_000_000,
    send: pipelined,
    floor: writeFresh,
  },
  {
    name: 'append send, Promise.all',
    what: `${window} sent, each awaited by Promise.all, batchSize 16 KiB; ${freshFile}`,
    options: { acks: 1 },
    count: 1_000_000,
    send: allAwaited,
    floor: writeFresh,
  },
  {
    name: 'append send, awaited',
    what: 'each send awaited before the next, median; floor: one writeSync of the same bytes, median',
    options: { acks: 1 },
    count: 20_000,
    send: single,
    floor: each(false),
  },
  {
    name: "append sendBatch, acks 'all'",
    what: `sendBatch of ${window}, each call awaited; floor: writeSync and fdatasync of the same bytes`,
    options: { acks: 'all' },
    count: 200_000,
    send: batches,
    floor: eachWindow,
  },
  {
    name: "append send, Promise.all, acks 'all'",
    what: `${window} sent, each awaited by Promise.all; floor: writeSync and fdatasync of the same bytes`,
    options: { acks: 'all' },
    count: 200_000,
    send: allAwaited,
    floor: eachWindow,
  },
  {
    name: "append send, awaited, acks 'all'",
    what: 'each send awaited before the next, median; floor: writeSync and fdatasync of the same bytes, median',
    goal: { most: 1.5 },
    options: { acks: 'all' },
    count: 1000,
    send: single,
    floor: each(true),
  },
];

function row({ name, what, goal, partitions = 1, options, count, send, floor }: Append): Row {
  const prepare = async ({ directory, scaled }: Setting) => {
    const total = Math.ceil(scaled(count) / windowCount) * windowCount;
    let round = 0;
    let bytes = 0;
    const run = async (): Promise<Measured> => {
      const data = join(directory, String(round++));
      const ottla = await Ottla.open(data);
      await ottla.topics.create('bench', { partitions });
      const measured = await send(ottla.producer(options), total);
      bytes = sizeOf(logsOf(data, 'bench'));
      await ottla.close();
      rmSync(data, { recursive: true });
      return measured;
    };
    // The floor writes as much as this has written.
    await run();
    return { run, floor: () => floor(directory, bytes, total) };
  };
  return { name, unit: 'records', what, ...(goal === undefined ? {} : { goal }), prepare };
}

export const rows: readonly Row[] = appends.map(row);
