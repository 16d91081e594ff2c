import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkBatch,
  noHeaders,
  readBatchHeader,
  type Bytes,
  type RecordHeaders,
} from '../src/record.js';
import { RecordReader } from '../src/record-reader.js';
import { BatchBuilder, encodeBatch, recordSizeUpperBound } from '../src/record-writer.js';
import { seeds } from './seeds.js';

type Given = readonly [
  timestamp: number,
  key: Bytes | null,
  value: Bytes | null,
  headers: RecordHeaders,
];

/** Of every width in UTF-8, with surrogates that have no other half. */
const text = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc
    .array(fc.constantFrom('a', 'é', '語', '😀', '\ud800', '\udc00'), { maxLength: 100 })
    .map((units) => units.join('')),
  fc.nat(9000).map((length) => 'x'.repeat(length)),
  fc.nat(3000).map((length) => 'é'.repeat(length)),
);
const bytes: fc.Arbitrary<Bytes | null> = fc.oneof(
  fc.constant(null),
  text,
  fc.uint8Array({ maxLength: 200 }),
  fc.nat(9000).map((length) => Buffer.alloc(length, length)),
);
const timestamp = fc.oneof(
  fc.integer({ min: 1.7e12, max: 1.7e12 + 1e6 }),
  fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
  fc.constantFrom(-1, 0, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
const headers: fc.Arbitrary<RecordHeaders> = fc.oneof(
  fc.constant(noHeaders),
  fc.array(fc.tuple(fc.oneof(text, fc.constant('__proto__')), bytes), { maxLength: 4 }),
);
const record: fc.Arbitrary<Given> = fc.tuple(timestamp, bytes, bytes, headers);
const records = fc.array(record, { minLength: 1, maxLength: 12 });

const hex = (content: Bytes | null): string | null =>
  content === null ? null : Buffer.from(content as string).toString('hex');

/** One string of all that records hold: quick to compare. */
function shown(given: Iterable<Given>): string {
  return JSON.stringify(
    Array.from(given, ([at, key, value, list]) => [
      at,
      hex(key),
      hex(value),
      list.map(([name, content]) => [Buffer.from(name).toString(), hex(content)]),
    ]),
  );
}

function* decode(buffer: Buffer, position: number, end: number): Generator<Given> {
  const header = readBatchHeader(buffer, position, end)!;
  checkBatch(buffer, position, header);
  const reader = new RecordReader();
  reader.open(buffer, position, header);
  for (let count = 0; reader.next(); count++) {
    expect(reader.offset).toBe(count);
    yield [reader.timestamp, reader.key(true), reader.value(true), reader.headers(true)];
  }
}

describe('BatchBuilder', () => {
  it('encodes any records so that they decode to themselves', () => {
    const builder = new BatchBuilder();
    fc.assert(
      fc.property(records, fc.nat(50), (given, position) => {
        const buffer = Buffer.alloc(1_000_000, 0xaa);
        builder.begin(buffer, position, buffer.length);
        for (const [i, each] of given.entries()) {
          expect(builder.count).toBe(i);
          expect(builder.append(...each)).toBe(true);
        }
        expect(builder.maxTimestamp).toBe(Math.max(...given.map(([at]) => at)));
        const size = builder.finish();
        expect(builder.bytes).toBe(size);
        expect(readBatchHeader(buffer, position, position + size)).toMatchObject({
          baseOffset: 0,
          leaderEpoch: -1,
          size,
          attributes: 0,
          recordCount: given.length,
          lastOffsetDelta: given.length - 1,
          maxTimestamp: builder.maxTimestamp,
          producerId: -1n,
          producerEpoch: -1,
          baseSequence: -1,
        });
        expect(shown(decode(buffer, position, position + size))).toBe(shown(given));
      }),
      { numRuns: seeds(300) },
    );
  });

  it('writes what encodeBatch does', () => {
    const builder = new BatchBuilder();
    fc.assert(
      fc.property(records, (given) => {
        const buffer = Buffer.alloc(1_000_000);
        builder.begin(buffer, 0, buffer.length);
        for (const each of given) builder.append(...each);
        const size = builder.finish();
        const placed = given.map(([at, key, value, list], offset) => ({
          offset,
          timestamp: at,
          key,
          value,
          headers: list,
        }));
        const whole = encodeBatch({ baseOffset: 0, leaderEpoch: -1, records: placed });
        expect(buffer.subarray(0, size).equals(whole)).toBe(true);
      }),
    );
  });

  it('writes what encodeBatch does where a number takes a byte more', () => {
    const ends = [0, 1, 62, 63, 64, 8190, 8191, 8192];
    const parts = [null, ...ends.flatMap((size) => [Buffer.alloc(size, size), 'x'.repeat(size)])];
    const times = [0, 63, 64, -64, -65, 8191, 8192].map((delta) => 1e12 + delta);
    const given: Given[] = Array.from({ length: 8300 }, (_, i) => [1e12, null, `${i % 10}`, []]);
    for (const part of parts) given.push([1e12, part, null, []], [1e12, null, part, []]);
    for (const time of times) given.push([time, 'key', Buffer.from('value'), []]);
    const builder = new BatchBuilder();
    for (const batch of [given, given.slice(8200), given.toReversed()]) {
      const buffer = Buffer.alloc(1_000_000);
      builder.begin(buffer, 0, buffer.length);
      for (const each of batch) expect(builder.append(...each)).toBe(true);
      const size = builder.finish();
      const placed = batch.map(([at, key, value], offset) => ({
        offset,
        timestamp: at,
        key,
        value,
      }));
      const whole = encodeBatch({ baseOffset: 0, leaderEpoch: -1, records: placed });
      expect(buffer.subarray(0, size).equals(whole)).toBe(true);
    }
  });

  it('takes a record that just fits, and changes nothing for one that does not', () => {
    const builder = new BatchBuilder();
    fc.assert(
      fc.property(records, record, (given, last) => {
        const roomy = Buffer.alloc(1_000_000);
        builder.begin(roomy, 0, roomy.length);
        for (const each of given) builder.append(...each);
        const before = builder.bytes;
        expect(builder.append(...last)).toBe(true);
        const size = builder.bytes;
        const [, key, value, list] = last;
        expect(size - before).toBeLessThanOrEqual(recordSizeUpperBound(key, value, list));

        for (const limit of [size, size - 1]) {
          const fits = limit === size;
          const tight = Buffer.alloc(size + 10, 0xaa);
          builder.begin(tight, 0, limit);
          for (const each of given) builder.append(...each);
          expect(builder.append(...last)).toBe(fits);
          expect(builder.bytes).toBe(fits ? size : before);
          expect(builder.count).toBe(fits ? given.length + 1 : given.length);
          const end = builder.finish();
          expect(tight.subarray(limit).every((byte) => byte === 0xaa)).toBe(true);
          const held = fits ? [...given, last] : given;
          expect(shown(decode(tight, 0, end))).toBe(shown(held));
        }
      }),
    );
  });

  it('writes its producer and kind', () => {
    const builder = new BatchBuilder();
    const buffer = Buffer.alloc(1000);
    builder.begin(buffer, 0, 1000);
    builder.append(5, 'k', 'v', noHeaders);
    const size = builder.finish({
      producerId: 2n ** 62n + 3n,
      producerEpoch: 32_766,
      baseSequence: 2 ** 31 - 1,
      isTransactional: true,
      isControl: true,
    });
    const header = readBatchHeader(buffer, 0, size)!;
    checkBatch(buffer, 0, header);
    expect(header).toMatchObject({
      producerId: 2n ** 62n + 3n,
      producerEpoch: 32_766,
      baseSequence: 2 ** 31 - 1,
      isTransactional: true,
      isControl: true,
    });
  });

  it.each([-2, 1.5, NaN, Infinity, 2 ** 53])('refuses the timestamp %d', (bad) => {
    const builder = new BatchBuilder();
    builder.begin(Buffer.alloc(200), 0, 200);
    builder.append(1, null, null, noHeaders);
    expect(() => builder.append(bad, null, null, noHeaders)).toThrow(RangeError);
    expect(builder.count).toBe(1);
  });

  it.each([
    ['less room than a header', 0, 60],
    ['an end behind the buffer', 0, 201],
    ['a negative position', -1, 100],
    ['no number', NaN, 100],
  ])('refuses to begin with %s', (_, position, limit) => {
    const builder = new BatchBuilder();
    expect(() => builder.begin(Buffer.alloc(200), position, limit)).toThrow(RangeError);
  });

  it('takes no record outside of begin() and finish()', () => {
    const builder = new BatchBuilder();
    expect(builder.append(1, null, null, noHeaders)).toBe(false);
    builder.begin(Buffer.alloc(200), 0, 200);
    expect(builder.append(1, null, null, noHeaders)).toBe(true);
    builder.finish();
    expect(builder.append(1, null, null, noHeaders)).toBe(false);
  });

  it('refuses to finish without a record', () => {
    const builder = new BatchBuilder();
    builder.begin(Buffer.alloc(200), 0, 200);
    expect(() => builder.finish()).toThrow(RangeError);
  });
});

describe('encodeBatch', () => {
  it.each<[what: string, offsets: number[], lastOffset?: number]>([
    ['below the base offset', [4]],
    ['twice the same', [5, 5]],
    ['behind the last offset', [5, 9]],
    ['too far apart', [5], 2 ** 31 + 5],
    ['that end before they begin', [], 4],
  ])('refuses offsets %s', (_, offsets, lastOffset = 8) => {
    const placed = offsets.map((offset) => ({ offset, timestamp: 0, key: null, value: null }));
    expect(() =>
      encodeBatch({ baseOffset: 5, leaderEpoch: 0, lastOffset, records: placed }),
    ).toThrow(RangeError);
  });
});
