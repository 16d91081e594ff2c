import { encodeBatch } from '../src/record-writer.js';

/** Who wrote a batch. */
export interface Numbering {
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly isTransactional?: boolean;
  readonly timestamp?: number;
}

/** A whole batch of records with these values, as a producer that numbers them would hand it over. */
export function numberedBatch(values: readonly string[], numbering: Numbering): Buffer {
  const { timestamp = 1000, ...origin } = numbering;
  return encodeBatch({
    ...origin,
    baseOffset: 0,
    leaderEpoch: -1,
    records: values.map((value, i) => ({ offset: i, timestamp, key: null, value })),
  });
}
