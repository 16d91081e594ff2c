import type { FileSystem } from './file-system.js';
import type { Lock } from './lock.js';
import type { MetaStore, StoreOptions } from './meta-store.js';
import type { Salvage } from './salvage.js';

/** What data directories lie on: files, the metadata among them, and the lock that tells whose they are. */
export interface Disk {
  readonly files: FileSystem;
  /** As openLmdbStore(). */
  readonly openStore: (directory: string, options?: StoreOptions) => Promise<MetaStore>;
  /** As salvageRows(), of the metadata in a directory. */
  readonly salvage: (directory: string) => Salvage;
  /** As acquireLock(). */
  readonly lock: (path: string, since: string) => Lock;
}

/** The operating system's files, and LMDB: what is native is loaded now. */
export async function systemDisk(): Promise<Disk> {
  const [{ nodeFiles }, { openLmdbStore }, { salvageRows }, { acquireLock }] = await Promise.all([
    import('./node-files.js'),
    import('./lmdb-store.js'),
    import('./salvage.js'),
    import('./lock.js'),
  ]);
  return { files: nodeFiles, openStore: openLmdbStore, salvage: salvageRows, lock: acquireLock };
}
