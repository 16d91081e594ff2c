import type { RawRecord } from './engine.js';
import { checkValue, got, integer } from './options.js';
import { noHeaders, type Bytes, type RecordHeaders } from './record.js';
import {
  encode,
  type KeyIn,
  type NameOf,
  type TopicDefinition,
  type TopicRef,
  type ValueIn,
} from './serde.js';

/** Headers to send: pairs, in which a name may come more than once, or an object. */
export type HeadersIn =
  | readonly (readonly [name: string, value: Uint8Array | string | null])[]
  | Readonly<Record<string, Uint8Array | string | null>>;

/** A record to send to topic T. */
export interface RecordToSend<T = string> {
  /** Decides the partition, by its hash; null or absent: the partitioner chooses. */
  readonly key?: KeyIn<T> | null;
  readonly value: ValueIn<T>;
  readonly headers?: HeadersIn;
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

/**
 * Checks a record and encodes its key and value.
 * @throws TypeError, RangeError
 */
export function rawRecord(
  definition: TopicDefinition,
  record: RecordToSend<TopicRef>,
  now: number,
): RawRecord {
  return {
    timestamp: rawTimestamp(definition, record, now),
    key: encode(definition, 'key', record.key),
    value: encode(definition, 'value', record.value),
    headers: rawHeaders(definition, record),
  };
}

/** @throws TypeError for what is no record, too; RangeError */
export function rawTimestamp(
  { name }: TopicDefinition,
  record: RecordToSend<TopicRef>,
  now: number,
): number {
  if (typeof record !== 'object' || record === null) {
    throw new TypeError(`${name}: expected a record { key, value }, got ${got(record)}`);
  }
  const { timestamp = now } = record;
  if (timestamp !== now) checkValue(name, 'timestamp', timestampCheck, timestamp);
  return timestamp;
}

/** @throws TypeError */
export function rawHeaders(
  { name }: TopicDefinition,
  { headers }: RecordToSend<TopicRef>,
): RecordHeaders {
  return headers === undefined ? noHeaders : checkedHeaders(name, headers);
}

function checkedHeaders(topic: string, headers: HeadersIn): RecordHeaders {
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
function pairsIn(headers: HeadersIn): RecordHeaders | null {
  if (typeof headers !== 'object' || headers === null) return null;
  if (isPairs(headers)) return headers;
  return Symbol.iterator in headers ? null : Object.entries(headers);
}

function isPairs(headers: HeadersIn): headers is RecordHeaders {
  return Array.isArray(headers) && headers.every((pair) => Array.isArray(pair));
}

/** For keeping after the caller may have used its bytes again. */
export function copied({ timestamp, key, value, headers }: RawRecord): RawRecord {
  return {
    timestamp,
    key: copiedBytes(key),
    value: copiedBytes(value),
    headers: copiedHeaders(headers),
  };
}

export function copiedBytes(bytes: Bytes | null): Bytes | null {
  return bytes instanceof Uint8Array ? Buffer.from(bytes) : bytes;
}

export function copiedHeaders(headers: RecordHeaders): RecordHeaders {
  return headers.map(([name, value]) => [name, copiedBytes(value)] as const);
}
