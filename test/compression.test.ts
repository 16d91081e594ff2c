import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maxDecompressedBytes, type Compressor } from '../src/compression.js';
import { loadCompressor, makeCompressor } from '../src/compressor.js';
import { zstdByPackage } from '../src/compression-zstd.js';
import { OttlaError } from '../src/errors.js';
import { failureOf } from './contract.js';
import { seeds } from './seeds.js';

const require = createRequire(import.meta.url);
const compressors: Readonly<Record<string, Compressor>> = {
  gzip: loadCompressor('gzip')!,
  snappy: loadCompressor('snappy')!,
  lz4: loadCompressor('lz4')!,
  zstd: loadCompressor('zstd')!,
  'zstd, by its package': zstdByPackage(require),
};
const each = Object.entries(compressors);

/** Repeats itself, and does not. */
const payload = fc
  .tuple(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.integer({ min: 1, max: 1000 }))
  .map(([bytes, times]) => Buffer.concat(Array<Uint8Array>(times).fill(bytes)));

const sizes = [1, 100, 32_767, 32_768, 32_769, 65_536, 65_537, 131_073, 300_000, 5_000_000];

describe.each(each)('%s', (_, compressor) => {
  it.each(sizes)('gives back %i bytes', (size) => {
    const bytes = Buffer.alloc(size, 'all work and no play makes a dull log. ');
    const compressed = Buffer.from(compressor.compress(bytes));
    expect(compressed.length).toBeLessThan(size / 2 + 40);
    expect(compressor.decompress(compressed, 5_000_000).equals(bytes)).toBe(true);
  });

  it('gives back anything', () => {
    fc.assert(
      fc.property(payload, (bytes) => {
        const compressed = Buffer.from(compressor.compress(bytes));
        expect(compressor.decompress(compressed, maxDecompressedBytes).equals(bytes)).toBe(true);
      }),
      { numRuns: seeds(60) },
    );
  });

  it('takes nothing that is larger than it may be', () => {
    const bytes = Buffer.alloc(1_000_000);
    const compressed = Buffer.from(compressor.compress(bytes));
    expect(compressor.decompress(compressed, 1_048_576)).toHaveLength(1_000_000);
    expect(() => compressor.decompress(compressed, 999_999)).toThrow(
      /999999|ERR_BUFFER_TOO_LARGE|larger/,
    );
  });

  it('fails for damage, or gives what is no larger than it may be', () => {
    const good = Buffer.from(compressor.compress(Buffer.alloc(5000, 'abcdefgh0123')));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1 }), (changes) => {
        const bytes = Buffer.from(good);
        for (const [where, byte] of changes) bytes[where % bytes.length] = byte;
        expect(lengthOrError(compressor, bytes)).toBeLessThanOrEqual(100_000);
      }),
      { numRuns: seeds(300) },
    );
  });

  it('fails for what is cut off, or is something else', () => {
    const good = Buffer.from(compressor.compress(Buffer.alloc(5000, 'abcdefgh0123')));
    for (const end of [1, 4, 12, 17, 18, good.length - 1]) {
      expect(lengthOrError(compressor, good.subarray(0, end)), `${end} bytes`).toBe(-1);
    }
    expect(lengthOrError(compressor, Buffer.alloc(100, 0xff))).toBe(-1);
  });
});

function lengthOrError(compressor: Compressor, bytes: Buffer): number {
  try {
    return compressor.decompress(bytes, 100_000).length;
  } catch (error) {
    if (error instanceof Error) return -1;
    throw error;
  }
}

