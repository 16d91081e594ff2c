import type { Compressor, LoadModule } from './compression.js';

interface Snappy {
  compressSync(bytes: Uint8Array, options: { readonly copyOutputData: boolean }): Buffer;
  uncompressSync(bytes: Uint8Array, options: { readonly copyOutputData: boolean }): Buffer;
}

/** A copy is five times faster than a buffer of foreign memory (measured). */
const options = { copyOutputData: true };

/*
 * snappy-java's stream, which Kafka's clients write ("xerial"): a header of 16 bytes, then blocks, each
 * behind its compressed length. Raw snappy, which some clients wrote, is read as well.
 */
const magic: Buffer = Buffer.from('82534e4150505900', 'hex');
const header: Buffer = Buffer.concat([magic, Buffer.from('0000000100000001', 'hex')]);
/** What snappy-java takes for a block. */
const blockBytes = 32 * 1024;

export function snappy(load: LoadModule): Compressor {
  const native = load('snappy') as Snappy;
  const decompressBlock = (block: Buffer): Buffer => native.uncompressSync(block, options);
  return {
    compress(bytes) {
      const parts: Buffer[] = [header];
      for (let at = 0; at < bytes.length; at += blockBytes) {
        const block = native.compressSync(bytes.subarray(at, at + blockBytes), options);
        const length = Buffer.allocUnsafe(4);
        length.writeInt32BE(block.length);
        parts.push(length, block);
      }
      return Buffer.concat(parts);
    },
    decompress(bytes, maxBytes) {
      const blocks = isStream(bytes) ? blocksOf(bytes) : [bytes];
      let total = 0;
      for (const block of blocks) total += declaredLength(block);
      if (total > maxBytes)
        throw new Error(`snappy of ${total} bytes, expected ${maxBytes} at most`);
      if (blocks.length === 1) return decompressBlock(blocks[0]!);
      return Buffer.concat(blocks.map(decompressBlock));
    },
  };
}

function isStream(bytes: Buffer): boolean {
  return (
    bytes.length >= header.length && bytes.compare(magic, 0, magic.length, 0, magic.length) === 0
  );
}

function blocksOf(bytes: Buffer): Buffer[] {
  const compatibleVersion = bytes.readInt32BE(12);
  if (compatibleVersion > 1) throw new Error(`a snappy stream of version ${compatibleVersion}`);
  const blocks: Buffer[] = [];
  for (let at = header.length; at < bytes.length;) {
    const length = at + 4 > bytes.length ? -1 : bytes.readInt32BE(at);
    if (length < 0 || length > bytes.length - at - 4) {
      throw new Error(
        `a snappy block of ${length} bytes, of which ${bytes.length - at - 4} are there`,
      );
    }
    blocks.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return blocks;
}

/** A block begins with its length, decompressed, as a varint of at most 32 bits. */
function declaredLength(block: Buffer): number {
  let length = 0;
  for (let i = 0; i < 5; i++) {
    const byte = block[i];
    if (byte === undefined) break;
    length += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return length;
  }
  throw new Error('a snappy block without a length');
}
