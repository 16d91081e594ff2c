/*
 * Variable-length integers as records have them, which are protocol buffers' sint32 and sint64: zigzag,
 * then 7 bits a byte, least significant first.
 */

/** Bytes of an int32 as a varint. */
export function varintSize(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0;
  if (zigzag < 0x80) return 1;
  if (zigzag < 0x4000) return 2;
  if (zigzag < 0x20_0000) return 3;
  return zigzag < 0x1000_0000 ? 4 : 5;
}

/** Writes an int32. @returns the position behind it */
export function putVarint(bytes: Uint8Array, at: number, value: number): number {
  let zigzag = ((value << 1) ^ (value >> 31)) >>> 0;
  while (zigzag > 0x7f) {
    bytes[at++] = zigzag | 0x80;
    zigzag >>>= 7;
  }
  bytes[at++] = zigzag;
  return at;
}

/** Bytes of an integer from -2^53 to 2^53 as a varint. */
export function varlongSize(value: number): number {
  if (value === (value | 0)) return varintSize(value);
  let size = 1;
  let rest = Math.floor((value < 0 ? -(value + 1) : value) / 64);
  for (; rest > 0; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Writes an integer from -2^53 to 2^53. @returns the position behind it */
export function putVarlong(bytes: Uint8Array, at: number, value: number): number {
  if (value === (value | 0)) return putVarint(bytes, at, value);
  const sign = value < 0 ? 1 : 0;
  // Doubling it for the zigzag could leave the safe integers: the lowest 6 bits go with the sign.
  const magnitude = sign === 1 ? -(value + 1) : value;
  let low = (magnitude % 64) * 2 + sign;
  let rest = Math.floor(magnitude / 64);
  while (rest > 0) {
    bytes[at++] = low | 0x80;
    low = rest % 128;
    rest = Math.floor(rest / 128);
  }
  bytes[at++] = low;
  return at;
}
