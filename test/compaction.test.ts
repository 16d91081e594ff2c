import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { RecordReader } from '../src/record-reader.js';
import { readBatchHeader, type BatchHeader } from '../src/record.js';
import { encodeBatch } from '../src/record-writer.js';
import { emptyRecoveryPoint } from '../src/partition-row.js';
import { readMarker } from '../src/record-marker.js';
import {
  CleaningPlan,
  Pace,
  TransactionsCleaned,
  groupSegments,
  writeCleaned,
} from '../src/storage/compaction.js';
import type { AbortedTransaction } from '../src/storage/transaction-index.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { emptySum } from '../src/storage/meta-store.js';
import { OpenFiles } from '../src/storage/open-files.js';
import { Segment } from '../src/storage/segment.js';
import { SyncQueue } from '../src/storage/sync-queue.js';
import { ManualClock } from './manual-clock.js';

interface VectorRecord {
  readonly offset: number;
  readonly key: string | null;
  /** In place of the key. */
  readonly keyHex?: string;
  readonly value: string | null;
  readonly timestamp?: number;
}

interface VectorBatch {
  readonly kind: 'plain' | 'idempotent' | 'transactional' | 'commit' | 'abort';
  readonly baseOffset: number;
  readonly records?: readonly VectorRecord[];
  readonly producerId?: number;
  readonly baseSequence?: number;
}

interface Vector {
  readonly id: string;
  readonly source: string;
  readonly closedSegments: readonly (readonly VectorBatch[])[];
  readonly passes: readonly Pass[];
}

interface Pass {
  /** A text: where the pass before ended. */
  readonly firstDirtyOffset?: number | string;
  readonly firstUncleanableOffset?: number;
  readonly keysLeftInOrder?: readonly string[];
  readonly offsetsLeft?: readonly number[];
  readonly lastOffsetOfEachBatch?: readonly number[];
  readonly lastSequenceOfProducers?: Readonly<Record<string, number>>;
  readonly nextDirtyOffset?: number;
  readonly valuesGone?: readonly string[];
  /** In place of a pass: what is appended. */
  readonly append?: readonly VectorBatch[] | VectorBatch;
  readonly appendToActiveSegment?: readonly VectorBatch[];
  /** When the pass runs; "two passes" are one, and another when delete horizons are over. */
  readonly time?: string;
}

const file = new URL('vectors/compaction.json', import.meta.url);
const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as { vectors: readonly Vector[] };
const isTransactional = ({ closedSegments }: Vector): boolean =>
  closedSegments.flat().some(({ kind }) => kind !== 'plain' && kind !== 'idempotent');

const day = 86_400_000;
const retention = day;
/** Bytes of a map with room for so many keys. */
const roomFor = (keys: number): number => Math.ceil(24 * (keys / 0.75 + 1.1));

/** A log of sealed segments, and passes of the cleaner over it, with nothing around them. */
class Log {
  readonly clock = new ManualClock();
  segments: Segment[] = [];
  readonly aborted: AbortedTransaction[] = [];
  /** First offsets of open transactions. */
  readonly #open = new Map<bigint, number>();
  readonly #openFiles = new OpenFiles(new MemoryFiles());
  #directories = 0;

  #newSegment(baseOffset: number): Segment {
    const directory = `/${this.#directories++}`;
    this.#openFiles.files.makeDirectory(directory);
    const segment = new Segment(this.#openFiles, directory, baseOffset, 4096);
    segment.restoreActive(emptyRecoveryPoint(baseOffset), true);
    return segment;
  }

