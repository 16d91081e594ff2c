import type { File, FileSystem } from '../../src/storage/file-system.js';
import { MemoryFiles } from '../../src/storage/memory-files.js';
import { ioError, noSpace } from '../watched-files.js';
import type { Loss } from './loss.js';

/** What a disk is asked for that changes something, or makes it durable. */
export type StepName =
  | 'create'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'makeDirectory'
  | 'rename'
  | 'unlink'
  | 'removeDirectory'
  | 'syncDirectory'
  | 'rows'
  | 'rows written'
  | 'rest';

/** What happens at the calls to a disk. */
export interface Power {
  /** Called before each step: the power may fail here. */
  step(name: StepName, path: string): void;
  /** As long as the disk takes for it. */
  wait(): Promise<void>;
  /** Whether the step fails now, with EIO for a sync and with ENOSPC for a write. */
  fails(name: 'write' | 'sync', path: string): boolean;
}

/**
 * Files in memory that know what of them is durable. Each name in a directory and each file's content
 * has what was synced and, in order, what changed since; at() makes of it what a loss of power leaves.
 * What the process sees is MemoryFiles: the page cache.
 */
export class PowerFiles implements FileSystem {
  readonly #files = new MemoryFiles();
  readonly #root: Directory;
  readonly #power: Power;

  constructor(image: Directory, power: Power) {
    this.#power = power;
    this.#root = image.copy();
    this.#show(this.#root, '/');
  }

