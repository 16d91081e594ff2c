import type { Clock } from './clock.js';
import { asStorageError } from './errors.js';
import type { Partition } from './partition.js';
import { put, type Change, type MetaStore, type TransactionRow } from './storage/meta-store.js';
import { newHolder, type Holder } from './transaction-holder.js';

/** How long what was decided may wait for the next transaction to make its markers durable. */
const forgetMs = 1000;

export interface TransactionRowsOptions {
  readonly clock: Clock;
  readonly store: MetaStore;
  /** undefined: it was deleted. */
  readonly partition: (topicId: string, partition: number) => Partition | undefined;
}

/** How a transaction is decided by a row. */
type End = Pick<TransactionRow, 'ended' | 'decision'>;

interface Place {
  readonly topicId: string;
  readonly partition: number;
}

/** What of transactional ids outlives the process: a row of each. */
export class TransactionRows {
  readonly #options: TransactionRowsOptions;

  constructor(options: TransactionRowsOptions) {
    this.#options = options;
  }

  /** The logs that rows tell of, as far as they are there. */
  logsOf(places: readonly Place[]): Partition[] {
    return places.flatMap(
      ({ topicId, partition }) => this.#options.partition(topicId, partition) ?? [],
    );
  }

  isThere({ topicId, index }: Partition): boolean {
    return this.#options.partition(topicId, index) !== undefined;
  }

  /** @param end how its transaction is decided by it */
  change(holder: Holder, end?: End): Change {
    return put(
      ['transaction', holder.transactionalId],
      rowOf(holder, this.#options.clock.now(), end),
    );
  }

  /** Durable once resolved. @throws KAFKA_STORAGE_ERROR */
  save(holder: Holder, end?: End): Promise<void> {
    return this.#options.store.write([this.change(holder, end)]);
  }

  forgetLater(holder: Holder): void {
    holder.forgetting?.cancel();
    holder.forgetting = this.#options.clock.after(forgetMs, () => {
      this.forget(holder).catch((error: unknown) => {
        asStorageError(holder.transactionalId, error);
        this.forgetLater(holder);
      });
    });
  }

  /** Once the markers of what was decided are durable, nothing is left to do at an open. */
  async forget(holder: Holder): Promise<void> {
    const { decision } = holder;
    if (decision === null || holder.pending.length > 0) return;
    await Promise.all(this.logsOf(decision.partitions).map((partition) => partition.sync()));
    // The next transaction may have decided meanwhile: its row has taken this one's place.
    if (holder.decision !== decision || holder.state === 'ending') return;
    holder.decision = null;
    await this.save(holder).catch((error: unknown) => {
      holder.decision ??= decision;
      throw error;
    });
  }
}

/** A holder as it is stored; with `end`, how its transaction has been decided. */
function rowOf(holder: Holder, timestamp: number, end: End | undefined): TransactionRow {
  const { producerId, producerEpoch, timeoutMs, state, decision } = holder;
  return {
    producerId: `${producerId}`,
    producerEpoch,
    timeoutMs,
    timestamp,
    ended: state === 'committed' || state === 'aborted' ? state : null,
    decision,
    open: holder.isRemote && end === undefined ? openRow(holder) : null,
    ...end,
  };
}

function openRow(holder: Holder): TransactionRow['open'] {
  const { startedAt, partitions, groups, commits } = holder;
  return {
    startedAt,
    partitions: [...partitions.keys()].map(({ topicId, index: partition }) => ({
      topicId,
      partition,
    })),
    groups: [...groups],
    commits: commits.map(({ group, offsets }) => ({ group, offsets })),
  };
}

/** The holder that a row is of, but for its open transaction. */
export function holderOf(transactionalId: string, row: TransactionRow): Holder {
  const { producerId, producerEpoch, timeoutMs, timestamp, ended, decision } = row;
  const holder = newHolder(transactionalId, BigInt(producerId), producerEpoch, timeoutMs);
  holder.timestamp = timestamp;
  holder.state = ended ?? 'empty';
  holder.decision = decision;
  return holder;
}
