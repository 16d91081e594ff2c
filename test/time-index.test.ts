import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TimeIndex } from '../src/storage/time-index.js';

interface Vector {
  id: string;
  baseOffset: string;
  appendsInOrder: [timestamp: string, offset: string, outcome: string][];
  lastEntry: [timestamp: string, offset: string];
  lookups: [target: string, timestamp: string, offset: string][];
  hex: string;
}
const vectors = JSON.parse(
  readFileSync(new URL('vectors/files.json', import.meta.url), 'utf8'),
) as {
  timeIndex: Vector[];
  segments: {
    id: string;
    baseOffset: number;
    files: Record<string, string>;
    timeIndexEntries: [timestamp: number, offset: number][];
  }[];
};

function indexOf(baseOffset: number, entries: readonly (readonly [number, number])[]): TimeIndex {
  const index = new TimeIndex(baseOffset);
  for (const [timestamp, offset] of entries) index.append(timestamp, offset);
  return index;
}

describe.each(vectors.timeIndex)('Kafka’s time index $id', (vector) => {
  const base = Number(vector.baseOffset);
  const appended = (): TimeIndex =>
    indexOf(
      base,
      vector.appendsInOrder.map(([timestamp, offset]) => [Number(timestamp), Number(offset)]),
    );
  const read = (): TimeIndex => TimeIndex.fromBytes(base, Buffer.from(vector.hex, 'hex'));

  it('stores and skips the same entries', () => {
    const index = new TimeIndex(base);
    const outcomes = vector.appendsInOrder.map(([timestamp, offset]) =>
      index.append(Number(timestamp), Number(offset)),
    );
    expect(outcomes).toEqual(vector.appendsInOrder.map(([, , outcome]) => outcome === 'stored'));
  });

  it('is written byte for byte', () => {
    expect(appended().bytesFrom(0).toString('hex')).toBe(vector.hex);
    expect(appended().byteLength).toBe(vector.hex.length / 2);
  });

  it('is read back', () => {
    expect(read().bytesFrom(0).toString('hex')).toBe(vector.hex);
    expect(read().length).toBe(vector.hex.length / 24);
  });

  it('has the same last entry and answers look-ups alike, written or read', () => {
    const [lastTimestamp, lastOffset] = vector.lastEntry.map(Number);
    for (const index of [appended(), read()]) {
      expect(index.lookup(Infinity)).toEqual({ timestamp: lastTimestamp, offset: lastOffset });
      for (const [target, timestamp, offset] of vector.lookups) {
        expect([target, index.lookup(Number(target))]).toEqual([
          target,
          { timestamp: Number(timestamp), offset: Number(offset) },
        ]);
      }
    }
  });
});

describe.each(vectors.segments)('the time index of Kafka’s segment $id', (segment) => {
  it('is read, entry by entry', () => {
    const name = `${String(segment.baseOffset).padStart(20, '0')}.timeindex`;
    const bytes = Buffer.from(segment.files[name] ?? '', 'hex');
    const index = TimeIndex.fromBytes(segment.baseOffset, bytes);
    expect(index.length).toBe(segment.timeIndexEntries.length);
    for (const [timestamp, offset] of segment.timeIndexEntries) {
      expect(index.lookup(timestamp)).toEqual({ timestamp, offset });
    }
  });
});

describe('append', () => {
  it('skips a timestamp that is not larger, and none at all', () => {
    const index = new TimeIndex(10);
    expect(index.append(-1, 12)).toBe(false);
    expect(index.append(0, 12)).toBe(true);
    expect(index.append(0, 13)).toBe(false);
    expect(index.append(5, 14)).toBe(true);
    expect(index.append(3, 15)).toBe(false);
    expect(index.length).toBe(2);
  });

  it('refuses an offset below the last one’s, below the base or too far above it', () => {
    const index = indexOf(10, [[5, 12]]);
    expect(() => index.append(6, 11)).toThrow(/offset from 12 to 2147483657, got 11/);
    expect(() => new TimeIndex(10).append(6, 9)).toThrow(RangeError);
    expect(() => index.append(6, 10 + 2 ** 31)).toThrow(RangeError);
    expect(index.append(6, 10 + 2 ** 31 - 1)).toBe(true);
  });

  it('f31 keeps timestamps beyond 32 bits, up to 2^53, and refuses larger ones', () => {
    const index = indexOf(0, [
      [2 ** 32 - 1, 1],
      [2 ** 32, 2],
      [2 ** 53 - 1, 3],
    ]);
    expect(index.bytesFrom(0).toString('hex')).toBe(
      '00000000ffffffff00000001000000010000000000000002001fffffffffffff00000003',
    );
    expect(index.lookup(2 ** 53 - 1)).toEqual({ timestamp: 2 ** 53 - 1, offset: 3 });
    expect(() => index.append(2 ** 53, 4)).toThrow(RangeError);
  });
});

describe('fromBytes', () => {
  it.each([
    ['a length that is no multiple of 12', '00'.repeat(11)],
    ['a timestamp that stands still', '000000000000000500000001'.repeat(2)],
    ['a timestamp that falls', '000000000000000500000001000000000000000400000002'],
    ['a timestamp of none', 'ffffffffffffffff00000001'],
    ['a timestamp of 2^53 or more', '002000000000000000000001'],
    ['an offset that falls', '000000000000000500000002000000000000000600000001'],
    ['an offset below the base', '0000000000000005ffffffff'],
  ])('refuses %s', (_what, hex) => {
    expect(() => TimeIndex.fromBytes(7, Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });
});

describe('any time index', () => {
  const someEntries = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 5 })), {
      maxLength: 60,
    })
    .map((steps) => {
      let [timestamp, offset] = [-1, 0];
      return steps.map(([later, more]) => [(timestamp += later), (offset += more)] as const);
    });

  it('finds what a walk over all entries finds, and is cut where that is cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 52 }),
        someEntries,
        fc.integer({ min: -2, max: 200 }),
        (base, relative, target) => {
          const entries = relative.map(
            ([timestamp, offset]) => [timestamp, base + offset] as const,
          );
          const index = indexOf(base, entries);
          expect(index.length).toBe(entries.length);
          const [timestamp, offset] = entries.findLast(([at]) => at <= target) ?? [-1, base];
          expect(index.lookup(target)).toEqual({ timestamp, offset });

          index.truncateTo(base + target);
          const kept = entries.filter(([, at]) => at < base + target);
          expect(index.bytesFrom(0).equals(indexOf(base, kept).bytesFrom(0))).toBe(true);
          expect(TimeIndex.fromBytes(base, index.bytesFrom(0)).length).toBe(kept.length);
        },
      ),
    );
  });
});
