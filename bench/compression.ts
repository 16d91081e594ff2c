import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { Ottla, type Compression, type RecordToSend } from 'ottla';
import { logsOf, sizeOf } from './floors.js';
import { timed, type Measured, type Row } from './harness.js';

type Name = Exclude<Compression, 'none'>;

/** A codec by itself, without frames of ours, bounds or copies. */
interface Raw {
  readonly compress: (bytes: Buffer) => Uint8Array | Promise<Uint8Array>;
  readonly decompress: (bytes: Buffer) => Uint8Array | Promise<Uint8Array>;
}

const require = createRequire(import.meta.url);

const raws: Readonly<Record<Name, () => Raw>> = {
  gzip: () => ({ compress: zlib.gzipSync, decompress: zlib.gunzipSync }),
  snappy() {
    const { compressSync, uncompressSync } = require('snappy') as Record<string, SnappyCall>;
    const options = { copyOutputData: true };
    return {
      compress: (bytes) => compressSync!(bytes, options),
      decompress: (bytes) => uncompressSync!(bytes, options),
    };
  },
  lz4() {
    const lz4 = require('lz4-napi') as Record<string, (bytes: Buffer) => Buffer>;
    return { compress: lz4['compressFrameSync']!, decompress: lz4['decompressFrameSync']! };
  },
  zstd() {
    if ('zstdCompressSync' in zlib) {
      const node = zlib as unknown as Record<string, (bytes: Buffer) => Buffer>;
      return { compress: node['zstdCompressSync']!, decompress: node['zstdDecompressSync']! };
    }
    return require('@mongodb-js/zstd') as Raw;
  },
};

type SnappyCall = (bytes: Buffer, options: { copyOutputData: boolean }) => Buffer;

/** 20,000 flights as JSON lines, 1.8 MB. */
function flights(): RecordToSend[] {
  const file = new URL('../data/flights-20k.json', import.meta.resolve('vega-datasets'));
  const list = JSON.parse(readFileSync(file, 'utf8')) as { readonly origin: string }[];
  return list.map((flight) => ({ key: flight.origin, value: JSON.stringify(flight) }));
}

const pieceBytes = 128 * 1024;

/** What the batches of a sendBatch hold, about. */
function pieces(records: readonly RecordToSend[]): Buffer[] {
  const bytes = Buffer.from(records.map(({ key, value }) => String(key) + String(value)).join(''));
  const list: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes)
    list.push(bytes.subarray(at, at + pieceBytes));
  return list;
}

async function through(
  calls: (bytes: Buffer) => Uint8Array | Promise<Uint8Array>,
  list: readonly Buffer[],
  times: number,
  count: number,
): Promise<Measured> {
  return timed(count, async () => {
    for (let i = 0; i < times; i++) for (const piece of list) await calls(piece);
  });
}

function row(codec: Name, reads: boolean): Row {
  let ratio = 0;
  return {
    name: `compression ${codec}, ${reads ? 'read' : 'sendBatch'}`,
    unit: 'bytes',
    get what() {
      const how = reads ? 'read().batches()' : 'sendBatch, acks 1';
      const floor = `${codec} alone ${reads ? 'decompressing' : 'compressing'} 128 KiB at a time`;
      return `20,000 flights as JSON, ${how}, stored in ${ratio.toFixed(2)} of their size; floor: ${floor}`;
    },
    async prepare({ directory, scaled }) {
      const times = scaled(10);
      const records = flights();
      const list = pieces(records);
      const raw = raws[codec]();
      const count = times * list.reduce((sum, { length }) => sum + length, 0);
      const compressed: Buffer[] = [];
      for (const piece of list) compressed.push(Buffer.from(await raw.compress(piece)));
      let round = 0;
      const write = async (): Promise<{ ottla: Ottla; data: string; measured: Measured }> => {
        const data = join(directory, String(round++));
        const ottla = await Ottla.open(data);
        await ottla.topics.create('bench');
        const producer = ottla.producer({ acks: 1, compression: codec });
        const measured = await timed(count, async () => {
          for (let i = 0; i < times; i++) await producer.sendBatch('bench', records);
        });
        ratio = producer.metrics().compressionRatio;
        return { ottla, data, measured };
      };
      if (reads) {
        const { ottla } = await write();
        const run = (): Promise<Measured> =>
          timed(count, async () => {
            let seen = 0;
            for await (const batch of ottla.read('bench').batches()) seen += batch.records.length;
            if (seen !== times * records.length) throw new Error(`got ${seen} records`);
          });
        const floor = (): Promise<Measured> => through(raw.decompress, compressed, times, count);
        return { run, floor, close: () => ottla.close() };
      }
      const run = async (): Promise<Measured> => {
        const { ottla, data, measured } = await write();
        if (sizeOf(logsOf(data, 'bench')) >= count) throw new Error('nothing was compressed');
        await ottla.close();
        rmSync(data, { recursive: true });
        return measured;
      };
      return { run, floor: () => through(raw.compress, list, times, count) };
    },
  };
}

export const rows: readonly Row[] = (['gzip', 'snappy', 'lz4', 'zstd'] as const).flatMap(
  (codec) => [row(codec, false), row(codec, true)],
);
