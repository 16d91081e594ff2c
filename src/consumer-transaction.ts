import type { Progress } from './consumer-commits.js';
import { checkOffset, checkPlaces, type OffsetToCommit } from './consumer-options.js';
import type { Owned } from './consumer-owned.js';
import type { TransactionSource } from './consumer-record.js';
import type { Reader } from './engine.js';
import { OttlaError } from './errors.js';
import { got } from './options.js';

/** What is committed of a partition. */
export interface ProgressOffset {
  readonly progress: Progress;
  readonly offset: number;
  readonly metadata?: string;
}

/** @throws TypeError, RangeError, ILLEGAL_GENERATION */
export function checkOffsetsOf(
  owned: Owned,
  where: string,
  offsets: readonly OffsetToCommit[],
): ProgressOffset[] {
  checkPlaces(where, offsets);
  return offsets.map(({ topic, partition, offset, metadata }) => {
    checkOffset(where, offset);
    if (metadata !== undefined && typeof metadata !== 'string') {
      throw new TypeError(`${where}: expected metadata to be a string, got ${got(metadata)}`);
    }
    const progress = owned.require({ topic, partition });
    return metadata === undefined ? { progress, offset } : { progress, offset, metadata };
  });
}

/** Offsets of the caller's choosing, committed by a transaction. */
export function offsetsSource(
  reader: Reader<unknown>,
  list: readonly ProgressOffset[],
): Omit<TransactionSource, 'aborted'> {
  return {
    reader,
    positions: list.map(({ progress: { topic, partition, ownership }, ...rest }) => ({
      topic,
      partition,
      ownership,
      ...rest,
    })),
    committed: () => {
      for (const { progress, offset } of list) {
        progress.committed = offset;
        progress.processed = Math.max(progress.processed, offset);
      }
    },
  };
}

/**
 * A batch that belongs to a transaction from now on: nothing else commits its partition meanwhile.
 * @param base its first offset
 * @param settle tells that its records are processed, or that they are to come again
 * @throws CONCURRENT_TRANSACTIONS; INVALID_TXN_STATE for one that is processed already
 */
export function batchSource(
  reader: Reader<unknown>,
  progress: Progress,
  base: number,
  nextOffset: number,
  settle: (isCommitted: boolean) => void,
): TransactionSource {
  const { topic, partition, ownership, processed } = progress;
  if (progress.isInTransaction) {
    throw new OttlaError(
      'CONCURRENT_TRANSACTIONS',
      `a batch of ${topic}-${partition} belongs to another transaction that is open`,
    );
  }
  if (base < processed) {
    throw new OttlaError(
      'INVALID_TXN_STATE',
      `a batch of ${topic}-${partition} from offset ${base} on is processed already, up to ${processed}: by a commit, or since the next batch was asked for`,
    );
  }
  progress.isInTransaction = true;
  return {
    reader,
    positions: [{ topic, partition, offset: nextOffset, ownership }],
    committed: () => {
      progress.processed = nextOffset;
      progress.committed = nextOffset;
      settle(true);
    },
    aborted: () => settle(false),
  };
}
