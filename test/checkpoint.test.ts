import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeLeaderEpochs,
  decodePartitionMetadata,
  encodeLeaderEpochs,
  encodePartitionMetadata,
  newTopicId,
  parseSegmentFileName,
  segmentFileName,
} from '../src/storage/checkpoint.js';

const vectors = JSON.parse(
  readFileSync(new URL('vectors/files.json', import.meta.url), 'utf8'),
) as {
  leaderEpochCheckpoint: {
    text: string;
    entries_epoch_startOffset: [epoch: number, startOffset: string][];
    emptyText: string;
    malformed: { text: string; result: string }[];
  };
  partitionMetadata: { uuidHex: string; text: string };
  naming: [offset: string, name: string][];
};

describe('leader-epoch-checkpoint', () => {
  const { text, entries_epoch_startOffset, emptyText, malformed } = vectors.leaderEpochCheckpoint;
  const epochs = entries_epoch_startOffset.map(
    ([epoch, startOffset]) => [epoch, Number(startOffset)] as const,
  );

  it('is written as Kafka writes it', () => {
    expect(encodeLeaderEpochs(epochs).toString()).toBe(text);
    expect(encodeLeaderEpochs([]).toString()).toBe(emptyText);
  });

  it('is read as Kafka reads it', () => {
    expect(decodeLeaderEpochs(text)).toEqual(epochs);
    expect(decodeLeaderEpochs(emptyText)).toEqual([]);
  });

  it('is read with the line ends that Kafka writes on Windows', () => {
    expect(decodeLeaderEpochs(text.replaceAll('\n', '\r\n'))).toEqual(epochs);
  });

  it.each(malformed)('$text: $result', ({ text: bad, result }) => {
    expect(decodeLeaderEpochs(bad)).toEqual(result === 'read 0 entries' ? [] : null);
  });

  it.each([
    ['an epoch that stands still', '0\n2\n1 0\n1 5\n'],
    ['an epoch that falls', '0\n2\n2 0\n1 5\n'],
    ['an offset that falls', '0\n2\n1 5\n2 4\n'],
    ['a negative epoch', '0\n1\n-1 0\n'],
    ['an offset of 2^53', '0\n1\n0 9007199254740992\n'],
    ['an empty line between', '0\n1\n\n0 0\n'],
    ['no number of entries', '0\n'],
  ])('%s is refused', (_what, bad) => {
    expect(decodeLeaderEpochs(bad)).toBeNull();
  });

  it('cut anywhere is never read as something else', () => {
    const whole = encodeLeaderEpochs(epochs).toString();
    for (let length = 1; length < whole.length - 1; length++) {
      // Kafka's format cannot tell a last number that lost digits: the entries before it are right.
      const read = decodeLeaderEpochs(whole.slice(0, length)) ?? epochs;
      expect(read.slice(0, -1)).toEqual(epochs.slice(0, -1));
    }
  });
});

describe('partition.metadata', () => {
  const { uuidHex, text } = vectors.partitionMetadata;
  const id = Buffer.from(uuidHex, 'hex').toString('base64url');

  it('is written as Kafka writes it', () => {
    expect(encodePartitionMetadata(id).toString()).toBe(text);
  });

  it('is read as Kafka reads it', () => {
    expect(decodePartitionMetadata(text)).toBe(id);
    expect(decodePartitionMetadata(`${text}\n`)).toBe(id);
    expect(decodePartitionMetadata(text.replaceAll('\n', '\r\n'))).toBe(id);
  });

  it.each([
    ['nothing', ''],
    ['another version', text.replace('0', '1')],
    ['no id', 'version: 0\n'],
    ['an id that is short', text.slice(0, -1)],
    ['an id that is long', `${text}A`],
    ['a character that is not base64url', text.replace(/.$/, '+')],
    ['bits that mean nothing', text.replace(/.$/, 'B')],
    ['a line more', `${text}\nmore`],
    ['zeros', '\0'.repeat(text.length)],
  ])('%s is refused', (_what, bad) => {
    expect(decodePartitionMetadata(bad)).toBeNull();
  });
});

describe('a new topic id', () => {
  it('is a random UUID in 22 characters', () => {
    fc.assert(
      fc.property(
        fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
        (stream) => {
          const id = newTopicId(() => stream.next().value as number);
          const bytes = Buffer.from(id, 'base64url');
          expect(bytes).toHaveLength(16);
          expect([bytes.readUInt8(6) >> 4, bytes.readUInt8(8) >> 6]).toEqual([4, 2]);
          expect(decodePartitionMetadata(encodePartitionMetadata(id).toString())).toBe(id);
        },
      ),
    );
  });

  it('uses every byte it is given', () => {
    let calls = 0;
    const id = newTopicId(() => (16 * ++calls - 16) / 256);
    expect(Buffer.from(id, 'base64url').toString('hex')).toBe('00102030405040708090a0b0c0d0e0f0');
  });

  it('never begins with "-"', () => {
    let calls = 0;
    // The first 16 numbers would make an id of "-A…".
    const id = newTopicId(() => (calls++ < 16 ? 0xf8 / 256 : 0));
    expect(calls).toBe(32);
    expect(id).toBe('AAAAAAAAQACAAAAAAAAAAA');
  });
});

describe('names of segment files', () => {
  const countable = vectors.naming.filter(([offset]) => Number.isSafeInteger(Number(offset)));
  const larger = vectors.naming.filter(([offset]) => !Number.isSafeInteger(Number(offset)));

  it.each(countable)('of offset %s', (offset, name) => {
    expect(segmentFileName(Number(offset), 'log')).toBe(`${name}.log`);
    expect(parseSegmentFileName(`${name}.log`, 'log')).toBe(Number(offset));
  });

  it.each(larger)('of offset %s are refused: it is beyond 2^53', (offset, name) => {
    expect(() => segmentFileName(Number(offset), 'log')).toThrow(RangeError);
    expect(() => parseSegmentFileName(`${name}.log`, 'log')).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 53])('do not exist for %s', (offset) => {
    expect(() => segmentFileName(offset, 'log')).toThrow(RangeError);
  });

  it.each([
    ['another suffix', '00000000000000000000.index'],
    ['a suffix more', '00000000000000000000.log.deleted'],
    ['19 digits', '0000000000000000000.log'],
    ['21 digits', '000000000000000000000.log'],
    ['a sign', '-0000000000000000001.log'],
    ['a space', ' 0000000000000000001.log'],
    ['an exponent', '000000000000000001e5.log'],
    ['digits that are not ASCII', '٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠.log'],
    ['another separator', '00000000000000000000xlog'],
    ['a line end', '00000000000000000000.log\n'],
    ['no suffix', '00000000000000000000'],
  ])('%s is no segment’s log', (_what, name) => {
    expect(parseSegmentFileName(name, 'log')).toBeNull();
  });
});
