import { isUtf8 } from 'node:buffer';

/** Nothing can be answered: the connection is cut, and that is all. */
export class HangUp extends Error {
  override readonly name: string = 'HangUp';
}

/** A request's bytes are not what its version says. The connection has lost its place. */
export class MalformedRequest extends HangUp {
  override readonly name: string = 'MalformedRequest';
}

/** Kafka's strings are no longer (Short.MAX_VALUE), whatever their length is written in. */
export const maxStringBytes: number = 0x7fff;

/** Few bytes may be many elements, which take far more memory than these: no request has so many. */
export const maxElements = 200_000;

/** Reads the primitive types of Kafka's protocol, one after the other. Nothing is read beyond the end. */
export class Reader {
  readonly #bytes: Buffer;
  #at: number;
  #elementCount = 0;

  constructor(bytes: Buffer, at: number = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  /** Of all arrays so far. */
  get elementCount(): number {
    return this.#elementCount;
  }

  /** To be called before the elements of an array are read. @param least bytes that each has at the least */
  elements(count: number, least: number): void {
    this.#elementCount += count;
    if (count * least > this.remaining || this.#elementCount > maxElements) {
      throw new MalformedRequest(
        `${count} elements in ${this.remaining} bytes, at most ${maxElements} in a request`,
      );
    }
  }

  /** @returns where they begin */
  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) {
      throw new MalformedRequest(`${length} bytes at ${at} of ${this.#bytes.length}`);
    }
    this.#at = at + length;
    return at;
  }

  int8(): number {
    return (this.#bytes[this.#take(1)]! << 24) >> 24;
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  int64(): number {
    const at = this.#take(8);
    return this.#bytes.readInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4);
  }

  bigint64(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }

  uuid(): string {
    const at = this.#take(16);
    return this.#bytes.toString('base64url', at, at + 16);
  }

  /** Of 32 bits: seven in a byte, least significant first. */
  uvarint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#bytes[this.#take(1)]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80 && value < 2 ** 32) return value;
    }
    throw new MalformedRequest('a varint of more than 32 bits');
  }

  /** What is no UTF-8 is refused: with what stands for it, an echo could be longer than a string may be. */
  string(length: number): string {
    if (length > maxStringBytes) throw new MalformedRequest(`a string of ${length} bytes`);
    const at = this.#take(length);
    const text = this.#bytes.toString('utf8', at, at + length);
    if (text.includes('\ufffd') && !isUtf8(this.#bytes.subarray(at, at + length))) {
      throw new MalformedRequest('a string that is no UTF-8');
    }
    return text;
  }

  /** A view. */
  view(length: number): Buffer {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
}
