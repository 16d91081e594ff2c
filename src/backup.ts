import { dirname, join, resolve } from 'node:path';
import type { TopicPartition } from './assignment.js';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import { Slices } from './storage/batch-cursor.js';
import {
  encodePartitionMetadata,
  newTopicId,
  partitionMetadataFile,
  segmentFileName,
} from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import {
  encodeProperties,
  formatVersion,
  propertiesFile,
  unfinishedFile,
} from './storage/identity.js';
import { put, type Change, type MetaStore, type TopicRow } from './storage/meta-store.js';
import { pathInSwap } from './storage/segment-swap.js';

const chunkBytes = 1024 * 1024;
/** So many in one write: each is a turn in which nothing else is done. */
const rowsPerWrite = 1000;
const epochsFile = 'leader-epoch-checkpoint';

/** What is copied: the files and rows of an Ottla in use. */
export interface BackupSource {
  readonly directory: string;
  readonly files: FileSystem;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly random: () => number;
  /** Partition.holdSegments(). @throws UNKNOWN_TOPIC_OR_PARTITION */
  readonly holdSegments: (at: TopicPartition, work: () => Promise<void>) => Promise<void>;
}

/**
 * Copies a data directory in use to an empty one. Order: the rows of topics, groups and commits, at one
 * moment; then partition by partition its rows and files, while nothing is taken out of its log; then the
 * rows into the copy. So no commit is ahead of its log. One file is open at a time, and its copy. Until all is
 * there and durable the target holds a file that keeps it from being opened.
 * @throws KAFKA_STORAGE_ERROR; CORRUPT_MESSAGE if a file is shorter than its row says; ABORTED; CLOSED
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
    const unfinished = join(target, unfinishedFile);
    await files.replaceFile(unfinished, Buffer.from('This backup is not whole: remove it.\n'));
    await files.syncDirectory(dirname(target));
    const changes = await new Backup(source, files, target, signal).run();
    const meta = join(target, 'meta');
    files.makeDirectory(meta);
    const storeId = source.store.get(['store'])?.storeId ?? newTopicId(source.random);
    changes.unshift(put(['store'], { formatVersion, storeId }));
    const store = await openStore(meta);
    try {
      for (let i = 0; i < changes.length; i += rowsPerWrite) {
        await store.write(changes.slice(i, i + rowsPerWrite));
      }
    } finally {
      await store.close();
    }
    await files.syncDirectory(meta);
    await files.replaceFile(join(target, propertiesFile), encodeProperties(storeId));
    files.removeFile(unfinished);
    await files.syncDirectory(target);
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
    const groups = [...store.range(['group'])];
    const offsets = [...store.range(['offset'])];
    const changes: Change[] = groups.map(({ key, value }) => put(key, value));
    const copied = new Set<string>();
    for (const { key, value } of topics) {
      const rows = await this.#topic(key[1], value);
      if (rows === null) continue;
      for (const row of rows) changes.push(row);
      copied.add(value.id);
    }
    for (const { key, value } of offsets) if (copied.has(key[3])) changes.push(put(key, value));
    return changes;
  }

  /** null: it was deleted meanwhile. One that is being created has no records yet. */
  async #topic(topic: string, row: TopicRow): Promise<Change[] | null> {
    const changes: Change[] = [put(['topic', topic], row)];
    if (row.state === 'creating') return changes;
    for (let partition = 0; partition < row.partitions; partition++) {
      this.#slices.refuseAborted();
      try {
        await this.#source.holdSegments({ topic, partition }, async () => {
          this.#refuseOther(topic, row.id);
          changes.push(...(await this.#partition(`${topic}-${partition}`, row.id, partition)));
        });
      } catch (error) {
        const isDeleted =
          error instanceof OttlaError && error.code === 'UNKNOWN_TOPIC_OR_PARTITION';
        if (!isDeleted) throw error;
        for (let i = 0; i < partition; i++) {
          this.#files.removeDirectory(join(this.#target, `${topic}-${i}`));
        }
        return null;
      }
    }
    return changes;
  }

  /** A topic that was deleted and made again is another one. */
  #refuseOther(topic: string, topicId: string): void {
    if (this.#source.store.get(['topic', topic])?.id === topicId) return;
    throw new OttlaError('UNKNOWN_TOPIC_OR_PARTITION', `topic ${topic} was deleted`);
  }

  /** Copies a partition from which nothing is removed meanwhile; records may be appended. @returns its rows */
  async #partition(name: string, topicId: string, partition: number): Promise<Change[]> {
    const { files, directory, store } = this.#source;
    const row = store.get(['partition', topicId, partition]);
    const sealed = [...store.range(['segment', topicId, partition])];
    const compaction = store.get(['compaction', topicId, partition]);
    const from = join(directory, name);
    const to = join(this.#target, name);
    this.#files.makeDirectory(to);
    await this.#files.replaceFile(
      join(to, partitionMetadataFile),
      encodePartitionMetadata(topicId),
    );
    const epochs = files.readFile(join(from, epochsFile));
    if (epochs !== undefined) await this.#files.replaceFile(join(to, epochsFile), epochs);
    const changes: Change[] = [];
    for (const { key, value } of sealed) {
      // Freed: what is left of it is only still to be removed.
      if (value.nextOffset <= (row?.logStartOffset ?? 0)) continue;
      const path = (suffix: string): string => join(from, segmentFileName(key[3], suffix));
      const place = (suffix: string): string =>
        compaction?.swapping?.baseOffset === key[3]
          ? pathInSwap(files, path(suffix))
          : path(suffix);
      await this.#copy(place('log'), to, key[3], 'log', value.bytes, value.bytes);
      for (const suffix of ['index', 'timeindex']) {
        await this.#copy(place(suffix), to, key[3], suffix, Infinity, 0);
      }
      changes.push(put(key, value));
    }
    const { baseOffset, bytes, offsetIndexBytes, timeIndexBytes } = row?.active ?? noActive;
    const path = (suffix: string): string => join(from, segmentFileName(baseOffset, suffix));
    await this.#copy(path('log'), to, baseOffset, 'log', Infinity, bytes);
    await this.#copy(path('index'), to, baseOffset, 'index', offsetIndexBytes, 0);
    await this.#copy(path('timeindex'), to, baseOffset, 'timeindex', timeIndexBytes, 0);
    await this.#files.syncDirectory(to);
    if (row !== undefined) changes.push(put(['partition', topicId, partition], row));
    if (compaction !== undefined) {
      changes.push(put(['compaction', topicId, partition], { ...compaction, swapping: null }));
    }
    return changes;
  }

  /**
   * Copies the first bytes of a file, as many as it has now but no more than `most`, durably.
   * @throws CORRUPT_MESSAGE for fewer than `least`
   */
  async #copy(
    from: string,
    directory: string,
    baseOffset: number,
    suffix: string,
    most: number,
    least: number,
  ): Promise<void> {
    const there = this.#source.files.size(from);
    const size = Math.max(Math.min(there, most), least);
    // An empty one counts: compaction may leave nothing of a segment.
    if (size <= 0 && there < 0) return;
    const source = this.#source.files.open(from, 'read');
    try {
      const target = this.#files.open(
        join(directory, segmentFileName(baseOffset, suffix)),
        'write',
      );
      try {
        const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, size));
        for (let at = 0; at < size;) {
          const length = await source.readAsync(chunk, 0, Math.min(chunk.length, size - at), at);
          // A write that failed was taken back.
          if (length === 0 && at >= least) break;
          if (length === 0) throw tooShort(from, at, least);
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

/** Of a partition that was never synced. */
const noActive = { baseOffset: 0, bytes: 0, offsetIndexBytes: 0, timeIndexBytes: 0 };

function tooShort(path: string, size: number, least: number): OttlaError {
  return new OttlaError(
    'CORRUPT_MESSAGE',
    `${path} has ${size} bytes, expected ${least}: Ottla.verify(directory) tells more`,
  );
}
