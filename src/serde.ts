import {
  raw,
  serdeFor,
  type InputOf,
  type OutputOf,
  type Raw,
  type Serde,
  type SerdeSpec,
} from './codec.js';
import type { Engine } from './engine.js';
import { OttlaError, inWords } from './errors.js';
import {
  headersSerdeFor,
  type Headers,
  type HeadersInputOf,
  type HeadersOutputOf,
  type HeadersSerde,
  type HeadersSpec,
  type RawHeaders,
} from './headers.js';
import type { SharedStructures } from './msgpack.js';
import {
  checkOptions,
  got,
  isCompacted,
  topicOptions,
  type CleanupPolicy,
  type TopicOptions,
} from './options.js';
import type { Bytes, RecordHeaders } from './record.js';
import { topicNameProblem } from './topic-name.js';

/** A topic's name, options and codecs, with the types of what goes through it. */
export interface TopicDefinition<
  Name extends string = string,
  KI = never,
  KO = unknown,
  VI = never,
  VO = unknown,
  HI = never,
  HO = unknown,
> {
  readonly name: Name;
  readonly options: TopicOptions;
  readonly key: Serde;
  readonly value: Serde;
  /** null: pairs of bytes. */
  readonly headers: HeadersSerde | null;
  /** Types only: never set. */
  readonly types?: {
    readonly keyIn: (key: KI) => void;
    readonly keyOut: KO;
    readonly valueIn: (value: VI) => void;
    readonly valueOut: VO;
    readonly headersIn: (headers: HI) => void;
    readonly headersOut: HO;
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
/** The headers that may be sent: an object as the definition says; pairs or an object of bytes where it says nothing. */
export type HeadersIn<T = string> =
  T extends TopicDefinition<string, never, unknown, never, unknown, infer H> ? H : RawHeaders;
/** A record's headers as they are read. */
export type HeadersOut<T> =
  T extends TopicDefinition<string, never, unknown, never, unknown, never, infer H> ? H : Headers;
/** A topic's name, as a literal where it is one. */
export type NameOf<T> = T extends string
  ? T
  : T extends { readonly name: infer N extends string }
    ? N
    : string;

/** Options of a topic and the codecs of its keys, values and headers; without a codec bytes go in and out. */
export interface DefinitionOptions extends TopicOptions {
  /** Codec of the keys, which may be null all the same. @default none: bytes */
  readonly key?: SerdeSpec;
  /** Codec of the values, which may not be null then. @default none: bytes, or null */
  readonly value?: SerdeSpec;
  /**
   * Codec of the headers' values, a schema of the object that they make (with codec 'string'), or both: an
   * object goes in and out, then; of a name that comes more than once the last one counts.
   * @default none: pairs of bytes
   */
  readonly headers?: HeadersSpec;
}

type SpecOf<O, K extends 'key' | 'value' | 'headers'> = O extends { readonly [P in K]: infer S }
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
  OrNull<O, OutputOf<SpecOf<O, 'value'>>>,
  HeadersInputOf<SpecOf<O, 'headers'>>,
  HeadersOutputOf<SpecOf<O, 'headers'>>
> {
  checkTopicName('defineTopic', name);
  const { key, value, headers, ...topic } = checkedDefinition(options);
  checkOptions(`defineTopic ${name}`, topicOptions, topic);
  return {
    name,
    options: topic,
    key: serdeFor(`defineTopic ${name}: key`, key),
    value: serdeFor(`defineTopic ${name}: value`, value),
    headers: headersSerdeFor(`defineTopic ${name}: headers`, headers),
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
  return { name: topic, options: {}, key: raw, value: raw, headers: null };
}

function isDefinition({ name, options, key, value }: Partial<TopicDefinition>): boolean {
  return (
    typeof name === 'string' &&
    typeof options === 'object' &&
    typeof key?.encode === 'function' &&
    typeof value?.encode === 'function'
  );
}

interface Sharing {
  readonly topicId: string;
  readonly definition: TopicDefinition;
}

const sharing = new WeakMap<Engine, WeakMap<TopicDefinition, Sharing>>();

/** The definition with what its topic stores for all its records; itself, if its records stand alone. */
export function shared(engine: Engine, definition: TopicDefinition): TopicDefinition {
  const { name, key, value } = definition;
  if (key.share === undefined && value.share === undefined) return definition;
  const topic = engine.topic(name);
  if (topic === undefined) return definition;
  const known = sharing.get(engine) ?? new WeakMap<TopicDefinition, Sharing>();
  sharing.set(engine, known);
  const before = known.get(definition);
  if (before?.topicId === topic.id) return before.definition;
  const structuresOf = (what: 'key' | 'value'): SharedStructures => ({
    load: () => engine.topic(name)?.structures[what] ?? [],
    learn: (structure) => engine.learnStructure(name, what, structure),
  });
  const bound = {
    ...definition,
    key: key.share?.(structuresOf('key')) ?? key,
    value: value.share?.(structuresOf('value')) ?? value,
  };
  known.set(definition, { topicId: topic.id, definition: bound });
  return bound;
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
    throw notEncoded(topic, what, error);
  }
}

/** Headers to send, by their codec. @throws TypeError naming what and where */
export function encodeHeaders(
  topic: TopicDefinition,
  serde: HeadersSerde,
  headers: unknown,
): RecordHeaders {
  try {
    return serde.encode(headers);
  } catch (error) {
    throw notEncoded(topic, 'headers', error);
  }
}

function notEncoded({ name }: TopicDefinition, what: string, error: unknown): TypeError {
  const why = error instanceof Error ? error.message : inWords(error);
  return new TypeError(`${name}: ${what}: ${why}`, { cause: error });
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
    throw notDecoded(topic, what, error, partition, offset);
  }
}

/** A record's headers. @throws INVALID_RECORD naming the place */
export function decodeHeaders(
  topic: TopicDefinition,
  headers: Headers,
  partition: number,
  offset: number,
): unknown {
  if (topic.headers === null) return headers;
  try {
    return topic.headers.decode(headers);
  } catch (error) {
    throw notDecoded(topic, 'headers', error, partition, offset);
  }
}

function notDecoded(
  { name }: TopicDefinition,
  what: string,
  error: unknown,
  partition: number,
  offset: number,
): OttlaError {
  return new OttlaError(
    'INVALID_RECORD',
    `${name}-${partition}: the ${what} at offset ${offset} cannot be decoded: ${inWords(error)}`,
    { cause: error, at: { topic: name, partition, offset } },
  );
}
