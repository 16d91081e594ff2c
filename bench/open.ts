import { spawnSync } from 'node:child_process';
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { open as openLmdb } from 'lmdb';
import { Ottla } from 'ottla';
import { logsOf, scan, sizeOf } from './floors.js';
import { timed, type Goal, type Measured, type Row } from './harness.js';

const gibibyte = 2 ** 30;

/** What a process does that fills the directory: then this one's memory shows only what opening takes. */
function inAnotherProcess(directory: string, work: string): void {
  const program = `
    import { Ottla } from ${JSON.stringify(import.meta.resolve('ottla'))};
    const ottla = await Ottla.open(${JSON.stringify(directory)});
    ${work}`;
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { encoding: 'utf8' },
  );
  if (status !== 0 && signal !== 'SIGKILL') throw new Error(stderr);
}

/** Moves every recovery point back to offset 0, as if nothing had ever been synced. */
async function forgetRecoveryPoints(directory: string): Promise<void> {
  const db = openLmdb({
    path: join(directory, 'meta'),
    noSubdir: false,
    encoding: 'binary',
    keyEncoding: 'binary',
    // As Ottla does, or the file gets flags that Ottla refuses.
    overlappingSync: false,
  });
  for (const key of [...db.getKeys()] as Buffer[]) {
    if (key.toString('latin1').startsWith('partition')) await db.remove(key);
  }
  await db.close();
  for (const path of logsOf(directory, 'bench')) {
    for (const suffix of ['.index', '.timeindex']) {
      rmSync(path.replace(/\.log$/, suffix), { force: true });
    }
  }
}

/** Opens and closes; what is measured is opening. */
async function opening(directory: string, count: number): Promise<Measured> {
  let ottla: Ottla | undefined;
  const measured = await timed(count, async () => {
    ottla = await Ottla.open(directory);
  });
  if (ottla?.recovery.length !== 0) throw new Error(String(ottla?.recovery));
  await ottla.close();
  return measured;
}

function recovery(recordsPerBatch: number, mebibytes: number, goal: Goal): Row {
  return {
    name: `open, recovery of ${recordsPerBatch === 1 ? 'single records' : `batches of ${recordsPerBatch}`}`,
    unit: 'GiB',
    what: `a log of ${recordsPerBatch}-record batches of 116-byte records, the recovery point at 0, in the page cache; floor: the file read 1 MiB at a time, and its CRC-32C`,
    goal,
    async prepare({ directory, scaled }) {
      const bytes = scaled(mebibytes) * 2 ** 20;
      inAnotherProcess(
        directory,
        `
        await ottla.topics.create('bench', { segmentBytes: ${2 ** 31 - 1} });
        const producer = ottla.producer({ acks: 1, batchSize: ${recordsPerBatch === 1 ? 1 : 1_000_000} });
        const record = { key: Buffer.alloc(16, 'k'), value: Buffer.alloc(100, 'v') };
        const records = Array.from({ length: ${recordsPerBatch} }, () => record);
        for (let bytes = 0; bytes < ${bytes}; ) {
          for (let i = 0; i < 1000; i++) {
            if (records.length === 1) void producer.send('bench', record);
            else await producer.sendBatch('bench', records);
          }
          await producer.flush();
          bytes = (await ottla.topics.describe('bench')).partitions[0].bytes;
        }
        await ottla.close();`,
      );
      const logs = logsOf(directory, 'bench');
      const count = sizeOf(logs) / gibibyte;
      const run = async (): Promise<Measured> => {
        await forgetRecoveryPoints(directory);
        return opening(directory, count);
      };
      return { run, floor: () => scan(logs, count) };
    },
  };
}

function partitions(after: 'close' | 'kill'): Row {
  return {
    name: `open, 5,000 partitions after a ${after}`,
    unit: 'openings',
    what: `5,000 partitions of 10 records, ${after === 'close' ? 'closed' : 'and one more each behind the recovery point'}; floor: a stat of each active segment`,
    goal: { mostMs: 120 },
    async prepare({ directory, scaled }) {
      const count = scaled(5000);
      const sendToEach = (times: number): string => `
        const producer = ottla.producer({ acks: 1 });
        for (let partition = 0; partition < ${count}; partition++) {
          const records = Array.from({ length: ${times} }, () => ({ value: 'v'.repeat(100), partition }));
          await producer.sendBatch('bench', records);
        }`;
      inAnotherProcess(
        directory,
        `await ottla.topics.create('bench', { partitions: ${count} });
        ${sendToEach(10)}
        await ottla.close();`,
      );
      const logs = logsOf(directory, 'bench');
      const run = async (): Promise<Measured> => {
        if (after === 'kill') {
          inAnotherProcess(directory, `${sendToEach(1)} process.kill(process.pid, 'SIGKILL');`);
        }
        return opening(directory, 1);
      };
      const floor = (): Promise<Measured> =>
        timed(1, () => {
          for (const path of logs) statSync(path);
        });
      return { run, floor };
    },
  };
}

export const rows: readonly Row[] = [
  recovery(1000, 1024, { mostMs: 400 }),
  recovery(100, 1024, { mostMs: 400 }),
  recovery(1, 256, { mostMs: 1500 }),
  partitions('close'),
  partitions('kill'),
];
