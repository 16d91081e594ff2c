import type { File, FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';

/**
 * Files in memory that refuse what Windows refuses, or may: an open file is neither renamed nor removed nor
 * replaced, nor is a directory in which one is open. Names are told apart without regard to case, and a
 * directory cannot be synced, which is passed over as by Node's files there.
 */
export class WindowsFiles implements FileSystem {
  readonly #files = new MemoryFiles();
  /** How often each path is open, by its lower-case form. */
  readonly #open = new Map<string, number>();

  /** Open files at a path or in the directory. */
  #refuseOpen(syscall: string, path: string, code: 'EBUSY' | 'EPERM'): void {
    const key = keyOf(path);
    for (const open of this.#open.keys()) {
      if (open !== key && !open.startsWith(`${key}/`)) continue;
      const error: NodeJS.ErrnoException = new Error(`${code}: it is open, ${syscall} '${path}'`);
      error.code = code;
      throw error;
    }
  }

  open(path: string, mode: 'read' | 'write'): File {
    const file = this.#files.open(lower(path), mode);
    const key = keyOf(path);
    this.#open.set(key, (this.#open.get(key) ?? 0) + 1);
    let isOpen = true;
    let uses = 0;
    const end = (): void => {
      if (isOpen || uses > 0) return;
      const left = this.#open.get(key)! - 1;
      if (left > 0) this.#open.set(key, left);
      else this.#open.delete(key);
    };
    const use = async <T>(work: () => Promise<T>): Promise<T> => {
      uses++;
      try {
        return await work();
      } finally {
        uses--;
        end();
      }
    };
    return {
      write: (bytes, start, stop, position) => file.write(bytes, start, stop, position),
      read: (into, start, stop, position) => file.read(into, start, stop, position),
      readAsync: (into, start, stop, position) =>
        use(() => file.readAsync(into, start, stop, position)),
      size: () => file.size(),
      truncate: (size) => file.truncate(size),
      sync: () => use(() => file.sync()),
      syncNow: () => file.syncNow(),
      close: () => {
        if (!isOpen) return;
        isOpen = false;
        file.close();
        end();
      },
    };
  }

  size(path: string): number {
    return this.#files.size(lower(path));
  }

  isDirectory(path: string): boolean {
    return this.#files.isDirectory(lower(path));
  }

  list(path: string): string[] {
    return this.#files.list(lower(path));
  }

  readFile(path: string): Buffer | undefined {
    return this.#files.readFile(lower(path));
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    this.#refuseOpen('rename', path, 'EPERM');
    await this.#files.replaceFile(lower(path), bytes);
  }

  makeDirectory(path: string): void {
    this.#files.makeDirectory(lower(path));
  }

  rename(from: string, to: string): void {
    this.#refuseOpen('rename', from, 'EPERM');
    this.#refuseOpen('rename', to, 'EPERM');
    this.#files.rename(lower(from), lower(to));
  }

  removeFile(path: string): void {
    this.#refuseOpen('unlink', path, 'EBUSY');
    this.#files.removeFile(lower(path));
  }

  removeDirectory(path: string): void {
    this.#refuseOpen('rmdir', path, 'EBUSY');
    this.#files.removeDirectory(lower(path));
  }

  async syncDirectory(): Promise<void> {
    await Promise.resolve();
  }
}

function lower(path: string): string {
  return path.toLowerCase();
}

function keyOf(path: string): string {
  return lower(path).replaceAll('\\', '/');
}
