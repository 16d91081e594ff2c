import { filled } from './deliver.js';
import { scan } from './floors.js';
import { timed, type Measured, type Row } from './harness.js';

function row(name: string, partitions: number): Row {
  const where = partitions === 1 ? '1 partition' : `${partitions} partitions`;
  return {
    name,
    unit: 'records',
    what: `${where} by ottla.read().batches(); floor: the files read 1 MiB at a time, and their CRC-32C`,
    async prepare(setting) {
      const { ottla, count, logs } = await filled(setting, partitions);
      const run = (): Promise<Measured> =>
        timed(count, async () => {
          let seen = 0;
          for await (const batch of ottla.read('bench').batches()) {
            for (const record of batch) if (record.value !== null) seen++;
          }
          if (seen !== count) throw new Error(`expected ${count} records, got ${seen}`);
        });
      return { run, floor: () => scan(logs(), count), close: () => ottla.close() };
    },
  };
}

export const rows: readonly Row[] = [row('read batches', 1), row('read batches, 8 partitions', 8)];
