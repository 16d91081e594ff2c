import { OttlaError } from './errors.js';
import {
  BatchHeader,
  batchSizeAt,
  checkBatch,
  stampBatch,
  stampCreateTime,
  stampLogAppendTime,
} from './record.js';
import { RecordReader } from './record-reader.js';

/** Some records of a batch were refused, and with them all. */
export class RecordsRefused extends OttlaError {
  /** Which, counted from 0, and why. */
  readonly records: readonly { readonly index: number; readonly reason: string }[];

  /** @internal */
  constructor(message: string, records: RecordsRefused['records']) {
    super('INVALID_RECORD', message);
    this.records = records;
  }
}

/** What a log says of the place where a client's batch would go. */
export interface AdmissionTerms {
  readonly baseOffset: number;
  readonly leaderEpoch: number;
  /** Whether the topic is compacted: then a record needs a key, be it an empty one. */
  readonly compacted: boolean;
  /** The time now, where the topic's timestamps are the log's. */
  readonly logAppendTime?: number;
}

/**
 * Takes over what a client sent to be appended, by the rules of Kafka's LogValidator: exactly one batch,
 * whole and valid, whose offsets count its records one by one. Sets its base offset, leader epoch and
 * timestamp type; a max timestamp that is not its records' is set right.
 * @returns the batch's header as it then is
 * @throws CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP or UNSUPPORTED_COMPRESSION_TYPE, having
 *   changed nothing
 */
export function admitBatch(bytes: Buffer, terms: AdmissionTerms): BatchHeader {
  const header = soleBatch(bytes);
  checkHeader(header, terms);
  const maxTimestamp = checkRecords(bytes, header, terms.compacted);
  stampBatch(bytes, 0, terms.baseOffset, terms.leaderEpoch);
  if (terms.logAppendTime !== undefined) {
    stampLogAppendTime(bytes, 0, terms.logAppendTime);
  } else if (header.isLogAppendTime || maxTimestamp !== header.maxTimestamp) {
    stampCreateTime(bytes, 0, maxTimestamp);
  }
  return new BatchHeader(bytes, 0);
}

function soleBatch(bytes: Buffer): BatchHeader {
  const size = batchSizeAt(bytes, 0, bytes.length);
  if (size === -1 || size > bytes.length) {
    throw invalid(`${bytes.length} bytes hold no whole batch, expected exactly one`);
  }
  if (size < bytes.length) {
    throw invalid(`${bytes.length - size} bytes behind a batch, expected exactly one batch`);
  }
  const header = new BatchHeader(bytes, 0);
  checkBatch(bytes, 0, header);
  return header;
}

function checkHeader(header: BatchHeader, terms: AdmissionTerms): void {
  const { lastOffsetDelta, recordCount } = header;
  if (lastOffsetDelta < 0 || recordCount <= 0 || recordCount !== lastOffsetDelta + 1) {
    throw invalid(`${recordCount} records with a last offset delta of ${lastOffsetDelta}`);
  }
  if (header.isControl) throw invalid('a control batch, which no client may write');
  if (header.hasProducerId && header.baseSequence < 0) {
    throw invalid(`sequence ${header.baseSequence} of producer ${header.producerId}`);
  }
  if (!Number.isSafeInteger(header.baseTimestamp) || !Number.isSafeInteger(header.maxTimestamp)) {
    throw new OttlaError('INVALID_TIMESTAMP', 'a timestamp passes 2^53');
  }
  const keepsClientTime = terms.logAppendTime === undefined && header.maxTimestamp !== -1;
  if (header.isLogAppendTime && !keepsClientTime) {
    throw new OttlaError('INVALID_TIMESTAMP', 'log append time, which no client may set');
  }
}

/** @returns the largest timestamp */
function checkRecords(bytes: Buffer, header: BatchHeader, compacted: boolean): number {
  const reader = new RecordReader();
  reader.open(bytes, 0, header);
  let maxTimestamp = -1;
  const keyless: number[] = [];
  // The reader lets offsets only grow up to the last one: as many as there are records, they have no gap.
  for (let index = 0; reader.next(); index++) {
    if (compacted && reader.keyStart < 0) keyless.push(index);
    if (reader.timestamp > maxTimestamp) maxTimestamp = reader.timestamp;
  }
  if (keyless.length === 0) return maxTimestamp;
  const reason = 'a record without a key, which a compacted topic cannot take';
  throw new RecordsRefused(
    keyless.length === 1 ? reason : `${keyless.length} records, the first: ${reason}`,
    keyless.map((index) => ({ index, reason })),
  );
}

function invalid(what: string): OttlaError {
  return new OttlaError('INVALID_RECORD', what);
}
