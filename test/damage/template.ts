import { cpSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, type Isolation, type RecordOf, type RecordToSend } from '../../src/index.js';
import { readBatchHeader } from '../../src/record.js';

/** What one partition holds. */
export interface KnownLog {
  readonly topic: string;
  readonly partition: number;
  /** Every record by offset, as text. */
  readonly records: ReadonlyMap<number, string>;
  /** Offsets of those that transactions have not aborted or left open. */
  readonly committed: ReadonlySet<number>;
  /** Offsets that compaction may remove: a later record has the key. */
  readonly superseded: ReadonlySet<number>;
  readonly timestamps: ReadonlyMap<number, number>;
  readonly end: number;
  /** Up to here all was durable when it was closed last. */
  readonly durableEnd: number;
}

/** A data directory that nobody has open, and what it holds. */
export interface Template {
  readonly directory: string;
  readonly wasKilled: boolean;
  readonly logs: readonly KnownLog[];
  /** What the group has committed, by `topic-partition`. */
  readonly commits: ReadonlyMap<string, number>;
}

export const group = 'readers';
const small = { segmentBytes: 2048, indexIntervalBytes: 256 };
const topics = { plain: 2, zipped: 1, decided: 2, keyed: 1, numbered: 1 } as const;
const firstTime = 1_700_000_000_000;

export function textOf(record: RecordOf<string>): string {
  const { key, value, timestamp, headers } = record;
  return JSON.stringify([key?.toString(), value?.toString(), timestamp, headers.map(String)]);
}

/** Sends to all topics, in their ways. */
class Filling {
  readonly #ottla: Ottla;
  #sent: number;

  constructor(ottla: Ottla, sent: number) {
    this.#ottla = ottla;
    this.#sent = sent;
  }

