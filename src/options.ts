import { inspect } from 'node:util';
import { longestTimerMs } from './clock.js';
import { compressions, type Compression } from './compression.js';

/**
 * Options of a topic: Kafka's topic configurations in camelCase. What differs from Kafka's default is
 * said so: an embedded log must not lose a local queue's data.
 */
export interface TopicOptions {
  /** Number of partitions. May grow later, never shrink. @default 1 */
  readonly partitions?: number;
  /** A segment is sealed and a new one begun before it would pass this size. @default 1 GiB, in memory 1 MiB */
  readonly segmentBytes?: number;
  /**
   * A segment is sealed and a new one begun before records that are more than this many ms later than its
   * first batch. Time is that of the records (Kafka's segment.ms). @default 604800000 ms, 7 days
   */
  readonly segmentMs?: number;
  /**
   * Sealed segments are freed once their latest record is more than this many ms old, by the records'
   * timestamps and the system's clock; an active one is sealed first. -1: never, unlike Kafka's 7 days,
   * for unread records of an application that was off must not be lost. Checked every five minutes.
   * Records with timestamps in the future stay until then. @default -1 (ms)
   */
  readonly retentionMs?: number;
  /**
   * The oldest segments of a partition are freed while what is left has at least this many bytes.
   * -1: no bound. Checked every five minutes. @default -1 (bytes)
   */
  readonly retentionBytes?: number;
  /**
   * 'consumed': segments are also freed once every group has committed past them, about a second after
   * the commit; an active one of more than 1 MiB is sealed for it. Counted are the groups that have
   * committed in the topic and those with members here that read it; without any, nothing is freed.
   * 'limits': only by retentionMs and retentionBytes, as in Kafka. @default 'limits'
   */
  readonly retention?: 'limits' | 'consumed';
  /** About one index entry per this many bytes of log. @default 4096 bytes */
  readonly indexIntervalBytes?: number;
  /** Largest record batch, and so the largest record. @default 1048588 bytes */
  readonly maxMessageBytes?: number;
  /** Whose time a record carries: the sender's, or the log's at the append. @default 'CreateTime' */
  readonly messageTimestampType?: 'CreateTime' | 'LogAppendTime';
  /**
   * The log is synced once this many records were appended since the last sync, though nobody waits for
   * it with acks 'all': so a loss of power costs acks 1 no more. @default 2^53 - 1: 8 MiB decide
   */
  readonly flushMessages?: number;
  /**
   * The log is synced once a record has waited for it this long, as with flushMessages.
   * @default 2^53 - 1 ms: 8 MiB decide
   */
  readonly flushMs?: number;
  /**
   * How records are compressed in this topic, whatever a producer says; 'producer': as each producer says.
   * A batch that another program sent stays as it is. @default 'producer'
   */
  readonly compression?: 'producer' | Compression;
  /**
   * What frees a log's space. 'delete': its oldest segments go, as retention says. 'compact': of each key
   * the latest record is kept; records need a key, and one whose value is null, a tombstone, deletes its
   * key. Both: compacted, and the oldest segments go. @default 'delete'
   */
  readonly cleanupPolicy?: CleanupPolicy;
  /**
   * A log is compacted once this share of the bytes in its sealed segments came since the last time: a
   * number from 0 to 1. @default 0.5
   */
  readonly minCleanableDirtyRatio?: number;
  /**
   * How long a tombstone stays after the first compaction that met it, in ms: who reads a compacted log
   * from the start within this time sees every deletion (KIP-534). @default 86400000 ms, a day
   */
  readonly deleteRetentionMs?: number;
}

/** What frees a log's space: see `cleanupPolicy` of TopicOptions. */
export type CleanupPolicy = 'delete' | 'compact' | readonly ['compact', 'delete'];

/** Whether a topic keeps the latest record of each key. */
export function isCompacted({ cleanupPolicy }: Pick<TopicOptions, 'cleanupPolicy'>): boolean {
  return cleanupPolicy !== undefined && cleanupPolicy !== 'delete';
}

