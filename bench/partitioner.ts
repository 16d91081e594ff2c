import { murmur2 } from 'ottla';
import { records, timed, type Row, type Setting } from './harness.js';

let sum = 0;

async function prepare({ scaled }: Setting) {
  const count = scaled(10_000_000);
  return {
    run: () =>
      timed(count, () => {
        for (let i = 0; i < count; i++) sum += (murmur2(records[i % 1000]!.key) & 0x7fffffff) % 8;
      }),
    floor: () =>
      timed(count, () => {
        for (let i = 0; i < count; i++) {
          const { key } = records[i % 1000]!;
          for (let at = 0; at < key.length; at++) sum += key[at]!;
        }
      }),
  };
}

export const rows: readonly Row[] = [
  {
    name: 'partitioner murmur2',
    unit: 'keys',
    what: 'partitions for keys of 16 bytes; floor: their bytes added up',
    prepare,
  },
];
