import { fileError, type File, type FileSystem } from './file-system.js';

/**
 * Files that live as long as this object. Paths are divided at '/' and '\' alike; '.' is passed over and
 * '..' is not known: the log never writes one.
 *
 * A name leads to a directory or to the content of a file, and an open file holds the content itself:
 * renaming or removing the name does not touch it.
 */
export class MemoryFiles implements FileSystem {
  readonly #root: Directory = new Map();

  open(path: string, mode: 'read' | 'write'): File {
    const [directory, name] = this.#locate(path, 'open');
    let node = name === '' ? directory : directory.get(name);
    if (node === undefined) {
      if (mode === 'read') throw fileError('ENOENT', 'open', path);
      node = new Content();
      directory.set(name, node);
    }
    if (node instanceof Map) throw fileError('EISDIR', 'open', path);
    return new MemoryFile(path, node, mode === 'write');
  }

  size(path: string): number {
    const node = this.#find(path);
    return node instanceof Content ? node.size : -1;
  }

  isDirectory(path: string): boolean {
    return this.#find(path) instanceof Map;
  }

  list(path: string): string[] {
    return [...this.#directory(path, 'scandir').keys()].toSorted();
  }

  readFile(path: string): Buffer | undefined {
    const node = this.#find(path);
    if (node === undefined) return undefined;
    if (node instanceof Map) throw fileError('EISDIR', 'read', path);
    const bytes = Buffer.allocUnsafeSlow(node.size);
    node.read(bytes, 0, bytes.length, 0);
    return bytes;
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    const [directory, name] = this.#locate(path, 'open');
    if (name === '' || directory.get(name) instanceof Map)
      throw fileError('EISDIR', 'rename', path);
    const content = new Content();
    content.write(bytes, 0, bytes.length, 0);
    directory.set(name, content);
  }

  makeDirectory(path: string): void {
    const names = namesIn(path);
    let directory = this.#root;
    for (const [depth, name] of names.entries()) {
      let node = directory.get(name);
      if (node === undefined) {
        node = new Map();
        directory.set(name, node);
      }
      if (!(node instanceof Map)) {
        throw fileError(depth === names.length - 1 ? 'EEXIST' : 'ENOTDIR', 'mkdir', path);
      }
      directory = node;
    }
  }

  rename(from: string, to: string): void {
    const [fromDirectory, fromName] = this.#locate(from, 'rename');
    const node = fromDirectory.get(fromName);
    if (node === undefined) throw fileError('ENOENT', 'rename', from);
    const [toDirectory, toName] = this.#locate(to, 'rename');
    const there = toDirectory.get(toName);
    if (there === node) return;
    if (node instanceof Map) {
      if (contains(node, toDirectory)) throw fileError('EINVAL', 'rename', to);
      if (there instanceof Content) throw fileError('ENOTDIR', 'rename', to);
      if (there !== undefined && there.size > 0) throw fileError('ENOTEMPTY', 'rename', to);
    } else if (there instanceof Map) {
      throw fileError('EISDIR', 'rename', to);
    }
    fromDirectory.delete(fromName);
    toDirectory.set(toName, node);
  }

  removeFile(path: string): void {
    const node = this.#find(path);
    if (node === undefined) return;
    if (node instanceof Map) throw fileError('EISDIR', 'unlink', path);
    const [directory, name] = this.#locate(path, 'unlink');
    directory.delete(name);
  }

  removeDirectory(path: string): void {
    const node = this.#find(path);
    if (node === undefined) return;
    if (!(node instanceof Map)) throw fileError('ENOTDIR', 'rmdir', path);
    for (const entry of node.values()) {
      if (entry instanceof Map) throw fileError('ENOTEMPTY', 'rmdir', path);
    }
    const [directory, name] = this.#locate(path, 'rmdir');
    node.clear();
    directory.delete(name);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#directory(path, 'open');
  }

  /** What a path names; undefined where it, or a directory it lies in, is missing. */
  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of namesIn(path)) {
      if (!(node instanceof Map)) return undefined;
      node = node.get(name);
    }
    return node;
  }

  #directory(path: string, syscall: string): Directory {
    const node = this.#find(path);
    if (node instanceof Map) return node;
    throw fileError(node === undefined ? 'ENOENT' : 'ENOTDIR', syscall, path);
  }

  /** The directory that a path's last name is in, and that name, be there such an entry or not. */
  #locate(path: string, syscall: string): [Directory, name: string] {
    const names = namesIn(path);
    const last = names.pop() ?? '';
    let directory = this.#root;
    for (const name of names) {
      const node = directory.get(name);
      if (node === undefined) throw fileError('ENOENT', syscall, path);
      if (!(node instanceof Map)) throw fileError('ENOTDIR', syscall, path);
      directory = node;
    }
    return [directory, last];
  }
}