/** Whether a topic's oldest segments go, as retention says. */
export function isDeleted({ cleanupPolicy }: Pick<TopicOptions, 'cleanupPolicy'>): boolean {
  return cleanupPolicy !== 'compact';
}

/** Every topic option but the number of partitions, with its value. */
export type TopicSettings = Required<Omit<TopicOptions, 'partitions'>>;

/**
 * When a send counts as done. 0: taken over, nothing is known. 1: written to the operating system,
 * survives a killed process. 'all': on the disk, survives a power loss.
 */
export type Acks = 'all' | 1 | 0;

/** Chooses the partition of a record that names none: an integer from 0 to partitionCount - 1. */
export type Partitioner = (
  topic: string,
  key: Uint8Array | string | null,
  partitionCount: number,
) => number;

/** Options of a producer: Kafka's producer configurations in camelCase. */
export interface ProducerOptions {
  /** When a send counts as done: see Acks. @default 'all' */
  readonly acks?: Acks;
  /**
   * How long an open batch waits for more records; 0: until the end of this turn of the event loop. Kafka's
   * default is 5. @default 0 ms
   */
  readonly lingerMs?: number;
  /** A batch of single sends is written at this size. @default 16384 bytes */
  readonly batchSize?: number;
  /**
   * Once this many bytes are taken over and not acknowledged, sends wait for room. A larger record is
   * refused with MESSAGE_TOO_LARGE. @default 32 MiB
   */
  readonly bufferMemory?: number;
  /**
   * How records are compressed, batch by batch, where the topic leaves it to the producer. 'gzip' comes
   * with Node; 'snappy' needs the package snappy, 'lz4' lz4-napi, and 'zstd', before Node 22.15,
   * @mongodb-js/zstd. `batchSize` and `maxMessageBytes` count bytes before compression. @default 'none'
   */
  readonly compression?: Compression;
  /** How long a send waits for room in the buffer before it fails with REQUEST_TIMED_OUT. @default 60000 ms */
  readonly maxBlockMs?: number;
  /**
   * How long a record that was taken over may wait for its acknowledgement before it fails with
   * REQUEST_TIMED_OUT, whose message says whether it was written. At least lingerMs.
   * @default 120000 ms, or lingerMs if that is more
   */
  readonly deliveryTimeoutMs?: number;
  /**
   * For records that name no partition. 'default': by the key's hash, without a key sticky (KIP-794);
   * 'roundrobin': each to the next one. @default 'default'
   */
  readonly partitioner?: 'default' | 'roundrobin' | Partitioner;
  /**
   * Whether batches are numbered, so that the log takes each one once. What fails in the log, or is in
   * doubt there, the producer itself sends again, in order, until deliveryTimeoutMs is over. Needs acks 1
   * or 'all'. Kafka's default is true: here there is no network that could lose an answer. @default false
   */
  readonly idempotent?: boolean;
  /**
   * For transaction(): names the producer over restarts. Who begins a transaction with it fences whoever
   * had it before. Needs acks 'all'; a string of 1 to 1024 bytes that does not begin with `__ottla-`.
   * @default none
   */
  readonly transactionalId?: string;
  /** A transaction that takes longer is aborted, and its producer fenced; at most 900000. @default 60000 ms */
  readonly transactionTimeoutMs?: number;
}

/** This long ago, counted from when it is needed; in ms. */
export interface Ago {
  readonly durationMs: number;
}

/**
 * Which records of transactions are read. 'read_committed': those of committed ones, up to the first one
 * that is undecided, the last stable offset. 'read_uncommitted': all, of open and aborted ones too.
 */
export type Isolation = 'read_committed' | 'read_uncommitted';

/**
 * Where a group or a reader without a committed offset begins. A date: the first record from that time on; a
 * duration: from that long ago on (KIP-1106).
 */
export type From = 'earliest' | 'latest' | 'none' | Date | Ago;

