import { dirname, join, resolve } from 'node:path';
import type { TopicPartition } from './assignment.js';
import type { BackupSource } from './broker.js';
import { OttlaError, asStorageError } from './errors.js';
import type { HeldLog } from './partition.js';
import { Slices } from './storage/batch-cursor.js';
import {
  encodePartitionMetadata,
  newTopicId,
  partitionMetadataFile,
  segmentFileName,
} from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import { writeAll, type FileSystem } from './storage/file-system.js';
import {
  encodeProperties,
  formatVersion,
  propertiesFile,
  unfinishedFile,
} from './storage/identity.js';
import { put, type Change, type Row, type RowKind } from './storage/meta-store.js';
import { pathInSwap } from './storage/segment-swap.js';

const chunkBytes = 1024 * 1024;
/** So many in one write: each is a turn in which nothing else is done. */
const rowsPerWrite = 1000;
const epochsFile = 'leader-epoch-checkpoint';

/**
 * Copies a data directory in use to an empty one, as it is at one moment: rows, and logs up to their ends then.
 * From before that moment until a partition is copied, nothing is taken out of its log; records may be
 * appended. One file is open at a time, and its copy. Until all is there and durable the target holds a file
 * that keeps it from being opened.
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

/** A partition whose segments are held. */
interface HeldPartition extends TopicPartition {
  readonly look: () => HeldLog;
  readonly letGo: () => void;
}

/** A partition that is to be copied, as it was at the moment of the backup. */
interface CopiedPartition extends HeldLog {
  readonly name: string;
  readonly topicId: string;
  readonly partition: number;
}

/** All that is to be copied. */
interface Moment {
  /** Rows but those of partitions. */
  readonly changes: Change[];
  readonly partitions: readonly CopiedPartition[];
}

class Backup {
  readonly #source: BackupSource;
  readonly #files: FileSystem;
  readonly #target: string;
  readonly #slices: Slices;
  readonly #held = new Map<string, HeldPartition>();

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

  /** @returns the rows of the copy, but the store's own */
  async run(): Promise<Change[]> {
    try {
      const { changes, partitions } = await this.#moment();
      const names = new Set(partitions.map(({ name }) => name));
      for (const [name, { letGo }] of this.#held) if (!names.has(name)) letGo();
      for (const partition of partitions) {
        for (const change of await this.#partition(partition)) changes.push(change);
        this.#held.get(partition.name)?.letGo();
      }
      return changes;
    } finally {
      for (const { letGo } of this.#held.values()) letGo();
    }
  }

  /** Looks at all in one turn, once every partition is held that there is then. */
  async #moment(): Promise<Moment> {
    for (;;) {
      const topics = [...this.#source.store.range(['topic'])];
      const missing = topics.flatMap(({ key, value }) =>
        Array.from({ length: value.state === 'live' ? value.partitions : 0 }, (_, partition) => ({
          topic: key[1],
          partition,
        })).filter(({ partition }) => !this.#held.has(`${key[1]}-${partition}`)),
      );
      if (missing.length === 0) return this.#look(topics);
      for (const at of missing) await this.#hold(at);
    }
  }

  /** Resolves when nothing is taken out of the log any more, or the topic is gone. */
  async #hold(at: TopicPartition): Promise<void> {
    this.#slices.refuseAborted();
    await new Promise<void>((resolveHeld, reject) => {
      this.#source
        .holdSegments(at, (look) => {
          const released = new Promise<void>((letGo) => {
            this.#held.set(`${at.topic}-${at.partition}`, { ...at, look, letGo });
          });
          resolveHeld();
          return released;
        })
        .catch((error: unknown) => {
          const { code } = asStorageError(`${at.topic}-${at.partition}`, error);
          if (code === 'UNKNOWN_TOPIC_OR_PARTITION') resolveHeld();
          else reject(error);
        });
    });
    if (this.#slices.isOver) await this.#slices.next();
  }

  /** Of the partitions only what is in memory: thousands of rows would take the host's turn for long. */
  #look(topics: readonly Row<'topic'>[]): Moment {
    const { store } = this.#source;
    const ids = new Map(topics.map(({ key, value }) => [key[1], value.id]));
    const known = new Set(ids.values());
    const rows: Row<RowKind>[] = [
      ...topics,
      ...store.range(['group']),
      ...withoutOpen(store.range(['transaction'])),
      ...[...store.range(['offset'])].filter(({ key }) => known.has(key[3])),
    ];
    const partitions = [...this.#held].flatMap(([name, { topic, partition, look }]) => {
      const topicId = ids.get(topic);
      return topicId === undefined ? [] : [{ name, topicId, partition, ...look() }];
    });
    return { changes: rows.map(({ key, value }) => put(key, value)), partitions };
  }

  /** @returns its rows */
  async #partition(copied: CopiedPartition): Promise<Change[]> {
    const { name, topicId, partition, row, activeBytes } = copied;
    const { files, directory, store } = this.#source;
    const compaction = store.get(['compaction', topicId, partition]);
    this.#slices.refuseAborted();
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
    for (const { key, value } of store.range(['segment', topicId, partition])) {
      // Freed, and only still to be removed; or sealed since.
      if (value.nextOffset <= row.logStartOffset || key[3] >= row.active.baseOffset) continue;
      const place = (suffix: string): string => {
        const path = join(from, segmentFileName(key[3], suffix));
        return compaction?.swapping?.baseOffset === key[3] ? pathInSwap(files, path) : path;
      };
      await this.#copy(place('log'), to, key[3], 'log', value.bytes, value.bytes);
      for (const suffix of ['index', 'timeindex', 'txnindex']) {
        await this.#copy(place(suffix), to, key[3], suffix, Infinity, 0);
      }
      changes.push(put(key, value));
    }
    const { baseOffset, offsetIndexBytes, timeIndexBytes, transactionIndex } = row.active;
    const path = (suffix: string): string => join(from, segmentFileName(baseOffset, suffix));
    await this.#copy(path('log'), to, baseOffset, 'log', activeBytes, activeBytes);
    await this.#copy(path('index'), to, baseOffset, 'index', offsetIndexBytes, 0);
    await this.#copy(path('timeindex'), to, baseOffset, 'timeindex', timeIndexBytes, 0);
    await this.#copy(path('txnindex'), to, baseOffset, 'txnindex', transactionIndex.bytes, 0);
    // One that the recovery point has left behind is gone: the copy's open makes it anew.
    const { nextOffset } = row.active;
    const snapshot = join(from, segmentFileName(nextOffset, 'snapshot'));
    await this.#copy(snapshot, to, nextOffset, 'snapshot', Infinity, 0);
    await this.#files.syncDirectory(to);
    changes.push(put(['partition', topicId, partition], row));
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
      const path = join(directory, segmentFileName(baseOffset, suffix));
      const target = this.#files.open(path, 'write');
      try {
        const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, size));
        for (let at = 0; at < size;) {
          const length = await source.readAsync(chunk, 0, Math.min(chunk.length, size - at), at);
          if (length === 0) throw tooShort(from, at, size);
          writeAll(target, path, chunk, length, at);
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

/** A transaction that is open goes on where it was begun, not in a copy. */
function withoutOpen(rows: Iterable<Row<'transaction'>>): Row<'transaction'>[] {
  return [...rows].map(({ key, value }) => ({ key, value: { ...value, open: null } }));
}

function tooShort(path: string, size: number, least: number): OttlaError {
  return new OttlaError(
    'CORRUPT_MESSAGE',
    `${path} has ${size} bytes, expected ${least}: Ottla.verify(directory) tells more`,
  );
}
