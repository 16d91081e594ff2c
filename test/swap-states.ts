import { put, remove, type CompactionRow, type SegmentRow } from '../src/storage/meta-store.js';
import type { Broker } from '../src/broker.js';
import type { TopicSettings } from '../src/options.js';
import { keyedBatch, keyedRecords, type KeyedRecord } from './keyed.js';
import { Machine, append, createTopic, partitionOf } from './machine.js';

const kinds = ['log', 'index', 'timeindex'] as const;
type Kind = (typeof kinds)[number];
const settings = { segmentBytes: 1024, indexIntervalBytes: 0, cleanupPolicy: 'delete' } as const;
/** Of the segments that become one. */
export const range = { baseOffset: 0, nextOffset: 30 };
const fileOf = (base: number, kind: Kind): string => `${String(base).padStart(20, '0')}.${kind}`;

/** Sealed segments with 30 records of three keys, and an active one with another. */
export async function fill(broker: Broker): Promise<void> {
  const partition = await createTopic(broker, settings);
  for (let i = 0; i < 30; i++) {
    await append(partition, keyedBatch([[`k${i % 3}`, `${i}`.padStart(35, '.')]]), 'all');
  }
  await append(partition, keyedBatch([['k0', 'x'.repeat(900)]]), 'all');
}

/** Large segments, so that all that is sealed becomes one. */
export const compacted: Partial<TopicSettings> = {
  cleanupPolicy: 'compact',
  segmentBytes: 1024 * 1024,
};

/** One pass over it, begun by hand. */
export async function compact(broker: Broker): Promise<void> {
  await broker.topics.alter('t', compacted);
  await partitionOf(broker).compact();
}

export const leftovers = (machine: Machine): string[] =>
  machine.names().filter((name) => /\.(cleaned|swap|deleted)$/.test(name));

interface State {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly segments: readonly { readonly base: number; readonly row: SegmentRow }[];
}

const every = (suffix: string): Record<Kind, string> => ({
  log: suffix,
  index: suffix,
  timeindex: suffix,
});

/** A log before and after a compaction, and everything that a crash may leave in between. */
export class SwapStates {
  readonly machine: Machine = new Machine();
  topicId = '';
  before!: State;
  after!: State;
  /** The records before and after. */
  all: KeyedRecord[] = [];
  left: KeyedRecord[] = [];

  async prepare(): Promise<void> {
    const broker = await this.machine.open();
    await fill(broker);
    this.topicId = broker.topics.get('t').id;
    this.before = this.#state();
    this.all = await keyedRecords(partitionOf(broker));
    await compact(broker);
    this.after = this.#state();
    this.left = await keyedRecords(partitionOf(broker));
    await broker.close();
  }

  #state(): State {
    const { machine } = this;
    return {
      files: new Map(machine.names().map((name) => [name, machine.read(name)])),
      segments: [...machine.store.range(['segment', this.topicId])].map(({ key, value }) => ({
        base: key[3],
        row: value,
      })),
    };
  }

  /** Files and rows as a crash left them. */
  async plant(
    files: ReadonlyMap<string, Buffer>,
    { segments }: State,
    swapping: CompactionRow['swapping'],
  ): Promise<void> {
    const { machine, topicId } = this;
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
  filesWith(
    oldSuffix: string | null,
    suffixes: Readonly<Record<Kind, string>>,
  ): Map<string, Buffer> {
    const { before, after } = this;
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

  /** With the files of one old segment renamed already. */
  filesWithOneAway(base: number): Map<string, Buffer> {
    const state = this.filesWith('', every('.swap'));
    for (const kind of kinds) {
      const bytes = state.get(fileOf(base, kind));
      state.delete(fileOf(base, kind));
      if (bytes !== undefined) state.set(`${fileOf(base, kind)}.deleted`, bytes);
    }
    return state;
  }
}

/** States before the commit, which are undone, and behind it, which are finished. */
export const undone: Readonly<Record<string, (states: SwapStates) => Map<string, Buffer>>> = {
  cc1: (states) => states.filesWith('', every('.cleaned')),
  cc2: (states) => states.filesWith('', { log: '.swap', index: '.cleaned', timeindex: '.cleaned' }),
  'a .swap without a row': (states) => states.filesWith('', every('.swap')),
};
export const finished: typeof undone = {
  cc3: (states) => states.filesWith('', every('.swap')),
  'cc3, one old segment renamed': (states) =>
    states.filesWithOneAway(states.before.segments[1]!.base),
  cc4: (states) => states.filesWith('.deleted', every('.swap')),
  cc5: (states) => states.filesWith('.deleted', { log: '.swap', index: '', timeindex: '.swap' }),
  'cc5, the log first': (states) =>
    states.filesWith('.deleted', { log: '', index: '.swap', timeindex: '.swap' }),
  'cc5, the log last': (states) =>
    states.filesWith('.deleted', { log: '.swap', index: '', timeindex: '' }),
  cc6: (states) => states.filesWith('.deleted', every('')),
  'cc6 without .deleted files': (states) => states.filesWith(null, every('')),
};
