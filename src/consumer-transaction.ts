import type { Commits, Progress } from './consumer-commits.js';
import type { Iteration } from './consumer-iteration.js';
import { checkOffset, checkPlaces, type OffsetToCommit } from './consumer-options.js';
import type { Owned } from './consumer-owned.js';
import type { ConsumerRecord, TransactionSource } from './consumer-record.js';
import type { Engine, Fetched, Reader } from './engine.js';
import { OttlaError } from './errors.js';
import { got } from './options.js';
import type { TopicRef } from './serde.js';

/** What is committed of a partition. */
interface ProgressOffset {
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

export interface ConsumerTransactionsOptions {
  readonly engine: Engine;
  /** Whether it has a group to commit for. */
  readonly hasGroup: boolean;
  readonly reader: Reader<unknown>;
  readonly commits: Commits;
  readonly iteration: Iteration<TopicRef>;
  readonly owned: Owned;
  readonly isClosing: () => boolean;
}

/** What transactions commit of one consumer: offsets of the caller's choosing, or its batches. */
export class ConsumerTransactions {
  readonly #with: ConsumerTransactionsOptions;

  constructor(options: ConsumerTransactionsOptions) {
    this.#with = options;
  }

  /** @throws TypeError, RangeError, ILLEGAL_GENERATION */
  takeOffsets(
    engine: Engine,
    offsets: readonly OffsetToCommit[],
  ): Omit<TransactionSource, 'aborted'> {
    this.#refuseOther('sendOffsets', engine);
    const { owned, reader } = this.#with;
    const list = checkOffsetsOf(owned, 'sendOffsets', offsets);
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
   * A batch belongs to the transaction from now on: nothing else commits its partition meanwhile.
   * @param base its first offset
   * @throws CONCURRENT_TRANSACTIONS; INVALID_TXN_STATE for one that is processed already; ILLEGAL_GENERATION
   */
  takeBatch(engine: Engine, fetched: Fetched<ConsumerRecord>, base: number): TransactionSource {
    this.#refuseOther('transaction', engine);
    const { owned, reader, iteration } = this.#with;
    const progress = owned.requireSince(fetched, fetched.ownership);
    refuseTaken(progress, base);
    const { topic, partition, ownership } = progress;
    const { nextOffset } = fetched;
    progress.isInTransaction = true;
    if (!progress.isLeaving) reader.hold(progress);
    return {
      reader,
      positions: [{ topic, partition, offset: nextOffset, ownership }],
      committed: () => {
        progress.processed = nextOffset;
        progress.committed = nextOffset;
        iteration.settle(progress, fetched, true);
        this.#goOn(progress, nextOffset);
      },
      aborted: () => {
        iteration.settle(progress, fetched, false);
        this.#goOn(progress, base);
      },
    };
  }

  #refuseOther(where: string, engine: Engine): void {
    if (engine !== this.#with.engine) {
      throw new TypeError(`${where}: the consumer is of another Ottla than the producer`);
    }
    if (!this.#with.hasGroup) throw new TypeError(`${where}: this consumer has no group`);
  }

  /** Behind a transaction, unless a seek() meanwhile chose another place. */
  #goOn(progress: Progress, offset: number): void {
    const { commits, owned, reader, isClosing } = this.#with;
    const isSought = commits.leaveTransaction(progress);
    const isOwned = owned.at(progress) === progress;
    if (!isOwned || progress.isLeaving || isClosing()) return;
    reader.release(progress, isSought ? null : offset);
  }
}

/** @throws CONCURRENT_TRANSACTIONS, INVALID_TXN_STATE */
function refuseTaken(
  { topic, partition, processed, isInTransaction }: Progress,
  base: number,
): void {
  if (isInTransaction) {
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
}
