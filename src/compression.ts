/** How the records of a batch are compressed: Kafka's compression.type. */
export type Compression = 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';

/** By their number in a batch's attributes. */
export const compressions: readonly Compression[] = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];

/**
 * Compresses and decompresses the records of a batch, framed as Kafka frames them. Both are at once: a
 * batch takes from 15 µs (snappy, 16 KiB) to 150 µs (gzip), less than the way to another thread.
 */
export interface Compressor {
  compress(bytes: Buffer): Uint8Array;
  /** @throws Error for what is damaged, or takes more than `maxBytes`, before the memory is taken */
  decompress(bytes: Buffer, maxBytes: number): Buffer;
}

/** Gives a module that is there at the user's choice. */
export type LoadModule = (name: string) => unknown;

/**
 * Bytes that the records of one compressed batch may take. Kafka has no such bound: it decompresses as it
 * reads. A gzip of 1 MiB may be one of 1 GiB of zeros.
 */
export const maxDecompressedBytes: number = 64 * 1024 * 1024;

/**
 * Where only the most is known that a block may take, what is refused unseen is this many times more than
 * may come out: many blocks are smaller.
 */
export const blockSlack = 4;