describe('the framing', () => {
  const bytes = Buffer.alloc(70_000, 'v');
  const hexOf = (name: string): string =>
    Buffer.from(compressors[name]!.compress(bytes)).toString('hex');

  it('of gzip is a gzip member', () => {
    expect(hexOf('gzip')).toMatch(/^1f8b08/);
  });

  it('of snappy is snappy-java’s, in blocks of 32 KiB', () => {
    const stream = Buffer.from(hexOf('snappy'), 'hex');
    expect(stream.subarray(0, 16).toString('hex')).toBe('82534e41505059000000000100000001');
    const lengths: number[] = [];
    for (let at = 16; at < stream.length; at += 4 + stream.readInt32BE(at)) {
      const snappy = require('snappy') as { uncompressSync(block: Buffer): Buffer };
      const block = stream.subarray(at + 4, at + 4 + stream.readInt32BE(at));
      lengths.push(snappy.uncompressSync(block).length);
    }
    expect(lengths).toEqual([32_768, 32_768, 70_000 - 65_536]);
  });

  it('of lz4 is a frame of version 1 with independent blocks, as KIP-57 asks', () => {
    const frame = hexOf('lz4');
    expect(frame).toMatch(/^04224d18/);
    expect(Number.parseInt(frame.slice(8, 10), 16) & 0xe0).toBe(0x60);
  });

  it.each(['zstd', 'zstd, by its package'])('of %s is a zstd frame', (name) => {
    expect(hexOf(name)).toMatch(/^28b52ffd/);
  });

  it('of both ways to zstd is the same to the other', () => {
    const [zstd, byPackage] = [compressors['zstd']!, compressors['zstd, by its package']!];
    const there = Buffer.from(zstd.compress(bytes));
    const back = Buffer.from(byPackage.compress(bytes));
    expect(byPackage.decompress(there, 100_000).equals(bytes)).toBe(true);
    expect(zstd.decompress(back, 100_000).equals(bytes)).toBe(true);
  });
});

describe('snappy', () => {
  const { snappy } = compressors as { readonly snappy: Compressor };
  const raw = (text: string): Buffer =>
    (require('snappy') as { compressSync(bytes: string): Buffer }).compressSync(text);
  const header = Buffer.from('82534e41505059000000000100000001', 'hex');

  it('is read without a frame too', () => {
    const text = 'raw '.repeat(1000);
    expect(String(snappy.decompress(raw(text), 4000))).toBe(text);
    expect(() => snappy.decompress(raw(text), 3999)).toThrow('snappy of 4000 bytes, expected 3999');
  });

  it('is read in blocks of any size', () => {
    const texts = ['a', 'bb'.repeat(50_000), '', 'ccc'];
    const blocks = texts.flatMap((text) => {
      const block = raw(text);
      const length = Buffer.alloc(4);
      length.writeInt32BE(block.length);
      return [length, block];
    });
    const stream = Buffer.concat([header, ...blocks]);
    expect(String(snappy.decompress(stream, 200_000))).toBe(texts.join(''));
  });

  it.each([
    ['a later version', Buffer.from('82534e41505059000000000200000002', 'hex'), 'version 2'],
    ['a negative length', Buffer.concat([header, Buffer.from('ffffffff', 'hex')]), '-1 bytes'],
    [
      'a block that is not there',
      Buffer.concat([header, Buffer.from('00000009', 'hex')]),
      '9 bytes',
    ],
    ['half a length', Buffer.concat([header, Buffer.from('0000', 'hex')]), '-1 bytes'],
    [
      '2 GiB that are only declared',
      Buffer.from('ffffffff07', 'hex'),
      'snappy of 2147483647 bytes',
    ],
    ['no length', Buffer.from('ffffffffffff', 'hex'), 'without a length'],
  ])('is refused: %s', (_, bytes, message) => {
    expect(() => snappy.decompress(bytes, 1000)).toThrow(message);
  });
});

