import { got } from './options.js';
import { msgpack, sharedMsgpack, type SharedStructures } from './msgpack.js';
import type { Bytes } from './record.js';

/** The part of a Standard Schema (standardschema.dev, version 1) that is used here. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A codec of your own. What encode returns must stand alone; decode may keep the bytes it is given. */
export interface Codec<Input, Output> {
  /** A string is stored as UTF-8. What it throws makes the send a TypeError. */
  encode(value: Input): Uint8Array | string;
  /** What it throws makes the read an INVALID_RECORD. */
  decode(bytes: Buffer): Output;
}

/**
 * 'string': UTF-8. 'json': any value that JSON keeps. 'msgpack': any value, dates and binary included.
 * 'msgpack-shared': the same, smaller and faster where objects are alike: their property names are stored once,
 * with the topic, for up to 32 kinds of objects; without that topic's metadata such a record cannot be read.
 * 'bytes': a Uint8Array in, a Buffer out.
 */
export type CodecName = 'string' | 'json' | 'msgpack' | 'msgpack-shared' | 'bytes';

/** What a key or a value is made of: a codec, a codec and a schema, or a schema alone (with msgpack). */
export type SerdeSpec =
  | CodecName
  // `any`'s place is taken by never and unknown: a codec of any types fits.
  | Codec<never, unknown>
  | StandardSchema
  | { readonly codec: CodecName | Codec<never, unknown>; readonly schema: StandardSchema };

/** What may be sent where no codec is given. */
export type Raw = Uint8Array | string;

/** What may be sent under a spec. */
export type InputOf<S> = S extends undefined
  ? Raw
  : S extends 'string'
    ? string
    : S extends 'bytes'
      ? Uint8Array
      : S extends 'json' | 'msgpack' | 'msgpack-shared'
        ? unknown
        : S extends { readonly schema: StandardSchema<infer I, unknown> }
          ? I
          : S extends StandardSchema<infer I, unknown>
            ? I
            : S extends Codec<infer I, unknown>
              ? I
              : never;

/** What comes back under a spec. */
export type OutputOf<S> = S extends undefined
  ? Buffer
  : S extends 'string'
    ? string
    : S extends 'bytes'
      ? Buffer
      : S extends 'json' | 'msgpack' | 'msgpack-shared'
        ? unknown
        : S extends { readonly schema: StandardSchema<unknown, infer O> }
          ? O
          : S extends StandardSchema<unknown, infer O>
            ? O
            : S extends Codec<never, infer O>
              ? O
              : never;

/** Turns keys or values into bytes and back. */
export interface Serde {
  /** Names the codec in the topic's metadata; null: plain bytes. */
  readonly name: string | null;
  /** Whether what decode returns keeps the bytes it was given. */
  readonly keepsBytes: boolean;
  /** @throws TypeError for what it cannot take */
  encode(value: unknown): Bytes;
  decode(bytes: Buffer): unknown;
  /** The same with what a topic stores for all its records; absent: records stand alone. */
  share?(structures: SharedStructures): Serde;
}

/** Bytes in, bytes out. */
export const raw: Serde = {
  name: null,
  keepsBytes: true,
  encode(value) {
    if (typeof value === 'string' || value instanceof Uint8Array) return value;
    throw new TypeError(
      `expected a Uint8Array or a string, got ${got(value)}: give the topic a codec to send anything else`,
    );
  },
  decode: (bytes) => bytes,
};

const codecs: Readonly<Record<CodecName, Serde>> = {
  bytes: {
    name: 'bytes',
    keepsBytes: true,
    encode(value) {
      if (value instanceof Uint8Array) return value;
      throw new TypeError(`expected a Uint8Array, got ${got(value)}`);
    },
    decode: (bytes) => bytes,
  },
  string: {
    name: 'string',
    keepsBytes: false,
    encode(value) {
      if (typeof value === 'string') return value;
      throw new TypeError(`expected a string, got ${got(value)}`);
    },
    decode: (bytes) => bytes.toString(),
  },
  json: {
    name: 'json',
    keepsBytes: false,
    encode(value) {
      const text: string | undefined = JSON.stringify(value);
      // JSON writes NaN and the infinities as null.
      if (text !== undefined && (text !== 'null' || value === null)) return text;
      throw new TypeError(`expected a value that JSON keeps, got ${got(value)}`);
    },
    decode: (bytes): unknown => JSON.parse(bytes.toString()),
  },
  msgpack: { name: 'msgpack', keepsBytes: false, ...msgpack },
  'msgpack-shared': {
    name: 'msgpack-shared',
    keepsBytes: false,
    ...msgpack,
    share: (structures) => ({
      name: 'msgpack-shared',
      keepsBytes: false,
      ...sharedMsgpack(structures),
    }),
  },
};

