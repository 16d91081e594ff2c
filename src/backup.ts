import { dirname, join, resolve } from 'node:path';
import type { TopicPartition } from './assignment.js';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import { Slices } from './storage/batch-cursor.js';
import {
  encodePartitionMetadata,
  newTopicId,
  parseSegmentFileName,
  partitionMetadataFile,
  segmentFileName,
} from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import {
  put,
  type Change,
  type Key,
  type MetaStore,
  type PartitionRow,
  type Row,
  type SegmentRow,
  type TopicRow,
} from './storage/meta-store.js';

const chunkBytes = 1024 * 1024;
const formatVersion = 1;
const epochsFile = 'leader-epoch-checkpoint';
/** How often a partition is copied anew that changed meanwhile, before its segments are held. */
const maxTries = 3;
const logFiles = ['log', 'index', 'timeindex', 'txnindex'] as const;

/** What is copied: the files and rows of an Ottla in use. */
export interface BackupSource {
  readonly directory: string;
  readonly files: FileSystem;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly random: () => number;
  /** Runs `work` while no segment of the partition is freed or compacted. */
  readonly holdSegments: (at: TopicPartition, work: () => Promise<void>) => Promise<void>;
}

/**
 * Copies a data directory in use to an empty one. Order: all rows, at one moment; then sealed segments;
 * then active ones, up to their end at the moment of the rows, so that of a transaction which ends later
 * neither records nor offsets are in the copy; then the rows into the copy, and last its
 * meta.properties: a copy that was interrupted is METADATA_LOST. So no commit is ahead of its log.
 * @throws KAFKA_STORAGE_ERROR; CORRUPT_MESSAGE if a file is shorter than its row says; ABORTED
 */
export async function backupTo(
  source: BackupSource,
  path: string,
  signal?: AbortSignal,
  disk?: Disk,
): Promise<void> {
  const target = resolve(path);
  const { files, openStore } = disk ?? (await systemDisk());
  try {
    refuseUsed(files, target);
    const changes = await new Backup(source, files, target, signal).run();
    const meta = join(target, 'meta');
    files.makeDirectory(meta);
    const storeId = source.store.get(['store'])?.storeId ?? newTopicId(source.random);
    const store = await openStore(meta);
    try {
      await store.write([put(['store'], { formatVersion, storeId }), ...changes]);
    } finally {
      await store.close();
    }
    await files.syncDirectory(meta);
    await files.syncDirectory(target);
    await files.replaceFile(
      join(target, 'meta.properties'),
      Buffer.from(`version=${formatVersion}\nstore.id=${storeId}\n`),
    );
    await files.syncDirectory(dirname(target));
  } catch (error) {
    throw asStorageError(`backup to ${target}`, error, false);
  }
}

function refuseUsed(files: FileSystem, target: string): void {
  files.makeDirectory(target);
  const [name] = files.list(target);
  if (name === undefined) return;
  throw new OttlaError(
    'KAFKA_STORAGE_ERROR',
    `backup to ${target}: expected an empty directory, got one with ${name} in it`,
    { retriable: false },
  );
}

interface PartitionRows {
  readonly row: PartitionRow | undefined;
  readonly sealed: readonly Row<'segment'>[];
}

/** A partition at one moment. */
interface PartitionState extends PartitionRows {
  /** Bytes of the active segment: what was committed later ends in markers behind them. */
  readonly bytes: number;
  /** Of the producers, at the recovery point. */
  readonly snapshot: Buffer | undefined;
}

/** By base offset: the row of each sealed segment that was copied. */
type CopiedSegments = Map<number, SegmentRow>;

class Backup {
  readonly #source: BackupSource;
  readonly #files: FileSystem;
  readonly #target: string;
  readonly #slices: Slices;

  constructor(
    source: BackupSource,
    files: FileSystem,
    target: string,
    signal: AbortSignal | undefined,
  ) {
    this.#source = source;
    this.#files = files;
    this.#target = target;
    this.#slices = new Slices(source.clock, `backup to ${target}`, signal);
  }

