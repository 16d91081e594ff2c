import * as fs from 'node:fs';
import { join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { oneByOne, timed, type Measured } from './harness.js';

const chunkBytes = 1024 * 1024;
const chunk = Buffer.alloc(chunkBytes, 'ottla');

/** Writes ready buffers of 1 MiB to a new file of so many bytes in all. */
export function writeFresh(directory: string, bytes: number, count: number): Promise<Measured> {
  return withFile(directory, (fd) =>
    timed(count, () => {
      for (let at = 0; at < bytes; at += chunkBytes) {
        fs.writeSync(fd, chunk, 0, Math.min(chunkBytes, bytes - at), at);
      }
    }),
  );
}

/** Writes `bytes` at the end of a new file, again and again, and if asked makes each durable. */
export function writeEach(
  directory: string,
  bytes: number,
  count: number,
  durable: boolean,
): Promise<Measured> {
  return withFile(directory, (fd) =>
    oneByOne(count, (i) => {
      fs.writeSync(fd, chunk, 0, bytes, i * bytes);
      if (durable) fs.fdatasyncSync(fd);
    }),
  );
}

/** Reads files 1 MiB at a time, and makes the CRC-32C of it all. */
export async function scan(paths: readonly string[], count: number): Promise<Measured> {
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  let crc = 0;
  const measured = await timed(count, () => {
    for (const path of paths) {
      const fd = fs.openSync(path, 'r');
      for (let length = -1; length !== 0;) {
        length = fs.readSync(fd, buffer, 0, chunkBytes, null);
        crc = crc32c(buffer.subarray(0, length), crc);
      }
      fs.closeSync(fd);
    }
  });
  if (crc === 0) throw new Error('nothing was read');
  return measured;
}

/** As scan(), and of so many records in all an object each, with two Buffers over copied bytes: what a consumer gets. */
export async function scanAndMake(paths: readonly string[], count: number): Promise<Measured> {
  const maker = new Maker(paths, count);
  const measured = await timed(count, () => {
    while (maker.next() !== null);
  });
  maker.refuseEmpty();
  return measured;
}

/** As scanAndMake(), and each record handed over by `for await`. */
export async function scanMakeAndAwait(paths: readonly string[], count: number): Promise<Measured> {
  const maker = new Maker(paths, count);
  let run: readonly MadeRecord[] = [];
  let i = 0;
  const records: AsyncIterableIterator<MadeRecord, undefined> = {
    next() {
      if (i < run.length) return Promise.resolve({ value: run[i++]!, done: false });
      const next = maker.next();
      if (next === null) return Promise.resolve({ value: undefined, done: true });
      run = next;
      i = 1;
      return Promise.resolve({ value: run[0]!, done: false });
    },
    [Symbol.asyncIterator]: () => records,
  };
  const measured = await timed(count, async () => {
    for await (const record of records) if (record.value.length === 0) throw new Error('no value');
  });
  maker.refuseEmpty();
  return measured;
}

/** Makes records of the files' bytes, all of one size, in runs of up to 500. */
class Maker {
  readonly #paths: readonly string[];
  readonly #size: number;
  readonly #buffer = Buffer.allocUnsafeSlow(chunkBytes);
  #file = 0;
  #fd = -1;
  #length = 0;
  #at = 0;
  #crc = 0;
  #offset = 0;
  #memory: ArrayBufferLike = new ArrayBuffer(0);
  #copied = 0;
  #used = 0;

  constructor(paths: readonly string[], count: number) {
    this.#paths = paths;
    this.#size = Math.floor(sizeOf(paths) / count);
  }

  next(): MadeRecord[] | null {
    const size = this.#size;
    const made: MadeRecord[] = [];
    while (made.length < runCount) {
      if (this.#used + size > this.#copied && !this.#copy()) return made.length > 0 ? made : null;
      made.push(new MadeRecord(this.#offset++, this.#memory, this.#used, size));
      this.#used += size;
    }
    return made;
  }

  /** Copies what comes next into a slab; false at the end. */
  #copy(): boolean {
    this.#at += this.#used;
    while (this.#at + this.#size > this.#length) if (!this.#read()) return false;
    const slab = Buffer.allocUnsafeSlow(slabBytes);
    this.#copied = Math.min(slabBytes, this.#length - this.#at);
    this.#buffer.copy(slab, 0, this.#at, this.#at + this.#copied);
    this.#memory = slab.buffer;
    this.#used = 0;
    return true;
  }

  #read(): boolean {
    if (this.#fd === -1) {
      const path = this.#paths[this.#file++];
      if (path === undefined) return false;
      this.#fd = fs.openSync(path, 'r');
    }
    this.#length = fs.readSync(this.#fd, this.#buffer, 0, chunkBytes, null);
    this.#crc = crc32c(this.#buffer.subarray(0, this.#length), this.#crc);
    [this.#at, this.#copied, this.#used] = [0, 0, 0];
    if (this.#length > 0) return true;
    fs.closeSync(this.#fd);
    this.#fd = -1;
    return this.#read();
  }

  refuseEmpty(): void {
    if (this.#crc === 0 || this.#offset === 0) throw new Error('nothing was read');
  }
}

const slabBytes = 16 * 1024;
const runCount = 500;
const keyBytes = 16;
const View: new (memory: ArrayBufferLike, offset: number, length: number) => Buffer = Reflect.get(
  Buffer,
  Symbol.species,
);

class MadeRecord {
  readonly topic: string = 'bench';
  readonly partition: number = 0;
  readonly offset: number;
  readonly timestamp: number;
  readonly key: Buffer;
  readonly value: Buffer;
  readonly headers: readonly never[] | null = null;

  constructor(offset: number, memory: ArrayBufferLike, start: number, size: number) {
    this.offset = offset;
    this.timestamp = 1.7e12;
    this.key = new View(memory, start, keyBytes);
    this.value = new View(memory, start + keyBytes, size - keyBytes);
  }
}

async function withFile(
  directory: string,
  work: (fd: number) => Promise<Measured>,
): Promise<Measured> {
  const path = join(directory, 'floor');
  const fd = fs.openSync(path, 'wx');
  try {
    return await work(fd);
  } finally {
    fs.closeSync(fd);
    fs.unlinkSync(path);
  }
}

/** The log files of a topic. */
export function logsOf(directory: string, topic: string): string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => name.startsWith(`${topic}-`))
    .flatMap((name) =>
      fs.readdirSync(join(directory, name)).map((file) => join(directory, name, file)),
    )
    .filter((path) => path.endsWith('.log'));
}

export function sizeOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + fs.statSync(path).size, 0);
}
