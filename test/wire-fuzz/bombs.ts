import * as zlib from 'node:zlib';
import type { Compression } from '../../src/compression.js';
import { encodeBatch } from '../../src/record-writer.js';
import type { Random } from '../power/random.js';

const compressions = ['gzip', 'snappy', 'lz4', 'zstd'] as const;
/** Before Node 22.15 another thread does it, which a busy machine may keep waiting for long. */
const hasZstd = 'zstdCompressSync' in zlib;

export function someCompression(random: Random): Compression {
  const compression = random.oneOf(compressions);
  return compression === 'zstd' && !hasZstd ? 'gzip' : compression;
}

/** Few bytes that become many: mostly as many as may, rarely more. They take long to make, and are made once. */
export class Bombs {
  readonly #made = new Map<string, Buffer>();

  one(random: Random): Buffer {
    const isHuge = random.chance(0.02);
    const length = isHuge ? 65 * 2 ** 20 : 2 ** (16 + random.below(6));
    const compression = isHuge ? 'gzip' : someCompression(random);
    const name = `${compression} ${length}`;
    let bomb = this.#made.get(name);
    if (bomb === undefined) {
      const records = [{ offset: 0, timestamp: 0, key: null, value: Buffer.alloc(length) }];
      bomb = encodeBatch({ baseOffset: 0, leaderEpoch: -1, records, compression });
      this.#made.set(name, bomb);
    }
    return bomb;
  }
}
