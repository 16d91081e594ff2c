import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OffsetIndex } from '../src/storage/offset-index.js';

interface Vector {
  id: string;
  baseOffset: string;
  entries: [offset: string, position: number][];
  lastOffset: string;
  lookups: [target: string, offset: string, position: number][];
  hex: string;
}
const vectors = JSON.parse(
  readFileSync(new URL('vectors/files.json', import.meta.url), 'utf8'),
) as {
  offsetIndex: Vector[];
  offsetIndexErrors: Record<string, string>[];
  segments: {
    id: string;
    baseOffset: number;
    files: Record<string, string>;
    offsetIndexEntries: [offset: number, position: number][];
  }[];
};

function indexOf(baseOffset: number, entries: readonly (readonly [number, number])[]): OffsetIndex {
  const index = new OffsetIndex(baseOffset);
  for (const [offset, position] of entries) index.append(offset, position);
  return index;
}

describe.each(vectors.offsetIndex)('Kafka’s index $id', (vector) => {
  const base = Number(vector.baseOffset);
  const entries = vector.entries.map(([offset, position]) => [Number(offset), position] as const);

  it('is written byte for byte', () => {
    const index = indexOf(base, entries);
    expect(index.bytesFrom(0).toString('hex')).toBe(vector.hex);
    expect(index.length).toBe(entries.length);
    expect(index.byteLength).toBe(vector.hex.length / 2);
  });

  it('is read back', () => {
    const index = OffsetIndex.fromBytes(base, Buffer.from(vector.hex, 'hex'));
    expect(index.length).toBe(entries.length);
    expect(index.bytesFrom(0).toString('hex')).toBe(vector.hex);
    expect(index.lookup(Infinity).offset).toBe(Number(vector.lastOffset));
  });

  it('answers look-ups alike, written or read', () => {
    for (const index of [
      indexOf(base, entries),
      OffsetIndex.fromBytes(base, Buffer.from(vector.hex, 'hex')),
    ]) {
      for (const [target, offset, position] of vector.lookups) {
        expect([target, index.lookup(Number(target))]).toEqual([
          target,
          { offset: Number(offset), position },
        ]);
      }
    }
  });
});

describe.each(vectors.segments)('the index of Kafka’s segment $id', (segment) => {
  it('is read, entry by entry', () => {
    const name = `${String(segment.baseOffset).padStart(20, '0')}.index`;
    const bytes = Buffer.from(segment.files[name] ?? '', 'hex');
    const index = OffsetIndex.fromBytes(segment.baseOffset, bytes);
    expect(index.length).toBe(segment.offsetIndexEntries.length);
    for (const [offset, position] of segment.offsetIndexEntries) {
      expect(index.lookup(offset)).toEqual({ offset, position });
    }
  });
});

describe('Kafka’s errors', () => {
  const outcomes: Record<string, () => void> = {
    '51,10': () => expect(() => indexOf(50, [[51, 0]]).append(51, 10)).toThrow(RangeError),
    '50,10': () => expect(() => indexOf(50, [[51, 0]]).append(50, 10)).toThrow(RangeError),
    // Kafka accepts a negative position; its note allows to refuse.
    '52,-1': () => expect(() => indexOf(50, [[51, 0]]).append(52, -1)).toThrow(RangeError),
    'offset base + 2^31': () =>
      expect(() => new OffsetIndex(50).append(50 + 2 ** 31, 0)).toThrow(RangeError),
    '13 bytes (not a multiple of 8)': () =>
      expect(() => OffsetIndex.fromBytes(0, Buffer.alloc(13))).toThrow(
        expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
      ),
    // Kafka keeps it, and every look-up is slow from then on; here the index is rebuilt instead.
    'two all-zero entries in a segment with base offset 100': () =>
      expect(() => OffsetIndex.fromBytes(100, Buffer.alloc(16))).toThrow(
        expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
      ),
  };
  it.each(vectors.offsetIndexErrors.map((error) => error['append'] ?? error['file'] ?? ''))(
    '%s',
    (what) => {
      expect(outcomes).toHaveProperty([what]);
      outcomes[what]?.();
    },
  );
});

