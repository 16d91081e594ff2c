import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, type Producer, type ProducerOptions } from 'ottla';
import { logsOf, sizeOf, writeFresh, writeOneByOne } from './floors.js';
import { records, timed, type Goal, type Measured, type Row, type Setting } from './harness.js';

type Floor = (directory: string, bytes: number, count: number) => Measured;

const write1MiB: Floor = writeFresh;
const writeEach: Floor = (directory, bytes, count) =>
  writeOneByOne(directory, Math.round(bytes / count), count, false);
const writeAndSyncEach: Floor = (directory, bytes, count) =>
  writeOneByOne(directory, Math.round(bytes / count), count, true);

interface Append {
  readonly name: string;
  readonly what: string;
  readonly goal?: Goal;
  readonly partitions?: number;
  readonly options: ProducerOptions;
  readonly count: number;
  /** Sends `count` records; resolves when all are acknowledged. */
  readonly send: (producer: Producer, count: number) => Promise<void>;
  readonly floor: Floor;
}

async function batches(producer: Producer, count: number): Promise<void> {
  for (let sent = 0; sent < count; sent += records.length) {
    await producer.sendBatch('bench', records);
  }
}

/** Windows of so many sends: one promise each, all awaited before the next window. */
function pipelined(window: number) {
  return async (producer: Producer, count: number): Promise<void> => {
    for (let sent = 0; sent < count; sent += window) {
      const sends: Promise<unknown>[] = [];
      for (let i = 0; i < window; i++) {
        sends.push(producer.send('bench', records[i % records.length]!));
      }
      await Promise.all(sends);
    }
  };
}

async function oneByOne(producer: Producer, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await producer.send('bench', records[i % records.length]!);
}

const largeBatches = { batchSize: 128 * 1024 };

const appends: readonly Append[] = [
  {
    name: 'append sendBatch, 1 partition',
    what: 'sendBatch of 1,000 records, each call awaited',
    goal: { least: 0.15 },
    options: { acks: 1, ...largeBatches },
    count: 1_000_000,
    send: batches,
    floor: write1MiB,
  },
  {
    name: 'append sendBatch, 8 partitions',
    what: 'as before; keys spread the records over 8 partitions',
    goal: { least: 0.1 },
    partitions: 8,
    options: { acks: 1, ...largeBatches },
    count: 1_000_000,
    send: batches,
    floor: write1MiB,
  },
  {
    name: 'append send, pipelined',
    what: 'windows of 10,000 sends, batchSize 128 KiB, one promise each, all awaited before the next',
    goal: { least: 0.08 },
    options: { acks: 1, ...largeBatches },
    count: 1_000_000,
    send: pipelined(10_000),
    floor: write1MiB,
  },
  {
    name: 'append send, pipelined, default',
    what: 'as before with the default batchSize of 16 KiB',
    options: { acks: 1 },
    count: 1_000_000,
    send: pipelined(10_000),
    floor: write1MiB,
  },
  {
    name: 'append send, pipelined, 8 p',
    what: 'as before; keys spread the records over 8 partitions',
    partitions: 8,
    options: { acks: 1 },
    count: 1_000_000,
    send: pipelined(10_000),
    floor: write1MiB,
  },
  {
    name: 'append send, awaited',
    what: 'each send awaited before the next; floor: a writeSync of the same bytes for each',
    options: { acks: 1 },
    count: 50_000,
    send: oneByOne,
    floor: writeEach,
  },
  {
    name: 'append sendBatch, all',
    what: "sendBatch of 1,000 records, acks 'all', each call awaited; floor: writeSync and fdatasync of the same bytes for each",
    options: { acks: 'all' },
    count: 200_000,
    send: batches,
    floor: (directory, bytes, count) => {
      const calls = count / records.length;
      const { ms } = writeOneByOne(directory, Math.round(bytes / calls), calls, true);
      return { count, ms };
    },
  },
  {
    name: 'append send, pipelined, all',
    what: "windows of 1,000 sends, acks 'all'; floor: writeSync and fdatasync of the window's bytes",
    options: { acks: 'all' },
    count: 100_000,
    send: pipelined(1000),
    floor: (directory, bytes, count) => {
      const windows = Math.ceil(count / 1000);
      const { ms } = writeOneByOne(directory, Math.round(bytes / windows), windows, true);
      return { count, ms };
    },
  },
  {
    name: 'append send, awaited, all',
    what: "each send with acks 'all' awaited before the next; floor: writeSync and fdatasync of the same bytes for each",
    goal: { most: 1.5 },
    options: { acks: 'all' },
    count: 1000,
    send: oneByOne,
    floor: writeAndSyncEach,
  },
];

function row({ name, what, goal, partitions = 1, options, count, send, floor }: Append): Row {
  const prepare = async ({ directory, scaled }: Setting) => {
    const total = Math.ceil(scaled(count) / 1000) * 1000;
    let round = 0;
    let bytes = 0;
    const run = async (): Promise<Measured> => {
      const data = join(directory, String(round++));
      const ottla = await Ottla.open(data);
      await ottla.topics.create('bench', { partitions });
      const producer = ottla.producer(options);
      const measured = await timed(total, () => send(producer, total));
      bytes = sizeOf(logsOf(data, 'bench'));
      await ottla.close();
      rmSync(data, { recursive: true });
      return measured;
    };
    await run();
    return { run, floor: () => floor(directory, bytes, total) };
  };
  const floorName =
    floor === write1MiB
      ? '; floor: writeSync of ready 1 MiB buffers to a fresh file of the same size'
      : '';
  return {
    name,
    unit: 'records',
    what: `${what}${floorName}`,
    ...(goal === undefined ? {} : { goal }),
    prepare,
  };
}

export const rows: readonly Row[] = appends.map(row);
