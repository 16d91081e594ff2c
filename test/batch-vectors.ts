// Kafka's batches in hex with what they hold, shared by the tests of the codec and of admission.
import { readFileSync } from 'node:fs';
import { crc32c } from '../src/crc32c.js';

export interface BatchVector {
  readonly id: string;
  readonly what: string;
  readonly hex: string;
  readonly header: {
    readonly baseOffset: string;
    readonly batchLength: number;
    readonly partitionLeaderEpoch: number;
    readonly crc: number;
    readonly attributes: number;
    readonly compression: string;
    readonly timestampType: string;
    readonly isTransactional: boolean;
    readonly isControlBatch: boolean;
    readonly hasDeleteHorizon: boolean;
    readonly deleteHorizonMs?: string;
    readonly lastOffsetDelta: number;
    readonly baseTimestampField: string;
    readonly maxTimestamp: string;
    readonly producerId: string;
    readonly producerEpoch: number;
    readonly baseSequence: number;
    readonly recordCount: number;
    readonly lastOffset: string;
    readonly lastSequence: number;
    readonly sizeInBytes: number;
  };
  readonly records: readonly {
    readonly offset: string;
    readonly timestamp: string;
    readonly key: VectorBytes;
    readonly value: VectorBytes;
    readonly headers: readonly (readonly [name: string, value: string | null])[];
  }[];
}

/** In hex; long ones by length and SHA-256. */
export type VectorBytes = string | null | { readonly length: number; readonly sha256: string };

export interface CorruptVector {
  readonly id: string;
  readonly what: string;
  readonly hex: string;
  readonly expect:
    | 'accepted'
    | 'incomplete'
    | 'corrupt'
    | 'accepted-then-stop'
    | 'incomplete-or-corrupt';
}

export interface AdmissionVector {
  readonly vector: string;
  readonly what: string;
  readonly compactedTopic: boolean;
  readonly result: 'accepted' | 'refused';
  readonly error?: string;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly nextOffset: number;
  readonly leaderEpoch: number;
  readonly sizeAfter: number;
}

function read(name: string): unknown {
  const file = new URL(`vectors/${name}.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { vectors: unknown }).vectors;
}

export const batches = read('batches') as readonly BatchVector[];
export const corrupted = read('corrupt') as readonly CorruptVector[];
export const admissions = read('admission') as readonly AdmissionVector[];

/** By the id of their vector: fresh bytes at each call. */
export function bytesOf(id: string): Buffer {
  const vector = [...batches, ...corrupted].find((candidate) => candidate.id === id);
  if (vector === undefined) throw new Error(`no vector ${id}`);
  return Buffer.from(vector.hex, 'hex');
}

/** The batch with its CRC set right, as a client would send damage of its own making. */
export function withCrc(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(crc32c(bytes, 21, bytes.length), 17);
  return bytes;
}