describe('f31 append', () => {
  it('says what it got and expected, and adds nothing', () => {
    const index = indexOf(100, [[105, 7]]);
    expect(() => index.append(105, 8)).toThrow(/offset from 106 to 2147483747, got 105/);
    expect(() => index.append(106, 7)).toThrow(/position from 8 to 2147483647, got 7/);
    expect(() => index.append(106, 2 ** 31)).toThrow(/got 2147483648/);
    expect(() => index.append(Number.NaN, 8)).toThrow(RangeError);
    expect(() => index.append(106, Number.NaN)).toThrow(RangeError);
    expect(index.length).toBe(1);
  });

  it('takes the whole range of an int32, and no offset below the base', () => {
    const index = indexOf(100, [
      [100, 0],
      [100 + 2 ** 31 - 1, 2 ** 31 - 1],
    ]);
    expect(index.canHold(100 + 2 ** 31 - 1)).toBe(true);
    expect(index.canHold(100 + 2 ** 31)).toBe(false);
    expect(index.canHold(99)).toBe(false);
    expect(index.lookup(2 ** 40)).toEqual({ offset: 100 + 2 ** 31 - 1, position: 2 ** 31 - 1 });
  });
});

describe('fromBytes', () => {
  it.each([
    ['an offset that stands still', '00000001000000000000000100000001'],
    ['an offset that falls', '00000002000000000000000100000001'],
    ['a position that stands still', '00000001000000050000000200000005'],
    ['a position that falls', '00000001000000050000000200000004'],
    ['an offset below the base', 'ffffffff00000000'],
    ['a negative position', '0000000080000000'],
  ])('refuses %s', (_what, hex) => {
    expect(() => OffsetIndex.fromBytes(7, Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });

  it('keeps no hold of the bytes', () => {
    const bytes = Buffer.from('0000000100000000', 'hex');
    const index = OffsetIndex.fromBytes(0, bytes);
    bytes.fill(0xff);
    expect(index.lookup(5)).toEqual({ offset: 1, position: 0 });
  });
});

describe('bytesFrom', () => {
  it('is what a file of some entries lacks, so that appended it is whole', () => {
    const index = indexOf(0, [
      [1, 0],
      [5, 10],
    ]);
    const file = [Buffer.from(index.bytesFrom(0))];
    expect(index.bytesFrom(2)).toHaveLength(0);
    for (let i = 0; i < 100; i++) index.append(6 + i, 11 + i);
    file.push(Buffer.from(index.bytesFrom(2)));
    expect(Buffer.concat(file).equals(index.bytesFrom(0))).toBe(true);
  });
});

describe('any index', () => {
  const someEntries = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 9000 })), {
      maxLength: 60,
    })
    .map((steps) => {
      let [offset, position] = [-1, -1];
      return steps.map(([more, bytes]) => [(offset += more), (position += bytes)] as const);
    });

  it('finds what a walk over all entries finds, and is cut where that is cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 52 }),
        someEntries,
        fc.integer({ min: -2, max: 200 }),
        (base, relative, target) => {
          const entries = relative.map(([offset, position]) => [base + offset, position] as const);
          const index = indexOf(base, entries);
          const [offset, position] = entries.findLast(([at]) => at <= base + target) ?? [base, 0];
          expect(index.lookup(base + target)).toEqual({ offset, position });

          index.truncateTo(base + target);
          const kept = entries.filter(([at]) => at < base + target);
          expect(index.bytesFrom(0).equals(indexOf(base, kept).bytesFrom(0))).toBe(true);
          const [lastOffset, lastPosition] = kept.at(-1) ?? [base - 1, -1];
          index.append(lastOffset + 1, lastPosition + 1);
          expect(index.length).toBe(kept.length + 1);
        },
      ),
    );
  });
});
