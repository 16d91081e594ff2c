import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readBatchHeader } from '../src/record.js';
import { RecordReader } from '../src/record-reader.js';
import { encodeBatch, type PlacedRecord } from '../src/record-writer.js';
import { withCrc } from './batch-vectors.js';
import { seeds } from './seeds.js';

function batchOf(records: readonly PlacedRecord[], baseOffset = 0): Buffer {
  return encodeBatch({ baseOffset, leaderEpoch: 0, records });
}

function open(bytes: Buffer, from?: number, position = 0): RecordReader {
  const reader = new RecordReader();
  reader.open(bytes, position, readBatchHeader(bytes, position, bytes.length)!, from);
  return reader;
}

/** A batch of one record whose body, behind its length, is what the test makes of it. */
function batchWithBody(body: readonly number[], count = 1): Buffer {
  const empty = encodeBatch({
    baseOffset: 100,
    leaderEpoch: 0,
    lastOffset: 109,
    records: [],
    maxTimestamp: 0,
  });
  const bytes = Buffer.concat([empty, Buffer.from(body)]);
  bytes.writeInt32BE(bytes.length - 12, 8);
  bytes.writeInt32BE(count, 57);
  return withCrc(bytes);
}

describe('a reader', () => {
  it('says where the parts of a record lie', () => {
    const bytes = batchOf([
      { offset: 0, timestamp: 5, key: 'key', value: 'value' },
      { offset: 1, timestamp: 6, key: null, value: '' },
      { offset: 2, timestamp: 4, key: '', value: null },
    ]);
    const reader = open(Buffer.concat([Buffer.alloc(9), bytes]), 0, 9);
    const parts: unknown[] = [];
    while (reader.next()) {
      const { offset, timestamp, keyStart, keyEnd, valueStart, valueEnd } = reader;
      parts.push([offset, timestamp, keyStart, keyEnd, valueStart, valueEnd]);
    }
    expect(parts).toEqual([
      [0, 5, 9 + 66, 9 + 69, 9 + 70, 9 + 75],
      [1, 6, -1, -1, 9 + 82, 9 + 82],
      [2, 4, 9 + 88, 9 + 88, -1, -1],
    ]);
    expect(reader.next()).toBe(false);
  });

  it('begins at the first record at or behind an offset', () => {
    const offsets = [12, 15, 19];
    const bytes = batchOf(
      offsets.map((offset) => ({ offset, timestamp: offset, key: `${offset}`, value: null })),
      10,
    );
    for (let from = 0; from < 25; from++) {
      const reader = open(bytes, from);
      const found: [number, number, string | undefined][] = [];
      while (reader.next()) {
        found.push([reader.offset, reader.timestamp, reader.key(false)?.toString()]);
      }
      expect(found).toEqual(
        offsets.filter((offset) => offset >= from).map((offset) => [offset, offset, `${offset}`]),
      );
    }
  });

  it('goes from batch to batch', () => {
    const reader = new RecordReader();
    for (const value of ['one', 'two', 'three']) {
      const bytes = batchOf([{ offset: 0, timestamp: 0, key: null, value }]);
      reader.open(bytes, 0, readBatchHeader(bytes, 0, bytes.length)!);
      expect(reader.next()).toBe(true);
      expect(reader.value(true)?.toString()).toBe(value);
      expect(reader.next()).toBe(false);
    }
  });

  it('keeps header names as they are', () => {
    const headers = [
      ['__proto__', 'x'],
      ['constructor', null],
      ['', ''],
      ['é', Buffer.from([0xff])],
      ['__proto__', 'y'],
    ] as const;
    const bytes = batchOf([
      { offset: 0, timestamp: 0, key: null, value: null, headers },
      { offset: 1, timestamp: 0, key: null, value: 'v' },
    ]);
    const reader = open(bytes);
    expect(reader.next()).toBe(true);
    expect(reader.headerCount).toBe(5);
    const found = reader.headers(true);
    expect(found).toEqual(
      headers.map(([name, value]) => [name, value === null ? null : Buffer.from(value as string)]),
    );
    expect(reader.headers(false)).toEqual(found);
    expect(reader.next()).toBe(true);
    expect([reader.headerCount, reader.headers(true)]).toEqual([0, []]);
  });

  it('takes any negative length for null, as Kafka does', () => {
    const reader = open(batchWithBody([12, 0, 0, 0, 3, 5, 0]));
    expect(reader.next()).toBe(true);
    expect([reader.key(true), reader.value(true)]).toEqual([null, null]);
  });

  it('reads varints with more bytes than they need', () => {
    const reader = open(batchWithBody([16, 0, 0x82, 0x00, 0x84, 0x00, 1, 1, 0]));
    expect(reader.next()).toBe(true);
    expect([reader.offset, reader.timestamp]).toEqual([102, 0]);
  });
});

