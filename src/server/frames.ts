import { MalformedRequest } from './protocol/reader.js';

const lengthBytes = 4;
/** A smaller piece is copied behind the one before: by itself it would hold far more than its bytes. */
const collectedBelow = 4096;
const maxCollectorBytes = 16 * 1024;

/**
 * Cuts what arrives into frames: each is a length of 4 bytes, then so many. Memory is taken for bytes that
 * have arrived, never for bytes that were announced, and at most twice as much. No byte is copied more than
 * twice, however small the pieces are.
 */
export class Frames {
  /** The longest that is taken. */
  maxBytes: number;
  #parts: Buffer[] = [];
  #length = 0;
  /** Where small pieces lie together; its bytes so far are the last part. Null: the last part is a piece. */
  #collector: Buffer | null = null;
  #collected = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Of the frame that has not arrived as a whole: bytes that are kept for it. */
  get pendingBytes(): number {
    return this.#length;
  }

  push(bytes: Buffer): void {
    this.#length += bytes.length;
    if (this.#parts.length > 0 && bytes.length < collectedBelow) {
      this.#collect(bytes);
    } else {
      this.#parts.push(bytes);
      this.#collector = null;
    }
  }

  #collect(bytes: Buffer): void {
    if (this.#collector !== null && this.#collected + bytes.length <= this.#collector.length) {
      this.#parts.pop();
    } else {
      // As much as there is already: so there are few of them, and at most half is empty.
      const size = Math.max(bytes.length, Math.min(this.#length, maxCollectorBytes));
      this.#collector = Buffer.allocUnsafe(size);
      this.#collected = 0;
    }
    this.#collected += bytes.copy(this.#collector, this.#collected);
    this.#parts.push(this.#collector.subarray(0, this.#collected));
  }

  /**
   * The next whole frame, without its length; null: it has not arrived.
   * @throws MalformedRequest for a length that is none, or too large
   */
  next(): Buffer | null {
    if (this.#length < lengthBytes) return null;
    if (this.#parts[0]!.length < lengthBytes) this.#join(lengthBytes);
    const length = this.#parts[0]!.readInt32BE(0);
    if (length < 0 || length > this.maxBytes) {
      throw new MalformedRequest(`a request of ${length} bytes, at most ${this.maxBytes}`);
    }
    const end = lengthBytes + length;
    if (this.#length < end) return null;
    if (this.#parts[0]!.length < end) this.#join(end);
    const first = this.#parts[0]!;
    this.#length -= end;
    if (first.length === end) this.#parts.shift();
    else this.#parts[0] = first.subarray(end);
    this.#collector = null;
    return first.subarray(lengthBytes, end);
  }

  /** Makes the first so many bytes one part, and copies no others: what is left of a piece stays a view of it. */
  #join(bytes: number): void {
    let count = 0;
    let length = 0;
    while (length < bytes) length += this.#parts[count++]!.length;
    const rest = this.#parts[count - 1]!.subarray(-(length - bytes));
    const joined = Buffer.concat(this.#parts.slice(0, count), bytes);
    this.#parts.splice(0, count, ...(length > bytes ? [joined, rest] : [joined]));
    this.#collector = null;
  }
}
