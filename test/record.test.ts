import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OttlaError } from '../src/errors.js';
import {
  BatchHeader,
  batchSizeAt,
  checkBatch,
  readBatchHeader,
  stampBatch,
  stampLogAppendTime,
} from '../src/record.js';
import { RecordReader } from '../src/record-reader.js';
import { encodeBatch, type PlacedRecord } from '../src/record-writer.js';
import { batches, bytesOf, corrupted, withCrc, type VectorBytes } from './batch-vectors.js';
import { seeds } from './seeds.js';

interface Read {
  readonly offset: number;
  readonly timestamp: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: [string, Buffer | null][];
}

function readRecords(bytes: Buffer, position = 0, from = 0): Read[] {
  const header = readBatchHeader(bytes, position, bytes.length)!;
  const reader = new RecordReader();
  reader.open(bytes, position, header, from);
  const records: Read[] = [];
  while (reader.next()) {
    const { offset, timestamp } = reader;
    const [key, value, headers] = [reader.key(true), reader.value(true), reader.headers(true)];
    records.push({ offset, timestamp, key, value, headers });
  }
  return records;
}

const isHuge = (id: string): boolean => id === 'b014' || id === 'b015';
const plain = batches.filter(({ header }) => header.compression === 'none');

/** What a vector says of a key or value. */
function shown(bytes: Buffer | null): VectorBytes {
  if (bytes === null || bytes.length <= 2048) return bytes?.toString('hex') ?? null;
  return { length: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

describe('Kafka’s batches', () => {
  it.each(batches)('$id, $what: the header', ({ id, header }) => {
    const bytes = bytesOf(id);
    // These two are refused as they are: see below.
    const base = isHuge(id) ? 0 : Number(header.baseOffset);
    if (isHuge(id)) stampBatch(bytes, 0, base, header.partitionLeaderEpoch);
    expect(batchSizeAt(bytes, 0, bytes.length)).toBe(header.sizeInBytes);
    const read = readBatchHeader(bytes, 0, bytes.length)!;
    expect({
      baseOffset: read.baseOffset,
      batchLength: read.size - 12,
      partitionLeaderEpoch: read.leaderEpoch,
      magic: 2,
      crc: read.crc,
      attributes: read.attributes,
      compression: read.compression,
      timestampType: read.isLogAppendTime ? 'LogAppendTime' : 'CreateTime',
      isTransactional: read.isTransactional,
      isControlBatch: read.isControl,
      hasDeleteHorizon: read.hasDeleteHorizon,
      ...(read.hasDeleteHorizon && { deleteHorizonMs: `${read.baseTimestamp}` }),
      lastOffsetDelta: read.lastOffsetDelta,
      baseTimestampField: `${read.baseTimestamp}`,
      maxTimestamp: `${read.maxTimestamp}`,
      producerId: `${read.producerId}`,
      producerEpoch: read.producerEpoch,
      baseSequence: read.baseSequence,
      recordCount: read.recordCount,
      lastOffset: read.lastOffset,
      lastSequence: read.lastSequence,
      sizeInBytes: read.size,
    }).toEqual({
      ...header,
      baseOffset: base,
      lastOffset: base + header.lastOffsetDelta,
    });
    expect(read.nextOffset).toBe(read.lastOffset + 1);
    expect(read.hasProducerId).toBe(header.producerId !== '-1');
    checkBatch(bytes, 0, read);
  });

  it.each(batches)('$id, $what: the records', ({ id, header, records }) => {
    const bytes = bytesOf(id);
    if (isHuge(id)) stampBatch(bytes, 0, 0, 0);
    const base = BigInt(header.baseOffset);
    expect(
      readRecords(bytes).map(({ offset, timestamp, key, value, headers }) => ({
        offset: isHuge(id) ? `${base + BigInt(offset)}` : `${offset}`,
        timestamp: `${timestamp}`,
        key: shown(key),
        value: shown(value),
        headers: headers.map(([name, content]) => [name, shown(content)]),
      })),
    ).toEqual(
      records.map(({ offset, timestamp, key, value, headers }) => ({
        offset,
        timestamp,
        key,
        value,
        headers,
      })),
    );
  });

  it.each(plain)('$id, $what: written byte for byte', ({ id, header }) => {
    const bytes = bytesOf(id);
    if (isHuge(id)) stampBatch(bytes, 0, 0, header.partitionLeaderEpoch);
    const records: PlacedRecord[] = readRecords(bytes).map((record, i) => ({
      ...record,
      // Behind the log's time it has the client's own, 0 and 1 ms after the base.
      ...(id === 'b012' && { timestamp: Number(header.baseTimestampField) + i }),
    }));
    const written = encodeBatch({
      baseOffset: isHuge(id) ? 0 : Number(header.baseOffset),
      leaderEpoch: header.partitionLeaderEpoch,
      lastOffset: (isHuge(id) ? 0 : Number(header.baseOffset)) + header.lastOffsetDelta,
      records,
      maxTimestamp: Number(header.maxTimestamp),
      ...(header.timestampType === 'LogAppendTime' && {
        logAppendTime: Number(header.maxTimestamp),
      }),
      ...(header.deleteHorizonMs !== undefined && {
        deleteHorizonMs: Number(header.deleteHorizonMs),
      }),
      producerId: BigInt(header.producerId),
      producerEpoch: header.producerEpoch,
      baseSequence: header.baseSequence,
      isTransactional: header.isTransactional,
      isControl: header.isControlBatch,
    });
    expect(written.toString('hex')).toBe(bytes.toString('hex'));
  });

  it.each(batches.filter(({ id }) => isHuge(id)))('$id, $what: is refused', ({ id }) => {
    const bytes = bytesOf(id);
    expect(() => readBatchHeader(bytes, 0, bytes.length)).toThrow(
      expect.objectContaining({
        code: 'CORRUPT_MESSAGE',
        message: expect.stringContaining('2^53') as string,
      }) as Error,
    );
  });
});

interface Walk {
  readonly batches: number;
  readonly end: 'all' | 'incomplete' | 'corrupt';
}

const viewOf = (bytes: Buffer): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Reads batch after batch, as a log would after a crash. */
function walk(bytes: Buffer, view: DataView | null = null): Walk {
  let position = 0;
  let count = 0;
  while (position < bytes.length) {
    try {
      const header = readBatchHeader(bytes, position, bytes.length, view);
      if (header === null) return { batches: count, end: 'incomplete' };
      checkBatch(view ?? bytes, position, header);
      readRecords(bytes, position);
      position += header.size;
      count++;
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error;
      return { batches: count, end: 'corrupt' };
    }
  }
  return { batches: count, end: count === 0 ? 'incomplete' : 'all' };
}

const verdicts: Readonly<Record<(typeof corrupted)[number]['expect'], readonly Walk[]>> = {
  accepted: [{ batches: 1, end: 'all' }],
  incomplete: [{ batches: 0, end: 'incomplete' }],
  corrupt: [{ batches: 0, end: 'corrupt' }],
  'accepted-then-stop': [
    { batches: 1, end: 'incomplete' },
    { batches: 1, end: 'corrupt' },
  ],
  'incomplete-or-corrupt': [
    { batches: 0, end: 'incomplete' },
    { batches: 0, end: 'corrupt' },
  ],
};

describe('a header that is read from a view', () => {
  it.each(batches.filter(({ id }) => !isHuge(id)))('is that of the bytes: $id', ({ id }) => {
    const bytes = Buffer.concat([Buffer.alloc(3), bytesOf(id)]);
    const [one, other] = [null, viewOf(bytes)].map((view) =>
      readBatchHeader(bytes, 3, bytes.length, view)!,
    );
    expect(other).toEqual(one);
    expect(other!.producerId).toBe(one!.producerId);
    expect(() => checkBatch(viewOf(bytes), 3, other!)).not.toThrow();
  });
});

describe('f27 damage', () => {
  it.each(corrupted)('$id of $from, $what: $expect', ({ id, expect: verdict }) => {
    const bytes = bytesOf(id);
    expect(verdicts[verdict]).toContainEqual(walk(bytes));
    expect(walk(bytes, viewOf(bytes))).toEqual(walk(bytes));
  });

  it.each([1, 11, 12, 16, 17, 61, 5000])('%i zeros behind a batch end the valid data', (count) => {
    const { batches: found, end } = walk(Buffer.concat([bytesOf('b005'), Buffer.alloc(count)]));
    expect(found).toBe(1);
    expect(end).toBe(count < 12 ? 'incomplete' : 'corrupt');
  });

  it('says both checksums', () => {
    const bytes = bytesOf('b005');
    bytes[80]! ^= 1;
    const header = readBatchHeader(bytes, 0, bytes.length)!;
    expect(() => checkBatch(bytes, 0, header)).toThrow(/stored crc 3002660530, computed crc \d+$/);
  });

  it.each([
    ['a negative length', 8, 'ffffffff'],
    ['a length below the header’s', 8, '00000030'],
    ['magic 1', 16, '01'],
    ['a negative base offset', 0, '8000000000000000'],
    ['a base offset whose last is 2^53', 0, '001ffffffffffffd'],
    ['a negative last offset delta', 23, 'ffffffff'],
    ['a negative count', 57, 'ffffffff'],
    ['more records than offsets', 57, '00000004'],
    ['a base timestamp beyond 2^53', 27, '0020000000000000'],
    ['a max timestamp below -2^53', 35, 'ffe0000000000000'],
  ])('is refused with a valid checksum: %s', (_, at, hex) => {
    const bytes = bytesOf('b005');
    bytes.write(hex, at, 'hex');
    withCrc(bytes);
    expect(() => readBatchHeader(bytes, 0, bytes.length)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }) as Error,
    );
  });

  it('of any one byte is never taken for other records', () => {
    const original = bytesOf('b010');
    fc.assert(
      fc.property(fc.nat(original.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const bytes = Buffer.from(original);
        bytes[at]! ^= change;
        const { batches: found } = walk(bytes);
        // Only base offset and leader epoch lie outside of what is checked.
        const isOutside = at < 8 || (at >= 12 && at < 16);
        if (found > 0) stampBatch(bytes, 0, 0, 0);
        const isSame = bytes.equals(original);
        expect({ found, isOutside: isOutside && isSame }).toEqual({
          found: at >= 12 && at < 16 ? 1 : found,
          isOutside: found === 1,
        });
      }),
    );
  });

  it('by truncation anywhere is an incomplete batch', () => {
    const original = bytesOf('b010');
    for (let length = 0; length < original.length; length++) {
      expect(walk(original.subarray(0, length))).toEqual({ batches: 0, end: 'incomplete' });
    }
  });

  it('of any kind behind a valid checksum fails as an OttlaError or is read whole', () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(fc.constantFrom('b005', 'b009', 'b010', 'b013'), damage, (id, changes) => {
        const bytes = bytesOf(id);
        for (const [where, byte] of changes) bytes[61 + (where % (bytes.length - 61))] = byte;
        const { batches: found, end } = walk(withCrc(bytes));
        expect([found, end]).toEqual(end === 'all' ? [1, 'all'] : [0, 'corrupt']);
      }),
      { numRuns: seeds(2000) },
    );
  });

  it('of every kind: garbage is read to an end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (garbage, framed) => {
        const bytes = Buffer.from(garbage);
        if (framed && bytes.length >= 61) {
          bytes.writeInt32BE(bytes.length - 12, 8);
          bytes[16] = 2;
          withCrc(bytes);
        }
        expect(walk(bytes).batches).toBeLessThanOrEqual(1);
      }),
      { numRuns: seeds(1000) },
    );
  });
});

