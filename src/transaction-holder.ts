import type { Timer } from './clock.js';
import { OttlaError } from './errors.js';
import type { GroupCommit } from './offsets.js';
import type { Partition } from './partition.js';
import type { DecisionRow } from './storage/meta-store.js';

/** Who a producer is, in its batches. */
export interface ProducerIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** Offsets that a transaction commits for a group. */
export interface PendingCommit extends GroupCommit {
  /** Whether the partitions were owned all the time since they were read. @throws ILLEGAL_GENERATION */
  readonly check: () => void;
}

/** The end of a transaction that is still to be written to a log. */
export interface PendingMarker extends ProducerIdentity {
  readonly topicId: string;
  readonly partition: number;
  readonly isCommit: boolean;
  /** What the transaction wrote ends here at the latest: a shorter log has lost it. */
  readonly endOffset: number;
}

/** One transactional id: who holds it, and the transaction that is open. */
export interface Holder {
  readonly transactionalId: string;
  producerId: bigint;
  producerEpoch: number;
  /** Who asked for the id last, in the epoch that it had: asked again, it is not fenced once more. */
  before: ProducerIdentity | null;
  timeoutMs: number;
  /** When it was used last, ms since 1970. */
  timestamp: number;
  state: 'empty' | 'ongoing' | 'ending' | 'committed' | 'aborted';
  /** While it is ending: how. */
  isCommitting: boolean;
  /** The transaction is a producer's elsewhere: the row has it, and it outlives the process. */
  isRemote: boolean;
  /** When the transaction began, ms since 1970. */
  startedAt: number;
  /** What the transaction has written to, and the leader epoch of that log at the time. */
  readonly partitions: Map<Partition, number>;
  /** Groups that a producer elsewhere may commit offsets of. */
  readonly groups: Set<string>;
  commits: PendingCommit[];
  /** Decided, and not known to be durable in every log. */
  decision: DecisionRow | null;
  pending: PendingMarker[];
  /** The end under way. Never rejects. */
  ending: Promise<void>;
  timeout: Timer | null;
  forgetting: Timer | null;
}

export function newHolder(
  transactionalId: string,
  producerId: bigint,
  producerEpoch: number,
  timeoutMs: number,
): Holder {
  return {
    transactionalId,
    producerId,
    producerEpoch,
    before: null,
    timeoutMs,
    timestamp: 0,
    state: 'empty',
    isCommitting: false,
    isRemote: false,
    startedAt: 0,
    partitions: new Map(),
    groups: new Set(),
    commits: [],
    decision: null,
    pending: [],
    ending: Promise.resolve(),
    timeout: null,
    forgetting: null,
  };
}

export function identityOf({ producerId, producerEpoch }: Holder): ProducerIdentity {
  return { producerId, producerEpoch };
}

/** Whether both are one producer in one epoch. */
export function isSameProducer(one: ProducerIdentity | null, other: ProducerIdentity): boolean {
  return one?.producerId === other.producerId && one.producerEpoch === other.producerEpoch;
}

/**
 * What is committed: the logs that it has written to, and how far.
 * @throws KAFKA_STORAGE_ERROR for a log that may have lost some of it
 */
export function decisionOf(
  holder: Holder,
  isThere: (partition: Partition) => boolean,
): DecisionRow | null {
  const partitions = [];
  for (const [log, leaderEpoch] of holder.partitions) {
    if (!isThere(log)) continue;
    const firstOffset = log.producers.openTransactions.get(holder.producerId);
    // A producer elsewhere sends again what was not acknowledged, and knows when that has failed.
    if (!holder.isRemote && log.leaderEpoch !== leaderEpoch) {
      throw new OttlaError(
        'KAFKA_STORAGE_ERROR',
        `${log.name} was cut while the transaction of ${holder.transactionalId} was open: what it wrote there may be lost`,
      );
    }
    if (firstOffset === undefined) continue;
    const { topicId, index: partition, logEndOffset: endOffset } = log;
    partitions.push({ topicId, partition, firstOffset, endOffset });
  }
  return partitions.length === 0 ? null : { partitions };
}

/** The markers of a transaction that ends. @param identity who writes them */
export function markersOf(
  holder: Holder,
  identity: ProducerIdentity,
  isCommit: boolean,
): PendingMarker[] {
  return [...holder.partitions.keys()].map(({ topicId, index: partition }) => {
    const decided = holder.decision?.partitions.find(
      (other) => other.topicId === topicId && other.partition === partition,
    );
    const endOffset = isCommit ? (decided?.endOffset ?? 0) : 0;
    return { ...identity, topicId, partition, isCommit, endOffset };
  });
}

/** Once only its markers are left of it. */
export function forgetTransaction(holder: Holder): void {
  holder.partitions.clear();
  holder.groups.clear();
  holder.commits = [];
  holder.isRemote = false;
}

/** @throws INVALID_TXN_STATE; CONCURRENT_TRANSACTIONS while the transaction is ending */
export function refuseUnadded(holder: Holder, isAdded: boolean, what: string): void {
  if (holder.state === 'ending') throw stillEnding(holder);
  if (holder.state === 'ongoing' && isAdded) return;
  throw new OttlaError(
    'INVALID_TXN_STATE',
    `${holder.transactionalId}: ${what} was not added to an open transaction`,
  );
}

/** The transaction before has not ended: ask again in a moment. */
export function stillEnding({ transactionalId }: Holder): OttlaError {
  return new OttlaError(
    'CONCURRENT_TRANSACTIONS',
    `${transactionalId}: the transaction before is still ending`,
  );
}

export function fencedBy(
  holder: Holder,
  { producerId, producerEpoch }: ProducerIdentity,
): OttlaError {
  return new OttlaError(
    'PRODUCER_FENCED',
    `${holder.transactionalId}: producer ${producerId} with epoch ${producerEpoch} has been superseded by epoch ${holder.producerEpoch} of ${holder.producerId}, or its transaction took longer than its timeout`,
  );
}
