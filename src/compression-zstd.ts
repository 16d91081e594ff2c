import type { MessagePort } from 'node:worker_threads';
import { blockSlack, type Compressor, type LoadModule } from './compression.js';

/** What Node has from 22.15 on. */
interface NodeZstd {
  readonly constants: { readonly ZSTD_d_windowLogMax: number };
  zstdCompressSync(bytes: Uint8Array): Buffer;
  zstdDecompressSync(
    bytes: Uint8Array,
    options: {
      readonly maxOutputLength: number;
      readonly params: Readonly<Record<number, number>>;
    },
  ): Buffer;
}

const packageName = '@mongodb-js/zstd';

export function zstd(load: LoadModule): Compressor {
  const zlib = process.getBuiltinModule('node:zlib');
  return 'zstdCompressSync' in zlib ? zstdOfNode(zlib as unknown as NodeZstd) : zstdByPackage(load);
}

/** Node stops after one frame, and up to 22 takes half a frame for a whole one: so frame by frame. */
function zstdOfNode(zlib: NodeZstd): Compressor {
  const params = { [zlib.constants.ZSTD_d_windowLogMax]: maxWindowLog };
  return {
    compress: (bytes) => zlib.zstdCompressSync(bytes),
    decompress(bytes, maxBytes) {
      const results: Buffer[] = [];
      let left = maxBytes;
      for (const { start, end } of framesOf(bytes)) {
        const options = { maxOutputLength: left, params };
        const result = zlib.zstdDecompressSync(bytes.subarray(start, end), options);
        left -= result.length;
        results.push(result);
      }
      return results.length === 1 ? results[0]! : Buffer.concat(results);
    },
  };
}

/** For older Nodes. */
export function zstdByPackage(load: LoadModule): Compressor {
  load(packageName);
  const worker = new PackageInWorker();
  return {
    compress: (bytes) => worker.call('compress', bytes),
    decompress(bytes, maxBytes) {
      const most = framesOf(bytes).reduce((sum, frame) => sum + frame.mostBytes, 0);
      if (most > blockSlack * maxBytes) {
        throw new Error(`zstd of up to ${most} bytes, expected ${maxBytes} at most`);
      }
      const result = worker.call('decompress', bytes);
      if (result.length <= maxBytes) return result;
      throw new Error(`zstd of ${result.length} bytes, expected ${maxBytes} at most`);
    },
  };
}

/** A decoder takes the memory of a frame's window at once: no more than a batch may take. */
const maxWindowLog = 26;
/** What a block takes at the most, decompressed. */
const maxBlockBytes = 128 * 1024;
const [frameMagic, skippableMagic] = [0xfd2fb528, 0x184d2a50];

interface Frame {
  readonly start: number;
  readonly end: number;
  /** What its blocks take at the most, decompressed. */
  readonly mostBytes: number;
}

/** The frames that hold something, which must be all there is (RFC 8878, 3.1). */
function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let start = 0; start < bytes.length;) {
    const magic = start + 8 <= bytes.length ? bytes.readUInt32LE(start) : -1;
    if (magic >>> 4 === skippableMagic >>> 4) {
      start += 8 + bytes.readUInt32LE(start + 4);
      continue;
    }
    if (magic !== frameMagic) throw new Error('no zstd frame');
    const frame = frameAt(bytes, start);
    if (frame.end > bytes.length) throw new Error('a zstd frame without an end');
    frames.push(frame);
    start = frame.end;
  }
  return frames;
}

function frameAt(bytes: Buffer, start: number): Frame {
  const descriptor = bytes[start + 4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const windowLog = isSingleSegment ? 0 : 10 + (bytes[start + 5]! >>> 3);
  if (windowLog > maxWindowLog) throw new Error(`a zstd window of 2^${windowLog} bytes`);
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6]!;
  let mostBytes = 0;
  let end = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let isLast = false; !isLast;) {
    if (end + 3 > bytes.length) throw new Error('a zstd frame without an end');
    const header = bytes.readUIntLE(end, 3);
    isLast = (header & 1) === 1;
    const kind = (header >>> 1) & 3;
    const size = header >>> 3;
    // Stored, one byte repeated, or compressed.
    mostBytes += kind === 2 ? maxBlockBytes : size;
    end += 3 + (kind === 1 ? 1 : size);
  }
  const hasChecksum = (descriptor & 4) !== 0;
  return { start, end: end + (hasChecksum ? 4 : 0), mostBytes };
}

/** Longer than any batch takes: the worker is gone. */
const replyMs = 60_000;

type Reply = { readonly result: Uint8Array } | { readonly error: string };

const workerCode = `
const { port, replies, path } = require('node:worker_threads').workerData;
const zstd = require(path);
port.on('message', async ({ name, bytes }) => {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reply = await zstd[name](input).then(
    (result) => ({ result }),
    (error) => ({ error: String(error) }),
  );
  port.postMessage(reply);
  Atomics.add(replies, 0, 1);
  Atomics.notify(replies, 0);
});`;

/**
 * The package only has promises, but a batch is compressed at once, so that order, and the exit of the
 * process, need no second way: a worker awaits the promise while this thread waits for the worker.
 */
class PackageInWorker {
  #replies = new Int32Array(new SharedArrayBuffer(4));
  #port: MessagePort | null = null;

  call(name: 'compress' | 'decompress', bytes: Buffer): Buffer {
    this.#port ??= this.#start();
    const seen = Atomics.load(this.#replies, 0);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker has none
    this.#port.postMessage({ name, bytes });
    Atomics.wait(this.#replies, 0, seen, replyMs);
    const { receiveMessageOnPort } = process.getBuiltinModule('node:worker_threads');
    const reply = receiveMessageOnPort(this.#port)?.message as Reply | undefined;
    if (reply === undefined) {
      // What it may still say is no answer to the next call.
      this.#port.close();
      this.#port = null;
      throw new Error(`${packageName} gave no answer`);
    }
    if ('error' in reply) throw new Error(reply.error);
    const { buffer, byteOffset, byteLength } = reply.result;
    return Buffer.from(buffer, byteOffset, byteLength);
  }

  #start(): MessagePort {
    const { MessageChannel, Worker } = process.getBuiltinModule('node:worker_threads');
    const { createRequire } = process.getBuiltinModule('node:module');
    const { port1, port2 } = new MessageChannel();
    this.#replies = new Int32Array(new SharedArrayBuffer(4));
    const path = createRequire(import.meta.url).resolve(packageName);
    const worker = new Worker(workerCode, {
      eval: true,
      workerData: { port: port2, replies: this.#replies, path },
      transferList: [port2],
    });
    worker.unref();
    return port1;
  }
}