interface Check {
  /** What is expected instead; null: the value passes. */
  (value: unknown): string | null;
  /** Whether there are numbers that pass, so that one that does not is out of range, not of a wrong type. */
  readonly takesNumbers?: boolean;
}
type Table<T> = { readonly [K in keyof Required<T>]: Check };

/** Bytes of the string "got", short enough for an error message. */
export function got(value: unknown): string {
  const text = inspect(value, {
    depth: 1,
    breakLength: Infinity,
    maxStringLength: 60,
    maxArrayLength: 4,
  });
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Check {
  const expected =
    max === Number.MAX_SAFE_INTEGER ? `an integer >= ${min}` : `an integer from ${min} to ${max}`;
  return ofNumbers((value) =>
    Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
      ? null
      : expected,
  );
}

function ofNumbers(check: Check): Check {
  return Object.assign(check, { takesNumbers: true });
}

export function oneOf(...allowed: readonly unknown[]): Check {
  const expected = allowed.map((value) => inspect(value)).join(' or ');
  const check: Check = (value) => (allowed.includes(value) ? null : expected);
  return allowed.some((value) => typeof value === 'number') ? ofNumbers(check) : check;
}

export const isolationCheck: Check = oneOf('read_committed', 'read_uncommitted');
export const aBoolean: Check = (value) => (typeof value === 'boolean' ? null : 'true or false');
export const aFunction: Check = (value) => (typeof value === 'function' ? null : 'a function');
export const aSignal: Check = (value) => (value instanceof AbortSignal ? null : 'an AbortSignal');

/** Passes when one of the checks does. */
export function either(...checks: readonly Check[]): Check {
  const checkEach: Check = (value) => {
    const expected: string[] = [];
    for (const check of checks) {
      const problem = check(value);
      if (problem === null) return null;
      expected.push(problem);
    }
    return expected.join(' or ');
  };
  return checks.some(({ takesNumbers }) => takesNumbers === true)
    ? ofNumbers(checkEach)
    : checkEach;
}

/** Ids lead the keys of the metadata store, which have a limit. */
const maxIdBytes = 1024;

const halfOfPair = /\p{Surrogate}/u;
// oxlint-disable-next-line no-control-regex
const storedAsTwoBytes = /[\u0000-\u0004]/g;

/** Of a group, or a transactional one. */
export const anId: Check = (value) =>
  typeof value === 'string' &&
  value.length > 0 &&
  Buffer.byteLength(value.replaceAll(storedAsTwoBytes, '  ')) <= maxIdBytes &&
  !halfOfPair.test(value)
    ? null
    : `a string of 1 to ${maxIdBytes} bytes, without half of a surrogate pair`;

/** What the transactional ids begin with under which run() hands letters over: nobody else has them. */
export const ownTransactionalIds = '__ottla-';

export const aTransactionalId: Check = (value) =>
  anId(value) ??
  ((value as string).startsWith(ownTransactionalIds)
    ? `one that does not begin with ${ownTransactionalIds}, as Ottla's own do`
    : null);

const aDate: Check = (value) =>
  value instanceof Date && !Number.isNaN(value.getTime()) ? null : 'a valid Date';

export const milliseconds: Check = integer(0, longestTimerMs);

export function isAgo(value: unknown): value is Ago {
  return typeof value === 'object' && value !== null && 'durationMs' in value;
}

const aDuration: Check = (value) =>
  isAgo(value) && Object.keys(value).length === 1 && integer(0)(value.durationMs) === null
    ? null
    : '{ durationMs }, an integer from 0';

/** A place in time. */
export const timeCheck: Check = either(aDate, aDuration);

export const fromCheck: Check = either(oneOf('earliest', 'latest', 'none'), timeCheck);

const bothPolicies: Check = (value) =>
  Array.isArray(value) && value.length === 2 && value[0] === 'compact' && value[1] === 'delete'
    ? null
    : "['compact', 'delete']";

const fraction: Check = ofNumbers((value) =>
  typeof value === 'number' && value >= 0 && value <= 1 ? null : 'a number from 0 to 1',
);

/** A batch of the largest size, and the header it lies behind, must fit one segment. */
const maxBatchBytes = 256 * 1024 * 1024;

export const topicOptions: Table<TopicOptions> = {
  partitions: integer(1, 100_000),
  segmentBytes: integer(1024, 2 ** 31 - 1),
  segmentMs: integer(1),
  retentionMs: integer(-1),
  retentionBytes: integer(-1),
  retention: oneOf('limits', 'consumed'),
  indexIntervalBytes: integer(0, 2 ** 31 - 1),
  maxMessageBytes: integer(1024, maxBatchBytes),
  messageTimestampType: oneOf('CreateTime', 'LogAppendTime'),
  flushMessages: integer(1),
  flushMs: integer(0),
  compression: oneOf('producer', ...compressions),
  cleanupPolicy: either(oneOf('delete', 'compact'), bothPolicies),
  minCleanableDirtyRatio: fraction,
  deleteRetentionMs: integer(0),
};

export const topicDefaults: TopicSettings = {
  segmentBytes: 1024 * 1024 * 1024,
  segmentMs: 7 * 24 * 60 * 60 * 1000,
  retentionMs: -1,
  retentionBytes: -1,
  retention: 'limits',
  indexIntervalBytes: 4096,
  maxMessageBytes: 1_048_588,
  messageTimestampType: 'CreateTime',
  flushMessages: Number.MAX_SAFE_INTEGER,
  flushMs: Number.MAX_SAFE_INTEGER,
  compression: 'producer',
  cleanupPolicy: 'delete',
  minCleanableDirtyRatio: 0.5,
  deleteRetentionMs: 86_400_000,
};

export const producerOptions: Table<ProducerOptions> = {
  acks: oneOf('all', 1, 0),
  lingerMs: milliseconds,
  batchSize: integer(1, maxBatchBytes),
  bufferMemory: integer(1),
  compression: oneOf(...compressions),
  maxBlockMs: milliseconds,
  deliveryTimeoutMs: milliseconds,
  partitioner: either(oneOf('default', 'roundrobin'), aFunction),
  idempotent: aBoolean,
  transactionalId: aTransactionalId,
  transactionTimeoutMs: integer(1),
};

export const producerDefaults: Required<Omit<ProducerOptions, 'transactionalId'>> = {
  acks: 'all',
  lingerMs: 0,
  batchSize: 16_384,
  bufferMemory: 32 * 1024 * 1024,
  compression: 'none',
  maxBlockMs: 60_000,
  deliveryTimeoutMs: 120_000,
  partitioner: 'default',
  idempotent: false,
  transactionTimeoutMs: 60_000,
};

/**
 * Checks options against their table; an option that is undefined counts as not given.
 * @throws TypeError for an unknown name or a wrong type, RangeError for a number out of bounds
 */
export function checkOptions<T extends object>(
  where: string,
  table: Table<T>,
  options: T | undefined,
): void {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(`${where}: expected an object of options, got ${got(options)}`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(table, name)) {
      const known = Object.keys(table).join(', ');
      throw new TypeError(`${where}: unknown option ${got(name)}; it takes ${known}`);
    }
    if (value !== undefined) checkValue(where, name, table[name as keyof T], value);
  }
}

/** @throws TypeError or RangeError when the value does not pass */
export function checkValue(where: string, name: string, check: Check, value: unknown): void {
  const expected = check(value);
  if (expected === null) return;
  const message = `${where}: ${name} must be ${expected}, got ${got(value)}`;
  const isOutOfRange = typeof value === 'number' && check.takesNumbers === true;
  throw isOutOfRange ? new RangeError(message) : new TypeError(message);
}

/** The options with their defaults, undefined ones included. */
export function withDefaults<T extends object>(
  defaults: Required<T>,
  options: Partial<T> | undefined,
): Required<T> {
  const result = { ...defaults };
  for (const [name, value] of Object.entries(options ?? {})) {
    if (value !== undefined && Object.hasOwn(defaults, name)) {
      result[name as keyof T] = value as Required<T>[keyof T];
    }
  }
  return result;
}
