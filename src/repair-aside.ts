import { join } from 'node:path';
import type { Slices } from './storage/slices.js';
import { parseSegmentFileName, segmentFileName } from './storage/checkpoint.js';
import { writeAll, type FileSystem } from './storage/file-system.js';
import type { Segment } from './storage/segment.js';

const chunkBytes = 1024 * 1024;

/** The .torn files of a partition: what a repair takes out of its log, and does not delete. */
export class KeptAside {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #slices: Slices;

  constructor(files: FileSystem, directory: string, slices: Slices) {
    this.#files = files;
    this.#directory = directory;
    this.#slices = slices;
  }

  /** Keeps a log that a compaction had replaced. @returns the path; durable with the directory's next sync */
  keepDeleted(name: string): string {
    const base = parseSegmentFileName(name.slice(0, -'.deleted'.length), 'log');
    const path = this.#freePath(base ?? 0);
    this.#files.rename(join(this.#directory, name), path);
    return path;
  }

  /** Takes a whole segment out of the log, and drops its indexes. @returns the path */
  async keepSegment(base: number): Promise<string> {
    const directory = this.#directory;
    const path = this.#freePath(base);
    this.#files.rename(join(directory, segmentFileName(base, 'log')), path);
    for (const suffix of ['index', 'timeindex']) {
      this.#files.removeFile(join(directory, segmentFileName(base, suffix)));
    }
    await this.#files.syncDirectory(directory);
    return path;
  }

  /** The copy is whole and durable before the log is cut; one that an interrupted repair made is good. */
  async keepBytes(segment: Segment, from: number, size: number): Promise<string> {
    const directory = this.#directory;
    let number = 0;
    let path = this.#path(segment.nextOffset, number);
    while (this.#files.size(path) >= 0 && !(await this.#holds(path, segment, from, size))) {
      path = this.#path(segment.nextOffset, ++number);
    }
    if (this.#files.size(path) < 0) {
      const temporary = `${path}.tmp`;
      this.#files.removeFile(temporary);
      const copy = this.#files.open(temporary, 'write');
      try {
        await this.#eachChunk(segment, from, size, async (chunk, length, at) => {
          writeAll(copy, temporary, chunk, length, at);
        });
        await copy.sync();
      } finally {
        copy.close();
      }
      this.#files.rename(temporary, path);
      await this.#files.syncDirectory(directory);
    }
    segment.close();
    const file = this.#files.open(segment.path, 'write');
    try {
      file.truncate(from);
      await file.sync();
    } finally {
      file.close();
    }
    return path;
  }

  /** Whether a file has exactly these bytes of a segment. */
  async #holds(path: string, segment: Segment, from: number, size: number): Promise<boolean> {
    if (this.#files.size(path) !== size - from) return false;
    const file = this.#files.open(path, 'read');
    try {
      let isSame = true;
      await this.#eachChunk(segment, from, size, async (chunk, length, at) => {
        const copy = Buffer.allocUnsafe(length);
        const count = await file.readAsync(copy, 0, length, at);
        isSame &&= count === length && copy.equals(chunk.subarray(0, length));
      });
      return isSame;
    } finally {
      file.close();
    }
  }

  /** @param use given the bytes, how many, and where they are from `from` on */
  async #eachChunk(
    segment: Segment,
    from: number,
    size: number,
    use: (chunk: Buffer, length: number, at: number) => Promise<void>,
  ): Promise<void> {
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, size - from));
    for (let at = from; at < size;) {
      const length = await segment.readAsync(chunk, Math.min(chunk.length, size - at), at);
      await use(chunk, length, at - from);
      at += length;
      if (this.#slices.isOver) await this.#slices.next();
    }
  }

  /** A name that no earlier repair has used. */
  #freePath(offset: number): string {
    for (let number = 0; ; number++) {
      const path = this.#path(offset, number);
      if (this.#files.size(path) < 0) return path;
    }
  }

  #path(offset: number, number: number): string {
    const suffix = number === 0 ? 'torn' : `${number}.torn`;
    return join(this.#directory, segmentFileName(offset, suffix));
  }
}
