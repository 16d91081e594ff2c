import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { put, remove, type CompactionRow, type SegmentRow } from '../src/storage/meta-store.js';
import { FaultyMachine } from './faulty-machine.js';
import { keyedBatch, keyedRecords, type KeyedRecord } from './keyed.js';
import { Machine, append, createTopic, partitionOf } from './machine.js';
import { ioError } from './watched-files.js';

const vectors = JSON.parse(
  readFileSync(new URL('vectors/crash-states.json', import.meta.url), 'utf8'),
) as { readonly states: readonly { readonly id: string; readonly state: string }[] };

const kinds = ['log', 'index', 'timeindex'] as const;
type Kind = (typeof kinds)[number];
const settings = { segmentBytes: 1024, indexIntervalBytes: 0, cleanupPolicy: 'delete' } as const;
const range = { baseOffset: 0, nextOffset: 30 };
const fileOf = (base: number, kind: Kind): string => `${String(base).padStart(20, '0')}.${kind}`;

/** Sealed segments with 30 records of three keys, and an active one with another. */
async function fill(broker: Broker): Promise<void> {
  const partition = await createTopic(broker, settings);
  for (let i = 0; i < 30; i++) {
    await append(partition, keyedBatch([[`k${i % 3}`, `${i}`.padStart(35, '.')]]), 'all');
  }
  await append(partition, keyedBatch([['k0', 'x'.repeat(900)]]), 'all');
}

/** Large segments, so that all that is sealed becomes one. */
const compacted = { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 } as const;

/** One pass over it, begun by hand. */
async function compact(broker: Broker): Promise<void> {
  await broker.alterTopic('t', compacted);
  await partitionOf(broker).compact();
}

const leftovers = (machine: Machine): string[] =>
  machine.names().filter((name) => /\.(cleaned|swap|deleted)$/.test(name));

interface State {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly segments: readonly { readonly base: number; readonly row: SegmentRow }[];
}

function stateOf(machine: Machine, topicId: string): State {
  return {
    files: new Map(machine.names().map((name) => [name, machine.read(name)])),
    segments: [...machine.store.range(['segment', topicId])].map(({ key, value }) => ({
      base: key[3],
      row: value,
    })),
  };
}

const every = (suffix: string): Record<Kind, string> => ({
  log: suffix,
  index: suffix,
  timeindex: suffix,
});

describe('a compaction that a crash cut short', () => {
  let machine: Machine;
  let topicId: string;
  let before: State;
  let after: State;
  let all: KeyedRecord[];
  let left: KeyedRecord[];
  beforeEach(async () => {
    machine = new Machine();
    const broker = await machine.open();
    await fill(broker);
    topicId = broker.topic('t').id;
    before = stateOf(machine, topicId);
    all = await keyedRecords(partitionOf(broker));
    await compact(broker);
    after = stateOf(machine, topicId);
    left = await keyedRecords(partitionOf(broker));
    await broker.close();
  });

  it('has something to lose', () => {
    expect(before.segments.length).toBeGreaterThan(2);
    expect(before.segments.at(-1)!.row.nextOffset).toBe(range.nextOffset);
    expect(after.segments.map(({ base, row }) => [base, row.nextOffset])).toEqual([[0, 30]]);
    expect(all.map(({ offset }) => offset)).toEqual(Array.from({ length: 31 }, (_, i) => i));
    expect(left.map(({ offset }) => offset)).toEqual([27, 28, 29, 30]);
  });

  /** Files and rows as a crash left them. */
  async function plant(
    files: ReadonlyMap<string, Buffer>,
    { segments }: State,
    swapping: CompactionRow['swapping'],
  ): Promise<void> {
    for (const name of machine.names()) machine.write(name, undefined);
    for (const [name, bytes] of files) machine.write(name, bytes);
    const rows = [...machine.store.range(['segment', topicId])].map(({ key }) => remove(key));
    const swaps = swapping === null ? 0 : 1;
    await machine.store.write([
      ...rows,
      ...segments.map(({ base, row }) => put(['segment', topicId, 0, base], row)),
      put(['compaction', topicId, 0], { firstDirtyOffset: 0, swaps, swapping }),
    ]);
  }

  /** The old segments' files, `oldSuffix` behind their names, and the new one's with one for each kind. */
  function filesWith(
    oldSuffix: string | null,
    suffixes: Readonly<Record<Kind, string>>,
  ): Map<string, Buffer> {
    const result = new Map<string, Buffer>();
    for (const [name, bytes] of before.files) {
      const isOld = before.segments.some(({ base }) => kinds.some((k) => fileOf(base, k) === name));
      if (!isOld) result.set(name, bytes);
      else if (oldSuffix !== null) result.set(name + oldSuffix, bytes);
    }
    for (const kind of kinds) {
      result.set(fileOf(0, kind) + suffixes[kind], after.files.get(fileOf(0, kind))!);
    }
    return result;
  }

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
    expect((await keyedRecords(partitionOf(broker))).slice(0, -1)).toEqual(left);
    expect(leftovers(machine)).toEqual([]);
    await broker.close();
    return found;
  }

  const undone: Record<string, () => Map<string, Buffer>> = {
    cc1: () => filesWith('', every('.cleaned')),
    cc2: () => filesWith('', { log: '.swap', index: '.cleaned', timeindex: '.cleaned' }),
    'a .swap without a row': () => filesWith('', every('.swap')),
  };
  it.each(Object.keys(undone))('%s is undone', async (id) => {
    await plant(undone[id]!(), before, null);
    expect(await openedWith(all)).toEqual(all);
  });

  const finished: Record<string, () => Map<string, Buffer>> = {
    cc3: () => filesWith('', every('.swap')),
    cc4: () => filesWith('.deleted', every('.swap')),
    cc5: () => filesWith('.deleted', { log: '.swap', index: '', timeindex: '.swap' }),
    'cc5, the log first': () =>
      filesWith('.deleted', { log: '', index: '.swap', timeindex: '.swap' }),
    'cc5, the log last': () => filesWith('.deleted', { log: '.swap', index: '', timeindex: '' }),
    cc6: () => filesWith('.deleted', every('')),
    'cc6 without .deleted files': () => filesWith(null, every('')),
  };
  it.each(Object.keys(finished))('%s is finished', async (id) => {
    await plant(finished[id]!(), after, range);
    expect(await openedWith(left)).toEqual(left);
  });

  it('cc3 with some of the old files renamed is finished', async () => {
    for (const { base } of before.segments) {
      const state = filesWith('', every('.swap'));
      for (const kind of kinds) {
        const bytes = state.get(fileOf(base, kind));
        state.delete(fileOf(base, kind));
        if (bytes !== undefined) state.set(`${fileOf(base, kind)}.deleted`, bytes);
      }
      await plant(state, after, range);
      const broker = await machine.open();
      expect(await keyedRecords(partitionOf(broker))).toEqual(left);
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
    await broker.alterTopic('t', compacted);
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
