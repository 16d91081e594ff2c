import { longestTimerMs } from './clock.js';
import type { CheckedConsumerOptions } from './consumer-options.js';
import type { BatchOf, ConsumerRecord, RecordOf } from './consumer-record.js';
import { unknownTopic } from './errors.js';
import {
  aFunction,
  aSignal,
  checkOptions,
  checkValue,
  either,
  got,
  integer,
  oneOf,
} from './options.js';
import { exponentialBackoff, type RetryPolicy } from './run-retry.js';
import type { RateLimit } from './run-slots.js';
import { definitionOf, type TopicRef } from './serde.js';

/** What a handler is told besides its record. */
export interface RunContext {
  /**
   * Aborts when the work is in vain: the partition was lost, or stop() waits no longer. It is made when it is
   * first asked for.
   */
  readonly signal: AbortSignal;
  /** 1 at the first call for this record. */
  readonly attempt: number;
  /** Says that a long handler is at work: its maxPollIntervalMs begins anew. */
  readonly alive: () => void;
}

/** How many handlers are at work at once, and what keeps its order among them. */
export interface Concurrency {
  /**
   * 'partition': records of a partition are handled one after the other. 'key': records of a key are, within
   * their partition; records without a key have no order.
   */
  readonly by: 'partition' | 'key';
  /** Handlers at once at the most. */
  readonly max: number;
}

/** What happens when a handler throws, or its promise rejects. */
export interface RetryOptions {
  /** How often it is called for one record, the first time included. @default 1 (a count) */
  readonly attempts?: number;
  /**
   * How long to wait before the next call; what must keep its order behind the record waits as well, other
   * work does not. 'exponential': 100 ms, doubled each time up to 30 s, of which a random part between half
   * and all. A function of how often it has failed, to ms, at most 2^31 - 1. @default 'exponential' (ms)
   */
  readonly backoff?: 'exponential' | ((failures: number) => number);
  /** Whether an error is worth another call. @default all are */
  readonly retryable?: (error: unknown) => boolean;
  /**
   * The topic that a record waits in for its next call, so that nothing waits behind it: the order of its key,
   * or partition, is given up. run() reads it as part of the group; the handler gets the record as it first
   * came. It must exist, and no other topic of the consumer be it. @default none: it waits where it is
   */
  readonly topic?: TopicRef;
  /**
   * The topic that a record goes to when it has failed for good, with its key, value and headers, and headers
   * `ottla.dlq.*` that say why and where from. It must exist, and no other topic of the consumer be it.
   * @default none: run() rejects with the error
   */
  readonly deadLetter?: TopicRef;
}

/** Options of run(): one handler, and how it is called. */
export interface RunOptions<T extends TopicRef = TopicRef> {
  /** `(record, context) => unknown`. Called for each record; what it resolves to is not looked at. @default none: eachBatch */
  readonly eachRecord?: (record: RecordOf<T>, context: RunContext) => unknown;
  /** `(batch, context) => unknown`. Called for each run of records of one partition. @default none: eachRecord */
  readonly eachBatch?: (batch: BatchOf<T>, context: RunContext) => unknown;
  /** How many handlers are at work at once. @default { by: 'partition', max: 1 } */
  readonly concurrency?: Concurrency;
  /** What happens when a handler fails. @default one attempt, then run() rejects */
  readonly retry?: RetryOptions;
  /** How many handlers begin in a span of time: in no span of `perMs` more than `records`. @default no bound */
  readonly rateLimit?: RateLimit;
  /** Ends the run as stop() does, without leaving the group. @default none */
  readonly signal?: AbortSignal;
}

/** As checkRunOptions() leaves them. */
export interface CheckedRunOptions {
  readonly eachRecord: ((record: ConsumerRecord, context: RunContext) => unknown) | null;
  readonly eachBatch: ((batch: never, context: RunContext) => unknown) | null;
  readonly by: Concurrency['by'];
  readonly max: number;
  readonly retry: RetryPolicy;
  readonly deadLetter: string | null;
  readonly rateLimit: RateLimit | null;
  readonly signal: AbortSignal | null;
}

const anObject = (value: unknown): string | null =>
  typeof value === 'object' && value !== null ? null : 'an object';

const concurrencyTable = { by: oneOf('partition', 'key'), max: integer(1) };
const rateTable = { records: integer(1), perMs: integer(1, longestTimerMs) };

