/**
 * SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012), by 32-bit halves. Under a key that nobody
 * knows nobody can find two inputs with the same hash.
 */
export class SipHash {
  /** The hash that was made last, least significant word first. */
  readonly words: Uint32Array = new Uint32Array(4);
  readonly #key: Int32Array;

  /** @param key 16 bytes */
  constructor(key: Uint8Array) {
    this.#key = Int32Array.from([0, 4, 8, 12], (at) => wordAt(key, at));
  }

  /** Makes the hash of these bytes. */
  update(bytes: Uint8Array): void {
    const [k0l, k0h, k1l, k1h] = this.#key as unknown as [number, number, number, number];
    let v0l = k0l ^ 0x70736575;
    let v0h = k0h ^ 0x736f6d65;
    let v1l = k1l ^ 0x6e646f6d ^ 0xee;
    let v1h = k1h ^ 0x646f7261;
    let v2l = k0l ^ 0x6e657261;
    let v2h = k0h ^ 0x6c796765;
    let v3l = k1l ^ 0x79746573;
    let v3h = k1h ^ 0x74656462;
    const { length } = bytes;
    const blocks = (length >>> 3) + 1;
    // The blocks of 8 bytes, the last of which holds the length, then two finishing turns.
    for (let turn = 0; turn < blocks + 2; turn++) {
      const isBlock = turn < blocks;
      let low = 0;
      let high = 0;
      if (turn < blocks - 1) {
        low = wordAt(bytes, 8 * turn);
        high = wordAt(bytes, 8 * turn + 4);
      } else if (isBlock) {
        for (let at = 8 * turn; at < length; at++) {
          if ((at & 4) === 0) low |= bytes[at]! << (8 * (at & 3));
          else high |= bytes[at]! << (8 * (at & 3));
        }
        high |= length << 24;
      } else if (turn === blocks) v2l ^= 0xee;
      else v1l ^= 0xdd;
      v3l ^= low;
      v3h ^= high;
      for (let round = isBlock ? 2 : 4; round > 0; round--) {
        v0l = (v0l + v1l) | 0;
        v0h = (v0h + v1h + (v0l >>> 0 < v1l >>> 0 ? 1 : 0)) | 0;
        let l = (v1l << 13) | (v1h >>> 19);
        v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
        v1l = l ^ v0l;
        l = v0l;
        v0l = v0h;
        v0h = l;
        v2l = (v2l + v3l) | 0;
        v2h = (v2h + v3h + (v2l >>> 0 < v3l >>> 0 ? 1 : 0)) | 0;
        l = (v3l << 16) | (v3h >>> 16);
        v3h = ((v3h << 16) | (v3l >>> 16)) ^ v2h;
        v3l = l ^ v2l;
        v0l = (v0l + v3l) | 0;
        v0h = (v0h + v3h + (v0l >>> 0 < v3l >>> 0 ? 1 : 0)) | 0;
        l = (v3l << 21) | (v3h >>> 11);
        v3h = ((v3h << 21) | (v3l >>> 11)) ^ v0h;
        v3l = l ^ v0l;
        v2l = (v2l + v1l) | 0;
        v2h = (v2h + v1h + (v2l >>> 0 < v1l >>> 0 ? 1 : 0)) | 0;
        l = (v1l << 17) | (v1h >>> 15);
        v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
        v1l = l ^ v2l;
        l = v2l;
        v2l = v2h;
        v2h = l;
      }
      v0l ^= low;
      v0h ^= high;
      if (isBlock) continue;
      const at = turn === blocks ? 0 : 2;
      this.words[at] = v0l ^ v1l ^ v2l ^ v3l;
      this.words[at + 1] = v0h ^ v1h ^ v2h ^ v3h;
    }
  }
}

/** Little endian. */
function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
