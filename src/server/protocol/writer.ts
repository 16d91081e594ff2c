const firstBytes = 512;
/** From this size on bytes are handed on as they are; smaller ones are copied. */
const lentFrom = 4096;

/** Writes the primitive types of Kafka's protocol into buffers that are sent one after the other. */
export class Writer {
  readonly #done: Buffer[] = [];
  #doneBytes = 0;
  #buffer: Buffer = Buffer.allocUnsafe(firstBytes);
  /** Of the buffer's bytes that are not done yet. */
  #start = 0;
  #at = 0;

  /** Bytes so far. */
  get length(): number {
    return this.#doneBytes + this.#at - this.#start;
  }

  /** Makes room, and moves behind it. @returns where it is */
  #room(length: number): number {
    const at = this.#at;
    if (at + length > this.#buffer.length) {
      const pending = this.#buffer.subarray(this.#start, at);
      this.#buffer = Buffer.allocUnsafe(
        Math.max(firstBytes, 2 * pending.length, pending.length + length),
      );
      pending.copy(this.#buffer);
      this.#start = 0;
      this.#at = pending.length + length;
      return pending.length;
    }
    this.#at = at + length;
    return at;
  }

  int8(value: number): void {
    const at = this.#room(1);
    this.#buffer[at] = value;
  }

  int16(value: number): void {
    const at = this.#room(2);
    this.#buffer.writeInt16BE(value, at);
  }

  int32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeInt32BE(value, at);
  }

  /** A safe integer. */
  int64(value: number): void {
    const at = this.#room(8);
    this.#buffer.writeInt32BE(Math.floor(value / 2 ** 32), at);
    this.#buffer.writeUInt32BE(value - Math.floor(value / 2 ** 32) * 2 ** 32, at + 4);
  }

  bigint64(value: bigint): void {
    const at = this.#room(8);
    this.#buffer.writeBigInt64BE(value, at);
  }

  uuid(value: string): void {
    const at = this.#room(16);
    this.#buffer.write(value, at, 16, 'base64url');
  }

  uvarint(value: number): void {
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.int8((rest & 0x7f) | 0x80);
    this.int8(rest);
  }

  string(value: string, length: number): void {
    const at = this.#room(length);
    this.#buffer.write(value, at, length, 'utf8');
  }

  bytes(value: Buffer): void {
    if (value.length < lentFrom) {
      const at = this.#room(value.length);
      value.copy(this.#buffer, at);
      return;
    }
    this.#finishBuffer();
    this.#done.push(value);
    this.#doneBytes += value.length;
  }

  #finishBuffer(): void {
    if (this.#at === this.#start) return;
    this.#done.push(this.#buffer.subarray(this.#start, this.#at));
    this.#doneBytes += this.#at - this.#start;
    this.#start = this.#at;
  }

  /** All that was written, in order. Nothing may be written afterwards. */
  finish(): Buffer[] {
    this.#finishBuffer();
    return this.#done;
  }
}
