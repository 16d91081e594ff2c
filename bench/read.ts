import { filled } from './deliver.js';
import { timed, type Row } from './harness.js';

function row(name: string, partitions: number): Row {
  return {
    name,
    unit: 'records',
    what: `ottla.read().batches() of ${partitions === 1 ? '1 partition' : `${partitions} partitions`}; floor: the same files read 1 MiB at a time, and their CRC-32C`,
    async prepare(setting) {
      const { ottla, count, floor } = await filled(setting, partitions);
      const run = () =>
        timed(count, async () => {
          let seen = 0;
          for await (const batch of ottla.read('bench').batches()) seen += batch.records.length;
          if (seen !== count) throw new Error(`expected ${count} records, got ${seen}`);
        });
      return { run, floor, close: () => ottla.close() };
    },
  };
}

export const rows: readonly Row[] = [row('read batches', 1), row('read batches, 8 partitions', 8)];
