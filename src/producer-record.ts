import { checkValue, got, integer } from './options.js';
import { noHeaders, type Bytes, type RecordHeaders } from './record.js';
import {
  encodeHeaders,
  type HeadersIn,
  type KeyIn,
  type NameOf,
  type TopicDefinition,
  type TopicRef,
  type ValueIn,
} from './serde.js';

/** A record to send to topic T, with `headers?: HeadersIn<T>`: they may be left out where the topic needs none. */
export type RecordToSend<T = string> = RecordBody<T> & HeadersField<HeadersIn<T>>;

/** A record to send to whatever topic. */
export type AnyRecord = RecordBody<TopicRef> & { readonly headers?: unknown };

/** Headers to send; they may be left out where the topic asks for none. */
type HeadersField<H> = Readonly<{} extends H ? { headers?: H } : { headers: H }>;

/** A record to send, without its headers. */
export interface RecordBody<T> {
  /** Decides the partition, by its hash; null or absent: the partitioner chooses. */
  readonly key?: KeyIn<T> | null;
  readonly value: ValueIn<T>;
  /** ms since 1970. @default now */
  readonly timestamp?: number;
  /** @default the partitioner's choice */
  readonly partition?: number;
}

/** Where a record is. */
export interface RecordMetadata<T = string> {
  readonly topic: NameOf<T>;
  readonly partition: number;
  /** -1 with acks 0. */
  readonly offset: number;
  readonly timestamp: number;
}

const timestampCheck = integer(0);

/** The record's timestamp, or now. @throws TypeError, also for what is no record; RangeError */
export function rawTimestamp({ name }: TopicDefinition, record: AnyRecord, now: number): number {
  if (typeof record !== 'object' || record === null) {
    throw new TypeError(`${name}: expected a record { key, value }, got ${got(record)}`);
  }
  const { timestamp = now } = record;
  if (timestamp !== now) checkValue(name, 'timestamp', timestampCheck, timestamp);
  return timestamp;
}

/** The record's headers as pairs. @throws TypeError */
export function rawHeaders(definition: TopicDefinition, { headers }: AnyRecord): RecordHeaders {
  const { name, headers: serde } = definition;
  if (serde !== null) return encodeHeaders(definition, serde, headers);
  return headers === undefined ? noHeaders : checkedHeaders(name, headers);
}

function checkedHeaders(topic: string, headers: unknown): RecordHeaders {
  const pairs = pairsIn(headers);
  if (pairs === null) {
    throw new TypeError(`${topic}: expected headers to be pairs or an object, got ${got(headers)}`);
  }
  for (const [name, value] of pairs) {
    const isValue = value === null || typeof value === 'string' || value instanceof Uint8Array;
    if (typeof name === 'string' && isValue) continue;
    throw new TypeError(
      `${topic}: expected header names to be strings and values a Uint8Array, a string or null, got ${got([name, value])}`,
    );
  }
  return pairs;
}

/** Null for what is neither pairs nor an object of headers. */
function pairsIn(headers: unknown): RecordHeaders | null {
  if (typeof headers !== 'object' || headers === null) return null;
  if (isPairs(headers)) return headers;
  return Symbol.iterator in headers ? null : Object.entries(headers);
}

function isPairs(headers: object): headers is RecordHeaders {
  return Array.isArray(headers) && headers.every((pair) => Array.isArray(pair));
}

/** For keeping after the caller may have used its bytes again. */
export function copiedBytes(bytes: Bytes | null): Bytes | null {
  return bytes instanceof Uint8Array ? Buffer.from(bytes) : bytes;
}

/** As copiedBytes(). */
export function copiedHeaders(headers: RecordHeaders): RecordHeaders {
  return headers.map(([name, value]) => [name, copiedBytes(value)] as const);
}
