// Keys of stored rows as bytes: the ordered-binary format that lmdb reads and writes by default, for
// strings and for integers from 0 on. Bytes compare as the keys do, part by part.
//
// Parts are divided by 00. A number is its float64, big endian, between the nibbles 1 and 0: 9 bytes. A
// string is its UTF-8, with 04 before each byte up to 04, and 1b in front if it is empty or begins below 1c.

type KeyPart = string | number;

/** LMDB's limit of 1978, less the two bytes that endOfRange() adds. */
const maxKeyBytes = 1976;
const numberBytes = 9;
const separator = 0x00;
const escape = 0x04;
const stringMark = 0x1b;
const halfOfPair = /\p{Surrogate}/u;
// oxlint-disable-next-line no-control-regex
const needsEscape = /[\u0000-\u0004]/;
const escaped = new RegExp(needsEscape, 'g');

/**
 * What every store refuses as a key, so that a name which works in memory works on disk: more than 1976
 * bytes, half of a surrogate pair, and numbers that are no integers from 0 to 2^53 − 1.
 * @throws RangeError
 */
export function checkKey(key: readonly KeyPart[]): void {
  let bytes = key.length - 1;
  for (const part of key) {
    if (typeof part === 'number') {
      if (!Number.isSafeInteger(part) || part < 0) {
        throw new RangeError(
          `key of a ${key[0]}: expected an integer from 0 to 2^53 - 1, got ${part}`,
        );
      }
      bytes += numberBytes;
    } else {
      if (halfOfPair.test(part)) {
        throw new RangeError(
          `key of a ${key[0]}: expected no half of a surrogate pair, got ${JSON.stringify(part)}`,
        );
      }
      bytes += stringBytes(part);
    }
  }
  if (bytes > maxKeyBytes) {
    throw new RangeError(`key of a ${key[0]}: expected at most ${maxKeyBytes} bytes, got ${bytes}`);
  }
}

function stringBytes(text: string): number {
  const marks = isMarked(text) ? 1 : 0;
  const escapes = needsEscape.test(text) ? (text.match(escaped)?.length ?? 0) : 0;
  return marks + Buffer.byteLength(text) + escapes;
}

function isMarked(text: string): boolean {
  return text < '\u001c';
}

const scratch = Buffer.alloc(maxKeyBytes);

/** The bytes of a key that checkKey() lets pass, or of the beginning of one. */
export function encodeKey(key: readonly KeyPart[]): Buffer {
  const bytes = scratch;
  let at = 0;
  for (const part of key) {
    if (at > 0) bytes[at++] = separator;
    at = typeof part === 'number' ? putNumber(bytes, at, part) : putString(bytes, at, part);
  }
  return Buffer.from(bytes.subarray(0, at));
}

const float = Buffer.alloc(8);

function putNumber(bytes: Buffer, at: number, value: number): number {
  float.writeDoubleBE(value);
  const high = float.readUInt32BE(0);
  const low = float.readUInt32BE(4);
  bytes.writeUInt32BE((0x10000000 | (high >>> 4)) >>> 0, at);
  bytes.writeUInt32BE(((high << 28) | (low >>> 4)) >>> 0, at + 4);
  bytes[at + 8] = low << 4;
  return at + numberBytes;
}

function putString(bytes: Buffer, at: number, text: string): number {
  let end = at;
  if (isMarked(text)) bytes[end++] = stringMark;
  return (
    end + bytes.write(needsEscape.test(text) ? text.replaceAll(escaped, '\u0004$&') : text, end)
  );
}

/** The end of the keys that begin with a key's parts: above all of them, below any other. */
export function endOfRange(prefix: Buffer): Buffer {
  return Buffer.concat([prefix, Buffer.from([separator, 0xff])]);
}

/** The parts of a key; null for bytes that encodeKey() does not make. */
export function decodeKey(bytes: Buffer): KeyPart[] | null {
  const key: KeyPart[] = [];
  let at = 0;
  do {
    if (at > 0) at++;
    const first = bytes[at];
    if (first !== undefined && first < stringMark) {
      if (first >>> 4 !== 1 || at + numberBytes > bytes.length) return null;
      key.push(numberAt(bytes, at));
      at += numberBytes;
    } else {
      const end = stringEnd(bytes, at);
      key.push(stringBetween(bytes, first === stringMark ? at + 1 : at, end));
      at = end;
    }
  } while (bytes[at] === separator);
  return at === bytes.length ? key : null;
}

function numberAt(bytes: Buffer, at: number): number {
  const first = bytes.readUInt32BE(at);
  const second = bytes.readUInt32BE(at + 4);
  float.writeUInt32BE(((first << 4) | (second >>> 28)) >>> 0, 0);
  float.writeUInt32BE(((second << 4) | (bytes.readUInt8(at + 8) >>> 4)) >>> 0, 4);
  return float.readDoubleBE();
}

function stringEnd(bytes: Buffer, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== separator) at += bytes[at] === escape ? 2 : 1;
  return Math.min(at, bytes.length);
}

function stringBetween(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('utf8', start, end);
  // oxlint-disable-next-line no-control-regex
  return text.includes('\u0004') ? text.replaceAll(/\u0004([\u0000-\u0004])/g, '$1') : text;
}
