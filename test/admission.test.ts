import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admitBatch, type AdmissionTerms } from '../src/admission.js';
import { OttlaError, type ErrorCode } from '../src/errors.js';
import { BatchHeader, checkBatch } from '../src/record.js';
import { RecordReader } from '../src/record-reader.js';
import { encodeBatch, type PlacedBatch } from '../src/record-writer.js';
import { admissions, bytesOf, withCrc } from './batch-vectors.js';

/** The partition that the vectors were sent to. */
const terms: AdmissionTerms = { baseOffset: 5000, leaderEpoch: 9, compacted: false };

/** The code of the refusal; or what else became of it. */
function refusalOf(bytes: Buffer, at: AdmissionTerms = terms): ErrorCode | 'admitted' | 'changed' {
  const before = Buffer.from(bytes);
  try {
    admitBatch(bytes, at);
    return 'admitted';
  } catch (error) {
    if (!(error instanceof OttlaError)) throw error;
    return bytes.equals(before) ? error.code : 'changed';
  }
}

const codes: Readonly<Record<string, ErrorCode>> = {
  InvalidRecordException: 'INVALID_RECORD',
  CorruptRecordException: 'CORRUPT_MESSAGE',
};

const nameOf = ({ vector, what, compactedTopic }: (typeof admissions)[number]): string =>
  `${vector}, ${what}${compactedTopic ? ', on a compacted topic' : ''}`;

describe('Kafka admits', () => {
  const accepted = admissions.filter(({ result }) => result === 'accepted');

  it.each(accepted.map((vector) => [nameOf(vector), vector] as const))('%s', (_, vector) => {
    const bytes = bytesOf(vector.vector);
    const header = admitBatch(bytes, { ...terms, compacted: vector.compactedTopic });
    expect(header).toMatchObject({
      baseOffset: vector.baseOffset,
      leaderEpoch: vector.leaderEpoch,
      size: vector.sizeAfter,
      isLogAppendTime: false,
    });
    expect(header.lastOffset).toBe(vector.lastOffset);
    expect(header.nextOffset).toBe(vector.nextOffset);
    expect(new BatchHeader(bytes, 0)).toEqual(header);
    checkBatch(bytes, 0, header);
  });
});

describe('Kafka refuses', () => {
  const refused = admissions.filter(({ result }) => result !== 'accepted');

  it.each(refused.map((vector) => [nameOf(vector), vector] as const))('%s', (_, vector) => {
    const special = { ...terms, compacted: vector.compactedTopic };
    // Without a whole batch Kafka's validator is not even asked.
    const code = codes[vector.error ?? 'InvalidRecordException'];
    expect(refusalOf(bytesOf(vector.vector), special)).toBe(code);
  });
});

const batch: PlacedBatch = {
  baseOffset: 0,
  leaderEpoch: -1,
  records: [
    { offset: 0, timestamp: 1000, key: 'a', value: '1' },
    { offset: 1, timestamp: 3000, key: 'b', value: null },
    { offset: 2, timestamp: 2000, key: 'c', value: '3' },
  ],
};

function timestampsOf(bytes: Buffer): number[] {
  const reader = new RecordReader();
  reader.open(bytes, 0, new BatchHeader(bytes, 0));
  const timestamps: number[] = [];
  while (reader.next()) timestamps.push(reader.timestamp);
  return timestamps;
}