  #show(directory: Directory, path: string): void {
    this.#files.makeDirectory(path);
    for (const [name, node] of directory.names) {
      const at = `${path}/${name}`;
      if (node instanceof Directory) {
        this.#show(node, at);
        continue;
      }
      const file = this.#files.open(at, 'write');
      const { bytes } = node;
      file.write(bytes, 0, bytes.length, 0);
      file.close();
    }
  }

  /** What is left on the disk after a crash now. */
  at(loss: Loss): Directory {
    return loss.kind === 'kill' ? this.#root.copy() : this.#root.at(loss);
  }

  open(path: string, mode: 'read' | 'write'): File {
    const isNew = mode === 'write' && this.#files.size(path) < 0 && !this.isDirectory(path);
    if (isNew) this.#power.step('create', path);
    const file = this.#files.open(path, mode);
    if (isNew) this.#link(path, new Content());
    return new PowerFile(file, this.#find(path) as Content, path, this.#power);
  }

  size(path: string): number {
    return this.#files.size(path);
  }

  isDirectory(path: string): boolean {
    return this.#files.isDirectory(path);
  }

  list(path: string): string[] {
    return this.#files.list(path);
  }

  readFile(path: string): Buffer | undefined {
    return this.#files.readFile(path);
  }

  /** As Node's files do it. */
  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = `${path}.tmp`;
    const file = this.open(temporary, 'write');
    if (file.size() > 0) file.truncate(0);
    file.write(bytes, 0, bytes.length, 0);
    await file.sync();
    file.close();
    this.rename(temporary, path);
    await this.syncDirectory(parentOf(path));
  }

  makeDirectory(path: string): void {
    const names = namesIn(path);
    for (let depth = 1; depth <= names.length; depth++) {
      const part = `/${names.slice(0, depth).join('/')}`;
      if (this.#find(part) instanceof Directory) continue;
      this.#power.step('makeDirectory', part);
      this.#files.makeDirectory(part);
      this.#link(part, new Directory());
    }
  }

  rename(from: string, to: string): void {
    const directory = this.#directoryOf(from);
    if (directory !== this.#directoryOf(to)) throw new Error('a rename between directories');
    this.#power.step('rename', from);
    this.#files.rename(from, to);
    directory.change([
      [lastOf(from), undefined],
      [lastOf(to), this.#find(from)],
    ]);
  }

  removeFile(path: string): void {
    if (this.#find(path) === undefined) return;
    this.#power.step('unlink', path);
    this.#files.removeFile(path);
    this.#link(path, undefined);
  }

  /** As Node's files do it. */
  removeDirectory(path: string): void {
    const node = this.#find(path);
    if (!(node instanceof Directory) || node.hasDirectories) {
      this.#files.removeDirectory(path);
      return;
    }
    for (const name of this.#files.list(path)) this.removeFile(`${path}/${name}`);
    this.#power.step('removeDirectory', path);
    this.#files.removeDirectory(path);
    this.#link(path, undefined);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#files.syncDirectory(path);
    const directory = this.#find(path) as Directory;
    const count = directory.changeCount;
    this.#power.step('syncDirectory', path);
    await this.#power.wait();
    this.#power.step('syncDirectory', path);
    directory.sync(count);
  }

  #link(path: string, node: Node | undefined): void {
    this.#directoryOf(path).change([[lastOf(path), node]]);
  }

  #directoryOf(path: string): Directory {
    return this.#find(parentOf(path)) as Directory;
  }

  #find(path: string): Node | undefined {
    return this.#root.find(path);
  }
}

type Node = Directory | Content;
type NameChange = readonly (readonly [name: string, node: Node | undefined])[];

/** Names, some of which are not durable yet. */
export class Directory {
  readonly names: Map<string, Node> = new Map();
  readonly #synced = new Map<string, Node>();
  #changes: NameChange[] = [];
  /** Changes that are durable are gone from the list: counted, so that a sync knows its own. */
  #syncedCount = 0;

  get hasDirectories(): boolean {
    return [...this.names.values()].some((node) => node instanceof Directory);
  }

  get changeCount(): number {
    return this.#syncedCount + this.#changes.length;
  }

  /** What a path names, as the process sees it. */
  find(path: string): Node | undefined {
    const below = (node: Node | undefined, name: string): Node | undefined =>
      node instanceof Directory ? node.names.get(name) : undefined;
    return namesIn(path).reduce<Node | undefined>(below, this);
  }

  change(change: NameChange): void {
    apply(this.names, change);
    this.#changes.push(change);
  }

  /** Makes the first `count` changes durable. */
  sync(count: number): void {
    for (; this.#syncedCount < count; this.#syncedCount++) {
      apply(this.#synced, this.#changes.shift()!);
    }
  }

  /** One rename is there or not. Who changes a name after another has it after the other. */
  at(loss: Loss): Directory {
    const left = new Map(this.#synced);
    const lost = new Set<string>();
    for (const change of this.#changes) {
      const hangsOnLost = change.some(([name]) => lost.has(name));
      if (!hangsOnLost && loss.keeps()) apply(left, change);
      else for (const [name] of change) lost.add(name);
    }
    const result = new Directory();
    for (const [name, node] of left) {
      const after = node.at(loss);
      result.names.set(name, after);
      result.#synced.set(name, after);
    }
    return result;
  }

  /** As it is, what is not durable included. A node has one copy, whatever names it. */
  copy(copies: Map<Node, Node> = new Map()): Directory {
    const made = copies.get(this);
    if (made !== undefined) return made as Directory;
    const result = new Directory();
    copies.set(this, result);
    for (const [name, node] of this.names) result.names.set(name, node.copy(copies));
    for (const [name, node] of this.#synced) result.#synced.set(name, node.copy(copies));
    result.#changes = this.#changes.map((change) =>
      change.map(([name, node]) => [name, node?.copy(copies)] as const),
    );
    return result;
  }
}

function apply(names: Map<string, Node>, change: NameChange): void {
  for (const [name, node] of change) {
    if (node === undefined) names.delete(name);
    else names.set(name, node);
  }
}

interface ContentChange {
  readonly position: number;
  /** null: the file is cut, or lengthened, to `position`. */
  readonly bytes: Buffer | null;
}

/** A file's bytes, some of which are not durable yet. */
class Content {
  #synced: Buffer = Buffer.alloc(0);
  #changes: ContentChange[] = [];
  /** What the process sees, where that is not all that changed: after a sync that failed. */
  #seen: Buffer | null = null;
  #syncedCount = 0;

  get changeCount(): number {
    return this.#syncedCount + this.#changes.length;
  }

  /** As the process sees them. */
  get bytes(): Buffer {
    return this.#seen ?? this.#changes.reduce(changed, this.#synced);
  }

  change(change: ContentChange): void {
    this.#changes.push(change);
    if (this.#seen !== null) this.#seen = changed(this.#seen, change);
  }

  sync(count: number): void {
    for (; this.#syncedCount < count; this.#syncedCount++) {
      this.#synced = changed(this.#synced, this.#changes.shift()!);
    }
  }

  /**
   * As Linux does it: what could not be written counts as clean, and stays in the cache. No later sync
   * writes it, unless it is written again.
   */
  failSync(count: number): void {
    this.#seen = this.bytes;
    this.#changes = this.#changes.map((change, i) =>
      this.#syncedCount + i < count && change.bytes !== null ? nothingWritten : change,
    );
  }

  at(loss: Loss): Content {
    const states = [this.#synced];
    for (const change of this.#changes) states.push(changed(states.at(-1)!, change));
    const result = new Content();
    result.#synced = states.length === 1 ? this.#synced : loss.contentOf(states);
    return result;
  }

  copy(copies: Map<Node, Node>): Content {
    const made = copies.get(this);
    if (made !== undefined) return made as Content;
    const result = new Content();
    copies.set(this, result);
    result.#synced = this.#synced;
    result.#changes = [...this.#changes];
    result.#seen = this.#seen;
    return result;
  }
}

const nothingWritten: ContentChange = { position: 0, bytes: Buffer.alloc(0) };

function changed(content: Buffer, { position, bytes }: ContentChange): Buffer {
  const end = position + (bytes?.length ?? 0);
  const size = bytes === null ? end : Math.max(content.length, end);
  const result = Buffer.alloc(size);
  content.copy(result);
  bytes?.copy(result, position);
  return result;
}

class PowerFile implements File {
  readonly #file: File;
  readonly #content: Content;
  readonly #path: string;
  readonly #power: Power;

  constructor(file: File, content: Content, path: string, power: Power) {
    this.#file = file;
    this.#content = content;
    this.#path = path;
    this.#power = power;
  }

  write(bytes: Uint8Array, start: number, end: number, position: number): number {
    this.#power.step('write', this.#path);
    if (this.#power.fails('write', this.#path)) throw noSpace(this.#path);
    const written = this.#file.write(bytes, start, end, position);
    this.#content.change({ position, bytes: Buffer.from(bytes.subarray(start, start + written)) });
    return written;
  }

  read(into: Uint8Array, start: number, end: number, position: number): number {
    return this.#file.read(into, start, end, position);
  }

  async readAsync(into: Uint8Array, start: number, end: number, position: number): Promise<number> {
    const length = this.read(into, start, end, position);
    await this.#power.wait();
    return length;
  }

  size(): number {
    return this.#file.size();
  }

  truncate(size: number): void {
    this.#power.step('truncate', this.#path);
    this.#file.truncate(size);
    this.#content.change({ position: size, bytes: null });
  }

  async sync(): Promise<void> {
    await this.#file.sync();
    const count = this.#content.changeCount;
    this.#power.step('sync', this.#path);
    await this.#power.wait();
    this.#power.step('sync', this.#path);
    if (this.#power.fails('sync', this.#path)) {
      this.#content.failSync(count);
      throw ioError('fdatasync', this.#path);
    }
    this.#content.sync(count);
  }

  close(): void {
    this.#file.close();
  }
}

function namesIn(path: string): string[] {
  return path.split(/[/\\]/).filter((name) => name !== '' && name !== '.');
}

function lastOf(path: string): string {
  return namesIn(path).at(-1)!;
}

function parentOf(path: string): string {
  return `/${namesIn(path).slice(0, -1).join('/')}`;
}
