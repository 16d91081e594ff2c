import { maxDecompressedBytes, type Compressor, type Compression } from './compression.js';
import { loadCompressor } from './compressor.js';
import {
  RECORD_BATCH_OVERHEAD,
  noHeaders,
  putBatchHeader,
  stampBatch,
  type BatchOrigin,
  type Bytes,
  type RecordHeaders,
} from './record.js';
import { putVarint, putVarlong, varintSize, varlongSize } from './varint.js';

/** What a batch's length, counts and deltas cannot pass. */
const maxInt32 = 2 ** 31 - 1;

/** The largest number in two bytes of a varint. */
const maxShort = 0x1fff;

const noBuffer: Buffer = Buffer.alloc(0);

/** What Buffer.write ends in; at once, it takes a tenth less for a whole record. Not documented. */
const utf8Write: (this: Buffer, text: string, offset: number) => number =
  Reflect.get(noBuffer, 'utf8Write') ?? Reflect.get(noBuffer, 'write');

/**
 * Encodes records one by one into a stretch of the caller's buffer, which it needs from begin() to
 * finish(). May be used for batch after batch.
 */
export class BatchBuilder {
  /** Records so far. */
  count = 0;
  /** Largest timestamp so far. */
  maxTimestamp = -1;
  #buffer: Buffer = noBuffer;
  #start = 0;
  #position = 0;
  #limit = 0;
  #compression: Compression = 'none';
  #baseTimestamp = -1;
  /** Of the record that came last: most come with the same. */
  #timestamp = -1;
  #timestampDelta = 0;

  /** Size so far, header included, not compressed before finish(). */
  get bytes(): number {
    return this.#position - this.#start;
  }

  /**
   * Begins a batch at `position`, which may take the bytes up to `limit`.
   * @throws RangeError if not even a header fits there
   */
  begin(buffer: Buffer, position: number, limit: number, compression: Compression = 'none'): void {
    const room = limit - position;
    if (!(room >= RECORD_BATCH_OVERHEAD && position >= 0 && limit <= buffer.length)) {
      throw new RangeError(
        `a batch needs ${RECORD_BATCH_OVERHEAD} bytes or more, got ${position} to ${limit} of a buffer of ${buffer.length}`,
      );
    }
    this.count = 0;
    this.maxTimestamp = -1;
    this.#buffer = buffer;
    this.#start = position;
    this.#position = position + RECORD_BATCH_OVERHEAD;
    this.#limit = position + Math.min(room, maxInt32);
    this.#compression = compression;
  }