/** As checkOptions(), of options that must all be there. */
function checkAll<T extends object>(
  where: string,
  table: { readonly [K in keyof T]-?: (value: unknown) => string | null },
  options: T,
): void {
  checkOptions<T>(where, table, options);
  for (const name of Object.keys(table)) {
    checkValue(where, name, table[name as keyof T], options[name as keyof T]);
  }
}

/** @throws TypeError, RangeError */
export function checkRunOptions<T extends TopicRef>(
  options: RunOptions<T>,
  random: () => number,
): CheckedRunOptions {
  checkOptions<RunOptions<T>>(
    'run',
    {
      eachRecord: aFunction,
      eachBatch: aFunction,
      concurrency: anObject,
      retry: anObject,
      rateLimit: anObject,
      signal: aSignal,
    },
    options ?? {},
  );
  const { eachRecord, eachBatch, concurrency, retry = {}, rateLimit, signal } = options ?? {};
  if ((eachRecord === undefined) === (eachBatch === undefined)) {
    throw new TypeError('run: expected eachRecord or eachBatch, and not both');
  }
  const { by, max } = concurrency ?? { by: 'partition', max: 1 };
  if (concurrency !== undefined) checkAll('run: concurrency', concurrencyTable, concurrency);
  if (eachBatch !== undefined && by === 'key') {
    throw new TypeError("run: eachBatch has concurrency by 'partition', got 'key'");
  }
  checkOptions<RetryOptions>(
    'run: retry',
    {
      attempts: integer(1),
      backoff: either(oneOf('exponential'), aFunction),
      retryable: aFunction,
      topic: () => null,
      deadLetter: () => null,
    },
    retry,
  );
  if (rateLimit !== undefined) checkAll('run: rateLimit', rateTable, rateLimit);
  const {
    attempts = 1,
    backoff = 'exponential',
    retryable = () => true,
    topic,
    deadLetter,
  } = retry;
  const retryTopic = nameOf('topic', topic);
  const deadLetterTopic = nameOf('deadLetter', deadLetter);
  if (retryTopic !== null && eachBatch !== undefined) {
    throw new TypeError('run: retry.topic is for eachRecord: a batch is tried again as a whole');
  }
  if (retryTopic !== null && retryTopic === deadLetterTopic) {
    throw new TypeError('run: retry.topic and retry.deadLetter must be two topics');
  }
  return {
    eachRecord: (eachRecord as CheckedRunOptions['eachRecord'] | undefined) ?? null,
    eachBatch: (eachBatch as CheckedRunOptions['eachBatch'] | undefined) ?? null,
    by,
    max,
    retry: {
      attempts,
      backoffMs: backoff === 'exponential' ? exponentialBackoff(random) : checked(backoff),
      isRetryable: retryable,
      topic: retryTopic,
    },
    deadLetter: deadLetterTopic,
    rateLimit: rateLimit ?? null,
    signal: signal ?? null,
  };
}

function checked(backoff: (failures: number) => number): (failures: number) => number {
  return (failures) => {
    const ms: unknown = backoff(failures);
    if (typeof ms === 'number' && ms >= 0 && ms <= longestTimerMs) return Math.ceil(ms);
    throw new RangeError(
      `run: retry: backoff must return from 0 to ${longestTimerMs} ms, got ${got(ms)}`,
    );
  };
}

/**
 * Checks the topics that a run sends to.
 * @throws UNKNOWN_TOPIC_OR_PARTITION, TypeError
 */
export function checkRunTopics(
  { retry: { topic }, deadLetter }: CheckedRunOptions,
  { group, topics, patterns }: Pick<CheckedConsumerOptions, 'group' | 'topics' | 'patterns'>,
  isThere: (topic: string) => boolean,
): void {
  for (const [what, name] of Object.entries({ topic, deadLetter })) {
    if (name === null) continue;
    if (!isThere(name)) throw unknownTopic(name, `run: retry.${what}: `);
    // A letter that fails would be put where it lies, again and again.
    if (topics.has(name) || patterns.some((pattern) => pattern.test(name))) {
      throw new TypeError(`run: retry.${what}: ${name} is among the topics of the consumer itself`);
    }
  }
  if (topic !== null && group === undefined) {
    throw new TypeError('run: retry.topic needs a consumer with a group');
  }
}

function nameOf(what: string, topic: TopicRef | undefined): string | null {
  return topic === undefined ? null : definitionOf(`run: retry.${what}`, topic).name;
}
