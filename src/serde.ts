import { createRequire } from 'node:module';
import { OttlaError, inWords } from './errors.js';
import {
  checkOptions,
  got,
  isCompacted,
  topicOptions,
  type CleanupPolicy,
  type TopicOptions,
} from './options.js';
import type { Bytes } from './record.js';
import { topicNameProblem } from './topic-name.js';

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
 * 'bytes': a Uint8Array in, a Buffer out.
 */
export type CodecName = 'string' | 'json' | 'msgpack' | 'bytes';

/** What a key or a value is made of: a codec, a codec and a schema, or a schema alone (with msgpack). */
export type SerdeSpec =
  | CodecName
  // `any`'s place is taken by never and unknown: a codec of any types fits.
  | Codec<never, unknown>
  | StandardSchema
  | { readonly codec: CodecName | Codec<never, unknown>; readonly schema: StandardSchema };

/** What is sent where no codec is given, and what comes back. */
type Raw = Uint8Array | string;

/** What may be sent under a spec. */
export type InputOf<S> = S extends undefined
  ? Raw
  : S extends 'string'
    ? string
    : S extends 'bytes'
      ? Uint8Array
      : S extends 'json' | 'msgpack'
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
      : S extends 'json' | 'msgpack'
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
}

/** A topic's name, options and codecs, with the types of what goes through it. */
export interface TopicDefinition<
  Name extends string = string,
  KI = never,
  KO = unknown,
  VI = never,
  VO = unknown,
> {
  readonly name: Name;
  readonly options: TopicOptions;
  readonly key: Serde;
  readonly value: Serde;
  /** Types only: never set. */
  readonly types?: {
    readonly keyIn: (key: KI) => void;
    readonly keyOut: KO;
    readonly valueIn: (value: VI) => void;
    readonly valueOut: VO;
  };
}

/** Any definition, or the name of a topic. */
export type TopicRef = string | TopicDefinition;

/** The key that may be sent to a topic. */
export type KeyIn<T> = T extends TopicDefinition<string, infer K> ? K : Raw;
/** The value that may be sent. Null, which deletes its key in a compacted topic: there, or without a codec. */
export type ValueIn<T> =
  T extends TopicDefinition<string, never, unknown, infer V> ? V : Raw | null;
/** A record's key as it is read. */
export type KeyOut<T> =
  T extends TopicDefinition<string, never, infer K> ? K | null : Buffer | null;
/** A record's value as it is read; null is a tombstone, in a compacted topic or without a codec. */
export type ValueOut<T> =
  T extends TopicDefinition<string, never, unknown, never, infer V> ? V : Buffer | null;
/** A topic's name, as a literal where it is one. */
export type NameOf<T> = T extends string
  ? T
  : T extends { readonly name: infer N extends string }
    ? N
    : string;

/** Options of a topic and the codecs of its keys and values; without a codec bytes go in and out. */
export interface DefinitionOptions extends TopicOptions {
  /** Codec of the keys, which may be null all the same. @default none: bytes */
  readonly key?: SerdeSpec;
  /** Codec of the values, which may not be null then. @default none: bytes, or null */
  readonly value?: SerdeSpec;
}

type SpecOf<O, K extends 'key' | 'value'> = O extends { readonly [P in K]: infer S }
  ? S
  : undefined;
/** A value may be null without a codec, and as a tombstone of a compacted topic. */
type OrNull<O, T> =
  SpecOf<O, 'value'> extends undefined ? T | null : O extends Compacted ? T | null : T;
interface Compacted {
  readonly cleanupPolicy: Exclude<CleanupPolicy, 'delete'>;
}

/**
 * Names a topic, its options and what its records are made of. Creates nothing: pass it to
 * `topics.create`, `send`, `consumer` and `read`.
 * @throws TypeError, RangeError for a bad name, option or codec
 */
export function defineTopic<const Name extends string, const O extends DefinitionOptions>(
  name: Name,
  options?: O,
): TopicDefinition<
  Name,
  InputOf<SpecOf<O, 'key'>>,
  OutputOf<SpecOf<O, 'key'>>,
  OrNull<O, InputOf<SpecOf<O, 'value'>>>,
  OrNull<O, OutputOf<SpecOf<O, 'value'>>>
> {
  checkTopicName('defineTopic', name);
  const { key, value, ...topic } = checkedDefinition(options);
  checkOptions(`defineTopic ${name}`, topicOptions, topic);
  return {
    name,
    options: topic,
    key: serdeFor(`defineTopic ${name}: key`, key),
    value: serdeFor(`defineTopic ${name}: value`, value),
  };
}

function checkedDefinition(options: DefinitionOptions | undefined): DefinitionOptions {
  if (options === undefined) return {};
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options;
  throw new TypeError(`defineTopic: expected an object of options, got ${got(options)}`);
}

/** @throws TypeError with code INVALID_TOPIC_EXCEPTION */
export function checkTopicName(where: string, name: unknown): asserts name is string {
  const problem =
    typeof name === 'string' ? topicNameProblem(name) : `expected a string, got ${got(name)}`;
  if (problem === null) return;
  throw Object.assign(new TypeError(`${where}: topic name ${got(name)}: ${problem}`), {
    code: 'INVALID_TOPIC_EXCEPTION',
  });
}

/** The definition itself, or one that passes bytes through. */
export function definitionOf(where: string, topic: TopicRef): TopicDefinition {
  if (typeof topic === 'object' && topic !== null) {
    if (isDefinition(topic)) return topic;
    throw new TypeError(
      `${where}: expected the name of a topic, or what defineTopic returned, got ${got(topic)}`,
    );
  }
  checkTopicName(where, topic);
  return { name: topic, options: {}, key: raw, value: raw };
}

