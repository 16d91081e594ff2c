import type { File, FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';

/**
 * Files in memory that refuse what Windows refuses, or may: an open file is neither renamed nor removed nor
 * replaced, nor is a directory in which one is open. Names are told apart without regard to case and keep it, and a
 * directory cannot be synced, which is passed over as by Node's files there.
 */
export class WindowsFiles implements FileSystem {
  readonly #files = new MemoryFiles();
  /** How often each path is open, by its lower-case form. */
  readonly #open = new Map<string, number>();

  /** The path in the case in which its names were made. */
  #actual(path: string): string {
    let found = '';
    for (const name of path.split(/[/\\]/).filter((part) => part !== '')) {
      const names = this.#files.isDirectory(found) ? this.#files.list(found) : [];
      const known = names.find((other) => other.toLowerCase() === name.toLowerCase());
      found += `/${known ?? name}`;
    }
    return found;
  }

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
    const file = this.#files.open(this.#actual(path), mode);
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
      close: () => {
        if (!isOpen) return;
        isOpen = false;
        file.close();
        end();
      },
    };
  }

  size(path: string): number {
    return this.#files.size(this.#actual(path));
  }

  isDirectory(path: string): boolean {
    return this.#files.isDirectory(this.#actual(path));
  }

  list(path: string): string[] {
    return this.#files.list(this.#actual(path));
  }

  readFile(path: string): Buffer | undefined {
    return this.#files.readFile(this.#actual(path));
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    this.#refuseOpen('rename', path, 'EPERM');
    await this.#files.replaceFile(this.#actual(path), bytes);
  }

  makeDirectory(path: string): void {
    this.#files.makeDirectory(this.#actual(path));
  }

  rename(from: string, to: string): void {
    this.#refuseOpen('rename', from, 'EPERM');
    this.#refuseOpen('rename', to, 'EPERM');
    this.#files.rename(this.#actual(from), this.#actual(to));
  }

  removeFile(path: string): void {
    this.#refuseOpen('unlink', path, 'EBUSY');
    this.#files.removeFile(this.#actual(path));
  }

  removeDirectory(path: string): void {
    this.#refuseOpen('rmdir', path, 'EBUSY');
    this.#files.removeDirectory(this.#actual(path));
  }

  async syncDirectory(): Promise<void> {
    await Promise.resolve();
  }
}

function keyOf(path: string): string {
  return path.toLowerCase().replaceAll('\\', '/');
}
