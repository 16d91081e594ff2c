import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { MemoryStore } from '../src/storage/memory-store.js';
import {
  put,
  remove,
  type Change,
  type MetaStore,
  type OffsetRow,
  type PartitionRow,
  type SegmentRow,
  type TopicRow,
} from '../src/storage/meta-store.js';
import { seeds } from './seeds.js';

const topicRow: TopicRow = {
  id: 'AAAAAAAAQACAAAAAAAAAAA',
  partitions: 3,
  state: 'live',
  codecs: { key: 'string', value: null },
  options: { segmentBytes: 4096, messageTimestampType: 'LogAppendTime' },
};
const partitionRow: PartitionRow = {
  logStartOffset: 2 ** 53 - 1,
  leaderEpochs: [
    [0, 0],
    [1, 500],
  ],
  active: {
    baseOffset: 7,
    nextOffset: 9,
    bytes: 123,
    offsetIndexBytes: 8,
    timeIndexBytes: 12,
    transactionIndex: { bytes: 34, checksum: 2 ** 32 - 2 },
    lastBatchBytes: 45,
    lastCrc: 2 ** 32 - 1,
    checksum: 1,
    maxTimestamp: -1,
    maxTimestampOffset: -1,
    bytesSinceIndexEntry: 0,
  },
  producers: { snapshotCrc: 2_166_136_261, open: 1, hasAborted: true },
};
const segmentRow: SegmentRow = {
  nextOffset: 9,
  bytes: 123,
  lastBatchBytes: 45,
  lastCrc: 7,
  maxTimestamp: 5,
  checksum: 6,
  transactionIndex: { bytes: 0, checksum: 0 },
};
const offsetRow = (offset: number): OffsetRow => ({
  offset,
  leaderEpoch: -1,
  metadata: 'métadonnées 𝄞',
  timestamp: 1_700_000_000_000,
});

/** Numbers numerically, strings by code point: the order of their UTF-8. */
function order(one: Change, other: Change): number {
  for (const [i, part] of one.key.entries()) {
    const otherPart = other.key[i];
    if (part === otherPart) continue;
    if (typeof part === 'number') return part - Number(otherPart);
    return Buffer.compare(Buffer.from(part), Buffer.from(String(otherPart)));
  }
  return 0;
}

