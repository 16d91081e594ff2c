import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { OttlaError } from '../errors.js';
import type { Key, Row, RowKind, Rows } from './meta-store.js';
import { decodeKey } from './row-key.js';

const count = z.int().nonnegative();
const crc = z.int().min(0).max(0xffff_ffff);
/** −1 where there is none. */
const orNone = z.int().min(-1);
const place = { topicId: z.string(), partition: count };
const committed = { offset: count, leaderEpoch: orNone, metadata: z.string() };
const knownEnd = { nextOffset: count, bytes: count, lastBatchBytes: count, lastCrc: crc };
const structures = z.array(z.array(z.string()));
const fileSum = z.object({ bytes: count, checksum: crc });

const values: { readonly [K in RowKind]: z.ZodType<Rows[K]> } = {
  store: z.object({ formatVersion: count, storeId: z.string() }),
  topic: z.object({
    id: z.string(),
    partitions: z.int().positive(),
    state: z.enum(['creating', 'live']),
    codecs: z.object({
      key: z.string().nullable(),
      value: z.string().nullable(),
      headers: z.string().exactOptional(),
    }),
    options: z.record(z.string(), z.union([z.string(), z.number(), z.array(z.string())])),
    structures: z.object({ key: structures, value: structures }).exactOptional(),
  }),
  tombstone: z.object({ name: z.string(), partitions: count }),
  partition: z.object({
    logStartOffset: count,
    leaderEpochs: z.array(z.tuple([count, count])),
    active: z.object({
      baseOffset: count,
      ...knownEnd,
      offsetIndexBytes: count,
      timeIndexBytes: count,
      transactionIndex: fileSum,
      checksum: crc,
      maxTimestamp: orNone,
      maxTimestampOffset: orNone,
      bytesSinceIndexEntry: count,
    }),
    syncFailed: z.literal(true).optional(),
    producers: z.object({ snapshotCrc: crc.nullable(), open: count, hasAborted: z.boolean() }),
  }),
  segment: z.object({
    ...knownEnd,
    maxTimestamp: orNone,
    checksum: crc,
    transactionIndex: fileSum,
  }),
  compaction: z.object({
    firstDirtyOffset: count,
    swaps: count,
    swapping: z.object({ baseOffset: count, nextOffset: count }).nullable(),
  }),
  group: z.object({
    generation: count,
    type: z.literal('consumer').optional(),
    protocolType: z.string().optional(),
    emptySince: z.int().optional(),
  }),
  transaction: z.object({
    producerId: z.string().regex(/^\d{1,19}$/),
    producerEpoch: count,
    timeoutMs: count,
    timestamp: z.int(),
    ended: z.enum(['committed', 'aborted']).nullable(),
    decision: z
      .object({
        partitions: z.array(z.object({ ...place, firstOffset: count, endOffset: count })),
      })
      .nullable(),
    open: z
      .object({
        startedAt: z.int(),
        partitions: z.array(z.object(place)),
        groups: z.array(z.string()),
        commits: z.array(
          z.object({ group: z.string(), offsets: z.array(z.object({ ...place, ...committed })) }),
        ),
      })
      .nullable(),
  }),
  offset: z.object({ ...committed, timestamp: z.int() }),
};

const keys: { readonly [K in RowKind]: z.ZodType<Key<K>> } = {
  store: z.tuple([z.literal('store')]),
  topic: z.tuple([z.literal('topic'), z.string()]),
  tombstone: z.tuple([z.literal('tombstone'), z.string()]),
  partition: z.tuple([z.literal('partition'), z.string(), count]),
  segment: z.tuple([z.literal('segment'), z.string(), count, count]),
  compaction: z.tuple([z.literal('compaction'), z.string(), count]),
  group: z.tuple([z.literal('group'), z.string()]),
  transaction: z.tuple([z.literal('transaction'), z.string()]),
  offset: z.tuple([z.literal('offset'), count, z.string(), z.string(), count]),
};

const checksumBytes = 4;

/** A row's value as it is stored: CRC-32 of key and text as u32, big endian, then the text, JSON. */
export function encodeRow(key: Buffer, value: Rows[RowKind]): Buffer {
  const text = JSON.stringify(value);
  const bytes = Buffer.allocUnsafe(checksumBytes + Buffer.byteLength(text));
  bytes.write(text, checksumBytes);
  bytes.writeUInt32BE(checksum(key, bytes));
  return bytes;
}

/** @throws METADATA_LOST naming key and reason, if the bytes are not those that were stored with the key */
export function checkRow(key: Buffer, bytes: Buffer): void {
  if (bytes.length >= checksumBytes && bytes.readUInt32BE() === checksum(key, bytes)) return;
  throw lost(key, `its ${bytes.length} bytes do not have the checksum that was stored with them`);
}

/**
 * A row as it was stored.
 * @throws METADATA_LOST naming key and reason, for bytes that encodeRow() did not make of this key
 */
export function decodeRow<K extends RowKind>(kind: K, key: Buffer, bytes: Buffer): Row<K> {
  const value = decodeValue(kind, key, bytes);
  return { key: parsed(key, () => keys[kind].parse(decodeKey(key))), value };
}

/** As decodeRow(), its value alone. */
export function decodeValue<K extends RowKind>(kind: K, key: Buffer, bytes: Buffer): Rows[K] {
  checkRow(key, bytes);
  return parsed(key, () => values[kind].parse(JSON.parse(bytes.toString('utf8', checksumBytes))));
}

function parsed<T>(key: Buffer, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof z.ZodError) throw lost(key, z.prettifyError(error));
    if (error instanceof SyntaxError) throw lost(key, error.message);
    throw error;
  }
}

function checksum(key: Buffer, bytes: Buffer): number {
  return crc32(bytes.subarray(checksumBytes), crc32(key));
}

function lost(key: Buffer, reason: string): OttlaError {
  const name = JSON.stringify(decodeKey(key) ?? key.toString('hex'));
  return new OttlaError('METADATA_LOST', `metadata row ${name}: ${reason}`);
}
