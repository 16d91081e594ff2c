import type { Disk } from '../src/storage/disk.js';
import type { FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import type { MetaStore } from '../src/storage/meta-store.js';
import { LastingStore } from './machine.js';
import { rowsOf } from './rows.js';

/** A disk in memory: data directories, their metadata and all, that outlive who has them open. */
export class MemoryDisk implements Disk {
  files: FileSystem = new MemoryFiles();
  readonly #stores = new Map<string, MetaStore>();

  readonly openStore: Disk['openStore'] = async (directory) => {
    const store = this.#stores.get(directory) ?? new LastingStore();
    this.#stores.set(directory, store);
    if (this.files.size(`${directory}/data.mdb`) < 0) {
      const file = this.files.open(`${directory}/data.mdb`, 'write');
      file.write(Buffer.from('rows'), 0, 4, 0);
      file.close();
    }
    return store;
  };

  readonly salvage: Disk['salvage'] = (directory) => {
    const store = this.#stores.get(directory) ?? new LastingStore();
    return { rows: rowsOf(store), problems: [] };
  };

  readonly lock: Disk['lock'] = () => ({ close: () => undefined });
}