  /** @returns the rows of what was copied, but the store's own */
  async run(): Promise<Change[]> {
    const { store } = this.#source;
    // All in one turn, in which no commit can show.
    const topics = [...store.range(['topic'])];
    const groups = [...store.range(['group']), ...store.range(['transaction'])].map(
      ({ key, value }) => put(key, value),
    );
    const offsets = [...store.range(['offset'])];
    const rows = topics.map(({ key, value }) =>
      Array.from({ length: value.partitions }, (_, partition) =>
        this.#look(key[1], value.id, partition),
      ),
    );
    const changes: Change[] = [...groups];
    const copied = new Set<string>();
    for (const [i, { key, value }] of topics.entries()) {
      const changesOfTopic = await this.#topic(key[1], value, rows[i]!);
      if (changesOfTopic === null) continue;
      changes.push(put(key, value), ...changesOfTopic);
      copied.add(value.id);
    }
    for (const { key, value } of offsets) if (copied.has(key[3])) changes.push(put(key, value));
    return changes;
  }

  #look(topic: string, topicId: string, partition: number): PartitionState {
    const { store, files, directory } = this.#source;
    const row = store.get(['partition', topicId, partition]);
    const sealed = [...store.range(['segment', topicId, partition])];
    const { baseOffset = 0, nextOffset = 0, bytes = 0 } = row?.active ?? {};
    const path = (offset: number, suffix: string): string =>
      join(directory, `${topic}-${partition}`, segmentFileName(offset, suffix));
    return {
      row,
      sealed,
      bytes: Math.max(files.size(path(baseOffset, 'log')), bytes),
      snapshot:
        row === undefined || row.producers.count === 0
          ? undefined
          : files.readFile(path(nextOffset, 'snapshot')),
    };
  }

  /** null: the topic was deleted meanwhile. One that is being created has no records yet. */
  async #topic(
    name: string,
    topic: TopicRow,
    partitions: readonly PartitionState[],
  ): Promise<Change[] | null> {
    const changes: Change[] = [];
    if (topic.state === 'creating') return changes;
    for (const [partition, rows] of partitions.entries()) {
      const copied = await this.#partition(name, topic.id, partition, rows);
      if (copied === null) return null;
      changes.push(...copied);
    }
    return changes;
  }

  /**
   * Copies a partition; what was removed or exchanged meanwhile is looked at again, and copied anew. If that
   * goes on, compaction and retention wait.
   * @returns its rows; null: the topic was deleted
   */
  async #partition(
    topic: string,
    topicId: string,
    partition: number,
    first: PartitionState,
  ): Promise<Change[] | null> {
    const name = `${topic}-${partition}`;
    const copied: CopiedSegments = new Map();
    let rows = first;
    const copy = (isHeld: boolean): Promise<void> =>
      this.#copyPartition(name, topicId, partition, rows, copied, isHeld);
    const lookAgain = (): void => {
      rows = this.#look(topic, topicId, partition);
      this.#removeOutdated(join(this.#target, name), rows, copied);
    };
    for (let tries = 1; ; tries++) {
      const copying =
        tries < maxTries
          ? copy(false)
          : this.#source.holdSegments({ topic, partition }, () => {
              lookAgain();
              return copy(true);
            });
      const failure = await copying.then(
        () => null,
        (error: unknown) => asStorageError(name, error),
      );
      // Files go after the row: without one they may be missing, and no error has told.
      if (this.#source.store.get(['topic', topic])?.id !== topicId) {
        for (let i = 0; i <= partition; i++) {
          this.#files.removeDirectory(join(this.#target, `${topic}-${i}`));
        }
        return null;
      }
      if (failure === null) {
        const { row, sealed } = rows;
        const changes: Change[] = sealed.map(({ key, value }) => put(key, value));
        return row === undefined
          ? changes
          : [...changes, put(['partition', topicId, partition], row)];
      }
      const before = rows;
      lookAgain();
      if (failure.code === 'ABORTED' || isSame(rowsOf(rows), rowsOf(before)) || tries === maxTries)
        throw failure;
    }
  }

  /** Leaves of a copy what is still as the rows say. */
  #removeOutdated(to: string, { sealed }: PartitionRows, copied: CopiedSegments): void {
    const now = new Map(sealed.map(({ key, value }) => [key[3], value]));
    for (const [base, row] of copied) if (!isSame(row, now.get(base))) copied.delete(base);
    for (const file of this.#files.list(to)) {
      for (const suffix of logFiles) {
        const base = parseSegmentFileName(file, suffix);
        if (base !== null && !copied.has(base)) this.#files.removeFile(join(to, file));
      }
    }
  }

  async #copyPartition(
    name: string,
    topicId: string,
    partition: number,
    state: PartitionState,
    copied: CopiedSegments,
    isHeld: boolean,
  ): Promise<void> {
    const { files, directory, store } = this.#source;
    const from = join(directory, name);
    const to = join(this.#target, name);
    this.#files.makeDirectory(to);
    const metadata = encodePartitionMetadata(topicId);
    await this.#files.replaceFile(join(to, partitionMetadataFile), metadata);
    const epochs = files.readFile(join(from, epochsFile));
    if (epochs !== undefined) await this.#files.replaceFile(join(to, epochsFile), epochs);
    const { row, sealed } = state;
    for (const segment of sealed) {
      const base = segment.key[3];
      if (copied.has(base)) continue;
      await this.#copySealed(from, to, segment);
      copied.set(base, segment.value);
    }
    await this.#copyActive(from, to, state);
    // Once it is sealed it may be compacted.
    const now = store.get(['partition', topicId, partition]);
    const isSealed = (now?.active.baseOffset ?? 0) !== (row?.active.baseOffset ?? 0);
    if (isSealed && !isHeld) throw changedMeanwhile(name);
    await this.#files.syncDirectory(to);
  }

  /** Where a file of a sealed segment is: compaction may not have given it its name yet. */
  #pathOf(from: string, [, topicId, partition, base]: Key<'segment'>, suffix: string): string {
    const { files, store } = this.#source;
    const path = join(from, segmentFileName(base, suffix));
    const { swapping = null } = store.get(['compaction', topicId, partition]) ?? {};
    return swapping?.baseOffset === base && files.size(`${path}.swap`) >= 0 ? `${path}.swap` : path;
  }

  async #copySealed(from: string, to: string, { key, value }: Row<'segment'>): Promise<void> {
    for (const suffix of logFiles) {
      const path = this.#pathOf(from, key, suffix);
      const bytes = suffix === 'log' ? value.bytes : this.#source.files.size(path);
      if (bytes < 0) continue;
      await this.#copyFile(path, join(to, segmentFileName(key[3], suffix)), bytes);
    }
    // Compaction exchanges a segment's row first, then its files.
    if (!isSame(this.#source.store.get(key), value)) throw changedMeanwhile(from);
  }

  /** Up to the end of the log at the moment of the rows, and of its indexes what is known to be right. */
  async #copyActive(
    from: string,
    to: string,
    { row, bytes, snapshot }: PartitionState,
  ): Promise<void> {
    const { files } = this.#source;
    const point = row?.active;
    const known = {
      log: bytes,
      index: point?.offsetIndexBytes ?? 0,
      timeindex: point?.timeIndexBytes ?? 0,
      txnindex: point?.transactionIndex.bytes ?? 0,
    };
    for (const suffix of logFiles) {
      const file = segmentFileName(point?.baseOffset ?? 0, suffix);
      const size = files.size(join(from, file));
      const length = suffix === 'log' ? known.log : Math.min(size, known[suffix]);
      if (length > 0) await this.#copyFile(join(from, file), join(to, file), length);
    }
    if (snapshot === undefined || point === undefined) return;
    const file = segmentFileName(point.nextOffset, 'snapshot');
    await this.#files.replaceFile(join(to, file), snapshot);
  }

  /** Copies the first bytes of a file, and makes them durable. */
  async #copyFile(from: string, to: string, bytes: number): Promise<void> {
    const source = this.#source.files.open(from, 'read');
    try {
      const target = this.#files.open(to, 'write');
      try {
        const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, bytes));
        for (let at = 0; at < bytes;) {
          const length = await source.readAsync(chunk, 0, Math.min(chunk.length, bytes - at), at);
          if (length === 0) {
            throw new OttlaError(
              'CORRUPT_MESSAGE',
              `${from} has ${at} bytes, expected ${bytes}: Ottla.verify(directory) tells more`,
            );
          }
          for (let written = 0; written < length;) {
            written += target.write(chunk, written, length, at + written);
          }
          at += length;
          if (this.#slices.isOver) await this.#slices.next();
        }
        await target.sync();
      } finally {
        target.close();
      }
    } finally {
      source.close();
    }
  }
}

function rowsOf({ row, sealed }: PartitionRows): PartitionRows {
  return row === undefined ? { row: undefined, sealed } : { row, sealed };
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function changedMeanwhile(name: string): OttlaError {
  return new OttlaError('KAFKA_STORAGE_ERROR', `${name} changed while it was copied`);
}
