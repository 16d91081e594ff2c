import { OttlaError } from '../errors.js';

// The small text files of a partition's directory and the names of its files, as Kafka writes them.

/** A leader epoch, and the first offset that was written in it. */
export type LeaderEpoch = readonly [epoch: number, startOffset: number];

/**
 * The file leader-epoch-checkpoint: version 0, the number of entries, then one "epoch startOffset" per
 * line, oldest first (Kafka's LeaderEpochCheckpointFile).
 */
export function encodeLeaderEpochs(epochs: readonly LeaderEpoch[]): Buffer {
  const lines = epochs.map(([epoch, startOffset]) => `${epoch} ${startOffset}\n`);
  return Buffer.from(`0\n${epochs.length}\n${lines.join('')}`);
}

/**
 * Reads leader-epoch-checkpoint; null for anything that Kafka would not have written. An empty file has
 * no entries, as in Kafka: a crash left it so.
 */
export function decodeLeaderEpochs(text: string): LeaderEpoch[] | null {
  if (text === '') return [];
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  const [version, count = '', ...entries] = lines;
  if (version !== '0' || wholeNumber(count) !== entries.length) return null;
  const epochs: LeaderEpoch[] = [];
  let last: LeaderEpoch = [-1, 0];
  for (const line of entries) {
    const numbers = line.split(' ').map(wholeNumber);
    const [epoch = Number.NaN, startOffset = Number.NaN] = numbers;
    if (numbers.length !== 2 || !(epoch > last[0] && startOffset >= last[1])) return null;
    last = [epoch, startOffset];
    epochs.push(last);
  }
  return epochs;
}

/** The file that says whose directory it lies in (Kafka's PartitionMetadata). */
export const partitionMetadataFile: string = 'partition.metadata';

/** Its bytes. */
export function encodePartitionMetadata(topicId: string): Buffer {
  return Buffer.from(`version: 0\ntopic_id: ${topicId}`);
}

/** The topic id in partition.metadata; null for anything that Kafka would not have written. */
export function decodePartitionMetadata(text: string): string | null {
  const id = /^version: 0\r?\ntopic_id: (.{22})(?:\r?\n)?$/.exec(text)?.[1];
  // 22 characters of base64 have four bits that mean nothing: written back it must be the same.
  if (id === undefined || Buffer.from(id, 'base64url').toString('base64url') !== id) return null;
  return id;
}

/**
 * A new topic id: a random UUID (version 4) as 22 characters of base64url. As Kafka's Uuid.randomUuid it
 * never begins with '-', which command lines would take for an option.
 * @param random a number from 0 to below 1
 */
export function newTopicId(random: () => number): string {
  for (;;) {
    const bytes = Buffer.from(Array.from({ length: 16 }, () => random() * 256));
    bytes[6] = (bytes.readUInt8(6) & 0x0f) | 0x40;
    bytes[8] = (bytes.readUInt8(8) & 0x3f) | 0x80;
    const id = bytes.toString('base64url');
    if (!id.startsWith('-')) return id;
  }
}

/** The name of a segment's file: its base offset in 20 digits, then the suffix ('log', 'index', …). */
export function segmentFileName(baseOffset: number, suffix: string): string {
  if (!Number.isSafeInteger(baseOffset) || baseOffset < 0) {
    throw new RangeError(`a base offset must be an integer from 0 to 2^53 - 1, got ${baseOffset}`);
  }
  return `${String(baseOffset).padStart(20, '0')}.${suffix}`;
}

/**
 * The base offset in a name that segmentFileName() made with this suffix; null for any other name.
 * @throws CORRUPT_MESSAGE for an offset of 2^53 or more, which Kafka can write and Ottla cannot count
 */
export function parseSegmentFileName(name: string, suffix: string): number | null {
  if (name.length !== 21 + suffix.length || !name.endsWith(`.${suffix}`)) return null;
  const digits = name.slice(0, 20);
  if (!/^\d{20}$/.test(digits)) return null;
  const baseOffset = Number(digits);
  if (Number.isSafeInteger(baseOffset)) return baseOffset;
  throw new OttlaError(
    'CORRUPT_MESSAGE',
    `${name}: its base offset is 2^53 or more, which Ottla does not support`,
  );
}

/** A number as Kafka writes it: digits, no sign, no leading zero, below 2^53. NaN for anything else. */
function wholeNumber(text: string): number {
  const value = /^(?:0|[1-9]\d*)$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
