import { crc32c, crc32cIn } from './crc32c.js';
import { compressions, type Compression } from './compression.js';
import { OttlaError } from './errors.js';

/*
 * Kafka's record batch with magic 2 (KIP-98, DefaultRecordBatch): this header of 61 bytes, then records.
 *
 *    0  int64   base offset
 *    8  int32   batch length: the bytes from 12 on
 *   12  int32   partition leader epoch
 *   16  int8    magic
 *   17  uint32  CRC-32C of the bytes from 21 on; what lies above may change without touching it
 *   21  int16   attributes: bits 0-2 compression, 3 log append time, 4 transactional, 5 control, 6 delete horizon
 *   23  int32   last offset delta
 *   27  int64   base timestamp; with bit 6 the delete horizon, which the timestamp deltas then start from
 *   35  int64   max timestamp
 *   43  int64   producer id
 *   51  int16   producer epoch
 *   53  int32   base sequence
 *   57  int32   record count
 */

/** Bytes that the batch length does not count: base offset and batch length. */
export const LOG_OVERHEAD: number = 12;
/** Bytes before the first record. */
export const RECORD_BATCH_OVERHEAD: number = 61;

const CRC_START = 21;

const COMPRESSION_MASK = 0x07;
const LOG_APPEND_TIME = 0x08;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const DELETE_HORIZON = 0x40;

/** Bytes of a key or value on their way in; a string is written as UTF-8. */
export type Bytes = Uint8Array | string;

/** Bytes of a key and a value, or units of a string; headers are not counted. */
export function sizeOf(key: Bytes | null, value: Bytes | null): number {
  return (key === null ? 0 : key.length) + (value === null ? 0 : value.length);
}

/** Headers of a record on their way in. A name may come more than once. */
export type RecordHeaders = readonly (readonly [name: string, value: Bytes | null])[];

export const noHeaders: RecordHeaders = Object.freeze([]);

/** What an idempotent or transactional producer, or the coordinator, writes into a batch's header. */
export interface BatchOrigin {
  /** @default -1n: none */
  readonly producerId?: bigint;
  /** @default -1 */
  readonly producerEpoch?: number;
  /** Sequence number of the first record. @default -1 */
  readonly baseSequence?: number;
  /** @default false */
  readonly isTransactional?: boolean;
  /** A batch of the coordinator's markers, which consumers never see. @default false */
  readonly isControl?: boolean;
}

/** The header as it lies in the bytes. Numbers beyond 2^53 are inexact: readBatchHeader refuses them. */
export class BatchHeader {
  readonly baseOffset: number;
  /** Bytes of the whole batch. */
  readonly size: number;
  readonly leaderEpoch: number;
  readonly crc: number;
  readonly attributes: number;
  readonly lastOffsetDelta: number;
  /** What the records' timestamp deltas start from. */
  readonly baseTimestamp: number;
  readonly maxTimestamp: number;
  /** -1: none. */
  readonly producerEpoch: number;
  /** Sequence number of the first record; -1: none. */
  readonly baseSequence: number;
  readonly recordCount: number;
  readonly #producerIdHigh: number;
  readonly #producerIdLow: number;

  /** @param bytes a view of them is read twice as fast, and worth its making where there are many batches */
  constructor(bytes: Uint8Array | DataView, position: number) {
    if (bytes instanceof DataView) {
      this.baseOffset = int64In(bytes, position);
      this.size = LOG_OVERHEAD + bytes.getInt32(position + 8);
      this.leaderEpoch = bytes.getInt32(position + 12);
      this.crc = bytes.getUint32(position + 17);
      this.attributes = bytes.getInt16(position + 21);
      this.lastOffsetDelta = bytes.getInt32(position + 23);
      this.baseTimestamp = int64In(bytes, position + 27);
      this.maxTimestamp = int64In(bytes, position + 35);
      this.#producerIdHigh = bytes.getInt32(position + 43);
      this.#producerIdLow = bytes.getInt32(position + 47);
      this.producerEpoch = bytes.getInt16(position + 51);
      this.baseSequence = bytes.getInt32(position + 53);
      this.recordCount = bytes.getInt32(position + 57);
      return;
    }
    this.baseOffset = int64At(bytes, position);
    this.size = LOG_OVERHEAD + int32At(bytes, position + 8);
    this.leaderEpoch = int32At(bytes, position + 12);
    this.crc = int32At(bytes, position + 17) >>> 0;
    this.attributes = int16At(bytes, position + 21);
    this.lastOffsetDelta = int32At(bytes, position + 23);
    this.baseTimestamp = int64At(bytes, position + 27);
    this.maxTimestamp = int64At(bytes, position + 35);
    this.#producerIdHigh = int32At(bytes, position + 43);
    this.#producerIdLow = int32At(bytes, position + 47);
    this.producerEpoch = int16At(bytes, position + 51);
    this.baseSequence = int32At(bytes, position + 53);
    this.recordCount = int32At(bytes, position + 57);
  }