  /** Adds a sealed segment; it ends at `nextOffset`. */
  add(batches: readonly Buffer[], nextOffset?: number): void {
    const segment = this.#newSegment(
      readBatchHeader(batches[0]!, 0, batches[0]!.length)!.baseOffset,
    );
    for (const batch of batches) {
      segment.write(batch, 0, batch.length);
      const header = readBatchHeader(batch, 0, batch.length)!;
      segment.added(header);
      this.#noteTransaction(batch, header);
    }
    segment.nextOffset = nextOffset ?? segment.nextOffset;
    this.segments.push(segment);
  }

  #noteTransaction(batch: Buffer, header: BatchHeader): void {
    const { producerId, baseOffset, isTransactional: isPart, isControl } = header;
    if (!isPart) return;
    const firstOffset = this.#open.get(producerId);
    if (!isControl) {
      this.#open.set(producerId, firstOffset ?? baseOffset);
      return;
    }
    this.#open.delete(producerId);
    if (firstOffset === undefined || readMarker(batch, 0, header)!.isCommit) return;
    const lastStableOffset = Math.min(...this.#open.values(), baseOffset + 1);
    this.aborted.push({ producerId, firstOffset, lastOffset: baseOffset, lastStableOffset });
  }

  get nextOffset(): number {
    return this.segments.at(-1)!.nextOffset;
  }

  plan(firstDirtyOffset: number, options: PassOptions = {}): Promise<CleaningPlan> {
    const { endOffset = this.nextOffset, mapRoom = 1000 } = options;
    const terms = {
      firstDirtyOffset,
      endOffset,
      aborted: this.aborted,
      maxMapBytes: roomFor(mapRoom),
      deleteRetentionMs: retention,
      now: this.clock.now(),
    };
    const sealed = this.segments.filter(({ baseOffset }) => baseOffset < endOffset);
    return CleaningPlan.read(sealed, terms, new Pace(this.clock));
  }

  /** @returns where the next pass begins */
  async clean(firstDirtyOffset: number, options: PassOptions = {}): Promise<number> {
    const plan = await this.plan(firstDirtyOffset, options);
    const pace = new Pace(this.clock);
    const transactions = new TransactionsCleaned(this.aborted);
    const cleaned: Segment[] = [];
    const cleanable = this.segments.filter(({ baseOffset }) => baseOffset < plan.endOffset);
    for (const group of groupSegments(cleanable, 2 ** 30)) {
      const segment = this.#newSegment(group[0]!.baseOffset);
      await writeCleaned(group, segment, plan, transactions, pace, new SyncQueue(1));
      segment.nextOffset = group.at(-1)!.nextOffset;
      cleaned.push(segment);
    }
    this.segments.splice(0, cleanable.length, ...cleaned);
    return plan.endOffset;
  }

  batches(): { readonly header: BatchHeader; readonly records: VectorRecord[] }[] {
    return this.segments.flatMap((segment) => {
      const bytes = Buffer.alloc(segment.size);
      segment.read(bytes, segment.size, 0);
      const batches = [];
      for (let at = 0; at < bytes.length;) {
        const header = readBatchHeader(bytes, at, bytes.length)!;
        const reader = new RecordReader();
        const records: VectorRecord[] = [];
        reader.open(bytes, at, header);
        while (reader.next()) {
          const { offset, timestamp } = reader;
          const key = reader.key(true)?.toString() ?? null;
          records.push({ offset, timestamp, key, value: reader.value(true)?.toString() ?? null });
        }
        batches.push({ header, records });
        at += header.size;
      }
      return batches;
    });
  }

  records(): VectorRecord[] {
    return this.batches().flatMap(({ records }) => records);
  }

  offsets(): number[] {
    return this.records().map(({ offset }) => offset);
  }
}

interface PassOptions {
  readonly endOffset?: number;
  readonly mapRoom?: number;
}

/** A transaction's end: version and type, then version and coordinator epoch. */
function marker({ kind, baseOffset, producerId }: VectorBatch, timestamp: number): Buffer {
  const key = Buffer.from([0, 0, 0, kind === 'commit' ? 1 : 0]);
  return encodeBatch({
    baseOffset,
    leaderEpoch: 0,
    records: [{ offset: baseOffset, timestamp, key, value: Buffer.alloc(6) }],
    producerId: BigInt(producerId!),
    producerEpoch: 0,
    isTransactional: true,
    isControl: true,
  });
}

