import { spawnSync } from 'node:child_process';
import { Ottla } from 'ottla';
import { oneByOne, timed, type Measured, type Row } from './harness.js';

/** From an import to the first record that a group consumes. */
const firstRecord = `
  import { Ottla } from ${JSON.stringify(import.meta.resolve('ottla'))};
  const ottla = Ottla.memory();
  await ottla.topics.create('first');
  await ottla.producer().send('first', { value: 'v' });
  for await (const record of ottla.consumer({ group: 'g', topics: ['first'] })) break;
  process.exit(0);`;

function processes(count: number, ...args: string[]): Promise<Measured> {
  return oneByOne(count, () => {
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  });
}

const wholeProcess: Row = {
  name: 'start, whole process to the first record',
  unit: 'processes',
  what: 'import, Ottla.memory(), a topic, a send, the first record of a group; floor: node -e 0',
  goal: { mostMs: 80, isBeyondFloor: true },
  prepare: async ({ scaled }) => {
    const count = scaled(10);
    return {
      run: () => processes(count, '--input-type=module', '--eval', firstRecord),
      floor: () => processes(count, '--eval', '0'),
    };
  },
};

const memory: Row = {
  name: 'start, Ottla.memory() and close',
  unit: 'Ottlas',
  what: 'made and closed, one after the other; floor: a promise each',
  prepare: async ({ scaled }) => {
    const count = scaled(2000);
    return {
      run: () =>
        timed(count, async () => {
          for (let i = 0; i < count; i++) await Ottla.memory().close();
        }),
      floor: () =>
        timed(count, async () => {
          for (let i = 0; i < count; i++) await Promise.resolve(i);
        }),
    };
  },
};

export const rows: readonly Row[] = [wholeProcess, memory];
