import { MalformedRequest } from './protocol/reader.js';

const lengthBytes = 4;

/**
 * Cuts what arrives into frames: each is a length of 4 bytes, then so many. Memory is taken for bytes that
 * have arrived, never for bytes that were announced.
 */
export class Frames {
  /** The longest that is taken. */
  maxBytes: number;
  #parts: Buffer[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Of the frame that has not arrived as a whole: bytes that are kept for it. */
  get pendingBytes(): number {
    return this.#length;
  }

  push(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  /**
   * The next whole frame, without its length; null: it has not arrived.
   * @throws MalformedRequest for a length that is none, or too large
   */
  next(): Buffer | null {
    if (this.#length < lengthBytes) return null;
    const first = this.#parts[0]!;
    if (first.length < lengthBytes) this.#join();
    const length = this.#parts[0]!.readInt32BE(0);
    if (length < 0 || length > this.maxBytes) {
      throw new MalformedRequest(`a request of ${length} bytes, at most ${this.maxBytes}`);
    }
    const end = lengthBytes + length;
    if (this.#length < end) return null;
    if (this.#parts[0]!.length < end) this.#join();
    const joined = this.#parts[0]!;
    this.#length -= end;
    if (joined.length === end) this.#parts.shift();
    else this.#parts[0] = joined.subarray(end);
    return joined.subarray(lengthBytes, end);
  }

  #join(): void {
    this.#parts = [Buffer.concat(this.#parts)];
  }
}
