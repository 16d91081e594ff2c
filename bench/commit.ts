import { byRecords, consume, filled } from './deliver.js';
import { writeEach } from './floors.js';
import { oneByOne, timed, type Measured, type Row } from './harness.js';

/** What LMDB writes for a commit: about two pages of 4 KiB and a meta page. */
const commitBytes = 3 * 4096;

export const rows: readonly Row[] = [
  {
    name: 'commit awaited',
    unit: 'commits',
    what: 'record.commit() awaited for one record after the other, median; floor: writeSync and fdatasync of 12 KiB, median',
    async prepare(setting) {
      const { directory, scaled } = setting;
      const count = scaled(1000);
      const { ottla } = await filled(setting, 1, count);
      let round = 0;
      const run = (): Promise<Measured> =>
        consume(ottla, round++, false, async (consumer) => {
          const iterator = consumer[Symbol.asyncIterator]();
          let result = await iterator.next();
          const next = async (): Promise<void> => {
            result = await iterator.next();
          };
          return oneByOne(count - 1, () => result.value?.commit(), next);
        });
      return {
        run,
        floor: () => writeEach(directory, commitBytes, count, true),
        close: () => ottla.close(),
      };
    },
  },
  {
    name: 'commit automatic',
    unit: 'records',
    what: 'for await with automatic commits; floor: the same without commits',
    async prepare(setting) {
      const { ottla, count } = await filled(setting, 1);
      let round = 0;
      const read = (autoCommit: boolean) => (): Promise<Measured> =>
        consume(ottla, round++, autoCommit, (consumer) =>
          timed(count, () => byRecords(consumer, count)),
        );
      return { run: read(true), floor: read(false), close: () => ottla.close() };
    },
  },
];
