import { dirname, join, resolve } from 'node:path';
import { Broker, type BrokerOptions } from './broker.js';
import { systemClock, type Clock } from './clock.js';
import { loadNativeCrc32c } from './crc32c.js';
import { OttlaError, asStorageError } from './errors.js';
import { newTopicId } from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import type { Lock } from './storage/lock.js';
import { FaultyFiles, FaultyStore, type Faults } from './faults.js';
import {
  decodeProperties,
  encodeProperties,
  formatVersion,
  ignoredNames,
  propertiesFile,
  unfinishedFile,
} from './storage/identity.js';
import { MemoryFiles } from './storage/memory-files.js';
import { MemoryStore } from './storage/memory-store.js';
import { put, type MetaStore } from './storage/meta-store.js';
import { Slices } from './storage/slices.js';
import { SyncQueue, processSyncs } from './storage/sync-queue.js';

const partitionDirectory = /^.+-\d+$/;
/** What a first opening that did not end leaves behind. */
const namesOfNew = new Set(['lock', 'meta', `${propertiesFile}.tmp`]);

/** An open data directory: closing the broker comes first, then letting the directory go. */
export interface OpenDirectory {
  readonly broker: Broker;
  /** Where clients are served, for whoever finds the directory locked. */
  tell(addresses: readonly string[]): void;
  release(): void;
}

/** What its user bounds. */
type Limits = Pick<BrokerOptions, 'maxBytes' | 'offsetsRetentionMs'>;

export interface DirectorySettings extends Limits {
  readonly readOnly: boolean;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly clock?: Clock;
  /** Where the directory is: the system's, unless it is given. */
  readonly disk?: Disk;
}

/**
 * Opens a data directory, creating it if need be. Order: whose directory it is, the lock, then the
 * identity (meta.properties and LMDB must name the same store), then recovery. Nothing is written before
 * all of them agree.
 * @throws LOCKED, METADATA_LOST, KAFKA_STORAGE_ERROR
 */
export async function openDataDirectory(
  path: string,
  settings: DirectorySettings,
): Promise<OpenDirectory> {
  const { readOnly, random, clock = systemClock, disk, ...limits } = settings;
  const directory = resolve(path);
  const [{ files, openStore, lock: acquireLock }] = await Promise.all([
    disk ?? systemDisk(),
    loadNativeCrc32c(),
  ]);
  let lock: Lock | undefined;
  let opened: MetaStore | undefined;
  let broker: Broker | undefined;
  try {
    const mayBeEmpty = checkDirectory(files, directory, readOnly);
    if (!readOnly) {
      lock = acquireLock(join(directory, 'lock'), new Date(clock.now()).toISOString());
      files.makeDirectory(join(directory, 'meta'));
    }
    const slices = new Slices(clock, `opening ${directory}`);
    const store = await openStore(join(directory, 'meta'), { readOnly, mayBeEmpty, slices });
    opened = store;
    await agreeOnIdentity(files, store, directory, readOnly, random);
    broker = new Broker({
      directory,
      files,
      store,
      clock,
      random,
      syncs: processSyncs,
      readOnly,
      defaults: {},
      ...limits,
    });
    if (!readOnly) await broker.recover();
    return {
      broker,
      tell: (addresses) => lock?.tell(addresses),
      release: () => lock?.close(),
    };
  } catch (error) {
    const failure = asStorageError(directory, error, false);
    await broker?.abandon(failure);
    await opened?.close();
    lock?.close();
    throw failure;
  }
}

/**
 * Creates the directory if it is missing; refuses what is not ours, or has lost its metadata, before
 * anything in it is touched. Thousands of partitions are listed only where something is amiss.
 * @returns tells whether there may be no metadata yet: nothing in it, or what a crash left of a first opening
 */
