import { maxDecompressedBytes } from './compression.js';
import { loadCompressor } from './compressor.js';
import { OttlaError } from './errors.js';
import { RECORD_BATCH_OVERHEAD, type BatchHeader } from './record.js';

/** A smaller piece is copied, so that who keeps it does not keep the whole chunk that was read. */
const copyBelow = 4096;
/** Copies lie together in slabs of this size. */
const slabBytes = 16 * 1024;
/** The largest number in two bytes. */
const maxShort = 0x3fff;

/** The class of Buffers themselves: its constructor makes a view for a quarter of what subarray() costs. */
const FastBuffer: new (memory: ArrayBufferLike, offset: number, length: number) => Buffer =
  Reflect.get(Buffer, Symbol.species);

/** The slab in use, by all readers, and its bytes given out. */
let slab: Buffer = Buffer.allocUnsafeSlow(slabBytes);
let slabUsed = 0;

/**
 * Walks the records of one batch after another, in place: next() moves to a record, whose fields say
 * where its parts lie. Nothing is allocated until a part is asked for.
 *
 * Every length is checked before it is used, so bytes that passed no CRC may be read as well: what is
 * wrong in a record fails as INVALID_RECORD, before the record is handed out.
 */
export class RecordReader {
  offset = -1;
  /** In ms; -1: none. */
  timestamp: number = NaN;
  /** Where the key begins and ends in the bytes; both -1: null. So with the value. */
  keyStart = -1;
  keyEnd = -1;
  valueStart = -1;
  valueEnd = -1;
  headerCount = 0;
  /** Set when a part that may be kept was handed out as a view: then the bytes must stay as they are. */
  hasLent = false;
  #bytes: Uint8Array = slab;
  /** Whether the bytes are the caller's: what was decompressed is never used again. */
  #isLent = true;
  #memory: ArrayBufferLike = slab.buffer;
  #memoryStart = 0;
  /** End of the batch. */
  #end = 0;
  /** End of this record. */
  #recordEnd = 0;
  #headersStart = 0;
  #position = 0;
  #recordsLeft = 0;
  #baseOffset = 0;
  #baseTimestamp = NaN;
  #logAppendTime = NaN;
  #isLogAppendTime = false;
  #firstDelta = 0;
  #lastDelta = -1;
  #maxDelta = 0;
  /** A part of the batch that lies copied in a slab, and what to add to a position to find it there. */
  #copyStart = 0;
  #copyEnd = 0;
  #copyShift = 0;
  #copyMemory: ArrayBufferLike = slab.buffer;

  /**
   * Begins before the first record with an offset of at least `from` in the batch at `position`, of
   * which `header` was read. The bytes must not change while it is read.
   * @throws UNSUPPORTED_COMPRESSION_TYPE; INVALID_RECORD if it has bytes but no records, or its records do
   *   not decompress
   */
  open(bytes: Uint8Array, position: number, header: BatchHeader, from: number = 0): void {
    this.#isLent = header.compression === 'none';
    this.#bytes = bytes;
    this.#end = position + header.size;
    this.#recordEnd = position + RECORD_BATCH_OVERHEAD;
    this.#recordsLeft = header.recordCount;
    this.#baseOffset = header.baseOffset;
    this.#baseTimestamp = header.baseTimestamp;
    this.#isLogAppendTime = header.isLogAppendTime;
    this.#logAppendTime = header.maxTimestamp;
    this.#firstDelta = from - header.baseOffset;
    this.#lastDelta = -1;
    this.#maxDelta = header.lastOffsetDelta;
    this.#copyEnd = 0;
    if (this.#recordsLeft <= 0 && this.#recordEnd !== this.#end) {
      throw this.#invalid('bytes without a record');
    }
    if (!this.#isLent && this.#recordsLeft > 0) this.#decompress(header);
    this.#memory = this.#bytes.buffer;
    this.#memoryStart = this.#bytes.byteOffset;
  }

  #decompress({ baseOffset, compression }: BatchHeader): void {
    const where = `batch at offset ${baseOffset}`;
    if (compression === 'unknown') {
      const what = `${where}: a compression that is not known`;
      throw new OttlaError('UNSUPPORTED_COMPRESSION_TYPE', what);
    }
    const compressor = loadCompressor(compression)!;
    const compressed = new FastBuffer(
      this.#bytes.buffer,
      this.#bytes.byteOffset + this.#recordEnd,
      this.#end - this.#recordEnd,
    );
    try {
      this.#bytes = compressor.decompress(compressed, maxDecompressedBytes);
    } catch (cause) {
      const what = `${where}: its ${compression} records do not decompress: ${String(cause)}`;
      throw new OttlaError('INVALID_RECORD', what, { cause });
    }
    this.#recordEnd = 0;
    this.#end = this.#bytes.length;
  }

