import { createRequire } from 'node:module';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Codec, Compression, LoadModule } from './compression.js';
import { lz4Codec } from './compression-lz4.js';
import { snappyCodec } from './compression-snappy.js';
import { zstdCodec } from './compression-zstd.js';
import { OttlaError } from './errors.js';

const gzipCodec: Codec = {
  compress: (bytes) => gzipSync(bytes),
  decompress: (bytes, maxBytes) => gunzipSync(bytes, { maxOutputLength: maxBytes }),
};

const makers: Readonly<Record<Exclude<Compression, 'none'>, (load: LoadModule) => Codec>> = {
  gzip: () => gzipCodec,
  snappy: snappyCodec,
  lz4: lz4Codec,
  zstd: zstdCodec,
};

const loaded = new Map<Exclude<Compression, 'none'>, Codec>();

/** @throws UNSUPPORTED_COMPRESSION_TYPE, naming the package to install */
export function makeCodec(compression: Exclude<Compression, 'none'>, load: LoadModule): Codec {
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

/** Loads a codec unless that was done. @throws UNSUPPORTED_COMPRESSION_TYPE, naming the package to install */
export function loadCodec(compression: Compression): Codec | null {
  if (compression === 'none') return null;
  let codec = loaded.get(compression);
  if (codec === undefined) {
    codec = makeCodec(compression, createRequire(import.meta.url));
    loaded.set(compression, codec);
  }
  return codec;
}
