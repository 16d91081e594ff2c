import { Ottla } from 'ottla';
import PQueue from 'p-queue';
import { timed, type Row } from './harness.js';

const keyCount = 1000;

/** What a handler does: it waits once, as for a reply that is there. */
async function handle(): Promise<void> {
  await Promise.resolve();
}

function row(max: number): Row {
  return {
    name: `run() by key, ${max} at once`,
    unit: 'records',
    what: `records of ${keyCount} keys through eachRecord, with commits; floor: the same tasks in p-queue with concurrency ${max}, without an order of keys`,
    prepare: async ({ scaled }) => {
      const count = scaled(100_000);
      const ottla = Ottla.memory();
      await ottla.topics.create('bench');
      const values = Array.from({ length: count }, (_, i) => ({
        key: `k${i % keyCount}`,
        value: 'v',
      }));
      await ottla.producer().sendBatch('bench', values);
      let round = 0;
      return {
        run: () => {
          const consumer = ottla.consumer({ group: `g${round++}`, topics: ['bench'] });
          return timed(count, async () => {
            let left = count;
            await new Promise<void>((resolve, reject) => {
              const eachRecord = async (): Promise<void> => {
                await handle();
                if (--left === 0) resolve();
              };
              consumer.run({ concurrency: { by: 'key', max }, eachRecord }).catch(reject);
            });
            await consumer.stop();
          });
        },
        floor: () =>
          timed(count, async () => {
            const queue = new PQueue({ concurrency: max });
            for (let i = 0; i < count; i++) void queue.add(handle);
            await queue.onIdle();
          }),
        close: () => ottla.close(),
      };
    },
  };
}

export const rows: readonly Row[] = [1, 16, 256].map(row);
