import type { Holder, ProducerIdentity } from './transaction-holder.js';

/** A transactional id, and the transaction that it last had, as Kafka shows it. */
export interface TransactionDescription extends ProducerIdentity {
  readonly transactionalId: string;
  readonly state: TransactionState;
  readonly timeoutMs: number;
  /** When the transaction began, ms since 1970; -1: none has since the process began. */
  readonly startedAt: number;
  /** What it has written to; while it ends, where its marker is not written. */
  readonly partitions: readonly { readonly topicId: string; readonly partition: number }[];
}

/** Kafka's states of a transactional id, as far as they last. */
export const transactionStates = [
  'Empty',
  'Ongoing',
  'PrepareCommit',
  'PrepareAbort',
  'CompleteCommit',
  'CompleteAbort',
] as const;

export type TransactionState = (typeof transactionStates)[number];

export function describeHolder(holder: Holder): TransactionDescription {
  const { transactionalId, producerId, producerEpoch, timeoutMs, startedAt, pending } = holder;
  const written = [...holder.partitions.keys()].map(({ topicId, index: partition }) => ({
    topicId,
    partition,
  }));
  const unmarked = pending.map(({ topicId, partition }) => ({ topicId, partition }));
  return {
    transactionalId,
    producerId,
    producerEpoch,
    state: stateOf(holder),
    timeoutMs,
    startedAt: startedAt === 0 ? -1 : startedAt,
    partitions: unmarked.length > 0 ? unmarked : written,
  };
}

function stateOf({ state, pending, isCommitting }: Holder): TransactionState {
  const [marker] = pending;
  if (marker !== undefined) return marker.isCommit ? 'PrepareCommit' : 'PrepareAbort';
  if (state === 'ending') return isCommitting ? 'PrepareCommit' : 'PrepareAbort';
  return ended[state];
}

const ended = {
  empty: 'Empty',
  ongoing: 'Ongoing',
  committed: 'CompleteCommit',
  aborted: 'CompleteAbort',
} as const;
