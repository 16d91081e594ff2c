import type { Consumer } from 'ottla';
import { consumeAll, filled } from './deliver.js';
import { writeOneByOne } from './floors.js';
import type { Row } from './harness.js';

/** A commit's row in LMDB: two pages of 4 KiB and the meta page. */
const commitBytes = 3 * 4096;

async function committing(consumer: Consumer, count: number): Promise<void> {
  let committed = 0;
  for await (const record of consumer) {
    await record.commit();
    if (++committed === count) break;
  }
}

async function reading(consumer: Consumer, count: number): Promise<void> {
  let seen = 0;
  for await (const record of consumer) if (record.value !== null && ++seen === count) break;
}

export const rows: readonly Row[] = [
  {
    name: 'commit awaited',
    unit: 'commits',
    what: 'record.commit() awaited for one record after the other; floor: writeSync and fdatasync of 12 KiB for each',
    async prepare(setting) {
      const count = setting.scaled(1000);
      const { ottla } = await filled(setting, 1, 1000);
      let round = 0;
      return {
        run: () => consumeAll(ottla, round++, false, count, committing),
        floor: () => writeOneByOne(setting.directory, commitBytes, count, true),
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
      return {
        run: () => consumeAll(ottla, round++, true, count, reading),
        floor: () => consumeAll(ottla, round++, false, count, reading),
        close: () => ottla.close(),
      };
    },
  },
];
