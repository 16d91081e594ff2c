import { hash } from 'node:crypto';

/** 16 bytes of a key's hash, then its offset + 1 in 8: six words. */
const wordsPerSlot = 6;
const bytesPerSlot = 4 * wordsPerSlot;
/** Above this share of used slots, probing gets slow. */
const loadFactor = 0.75;
const two32 = 2 ** 32;

/**
 * The latest offset of each key, in memory that never grows: keys are told by 128 bits of their SHA-256,
 * so that one takes 24 bytes however long it is (Kafka's SkimpyOffsetMap, with another hash).
 */
export class OffsetMap {
  /** Keys so far. */
  size = 0;
  /** Keys it has room for. */
  readonly capacity: number;
  readonly #slots: Uint32Array;
  readonly #slotCount: number;

  /** With room for `capacity` keys, at least one. */
  constructor(capacity: number) {
    this.capacity = Math.max(1, capacity);
    this.#slotCount = Math.ceil(this.capacity / loadFactor) + 1;
    this.#slots = new Uint32Array(this.#slotCount * wordsPerSlot);
  }

  /** The number of keys that a map of this many bytes has room for. */
  static capacityOf(bytes: number): number {
    return Math.floor((bytes / bytesPerSlot - 1) * loadFactor);
  }

  /** Sets the offset of a key, which no later call may lower. False, with nothing changed: it is full. */
  put(key: Uint8Array, offset: number): boolean {
    const digest = digestOf(key);
    const at = this.#find(digest);
    if (this.#isFree(at)) {
      if (this.size === this.capacity) return false;
      this.size++;
      for (let word = 0; word < 4; word++) this.#slots[at + word] = digest.readUInt32LE(4 * word);
    }
    this.#slots[at + 4] = Math.floor((offset + 1) / two32);
    this.#slots[at + 5] = (offset + 1) % two32;
    return true;
  }

  /** The offset of a key; -1 for one that was not put. */
  get(key: Uint8Array): number {
    const at = this.#find(digestOf(key));
    return this.#slots[at + 4]! * two32 + this.#slots[at + 5]! - 1;
  }

  /** The slot of a key, or the free one where it would go. */
  #find(digest: Buffer): number {
    const first = digest.readUInt32LE(0);
    let slot = first % this.#slotCount;
    for (;;) {
      const at = slot * wordsPerSlot;
      if (this.#isFree(at)) return at;
      if (
        this.#slots[at] === first &&
        this.#slots[at + 1] === digest.readUInt32LE(4) &&
        this.#slots[at + 2] === digest.readUInt32LE(8) &&
        this.#slots[at + 3] === digest.readUInt32LE(12)
      ) {
        return at;
      }
      slot = slot + 1 === this.#slotCount ? 0 : slot + 1;
    }
  }

  #isFree(at: number): boolean {
    return this.#slots[at + 4] === 0 && this.#slots[at + 5] === 0;
  }
}

function digestOf(key: Uint8Array): Buffer {
  return hash('sha256', key, 'buffer');
}