describe('a batch’s size', () => {
  it('cannot be told from fewer than 12 bytes, and can from 12', () => {
    const bytes = Buffer.concat([Buffer.alloc(3), bytesOf('b005')]);
    expect(batchSizeAt(bytes, 3, 14)).toBe(-1);
    expect(batchSizeAt(bytes, 3, 15)).toBe(90);
    expect(readBatchHeader(bytes, 3, 92)).toBeNull();
    expect(readBatchHeader(bytes, 3, 93)).toMatchObject({ size: 90, recordCount: 3 });
  });
});

describe('the log’s stamp', () => {
  it('leaves the checksum valid', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(2 ** 31 - 1), (baseOffset, leaderEpoch) => {
        const bytes = bytesOf('b005');
        stampBatch(bytes, 0, baseOffset, leaderEpoch);
        expect(bytes.readBigInt64BE(0)).toBe(BigInt(baseOffset));
        const header = new BatchHeader(bytes, 0);
        expect([header.baseOffset, header.leaderEpoch]).toEqual([baseOffset, leaderEpoch]);
        checkBatch(bytes, 0, header);
      }),
    );
  });

  it('makes the time of the append that of every record', () => {
    const before = bytesOf('b005');
    const bytes = Buffer.concat([Buffer.from([7]), before]);
    stampLogAppendTime(bytes, 1, 1_800_000_000_000);
    const header = readBatchHeader(bytes, 1, bytes.length)!;
    checkBatch(bytes, 1, header);
    expect(header).toMatchObject({ maxTimestamp: 1_800_000_000_000, isLogAppendTime: true });
    expect(readRecords(bytes, 1).map(({ timestamp }) => timestamp)).toEqual(
      Array(3).fill(1_800_000_000_000),
    );
  });
});
