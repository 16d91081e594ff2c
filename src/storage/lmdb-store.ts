import { realpathSync, statfsSync, truncateSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { OttlaError, asStorageError } from '../errors.js';
import { fileError } from './file-system.js';
import { checkLmdbFile, lastLmdbTransaction, lmdbFileSteps } from './lmdb-check.js';
import {
  type Change,
  type Key,
  type KeyPrefix,
  type MetaStore,
  type Row,
  type RowKind,
  type Rows,
  type StoreOptions,
} from './meta-store.js';
import { checkKey, encodeKey, endOfRange } from './row-key.js';
import { checkRow, decodeRow, decodeValue, encodeRow } from './rows.js';
import type { Slices } from './slices.js';

const dataFile = 'data.mdb';
const pageBytes = 4096;

type Database = RootDatabase<Buffer, Buffer>;

/**
 * Opens the metadata in a directory, which must exist. Making the directory's entries durable is the
 * caller's. Imports lmdb and zod: import this file late.
 * @throws METADATA_LOST if what is there is damaged, or nothing is there and must be; LOCKED if this
 *   process has it open read-only, beside which LMDB cannot write; KAFKA_STORAGE_ERROR
 */
export async function openLmdbStore(
  directory: string,
  options: StoreOptions = {},
): Promise<MetaStore> {
  const { readOnly = false, mayBeEmpty = () => !readOnly, slices } = options;
  try {
    const path = realpathSync(directory);
    if (!readOnly) refuseBesideReader(path);
    prepare(path, readOnly ? checkForReading(path) : await checkInSlices(path, slices), mayBeEmpty);
    if (!readOnly) refuseBesideReader(path);
    return new LmdbStore(path, readOnly);
  } catch (error) {
    const failure = asStorageError(directory, error, false);
    if (failure.code !== 'METADATA_LOST') throw failure;
    const message = `${failure.message}. Nothing was changed; Ottla.repair(directory) mends it`;
    throw new OttlaError('METADATA_LOST', message, { cause: failure });
  }
}

/** Read-only stores of this process by directory: LMDB opens a file once per process, for reading then. */
const readers = new Map<string, number>();

function refuseBesideReader(path: string): void {
  if (!readers.has(path)) return;
  throw new OttlaError('LOCKED', `${path} is open read-only in this process: close it first`);
}

function prepare(directory: string, state: 'empty' | 'good', mayBeEmpty: () => boolean): void {
  if (state === 'good') return;
  const path = join(directory, dataFile);
  if (!mayBeEmpty()) throw new OttlaError('METADATA_LOST', `${directory} holds no metadata`);
  if (isFull(directory)) throw fileError('ENOSPC', 'write', path);
  try {
    truncateSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

/** How often a file is looked through that its owner changed meanwhile. */
const maxLooks = 5;

/** Refuses what LMDB would crash on instead of failing. */
async function checkInSlices(directory: string, slices?: Slices): Promise<'empty' | 'good'> {
  const steps = lmdbFileSteps(join(directory, dataFile), checkRow);
  try {
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value;
      await slices?.turn();
    }
  } finally {
    steps.return('empty');
  }
}

/** The same, beside an owner: what it changed meanwhile tells nothing, and is looked at again. */
function checkForReading(directory: string): 'empty' | 'good' {
  const path = join(directory, dataFile);
  if (checkLmdbFile(path) === 'empty') return 'empty';
  for (let looks = 1; looks <= maxLooks; looks++) {
    const transaction = lastLmdbTransaction(path);
    try {
      return checkLmdbFile(path, checkRow);
    } catch (error) {
      if (lastLmdbTransaction(path) === transaction) throw error;
    }
  }
  return 'good';
}

interface PendingWrite {
  readonly rows: readonly { readonly key: Buffer; readonly bytes: Buffer | undefined }[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Rows in LMDB's root database: keys as row-key.ts writes them, values as rows.ts does. One transaction
 * is in flight at a time; calls that come meanwhile share the next one.
 */
class LmdbStore implements MetaStore {
  readonly #directory: string;
  readonly #readOnly: boolean;
  readonly #db: Database;
  #waiting: PendingWrite[] = [];
  #writing: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  /** Set for good by a failure that leaves unknown what is on the disk. */
  #failure: OttlaError | null = null;

  constructor(directory: string, readOnly: boolean) {
    const settings = {
      path: directory,
      noSubdir: false,
      encoding: 'binary' as const,
      keyEncoding: 'binary' as const,
      readOnly,
      // With lmdb's defaults a failed commit stays visible, can hang close() and end the process.
      overlappingSync: false,
      eventTurnBatching: false,
      txnStartThreshold: 1,
    };
    this.#db = open(settings);
    this.#directory = directory;
    this.#readOnly = readOnly;
    if (readOnly) readers.set(directory, (readers.get(directory) ?? 0) + 1);
  }

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    checkKey(key);
    const keyBytes = encodeKey(key);
    const bytes = this.#read(() => this.#db.getBinary(keyBytes));
    return bytes === undefined ? undefined : decodeValue(key[0], keyBytes, bytes);
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    checkKey(prefix);
    const start = encodeKey(prefix);
    const end = endOfRange(start);
    const rows = this.#read(() => [...this.#db.getRange({ start, end })]);
    return decoded(prefix[0], rows);
  }

  #read<T>(read: () => T): T {
    if (this.#closing !== null) throw this.#closed();
    try {
      // The owner's own commits show by themselves.
      if (this.#readOnly) this.#db.resetReadTxn();
      return read();
    } catch (error) {
      throw asStorageError(this.#directory, error, false);
    }
  }

  async write(changes: readonly Change[]): Promise<void> {
    if (this.#closing !== null) throw this.#closed();
    if (this.#readOnly) throw new TypeError(`${this.#directory} was opened read-only`);
    const rows = changes.map(({ key, value }) => {
      const keyBytes = encodeKey(key);
      return { key: keyBytes, bytes: value && encodeRow(keyBytes, value) };
    });
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ rows, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  async #writeAll(): Promise<void> {
    // Not at once: what the rest of this turn writes goes into the same transaction.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const writes = this.#waiting;
      this.#waiting = [];
      try {
        await this.#commit(writes);
        for (const { resolve } of writes) resolve();
      } catch (error) {
        for (const { reject } of writes) reject(error);
      }
    }
    this.#writing = null;
  }

  async #commit(writes: readonly PendingWrite[]): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    // Asked before, because the message that lmdb makes of a failed write overruns its buffer.
    if (isFull(this.#directory, mostBytesOf(writes))) throw noSpace(this.#directory);
    const db = this.#db;
    try {
      const committed = db.batch(() => {
        for (const { rows } of writes) {
          for (const { key, bytes } of rows) void (bytes ? db.put(key, bytes) : db.remove(key));
        }
      });
      // lmdb starts a transaction by the global setImmediate, which test frameworks fake, or at the
      // second write: this one.
      await Promise.all([committed, db.batch(() => undefined)]);
    } catch (error) {
      const reason = await reasonOf(error);
      if (isNoSpace(reason, this.#directory) && this.#isReadable()) throw noSpace(this.#directory);
      this.#failure = new OttlaError(
        'KAFKA_STORAGE_ERROR',
        `${this.#directory}: a commit failed, and nothing can be written until it is opened anew: ${reason.message}`,
        { cause: reason, retriable: false },
      );
      throw this.#failure;
    }
  }

  /** Whether LMDB still works: if its meta page could not be written it refuses all, and a commit would hang. */
  #isReadable(): boolean {
    try {
      this.#db.resetReadTxn();
      this.#db.getBinary(encodeKey(['store']));
      return true;
    } catch {
      return false;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#writing;
    await this.#db.close();
    if (!this.#readOnly) return;
    const others = (readers.get(this.#directory) ?? 1) - 1;
    if (others > 0) readers.set(this.#directory, others);
    else readers.delete(this.#directory);
  }

  #closed(): OttlaError {
    return new OttlaError('CLOSED', `the metadata in ${this.#directory} is closed`);
  }
}

/** One by one, as each takes longer to decode than to read. */
function* decoded<K extends RowKind>(
  kind: K,
  rows: readonly { readonly key: Buffer; readonly value: Buffer }[],
): Generator<Row<K>> {
  for (const { key, value } of rows) yield decodeRow(kind, key, value);
}

/** Why a commit failed. lmdb tells in a second promise, which rejects too: nobody else would catch that. */
async function reasonOf(error: unknown): Promise<Error> {
  try {
    if (error instanceof Error && 'commitError' in error) await error.commitError;
  } catch (reason) {
    if (reason instanceof Error) return reason;
  }
  return error instanceof Error ? error : new Error(String(error));
}

function noSpace(directory: string): OttlaError {
  return asStorageError(directory, fileError('ENOSPC', 'write', join(directory, dataFile)));
}

const { EDQUOT, EFBIG, EIO, ENOSPC } = constants.errno;
/** Windows' own: ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL. */
const noSpaceCodes = process.platform === 'win32' ? [39, 112] : [ENOSPC, EDQUOT, EFBIG];

function isNoSpace(reason: Error, directory: string): boolean {
  const code = 'code' in reason ? Number(reason.code) : Number.NaN;
  // LMDB answers a short write with EIO, and a short write is how a full disk shows first.
  return noSpaceCodes.includes(code) || (code === EIO && isFull(directory));
}

const spareBytes = 1024 * 1024;

/** Where it cannot be told: no. */
function isFull(directory: string, neededBytes = 0): boolean {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize < spareBytes + neededBytes;
  } catch {
    return false;
  }
}

/** What a transaction can write at most: LMDB copies each page that it changes. */
function mostBytesOf(writes: readonly PendingWrite[]): number {
  let bytes = 0;
  for (const { rows } of writes) {
    for (const row of rows) bytes += 2 * pageBytes + (row.bytes?.length ?? 0);
  }
  return bytes;
}
