import { MalformedRequest, maxStringBytes, type Reader } from './reader.js';
import type { Field, FieldOptions, Schema } from './schema.js';
import { Writer } from './writer.js';

/** Reads and writes one field, or one message, in one version. */
export interface Coder {
  /** It has no fewer. */
  readonly minBytes: number;
  read(reader: Reader): unknown;
  write(writer: Writer, value: unknown): void;
}

type Struct = Record<string, unknown>;

interface PlacedField {
  readonly name: string;
  readonly coder: Coder;
  /** What it is when it was left out; undefined: it must be there. */
  readonly preset: unknown;
}

interface TaggedField extends PlacedField {
  readonly tag: number;
}

/** A message of this version, as an object with all fields of its schema. */
export function coderOf(fields: Schema, version: number, isFlexible: boolean): Coder {
  const placed: PlacedField[] = [];
  const tagged: TaggedField[] = [];
  const template: Struct = {};
  for (const [name, field] of Object.entries(fields)) {
    const { since = 0, until = Infinity, tag } = field.options;
    const preset = presetOf(field);
    template[name] = preset;
    if (version < since || version > until) continue;
    const coder = fieldCoder(field, version, isFlexible);
    const known = { name, coder, preset };
    if (tag === undefined) placed.push(known);
    else tagged.push({ ...known, tag });
  }
  return structCoder(template, placed, tagged, isFlexible);
}

function presetOf({ kind, options }: Field): unknown {
  if (options.default !== undefined) return options.default;
  if (options.nullable !== undefined || kind === 'struct') return null;
  return emptyOf[kind];
}

const noBytes = Buffer.alloc(0);
const emptyOf: Readonly<Record<Exclude<Field['kind'], 'struct'>, unknown>> = {
  bool: false,
  int8: 0,
  int16: 0,
  int32: 0,
  int64: 0,
  bigint64: 0n,
  uuid: 'AAAAAAAAAAAAAAAAAAAAAA',
  string: '',
  bytes: noBytes,
  records: noBytes,
  array: [],
};

function structCoder(
  template: Struct,
  placed: readonly PlacedField[],
  tagged: readonly TaggedField[],
  isFlexible: boolean,
): Coder {
  const byTag = new Map(tagged.map((field) => [field.tag, field]));
  return {
    minBytes: placed.reduce((bytes, { coder }) => bytes + coder.minBytes, isFlexible ? 1 : 0),
    read(reader) {
      const struct = { ...template };
      for (const { name, coder } of placed) struct[name] = coder.read(reader);
      if (isFlexible) readTags(reader, struct, byTag);
      return struct;
    },
    write(writer, value) {
      const struct = value as Struct;
      for (const { name, coder, preset } of placed) {
        const given = struct[name];
        coder.write(writer, given === undefined ? preset : given);
      }
      if (isFlexible) writeTags(writer, struct, tagged);
    },
  };
}

function readTags(reader: Reader, struct: Struct, byTag: ReadonlyMap<number, TaggedField>): void {
  let before = -1;
  for (let left = reader.uvarint(); left > 0; left--) {
    const tag = reader.uvarint();
    if (tag <= before) throw new MalformedRequest(`tag ${tag} behind ${before}`);
    before = tag;
    const length = reader.uvarint();
    const end = reader.remaining - length;
    const field = byTag.get(tag);
    if (field === undefined) reader.view(length);
    else struct[field.name] = field.coder.read(reader);
    if (reader.remaining !== end)
      throw new MalformedRequest(`tag ${tag} is not of ${length} bytes`);
  }
}

function writeTags(writer: Writer, struct: Struct, tagged: readonly TaggedField[]): void {
  const given = tagged.filter(({ name, preset }) => !isPreset(struct[name], preset));
  writer.uvarint(given.length);
  for (const { name, tag, coder } of given) {
    const inside = new Writer();
    coder.write(inside, struct[name]);
    writer.uvarint(tag);
    writer.uvarint(inside.length);
    for (const bytes of inside.finish()) writer.bytes(bytes);
  }
}

function isPreset(value: unknown, preset: unknown): boolean {
  if (value === undefined || value === preset) return true;
  return Array.isArray(value) && Array.isArray(preset) && value.length + preset.length === 0;
}

function fieldCoder(field: Field, version: number, isFlexible: boolean): Coder {
  const { kind, options } = field;
  if (kind === 'struct') {
    const whole = coderOf(field.fields!, version, isFlexible);
    return version >= (options.nullable ?? Infinity) ? nullableCoder(whole) : whole;
  }
  const known = ofOneSize[kind];
  if (known !== undefined) return known;
  const length = lengthCoder(isFlexible, kind === 'string' ? 2 : 4, options, version);
  if (kind === 'string') return stringCoder(length);
  if (kind === 'array') return arrayCoder(fieldCoder(field.element!, version, isFlexible), length);
  return bytesCoder(length, kind === 'bytes');
}

