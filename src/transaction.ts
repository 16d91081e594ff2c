import type { Clock, Timer } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { GroupCommit, OffsetStore } from './offsets.js';
import type { Partition } from './partition.js';
import {
  put,
  remove,
  type DecisionRow,
  type MetaStore,
  type TransactionRow,
} from './storage/meta-store.js';

/** Kafka's transaction.max.timeout.ms and transactional.id.expiration.ms. */
const maxTimeoutMs = 900_000;
const expirationMs = 7 * 24 * 60 * 60 * 1000;
/** Kafka gives out no epoch above, so that there is one left to fence with. */
const lastEpoch = 32_766;
/** How long what was decided may wait for the next transaction to make its markers durable. */
const forgetMs = 1000;
/** How soon a marker that could not be written is tried again. */
const retryMs = 1000;
/** There is one coordinator, which never moves. */
const coordinatorEpoch = 0;

/** Who a producer is, in its batches. */
export interface ProducerIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** Offsets that a transaction commits for a group. */
export interface PendingCommit extends GroupCommit {
  /** The logs that the offsets are of: what was read there is made durable first. */
  readonly partitions: readonly Partition[];
  /** Whether the partitions were owned all the time since they were read. @throws ILLEGAL_GENERATION */
  readonly check: () => void;
}

export interface TransactionEnvironment {
  readonly clock: Clock;
  readonly random: () => number;
  readonly store: MetaStore;
  readonly offsets: OffsetStore;
  /** undefined: it was deleted. */
  readonly partition: (topicId: string, partition: number) => Partition | undefined;
  /** Called when a transaction has ended. */
  readonly ended: () => void;
  readonly warn: (message: string) => void;
}

/** The end of a transaction that is still to be written to a log. */
interface PendingMarker extends ProducerIdentity {
  readonly topicId: string;
  readonly partition: number;
  readonly isCommit: boolean;
  /** What the transaction wrote ends here at the latest: a shorter log has lost it. */
  readonly endOffset: number;
}

/** One transactional id: who holds it, and the transaction that is open. */
interface Holder {
  readonly transactionalId: string;
  producerId: bigint;
  producerEpoch: number;
  timeoutMs: number;
  timestamp: number;
  state: 'empty' | 'ongoing' | 'ending' | 'committed' | 'aborted';
  /** What the transaction has written to, and the leader epoch of that log at the time. */
  readonly partitions: Map<Partition, number>;
  commits: PendingCommit[];
  /** Decided, and not known to be durable in every log. */
  decision: DecisionRow | null;
  pending: PendingMarker[];
  /** The end under way. Never rejects. */
  ending: Promise<void>;
  timeout: Timer | null;
  forgetting: Timer | null;
}

/**
 * The transaction coordinator: transactional ids and their epochs, and what is decided. The rules are
 * those of Kafka's TransactionCoordinator (KIP-98, KIP-360).
 *
 * Order of a commit: all records are in the logs; the logs are synced; one write of rows decides it, with
 * the groups' offsets; markers go into the logs, and it is acknowledged. Later the markers are synced, and
 * the row forgets the decision: the next transaction of the id does both for the one before. What a crash
 * leaves without a decision is aborted at the next open, what is decided is committed.
 */
export class TransactionCoordinator {
  readonly #env: TransactionEnvironment;
  readonly #holders = new Map<string, Holder>();
  #retry: Timer | null = null;

  constructor(env: TransactionEnvironment) {
    this.#env = env;
  }

