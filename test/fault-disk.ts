import { dirname, join } from 'node:path';
import type { Disk } from '../src/storage/disk.js';
import { asStorageError, OttlaError } from '../src/errors.js';
import { fileError, type FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { MemoryStore } from '../src/storage/memory-store.js';
import {
  put,
  type Change,
  type Key,
  type KeyPrefix,
  type MetaStore,
  type Row,
  type RowKind,
  type Rows,
} from '../src/storage/meta-store.js';
import { WatchedFiles, type Call, type CallName } from './watched-files.js';

/** A call to the disk: to its files, or to the metadata and the lock on it. */
export interface DiskCall extends Omit<Call, 'name'> {
  readonly name: CallName | 'writeRows' | 'openStore' | 'salvage' | 'lock';
}

/** What meets a call: an error, or how much of a write or a read gets through. */
export type Met = Error | number | undefined;

/**
 * A disk in memory that outlives the processes on it, and fails when told to. Metadata is a file,
 * data.mdb, so that it can be moved and lost as LMDB's.
 *
 * It knows what a failed sync means: pages that were dirty then count as clean without being on the disk
 * (fsyncgate). A later sync of them that is taken for a success is a `problem`, but for metadata that
 * could not be written either: then nobody remembers.
 */
export class FaultDisk implements Disk {
  /** The files as they are, without faults. */
  readonly raw: MemoryFiles = new MemoryFiles();
  readonly #away: AwayFiles = new AwayFiles(this.raw);
  files: WatchedFiles = this.#newFiles();
  /** Told of each call before that. */
  before: (call: DiskCall) => void = () => undefined;
  /** Asked at each call. */
  onCall: (call: DiskCall) => Met = () => undefined;
  readonly problems: string[] = [];
  /** A write of rows met what ends all writes of that store. */
  hasRefusedForGood = false;
  readonly #locks = new Set<string>();
  /** Processes before this one. */
  deaths = 0;
  readonly #pages = new Map<string, Pages>();

  #newFiles(): WatchedFiles {
    return new WatchedFiles(this.#away, (call) => this.#onFileCall(call));
  }

  #onFileCall(call: Call): number | undefined {
    this.before(call);
    const met = this.onCall(call);
    const count = typeof met === 'number' ? met : call.bytes;
    this.#follow(call, met instanceof Error, count);
    if (met instanceof Error) throw met;
    return typeof met === 'number' ? met : undefined;
  }

  /** What a call does to what is dirty, clean, and lost. */
  #follow({ name, path, position }: Call, fails: boolean, count: number): void {
    const pages = this.#pages.get(path) ?? { dirty: [], lost: [] };
    this.#pages.set(path, pages);
    if (name === 'sync') {
      if (fails) pages.lost.push(...pages.dirty);
      else if (pages.lost.length > 0 && !this.hasRefusedForGood) {
        this.problems.push(
          `${path} was synced again, though a sync had lost ${pages.lost[0]![0]}…`,
        );
      }
      pages.dirty = [];
    } else if (!fails && name === 'write' && count > 0) {
      pages.dirty.push([position, position + count]);
      pages.lost = without(pages.lost, position, position + count);
    } else if (!fails && name === 'truncate') {
      pages.dirty = without(pages.dirty, position, Infinity);
      pages.lost = without(pages.lost, position, Infinity);
    } else if (!fails && ['removeFile', 'rename', 'replaceFile'].includes(name)) {
      this.#pages.delete(path);
    }
  }

  /** All in a directory, and that itself, is gone as far as names go; null: it is back. */
  set away(directory: string | null) {
    this.#away.directory = directory;
  }

  /** The process died: what it held is free, and it does nothing more. */
  die(): void {
    this.#locks.clear();
    this.onCall = () => undefined;
    this.deaths++;
    this.files.onCall = ({ path }) => {
      throw fileError('EBADF', 'by a dead process', path);
    };
    this.files = this.#newFiles();
  }

  #refuse(name: DiskCall['name'], path: string): void {
    const met = this.onCall({ name, path, position: -1, bytes: 0 });
    if (met instanceof Error) throw met;
  }

  readonly openStore: Disk['openStore'] = async (directory, options = {}) => {
    const { readOnly = false, mayBeEmpty = () => !readOnly } = options;
    try {
      this.#refuse('openStore', directory);
      const store = new FileStore(this, join(directory, 'data.mdb'));
      await store.read(mayBeEmpty());
      return store;
    } catch (error) {
      throw asStorageError(directory, error, false);
    }
  };

  readonly salvage: Disk['salvage'] = (directory) => {
    this.#refuse('salvage', directory);
    const rows = {
      store: [],
      topic: [],
      tombstone: [],
      partition: [],
      compaction: [],
      segment: [],
      group: [],
      transaction: [],
      offset: [],
    };
    const text = this.raw.readFile(join(directory, 'data.mdb'));
    if (text === undefined) return { rows, problems: [`${directory} holds no metadata.`] };
    for (const row of JSON.parse(String(text)) as Row<RowKind>[]) {
      const list: Row<RowKind>[] = rows[row.key[0]];
      list.push(row);
    }
    return { rows, problems: [] };
  };

  readonly lock: Disk['lock'] = (path) => {
    try {
      this.#refuse('lock', path);
    } catch (error) {
      throw asStorageError(path, error, false);
    }
    if (this.#locks.has(path)) throw new OttlaError('LOCKED', `${path} is locked`);
    this.#locks.add(path);
    return { tell: () => undefined, close: () => void this.#locks.delete(path) };
  };

  /** As LMDB's store fails: ENOSPC refuses this write, anything else all until it is opened anew. */
  refuseRows(path: string): void {
    try {
      this.#refuse('writeRows', path);
    } catch (error) {
      const isFull = error instanceof Error && 'code' in error && error.code === 'ENOSPC';
      throw asStorageError(path, error, isFull);
    }
  }
}

/** Bytes of a file by position: written and not synced, and those that a failed sync left behind. */
interface Pages {
  dirty: Range[];
  lost: Range[];
}
type Range = readonly [start: number, end: number];

function without(ranges: readonly Range[], from: number, to: number): Range[] {
  return ranges
    .flatMap(([start, end]): Range[] => [
      [start, Math.min(end, from)],
      [Math.max(start, to), end],
    ])
    .filter(([start, end]) => start < end);
}

/** Rows in one file, written whole. */
class FileStore implements MetaStore {
  readonly #disk: FaultDisk;
  readonly #path: string;
  readonly #bornAt: number;
  #rows = new MemoryStore();
  #failure: unknown = null;
  #isClosed = false;

  constructor(disk: FaultDisk, path: string) {
    this.#disk = disk;
    this.#path = path;
    this.#bornAt = disk.deaths;
  }

  async read(mayBeEmpty: boolean): Promise<void> {
    const text = this.#disk.raw.readFile(this.#path);
    if (text === undefined) {
      if (!mayBeEmpty) throw new OttlaError('METADATA_LOST', `${this.#path} is not there`);
      await this.#disk.raw.replaceFile(this.#path, Buffer.from('[]'));
      return;
    }
    const rows = JSON.parse(String(text)) as Row<RowKind>[];
    await this.#rows.write(rows.map(({ key, value }) => put(key, value)));
  }

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    return this.#rows.get(key);
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    return this.#rows.range(prefix);
  }

  async write(changes: readonly Change[]): Promise<void> {
    const isDead = this.#bornAt < this.#disk.deaths;
    if (this.#isClosed || isDead) throw new OttlaError('CLOSED', `${this.#path} is closed`);
    if (this.#failure !== null) throw this.#failure;
    // The caller goes on before a commit is done, as with LMDB.
    try {
      this.#disk.refuseRows(this.#path);
    } catch (error) {
      if (error instanceof OttlaError && !error.retriable) {
        this.#failure = error;
        this.#disk.hasRefusedForGood = true;
      }
      await Promise.resolve();
      throw error;
    }
    await Promise.resolve();
    await this.#rows.write(changes);
    const kinds = ['store', 'topic', 'tombstone', 'partition', 'segment'] as const;
    const all = [
      ...kinds,
      'compaction' as const,
      'group' as const,
      'transaction' as const,
      'offset' as const,
    ].flatMap((kind) => [...this.#rows.range<RowKind>([kind] as never)]);
    await this.#disk.raw.replaceFile(this.#path, Buffer.from(JSON.stringify(all)));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }
}

/** Files of which a whole directory can be away, as one that was unmounted, or moved by somebody. */
class AwayFiles implements FileSystem {
  readonly #files: FileSystem;
  directory: string | null = null;

  constructor(files: FileSystem) {
    this.#files = files;
  }

  #isAway(path: string): boolean {
    return this.directory !== null && `${path}/`.startsWith(`${this.directory}/`);
  }

  #refuse(syscall: string, ...paths: readonly string[]): void {
    for (const path of paths) if (this.#isAway(path)) throw fileError('ENOENT', syscall, path);
  }

  open(path: string, mode: 'read' | 'write'): ReturnType<FileSystem['open']> {
    this.#refuse('open', path);
    return this.#files.open(path, mode);
  }

  size(path: string): number {
    return this.#isAway(path) ? -1 : this.#files.size(path);
  }

  isDirectory(path: string): boolean {
    return !this.#isAway(path) && this.#files.isDirectory(path);
  }

  list(path: string): string[] {
    this.#refuse('scandir', path);
    // Its name is gone from its parent, too.
    return this.#files.list(path).filter((name) => !this.#isAway(join(path, name)));
  }

  readFile(path: string): Buffer | undefined {
    return this.#isAway(path) ? undefined : this.#files.readFile(path);
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    this.#refuse('open', dirname(path));
    await this.#files.replaceFile(path, bytes);
  }

  makeDirectory(path: string): void {
    this.#refuse('mkdir', path);
    this.#files.makeDirectory(path);
  }

  rename(from: string, to: string): void {
    this.#refuse('rename', from, to);
    this.#files.rename(from, to);
  }

  removeFile(path: string): void {
    if (!this.#isAway(path)) this.#files.removeFile(path);
  }

  removeDirectory(path: string): void {
    if (!this.#isAway(path)) this.#files.removeDirectory(path);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#refuse('open', path);
    await this.#files.syncDirectory(path);
  }
}
