/** Smaller ones cost less than to keep them. */
const minBytes = 64 * 1024;
/** Larger ones are rare: Kafka's max.partition.fetch.bytes is 1 MiB. */
const maxBytes = 2 * 1024 * 1024;
const maxKept = 4;

/**
 * Large buffers that are used again. A new one costs page faults, and many of them have the garbage collector run
 * all the time: together a third of the time of a fetch of 1 MiB.
 */
export class SpareBuffers {
  readonly #kept: Buffer[] = [];
  readonly #lent = new WeakSet<ArrayBufferLike>();

  /** A buffer of so many bytes, with anything in it. Whoever does not give it back may keep it. */
  take(bytes: number): Buffer {
    if (bytes < minBytes || bytes > maxBytes) return Buffer.allocUnsafe(bytes);
    const at = this.#kept.findIndex(({ length }) => length >= bytes);
    const buffer = at === -1 ? Buffer.allocUnsafeSlow(bytes) : this.#kept.splice(at, 1)[0]!;
    this.#lent.add(buffer.buffer);
    return buffer.subarray(0, bytes);
  }

  /** To be called once nobody looks at these bytes any more. What was not taken here is let be. */
  giveBack(parts: readonly Buffer[]): void {
    for (const { buffer } of parts) {
      if (!this.#lent.delete(buffer)) continue;
      this.#kept.push(Buffer.from(buffer));
      if (this.#kept.length > maxKept) this.#kept.shift();
    }
  }
}