function checkDirectory(files: FileSystem, directory: string, readOnly: boolean): () => boolean {
  const refuse = (problem: string): never => {
    throw new OttlaError('KAFKA_STORAGE_ERROR', `${directory} ${problem}`, { retriable: false });
  };
  const lost = (why: string): never => {
    throw metadataLost(directory, why);
  };
  if (files.size(directory) >= 0) refuse('is a file, expected a directory');
  if (files.size(join(directory, unfinishedFile)) >= 0) {
    refuse('holds a backup that was not finished: remove it, and make another');
  }
  const properties = files.readFile(join(directory, propertiesFile));
  const hasMeta = files.size(join(directory, 'meta', 'data.mdb')) > 0;
  if (decodeProperties(properties) !== undefined) {
    const hasPartitions = (): boolean =>
      hasPartitionDirectories(files, directory, files.list(directory));
    if (!hasMeta && hasPartitions()) lost('meta/ is gone or empty beside partition directories');
    return () => !readOnly && !hasPartitions();
  }
  const names = namesIn(files, directory);
  if (names === null) {
    if (readOnly) refuse('does not exist: there is nothing to read');
    files.makeDirectory(directory);
    return () => true;
  }
  if (names.every((name) => namesOfNew.has(name))) {
    if (readOnly) lost('it was never opened for writing');
    return () => true;
  }
  const reason = properties === undefined ? `no ${propertiesFile}` : `no store.id in it`;
  if (hasMeta || hasPartitionDirectories(files, directory, names)) {
    lost(`it has metadata or partition directories, and ${reason}`);
  }
  return refuse(
    `is no Ottla directory: expected it empty or with a ${propertiesFile} of Ottla's, got ${names.slice(0, 3).join(', ')}`,
  );
}

/** null: there is no such directory. */
function namesIn(files: FileSystem, directory: string): string[] | null {
  try {
    return files.list(directory).filter((name) => !ignoredNames.has(name));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

function hasPartitionDirectories(
  files: FileSystem,
  directory: string,
  names: readonly string[],
): boolean {
  return names.some(
    (name) => partitionDirectory.test(name) && files.isDirectory(join(directory, name)),
  );
}

function metadataLost(directory: string, why: string): OttlaError {
  return new OttlaError(
    'METADATA_LOST',
    `${directory}: ${why}. Nothing was changed; Ottla.repair(directory) mends it`,
  );
}

/**
 * The store id stands in LMDB and in meta.properties, in this order. A crash between the two leaves no
 * partition directories yet, which tells it from lost metadata.
 */
async function agreeOnIdentity(
  files: FileSystem,
  store: MetaStore,
  directory: string,
  readOnly: boolean,
  random: () => number,
): Promise<void> {
  const row = store.get(['store']);
  const stated = decodeProperties(files.readFile(join(directory, propertiesFile)));
  if (row !== undefined && row.formatVersion !== formatVersion) {
    throw new OttlaError(
      'UNSUPPORTED_FOR_MESSAGE_FORMAT',
      `${directory} has format version ${row.formatVersion}, this Ottla reads ${formatVersion}`,
    );
  }
  if (row !== undefined && stated === row.storeId) return;
  if (row !== undefined && stated !== undefined) {
    throw metadataLost(
      directory,
      `meta/ belongs to store ${row.storeId}, the directory to ${stated}`,
    );
  }
  if (hasPartitionDirectories(files, directory, files.list(directory))) {
    const missing = row === undefined ? 'meta/ is empty' : `${propertiesFile} is missing`;
    throw metadataLost(directory, `${missing} beside partition directories`);
  }
  if (readOnly) throw metadataLost(directory, 'it was never opened for writing');
  const storeId = row?.storeId ?? stated ?? newTopicId(random);
  if (row === undefined) await store.write([put(['store'], { formatVersion, storeId })]);
  // Before the file which says that all of this was done.
  await files.syncDirectory(join(directory, 'meta'));
  await files.syncDirectory(directory);
  await syncParents(files, directory);
  await files.replaceFile(join(directory, propertiesFile), encodeProperties(storeId));
}

/**
 * The directory may be new with several of its parents, of which a loss of power must not take one. One
 * that may not be read was not made by us.
 */
async function syncParents(files: FileSystem, directory: string): Promise<void> {
  const parent = dirname(directory);
  if (parent === directory) return;
  try {
    await files.syncDirectory(parent);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EACCES') return;
    throw error;
  }
  await syncParents(files, parent);
}

/** The same broker over memory: nothing native, gone at the end. Small segments, so that retention can free them. */
export function openMemory(
  clock: Clock,
  random: () => number,
  limits: Limits = {},
  faults?: Faults,
): OpenDirectory {
  const broker = new Broker({
    directory: '/',
    files: faults === undefined ? new MemoryFiles() : new FaultyFiles(faults),
    store: faults === undefined ? new MemoryStore() : new FaultyStore(faults),
    clock,
    random,
    syncs: new SyncQueue(Infinity),
    readOnly: false,
    defaults: { segmentBytes: 1024 * 1024 },
    ...limits,
  });
  return { broker, tell: () => undefined, release: () => undefined };
}
