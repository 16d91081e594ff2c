import { join } from 'node:path';
import type { Disk } from '../src/storage/disk.js';
import type { FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { MemoryStore } from '../src/storage/memory-store.js';
import type { MetaStore } from '../src/storage/meta-store.js';
import { LastingStore } from './machine.js';
import { rowsOf } from './rows.js';

/**
 * A disk in memory: data directories, their metadata and all, that outlive who has them open. The file
 * data.mdb names a store, so that renaming its directory moves the rows.
 */
export class MemoryDisk implements Disk {
  files: FileSystem = new MemoryFiles();
  readonly #stores: MetaStore[] = [];

  #storeIn(directory: string): MetaStore | undefined {
    const bytes = this.files.readFile(join(directory, 'data.mdb'));
    return bytes === undefined ? undefined : this.#stores[Number(bytes)];
  }

  readonly openStore: Disk['openStore'] = async (directory) => {
    const known = this.#storeIn(directory);
    if (known !== undefined) return known;
    const store = new LastingStore();
    const name = Buffer.from(String(this.#stores.push(store) - 1));
    await this.files.replaceFile(join(directory, 'data.mdb'), name);
    return store;
  };

  readonly salvage: Disk['salvage'] = (directory) => {
    const store = this.#storeIn(directory);
    if (store !== undefined) return { rows: rowsOf(store), problems: [] };
    return { rows: rowsOf(new MemoryStore()), problems: [`${directory} holds no metadata.`] };
  };

  readonly lock: Disk['lock'] = () => ({ tell: () => undefined, close: () => undefined });
}
