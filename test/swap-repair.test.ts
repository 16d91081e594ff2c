import { beforeEach, describe, expect, it } from 'vitest';
import { repairLogs, type SalvagedRows } from '../src/repair.js';
import { MemoryStore } from '../src/storage/memory-store.js';
import { put, remove } from '../src/storage/meta-store.js';
import { verifyStore } from '../src/verify.js';
import type { VerifyReport } from '../src/verify-report.js';
import { keyedRecords, type KeyedRecord } from './keyed.js';
import { failureOf, partitionOf, type Machine } from './machine.js';
import { replaceRows, rowsOf } from './rows.js';
import { SwapStates, finished, leftovers, range, undone } from './swap-states.js';

const noRows = rowsOf(new MemoryStore());

/** Repairs, and lets the machine go on with the rows of it. @returns what was said */
async function repair(
  machine: Machine,
  rows: SalvagedRows = rowsOf(machine.store),
): Promise<string[]> {
  const said: string[] = [];
  const { files, clock } = machine;
  const source = { directory: '/', files, clock, random: () => 0.5, rows };
  await replaceRows(machine.store, await repairLogs(source, (sentence) => said.push(sentence)));
  return said;
}

function verify({ files, store, clock }: Machine): Promise<VerifyReport> {
  return verifyStore({ directory: '/', files, store, clock });
}

const filesOf = (machine: Machine): [string, string][] =>
  machine.names().map((name) => [name, machine.read(name).toString('hex')]);

async function recordsOf(machine: Machine): Promise<KeyedRecord[]> {
  const broker = await machine.open();
  const records = await keyedRecords(partitionOf(broker));
  expect(partitionOf(broker).failure).toBeNull();
  expect(partitionOf(broker).logEndOffset).toBe(31);
  await broker.close();
  return records;
}

describe('a compaction that a crash cut short', () => {
  let states: SwapStates;
  let machine: Machine;
  beforeEach(async () => {
    states = new SwapStates();
    await states.prepare();
    ({ machine } = states);
  });

  async function plant(id: string): Promise<KeyedRecord[]> {
    const isUndone = id in undone;
    const files = (undone[id] ?? finished[id]!)(states);
    await states.plant(files, isUndone ? states.before : states.after, isUndone ? null : range);
    return isUndone ? states.all : states.left;
  }

  const ids = [...Object.keys(undone), ...Object.keys(finished)];

  it.each(ids)('%s is nothing wrong to verify, and nothing to mend for repair', async (id) => {
    const expected = await plant(id);
    const files = filesOf(machine);
    const rows = rowsOf(machine.store);
    const report = await verify(machine);
    expect(report.problems).toEqual([]);
    const unfinished = leftovers(machine).length > 0 ? ['UNFINISHED'] : [];
    expect(report.notes.map(({ code }) => code)).toEqual(unfinished);
    expect(report.records).toBe(expected.length);
    expect(await repair(machine)).toEqual([]);
    expect(filesOf(machine)).toEqual(files);
    expect(rowsOf(machine.store)).toEqual(rows);
    expect(await recordsOf(machine)).toEqual(expected);
    expect((await verify(machine)).notes).toEqual([]);
  });

  /** What came before the compaction, or behind it: nothing that is latest is lost, nothing is twice. */
  function expectWhole(records: readonly KeyedRecord[]): void {
    expect(records).toEqual(records.length > states.left.length ? states.all : states.left);
  }

  it.each(ids)('%s loses no record together with its metadata', async (id) => {
    await plant(id);
    const said = await repair(machine, noRows);
    expect(said[0]).toContain('topic t was taken over from its directories: 1 partitions');
    expect((await verify(machine)).problems).toEqual([]);
    expectWhole(await recordsOf(machine));
    expect(leftovers(machine)).toEqual([]);
    expect(await repair(machine)).toEqual([]);
  });

  /** Metadata from before the compaction. */
  async function plantOlder(id: string): Promise<void> {
    await plant(id);
    const newer = [...rowsOf(machine.store).segment, ...rowsOf(machine.store).compaction];
    await machine.store.write([
      ...newer.map(({ key }) => remove(key)),
      ...states.before.segments.map(({ base, row }) =>
        put(['segment', states.topicId, 0, base], row),
      ),
    ]);
  }

  it('cc3 beside metadata of before it has all its records', async () => {
    await plantOlder('cc3');
    expect((await verify(machine)).problems).toEqual([]);
    expect(await recordsOf(machine)).toEqual(states.all);
  });

  const moved = Object.keys(finished).filter((id) => id !== 'cc3');
  it.each(moved)('%s beside metadata of before it is refused, and repaired whole', async (id) => {
    await plantOlder(id);
    const files = filesOf(machine);
    const open = async (): Promise<void> => {
      const partition = partitionOf(await machine.open());
      partition.open();
      throw partition.failure ?? new Error('nothing is wrong');
    };
    const { code } = await failureOf(open());
    expect(['METADATA_LOST', 'CORRUPT_MESSAGE']).toContain(code);
    expect(filesOf(machine)).toEqual(files);
    expect((await verify(machine)).ok).toBe(false);
    await repair(machine);
    expect((await verify(machine)).problems).toEqual([]);
    expectWhole(await recordsOf(machine));
  });

  it('cc3 with damage in the new segment goes back to the old ones', async () => {
    await plant('cc3');
    const name = '00000000000000000000.log.swap';
    const bytes = Buffer.from(machine.read(name));
    bytes[70]! ^= 1;
    machine.write(name, bytes);
    const { problems } = await verify(machine);
    expect(problems).toMatchObject([{ code: 'BATCH_DAMAGED', file: `/t-0/${name}` }]);
    await repair(machine);
    expect((await verify(machine)).problems).toEqual([]);
    expect(await recordsOf(machine)).toEqual(states.all);
  });
});