  #next(partition: number, keys = 1000): RecordToSend {
    const order = this.#sent++;
    const headers: Record<string, string> = order % 5 === 0 ? { n: `${order}` } : {};
    const value = `value ${order} `.padEnd(20 + (order % 7) * 20, '.');
    return { key: `k${order % keys}`, value, headers, partition, timestamp: firstTime + order };
  }

  async run(): Promise<number> {
    const ottla = this.#ottla;
    const plain = ottla.producer();
    for (let i = 0; i < 70; i++) await plain.send('plain', this.#next(i % 2));
    for (let i = 0; i < 60; i++) await plain.send('keyed', this.#next(0, 3));
    const zipping = ottla.producer({ compression: 'gzip' });
    for (let i = 0; i < 20; i++) {
      await zipping.sendBatch(
        'zipped',
        Array.from({ length: 10 }, () => this.#next(0)),
      );
    }
    const numbering = ottla.producer({ idempotent: true });
    for (let i = 0; i < 40; i++) await numbering.send('numbered', this.#next(0));
    const deciding = ottla.producer({ transactionalId: 'decider' });
    for (let i = 0; i < 16; i++) {
      const done = deciding.transaction(async (t) => {
        for (let j = 0; j < 4; j++) t.send('decided', this.#next(j % 2));
        await Promise.resolve();
        if (i % 3 === 1) throw new RangeError('aborted on purpose');
      });
      await done.catch((error: unknown) => {
        if (!(error instanceof RangeError)) throw error;
      });
    }
    for (const producer of [plain, zipping, numbering, deciding]) await producer.close();
    return this.#sent;
  }
}

async function offsetsOf(
  ottla: Ottla,
  topic: string,
  isolation: Isolation,
): Promise<Map<number, RecordOf<string>>[]> {
  const logs = Array.from(
    { length: topics[topic as keyof typeof topics] },
    () => new Map<number, RecordOf<string>>(),
  );
  for await (const record of ottla.read(topic, { isolation })) {
    logs[record.partition]!.set(record.offset, record);
  }
  return logs;
}

/** Compaction works by itself: until some of the first records are gone. */
async function compacted(ottla: Ottla): Promise<void> {
  for (;;) {
    const [log] = await offsetsOf(ottla, 'keyed', 'read_committed');
    if (!log!.has(0)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function look(
  ottla: Ottla,
  durable: ReadonlyMap<string, number>,
): Promise<Omit<Template, 'directory' | 'wasKilled'>> {
  const logs: KnownLog[] = [];
  for (const topic of Object.keys(topics)) {
    const all = await offsetsOf(ottla, topic, 'read_uncommitted');
    const committed = await offsetsOf(ottla, topic, 'read_committed');
    const { partitions } = await ottla.topics.describe(topic);
    for (const { partition, highWatermark } of partitions) {
      const entries = [...all[partition]!];
      logs.push({
        topic,
        partition,
        records: new Map(entries.map(([offset, record]) => [offset, textOf(record)])),
        committed: new Set(committed[partition]!.keys()),
        superseded: topic === 'keyed' ? supersededIn(entries) : new Set(),
        timestamps: new Map(entries.map(([offset, { timestamp }]) => [offset, timestamp])),
        end: highWatermark,
        durableEnd: durable.get(`${topic}-${partition}`) ?? highWatermark,
      });
    }
  }
  const { partitions } = await ottla.groups.describe(group);
  const commits = new Map(partitions.map((at) => [`${at.topic}-${at.partition}`, at.committed]));
  return { logs, commits };
}

function supersededIn(entries: readonly (readonly [number, RecordOf<string>])[]): Set<number> {
  const latest = new Map(entries.map(([offset, { key }]) => [String(key), offset]));
  const last = new Set(latest.values());
  return new Set(entries.map(([offset]) => offset).filter((offset) => !last.has(offset)));
}

/** Makes a directory that was closed, and a copy of it as a kill leaves it some records later. */
export async function makeTemplates(place: string): Promise<readonly Template[]> {
  const closedAt = join(place, 'closed');
  const killedAt = join(place, 'killed');
  const ottla = await Ottla.open(closedAt);
  for (const [topic, partitions] of Object.entries(topics)) {
    const cleaning =
      topic === 'keyed' ? ({ cleanupPolicy: 'compact', minCleanableDirtyRatio: 0.1 } as const) : {};
    await ottla.topics.create(topic, { ...small, ...cleaning, partitions });
  }
  const sent = await new Filling(ottla, 0).run();
  await compacted(ottla);
  await ottla.groups.resetOffsets(group, { to: { offset: 20 }, topic: 'plain' });
  await ottla.groups.resetOffsets(group, { to: 'latest', topic: 'decided' });
  const closed = await look(ottla, new Map());
  await ottla.close();
  cpSync(closedAt, killedAt, { recursive: true });
  const working = await Ottla.open(killedAt);
  await new Filling(working, sent).run();
  await compacted(working);
  const durable = new Map(
    closed.logs.map(({ topic, partition, end }) => {
      const bases = basesIn(join(killedAt, `${topic}-${partition}`));
      return [`${topic}-${partition}`, Math.max(end, bases.at(-1)!)];
    }),
  );
  const killed = await look(working, durable);
  const directory = join(place, 'copy of killed');
  cpSync(killedAt, directory, { recursive: true });
  await working.close();
  return [
    { directory: closedAt, wasKilled: false, ...closed },
    { directory, wasKilled: true, ...killed },
  ];
}

export function basesIn(directory: string): number[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.log'))
    .map((name) => Number.parseInt(name, 10));
}

/** A batch's place in its file, and what else it says. */
export interface BatchPlace {
  readonly start: number;
  readonly end: number;
  readonly baseOffset: number;
  readonly nextOffset: number;
}

export function batchesIn(path: string): BatchPlace[] {
  const bytes = readFileSync(path);
  const found: BatchPlace[] = [];
  for (let start = 0; start < bytes.length;) {
    const { size, baseOffset, nextOffset } = readBatchHeader(bytes, start, bytes.length)!;
    found.push({ start, end: start + size, baseOffset, nextOffset });
    start += size;
  }
  return found;
}