function batchOf(batch: VectorBatch, timestamp: number): Buffer {
  const { kind, baseOffset, records = [], producerId, baseSequence = 0 } = batch;
  if (kind === 'commit' || kind === 'abort') return marker(batch, timestamp);
  return encodeBatch({
    baseOffset,
    leaderEpoch: 0,
    records: records.map(({ keyHex, ...one }) => ({
      timestamp,
      ...one,
      key: keyHex === undefined ? one.key : Buffer.from(keyHex, 'hex'),
    })),
    ...(producerId === undefined
      ? {}
      : {
          producerId: BigInt(producerId),
          producerEpoch: 0,
          baseSequence,
          isTransactional: kind === 'transactional',
        }),
  });
}

function plain(...records: readonly VectorRecord[]): Buffer {
  return batchOf({ kind: 'plain', baseOffset: records[0]!.offset, records }, 1000);
}

const record = (offset: number, key: string, value: string | null): VectorRecord => ({
  offset,
  key,
  value,
});

function logOf(id: string): { log: Log; vector: Vector } {
  const vector = vectors.find((candidate) => candidate.id === id)!;
  const log = new Log();
  const { closedSegments } = vector;
  for (const [i, batches] of closedSegments.entries()) {
    const next = closedSegments[i + 1]?.[0]?.baseOffset;
    log.add(
      batches.map((batch) => batchOf(batch, log.clock.now())),
      next,
    );
  }
  return { log, vector };
}

/** What the passes of the vectors speak of. */
function leftIn(log: Log): Omit<Pass, 'firstDirtyOffset'> {
  const batches = log.batches();
  const withRecords = batches.filter(({ header }) => !header.isControl);
  const withProducer = withRecords.filter(({ header }) => header.hasProducerId);
  return {
    keysLeftInOrder: withRecords.flatMap(({ records }) => records.map(({ key }) => key!)),
    offsetsLeft: log.offsets(),
    lastOffsetOfEachBatch: batches.map(({ header }) => header.lastOffset),
    lastSequenceOfProducers: Object.fromEntries(
      withProducer.map(({ header }) => [String(header.producerId), header.lastSequence]),
    ),
  };
}

/** The part of it that a pass says something of. */
function expectedIn(pass: Pass): Partial<Pass> {
  const names = Object.keys(leftIn(new Log())) as (keyof Pass)[];
  return Object.fromEntries(names.flatMap((name) => (name in pass ? [[name, pass[name]]] : [])));
}

