import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, type RecordToSend } from '../../src/index.js';

/** A record as Kafka's tools tell of it. Header values only where they are told. */
export interface SeenRecord {
  readonly offset: number;
  readonly timestamp: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: string;
}

export interface WrittenLogs {
  readonly directory: string;
  /** By topic-partition, in order of their offsets. */
  readonly records: ReadonlyMap<string, readonly (RecordToSend & { readonly timestamp: number })[]>;
}

const headers = [
  ['trace', 'abc'],
  ['trace', null],
  ['größe', '1 µm'],
  ['empty', ''],
] as const;

const oddRecords: readonly RecordToSend[] = [
  { key: 'a', value: 'plain' },
  { key: null, value: 'no key' },
  { key: 'no value', value: null },
  { key: null, value: null },
  { key: '', value: '' },
  { key: 'schlüssel 🗝', value: 'żółć 日本語 🙂' },
  { key: 'with headers', value: 'v', headers },
  { key: Buffer.from('bytes'), value: new Uint8Array([65, 66, 67]) },
  { key: 'old', value: 'of 1970', timestamp: 0 },
  { key: 'long', value: 'x'.repeat(20_000) },
];

/** Numbered records with keys, and timestamps that go up and down. */
function* numbered(count: number): Generator<RecordToSend & { timestamp: number }> {
  for (let i = 0; i < count; i++) {
    const timestamp = 1_700_000_000_000 + ((i * 7919) % 5000);
    yield { key: `key-${i % 40}`, value: `value ${i} ${'.'.repeat(i % 90)}`, timestamp };
  }
}

/**
 * Writes a data directory and closes it. Topic `orders` has 3 partitions of many small segments, filled
 * by single sends and by sendBatch; the timestamps of topic `stamped` are the log's.
 */
export async function writeLogs(directory: string): Promise<WrittenLogs> {
  const records = new Map<string, (RecordToSend & { timestamp: number })[]>();
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('orders', {
    partitions: 3,
    segmentBytes: 24 * 1024,
    indexIntervalBytes: 512,
  });
  await ottla.topics.create('stamped', { messageTimestampType: 'LogAppendTime' });
  const producer = ottla.producer();
  const send = async (topic: string, record: RecordToSend): Promise<void> => {
    const { partition, offset, timestamp } = await producer.send(topic, record);
    const name = `${topic}-${partition}`;
    const list = records.get(name) ?? [];
    list[offset] = { ...record, timestamp };
    records.set(name, list);
  };
  for (const record of oddRecords) await send('orders', record);
  // In many small batches, so that segments have several index entries.
  for (let i = 0; i < 3000; i += 30) {
    const some = [...numbered(3000)].slice(i, i + 30);
    await Promise.all(some.map((record) => send('orders', record)));
  }
  const batch = [...numbered(3000)].map((record) => ({ ...record, partition: 2 }));
  for (const { partition, baseOffset, count } of await producer.sendBatch('orders', batch)) {
    const list = records.get(`orders-${partition}`)!;
    for (let i = 0; i < count; i++) list[baseOffset + i] = batch[i]!;
  }
  for (const record of [...oddRecords, ...numbered(100)]) await send('stamped', record);
  await ottla.close();
  return { directory, records };
}

/** A partition's files with this ending. */
export function filesOf(directory: string, name: string, ending: string): string[] {
  return readdirSync(join(directory, name))
    .filter((file) => file.endsWith(ending))
    .map((file) => join(directory, name, file));
}

/** What a tool should tell of a record. */
export function asSeen(
  record: RecordToSend & { readonly timestamp: number },
  offset: number,
  shownHeaders: (list: readonly (readonly [string, string | null])[]) => string,
): SeenRecord {
  return {
    offset,
    timestamp: record.timestamp,
    key: text(record.key),
    value: text(record.value),
    headers: shownHeaders(record.headers === undefined ? [] : headers),
  };
}

function text(bytes: Uint8Array | string | null | undefined): string | null {
  if (bytes === null || bytes === undefined) return null;
  return typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString();
}
