import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { FaultyMachine } from './faulty-machine.js';
import { keyedBatch, keyedRecords, type KeyedRecord } from './keyed.js';
import { append, partitionOf, type Machine } from './machine.js';
import { SwapStates, compacted, fill, finished, leftovers, range, undone } from './swap-states.js';
import { ioError } from './watched-files.js';

const vectors = JSON.parse(
  readFileSync(new URL('vectors/crash-states.json', import.meta.url), 'utf8'),
) as { readonly states: readonly { readonly id: string; readonly state: string }[] };

describe('a compaction that a crash cut short', () => {
  let states: SwapStates;
  let machine: Machine;
  beforeEach(async () => {
    states = new SwapStates();
    await states.prepare();
    ({ machine } = states);
  });

  it('has something to lose', () => {
    const { before, after, all, left } = states;
    expect(before.segments.length).toBeGreaterThan(2);
    expect(before.segments.at(-1)!.row.nextOffset).toBe(range.nextOffset);
    expect(after.segments.map(({ base, row }) => [base, row.nextOffset])).toEqual([[0, 30]]);
    expect(all.map(({ offset }) => offset)).toEqual(Array.from({ length: 31 }, (_, i) => i));
    expect(left.map(({ offset }) => offset)).toEqual([27, 28, 29, 30]);
  });

  /** Opens again and again, beside and as the owner. @returns what was read first */
  async function openedWith(expected: readonly KeyedRecord[]): Promise<KeyedRecord[]> {
    const names = machine.names();
    const follower = await machine.open({ readOnly: true });
    const found = await keyedRecords(partitionOf(follower));
    expect(machine.names()).toEqual(names);
    let broker = await machine.open();
    expect(await keyedRecords(partitionOf(broker))).toEqual(expected);
    expect(leftovers(machine)).toEqual([]);
    expect(broker.recovery).toEqual([]);
    expect(await append(partitionOf(broker), keyedBatch([['k1', 'new']]), 'all')).toBe(31);
    await broker.close();
    broker = await machine.open();
    const again = await keyedRecords(partitionOf(broker));
    expect(again).toEqual([...expected, { offset: 31, key: 'k1', value: 'new' }]);
    await partitionOf(broker).compact();
    expect((await keyedRecords(partitionOf(broker))).slice(0, -1)).toEqual(states.left);
    expect(leftovers(machine)).toEqual([]);
    await broker.close();
    return found;
  }

  it.each(Object.keys(undone))('state: compaction to undo (%s)', async (id) => {
    await states.plant(undone[id]!(states), states.before, null);
    expect(await openedWith(states.all)).toEqual(states.all);
  });

  it.each(Object.keys(finished))('state: compaction to finish (%s)', async (id) => {
    await states.plant(finished[id]!(states), states.after, range);
    expect(await openedWith(states.left)).toEqual(states.left);
  });

  it('cc3 with some of the old files renamed is finished', async () => {
    for (const { base } of states.before.segments) {
      await states.plant(states.filesWithOneAway(base), states.after, range);
      const broker = await machine.open();
      expect(await keyedRecords(partitionOf(broker))).toEqual(states.left);
      expect(leftovers(machine)).toEqual([]);
      await broker.close();
    }
  });

  it('is named by every state of the vectors', () => {
    const named = [...Object.keys(undone), ...Object.keys(finished)];
    expect(vectors.states.filter(({ id }) => !named.includes(id))).toEqual([]);
  });
});

/** What every crash and every failure must leave: all that is latest, and nothing that was not there. */
async function expectWhole(broker: Broker, all: KeyedRecord[], left: KeyedRecord[]): Promise<void> {
  const records = await keyedRecords(partitionOf(broker));
  const isOld = records.length > left.length;
  expect(records).toEqual(isOld ? all : left);
  expect(partitionOf(broker).logEndOffset).toBe(31);
}

describe('each call of a compaction', { timeout: 30_000 }, () => {
  let machine: FaultyMachine;
  let broker: Broker;
  let all: KeyedRecord[];
  let left: KeyedRecord[];
  let calls: number;
  /** The number of the call that fails; it and all later ones if the process dies with it. */
  let failAt: number;
  let dies: boolean;
  let rowsArrive: boolean;

  async function begin(): Promise<void> {
    machine = new FaultyMachine();
    broker = await machine.open();
    await fill(broker);
    all = await keyedRecords(partitionOf(broker));
    left = all.filter(({ offset }) => offset >= 27);
    await broker.topics.alter('t', compacted);
    calls = 0;
    const fails = (): boolean => {
      calls++;
      return dies ? calls >= failAt : calls === failAt;
    };
    machine.fault = ({ name, path }) =>
      name !== 'close' && fails() ? ioError('write', path) : undefined;
    const write = machine.store.write.bind(machine.store);
    machine.store.write = async (changes) => {
      const isFailing = fails();
      if (!isFailing || (rowsArrive && calls === failAt)) await write(changes);
      if (isFailing) throw ioError('write', 'meta');
    };
  }

  beforeEach(() => {
    failAt = Infinity;
    dies = false;
    rowsArrive = false;
  });

  async function countCalls(): Promise<number> {
    await begin();
    await partitionOf(broker).compact();
    expect(await keyedRecords(partitionOf(broker))).toEqual(left);
    const count = calls;
    await broker.close();
    return count;
  }

  it.each([false, true])(
    'may be the last one before a crash; rows that arrive: %s',
    async (arrive) => {
      const count = await countCalls();
      expect(count).toBeGreaterThan(20);
      dies = true;
      rowsArrive = arrive;
      for (let n = 1; n <= count; n++) {
        failAt = n;
        await begin();
        await partitionOf(broker).compact();
        failAt = Infinity;
        const again = await machine.open();
        await expectWhole(again, all, left);
        expect(leftovers(machine)).toEqual([]);
        expect(again.recovery).toEqual([]);
        await partitionOf(again).compact();
        expect(await keyedRecords(partitionOf(again))).toEqual(left);
        await again.close();
        expect(leftovers(machine)).toEqual([]);
      }
    },
  );

  it('may fail: that is a warning, the log goes on, and the next run does it', async () => {
    const count = await countCalls();
    for (let n = 1; n <= count; n++) {
      failAt = n;
      await begin();
      const warnings: string[] = [];
      broker.onWarning = (warning) => warnings.push(warning);
      const partition = partitionOf(broker);
      await partition.compact();
      failAt = Infinity;
      // A look at an index may fail unheard: the log is read from its start then.
      const isTold = warnings.length > 0;
      const told = expect.stringMatching(/^t-0 could not be compacted: .*EIO.*\.$/) as unknown;
      expect(warnings).toEqual(isTold ? [told] : []);
      await expectWhole(broker, isTold ? all : left, left);
      await partition.compact();
      expect(await keyedRecords(partition)).toEqual(left);
      expect(await append(partition, keyedBatch([['k1', 'new']]), 'all')).toBe(31);
      await broker.close();
      const again = await machine.open();
      expect((await keyedRecords(partitionOf(again))).slice(0, -1)).toEqual(left);
      expect(leftovers(machine)).toEqual([]);
      await again.close();
    }
  });
});
