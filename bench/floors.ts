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
