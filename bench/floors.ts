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
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  const size = Math.floor(sizeOf(paths) / count);
  let crc = 0;
  let offset = 0;
  let made: MadeRecord[] = [];
  const measured = await timed(count, () => {
    for (const path of paths) {
      const fd = fs.openSync(path, 'r');
      for (let length = -1; length !== 0;) {
        length = fs.readSync(fd, buffer, 0, chunkBytes, null);
        crc = crc32c(buffer.subarray(0, length), crc);
        for (let at = 0; at + size <= length;) {
          const slab = Buffer.allocUnsafeSlow(slabBytes);
          const copied = Math.min(slabBytes, length - at);
          buffer.copy(slab, 0, at, at + copied);
          const { buffer: memory } = slab;
          let i = 0;
          for (; i + size <= copied; i += size) {
            if (made.length === runCount) made = [];
            made.push(new MadeRecord(offset++, memory, i, size));
          }
          at += i;
        }
      }
      fs.closeSync(fd);
    }
  });
  if (crc === 0 || made.length === 0) throw new Error('nothing was read');
  return measured;
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
