import fc from 'fast-check';
import { expect, it } from 'vitest';
import { OffsetMap } from '../src/storage/offset-map.js';

it('is a map from keys to offsets, up to its capacity', () => {
  const puts = fc.array(
    fc.tuple(fc.uint8Array({ maxLength: 2 }), fc.integer({ min: 0, max: 2 ** 53 - 2 })),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(puts, fc.integer({ min: 1, max: 40 }), (entries, capacity) => {
      const map = new OffsetMap(capacity);
      const model = new Map<string, number>();
      for (const [key, offset] of entries) {
        const name = Buffer.from(key).toString('hex');
        const fits = model.has(name) || model.size < capacity;
        expect(map.put(key, offset)).toBe(fits);
        if (fits) model.set(name, offset);
      }
      expect(map.size).toBe(model.size);
      for (const [key] of entries) {
        expect(map.get(key)).toBe(model.get(Buffer.from(key).toString('hex')) ?? -1);
      }
    }),
  );
});

it('takes no more memory than it is given', () => {
  expect(OffsetMap.capacityOf(24 * 1000)).toBe(749);
  expect(OffsetMap.capacityOf(32 * 1024 * 1024)).toBeGreaterThan(1_000_000);
});

it('has room for one key at least', () => {
  const map = new OffsetMap(OffsetMap.capacityOf(0));
  expect(map.get(Buffer.from('a'))).toBe(-1);
  expect(map.put(Buffer.from('a'), 0)).toBe(true);
  expect(map.put(Buffer.from('b'), 1)).toBe(false);
  expect(map.put(Buffer.from('a'), 2)).toBe(true);
  expect(map.get(Buffer.from('a'))).toBe(2);
});
