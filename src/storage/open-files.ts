import type { File, FileSystem } from './file-system.js';

/** Something that keeps a file open between uses, and can do without it for a while. */
export interface OpenFileHolder {
  /** Set at each use, cleared when passed over: the file that nobody used since goes first. */
  recentlyUsed: boolean;
  /**
   * Closes the file if that is safe now: nothing unsynced, no read under way. Returns whether it did; if not,
   * it is not asked again before it has called mayRelease().
   */
  releaseFile(): boolean;
}

/**
 * Bounds how many files are open at once, by closing those that were not used lately. Files that cannot
 * be closed (unsynced writes: their error would be lost) may exceed the bound; they are not looked at again
 * for each file that is opened.
 */
export class OpenFiles {
  readonly files: FileSystem;
  readonly #capacity: number;
  /** Those that were used longest ago, as far as is known, come first. */
  readonly #closable = new Set<OpenFileHolder>();
  /** Those that could not be closed when it was their turn. */
  readonly #held = new Set<OpenFileHolder>();

  constructor(files: FileSystem, capacity = 500) {
    this.files = files;
    this.#capacity = capacity;
  }

  /** Opens a file for `holder`, which must call closed() when it closes it by itself. */
  open(path: string, mode: 'read' | 'write', holder: OpenFileHolder): File {
    this.#evict();
    const file = this.files.open(path, mode);
    holder.recentlyUsed = true;
    this.#closable.add(holder);
    return file;
  }

  /** What kept a holder from closing its file has ended. */
  mayRelease(holder: OpenFileHolder): void {
    if (this.#held.delete(holder)) this.#closable.add(holder);
  }

  closed(holder: OpenFileHolder): void {
    this.#closable.delete(holder);
    this.#held.delete(holder);
  }

  /** Each is looked at twice at most; each use and each refusal is paid for once. */
  #evict(): void {
    for (const holder of this.#closable) {
      if (this.#closable.size + this.#held.size < this.#capacity) return;
      this.#closable.delete(holder);
      if (holder.recentlyUsed) {
        holder.recentlyUsed = false;
        this.#closable.add(holder);
      } else if (!holder.releaseFile()) {
        this.#held.add(holder);
      }
    }
  }
}
