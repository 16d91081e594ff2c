import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coderOf } from '../src/server/protocol/coder.js';
import { MalformedRequest, Reader } from '../src/server/protocol/reader.js';
import {
  array,
  arrayOf,
  bigint64,
  bool,
  bytes,
  int16,
  int32,
  int64,
  int8,
  records,
  string,
  struct,
  uuid,
  type Schema,
} from '../src/server/protocol/schema.js';
import { Writer } from '../src/server/protocol/writer.js';

/** Every kind of field, in every place. */
const everything = {
  bool: bool(),
  int8: int8(),
  int16: int16(),
  int32: int32(),
  int64: int64(),
  bigint64: bigint64(),
  uuid: uuid(),
  string: string(),
  nullableString: string({ nullable: 0 }),
  bytes: bytes(),
  nullableBytes: bytes({ nullable: 0 }),
  records: records({ nullable: 0 }),
  numbers: arrayOf(int32()),
  nullableArray: arrayOf(string(), { nullable: 0 }),
  structs: array({ name: string(), inner: array({ value: int64() }) }),
  taggedNumber: int32({ tag: 0, default: -1 }),
  taggedText: string({ tag: 1, nullable: 0, default: null }),
  taggedArray: arrayOf(int16(), { tag: 2, default: [] }),
  taggedStruct: struct({ id: int32(), host: string() }, { tag: 3 }),
};

function encoded(schema: Schema, version: number, isFlexible: boolean, value: unknown): Buffer {
  const writer = new Writer();
  coderOf(schema, version, isFlexible).write(writer, value);
  const { length } = writer;
  const written = Buffer.concat(writer.finish());
  expect(written).toHaveLength(length);
  return written;
}

function decoded(schema: Schema, version: number, isFlexible: boolean, from: Buffer): unknown {
  const reader = new Reader(from);
  const value = coderOf(schema, version, isFlexible).read(reader);
  expect(reader.remaining).toBe(0);
  return value;
}

const someBytes = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array8) => Buffer.from(array8));
const anInt32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const value = fc.record({
  bool: fc.boolean(),
  int8: fc.integer({ min: -128, max: 127 }),
  int16: fc.integer({ min: -32_768, max: 32_767 }),
  int32: anInt32,
  int64: fc.maxSafeInteger(),
  bigint64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  uuid: fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((array8) => Buffer.from(array8).toString('base64url')),
  string: fc.string({ unit: 'grapheme' }),
  nullableString: fc.option(fc.string()),
  bytes: someBytes(100),
  nullableBytes: fc.option(someBytes(100)),
  records: fc.option(someBytes(10_000)),
  numbers: fc.array(anInt32),
  nullableArray: fc.option(fc.array(fc.string())),
  structs: fc.array(
    fc.record({
      name: fc.string(),
      inner: fc.array(fc.record({ value: fc.maxSafeInteger() })),
    }),
  ),
});
const tagged = fc.record({
  taggedNumber: anInt32,
  taggedText: fc.option(fc.string()),
  taggedArray: fc.array(fc.integer({ min: -32_768, max: 32_767 })),
  taggedStruct: fc.option(fc.record({ id: anInt32, host: fc.string() })),
});

describe('A message', () => {
  it('reads as it was written, with lengths of two and four bytes', () => {
    const { taggedNumber: _, taggedText, taggedArray, taggedStruct, ...placed } = everything;
    expect([taggedText, taggedArray, taggedStruct]).toHaveLength(3);
    fc.assert(
      fc.property(value, (message) => {
        const from = encoded(placed, 0, false, message);
        expect(decoded(placed, 0, false, from)).toEqual(message);
      }),
    );
  });

  it('reads as it was written, with compact lengths and tagged fields', () => {
    fc.assert(
      fc.property(value, tagged, (message, tags) => {
        const whole = { ...message, ...tags };
        const from = encoded(everything, 0, true, whole);
        expect(decoded(everything, 0, true, from)).toEqual(whole);
      }),
    );
  });

  it('is refused wherever it is cut, and never read beyond its end', () => {
    fc.assert(
      fc.property(value, tagged, fc.nat(), (message, tags, at) => {
        const from = encoded(everything, 0, true, { ...message, ...tags });
        const cut = new Reader(from.subarray(0, at % from.length));
        expect(() => coderOf(everything, 0, true).read(cut)).toThrow(MalformedRequest);
      }),
    );
  });

  it('has in each version the fields of that version, and defaults for the rest', () => {
    const schema = {
      always: int8(),
      from1: int8({ since: 1, default: -1 }),
      only1: int8({ since: 1, until: 1 }),
      maybe: string({ since: 2, nullable: 2 }),
    };
    const whole = { always: 1, from1: 2, only1: 3, maybe: '4' };
    const read = (version: number): unknown =>
      decoded(schema, version, false, encoded(schema, version, false, whole));
    expect(read(0)).toEqual({ always: 1, from1: -1, only1: 0, maybe: null });
    expect(read(1)).toEqual({ always: 1, from1: 2, only1: 3, maybe: null });
    expect(read(2)).toEqual({ always: 1, from1: 2, only1: 0, maybe: '4' });
  });

  it('passes over tags that it does not know', () => {
    const newer = { ...everything, unknown: string({ tag: 9, default: '' }) };
    const message = { ...fc.sample(value, { seed: 1, numRuns: 1 })[0]!, unknown: 'news' };
    const from = encoded(newer, 0, true, message);
    expect(decoded(everything, 0, true, from)).not.toHaveProperty('unknown');
  });

  it.each([
    ['null where it may not be', { text: string() }, [0xff, 0xff]],
    ['a negative length', { text: string({ nullable: 0 }) }, [0xff, 0xfe]],
    ['more elements than there are bytes', { list: arrayOf(int32()) }, [0x7f, 0xff, 0xff, 0xff, 1]],
  ])('is refused for %s', (_, schema, from) => {
    const reader = new Reader(Buffer.from(from));
    expect(() => coderOf(schema as Schema, 0, false).read(reader)).toThrow(MalformedRequest);
  });

  it.each([
    ['tags that are not in order', [2, 1, 1, 0, 0, 1, 0]],
    ['a tag whose length is not its own', [1, 0, 3, 0, 0, 0, 0]],
    ['a varint of more than 32 bits', [0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
  ])('is refused for %s', (_, from) => {
    const reader = new Reader(Buffer.from(from));
    const coder = coderOf({ number: int32({ tag: 0, default: -1 }) }, 0, true);
    expect(() => coder.read(reader)).toThrow(MalformedRequest);
  });
});
