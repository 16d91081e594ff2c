import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  crc32c,
  crc32cIn,
  crc32cOfUint32,
  loadNativeCrc32c,
  useNativeCrc32c,
} from '../src/crc32c.js';

const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);

/** Checksums that RFC 3720, B.4, gives, and the check value of the catalogue of CRCs. */
const known: [what: string, bytes: Uint8Array, crc: number][] = [
  ['nothing', new Uint8Array(0), 0],
  ['123456789', Buffer.from('123456789'), 0xe306_9283],
  ['32 zeros', new Uint8Array(32), 0x8a91_36aa],
  ['32 ones', new Uint8Array(32).fill(0xff), 0x62a8_ab43],
  ['0 to 31', ascending, 0x46dd_794e],
  ['31 to 0', ascending.toReversed(), 0x113f_db5c],
];

/** A bit at a time, by the definition. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

const bytes = fc.uint8Array({ maxLength: 700 });

describe.each([
  ['in JS', async () => useNativeCrc32c(null)],
  ['with the native part', loadNativeCrc32c],
])('CRC-32C %s', (_, install) => {
  it.each(known)('of %s', async (_what, input, crc) => {
    await install();
    expect(crc32c(input, 0, input.length)).toBe(crc);
  });

  it('is that of the definition, for any range', async () => {
    await install();
    fc.assert(
      fc.property(bytes, fc.nat(700), fc.nat(700), (input, a, b) => {
        const start = Math.min(a, b, input.length);
        const end = Math.min(Math.max(a, b), input.length);
        const crc = slowCrc32c(input.subarray(start, end));
        expect(crc32c(input, start, end)).toBe(crc);
        // A view of part of a buffer, as chunks of a pool are.
        const view = new DataView(input.buffer, input.byteOffset + start, input.length - start);
        expect(crc32cIn(view, 0, end - start)).toBe(crc);
      }),
    );
  });

  it('of a number is that of its four bytes', async () => {
    await install();
    fc.assert(
      fc.property(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1), (value, seed) => {
        const four = Buffer.alloc(4);
        four.writeUInt32BE(value);
        expect(crc32cOfUint32(value, seed)).toBe(crc32c(four, 0, 4, seed));
      }),
    );
  });

  it('may be made in pieces', async () => {
    await install();
    fc.assert(
      fc.property(bytes, fc.nat(700), (input, cut) => {
        const middle = Math.min(cut, input.length);
        const first = crc32c(input, 0, middle);
        expect(crc32c(input, middle, input.length, first)).toBe(crc32c(input, 0, input.length));
      }),
    );
  });
});

describe('the native part', () => {
  it('is there, and does the larger ranges only', async () => {
    expect(await loadNativeCrc32c()).toBe(true);
    const ranges: number[] = [];
    useNativeCrc32c((range, seed) => {
      ranges.push(range.length);
      return crc32c(range, 0, 100, seed);
    });
    crc32c(new Uint8Array(1000), 10, 265);
    crc32c(new Uint8Array(1000), 10, 266);
    await loadNativeCrc32c();
    expect(ranges).toEqual([256]);
  });
});
