import type { Engine, RecordFormat } from './engine.js';
import { OttlaError, inWords, isOttlaError, type RecordPlace } from './errors.js';
import type { Headers } from './headers.js';

/** Of an error's message, or its stack, as much is kept. */
const maxTextLength = 4096;

/** 'dlq': the record has failed for good. 'retry': it is to be handled again. */
export type LetterKind = 'dlq' | 'retry';

const prefixes: Readonly<Record<LetterKind, string>> = { dlq: 'ottla.dlq.', retry: 'ottla.retry.' };

/** A record to send, as its bytes. */
export interface Letter {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
}

/** A record as it lies in the log. */
export interface LoggedRecord extends Letter {
  readonly offset: number;
  readonly timestamp: number;
}

/** Where a letter came from, and what was told with it. */
export interface Origin extends RecordPlace {
  readonly timestamp: number;
  /** null: it failed without a group. */
  readonly group: string | null;
  /** How often its handler was called. */
  readonly attempts: number;
  /** When it is to be handled again, in ms since 1970; 0 if it has failed for good. */
  readonly dueMs: number;
  /** The headers that it had there. */
  readonly headers: Headers;
}

/** Why a letter is written. */
export interface Reasons {
  readonly group: string | null;
  readonly attempts: number;
  readonly error: unknown;
  /** Only of kind 'retry'. */
  readonly dueMs?: number;
}

/**
 * The letter for a record that lies at a place, which may itself be a letter of kind 'retry': it keeps telling
 * where it came from first.
 */
export function letterOf(
  kind: LetterKind,
  at: RecordPlace,
  raw: LoggedRecord,
  { group, attempts, error, dueMs }: Reasons,
): Letter {
  const isRetry = raw.headers.some(([name]) => name === `${prefixes.retry}topic`);
  const { topic, partition, offset, timestamp, headers } = isRetry
    ? originOf('retry', { ...at, headers: raw.headers })
    : { ...at, timestamp: raw.timestamp, headers: own(raw.headers) };
  const reasons = {
    topic,
    partition,
    offset,
    timestamp,
    group,
    attempts,
    due: dueMs,
    error: inWords(error).slice(0, maxTextLength),
    stack: kind === 'dlq' ? stackOf(error) : undefined,
  };
  const told = Object.entries(reasons)
    .filter(([, reason]) => reason !== undefined)
    .map(([name, reason]) => {
      const value = reason === null ? null : Buffer.from(String(reason));
      return [`${prefixes[kind]}${name}`, value] as const;
    });
  const { key, value } = raw;
  return { key, value, headers: [...headers, ...told] };
}

/** Headers that are not ours. */
function own(headers: Headers): Headers {
  return headers.filter(([name]) => !Object.values(prefixes).some((ours) => name.startsWith(ours)));
}

/** What a letter tells of itself. @throws INVALID_RECORD if it is none */
export function originOf(
  kind: LetterKind,
  letter: RecordPlace & { readonly headers: Headers },
): Origin {
  const prefix = prefixes[kind];
  const reasons = new Map(letter.headers.map(([name, value]) => [name, value?.toString() ?? null]));
  const number = (name: string): number => Number(reasons.get(`${prefix}${name}`) ?? NaN);
  const topic = reasons.get(`${prefix}topic`);
  const origin = {
    partition: number('partition'),
    offset: number('offset'),
    timestamp: number('timestamp'),
    attempts: number('attempts'),
    dueMs: kind === 'retry' ? number('due') : 0,
  };
  if (topic != null && Object.values(origin).every(Number.isSafeInteger)) {
    const group = reasons.get(`${prefix}group`) ?? null;
    return { topic, ...origin, group, headers: own(letter.headers) };
  }
  const { topic: here, partition, offset } = letter;
  throw new OttlaError(
    'INVALID_RECORD',
    `${here}-${partition}: the record at offset ${offset} was not put there by run(): it has no headers ${prefix}*`,
    { at: { topic: here, partition, offset } },
  );
}

/** Never throws, whatever was thrown. */
function stackOf(thrown: unknown): string | undefined {
  try {
    return thrown instanceof Error ? thrown.stack?.slice(0, maxTextLength) : undefined;
  } catch {
    return undefined;
  }
}

const asBytes: RecordFormat<LoggedRecord> = {
  keepsBytes: true,
  make: (_partition, offset, timestamp, key, value, headers) => ({
    offset,
    timestamp,
    key,
    value,
    headers,
  }),
};

/**
 * A record that was handed out, as it lies in the log: what was made of its bytes tells them no more. null: it
 * was deleted meanwhile, or compacted away.
 */
export async function readRaw(engine: Engine, at: RecordPlace): Promise<LoggedRecord | null> {
  const reader = engine.reader({
    from: 'none',
    // Whoever read it may: of a transaction that is open, too.
    isolation: 'read_uncommitted',
    formatFor: () => asBytes,
    idle: () => undefined,
  });
  try {
    const { topic, partition, offset } = at;
    await reader.assign([{ topic, partition, offset }]);
    const fetched = await reader.poll(1, null);
    const record = fetched?.records[0];
    return record?.offset === offset ? record : null;
  } catch (error) {
    if (isOttlaError(error) && error.code === 'OFFSET_OUT_OF_RANGE') return null;
    throw error;
  } finally {
    await reader.close();
  }
}