  /**
   * Adds a record; false, with nothing changed, if it does not fit. `timestamp` is in ms, -1 for none.
   * @throws RangeError if the timestamp is no integer from -1 to 2^53 - 1
   */
  append(
    timestamp: number,
    key: Bytes | null,
    value: Bytes | null,
    headers: RecordHeaders,
  ): boolean {
    const offsetDelta = this.count;
    if (offsetDelta === 0 || timestamp !== this.#timestamp) this.#setTimestamp(timestamp);
    const isShort = headers.length === 0 && this.#putShort(offsetDelta, key, value);
    if (!isShort && !this.#putAny(offsetDelta, key, value, headers)) return false;
    this.count = offsetDelta + 1;
    if (timestamp > this.maxTimestamp) this.maxTimestamp = timestamp;
    return true;
  }

  /**
   * Adds a record like most, without headers and with no number of more than two bytes, in one stretch.
   * False, having done nothing that counts, for any other.
   */
  #putShort(offsetDelta: number, key: Bytes | null, value: Bytes | null): boolean {
    const keySize = key === null ? 0 : key.length;
    const valueSize = value === null ? 0 : value.length;
    const timestampDelta = this.#timestampDelta;
    const least =
      6 + keySize + valueSize + isLong(offsetDelta) + isLong(keySize) + isLong(valueSize);
    let at = this.#position;
    if (
      (least | offsetDelta) > maxShort ||
      timestampDelta < -64 ||
      timestampDelta > 63 ||
      at + least * 3 + 5 > this.#limit
    ) {
      return false;
    }
    const buffer = this.#buffer;
    if (least > 63) {
      buffer[at++] = (least << 1) | 0x80;
      buffer[at++] = least >>> 6;
    } else {
      buffer[at++] = least << 1;
    }
    const end = at + least;
    // No bits of a record's attributes are used.
    buffer[at++] = 0;
    buffer[at++] = (timestampDelta << 1) ^ (timestampDelta >> 31);
    if (offsetDelta > 63) {
      buffer[at++] = (offsetDelta << 1) | 0x80;
      buffer[at++] = offsetDelta >>> 6;
    } else {
      buffer[at++] = offsetDelta << 1;
    }
    at = putShortBytes(buffer, at, key, keySize);
    at = putShortBytes(buffer, at, value, valueSize);
    buffer[at++] = 0;
    // Strings were taken for ASCII.
    if (at !== end) return false;
    this.#position = at;
    return true;
  }

  #putAny(
    offsetDelta: number,
    key: Bytes | null,
    value: Bytes | null,
    headers: RecordHeaders,
  ): boolean {
    const timestampDelta = this.#timestampDelta;
    const least = leastBodySize(offsetDelta, timestampDelta, key, value, headers);
    const room = this.#limit - this.#position;
    if (least + varintSize(least) > room) return false;
    // UTF-8 takes up to three bytes for each of a string's code units; each length before it may grow by one.
    const most = least * 3 + 5;
    if (most > room) {
      const exact = bodySize(offsetDelta, timestampDelta, key, value, headers);
      if (exact + varintSize(exact) > room) return false;
    }
    this.#position = putRecord(
      this.#buffer,
      this.#position,
      least,
      offsetDelta,
      timestampDelta,
      key,
      value,
      headers,
    );
    return true;
  }

  #setTimestamp(timestamp: number): void {
    if (!Number.isSafeInteger(timestamp) || timestamp < -1) throw timestampError(timestamp);
    if (this.count === 0) this.#baseTimestamp = timestamp;
    this.#timestamp = timestamp;
    this.#timestampDelta = timestamp - this.#baseTimestamp;
  }

  /**
   * Compresses the records, and writes header and CRC, with base offset 0 and leader epoch -1: the log's stampBatch sets them. The
   * batch takes no more records.
   * @returns the batch's size in bytes
   * @throws RangeError if there is no record; UNSUPPORTED_COMPRESSION_TYPE
   */
  finish(origin?: BatchOrigin): number {
    if (this.count === 0) throw new RangeError('a batch needs a record');
    const compression = this.#compress();
    const content = {
      compression,
      recordCount: this.count,
      lastOffsetDelta: this.count - 1,
      baseTimestamp: this.#baseTimestamp,
      maxTimestamp: this.maxTimestamp,
      isLogAppendTime: false,
      hasDeleteHorizon: false,
    };
    putBatchHeader(this.#buffer, this.#start, this.#position, content, origin);
    this.#buffer = noBuffer;
    this.#limit = 0;
    return this.bytes;
  }

  /**
   * Compresses in place. Records stay as they are where that has no room or fails, and where no reader
   * would take them.
   */
  #compress(): Compression {
    const compressor = loadCompressor(this.#compression);
    if (compressor === null) return 'none';
    const start = this.#start + RECORD_BATCH_OVERHEAD;
    if (this.#position - start > maxDecompressedBytes) return 'none';
    const compressed = compressedOrNull(compressor, this.#buffer.subarray(start, this.#position));
    if (compressed === null || compressed.length > this.#limit - start) return 'none';
    this.#buffer.set(compressed, start);
    this.#position = start + compressed.length;
    return this.#compression;
  }
}

/** What was taken over must be written: a compressor's failure is no reason to lose it. */
function compressedOrNull(compressor: Compressor, records: Buffer): Uint8Array | null {
  try {
    return compressor.compress(records);
  } catch {
    return null;
  }
}

function timestampError(timestamp: number): RangeError {
  return new RangeError(`timestamp must be an integer from -1 to 2^53 - 1, got ${timestamp}`);
}

/** Bytes that a record of these takes in a batch at the most. */
export function recordSizeUpperBound(
  key: Bytes | null,
  value: Bytes | null,
  headers: RecordHeaders,
): number {
  const body = bodySize(maxInt32, 2 ** 53, key, value, headers);
  return body + varintSize(body);
}

/** A record with its place in the log. */
export interface PlacedRecord {
  readonly offset: number;
  readonly timestamp: number;
  readonly key: Bytes | null;
  readonly value: Bytes | null;
  readonly headers?: RecordHeaders;
}

/** A batch as the log may hold it: with gaps, empty, with a delete horizon. */
export interface PlacedBatch extends BatchOrigin {
  readonly baseOffset: number;
  /** @default the last record's offset */
  readonly lastOffset?: number;
  readonly leaderEpoch: number;
  /** In order of their offsets. */
  readonly records: readonly PlacedRecord[];
  /** Needed where there are no records to tell it. @default the largest of the records' */
  readonly maxTimestamp?: number;
  /** When the log took the batch: the timestamp of all its records, whatever they say. */
  readonly logAppendTime?: number;
  /** When compaction may drop this batch's tombstones and markers (KIP-534). */
  readonly deleteHorizonMs?: number;
  /** @default 'none' */
  readonly compression?: Compression;
}

/**
 * Encodes a whole batch, where speed does not count: for compaction and the coordinator. The bytes are
 * those that Kafka writes for the same.
 * @throws RangeError if the offsets do not grow from baseOffset to lastOffset
 */
export function encodeBatch(batch: PlacedBatch): Buffer {
  const { baseOffset, records, logAppendTime, deleteHorizonMs } = batch;
  const baseTimestamp = deleteHorizonMs ?? records[0]?.timestamp ?? -1;
  const lastOffset = batch.lastOffset ?? records.at(-1)?.offset ?? baseOffset;
  const lastOffsetDelta = lastOffset - baseOffset;
  if (!(lastOffsetDelta >= 0 && lastOffsetDelta <= maxInt32)) {
    throw new RangeError(`offsets ${baseOffset} to ${lastOffset} are not those of a batch`);
  }
  let bound = RECORD_BATCH_OVERHEAD;
  for (const { key, value, headers } of records) {
    bound += recordSizeUpperBound(key, value, headers ?? noHeaders);
  }
  let buffer = Buffer.allocUnsafe(bound);
  let position = RECORD_BATCH_OVERHEAD;
  let maxTimestamp = -1;
  let nextOffset = baseOffset;
  for (const { offset, timestamp, key, value, headers = noHeaders } of records) {
    if (!(offset >= nextOffset && offset <= lastOffset)) {
      throw new RangeError(`expected an offset from ${nextOffset} to ${lastOffset}, got ${offset}`);
    }
    nextOffset = offset + 1;
    if (timestamp > maxTimestamp) maxTimestamp = timestamp;
    const offsetDelta = offset - baseOffset;
    const timestampDelta = timestamp - baseTimestamp;
    const size = bodySize(offsetDelta, timestampDelta, key, value, headers);
    position = putRecord(buffer, position, size, offsetDelta, timestampDelta, key, value, headers);
  }
  const compressor = records.length === 0 ? null : loadCompressor(batch.compression ?? 'none');
  if (compressor !== null) {
    const compressed = compressor.compress(buffer.subarray(RECORD_BATCH_OVERHEAD, position));
    buffer = Buffer.concat([buffer.subarray(0, RECORD_BATCH_OVERHEAD), compressed]);
    position = buffer.length;
  }
  const content = {
    compression: compressor === null ? ('none' as const) : batch.compression!,
    recordCount: records.length,
    lastOffsetDelta,
    baseTimestamp,
    maxTimestamp: logAppendTime ?? batch.maxTimestamp ?? maxTimestamp,
    isLogAppendTime: logAppendTime !== undefined,
    hasDeleteHorizon: deleteHorizonMs !== undefined,
  };
  putBatchHeader(buffer, 0, position, content, batch);
  stampBatch(buffer, 0, baseOffset, batch.leaderEpoch);
  return buffer.subarray(0, position);
}

/** Bytes of a record behind its length, as if its strings were ASCII: it never takes less. */
function leastBodySize(
  offsetDelta: number,
  timestampDelta: number,
  key: Bytes | null,
  value: Bytes | null,
  headers: RecordHeaders,
): number {
  const numbers = 1 + varlongSize(timestampDelta) + varintSize(offsetDelta);
  const rest = headers.length === 0 ? 1 : headersSize(headers, leastSize);
  return numbers + leastSize(key) + leastSize(value) + rest;
}

/** Bytes of a record behind its length. */
function bodySize(
  offsetDelta: number,
  timestampDelta: number,
  key: Bytes | null,
  value: Bytes | null,
  headers: RecordHeaders,
): number {
  const numbers = 1 + varlongSize(timestampDelta) + varintSize(offsetDelta);
  return numbers + exactSize(key) + exactSize(value) + headersSize(headers, exactSize);
}

function headersSize(headers: RecordHeaders, sizeOf: (bytes: Bytes | null) => number): number {
  let size = varintSize(headers.length);
  for (let i = 0; i < headers.length; i++) {
    const header = headers[i]!;
    size += sizeOf(header[0]) + sizeOf(header[1]);
  }
  return size;
}

function leastSize(bytes: Bytes | null): number {
  if (bytes === null) return 1;
  const { length } = bytes;
  return varintSize(length) + length;
}

function exactSize(bytes: Bytes | null): number {
  if (typeof bytes !== 'string') return leastSize(bytes);
  const length = Buffer.byteLength(bytes);
  return varintSize(length) + length;
}

/** Writes a record where there is room for it. @returns the position behind it */
function putRecord(
  buffer: Buffer,
  start: number,
  guess: number,
  offsetDelta: number,
  timestampDelta: number,
  key: Bytes | null,
  value: Bytes | null,
  headers: RecordHeaders,
): number {
  const bodyStart = start + varintSize(guess);
  // No bits of a record's attributes are used.
  buffer[bodyStart] = 0;
  let at = putVarlong(buffer, bodyStart + 1, timestampDelta);
  at = putVarint(buffer, at, offsetDelta);
  at = putBytes(buffer, at, key);
  at = putBytes(buffer, at, value);
  if (headers.length > 0) at = putHeaders(buffer, at, headers);
  else buffer[at++] = 0;
  if (at - bodyStart !== guess) return putLength(buffer, start, bodyStart, at);
  putVarint(buffer, start, guess);
  return at;
}

function putHeaders(buffer: Buffer, start: number, headers: RecordHeaders): number {
  let at = putVarint(buffer, start, headers.length);
  for (let i = 0; i < headers.length; i++) {
    const header = headers[i]!;
    at = putBytes(buffer, at, header[0]);
    at = putBytes(buffer, at, header[1]);
  }
  return at;
}

/** Writes the length of bytes[guessedStart..end), moving them if it takes more room than was left for it. */
function putLength(buffer: Buffer, at: number, guessedStart: number, end: number): number {
  const length = end - guessedStart;
  const start = at + varintSize(length);
  if (start !== guessedStart) buffer.copyWithin(start, guessedStart, end);
  putVarint(buffer, at, length);
  return start + length;
}

/** 1 for what takes two bytes as a varint instead of one. */
function isLong(size: number): 0 | 1 {
  return size > 63 ? 1 : 0;
}

/** As putBytes(), for up to maxShort bytes; a string that is not ASCII comes out wrong. */
function putShortBytes(buffer: Buffer, at: number, bytes: Bytes | null, length: number): number {
  if (length > 63) {
    buffer[at++] = (length << 1) | 0x80;
    buffer[at++] = length >>> 6;
  } else {
    buffer[at++] = bytes === null ? 1 : length << 1;
  }
  if (bytes === null) return at;
  return typeof bytes === 'string' ? putText(buffer, at, bytes) : copyBytes(buffer, at, bytes);
}

function putBytes(buffer: Buffer, at: number, bytes: Bytes | null): number {
  if (bytes === null) {
    buffer[at] = 1;
    return at + 1;
  }
  if (typeof bytes === 'string') return putString(buffer, at, bytes);
  return copyBytes(buffer, putVarint(buffer, at, bytes.length), bytes);
}

function copyBytes(buffer: Buffer, at: number, bytes: Uint8Array): number {
  const { length } = bytes;
  if (length < 10) {
    for (let i = 0; i < length; i++) buffer[at + i] = bytes[i]!;
  } else {
    buffer.set(bytes, at);
  }
  return at + length;
}

function putString(buffer: Buffer, at: number, text: string): number {
  const start = at + varintSize(text.length);
  return putLength(buffer, at, start, putText(buffer, start, text));
}

function putText(buffer: Buffer, start: number, text: string): number {
  const length = text.length;
  if (length < 24) {
    let i = 0;
    for (; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) break;
      buffer[start + i] = code;
    }
    if (i === length) return start + length;
  }
  return start + utf8Write.call(buffer, text, start);
}
