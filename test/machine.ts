import { join } from 'node:path';
import { Broker } from '../src/broker.js';
import type { OttlaError } from '../src/errors.js';
import { RecordReader } from '../src/record-reader.js';
import { checkBatch, readBatchHeader } from '../src/record.js';
import { encodeBatch } from '../src/record-writer.js';
import type { Partition } from '../src/partition.js';
import { PartitionReader } from '../src/partition-reader.js';
import type { TopicSettings } from '../src/options.js';
import type { FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { MemoryStore } from '../src/storage/memory-store.js';
import type {
  Change,
  Key,
  KeyPrefix,
  MetaStore,
  Row,
  RowKind,
  Rows,
} from '../src/storage/meta-store.js';
import { SyncQueue } from '../src/storage/sync-queue.js';
import { ManualClock } from './manual-clock.js';

/** Rows that outlive the brokers which close them. */
export class LastingStore implements MetaStore {
  readonly #rows = new MemoryStore();

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    return this.#rows.get(key);
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    return this.#rows.range(prefix);
  }

  write(changes: readonly Change[]): Promise<void> {
    return this.#rows.write(changes);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

/** Files and rows in memory that outlive the brokers on them, as a disk outlives processes. */
export class Machine {
  readonly clock: ManualClock = new ManualClock();
  /** Replaced to inject faults, or to look on. */
  files: FileSystem = new MemoryFiles();
  store: MetaStore = new LastingStore();

  #state = 1;

  /** Park and Miller's minimal standard: the same ids in every run. */
  #random(): number {
    this.#state = (this.#state * 16_807) % 2_147_483_647;
    return this.#state / 2_147_483_648;
  }

  /** Opens as after a start of the process; the broker before is closed, or forgotten: that is a kill. */
  async open(
    options: { readonly readOnly?: boolean; readonly offsetsRetentionMs?: number } = {},
  ): Promise<Broker> {
    const { readOnly = false, offsetsRetentionMs = Infinity } = options;
    const broker = new Broker({
      directory: '/',
      files: this.files,
      store: this.store,
      clock: this.clock,
      random: () => this.#random(),
      syncs: new SyncQueue(2),
      readOnly,
      defaults: {},
      offsetsRetentionMs,
    });
    if (!readOnly) await broker.recover();
    return broker;
  }

  /** A file's bytes, of partition 0 of topic t unless said otherwise. */
  read(name: string, directory = '/t-0'): Buffer {
    const bytes = this.files.readFile(join(directory, name));
    if (bytes === undefined) throw new Error(`no file ${directory}/${name}`);
    return bytes;
  }

  /** Replaces a file's bytes, behind the back of whoever has it open; undefined removes it. */
  write(name: string, bytes: Uint8Array | undefined, directory = '/t-0'): void {
    const path = join(directory, name);
    this.files.removeFile(path);
    if (bytes === undefined) return;
    const file = this.files.open(path, 'write');
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  }

  append(name: string, bytes: Uint8Array, directory = '/t-0'): void {
    this.write(name, Buffer.concat([this.read(name, directory), bytes]), directory);
  }

  names(directory = '/t-0'): string[] {
    return this.files.list(directory);
  }
}

export const firstLog = '00000000000000000000.log';

/** Creates topic t with one partition, unless said otherwise. */
export async function createTopic(
  broker: Broker,
  settings: Partial<TopicSettings> = {},
  partitionCount = 1,
  name = 't',
): Promise<Partition> {
  const codecs = { key: null, value: null };
  const topic = await broker.topics.create({ name, partitionCount, settings, codecs });
  return topic.partition(0);
}

export function partitionOf(broker: Broker, partition = 0, topic = 't'): Partition {
  return broker.topics.partition({ topic, partition });
}

/** A whole batch of records with these values, as a producer would hand it over. */
export function batchOf(values: readonly string[], options: BatchOptions = {}): Buffer {
  const { baseOffset = 0, timestamp = 1000 } = options;
  return encodeBatch({
    baseOffset,
    leaderEpoch: options.leaderEpoch ?? 0,
    records: values.map((value, i) => ({
      offset: baseOffset + i,
      timestamp: timestamp + i,
      key: null,
      value,
    })),
  });
}

interface BatchOptions {
  readonly baseOffset?: number;
  /** Of the first record; each further one is 1 ms later. */
  readonly timestamp?: number;
  readonly leaderEpoch?: number;
}

/** Appends one batch; resolves to its base offset once written, or durable. */
export function append(partition: Partition, bytes: Buffer, acks: 1 | 'all' = 1): Promise<number> {
  return new Promise((resolve, reject) => {
    let base = -1;
    partition.append(bytes, 0, bytes.length, acks === 'all', {
      written(baseOffset) {
        base = baseOffset;
        if (acks === 1) resolve(base);
      },
      durable: () => resolve(base),
      failed: reject,
    });
  });
}

export interface ReadRecord {
  readonly offset: number;
  readonly timestamp: number;
  readonly value: string;
}

/** All records from an offset on. @throws what the log says of damage, and for a CRC that is wrong */
export async function readFrom(partition: Partition, offset: number): Promise<ReadRecord[]> {
  const found: ReadRecord[] = [];
  await readInto(found, partition, offset);
  return found;
}

/** As readFrom(), record by record: what was read before an error is there. */
export async function readInto(
  found: ReadRecord[],
  partition: Partition,
  offset: number,
): Promise<void> {
  const reader = new PartitionReader(partition, offset);
  const records = new RecordReader();
  let buffer = Buffer.alloc(4096);
  for (;;) {
    const length = await reader.readAsync(buffer);
    if (length === 0) return;
    if (length < 0) {
      buffer = Buffer.alloc(-length);
      continue;
    }
    for (let at = 0; at < length;) {
      const batch = readBatchHeader(buffer, at, length)!;
      checkBatch(buffer, at, batch);
      records.open(buffer, at, batch, offset);
      while (records.next()) {
        const value = String(records.value(false));
        found.push({ offset: records.offset, timestamp: records.timestamp, value });
      }
      at += batch.size;
    }
  }
}

/** The values of all records, which must have every offset from the log's start on, once. */
export async function valuesIn(partition: Partition): Promise<string[]> {
  const { logStartOffset } = partition;
  const records = await readFrom(partition, logStartOffset);
  for (const [i, { offset }] of records.entries()) {
    if (offset === logStartOffset + i) continue;
    throw new Error(`expected offset ${logStartOffset + i}, read ${offset}`);
  }
  return records.map(({ value }) => value);
}

/** What the promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<OttlaError> {
  try {
    await promise;
  } catch (error) {
    return error as OttlaError;
  }
  throw new Error('expected a rejection');
}
