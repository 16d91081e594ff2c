import type { Headers } from './consumer-record.js';
import type { Engine, RecordFormat } from './engine.js';
import { OttlaError, unknownTopic, type RecordPlace } from './errors.js';

/** Of an error's stack as much is kept. */
const maxStackLength = 4096;

const prefix = 'ottla.dlq.';

/** A record as its bytes. */
export interface RawRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
}

const asBytes: RecordFormat<RawRecord & { readonly timestamp: number }> = {
  keepsBytes: true,
  make: (_partition, _offset, timestamp, key, value, headers) => ({
    timestamp,
    key,
    value,
    headers,
  }),
};

/** Sends records that failed for good to a topic of their own. */
export class DeadLetters {
  readonly #engine: Engine;
  readonly #send: (topic: string, record: RawRecord) => Promise<unknown>;
  readonly #topic: string;
  readonly #group: string | null;

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  constructor(
    engine: Engine,
    send: (topic: string, record: RawRecord) => Promise<unknown>,
    topic: string,
    group: string | null,
  ) {
    if (engine.topic(topic) === undefined) {
      throw unknownTopic(topic, 'run: retry.deadLetter: ');
    }
    this.#engine = engine;
    this.#send = send;
    this.#topic = topic;
    this.#group = group;
  }

  /** Durable once resolved. The record's bytes are read again: what was made of them tells them no more. */
  async add(failed: RecordPlace, error: unknown, attempts: number): Promise<void> {
    const { timestamp, key, value, headers } = await readRaw(this.#engine, failed);
    const { name, message, stack } = error instanceof Error ? error : describe(error);
    const reasons = {
      topic: failed.topic,
      partition: failed.partition,
      offset: failed.offset,
      timestamp,
      group: this.#group,
      attempts,
      error: `${name}: ${message}`,
      stack: stack?.slice(0, maxStackLength) ?? null,
    };
    const added = Object.entries(reasons).map(
      ([reason, text]) =>
        [`${prefix}${reason}`, text === null ? null : Buffer.from(String(text))] as const,
    );
    const own = headers.filter(([header]) => !header.startsWith(prefix));
    await this.#send(this.#topic, { key, value, headers: [...own, ...added] });
  }
}

/** Where a dead letter came from, and the headers that it had there. @throws INVALID_RECORD if it is none */
export function deadLetterOrigin(letter: {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly headers: Headers;
}): Pick<RecordPlace, 'topic' | 'partition'> & { timestamp: number; headers: Headers } {
  const reasons = new Map(letter.headers.map(([name, value]) => [name, value?.toString() ?? '']));
  const topic = reasons.get(`${prefix}topic`);
  const partition = Number(reasons.get(`${prefix}partition`));
  const timestamp = Number(reasons.get(`${prefix}timestamp`));
  if (topic !== undefined && Number.isSafeInteger(partition) && Number.isSafeInteger(timestamp)) {
    const headers = letter.headers.filter(([name]) => !name.startsWith(prefix));
    return { topic, partition, timestamp, headers };
  }
  const { topic: here, partition: number, offset } = letter;
  throw new OttlaError(
    'INVALID_RECORD',
    `${here}-${number}: the record at offset ${offset} is no dead letter: it has no headers ${prefix}*`,
    { at: { topic: here, partition: number, offset } },
  );
}

function describe(thrown: unknown): { name: string; message: string; stack?: string } {
  return { name: 'thrown', message: String(thrown) };
}

/** @throws OFFSET_OUT_OF_RANGE if the log no longer has it */
async function readRaw(
  engine: Engine,
  at: RecordPlace,
): Promise<RawRecord & { readonly timestamp: number }> {
  const reader = engine.reader({
    from: 'none',
    isolation: 'read_committed',
    formatFor: () => asBytes,
    idle: () => undefined,
  });
  try {
    const { topic, partition, offset } = at;
    await reader.assign([{ topic, partition, offset }]);
    const fetched = await reader.poll(1, null);
    const record = fetched?.baseOffset === offset ? fetched.records[0] : undefined;
    if (record !== undefined) return record;
    throw new OttlaError(
      'OFFSET_OUT_OF_RANGE',
      `${topic}-${partition} has no record ${offset} any more`,
    );
  } finally {
    await reader.close();
  }
}
