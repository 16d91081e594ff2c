import { blockSlack, type Compressor, type LoadModule } from './compression.js';

interface Lz4 {
  compressFrameSync(bytes: Buffer): Buffer;
  decompressFrameSync(bytes: Buffer): Buffer;
}

/** The LZ4 frame format 1.6, of which Kafka takes independent blocks only (KIP-57). */
export function lz4(load: LoadModule): Compressor {
  const native = load('lz4-napi') as Lz4;
  return {
    compress: (bytes) => native.compressFrameSync(bytes),
    decompress(bytes, maxBytes) {
      const most = mostBytes(bytes);
      if (most > blockSlack * maxBytes) {
        throw new Error(`lz4 of up to ${most} bytes, expected ${maxBytes} at most`);
      }
      const result = native.decompressFrameSync(bytes);
      if (result.length <= maxBytes) return result;
      throw new Error(`lz4 of ${result.length} bytes, expected ${maxBytes} at most`);
    },
  };
}

const magic = 0x184d2204;
const maxRatio = 255;
const [hasContentSize, hasBlockChecksums, hasContentChecksum] = [0x08, 0x10, 0x04];

/**
 * Walks one frame, which must be all there is, block by block.
 * @returns what its blocks may take at the most
 */
function mostBytes(bytes: Buffer): number {
  if (bytes.length < 7 || bytes.readUInt32LE(0) !== magic) throw new Error('no lz4 frame');
  const flags = bytes[4]!;
  if ((flags & 0xe3) !== 0x60) {
    throw new Error(`an lz4 frame with flags ${flags}: expected version 1 and independent blocks`);
  }
  const sizeCode = (bytes[5]! >>> 4) & 7;
  if (sizeCode < 4) throw new Error(`an lz4 block size of ${sizeCode}`);
  const blockBytes = 2 ** (8 + 2 * sizeCode);
  const checksumBytes = (flags & hasBlockChecksums) === 0 ? 0 : 4;
  let at = 7 + ((flags & hasContentSize) === 0 ? 0 : 8);
  let most = 0;
  for (;;) {
    if (at + 4 > bytes.length) throw new Error('an lz4 frame without an end');
    const word = bytes.readUInt32LE(at);
    at += 4;
    if (word === 0) break;
    const size = word & 0x7fff_ffff;
    const isStored = word !== size;
    most += Math.min(blockBytes, isStored ? size : size * maxRatio);
    at += size + checksumBytes;
  }
  if ((flags & hasContentChecksum) !== 0) at += 4;
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes behind an lz4 frame`);
  return most;
}