describe('an admitted batch', () => {
  it('has the largest timestamp of its records as its own, whatever the client wrote there', () => {
    const bytes = encodeBatch({ ...batch, maxTimestamp: 9_000_000 });
    expect(admitBatch(bytes, terms).maxTimestamp).toBe(3000);
    checkBatch(bytes, 0, new BatchHeader(bytes, 0));
    expect(timestampsOf(bytes)).toEqual([1000, 3000, 2000]);
  });

  it('has the log’s time where the topic wants that', () => {
    const bytes = encodeBatch(batch);
    const header = admitBatch(bytes, { ...terms, logAppendTime: 77_000 });
    expect([header.isLogAppendTime, header.maxTimestamp]).toEqual([true, 77_000]);
    checkBatch(bytes, 0, header);
    expect(timestampsOf(bytes)).toEqual([77_000, 77_000, 77_000]);
  });

  it('keeps the client’s time where a client says that it is the log’s', () => {
    const bytes = encodeBatch({ ...batch, logAppendTime: 5000 });
    expect(admitBatch(bytes, terms).isLogAppendTime).toBe(false);
    checkBatch(bytes, 0, new BatchHeader(bytes, 0));
    expect(timestampsOf(bytes)).toEqual([1000, 3000, 2000]);
  });

  it('keeps its producer’s id, epoch and sequence', () => {
    const origin = { producerId: 2n ** 60n + 1n, producerEpoch: 3, baseSequence: 7 };
    const header = admitBatch(encodeBatch({ ...batch, ...origin, isTransactional: true }), terms);
    expect(header).toMatchObject({ producerEpoch: 3, baseSequence: 7, isTransactional: true });
    expect(header.producerId).toBe(origin.producerId);
  });
});

describe('refused, with nothing changed:', () => {
  const [first, second, third] = batch.records as [
    PlacedBatch['records'][0],
    PlacedBatch['records'][0],
    PlacedBatch['records'][0],
  ];
  const cases: [what: string, bytes: Buffer, terms: Partial<AdmissionTerms>, code: ErrorCode][] = [
    ['nothing', Buffer.alloc(0), {}, 'INVALID_RECORD'],
    ['zeros', Buffer.alloc(100), {}, 'CORRUPT_MESSAGE'],
    ['two batches', Buffer.concat([encodeBatch(batch), encodeBatch(batch)]), {}, 'INVALID_RECORD'],
    [
      'bytes behind the batch',
      Buffer.concat([encodeBatch(batch), Buffer.from([0])]),
      {},
      'INVALID_RECORD',
    ],
    [
      'a gap before the last record',
      encodeBatch({ ...batch, records: [first, second, { ...third, offset: 3 }] }),
      {},
      'INVALID_RECORD',
    ],
    [
      'an offset range longer than the records',
      encodeBatch({ ...batch, lastOffset: 3 }),
      {},
      'INVALID_RECORD',
    ],
    ['no records', encodeBatch({ ...batch, records: [], lastOffset: 0 }), {}, 'INVALID_RECORD'],
    ['a control batch', encodeBatch({ ...batch, isControl: true }), {}, 'INVALID_RECORD'],
    [
      'a producer without a sequence',
      encodeBatch({ ...batch, producerId: 5n, producerEpoch: 0 }),
      {},
      'INVALID_RECORD',
    ],
    [
      'a null key on a compacted topic',
      encodeBatch({ ...batch, records: [first, { ...second, key: null }, third] }),
      { compacted: true },
      'INVALID_RECORD',
    ],
    [
      'the log’s time from a client, on a topic with the log’s time',
      encodeBatch({ ...batch, logAppendTime: 5000 }),
      { logAppendTime: 6000 },
      'INVALID_TIMESTAMP',
    ],
    [
      'the log’s time from a client, but none given',
      encodeBatch({ ...batch, logAppendTime: -1 }),
      {},
      'INVALID_TIMESTAMP',
    ],
  ];

  it.each(cases)('%s', (_, bytes, special, code) => {
    expect(refusalOf(bytes, { ...terms, ...special })).toBe(code);
  });

  it('a timestamp beyond 2^53', () => {
    const bytes = encodeBatch(batch);
    bytes.writeBigInt64BE(2n ** 53n, 35);
    expect(refusalOf(withCrc(bytes))).toBe('INVALID_TIMESTAMP');
  });

  it('bytes of which any one was changed behind the leader epoch', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (where, change) => {
        const bytes = encodeBatch(batch);
        const at = 16 + (where % (bytes.length - 16));
        bytes[at] = bytes[at]! ^ change;
        expect(['CORRUPT_MESSAGE', 'INVALID_RECORD']).toContain(refusalOf(bytes));
      }),
    );
  });
});