  /** -1n: none. */
  get producerId(): bigint {
    return (BigInt(this.#producerIdHigh) << 32n) | BigInt(this.#producerIdLow >>> 0);
  }

  get hasProducerId(): boolean {
    return this.#producerIdHigh >= 0;
  }

  /** Whether both are of one producer: told without making bigints. */
  hasProducerOf(other: BatchHeader): boolean {
    return (
      this.#producerIdLow === other.#producerIdLow && this.#producerIdHigh === other.#producerIdHigh
    );
  }

  get lastOffset(): number {
    return this.baseOffset + this.lastOffsetDelta;
  }

  get nextOffset(): number {
    return this.baseOffset + this.lastOffsetDelta + 1;
  }

  /** Sequence number of the last record: they wrap from 2^31 - 1 to 0. -1: none. */
  get lastSequence(): number {
    if (this.baseSequence === -1) return -1;
    return (this.baseSequence + this.lastOffsetDelta) & 0x7fff_ffff;
  }

  get compression(): Compression | 'unknown' {
    return compressions[this.attributes & COMPRESSION_MASK] ?? 'unknown';
  }

  /** Whether every record's timestamp is maxTimestamp, the time of its append. */
  get isLogAppendTime(): boolean {
    return (this.attributes & LOG_APPEND_TIME) !== 0;
  }

  get isTransactional(): boolean {
    return (this.attributes & TRANSACTIONAL) !== 0;
  }

  get isControl(): boolean {
    return (this.attributes & CONTROL) !== 0;
  }

  /** Whether baseTimestamp is when compaction may drop this batch's tombstones and markers (KIP-534). */
  get hasDeleteHorizon(): boolean {
    return (this.attributes & DELETE_HORIZON) !== 0;
  }
}

function corrupt(position: number, what: string): OttlaError {
  return new OttlaError('CORRUPT_MESSAGE', `record batch at byte ${position}: ${what}`);
}

/**
 * Bytes of the whole batch that begins at `position`, which may lie beyond `end`; -1 if so few bytes are
 * there that it cannot be told.
 * @throws CORRUPT_MESSAGE if no batch of magic 2 begins here: so too for zeros, with which a file ends
 *   that grew before its data was written
 */
export function batchSizeAt(bytes: Uint8Array, position: number, end: number): number {
  if (end - position < LOG_OVERHEAD) return -1;
  const length = int32At(bytes, position + 8);
  if (length < RECORD_BATCH_OVERHEAD - LOG_OVERHEAD) {
    if (length === 0 && int64At(bytes, position) === 0) throw corrupt(position, 'zeros, no batch');
    throw corrupt(position, `batch length ${length}, expected at least 49`);
  }
  if (end - position > 16 && bytes[position + 16] !== 2) {
    throw corrupt(position, `magic ${bytes[position + 16]}, expected 2`);
  }
  return LOG_OVERHEAD + length;
}

/**
 * The header of the batch at `position`; null if the batch does not end at or before `end`. Its CRC is
 * not looked at: see checkBatch.
 * @param view of the same bytes, where many batches are read
 * @throws CORRUPT_MESSAGE if no batch begins here, its counts contradict each other, or its offsets or
 *   timestamps lie beyond 2^53
 */
export function readBatchHeader(
  bytes: Uint8Array,
  position: number,
  end: number,
  view: DataView | null = null,
): BatchHeader | null {
  const size = batchSizeAt(bytes, position, end);
  if (size === -1 || size > end - position) return null;
  const header = new BatchHeader(view ?? bytes, position);
  const { baseOffset, lastOffsetDelta, recordCount, baseTimestamp, maxTimestamp } = header;
  if (!(baseOffset >= 0 && baseOffset + lastOffsetDelta < Number.MAX_SAFE_INTEGER)) {
    throw corrupt(position, `base offset ${baseOffset}, expected 0 to 2^53 - 2`);
  }
  if (lastOffsetDelta < 0 || recordCount < 0 || recordCount > lastOffsetDelta + 1) {
    throw corrupt(
      position,
      `${recordCount} records with a last offset delta of ${lastOffsetDelta}`,
    );
  }
  if (!Number.isSafeInteger(baseTimestamp) || !Number.isSafeInteger(maxTimestamp)) {
    throw corrupt(position, `timestamps ${baseTimestamp} and ${maxTimestamp} pass 2^53`);
  }
  return header;
}

/** @throws CORRUPT_MESSAGE if the whole batch at `position`, of which `header` was read, fails its CRC */
export function checkBatch(
  bytes: Uint8Array | DataView,
  position: number,
  header: BatchHeader,
): void {
  const [start, end] = [position + CRC_START, position + header.size];
  const computed =
    bytes instanceof DataView ? crc32cIn(bytes, start, end) : crc32c(bytes, start, end);
  if (computed !== header.crc) {
    throw corrupt(position, `stored crc ${header.crc}, computed crc ${computed}`);
  }
}

/** Sets what the log decides, outside the CRC. */
export function stampBatch(
  bytes: Uint8Array,
  position: number,
  baseOffset: number,
  leaderEpoch: number,
): void {
  putInt64(bytes, position, baseOffset);
  putInt32(bytes, position + 12, leaderEpoch);
}

/** Makes the time of the append the timestamp of every record, and mends the CRC. */
export function stampLogAppendTime(bytes: Uint8Array, position: number, timestamp: number): void {
  putInt16(bytes, position + 21, int16At(bytes, position + 21) | LOG_APPEND_TIME);
  putMaxTimestamp(bytes, position, timestamp);
}

/** Leaves every record its own timestamp, `maxTimestamp` being the largest, and mends the CRC. */
export function stampCreateTime(bytes: Uint8Array, position: number, maxTimestamp: number): void {
  putInt16(bytes, position + 21, int16At(bytes, position + 21) & ~LOG_APPEND_TIME);
  putMaxTimestamp(bytes, position, maxTimestamp);
}

function putMaxTimestamp(bytes: Uint8Array, position: number, timestamp: number): void {
  putInt64(bytes, position + 35, timestamp);
  putCrc(bytes, position, position + LOG_OVERHEAD + int32At(bytes, position + 8));
}

function putCrc(bytes: Uint8Array, position: number, end: number): void {
  putInt32(bytes, position + 17, crc32c(bytes, position + CRC_START, end));
}

/** What a header says of its records. */
export interface BatchContent {
  readonly recordCount: number;
  readonly lastOffsetDelta: number;
  readonly baseTimestamp: number;
  readonly maxTimestamp: number;
  readonly isLogAppendTime: boolean;
  readonly hasDeleteHorizon: boolean;
  readonly compression: Compression;
}

/**
 * Makes a batch of bytes[position..end), whose records are there already, with base offset 0 and leader
 * epoch -1: stampBatch sets them.
 */
export function putBatchHeader(
  bytes: Uint8Array,
  position: number,
  end: number,
  content: BatchContent,
  origin: BatchOrigin | undefined,
): void {
  stampBatch(bytes, position, 0, -1);
  putInt32(bytes, position + 8, end - position - LOG_OVERHEAD);
  bytes[position + 16] = 2;
  putInt16(
    bytes,
    position + 21,
    compressions.indexOf(content.compression) |
      (content.isLogAppendTime ? LOG_APPEND_TIME : 0) |
      (content.hasDeleteHorizon ? DELETE_HORIZON : 0) |
      (origin?.isTransactional === true ? TRANSACTIONAL : 0) |
      (origin?.isControl === true ? CONTROL : 0),
  );
  putInt32(bytes, position + 23, content.lastOffsetDelta);
  putInt64(bytes, position + 27, content.baseTimestamp);
  putInt64(bytes, position + 35, content.maxTimestamp);
  putOrigin(bytes, position, origin);
  putInt32(bytes, position + 57, content.recordCount);
  putCrc(bytes, position, end);
}

function putOrigin(bytes: Uint8Array, position: number, origin: BatchOrigin | undefined): void {
  const producerId = origin?.producerId ?? -1n;
  const hasNone = producerId === -1n;
  putInt32(bytes, position + 43, hasNone ? -1 : Number(BigInt.asIntN(32, producerId >> 32n)));
  putInt32(bytes, position + 47, hasNone ? -1 : Number(BigInt.asIntN(32, producerId)));
  putInt16(bytes, position + 51, origin?.producerEpoch ?? -1);
  putInt32(bytes, position + 53, origin?.baseSequence ?? -1);
}

// Numbers by hand, byte for byte: a BigInt or a DataView costs more than the rest of a small batch.

function int16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) >> 16) | bytes[at + 1]!;
}

function int32At(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** Inexact beyond 2^53, where it is no safe integer. */
function int64In(view: DataView, at: number): number {
  return view.getInt32(at) * 2 ** 32 + view.getUint32(at + 4);
}

function int64At(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at) * 2 ** 32 + (int32At(bytes, at + 4) >>> 0);
}

function putInt16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function putInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Of a safe integer. */
function putInt64(bytes: Uint8Array, at: number, value: number): void {
  putInt32(bytes, at, Math.floor(value / 2 ** 32));
  putInt32(bytes, at + 4, value);
}
