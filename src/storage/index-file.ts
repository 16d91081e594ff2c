import { dirname } from 'node:path';
import { OttlaError } from '../errors.js';
import { fileError, type FileSystem } from './file-system.js';

/** What an index file holds, in memory. */
interface IndexEntries {
  readonly length: number;
  readonly byteLength: number;
  /** What the file lacks when it holds the first `entries` entries. */
  bytesFrom(entries: number): Buffer;
}

/** As the number of saved entries: the file holds others than these; or it was not looked at. */
const rewriteFile = -1;
const notLookedAt = -2;

/**
 * One index of a segment and its file. Entries are kept in memory and appended to the file when the
 * recovery point moves: up to it the file is complete, behind it recovery makes them again from the log.
 */
export class IndexFile<T extends IndexEntries> {
  entries: T;
  readonly #files: FileSystem;
  readonly #path: () => string;
  readonly #none: () => T;
  readonly #decode: (bytes: Uint8Array) => T;
  /** Number of entries in the file. */
  #saved = 0;

  constructor(
    files: FileSystem,
    path: () => string,
    none: () => T,
    decode: (bytes: Uint8Array) => T,
  ) {
    this.#files = files;
    this.#path = path;
    this.#none = none;
    this.#decode = decode;
    this.entries = none();
  }

  get path(): string {
    return this.#path();
  }

  /** The entries of a file that is complete; null: it is missing, or disagrees with itself. */
  read(): T | null {
    const bytes = this.#files.readFile(this.path);
    return bytes === undefined ? null : this.#decoded(bytes, bytes.length);
  }

  #decoded(bytes: Uint8Array, length: number): T | null {
    if (bytes.length < length) return null;
    try {
      return this.#decode(bytes.subarray(0, length));
    } catch (error) {
      if (error instanceof OttlaError && error.code === 'CORRUPT_MESSAGE') return null;
      throw error;
    }
  }

  /**
   * Goes on with the entries in the first `length` bytes of the file.
   * @param accepts whether they are the right ones
   * @returns whether they are; if not, there are none
   */
  restore(length: number, accepts: (entries: T, bytes: Uint8Array) => boolean): boolean {
    // Whatever lies in the file then makes way for the first entries that are saved.
    this.#saved = notLookedAt;
    if (length === 0) return true;
    const bytes = this.#files.readFile(this.path);
    const entries = bytes === undefined ? null : this.#decoded(bytes, length);
    if (entries === null || !accepts(entries, bytes!.subarray(0, length))) return false;
    this.entries = entries;
    if (bytes!.length === length) this.#saved = entries.length;
    return true;
  }

  /** Begins anew: the log disagrees with what there is. */
  clear(): void {
    this.entries = this.#none();
    this.#saved = rewriteFile;
  }

  /** Appends the entries that came since the last time to the file, and makes them durable. */
  async save(): Promise<void> {
    const { entries } = this;
    const { length, byteLength } = entries;
    if (this.#saved === notLookedAt) {
      this.#saved = this.#files.size(this.path) > 0 ? rewriteFile : 0;
    }
    if (length === this.#saved) return;
    const bytes = entries.bytesFrom(Math.max(0, this.#saved));
    const start = byteLength - bytes.length;
    const file = this.#files.open(this.path, 'write');
    try {
      for (let at = 0; at < bytes.length;) {
        const written = file.write(bytes, at, bytes.length, start + at);
        if (written === 0) throw fileError('ENOSPC', 'write', this.path);
        at += written;
      }
      file.truncate(byteLength);
      await file.sync();
    } finally {
      file.close();
    }
    // The row that counts on these bytes must not be durable before their name is.
    if (start === 0) await this.#files.syncDirectory(dirname(this.path));
    // Unless the log disagreed with it meanwhile, and it was given up.
    if (entries === this.entries) this.#saved = length;
  }
}
