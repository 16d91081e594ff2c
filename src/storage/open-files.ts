import type { File, FileSystem } from './file-system.js';

/** Something that keeps a file open between uses, and can do without it for a while. */
export interface OpenFileHolder {
  /** Set at each use, cleared when passed over: the file that nobody used since goes first. */
  recentlyUsed: boolean;
  /** Closes the file if that is safe now: nothing unsynced, no read under way. Returns whether it did. */
  releaseFile(): boolean;
}

/**
 * Bounds how many files are open at once, by closing those that were not used lately. Files that cannot
 * be closed (unsynced writes: their error would be lost) may exceed the bound.
 */
export class OpenFiles {
  readonly files: FileSystem;
  readonly #capacity: number;
  readonly #holders = new Set<OpenFileHolder>();

  constructor(files: FileSystem, capacity = 500) {
    this.files = files;
    this.#capacity = capacity;
  }

  /** Opens a file for `holder`, which must call closed() when it closes it by itself. */
  open(path: string, mode: 'read' | 'write', holder: OpenFileHolder): File {
    if (this.#holders.size >= this.#capacity) this.#evict();
    const file = this.files.open(path, mode);
    holder.recentlyUsed = true;
    this.#holders.add(holder);
    return file;
  }

  closed(holder: OpenFileHolder): void {
    this.#holders.delete(holder);
  }

  #evict(): void {
    let passes = 2 * this.#holders.size;
    for (const holder of this.#holders) {
      if (passes-- === 0 || this.#holders.size < this.#capacity) return;
      this.#holders.delete(holder);
      if (!holder.recentlyUsed && holder.releaseFile()) continue;
      holder.recentlyUsed = false;
      this.#holders.add(holder);
    }
  }
}