  /** Where the record ends, or before the first the records begin, in the bytes that they lie in uncompressed. */
  get end(): number {
    return this.#recordEnd;
  }

  /**
   * Moves to the next record; false if there is none.
   * @throws INVALID_RECORD if it is malformed; then there is no next one
   */
  next(): boolean {
    while (this.#recordsLeft > 0) {
      if (!this.#passShort()) this.#passAny();
      if (this.#lastDelta >= this.#firstDelta) return true;
    }
    return false;
  }

  /**
   * Passes a record like most, without headers and with no number of more than two bytes: in one stretch,
   * which calls nothing and stores only what it found. False, having done nothing, for any other record,
   * malformed ones included.
   */
  #passShort(): boolean {
    const bytes = this.#bytes;
    let at = this.#recordEnd;
    // What a third byte would go on with is more than maxShort already.
    let size = bytes[at++]!;
    if (size > 0x7f) size = (size & 0x7f) | (bytes[at++]! << 7);
    const end = at + (size >>> 1);
    // Past the attributes, of which no bit is used.
    at++;
    let timestamp = bytes[at++]!;
    if (timestamp > 0x7f) timestamp = (timestamp & 0x7f) | (bytes[at++]! << 7);
    let offset = bytes[at++]!;
    if (offset > 0x7f) offset = (offset & 0x7f) | (bytes[at++]! << 7);
    let keySize = bytes[at++]!;
    if (keySize > 0x7f) keySize = (keySize & 0x7f) | (bytes[at++]! << 7);
    const hasKey = keySize !== 1;
    const keyStart = at;
    if (hasKey) at += keySize >>> 1;
    const keyEnd = at;
    let valueSize = bytes[at++]!;
    if (valueSize > 0x7f) valueSize = (valueSize & 0x7f) | (bytes[at++]! << 7);
    const hasValue = valueSize !== 1;
    const valueStart = at;
    if (hasValue) at += valueSize >>> 1;
    const valueEnd = at;
    const isLast = this.#recordsLeft === 1;
    const delta = offset >>> 1;
    const time = this.#baseTimestamp + ((timestamp >>> 1) ^ -(timestamp & 1));
    if (
      (size | timestamp | offset | keySize | valueSize) > maxShort ||
      ((size | offset | (hasKey ? keySize : 0) | (hasValue ? valueSize : 0)) & 1) !== 0 ||
      bytes[at] !== 0 ||
      at + 1 !== end ||
      (isLast ? end !== this.#end : end > this.#end) ||
      delta <= this.#lastDelta ||
      delta > this.#maxDelta ||
      !Number.isSafeInteger(time)
    ) {
      return false;
    }
    this.#recordEnd = end;
    this.#recordsLeft--;
    this.#lastDelta = delta;
    this.offset = this.#baseOffset + delta;
    this.timestamp = this.#isLogAppendTime ? this.#logAppendTime : time;
    this.keyStart = hasKey ? keyStart : -1;
    this.keyEnd = hasKey ? keyEnd : -1;
    this.valueStart = hasValue ? valueStart : -1;
    this.valueEnd = hasValue ? valueEnd : -1;
    this.headerCount = 0;
    return true;
  }

  /** Passes a record of any kind; of one below what is wanted only what tells where the next begins. */
  #passAny(): void {
    this.#position = this.#recordEnd;
    const size = this.#varint();
    const end = this.#position + size;
    if (size < 0 || end > this.#end) throw this.#invalid(`${size} bytes long`);
    this.#recordEnd = end;
    this.#recordsLeft--;
    if (this.#recordsLeft === 0 && end !== this.#end) {
      throw this.#invalid(`${this.#end - end} bytes behind the last record`);
    }
    this.#position++;
    const timestamp = this.#baseTimestamp + this.#varlong();
    const offsetDelta = this.#varint();
    if (offsetDelta <= this.#lastDelta || offsetDelta > this.#maxDelta) {
      throw this.#invalid(`offset delta ${offsetDelta} after ${this.#lastDelta}`);
    }
    this.#lastDelta = offsetDelta;
    if (offsetDelta < this.#firstDelta) return;
    if (!Number.isSafeInteger(timestamp)) throw this.#invalid('its timestamp passes 2^53');
    this.offset = this.#baseOffset + offsetDelta;
    this.timestamp = this.#isLogAppendTime ? this.#logAppendTime : timestamp;
    const keySize = this.#varint();
    this.keyStart = keySize < 0 ? -1 : this.#position;
    this.keyEnd = this.#pass(keySize);
    const valueSize = this.#varint();
    this.valueStart = valueSize < 0 ? -1 : this.#position;
    this.valueEnd = this.#pass(valueSize);
    this.#passHeaders();
    if (this.#position !== end) throw this.#invalid(`${end - this.#position} bytes too long`);
  }

  /**
   * The key. With `keep` it may be kept, whatever becomes of the bytes: then it is a copy in a slab of
   * 16 KiB, or from 4 KiB on a view, which makes hasLent true. Without, it is a view that must not
   * outlast them.
   */
  key(keep: boolean): Buffer | null {
    return this.keyStart < 0 ? null : this.#part(this.keyStart, this.keyEnd, keep);
  }

  /** The value, as key(). */
  value(keep: boolean): Buffer | null {
    return this.valueStart < 0 ? null : this.#part(this.valueStart, this.valueEnd, keep);
  }

  /** The headers, in their order, with values as key(). */
  headers(keep: boolean): [name: string, value: Buffer | null][] {
    const headers: [string, Buffer | null][] = [];
    this.#position = this.#headersStart;
    for (let i = 0; i < this.headerCount; i++) {
      const nameSize = this.#varint();
      const nameStart = this.#position;
      this.#position += nameSize;
      const name = this.#part(nameStart, this.#position, false).toString();
      const valueSize = this.#varint();
      const valueStart = this.#position;
      this.#position += Math.max(0, valueSize);
      headers.push([name, valueSize < 0 ? null : this.#part(valueStart, this.#position, keep)]);
    }
    return headers;
  }

  #part(start: number, end: number, keep: boolean): Buffer {
    if (keep && end - start < copyBelow) {
      if (start < this.#copyStart || end > this.#copyEnd) this.#copy(start, end);
      return new FastBuffer(this.#copyMemory, start + this.#copyShift, end - start);
    }
    if (keep && this.#isLent) this.hasLent = true;
    return new FastBuffer(this.#memory, this.#memoryStart + start, end - start);
  }

  /**
   * Copies bytes[start..end) and, in the same stroke, what follows in the batch: one copy for a hundred
   * small records costs half of one for each. Of a large record only the part asked for is copied.
   */
  #copy(start: number, end: number): void {
    const restOfRecord = this.#recordEnd - start;
    const isLarge = restOfRecord >= copyBelow;
    const least = isLarge ? end - start : restOfRecord;
    if (slabBytes - slabUsed < least) {
      slab = Buffer.allocUnsafeSlow(slabBytes);
      slabUsed = 0;
    }
    const size = isLarge ? least : Math.min(this.#end - start, slabBytes - slabUsed);
    slab.set(new FastBuffer(this.#memory, this.#memoryStart + start, size), slabUsed);
    this.#copyStart = start;
    this.#copyEnd = start + size;
    this.#copyMemory = slab.buffer;
    this.#copyShift = slabUsed - start;
    slabUsed += size;
  }

  #passHeaders(): void {
    const count = this.#varint();
    if (count !== 0) {
      if (count < 0 || count * 2 > this.#recordEnd - this.#position) {
        throw this.#invalid(`${count} headers`);
      }
      this.#headersStart = this.#position;
      for (let i = 0; i < count; i++) {
        const nameSize = this.#varint();
        if (nameSize < 0) throw this.#invalid(`a header name of ${nameSize} bytes`);
        this.#pass(nameSize);
        this.#pass(this.#varint());
      }
    }
    this.headerCount = count;
  }

  /** Moves behind `size` bytes, a negative size being null's. @returns the position there, or -1 for null */
  #pass(size: number): number {
    if (size < 0) return -1;
    const end = this.#position + size;
    if (end > this.#recordEnd) throw this.#invalid(`a part of ${size} bytes passes its end`);
    this.#position = end;
    return end;
  }

  /** Short enough to be inlined, for most are of one byte. */
  #varint(): number {
    const byte = this.#bytes[this.#position]!;
    if (byte > 0x7f) return this.#longVarint();
    this.#position++;
    return (byte >>> 1) ^ -(byte & 1);
  }

  #longVarint(): number {
    const bytes = this.#bytes;
    let at = this.#position;
    let byte = bytes[at++]!;
    let zigzag = byte & 0x7f;
    for (let shift = 7; byte > 0x7f; shift += 7) {
      if (shift > 28) throw this.#invalid('a varint of more than 5 bytes');
      byte = bytes[at++]!;
      zigzag |= (byte & 0x7f) << shift;
    }
    this.#position = at;
    return (zigzag >>> 1) ^ -(zigzag & 1);
  }

  /** NaN beyond 2^53. */
  #varlong(): number {
    const bytes = this.#bytes;
    const start = this.#position;
    if (bytes[start]! <= 0x7f) return this.#varint();
    let at = start;
    while (bytes[at]! > 0x7f && at - start < 10) at++;
    if (at - start < 4) return this.#varint();
    if (at - start > 9) throw this.#invalid('a varint of more than 10 bytes');
    this.#position = at + 1;
    // From the most significant byte down; the sign and the lowest 6 bits are in the first.
    let high = 0;
    for (; at > start; at--) high = high * 128 + (bytes[at]! & 0x7f);
    const low = bytes[start]! & 0x7f;
    if (high > 2 ** 47 || (high === 2 ** 47 && low > 0)) return NaN;
    const magnitude = high * 64 + (low >>> 1);
    return (low & 1) === 0 ? magnitude : -magnitude - 1;
  }

  #invalid(what: string): OttlaError {
    this.#recordsLeft = 0;
    const place = `record behind offset ${this.#baseOffset + this.#lastDelta}`;
    return new OttlaError(
      'INVALID_RECORD',
      `batch at offset ${this.#baseOffset}, ${place}: ${what}`,
    );
  }
}

/**
 * One that stays, for who has nothing to read yet. When a garbage collection finds no object of a class,
 * V8 forgets the class's layout and the code compiled for it. Where that happens a few times, as where
 * readings come and go, it stops specializing that code: reading took three times as long from then on. The
 * NaNs give this one the layout of those that have read.
 */
export const restingReader: RecordReader = new RecordReader();