function isDefinition({ name, options, key, value }: Partial<TopicDefinition>): boolean {
  return (
    typeof name === 'string' &&
    typeof options === 'object' &&
    typeof key?.encode === 'function' &&
    typeof value?.encode === 'function'
  );
}

const raw: Serde = {
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
  msgpack: {
    name: 'msgpack',
    keepsBytes: false,
    encode(value) {
      if (typeof value !== 'function') return msgpack().pack(value);
      throw new TypeError(`expected a value that msgpack keeps, got ${got(value)}`);
    },
    decode: (bytes) => msgpack().unpack(bytes),
  },
};

interface Msgpack {
  pack(value: unknown): Uint8Array;
  unpack(bytes: Uint8Array): unknown;
}

let loadedMsgpack: Msgpack | null = null;

/** Loaded at first use: it takes 10 to 20 ms. Records stand alone: no structures are shared. */
function msgpack(): Msgpack {
  if (loadedMsgpack === null) {
    const { Packr } = createRequire(import.meta.url)('msgpackr') as {
      Packr: new (options: object) => Msgpack;
    };
    loadedMsgpack = new Packr({ useRecords: false, copyBuffers: true });
  }
  return loadedMsgpack;
}

function serdeFor(where: string, spec: unknown): Serde {
  if (spec === undefined) return raw;
  if (isCodecName(spec)) return codecs[spec];
  if (typeof spec === 'object' && spec !== null) {
    if (isSchema(spec)) return withSchema(where, codecs.msgpack, spec);
    if ('encode' in spec && typeof spec.encode === 'function' && isCodec(spec)) {
      return ownCodec(where, spec);
    }
    if ('codec' in spec && 'schema' in spec && isSchema(spec.schema)) {
      return withSchema(where, serdeFor(where, spec.codec), spec.schema);
    }
  }
  // Schemas of some libraries are functions.
  if (typeof spec === 'function' && isSchema(spec)) return withSchema(where, codecs.msgpack, spec);
  throw new TypeError(
    `${where}: expected ${Object.keys(codecs).join(', ')}, { encode, decode }, a Standard Schema, or { codec, schema }, got ${got(spec)}`,
  );
}

function isCodecName(spec: unknown): spec is CodecName {
  return typeof spec === 'string' && Object.hasOwn(codecs, spec);
}

function isCodec(spec: object): spec is Codec<unknown, unknown> {
  return 'decode' in spec && typeof spec.decode === 'function';
}

function isSchema(spec: unknown): spec is StandardSchema {
  return (
    spec !== null &&
    spec !== undefined &&
    typeof (spec as Partial<StandardSchema>)['~standard'] === 'object'
  );
}

function ownCodec(where: string, codec: Codec<unknown, unknown>): Serde {
  return {
    name: 'custom',
    keepsBytes: true,
    encode(value) {
      const bytes = codec.encode(value);
      if (typeof bytes === 'string' || bytes instanceof Uint8Array) return bytes;
      throw new TypeError(
        `${where}: encode must return a Uint8Array or a string, got ${got(bytes)}`,
      );
    },
    decode: (bytes) => codec.decode(bytes),
  };
}

/** What is stored is the validated input; reading parses it, so a transform runs once, on read. */
function withSchema(where: string, serde: Serde, schema: StandardSchema): Serde {
  return {
    name: serde.name,
    keepsBytes: serde.keepsBytes,
    encode(value) {
      validated(where, schema, value);
      return serde.encode(value);
    },
    decode: (bytes) => validated(where, schema, serde.decode(bytes)),
  };
}

function validated(where: string, schema: StandardSchema, value: unknown): unknown {
  const result = schema['~standard'].validate(value);
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw new TypeError(`${where}: expected a schema that validates at once, got an async one`);
  }
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map(describeIssue).join('; ');
  throw new TypeError(`${where}: ${issues}; got ${got(value)}`, { cause: result.issues });
}

function describeIssue({ message, path }: SchemaIssue): string {
  if (path === undefined || path.length === 0) return message;
  const keys = path.map((part) => String(typeof part === 'object' ? part.key : part));
  return `${keys.join('.')}: ${message}`;
}

/** Whether a value may be null. */
function takesNull({ value, options }: TopicDefinition): boolean {
  return value === raw || isCompacted(options);
}

/** Bytes of a key or value to send; null only for none. @throws TypeError naming what and where */
export function encode(
  topic: TopicDefinition,
  what: 'key' | 'value',
  value: unknown,
): Bytes | null {
  const serde = what === 'key' ? topic.key : topic.value;
  if (value === null || value === undefined) {
    if (what === 'key' || (value === null && takesNull(topic))) return null;
    throw new TypeError(`${topic.name}: expected a value, got ${String(value)}`);
  }
  try {
    return serde.encode(value);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new TypeError(`${topic.name}: ${what}: ${error.message}`, { cause: error });
  }
}

/** A record's key or value. @throws INVALID_RECORD naming the place */
export function decode(
  topic: TopicDefinition,
  what: 'key' | 'value',
  bytes: Buffer | null,
  partition: number,
  offset: number,
): unknown {
  const serde = what === 'key' ? topic.key : topic.value;
  if (bytes === null && (what === 'key' || takesNull(topic))) return null;
  try {
    if (bytes === null) throw new TypeError('expected a value, got null');
    return serde.decode(bytes);
  } catch (error) {
    throw new OttlaError(
      'INVALID_RECORD',
      `${topic.name}-${partition}: the ${what} at offset ${offset} cannot be decoded: ${inWords(error)}`,
      { cause: error, at: { topic: topic.name, partition, offset } },
    );
  }
}