describe("Kafka's LogCleanerTest", () => {
  const simple = ['c013', 'c021', 'c022', 'c023', 'c024'];
  it.each(vectors.filter(({ id }) => simple.includes(id)).map(({ id, source }) => [id, source]))(
    '%s: %s',
    async (id) => {
      const { log, vector } = logOf(id);
      const before = log.records();
      for (const pass of vector.passes) {
        const { firstDirtyOffset, firstUncleanableOffset, nextDirtyOffset } = pass;
        const endOffset = firstUncleanableOffset ?? nextDirtyOffset ?? log.nextOffset;
        expect(await log.clean(Number(firstDirtyOffset), { endOffset })).toBe(endOffset);
        expect(leftIn(log)).toMatchObject(expectedIn(pass));
        for (const survivor of log.records()) expect(before).toContainEqual(survivor);
      }
    },
  );

  it('c016: testPartialSegmentClean', async () => {
    const { log, vector } = logOf('c016');
    for (const pass of vector.passes) {
      const next = await log.clean(Number(pass.firstDirtyOffset), { mapRoom: 1 });
      expect(next).toBe(Math.min(Number(pass.firstDirtyOffset) + 1, 5));
      expect(leftIn(log)).toMatchObject(expectedIn(pass));
    }
  });

  it('c017: testBuildPartialOffsetMap', async () => {
    const { log } = logOf('c017');
    const plan = await log.plan(2, { mapRoom: 2 });
    expect(plan.endOffset).toBe(4);
    const latest = ['0', '1', '2', '3', '4'].map((key) => plan.latestOffset(Buffer.from(key)));
    expect(latest).toEqual([-1, -1, 2, 3, -1]);
  });

  it('c019: testCleaningWithDeletes', async () => {
    const { log, vector } = logOf('c019');
    await log.clean(0);
    const gone = vector.passes[0]!.valuesGone!;
    expect(log.records().filter(({ key, value }) => gone.includes(key!) && value !== null)).toEqual(
      [],
    );
    expect(log.offsets()).toEqual([1, 3, 5, 6, 7, 8, 9]);
    await log.clock.advance(retention - 1);
    await log.clean(10);
    expect(log.offsets()).toEqual([1, 3, 5, 6, 7, 8, 9]);
    await log.clock.advance(1);
    await log.clean(10);
    expect(log.offsets()).toEqual([1, 3, 5, 9]);
  });

  it('c020: testCleanTombstone', async () => {
    const log = new Log();
    const now = log.clock.now();
    const put = (offset: number, key: string, value: string | null, timestamp: number): void =>
      log.add([
        batchOf(
          { kind: 'plain', baseOffset: offset, records: [{ offset, key, value, timestamp }] },
          0,
        ),
      ]);
    put(0, '0', 'v0', now + retention + 10_000);
    await log.clean(0);
    put(1, '0', null, now - retention - 10_000);
    await log.clean(1);
    expect(log.offsets()).toEqual([1]);
    put(2, '1', '1', now);
    await log.clean(2);
    expect(log.offsets()).toEqual([1, 2]);
    expect(log.records()[0]!.timestamp).toBe(now - retention - 10_000);
  });

  it.each(vectors.filter(isTransactional).map(({ id, source }) => [id, source]))(
    '%s: %s',
    async (id) => {
      const { log, vector } = logOf(id);
      let end = 0;
      for (const pass of vector.passes) {
        const appended = [pass.append ?? pass.appendToActiveSegment ?? []].flat();
        if (appended.length > 0) {
          log.add(appended.map((batch) => batchOf(batch, log.clock.now())));
          continue;
        }
        const from = typeof pass.firstDirtyOffset === 'number' ? pass.firstDirtyOffset : end;
        // What came last in this case is in the active segment.
        const endOffset = id === 'c003' ? log.segments.at(-1)!.baseOffset : log.nextOffset;
        const { time = 't' } = pass;
        if (/^(?:end of time|later than)/.test(time)) await log.clock.advance(retention + 1);
        end = await log.clean(from, { endOffset });
        if (time.startsWith('two passes')) {
          await log.clock.advance(retention + 1);
          end = await log.clean(from, { endOffset });
        }
        expect(leftIn(log)).toMatchObject(expectedIn(pass));
      }
    },
  );

  it('has no case that is not named here', () => {
    const named = [...simple, 'c016', 'c017', 'c019', 'c020'];
    const rest = vectors.filter((vector) => !named.includes(vector.id) && !isTransactional(vector));
    expect(rest).toEqual([]);
  });
});

