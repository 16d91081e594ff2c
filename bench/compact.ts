import { setTimeout as sleep } from 'node:timers/promises';
import { Ottla } from 'ottla';
import { logsOf, scan, sizeOf } from './floors.js';
import { timed, type Measured, type Row } from './harness.js';

const value = Buffer.alloc(100, 'ottla');
const segmentBytes = 8 * 1024 * 1024;

/** A topic of which every second record is superseded. @returns the bytes of its logs */
async function fill(
  ottla: Ottla,
  directory: string,
  topic: string,
  count: number,
): Promise<number> {
  await ottla.topics.create(topic, { segmentBytes });
  const producer = ottla.producer({ acks: 1 });
  for (let from = 0; from < count; from += 1000) {
    const records = Array.from({ length: 1000 }, (_, i) => ({
      key: String((from + i) % (count / 2)).padStart(16, 'k'),
      value,
    }));
    await producer.sendBatch(topic, records);
  }
  await producer.close();
  return sizeOf(logsOf(directory, topic));
}

/** Has all that is sealed compacted: another policy, and a roll. */
async function compact(ottla: Ottla, topic: string, bytes: number): Promise<void> {
  await ottla.topics.alter(topic, { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
  const producer = ottla.producer({ acks: 1 });
  for (let i = 0; i < 2; i++) {
    await producer.send(topic, { key: 'last', value: Buffer.alloc(600 * 1024) });
  }
  for (;;) {
    const [partition] = (await ottla.topics.describe(topic)).partitions;
    if (partition!.bytes < 0.7 * bytes) break;
    await sleep(1);
  }
  await producer.close();
}

export const rows: readonly Row[] = [
  {
    name: 'compact',
    unit: 'bytes',
    what: 'of sealed segments, of whose records half are superseded; floor: the files read 1 MiB at a time, and their CRC-32C',
    async prepare({ directory, scaled }) {
      const ottla = await Ottla.open(directory);
      const count = Math.max(100_000, Math.ceil(scaled(500_000) / 2000) * 2000);
      const full: { readonly topic: string; readonly bytes: number }[] = [];
      let topics = 0;
      return {
        async run(): Promise<Measured> {
          const { topic, bytes } = full.shift()!;
          const measured = await timed(bytes, () => compact(ottla, topic, bytes));
          await ottla.topics.delete(topic);
          return measured;
        },
        // Twice in a row it may be the turn of run(): what that needs is made here.
        async floor(): Promise<Measured> {
          while (full.length < 2) {
            const topic = `bench${topics++}`;
            full.push({ topic, bytes: await fill(ottla, directory, topic, count) });
          }
          const { topic, bytes } = full[0]!;
          return scan(logsOf(directory, topic), bytes);
        },
        close: () => ottla.close(),
      };
    },
  },
];