/** @throws TypeError */
export function serdeFor(where: string, spec: unknown): Serde {
  if (spec === undefined) return raw;
  const { serde, schema } = partsOf(where, spec, 'msgpack');
  return schema === null ? serde : withSchema(serde, schema);
}

/** A spec's codec, `preset` for a schema alone, and its schema. @throws TypeError */
export function partsOf(
  where: string,
  spec: unknown,
  preset: CodecName,
): { readonly serde: Serde; readonly schema: StandardSchema | null } {
  if (isCodecName(spec)) return { serde: codecs[spec], schema: null };
  // Schemas of some libraries are functions.
  if (isSchema(spec)) return { serde: codecs[preset], schema: spec };
  if (typeof spec === 'object' && spec !== null) {
    if (isCodec(spec)) return { serde: ownCodec(spec), schema: null };
    if ('codec' in spec && 'schema' in spec && isSchema(spec.schema)) {
      return { serde: partsOf(where, spec.codec, preset).serde, schema: spec.schema };
    }
  }
  throw new TypeError(
    `${where}: expected ${Object.keys(codecs).join(', ')}, { encode, decode }, a Standard Schema, or { codec, schema }, got ${got(spec)}`,
  );
}

function isCodecName(spec: unknown): spec is CodecName {
  return typeof spec === 'string' && Object.hasOwn(codecs, spec);
}

function isCodec(spec: Partial<Codec<unknown, unknown>>): spec is Codec<unknown, unknown> {
  return typeof spec.encode === 'function' && typeof spec.decode === 'function';
}

function isSchema(spec: unknown): spec is StandardSchema {
  return (
    spec !== null &&
    spec !== undefined &&
    typeof (spec as Partial<StandardSchema>)['~standard'] === 'object'
  );
}

function ownCodec(codec: Codec<unknown, unknown>): Serde {
  return {
    name: 'custom',
    keepsBytes: true,
    encode(value) {
      const bytes = codec.encode(value);
      if (typeof bytes === 'string' || bytes instanceof Uint8Array) return bytes;
      throw new TypeError(`encode must return a Uint8Array or a string, got ${got(bytes)}`);
    },
    decode: (bytes) => codec.decode(bytes),
  };
}

/** What is stored is the validated input; reading parses it, so a transform runs once, on read. */
function withSchema(serde: Serde, schema: StandardSchema): Serde {
  return {
    name: serde.name,
    keepsBytes: serde.keepsBytes,
    encode(value) {
      validated(schema, value);
      return serde.encode(value);
    },
    decode: (bytes) => validated(schema, serde.decode(bytes)),
    ...(serde.share !== undefined && {
      share: (structures: SharedStructures) => withSchema(serde.share!(structures), schema),
    }),
  };
}

/** What the schema makes of a value. @throws TypeError */
export function validated(schema: StandardSchema, value: unknown): unknown {
  const result = schema['~standard'].validate(value);
  if ('then' in result) {
    Promise.resolve(result).catch(() => undefined);
    throw new TypeError(`expected a schema that validates at once, got an async one`);
  }
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map(describeIssue).join('; ');
  throw new TypeError(`${issues}; got ${got(value)}`, { cause: result.issues });
}

function describeIssue({ message, path }: SchemaIssue): string {
  if (path === undefined || path.length === 0) return message;
  const keys = path.map((part) => String(typeof part === 'object' ? part.key : part));
  return `${keys.join('.')}: ${message}`;
}
