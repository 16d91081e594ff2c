import type { File, FileSystem } from '../src/storage/file-system.js';
import { fileError } from '../src/storage/file-system.js';

export type CallName =
  | 'open'
  | 'close'
  | 'write'
  | 'read'
  | 'readAsync'
  | 'truncate'
  | 'sync'
  | 'readFile'
  | 'list'
  | 'size'
  | 'isDirectory'
  | 'replaceFile'
  | 'makeDirectory'
  | 'rename'
  | 'removeFile'
  | 'removeDirectory'
  | 'syncDirectory';

/** One call to the file system, before it is made. */
export interface Call {
  readonly name: CallName;
  readonly path: string;
  /** Of writes and reads, else -1. */
  readonly position: number;
  /** How many are to be written or read; else 0. */
  readonly bytes: number;
}

/** A file system that tells of each call before it is made. */
export class WatchedFiles implements FileSystem {
  readonly #files: FileSystem;
  /**
   * What it throws fails the call. Of a write or a read it may return how many bytes get through; a call
   * that returns a promise it may hold back by one.
   */
  onCall: (call: Call) => number | Promise<void> | undefined;
  /** Files that are open now. */
  openCount = 0;

  constructor(files: FileSystem, onCall: WatchedFiles['onCall'] = () => undefined) {
    this.#files = files;
    this.onCall = onCall;
  }

  /** @returns how many bytes of a write or a read get through */
  tell(name: CallName, path: string, position = -1, bytes = 0): number {
    const answer = this.onCall({ name, path: path.replaceAll('\\', '/'), position, bytes });
    return typeof answer === 'number' ? answer : bytes;
  }

  async tellAndHold(
    name: CallName,
    path: string,
    position: number = -1,
    bytes: number = 0,
  ): Promise<number> {
    const call = { name, path: path.replaceAll('\\', '/'), position, bytes };
    const answer = await this.onCall(call);
    return typeof answer === 'number' ? answer : bytes;
  }

  open(path: string, mode: 'read' | 'write'): File {
    this.tell('open', path);
    const file = this.#files.open(path, mode);
    this.openCount++;
    return new WatchedFile(this, file, path);
  }

  size(path: string): number {
    this.tell('size', path);
    return this.#files.size(path);
  }

  isDirectory(path: string): boolean {
    this.tell('isDirectory', path);
    return this.#files.isDirectory(path);
  }

  list(path: string): string[] {
    this.tell('list', path);
    return this.#files.list(path);
  }

  readFile(path: string): Buffer | undefined {
    this.tell('readFile', path);
    return this.#files.readFile(path);
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    await this.tellAndHold('replaceFile', path, -1, bytes.length);
    await this.#files.replaceFile(path, bytes);
  }

  makeDirectory(path: string): void {
    this.tell('makeDirectory', path);
    this.#files.makeDirectory(path);
  }

  rename(from: string, to: string): void {
    this.tell('rename', from);
    this.#files.rename(from, to);
  }

  removeFile(path: string): void {
    this.tell('removeFile', path);
    this.#files.removeFile(path);
  }

  removeDirectory(path: string): void {
    this.tell('removeDirectory', path);
    this.#files.removeDirectory(path);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.tellAndHold('syncDirectory', path);
    await this.#files.syncDirectory(path);
  }
}

class WatchedFile implements File {
  readonly #files: WatchedFiles;
  readonly #file: File;
  readonly #path: string;
  #isOpen = true;

  constructor(files: WatchedFiles, file: File, path: string) {
    this.#files = files;
    this.#file = file;
    this.#path = path;
  }

  write(bytes: Uint8Array, start: number, end: number, position: number): number {
    const count = this.#files.tell('write', this.#path, position, end - start);
    return this.#file.write(bytes, start, start + count, position);
  }

  read(into: Uint8Array, start: number, end: number, position: number): number {
    const count = this.#files.tell('read', this.#path, position, end - start);
    return this.#file.read(into, start, start + count, position);
  }

  async readAsync(into: Uint8Array, start: number, end: number, position: number): Promise<number> {
    const count = await this.#files.tellAndHold('readAsync', this.#path, position, end - start);
    return this.#file.readAsync(into, start, start + count, position);
  }

  size(): number {
    this.#files.tell('size', this.#path);
    return this.#file.size();
  }

  truncate(size: number): void {
    this.#files.tell('truncate', this.#path, size);
    this.#file.truncate(size);
  }

  async sync(): Promise<void> {
    await this.#files.tellAndHold('sync', this.#path);
    await this.#file.sync();
  }

  close(): void {
    if (this.#isOpen) this.#files.openCount--;
    this.#isOpen = false;
    // One that fails has closed the file, too.
    this.#file.close();
    this.#files.tell('close', this.#path);
  }
}

/** An input/output error, as of a disk that fails. */
export function ioError(syscall: string, path: string): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(`EIO: i/o error, ${syscall} '${path}'`);
  error.code = 'EIO';
  return error;
}

export function noSpace(path: string): NodeJS.ErrnoException {
  return fileError('ENOSPC', 'write', path);
}