type Directory = Map<string, Node>;
type Node = Directory | Content;

function namesIn(path: string): string[] {
  return path.split(/[/\\]/).filter((name) => name !== '' && name !== '.');
}

function contains(directory: Directory, searched: Directory): boolean {
  if (directory === searched) return true;
  for (const node of directory.values()) {
    if (node instanceof Map && contains(node, searched)) return true;
  }
  return false;
}

const chunkBytes = 256 * 1024;
const firstBytes = 256;

/**
 * The bytes of one file, in chunks of 256 KiB, so that appending copies nothing that is there. Only the
 * first chunk begins small and doubles: thousands of partitions have files of a few bytes.
 */
class Content {
  size = 0;
  readonly #chunks: Buffer[] = [];

  write(bytes: Uint8Array, start: number, end: number, position: number): void {
    const newEnd = position + end - start;
    if (start < end && newEnd > this.size) this.#grow(position, newEnd);
    let at = start;
    let to = position;
    while (at < end) {
      const chunk = this.#chunkAt(to);
      const offset = to % chunkBytes;
      const count = Math.min(end - at, chunkBytes - offset);
      chunk.set(
        at === 0 && count === bytes.length ? bytes : bytes.subarray(at, at + count),
        offset,
      );
      at += count;
      to += count;
    }
  }

  read(into: Uint8Array, start: number, end: number, position: number): number {
    const length = Math.max(0, Math.min(end - start, this.size - position));
    let at = start;
    let from = position;
    while (at < start + length) {
      const offset = from % chunkBytes;
      const count = Math.min(start + length - at, chunkBytes - offset);
      this.#chunkAt(from).copy(into, at, offset, offset + count);
      at += count;
      from += count;
    }
    return length;
  }

  truncate(size: number): void {
    if (size > this.size) {
      this.#grow(size, size);
      return;
    }
    this.size = size;
    this.#chunks.length = Math.ceil(size / chunkBytes);
  }

  /** Makes room up to `end`. Between the old end and `zerosTo` there will be zeros. */
  #grow(zerosTo: number, end: number): void {
    const first = this.#chunks[0];
    if (first === undefined || first.length < Math.min(end, chunkBytes)) {
      let length = first?.length ?? firstBytes;
      while (length < end && length < chunkBytes) length *= 2;
      const grown = Buffer.allocUnsafeSlow(length);
      first?.copy(grown, 0, 0, this.size);
      this.#chunks[0] = grown;
    }
    while (this.#chunks.length * chunkBytes < end) {
      this.#chunks.push(Buffer.allocUnsafeSlow(chunkBytes));
    }
    for (let at = this.size; at < zerosTo;) {
      const offset = at % chunkBytes;
      const count = Math.min(zerosTo - at, chunkBytes - offset);
      this.#chunkAt(at).fill(0, offset, offset + count);
      at += count;
    }
    this.size = end;
  }

  #chunkAt(position: number): Buffer {
    const chunk = this.#chunks[Math.floor(position / chunkBytes)];
    if (chunk === undefined) throw new RangeError(`no byte ${position} in a file of ${this.size}`);
    return chunk;
  }
}

class MemoryFile implements File {
  readonly #path: string;
  readonly #writable: boolean;
  #content: Content | null;

  constructor(path: string, content: Content, writable: boolean) {
    this.#path = path;
    this.#content = content;
    this.#writable = writable;
  }

  write(bytes: Uint8Array, start: number, end: number, position: number): number {
    if (!this.#writable) throw fileError('EBADF', 'write', this.#path);
    this.#open('write').write(bytes, start, end, position);
    return end - start;
  }

  read(into: Uint8Array, start: number, end: number, position: number): number {
    return this.#open('read').read(into, start, end, position);
  }

  async readAsync(into: Uint8Array, start: number, end: number, position: number): Promise<number> {
    return this.read(into, start, end, position);
  }

  size(): number {
    return this.#open('fstat').size;
  }

  truncate(size: number): void {
    if (!this.#writable) throw fileError('EINVAL', 'ftruncate', this.#path);
    this.#open('ftruncate').truncate(size);
  }

  async sync(): Promise<void> {
    this.#open('fdatasync');
  }

  close(): void {
    this.#content = null;
  }

  #open(syscall: string): Content {
    if (this.#content === null) throw fileError('EBADF', syscall, this.#path);
    return this.#content;
  }
}
