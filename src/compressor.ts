import type { Compressor, Compression, LoadModule } from './compression.js';
import { lz4 } from './compression-lz4.js';
import { snappy } from './compression-snappy.js';
import { zstd } from './compression-zstd.js';
import { OttlaError } from './errors.js';

// Modules of Node's own are loaded with the compressor: at import they would cost as much as all of Ottla's.

function gzip(): Compressor {
  const { gzipSync, gunzipSync } = process.getBuiltinModule('node:zlib');
  return {
    compress: (bytes) => gzipSync(bytes),
    decompress: (bytes, maxBytes) => gunzipSync(bytes, { maxOutputLength: maxBytes }),
  };
}

const makers: Readonly<Record<Exclude<Compression, 'none'>, (load: LoadModule) => Compressor>> = {
  gzip,
  snappy,
  lz4,
  zstd,
};

const loaded = new Map<Exclude<Compression, 'none'>, Compressor>();

/** @throws UNSUPPORTED_COMPRESSION_TYPE, naming the package to install */
export function makeCompressor(
  compression: Exclude<Compression, 'none'>,
  load: LoadModule,
): Compressor {
  return makers[compression]((name) => {
    try {
      return load(name);
    } catch (cause) {
      throw new OttlaError(
        'UNSUPPORTED_COMPRESSION_TYPE',
        `compression ${compression} needs the package ${name}, which cannot be loaded: npm install ${name}`,
        { cause },
      );
    }
  });
}

/** Loads a compressor unless that was done. @throws UNSUPPORTED_COMPRESSION_TYPE, naming the package to install */
export function loadCompressor(compression: Compression): Compressor | null {
  if (compression === 'none') return null;
  let compressor = loaded.get(compression);
  if (compressor === undefined) {
    const { createRequire } = process.getBuiltinModule('node:module');
    compressor = makeCompressor(compression, createRequire(import.meta.url));
    loaded.set(compression, compressor);
  }
  return compressor;
}
