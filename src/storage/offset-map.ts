import { randomBytes } from 'node:crypto';
import { SipHash } from './sip-hash.js';

/** 16 bytes of a key's hash, then its offset + 1 in 8: six words. */
const wordsPerSlot = 6;
const bytesPerSlot = 4 * wordsPerSlot;
/** Above this share of used slots, probing gets slow. */
const loadFactor = 0.75;
const two32 = 2 ** 32;

/**
 * The latest offset of each key, in memory that never grows: keys are told by a hash of 128 bits, so that
 * one takes 24 bytes however long it is (Kafka's SkimpyOffsetMap, with another hash). Of two keys with the
 * same hash one would be lost: the hash has a secret, so that nobody can send such keys.
 */
export class OffsetMap {
  /** Keys so far. */
  size = 0;
  /** Keys it has room for. */
  readonly capacity: number;
  readonly #slots: Uint32Array;
  readonly #slotCount: number;
  readonly #hash = new SipHash(randomBytes(16));

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
    const at = this.#find(key);
    if (this.#isFree(at)) {
      if (this.size === this.capacity) return false;
      this.size++;
      this.#slots.set(this.#hash.words, at);
    }
    this.#slots[at + 4] = Math.floor((offset + 1) / two32);
    this.#slots[at + 5] = (offset + 1) % two32;
    return true;
  }

  /** The offset of a key; -1 for one that was not put. */
  get(key: Uint8Array): number {
    const at = this.#find(key);
    return this.#slots[at + 4]! * two32 + this.#slots[at + 5]! - 1;
  }

  /** The slot of a key, or the free one where it would go. */
  #find(key: Uint8Array): number {
    this.#hash.update(key);
    const { words } = this.#hash;
    const slots = this.#slots;
    const first = words[0]!;
    let slot = first % this.#slotCount;
    for (;;) {
      const at = slot * wordsPerSlot;
      if (this.#isFree(at)) return at;
      if (
        slots[at] === first &&
        slots[at + 1] === words[1] &&
        slots[at + 2] === words[2] &&
        slots[at + 3] === words[3]
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
