import { expect, it } from 'vitest';
import { SipHash } from '../src/storage/sip-hash.js';

/** Of bytes 0, 1, 2, … under the key 00 01 … 0f, as OpenSSL makes them. */
const known = [
  [0, 'a3817f04ba25a8e66df67214c7550293'],
  [1, 'da87c1d86b99af44347659119b22fc45'],
  [8, '3b62a9ba6258f5610f83e264f31497b4'],
  [15, '5493e99933b0a8117e08ec0f97cfc3d9'],
  [16, '6ee2a4ca67b054bbfd3315bf85230577'],
  [17, '473d06e8738db89854c066c47ae47740'],
  [63, '5150d1772f50834a503e069a973fbd7c'],
] as const;

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i);

it.each(known)('hashes %i bytes as SipHash-2-4 does', (length, expected) => {
  const hash = new SipHash(counting(16));
  hash.update(counting(length));
  const bytes = Buffer.alloc(16);
  for (const [i, word] of hash.words.entries()) bytes.writeUInt32LE(word, 4 * i);
  expect(bytes.toString('hex')).toBe(expected);
});

it('needs the key', () => {
  const [one, other] = [counting(16), counting(17).subarray(1)].map((key) => new SipHash(key));
  for (const hash of [one!, other!]) hash.update(counting(20));
  expect(one!.words).not.toEqual(other!.words);
});