/** What a reader finds in a batch of one record with this body: its fields, or its failure. */
function outcome(body: readonly number[]): unknown {
  const reader = open(batchWithBody(body));
  try {
    reader.next();
  } catch (error) {
    return (error as { readonly code: string }).code;
  }
  const { offset, timestamp, headerCount } = reader;
  return [offset, timestamp, headerCount, reader.key(true), reader.value(true)];
}

describe('a record of short numbers', () => {
  const number = fc.oneof(
    fc.constantFrom([0], [1], [2], [3], [8], [0xff, 0x7f], [0xff, 0x80, 0x00], [0x80, 0x80]),
    fc.integer({ min: 0, max: 0x7f }).map((byte) => [byte]),
    fc.tuple(fc.integer({ min: 0x80, max: 0xff }), fc.integer({ min: 0, max: 0x7f })),
  );
  const part = fc.oneof(
    fc.constant([1]),
    fc.uint8Array({ maxLength: 63 }).map((bytes) => [bytes.length * 2, ...bytes]),
    fc
      .uint8Array({ minLength: 64, maxLength: 300 })
      .map((bytes) => [((bytes.length * 2) & 0x7f) | 0x80, bytes.length >> 6, ...bytes]),
    number,
  );
  const bodies = fc
    .tuple(number, number, part, part, fc.constantFrom([0], [0], [0], [], [2], [0, 0]))
    .map((parts) => [0, ...parts.flat()]);

  it('is read as if they were long', () => {
    fc.assert(
      fc.property(bodies, fc.constantFrom(0, 0, 0, -1, 1), (body, wrong) => {
        const size = (body.length + wrong) * 2;
        const last = [(size >> 7) & 0x7f, size >> 14] as const;
        const short = size > 0x7f ? [(size & 0x7f) | 0x80, last[0]] : [size];
        const long = [(size & 0x7f) | 0x80, last[0] | 0x80, last[1]];
        expect(outcome([...short, ...body])).toEqual(outcome([...long, ...body]));
      }),
      { numRuns: seeds(2000) },
    );
  });
});