describe.each([
  ['MemoryStore', false],
  ['LMDB', true],
])('%s', (_name, onDisk) => {
  let directory: string;
  let store: MetaStore;
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'ottla-meta-'));
    store = onDisk ? await openLmdbStore(directory) : new MemoryStore();
  });
  afterEach(async () => {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const keysOf = (...args: Parameters<MetaStore['range']>): unknown[] =>
    [...store.range(...args)].map(({ key }) => key);

  it('gives back every kind of row as it was put', async () => {
    const rows = [
      put(['store'], { formatVersion: 1, storeId: 'x' }),
      put(['topic', 'orders'], topicRow),
      put(['tombstone', 'id'], { name: 'orders', partitions: 3 }),
      put(['partition', 'id', 0], partitionRow),
      put(['segment', 'id', 0, 2 ** 53 - 1], segmentRow),
      put(['group', 'mail'], { generation: 4 }),
      put(['offset', 49, 'mail', 'id', 2], offsetRow(41)),
    ];
    await store.write(rows);
    for (const { key, value } of rows) {
      expect(store.get(key)).toEqual(value);
      expect([...store.range(key)]).toEqual([{ key, value }]);
    }
  });

  it('has no row that was not put, or that was removed', async () => {
    expect(store.get(['store'])).toBeUndefined();
    expect([...store.range(['topic'])]).toEqual([]);
    await store.write([put(['topic', 'a'], topicRow), put(['topic', 'b'], topicRow)]);
    await store.write([remove(['topic', 'a']), remove(['topic', 'never'])]);
    expect(store.get(['topic', 'a'])).toBeUndefined();
    expect(keysOf(['topic'])).toEqual([['topic', 'b']]);
  });

  it('replaces a row', async () => {
    await store.write([put(['group', 'g'], { generation: 1 })]);
    await store.write([put(['group', 'g'], { generation: 2 })]);
    expect([...store.range(['group'])]).toEqual([
      { key: ['group', 'g'], value: { generation: 2 } },
    ]);
  });

  it('takes the changes of one call in order', async () => {
    await store.write([
      put(['group', 'a'], { generation: 1 }),
      remove(['group', 'a']),
      put(['group', 'b'], { generation: 1 }),
      put(['group', 'b'], { generation: 2 }),
      put(['group', 'c'], { generation: 1 }),
      remove(['group', 'c']),
      put(['group', 'c'], { generation: 3 }),
    ]);
    expect([...store.range(['group'])].map(({ key, value }) => [key[1], value.generation])).toEqual(
      [
        ['b', 2],
        ['c', 3],
      ],
    );
  });

  it('takes the calls of one turn in order, and each resolves', async () => {
    const settled: number[] = [];
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        await store.write([
          i % 3 === 2 ? remove(['group', 'g']) : put(['group', 'g'], { generation: i }),
        ]);
        settled.push(i);
      }),
    );
    expect(settled).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(store.get(['group', 'g'])).toEqual({ generation: 49 });
  });

  it('encodes at the call: the row may change afterwards', async () => {
    const codecs = { key: null as string | null, value: null };
    const written = store.write([put(['topic', 't'], { ...topicRow, codecs: { ...codecs } })]);
    codecs.key = 'json';
    await written;
    expect(store.get(['topic', 't'])?.codecs.key).toBeNull();
  });

  it('takes an empty write', async () => {
    await expect(store.write([])).resolves.toBeUndefined();
  });

  it('takes thousands of changes in one call', async () => {
    const changes = Array.from({ length: 5000 }, (_, i) =>
      put(['partition', 'id', i], partitionRow),
    );
    await store.write(changes);
    expect(keysOf(['partition', 'id'])).toEqual(changes.map(({ key }) => key));
    await store.write(changes.map(({ key }) => remove(key)));
    expect(keysOf(['partition'])).toEqual([]);
  });

  describe('range', () => {
    it('orders numbers numerically', async () => {
      const offsets = [
        0,
        1,
        2,
        9,
        10,
        11,
        99,
        100,
        255,
        256,
        65_535,
        2 ** 31,
        2 ** 32,
        2 ** 53 - 1,
      ];
      await store.write(
        offsets.toReversed().map((base) => put(['segment', 'id', 3, base], segmentRow)),
      );
      expect(keysOf(['segment', 'id', 3]).map((key) => (key as unknown[])[3])).toEqual(offsets);
    });

    it('orders strings by code point, and a beginning before what goes on', async () => {
      const names = [
        '',
        '\0',
        '\0\u0001',
        '\u0004',
        '\u0005',
        '\u001b',
        '\u001c',
        ' ',
        'A',
        'a',
        'a\0',
        'a\u0005',
        'a-b',
        'a.b',
        'ab',
        'b',
        'é',
        '\uffff',
        '𝄞',
      ];
      await store.write(names.toReversed().map((name) => put(['group', name], { generation: 0 })));
      expect(keysOf(['group'])).toEqual(names.map((name) => ['group', name]));
    });

    it('has all that begins with the prefix, part by part, and nothing else', async () => {
      await store.write([
        put(['segment', 'id', 1, 5], segmentRow),
        put(['segment', 'id', 10, 5], segmentRow),
        put(['segment', 'id2', 1, 5], segmentRow),
        put(['segment', 'i', 1, 5], segmentRow),
        put(['partition', 'id', 1], partitionRow),
        put(['store'], { formatVersion: 1, storeId: 'x' }),
      ]);
      expect(keysOf(['segment', 'id'])).toEqual([
        ['segment', 'id', 1, 5],
        ['segment', 'id', 10, 5],
      ]);
      expect(keysOf(['segment', 'id', 1])).toEqual([['segment', 'id', 1, 5]]);
      expect(keysOf(['segment', 'id', 1, 5])).toEqual([['segment', 'id', 1, 5]]);
      expect(keysOf(['segment', 'id', 2])).toEqual([]);
      expect(keysOf(['segment'])).toHaveLength(4);
      expect(keysOf(['store'])).toEqual([['store']]);
    });

    it('is what was there at the call, whatever is written meanwhile', async () => {
      await store.write([
        put(['group', 'a'], { generation: 1 }),
        put(['group', 'b'], { generation: 1 }),
      ]);
      const range = store.range(['group']);
      await store.write([
        put(['group', 'aa'], { generation: 1 }),
        put(['group', 'a'], { generation: 2 }),
        remove(['group', 'b']),
      ]);
      expect([...range]).toEqual([
        { key: ['group', 'a'], value: { generation: 1 } },
        { key: ['group', 'b'], value: { generation: 1 } },
      ]);
      expect(keysOf(['group'])).toEqual([
        ['group', 'a'],
        ['group', 'aa'],
      ]);
    });
  });

  describe('a key', () => {
    const longest = 'x'.repeat(1976 - 'group'.length - 1);

    it('may have 1976 bytes', async () => {
      await store.write([put(['group', longest], { generation: 1 })]);
      expect(store.get(['group', longest])).toEqual({ generation: 1 });
      expect(keysOf(['group'])).toEqual([['group', longest]]);
      expect(keysOf(['group', longest])).toEqual([['group', longest]]);
    });

    it.each([
      ['more bytes', `${longest}x`, /at most 1976 bytes, got 1977/],
      ['more bytes than characters', longest.replace('x', 'é'), /at most 1976 bytes, got 1977/],
      ['more bytes than characters, escapes', `${longest.slice(1)}\0`, /got 1977/],
      ['half of a surrogate pair', 'a\ud834', /half of a surrogate pair/],
    ])('is refused with %s', (_what, group, message) => {
      expect(() => put(['group', group], { generation: 1 })).toThrow(RangeError);
      expect(() => remove(['group', group])).toThrow(message);
      expect(() => store.get(['group', group])).toThrow(message);
      expect(() => store.range(['group', group])).toThrow(message);
    });

    it.each([-1, 0.5, Number.NaN, Infinity, 2 ** 53])('is refused with the number %s', (number) => {
      expect(() => put(['partition', 'id', number], partitionRow)).toThrow(RangeError);
      expect(() => store.get(['partition', 'id', number])).toThrow(RangeError);
    });
  });

  it('does what a sorted map does, whatever the keys', async () => {
    const name = fc.string({ unit: 'binary', maxLength: 90 });
    const change = fc.oneof(
      fc.record({ kind: fc.constant('group' as const), group: name, there: fc.boolean() }),
      fc.record({
        kind: fc.constant('offset' as const),
        group: fc.constantFrom('a', 'b', 'ab'),
        partition: fc.maxSafeNat(),
        there: fc.boolean(),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 30 }), async (steps) => {
        const model = new Map<string, Change>();
        const changes: Change[] = steps.map((step, i) => {
          if (step.kind === 'group') {
            const key = ['group', step.group] as const;
            return step.there ? put(key, { generation: i }) : remove(key);
          }
          const key = ['offset', 7, step.group, 'id', step.partition] as const;
          return step.there ? put(key, offsetRow(i)) : remove(key);
        });
        for (const made of changes) model.set(JSON.stringify(made.key), made);
        const before = [...store.range(['group']), ...store.range(['offset'])];
        await store.write([...before.map(({ key }) => remove(key)), ...changes]);

        const rows = [...model.values()].filter(({ value }) => value !== undefined);
        for (const kind of ['group', 'offset'] as const) {
          const expected = rows.filter(({ key }) => key[0] === kind).toSorted(order);
          expect([...store.range([kind])]).toEqual(expected);
        }
        for (const { key, value } of model.values()) expect(store.get(key)).toEqual(value);
      }),
      { numRuns: seeds(onDisk ? 60 : 200) },
    );
  });

  describe('close', () => {
    it('waits for the writes under way; more are refused with CLOSED', async () => {
      const written = store.write([put(['group', 'g'], { generation: 1 })]);
      let resolved = false;
      void written.then(() => (resolved = true));
      const closing = store.close();
      await expect(store.write([])).rejects.toMatchObject({ name: 'OttlaError', code: 'CLOSED' });
      await closing;
      await Promise.resolve();
      expect(resolved).toBe(true);
    });

    it('is idempotent, and nothing can be read after it', async () => {
      await Promise.all([store.close(), store.close()]);
      await store.close();
      const closed = expect.objectContaining({ code: 'CLOSED' }) as Error;
      expect(() => store.get(['store'])).toThrow(closed);
      expect(() => store.range(['store'])).toThrow(closed);
    });
  });
});

describe('MemoryStore', () => {
  it('resolves a write within the microtasks of this turn', async () => {
    let written = false;
    void new MemoryStore().write([put(['group', 'g'], { generation: 1 })]).then(() => {
      written = true;
    });
    for (let i = 0; i < 4; i++) await Promise.resolve();
    expect(written).toBe(true);
  });
});
