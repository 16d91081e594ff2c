import type { File, FileSystem } from '../../src/storage/file-system.js';
import { MemoryFiles } from '../../src/storage/memory-files.js';
import type { DirectoryImage, Loss } from './loss.js';

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

  constructor(image: DirectoryImage, power: Power) {
    this.#power = power;
    this.#root = this.#load(image, '/');
  }

  #load(image: DirectoryImage, path: string): Directory {
    this.#files.makeDirectory(path);
    const nodes = new Map<string, Node>();
    for (const [name, entry] of image) {
      const at = `${path}/${name}`;
      if (!Buffer.isBuffer(entry)) {
        nodes.set(name, this.#load(entry, at));
        continue;
      }
      const file = this.#files.open(at, 'write');
      file.write(entry, 0, entry.length, 0);
      file.close();
      nodes.set(name, new Content(entry));
    }
    return new Directory(nodes);
  }

  /** What is left on the disk after a loss of power now. */
  at(loss: Loss): DirectoryImage {
    return this.#root.at(loss);
  }

  open(path: string, mode: 'read' | 'write'): File {
    const isNew = mode === 'write' && this.#files.size(path) < 0 && !this.isDirectory(path);
    if (isNew) this.#power.step('create', path);
    const file = this.#files.open(path, mode);
    if (isNew) this.#link(path, new Content(Buffer.alloc(0)));
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
      this.#link(part, new Directory(new Map()));
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
    let node: Node | undefined = this.#root;
    for (const name of namesIn(path)) {
      if (!(node instanceof Directory)) return undefined;
      node = node.names.get(name);
    }
    return node;
  }
}

type Node = Directory | Content;
type NameChange = readonly (readonly [name: string, node: Node | undefined])[];

/** Names, some of which are not durable yet. */
class Directory {
  readonly names: Map<string, Node>;
  readonly #synced: Map<string, Node>;
  #changes: NameChange[] = [];
  /** Changes that are durable are gone from the list: counted, so that a sync knows its own. */
  #syncedCount = 0;

  constructor(names: Map<string, Node>) {
    this.names = names;
    this.#synced = new Map(names);
  }

  get hasDirectories(): boolean {
    return [...this.names.values()].some((node) => node instanceof Directory);
  }

  get changeCount(): number {
    return this.#syncedCount + this.#changes.length;
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
  at(loss: Loss): DirectoryImage {
    const left = new Map(this.#synced);
    const lost = new Set<string>();
    for (const change of this.#changes) {
      const hangsOnLost = change.some(([name]) => lost.has(name));
      if (!hangsOnLost && loss.keeps()) apply(left, change);
      else for (const [name] of change) lost.add(name);
    }
    const image = new Map<string, DirectoryImage | Buffer>();
    for (const [name, node] of left) image.set(name, node.at(loss));
    return image;
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
  #synced: Buffer;
  #changes: ContentChange[] = [];
  #syncedCount = 0;

  constructor(bytes: Buffer) {
    this.#synced = bytes;
  }

  get changeCount(): number {
    return this.#syncedCount + this.#changes.length;
  }

  change(change: ContentChange): void {
    this.#changes.push(change);
  }

  sync(count: number): void {
    for (; this.#syncedCount < count; this.#syncedCount++) {
      this.#synced = changed(this.#synced, this.#changes.shift()!);
    }
  }

  at(loss: Loss): Buffer {
    if (this.#changes.length === 0) return this.#synced;
    const states = [this.#synced];
    for (const change of this.#changes) states.push(changed(states.at(-1)!, change));
    return loss.contentOf(states);
  }
}

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
    this.#content.sync(count);
  }

  syncNow(): void {
    this.#power.step('sync', this.#path);
    this.#file.syncNow();
    this.#content.sync(this.#content.changeCount);
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
