import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { open } from 'lmdb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkKey, decodeKey, encodeKey, endOfRange } from '../src/storage/row-key.js';

type Key = (string | number)[];
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc
    .array(fc.constantFrom('\0', '\u0004', '\u0005', '\u001b', '\u001c', 'a', 'é', '\u{1d11e}'), {
      maxLength: 80,
    })
    .map((units) => units.join('')),
);
const key: fc.Arbitrary<Key> = fc.array(fc.oneof(text, fc.maxSafeNat()), {
  minLength: 1,
  maxLength: 3,
});

describe('the bytes of a key', () => {
  it('give back the key', () => {
    fc.assert(
      fc.property(key, (parts) => {
        expect(decodeKey(encodeKey(parts))).toEqual(parts);
      }),
    );
  });

  it('are as many as checkKey() counts', () => {
    fc.assert(
      fc.property(key, (parts) => {
        const room = 1976 - encodeKey(parts).length - 1;
        expect(() => checkKey([...parts, 'x'.repeat(room)])).not.toThrow();
        expect(() => checkKey([...parts, 'x'.repeat(room + 1)])).toThrow(
          /at most 1976 bytes, got 1977/,
        );
      }),
    );
  });

  it('compare as the parts do: numbers as numbers, strings as UTF-8', () => {
    const one = fc.oneof(fc.tuple(text, text), fc.tuple(fc.maxSafeNat(), fc.maxSafeNat()));
    fc.assert(
      fc.property(one, fc.string(), ([first, second], rest) => {
        const order =
          typeof first === 'number'
            ? first - Number(second)
            : Buffer.compare(Buffer.from(first), Buffer.from(String(second)));
        const compared = Buffer.compare(
          encodeKey(['k', first, rest]),
          encodeKey(['k', second, rest]),
        );
        expect(compared).toBe(Math.sign(order));
      }),
    );
  });

  it('lie between those of a prefix and endOfRange(), and no others do', () => {
    fc.assert(
      fc.property(
        key,
        fc.array(fc.oneof(text, fc.maxSafeNat()), { maxLength: 2 }),
        text,
        (prefix, rest, other) => {
          const start = encodeKey(prefix);
          const isWithin = (bytes: Buffer): boolean =>
            Buffer.compare(start, bytes) <= 0 && Buffer.compare(bytes, endOfRange(start)) < 0;
          expect(isWithin(encodeKey([...prefix, ...rest]))).toBe(true);
          const beside = [...prefix.slice(0, -1), `${String(prefix.at(-1))}${other}x`];
          expect(isWithin(encodeKey(beside))).toBe(false);
        },
      ),
    );
  });

  it.each([
    ['a number that is cut', '10'.repeat(8)],
    ['bytes behind a number', `${'10'.repeat(9)}61`],
    ['a byte that begins no part', '05'],
    ['a negative number', '0f'.repeat(9)],
  ])('are not made of %s', (_what, hex) => {
    const bytes = Buffer.from(hex, 'hex');
    expect(decodeKey(bytes)).toBeNull();
  });
});

describe('lmdb’s own format', () => {
  let directory: string;
  let db: ReturnType<typeof open<string, Key>>;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'ottla-key-'));
    db = open<string, Key>({ path: directory, noSubdir: false, encoding: 'string' });
  });
  afterAll(async () => {
    await db.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is the same, byte for byte', async () => {
    const keys: Key[] = [
      ['store'],
      ['group', 'é\u{1d11e}'],
      ['group', ''],
      ['group', '\u0001\u001b'],
      ['group', 'x'.repeat(200)],
      ['offset', 49, 'mail', 'AAAAAAAAQACAAAAAAAAAAA', 0],
      ...[0, 1, 2, 255, 2 ** 31, 2 ** 32 + 1, 2 ** 53 - 1].map((number) => ['n', number]),
    ];
    for (const parts of keys) await db.put(parts, 'x');
    const raw = open<string, Buffer>({
      path: directory,
      noSubdir: false,
      encoding: 'string',
      keyEncoding: 'binary',
    });
    const bytes = [...raw.getKeys()].map((one) => Buffer.from(one).toString('hex'));
    await raw.close();
    expect(bytes).toEqual(keys.map((parts) => encodeKey(parts).toString('hex')).toSorted());
  });
});