describe('a batch', () => {
  it('keeps its offsets, origin and times when it is written anew', async () => {
    const log = new Log();
    const origin = { producerId: 2n ** 40n, producerEpoch: 3, baseSequence: 7 };
    const records = [record(10, 'a', 'A'), record(11, 'b', 'B'), record(12, 'c', null)];
    log.add([
      encodeBatch({
        baseOffset: 10,
        lastOffset: 14,
        leaderEpoch: 5,
        records: records.map((one, i) => ({ ...one, timestamp: 1000 + i, headers: [['h', '1']] })),
        ...origin,
      }),
      plain(record(15, 'a', 'A2')),
    ]);
    await log.clean(10);
    const [first] = log.batches();
    expect(first!.header).toMatchObject({
      baseOffset: 10,
      lastOffset: 14,
      leaderEpoch: 5,
      recordCount: 2,
      maxTimestamp: 1002,
      hasDeleteHorizon: true,
      baseTimestamp: log.clock.now() + retention,
      ...origin,
    });
    expect(first!.records).toEqual([
      { offset: 11, timestamp: 1001, key: 'b', value: 'B' },
      { offset: 12, timestamp: 1002, key: 'c', value: null },
    ]);
  });

  it('keeps the time of the log, if that is what it has', async () => {
    const log = new Log();
    const records = [record(0, 'a', 'A'), record(1, 'b', 'B')];
    log.add([
      encodeBatch({
        baseOffset: 0,
        leaderEpoch: 0,
        records: records.map((one) => ({ ...one, timestamp: 1 })),
        logAppendTime: 5000,
      }),
      plain(record(2, 'a', 'A2')),
    ]);
    await log.clean(0);
    expect(log.batches()[0]!.header.isLogAppendTime).toBe(true);
    expect(log.records()[0]).toEqual({ offset: 1, timestamp: 5000, key: 'b', value: 'B' });
  });

  it('of one producer is kept empty only as long as it is its last one', async () => {
    const log = new Log();
    const of = (offset: number, key: string, baseSequence: number): Buffer =>
      batchOf(
        {
          kind: 'idempotent',
          baseOffset: offset,
          records: [record(offset, key, 'v')],
          producerId: 1,
          baseSequence,
        },
        1000,
      );
    log.add([of(0, 'a', 0), of(1, 'b', 1)]);
    await log.clean(0);
    log.add([plain(record(2, 'a', 'w'), record(3, 'b', 'w'))]);
    await log.clean(2);
    expect(log.batches().map(({ header }) => [header.lastOffset, header.recordCount])).toEqual([
      [1, 0],
      [3, 2],
    ]);
    log.add([of(4, 'c', 2)]);
    await log.clean(4);
    expect(log.batches().map(({ header }) => header.lastOffset)).toEqual([3, 4]);
  });

  it('that is damaged ends the pass', async () => {
    const log = new Log();
    const bytes = plain(record(0, 'a', 'A'));
    bytes[bytes.length - 2]! ^= 1;
    log.add([bytes]);
    await expect(log.clean(0)).rejects.toMatchObject({ code: 'CORRUPT_MESSAGE' });
  });

  it('larger than what is read at once is cleaned as any', async () => {
    const log = new Log();
    const large = 'x'.repeat(3 * 1024 * 1024);
    log.add([plain(record(0, 'a', 'A')), plain(record(1, 'b', large)), plain(record(2, 'a', 'B'))]);
    await log.clean(0);
    expect(log.offsets()).toEqual([1, 2]);
    expect(log.records()[0]!.value).toBe(large);
  });
});

describe('a tombstone', () => {
  it('is kept where the map has not been read to: what it deletes may still be there', async () => {
    const log = new Log();
    log.add([plain(record(0, 'a', 'A')), plain(record(1, 'b', 'B')), plain(record(2, 'a', null))]);
    await log.clean(0, { mapRoom: 1, endOffset: 3 });
    await log.clock.advance(retention + 1);
    const next = await log.clean(0, { mapRoom: 1 });
    expect(next).toBe(1);
    expect(log.offsets()).toEqual([0, 1, 2]);
  });
});

function grouped(segments: readonly Segment[]): number[][] {
  return groupSegments(segments, 100).map((group) => group.map(({ baseOffset }) => baseOffset));
}

describe('segments', () => {
  it('are put together as long as they fit one, by bytes and by offsets', () => {
    const files = new OpenFiles(new MemoryFiles());
    const sized = (baseOffset: number, nextOffset: number, size: number): Segment => {
      const segment = new Segment(files, '/', baseOffset, 4096);
      const end = { nextOffset, bytes: size, lastBatchBytes: 0, lastCrc: 0 };
      const row = { ...end, maxTimestamp: -1, checksum: 0 };
      segment.restoreSealed({ ...row, transactionIndex: emptySum });
      return segment;
    };
    expect(grouped([sized(0, 1, 50), sized(1, 2, 50), sized(2, 3, 1), sized(3, 4, 200)])).toEqual([
      [0, 1],
      [2],
      [3],
    ]);
    const last = 2 ** 31;
    expect(grouped([sized(0, 5, 1), sized(5, last, 1), sized(last, last + 1, 1)])).toEqual([
      [0, 5],
      [last],
    ]);
  });
});