describe('lz4', () => {
  const { lz4 } = compressors as { readonly lz4: Compressor };
  const frame = (): Buffer => Buffer.from(lz4.compress(Buffer.alloc(100, 'x')));

  it.each<[what: string, edit: (bytes: Buffer) => Buffer, message: string]>([
    ['dependent blocks, as Kafka does', (b) => b.fill(0x40, 4, 5), 'independent blocks'],
    ['another version', (b) => b.fill(0xa0, 4, 5), 'version 1'],
    ['a dictionary', (b) => b.fill(0x61, 4, 5), 'flags 97'],
    ['a small block size', (b) => b.fill(0x30, 5, 6), 'block size of 3'],
    ['bytes behind the frame', (b) => Buffer.concat([b, b]), 'behind an lz4 frame'],
    ['a wrong header checksum', (b) => b.fill(b[6]! ^ 1, 6, 7), 'HeaderChecksumError'],
    ['no end', (b) => b.subarray(0, -4), 'without an end'],
  ])('is refused: %s', (_, edit, message) => {
    expect(() => lz4.decompress(edit(frame()), 100_000)).toThrow(message);
  });
});

const zstds = each.filter(([name]) => name.startsWith('zstd'));

describe.each(zstds)('%s', (_, zstd) => {
  it('f28 takes no memory for blocks of one repeated byte that no size is declared of', () => {
    // Frames without a content size: 8 MiB of window, then blocks of 128 KiB in 4 bytes each.
    const block = Buffer.alloc(3);
    block.writeUIntLE((131_072 << 3) | 2, 0, 3);
    const blocks = Array<Buffer>(8192).fill(Buffer.concat([block, Buffer.from([7])]));
    const last = Buffer.from([1, 0, 0]);
    const bomb = Buffer.concat([Buffer.from('28b52ffd0068', 'hex'), ...blocks, last]);
    expect(() => zstd.decompress(bomb, maxDecompressedBytes)).toThrow(Error);
  });

  it('f28 takes no memory for a window of 128 MiB', () => {
    const empty = Buffer.from('28b52ffd0088010000', 'hex');
    expect(() => zstd.decompress(empty, maxDecompressedBytes)).toThrow('a zstd window of 2^27');
  });

  it('reads frame after frame, and passes over those that are to be skipped', () => {
    const skipped = Buffer.from('502a4d1803000000aabbcc', 'hex');
    const frames = ['one ', 'two ', 'three'].map((text) => zstd.compress(Buffer.from(text)));
    const bytes = Buffer.concat([skipped, frames[0]!, frames[1]!, skipped, frames[2]!]);
    expect(String(zstd.decompress(bytes, 13))).toBe('one two three');
    expect(() => zstd.decompress(bytes.subarray(0, -1), 1000)).toThrow('without an end');
    expect(() => zstd.decompress(Buffer.concat([bytes, skipped.subarray(0, 3)]), 1000)).toThrow(
      'no zstd frame',
    );
  });
});

describe('a package that is missing', () => {
  const missing = (name: string): never => {
    throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' });
  };

  it.each([
    ['snappy', 'snappy', () => makeCompressor('snappy', missing)],
    ['lz4', 'lz4-napi', () => makeCompressor('lz4', missing)],
    ...('zstdCompressSync' in process.getBuiltinModule('node:zlib')
      ? []
      : [['zstd', '@mongodb-js/zstd', () => makeCompressor('zstd', missing)] as const]),
  ] as const)('for %s is named', async (compression, name, make) => {
    const error = await failureOf(make);
    expect(error).toBeInstanceOf(OttlaError);
    expect(error).toMatchObject({
      code: 'UNSUPPORTED_COMPRESSION_TYPE',
      message: `compression ${compression} needs the package ${name}, which cannot be loaded: npm install ${name}`,
      cause: { code: 'MODULE_NOT_FOUND' },
    });
  });
});

describe('gzip', () => {
  it('f28 of 65 MiB of zeros is refused', () => {
    const bomb = gzipSync(Buffer.alloc(maxDecompressedBytes + 1));
    expect(bomb.length).toBeLessThan(100_000);
    expect(() => compressors['gzip']!.decompress(bomb, maxDecompressedBytes)).toThrow(RangeError);
  });
});
