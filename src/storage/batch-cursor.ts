import { OttlaError } from '../errors.js';
import {
  BatchHeader,
  LOG_OVERHEAD,
  RECORD_BATCH_OVERHEAD,
  batchSizeAt,
  checkBatch,
  readBatchHeader,
} from '../record.js';
import type { Slices } from './slices.js';

const chunkBytes = 1024 * 1024;
const magicAt = 16;

/** Reads up to `length` bytes at `position`, fewer only at the end. */
export type ReadBytes = (into: Buffer, length: number, position: number) => Promise<number>;

/**
 * Looks for whole and valid batches (frame, counts and CRC) anywhere in a file: what a reader of sound
 * logs need not do. Holds the part of the file it looked at last.
 */
export class BatchCursor {
  readonly #read: ReadBytes;
  readonly #slices: Slices;
  /** Bytes of the file that count. */
  readonly #end: number;
  #bytes: Buffer = Buffer.alloc(0);
  /** Which part of the file the bytes are. */
  #from = 0;
  #length = 0;

  constructor(read: ReadBytes, end: number, slices: Slices) {
    this.#read = read;
    this.#end = end;
    this.#slices = slices;
  }

  /** The bytes at hand, and where the batch that check() found lies in them. Good until the next load(). */
  get bytes(): Buffer {
    return this.#bytes;
  }

  startOf(position: number): number {
    return position - this.#from;
  }

  /** The valid batch that begins at `position`, or why there is none; null: load() it first. */
  check(position: number): BatchHeader | string | null {
    const at = position - this.#from;
    const isAllThere = this.#from + this.#length >= this.#end;
    if (at < 0 || at > this.#length || (at === this.#length && !isAllThere)) return null;
    try {
      const size = batchSizeAt(this.#bytes, at, this.#length);
      const isPart = size === -1 || at + size > this.#length;
      if (isPart && position + Math.max(size, LOG_OVERHEAD) <= this.#end) return null;
      const header = readBatchHeader(this.#bytes, at, this.#length);
      if (header === null) return 'an incomplete batch';
      checkBatch(this.#bytes, at, header);
      return header;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** Brings the batch at `position` into memory, as far as there is one. */
  async load(position: number): Promise<void> {
    const at = position - this.#from;
    const known = at >= 0 && at + LOG_OVERHEAD <= this.#length ? this.#sizeAt(at) : 0;
    const wanted = Math.min(Math.max(chunkBytes, known), this.#end - position);
    if (this.#bytes.length < wanted) this.#bytes = Buffer.allocUnsafe(wanted);
    this.#length = 0;
    const length = await this.#read(this.#bytes, wanted, position);
    if (length < wanted) {
      throw new OttlaError(
        'KAFKA_STORAGE_ERROR',
        `a file ended at byte ${position + length} while it was read, expected ${this.#end}`,
      );
    }
    this.#from = position;
    this.#length = length;
  }

  #sizeAt(at: number): number {
    try {
      return batchSizeAt(this.#bytes, at, this.#length);
    } catch (error) {
      reasonOf(error);
      return 0;
    }
  }

  /** As check(), loading what it needs. */
  async batchAt(position: number): Promise<BatchHeader | string> {
    for (;;) {
      const found = this.check(position);
      if (found !== null) return found;
      await this.load(position);
    }
  }

  /**
   * The first byte behind the damage at `from` where the log goes on: where a valid batch begins whose
   * offsets lie from `minOffset` to below `maxOffset`. It begins where the damaged one says that it ends,
   * or else another one or the end comes behind it: so a batch that lies in a record's value is not taken
   * for one of the log. -1: there is none.
   */
  async findBehind(from: number, minOffset: number, maxOffset: number): Promise<number> {
    const hop = await this.#hop(from, minOffset, maxOffset);
    if (hop !== -1) return hop;
    for (let position = from + 1; position + RECORD_BATCH_OVERHEAD <= this.#end; position++) {
      if ((position & 0xffff) === 0 && this.#slices.isOver) await this.#slices.next();
      const at = position - this.#from;
      if (at < 0 || at + magicAt >= this.#length) await this.load(position);
      if (this.#bytes[position - this.#from + magicAt] !== 2) continue;
      if (await this.#goesOnAt(position, minOffset, maxOffset)) return position;
    }
    return -1;
  }

  /** Damage within a batch leaves its length and offsets: the next one begins where they say. */
  async #hop(from: number, minOffset: number, maxOffset: number): Promise<number> {
    await this.load(from);
    const size = this.#sizeAt(0);
    if (size <= 0 || from + size >= this.#end) return -1;
    if (this.#length < RECORD_BATCH_OVERHEAD) return -1;
    const { nextOffset } = new BatchHeader(this.#bytes, 0);
    const next = await this.batchAt(from + size);
    // Unless both agree the length may be what is damaged, and leads past good batches.
    const agrees = isBetween(next, minOffset, maxOffset) && next.baseOffset === nextOffset;
    return agrees ? from + size : -1;
  }

  async #goesOnAt(position: number, minOffset: number, maxOffset: number): Promise<boolean> {
    const header = await this.batchAt(position);
    if (!isBetween(header, minOffset, maxOffset)) return false;
    const behind = position + header.size;
    if (behind === this.#end) return true;
    return isBetween(await this.batchAt(behind), header.nextOffset, maxOffset);
  }
}

function isBetween(
  found: BatchHeader | string,
  minOffset: number,
  maxOffset: number,
): found is BatchHeader {
  if (typeof found === 'string') return false;
  return found.baseOffset >= minOffset && found.nextOffset <= maxOffset;
}

function reasonOf(error: unknown): string {
  if (error instanceof OttlaError) return error.message;
  throw error;
}
