import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { fileError, type File, type FileSystem } from './file-system.js';

const fsync = promisify(fs.fsync);
const fdatasync = promisify(fs.fdatasync);
const { O_CREAT, O_RDONLY, O_RDWR, O_TRUNC } = fs.constants;

/** The operating system's files. */
export const nodeFiles: FileSystem = {
  open(path, mode) {
    return new NodeFile(path, mode === 'write' ? O_RDWR | O_CREAT : O_RDONLY);
  },

  size(path) {
    const stats = unlessMissing(() => fs.statSync(path, { throwIfNoEntry: false }));
    return stats?.isFile() === true ? stats.size : -1;
  },

  isDirectory(path) {
    return lstat(path)?.isDirectory() === true;
  },

  list(path) {
    return fs.readdirSync(path).toSorted();
  },

  readFile(path) {
    return unlessMissing(() => fs.readFileSync(path));
  },

  async replaceFile(path, bytes) {
    const temporary = `${path}.tmp`;
    try {
      await writeWhole(temporary, bytes);
      fs.renameSync(temporary, path);
    } catch (error) {
      fs.rmSync(temporary, { force: true });
      throw error;
    }
    await nodeFiles.syncDirectory(dirname(path));
  },

  makeDirectory,

  rename(from, to) {
    fs.renameSync(from, to);
  },

  removeFile(path) {
    unlessMissing(() => fs.unlinkSync(path));
  },

  removeDirectory(path) {
    const stats = lstat(path);
    if (stats === undefined) return;
    if (!stats.isDirectory()) throw fileError('ENOTDIR', 'rmdir', path);
    const entries = fs.readdirSync(path, { withFileTypes: true });
    if (entries.some((entry) => entry.isDirectory())) throw fileError('ENOTEMPTY', 'rmdir', path);
    for (const { name } of entries) fs.unlinkSync(join(path, name));
    fs.rmdirSync(path);
  },

  async syncDirectory(path) {
    if (process.platform === 'win32') return;
    const fd = fs.openSync(path, O_RDONLY);
    try {
      await fsync(fd);
    } catch (error) {
      if (codeOf(error) !== 'EINVAL') throw error;
    } finally {
      fs.closeSync(fd);
    }
  },
};

/** Step by step: Node 20's own way never ends below /proc, which says of every name that it is missing. */
function makeDirectory(path: string): void {
  try {
    fs.mkdirSync(path);
  } catch (error) {
    if (leadsToDirectory(path)) return;
    const parent = dirname(path);
    if (codeOf(error) !== 'ENOENT' || parent === path || leadsToDirectory(parent)) throw error;
    makeDirectory(parent);
    makeDirectory(path);
  }
}

function leadsToDirectory(path: string): boolean {
  const stats = unlessMissing(() => fs.statSync(path, { throwIfNoEntry: false }));
  return stats?.isDirectory() === true;
}

class NodeFile implements File {
  readonly #path: string;
  #fd: number;
  /** Calls off the main thread: a descriptor closed under them would soon be another file's. */
  #underWay = 0;
  #closed = false;

  constructor(path: string, flags: number) {
    this.#path = path;
    this.#fd = fs.openSync(path, flags);
  }

  write(bytes: Uint8Array, start: number, end: number, position: number): number {
    return fs.writeSync(this.#open('write'), bytes, start, end - start, position);
  }

  read(into: Uint8Array, start: number, end: number, position: number): number {
    const fd = this.#open('read');
    let at = start;
    while (at < end) {
      const count = fs.readSync(fd, into, at, end - at, position + at - start);
      if (count === 0) break;
      at += count;
    }
    return at - start;
  }

  readAsync(into: Uint8Array, start: number, end: number, position: number): Promise<number> {
    return this.#offThread('read', async (fd) => {
      let at = start;
      while (at < end) {
        const count = await readSome(fd, into, at, end, position + at - start);
        if (count === 0) break;
        at += count;
      }
      return at - start;
    });
  }

  size(): number {
    return fs.fstatSync(this.#open('fstat')).size;
  }

  truncate(size: number): void {
    fs.ftruncateSync(this.#open('ftruncate'), size);
  }

  sync(): Promise<void> {
    return this.#offThread('fdatasync', fdatasync);
  }

  close(): void {
    this.#closed = true;
    if (this.#underWay > 0 || this.#fd === -1) return;
    const fd = this.#fd;
    this.#fd = -1;
    fs.closeSync(fd);
  }

  #open(syscall: string): number {
    if (this.#closed) throw fileError('EBADF', syscall, this.#path);
    return this.#fd;
  }

  async #offThread<T>(syscall: string, run: (fd: number) => Promise<T>): Promise<T> {
    const fd = this.#open(syscall);
    this.#underWay++;
    try {
      return await run(fd);
    } finally {
      this.#underWay--;
      if (this.#closed) this.close();
    }
  }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const file = new NodeFile(path, O_RDWR | O_CREAT | O_TRUNC);
  try {
    for (let at = 0; at < bytes.length;) at += file.write(bytes, at, bytes.length, at);
    await file.sync();
  } finally {
    file.close();
  }
}

function readSome(
  fd: number,
  into: Uint8Array,
  start: number,
  end: number,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, into, start, end - start, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

function lstat(path: string): fs.Stats | undefined {
  return unlessMissing(() => fs.lstatSync(path, { throwIfNoEntry: false }));
}

/** What `read` returns; undefined where there is no such file, be it that a parent is none either. */
function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