  /** A producer id that nobody has: 62 random bits. */
  newProducerId(): bigint {
    const part = (): bigint => BigInt(Math.floor(this.#env.random() * 2 ** 31));
    return (part() << 31n) | part();
  }

  /**
   * Makes the caller the holder of a transactional id. Who held it before is fenced, and its transaction
   * aborted. Durable once resolved.
   * @throws INVALID_TRANSACTION_TIMEOUT, CONCURRENT_TRANSACTIONS, KAFKA_STORAGE_ERROR
   */
  async init(transactionalId: string, timeoutMs: number): Promise<ProducerIdentity> {
    if (timeoutMs > maxTimeoutMs) {
      throw new OttlaError(
        'INVALID_TRANSACTION_TIMEOUT',
        `${transactionalId}: a timeout of ${timeoutMs} ms, at most ${maxTimeoutMs} are allowed`,
      );
    }
    let holder = this.#holders.get(transactionalId);
    if (holder === undefined) {
      holder = newHolder(transactionalId, this.newProducerId(), -1);
      this.#holders.set(transactionalId, holder);
    }
    while (holder.state === 'ending') await holder.ending;
    await this.#fence(holder);
    holder.timeoutMs = timeoutMs;
    const identity = identityOf(holder);
    await this.#save(holder);
    return identity;
  }

  /** Takes the id from its holder: what is open is aborted in the next epoch. */
  async #fence(holder: Holder): Promise<void> {
    const { producerId } = holder;
    const epoch = holder.producerEpoch + 1;
    const isExhausted = epoch > lastEpoch;
    holder.producerId = isExhausted ? this.newProducerId() : producerId;
    holder.producerEpoch = isExhausted ? 0 : epoch;
    if (holder.state === 'ongoing') {
      await this.#abort(holder, { producerId, producerEpoch: epoch });
    }
    holder.state = 'empty';
  }

  /** Whether a transaction is open, or still ending. */
  get hasOpen(): boolean {
    for (const { state } of this.#holders.values()) {
      if (state === 'ongoing' || state === 'ending') return true;
    }
    return false;
  }

  /**
   * Before a new transaction: writes what the one before still has to write.
   * @throws PRODUCER_FENCED; CONCURRENT_TRANSACTIONS if that cannot be written yet
   */
  async settle(transactionalId: string, identity: ProducerIdentity): Promise<void> {
    const holder = this.#held(transactionalId, identity);
    if (holder.pending.length > 0) await this.writePending();
    if (holder.state === 'ending' || holder.pending.length > 0) throw stillEnding(holder);
  }

  /**
   * Takes a partition into the transaction, or begins one with it. To be called before each append, in
   * the same turn: so nothing is written by who is fenced.
   * @throws PRODUCER_FENCED; CONCURRENT_TRANSACTIONS while the transaction before is still ending
   */
  add(transactionalId: string, identity: ProducerIdentity, partition: Partition): void {
    const holder = this.#begun(transactionalId, identity);
    if (!holder.partitions.has(partition)) holder.partitions.set(partition, partition.leaderEpoch);
  }

  /** As add(), offsets that are committed with the transaction. */
  addOffsets(transactionalId: string, identity: ProducerIdentity, commit: PendingCommit): void {
    commit.check();
    this.#begun(transactionalId, identity).commits.push(commit);
  }

  #begun(transactionalId: string, identity: ProducerIdentity): Holder {
    const holder = this.#held(transactionalId, identity);
    if (holder.state === 'ongoing') return holder;
    if (holder.state === 'ending' || holder.pending.length > 0) throw stillEnding(holder);
    this.#open(holder);
    return holder;
  }