/** A byte before it says whether it is there. */
function nullableCoder(whole: Coder): Coder {
  return {
    minBytes: 1,
    read: (reader) => (reader.int8() < 0 ? null : whole.read(reader)),
    write(writer, value) {
      writer.int8(value === null ? -1 : 1);
      if (value !== null) whole.write(writer, value);
    },
  };
}

const ofOneSize: Readonly<Partial<Record<Field['kind'], Coder>>> = {
  bool: {
    minBytes: 1,
    read: (reader) => reader.int8() !== 0,
    write: (writer, value) => writer.int8(value === true ? 1 : 0),
  },
  int8: {
    minBytes: 1,
    read: (reader) => reader.int8(),
    write: (writer, value) => writer.int8(value as number),
  },
  int16: {
    minBytes: 2,
    read: (reader) => reader.int16(),
    write: (writer, value) => writer.int16(value as number),
  },
  int32: {
    minBytes: 4,
    read: (reader) => reader.int32(),
    write: (writer, value) => writer.int32(value as number),
  },
  int64: {
    minBytes: 8,
    read: (reader) => reader.int64(),
    write: (writer, value) => writer.int64(value as number),
  },
  bigint64: {
    minBytes: 8,
    read: (reader) => reader.bigint64(),
    write: (writer, value) => writer.bigint64(value as bigint),
  },
  uuid: {
    minBytes: 16,
    read: (reader) => reader.uuid(),
    write: (writer, value) => writer.uuid(value as string),
  },
};

/** How many bytes or elements follow; -1: null. */
interface LengthCoder {
  readonly minBytes: number;
  read(reader: Reader): number;
  write(writer: Writer, length: number): void;
}

/** A compact length is one more, so that 0 is null (KIP-482). */
function lengthCoder(
  isFlexible: boolean,
  bytes: 2 | 4,
  { nullable = Infinity }: FieldOptions<unknown>,
  version: number,
): LengthCoder {
  const checked = (length: number): number => {
    if (length >= (version >= nullable ? -1 : 0)) return length;
    throw new MalformedRequest(`a length of ${length}`);
  };
  if (isFlexible) {
    return {
      minBytes: 1,
      read: (reader) => checked(reader.uvarint() - 1),
      write: (writer, length) => writer.uvarint(length + 1),
    };
  }
  return bytes === 2
    ? {
        minBytes: 2,
        read: (reader) => checked(reader.int16()),
        write: (writer, length) => writer.int16(length),
      }
    : {
        minBytes: 4,
        read: (reader) => checked(reader.int32()),
        write: (writer, length) => writer.int32(length),
      };
}

function stringCoder(length: LengthCoder): Coder {
  return {
    minBytes: length.minBytes,
    read(reader) {
      const bytes = length.read(reader);
      return bytes === -1 ? null : reader.string(bytes);
    },
    write(writer, value) {
      const text = value as string | null;
      if (text === null) {
        length.write(writer, -1);
        return;
      }
      const bytes = Buffer.byteLength(text);
      if (bytes <= maxStringBytes) {
        length.write(writer, bytes);
        writer.string(text, bytes);
        return;
      }
      // A message about a name that was all but too long.
      const start = new Uint8Array(maxStringBytes);
      const { read, written } = new TextEncoder().encodeInto(text, start);
      length.write(writer, written);
      writer.string(text.slice(0, read), written);
    },
  };
}

function bytesCoder(length: LengthCoder, isCopied: boolean): Coder {
  return {
    minBytes: length.minBytes,
    read(reader) {
      const bytes = length.read(reader);
      if (bytes === -1) return null;
      const view = reader.view(bytes);
      return isCopied ? Buffer.from(view) : view;
    },
    write(writer, value) {
      const bytes = value as Buffer | null;
      length.write(writer, bytes === null ? -1 : bytes.length);
      if (bytes !== null) writer.bytes(bytes);
    },
  };
}

function arrayCoder(element: Coder, length: LengthCoder): Coder {
  return {
    minBytes: length.minBytes,
    read(reader) {
      const count = length.read(reader);
      if (count === -1) return null;
      // Before memory is taken for them.
      reader.elements(count, Math.max(1, element.minBytes));
      const elements: unknown[] = [];
      for (let i = 0; i < count; i++) elements.push(element.read(reader));
      return elements;
    },
    write(writer, value) {
      const elements = value as readonly unknown[] | null;
      length.write(writer, elements === null ? -1 : elements.length);
      if (elements === null) return;
      for (const item of elements) element.write(writer, item);
    },
  };
}