describe('what a reader hands out', () => {
  const sizes = fc.array(
    fc.record({
      key: fc.oneof(fc.nat(40), fc.nat(6000)),
      value: fc.oneof(fc.nat(200), fc.nat(6000), fc.constantFrom(4095, 4096, 20_000)),
      header: fc.oneof(fc.constant(-1), fc.nat(5000)),
      order: fc.constantFrom('kv', 'vk', 'v', 'hvk', 'kvh'),
    }),
    { minLength: 1, maxLength: 60 },
  );

  it.each([
    ['may be kept: what becomes of the bytes does not matter', true],
    ['or is a view of the bytes', false],
  ])('%s', (_, keep) => {
    fc.assert(
      fc.property(sizes, (given) => {
        const records = given.map(({ key, value, header }, offset) => ({
          offset,
          timestamp: 0,
          key: Buffer.alloc(key, offset + 1),
          value: Buffer.alloc(value, offset + 101),
          headers: header < 0 ? [] : [['h', Buffer.alloc(header, offset + 201)] as const],
        }));
        const bytes = Buffer.concat([batchOf(records)]);
        const reader = open(bytes);
        const parts: [found: Buffer, size: number, fill: number][] = [];
        for (const { key, value, header, order } of given) {
          expect(reader.next()).toBe(true);
          for (const part of order) {
            const { offset } = reader;
            if (part === 'k') parts.push([reader.key(keep)!, key, offset + 1]);
            else if (part === 'v') parts.push([reader.value(keep)!, value, offset + 101]);
            else if (header >= 0) {
              parts.push([reader.headers(keep)[0]![1]!, header, offset + 201]);
            }
          }
        }
        for (const [found, size, fill] of parts) {
          expect(found.equals(Buffer.alloc(size, fill))).toBe(true);
          const isCopy = found.buffer !== bytes.buffer;
          expect(isCopy).toBe(keep && size < 4096);
          expect(found.buffer.byteLength).toBeLessThanOrEqual(isCopy ? 16 * 1024 : Infinity);
        }
        bytes.fill(0);
        for (const [found, size, fill] of parts) {
          const expected = keep && size < 4096 ? fill & 0xff : 0;
          expect(found.equals(Buffer.alloc(size, expected))).toBe(true);
        }
      }),
    );
  });
});

describe('INVALID_RECORD', () => {
  // length, attributes, timestamp delta, offset delta, key -1, value -1, no headers
  const good = [12, 0, 0, 0, 1, 1, 0];

  it('is not what a good record is', () => {
    expect(open(batchWithBody(good)).next()).toBe(true);
  });

  const damage: [what: string, body: number[], count?: number][] = [
    ['a length beyond the batch', [14, 0, 0, 0, 1, 1, 0]],
    ['a negative length', [11, 0, 0, 0, 1, 1, 0]],
    ['an enormous length', [0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0]],
    ['a length of 0', [0, 12, 0, 0, 0, 1, 1, 0]],
    ['a length without end', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]],
    ['a record that is longer than its parts', [14, 0, 0, 0, 1, 1, 0, 0]],
    ['a record that is shorter than its parts', [10, 0, 0, 0, 1, 1, 0]],
    ['a key beyond the record', [12, 0, 0, 0, 8, 1, 0]],
    ['a value beyond the record', [12, 0, 0, 0, 1, 4, 0]],
    ['an enormous value', [20, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0]],
    ['a negative count of headers', [12, 0, 0, 0, 1, 1, 1]],
    ['more headers than bytes', [14, 0, 0, 0, 1, 1, 4, 0]],
    ['an enormous count of headers', [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]],
    ['a null header name', [16, 0, 0, 0, 1, 1, 2, 1, 1]],
    ['a header value beyond the record', [16, 0, 0, 0, 1, 1, 2, 0, 2]],
    ['an offset delta beyond the last one', [12, 0, 0, 20, 1, 1, 0]],
    ['a negative offset delta', [12, 0, 0, 1, 1, 1, 0]],
    ['the same offset again', [...good, ...good], 2],
    ['bytes behind the last record', [...good, 0]],
    ['a whole record behind the last one', [...good, 12, 0, 0, 2, 1, 1, 0]],
    ['fewer records than counted', good, 2],
    ['no record where one is counted', []],
    ['a timestamp delta of 11 bytes', [34, 0, ...Array<number>(10).fill(0xff), 1, 0, 1, 1, 0]],
    [
      'a timestamp delta beyond 2^53',
      [26, 0, 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 1, 1, 0],
    ],
  ];

  it.each(damage)('%s', (_, body, count = 1) => {
    const reader = open(batchWithBody(body, count));
    expect(() => {
      while (reader.next());
    }).toThrow(
      expect.objectContaining({
        code: 'INVALID_RECORD',
        message: expect.stringContaining('batch at offset 100') as string,
      }) as Error,
    );
    expect(reader.next()).toBe(false);
  });

  it('records in a batch that counts none', () => {
    expect(() => open(batchWithBody(good, 0))).toThrow(
      expect.objectContaining({ code: 'INVALID_RECORD' }) as Error,
    );
  });
});