  #open(holder: Holder): void {
    holder.state = 'ongoing';
    holder.timeout = this.#env.clock.after(holder.timeoutMs, () => this.#timedOut(holder));
  }

  /** @throws PRODUCER_FENCED, INVALID_TXN_STATE */
  #held(transactionalId: string, { producerId, producerEpoch }: ProducerIdentity): Holder {
    const holder = this.#holders.get(transactionalId);
    if (holder === undefined) {
      throw new OttlaError(
        'INVALID_TXN_STATE',
        `nobody holds ${transactionalId}: init comes first`,
      );
    }
    if (holder.producerId === producerId && holder.producerEpoch === producerEpoch) return holder;
    throw new OttlaError(
      'PRODUCER_FENCED',
      `${transactionalId}: producer ${producerId} with epoch ${producerEpoch} has been superseded by epoch ${holder.producerEpoch} of ${holder.producerId}, or its transaction took longer than its timeout`,
    );
  }

  #timedOut(holder: Holder): void {
    if (holder.state !== 'ongoing') return;
    this.#env.warn(
      `transaction of ${holder.transactionalId} was aborted: it took longer than ${holder.timeoutMs} ms, its transactionTimeoutMs`,
    );
    void this.#fence(holder)
      .then(() => this.#save(holder))
      .catch((error: unknown) => this.#env.warn(String(error)));
  }

  /**
   * Ends the transaction. An end that was asked for again has the same result; an empty one leaves no
   * trace. A commit that rejects has decided nothing, and the transaction is still open: abort it.
   * @param begunAnew after the abort the holder goes on in a new epoch: what it sent may be lost
   * @returns who the holder is from now on
   * @throws PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS, ILLEGAL_GENERATION,
   *   OFFSET_METADATA_TOO_LARGE, KAFKA_STORAGE_ERROR
   */
  async end(
    transactionalId: string,
    identity: ProducerIdentity,
    isCommit: boolean,
    begunAnew: boolean = false,
  ): Promise<ProducerIdentity> {
    const holder = this.#held(transactionalId, identity);
    if (holder.state === 'ending') throw stillEnding(holder);
    if (holder.state === (isCommit ? 'committed' : 'aborted')) return identityOf(holder);
    if (holder.state !== 'ongoing') {
      throw new OttlaError(
        'INVALID_TXN_STATE',
        `${transactionalId}: ${isCommit ? 'commit' : 'abort'} of a transaction that is ${holder.state}`,
      );
    }
    if (isCommit) await this.#commit(holder);
    else if (begunAnew) {
      await this.#fence(holder);
      await this.#save(holder);
    } else await this.#abort(holder, identity);
    return identityOf(holder);
  }

  async #commit(holder: Holder): Promise<void> {
    holder.timeout?.cancel();
    await this.#ending(holder, async () => {
      try {
        await this.#decide(holder);
      } catch (error) {
        this.#open(holder);
        throw asStorageError(`transaction of ${holder.transactionalId}`, error);
      }
      await this.#conclude(holder, true, identityOf(holder));
    });
  }

  async #abort(holder: Holder, identity: ProducerIdentity): Promise<void> {
    holder.timeout?.cancel();
    await this.#ending(holder, () => this.#conclude(holder, false, identity));
  }

  async #ending(holder: Holder, end: () => Promise<void>): Promise<void> {
    holder.state = 'ending';
    const ended = end();
    holder.ending = ended.catch(() => undefined);
    await ended;
  }

  async #decide(holder: Holder): Promise<void> {
    const { commits } = holder;
    const decided = [];
    for (const [partition, leaderEpoch] of holder.partitions) {
      if (this.#isGone(partition)) continue;
      const firstOffset = partition.producers.openTransactions.get(holder.producerId);
      if (partition.leaderEpoch !== leaderEpoch) {
        throw new OttlaError(
          'KAFKA_STORAGE_ERROR',
          `${partition.name} was cut while the transaction of ${holder.transactionalId} was open: what it wrote there may be lost`,
        );
      }
      if (firstOffset === undefined) continue;
      const { topicId, index, logEndOffset: endOffset } = partition;
      decided.push({ topicId, partition: index, firstOffset, endOffset });
    }
    const before = this.#logsOf(holder.decision);
    const read = commits.flatMap(({ partitions }) => partitions);
    const logs = new Set([...holder.partitions.keys(), ...before, ...read]);
    await Promise.all(
      [...logs].filter((log) => !this.#isGone(log)).map((partition) => partition.sync()),
    );
    for (const { check } of commits) check();
    const decision = decided.length === 0 ? null : { partitions: decided };
    if (decision === null && commits.length === 0) return;
    holder.forgetting?.cancel();
    await this.#env.offsets.commitAll(commits, [
      put(['transaction', holder.transactionalId], this.#row(holder, decision)),
    ]);
    holder.decision = decision;
  }

  #isGone({ topicId, index }: Partition): boolean {
    return this.#env.partition(topicId, index) === undefined;
  }

  #logsOf(decision: DecisionRow | null): Partition[] {
    return (decision?.partitions ?? []).flatMap(
      ({ topicId, partition }) => this.#env.partition(topicId, partition) ?? [],
    );
  }

  /** Writes the markers; those that cannot be written come later. */
  async #conclude(holder: Holder, isCommit: boolean, identity: ProducerIdentity): Promise<void> {
    const markers = [...holder.partitions.keys()].map(
      ({ topicId, index: partition }): PendingMarker => {
        const decided = holder.decision?.partitions.find(
          (other) => other.topicId === topicId && other.partition === partition,
        );
        const endOffset = isCommit ? (decided?.endOffset ?? 0) : 0;
        return { ...identity, topicId, partition, isCommit, endOffset };
      },
    );
    holder.partitions.clear();
    holder.commits = [];
    holder.pending = markers;
    await this.#writePending(holder);
    holder.state = isCommit ? 'committed' : 'aborted';
    holder.timestamp = this.#env.clock.now();
    if (holder.decision !== null) this.#forgetLater(holder);
    this.#env.ended();
  }

  async #writePending(holder: Holder): Promise<void> {
    const failed: PendingMarker[] = [];
    await Promise.all(
      holder.pending.map(async (marker) => {
        const partition = this.#env.partition(marker.topicId, marker.partition);
        try {
          if (partition !== undefined) await this.#writeMarker(holder, partition, marker);
        } catch (error) {
          if (error instanceof OttlaError && error.code === 'UNKNOWN_TOPIC_OR_PARTITION') return;
          failed.push(marker);
          asStorageError(holder.transactionalId, error);
        }
      }),
    );
    holder.pending = failed;
    if (failed.length > 0) {
      this.#retry ??= this.#env.clock.after(retryMs, () => void this.writePending());
    }
  }

  async #writeMarker(holder: Holder, partition: Partition, marker: PendingMarker): Promise<void> {
    const { logEndOffset, name } = partition;
    if (logEndOffset < marker.endOffset) {
      partition.fail(
        new OttlaError(
          'CORRUPT_MESSAGE',
          `${name} ends at offset ${logEndOffset}: a transaction of ${holder.transactionalId} was committed up to ${marker.endOffset}`,
        ),
      );
    }
    await partition.appendMarker({ ...marker, coordinatorEpoch });
  }

  /** Tries again to write markers that could not be written: a partition takes records again. Never rejects. */
  async writePending(): Promise<void> {
    this.#retry?.cancel();
    this.#retry = null;
    for (const holder of this.#holders.values()) {
      if (holder.pending.length === 0 || holder.state === 'ending') continue;
      const { state } = holder;
      holder.state = 'ending';
      holder.ending = this.#writePending(holder);
      await holder.ending;
      holder.state = state;
      if (holder.pending.length === 0) this.#env.ended();
    }
  }

  #forgetLater(holder: Holder): void {
    holder.forgetting?.cancel();
    holder.forgetting = this.#env.clock.after(forgetMs, () => {
      this.#forget(holder).catch((error: unknown) => {
        asStorageError(holder.transactionalId, error);
        this.#forgetLater(holder);
      });
    });
  }

  /** Once the markers are durable, nothing is left to do at an open. */
  async #forget(holder: Holder): Promise<void> {
    const { decision } = holder;
    if (decision === null || holder.pending.length > 0) return;
    await Promise.all(this.#logsOf(decision).map((partition) => partition.sync()));
    // The next transaction may have decided meanwhile: its row has taken this one's place.
    if (holder.decision !== decision || holder.state === 'ending') return;
    const write = this.#env.store.write([
      put(['transaction', holder.transactionalId], this.#row(holder, null)),
    ]);
    holder.decision = null;
    await write.catch((error: unknown) => {
      holder.decision ??= decision;
      throw error;
    });
  }

  #row(holder: Holder, decision: DecisionRow | null): TransactionRow {
    const { producerId, producerEpoch } = holder;
    const timestamp = this.#env.clock.now();
    return { producerId: `${producerId}`, producerEpoch, timestamp, decision };
  }

  #save(holder: Holder): Promise<void> {
    return this.#env.store.write([
      put(['transaction', holder.transactionalId], this.#row(holder, holder.decision)),
    ]);
  }

  /**
   * At open: commits what was decided, where that is not done, and aborts every other transaction that is
   * open: no producer of this process lives on.
   * @returns what was done, in sentences
   * @throws KAFKA_STORAGE_ERROR
   */
  async recover(partitions: readonly Partition[]): Promise<string[]> {
    const report: string[] = [];
    const changes = [];
    for (const { key, value } of this.#env.store.range(['transaction'])) {
      const [, transactionalId] = key;
      const { timestamp, producerEpoch } = value;
      if (value.decision === null && timestamp < this.#env.clock.now() - expirationMs) {
        changes.push(remove(key));
        continue;
      }
      const holder = newHolder(transactionalId, BigInt(value.producerId), producerEpoch);
      holder.timestamp = timestamp;
      holder.decision = value.decision;
      this.#holders.set(transactionalId, holder);
      if (value.decision === null) continue;
      for (const decided of value.decision.partitions) {
        report.push(...(await this.#rollForward(holder, decided)));
      }
      if (holder.pending.length > 0) continue;
      await Promise.all(this.#logsOf(value.decision).map((partition) => partition.sync()));
      holder.decision = null;
      changes.push(put(key, { ...value, decision: null }));
    }
    for (const partition of partitions) report.push(...(await this.#abortOpen(partition)));
    if (changes.length > 0) await this.#env.store.write(changes);
    return report;
  }

  async #rollForward(
    holder: Holder,
    { topicId, partition: index, endOffset }: DecisionRow['partitions'][number],
  ): Promise<string[]> {
    const partition = this.#env.partition(topicId, index);
    if (partition === undefined) return [];
    partition.open();
    const { producerId } = holder;
    const isShort = partition.logEndOffset < endOffset;
    const firstOffset = partition.producers.openTransactions.get(producerId) ?? Infinity;
    if (!isShort && partition.failure === null && firstOffset >= endOffset) return [];
    const producerEpoch = Math.max(0, partition.producers.epochOf(producerId));
    const of = { producerId, producerEpoch, topicId, partition: index };
    const marker = { ...of, isCommit: true, endOffset };
    try {
      await this.#writeMarker(holder, partition, marker);
    } catch (error) {
      asStorageError(partition.name, error);
      holder.pending.push(marker);
      return [];
    }
    return [
      `${partition.name}: committed a transaction of ${holder.transactionalId}, which was decided before the process ended.`,
    ];
  }

  async #abortOpen(partition: Partition): Promise<string[]> {
    if (!partition.hasOpenTransactions) return [];
    partition.open();
    if (partition.failure !== null) return [];
    const report: string[] = [];
    for (const [producerId, firstOffset] of partition.producers.openTransactions) {
      const producerEpoch = partition.producers.epochOf(producerId);
      const marker = { producerId, producerEpoch, isCommit: false, coordinatorEpoch };
      await partition.appendMarker(marker);
      report.push(
        `${partition.name}: aborted the transaction of producer ${producerId} that was open from offset ${firstOffset} on.`,
      );
    }
    return report;
  }

  /** Aborts what is open, and makes all that is decided durable, as far as that is possible. Never rejects. */
  async close(): Promise<void> {
    for (const holder of this.#holders.values()) {
      while (holder.state === 'ending') await holder.ending;
      if (holder.state === 'ongoing') await this.#abort(holder, identityOf(holder));
      if (holder.pending.length > 0) await this.#writePending(holder);
      holder.timeout?.cancel();
      holder.forgetting?.cancel();
      await this.#forget(holder).catch((error: unknown) => {
        asStorageError(holder.transactionalId, error);
      });
    }
    this.#retry?.cancel();
  }
}

function newHolder(transactionalId: string, producerId: bigint, producerEpoch: number): Holder {
  return {
    transactionalId,
    producerId,
    producerEpoch,
    timeoutMs: maxTimeoutMs,
    timestamp: 0,
    state: 'empty',
    partitions: new Map(),
    commits: [],
    decision: null,
    pending: [],
    ending: Promise.resolve(),
    timeout: null,
    forgetting: null,
  };
}

function identityOf({ producerId, producerEpoch }: Holder): ProducerIdentity {
  return { producerId, producerEpoch };
}

function stillEnding({ transactionalId }: Holder): OttlaError {
  return new OttlaError(
    'CONCURRENT_TRANSACTIONS',
    `${transactionalId}: the transaction before is still ending`,
  );
}
