import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import { rewind, type GroupCommit, type OffsetStore } from './offsets.js';
import type { Partition } from './partition.js';
import { put, remove, type MetaStore, type OpenTransactionRow } from './storage/meta-store.js';
import type { Slices } from './storage/slices.js';
import { describeHolder, type TransactionDescription } from './transaction-description.js';
import {
  decisionOf,
  fencedBy,
  forgetTransaction,
  identityOf,
  isSameProducer,
  markersOf,
  newHolder,
  refuseUnadded,
  stillEnding,
  type Holder,
  type PendingCommit,
  type ProducerIdentity,
} from './transaction-holder.js';
import { TransactionMarkers } from './transaction-markers.js';
import { TransactionRows, holderOf } from './transaction-rows.js';

export type { PendingCommit, ProducerIdentity } from './transaction-holder.js';

/** Kafka's transaction.max.timeout.ms and transactional.id.expiration.ms. */
const maxTimeoutMs = 900_000;
const expirationMs = 7 * 24 * 60 * 60 * 1000;
/** Kafka gives out no epoch above, so that there is one left to fence with. */
const lastEpoch = 32_766;

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

/**
 * The transaction coordinator: transactional ids and their epochs, and what is decided. The rules are
 * those of Kafka's TransactionCoordinator (KIP-98, KIP-360).
 *
 * Transactions of producers in this process end with it. Those of producers elsewhere are in the row as
 * long as they are open, and go on after a restart: an abort begins with the row, too.
 *
 * Order of a commit: all records are in the logs; the logs are synced; one write of rows decides it, with
 * the groups' offsets; markers go into the logs, and it is acknowledged. Later the markers are synced, and
 * the row forgets the decision: the next transaction of the id does both for the one before. What a crash
 * leaves without a decision is aborted at the next open, what is decided is committed.
 */
export class TransactionCoordinator {
  readonly #env: TransactionEnvironment;
  readonly #holders = new Map<string, Holder>();
  readonly #rows: TransactionRows;
  readonly #markers: TransactionMarkers;

  constructor(env: TransactionEnvironment) {
    this.#env = env;
    this.#rows = new TransactionRows(env);
    this.#markers = new TransactionMarkers(env);
  }

  /** A producer id that nobody has: 62 random bits. */
  newProducerId(): bigint {
    const part = (): bigint => BigInt(Math.floor(this.#env.random() * 2 ** 31));
    return (part() << 31n) | part();
  }

  /**
   * Makes the caller the holder of a transactional id. Who held it before is fenced, and its transaction
   * aborted. Durable once resolved.
   * @param expected who the caller still is, as it believes (KIP-360): it only wants to begin a new epoch
   * @throws INVALID_TRANSACTION_TIMEOUT, PRODUCER_FENCED, KAFKA_STORAGE_ERROR
   */
  async init(
    transactionalId: string,
    timeoutMs: number,
    expected: ProducerIdentity | null = null,
  ): Promise<ProducerIdentity> {
    if (timeoutMs <= 0 || timeoutMs > maxTimeoutMs) {
      throw new OttlaError(
        'INVALID_TRANSACTION_TIMEOUT',
        `${transactionalId}: a timeout of ${timeoutMs} ms, expected 1 to ${maxTimeoutMs}`,
      );
    }
    const holder =
      this.#holders.get(transactionalId) ??
      newHolder(transactionalId, this.newProducerId(), -1, timeoutMs);
    while (holder.state === 'ending') await holder.ending;
    // An id that nobody has had is given to whoever asks, whatever it says it was: so does Kafka.
    const by = holder.producerEpoch === -1 ? null : expected;
    const isAskedAgain = by !== null && isSameProducer(holder.before, by);
    if (by !== null && !isAskedAgain && !isSameProducer(holder, by)) throw fencedBy(holder, by);
    this.#holders.set(transactionalId, holder);
    const identity = isAskedAgain ? identityOf(holder) : await this.#fence(holder, by);
    holder.timeoutMs = timeoutMs;
    await this.#rows.save(holder);
    return identity;
  }

  /**
   * Takes the id from its holder: what is open is aborted in the next epoch.
   * @returns who has it now, unless somebody else has taken it meanwhile
   */
  async #fence(holder: Holder, by: ProducerIdentity | null): Promise<ProducerIdentity> {
    const { producerId } = holder;
    const epoch = holder.producerEpoch + 1;
    const isExhausted = epoch > lastEpoch;
    holder.producerId = isExhausted ? this.newProducerId() : producerId;
    holder.producerEpoch = isExhausted ? 0 : epoch;
    holder.before = by;
    const identity = identityOf(holder);
    if (holder.state === 'ongoing') {
      await this.#abort(holder, { producerId, producerEpoch: epoch }, 'empty');
    } else holder.state = 'empty';
    return identity;
  }

  /** undefined: nobody has held it. */
  describe(transactionalId: string): TransactionDescription | undefined {
    const holder = this.#holders.get(transactionalId);
    return holder === undefined ? undefined : describeHolder(holder);
  }

  /** All transactional ids that were held. */
  list(): TransactionDescription[] {
    return Array.from(this.#holders.values(), describeHolder);
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
    if (holder.pending.length > 0) await this.#markers.writeAll();
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
    holder.startedAt = this.#env.clock.now();
    this.#goOn(holder, holder.timeoutMs);
  }

  #goOn(holder: Holder, leftMs: number): void {
    holder.state = 'ongoing';
    holder.before = null;
    holder.timeout = this.#env.clock.after(leftMs, () => this.#timedOut(holder));
  }

  /**
   * Takes partitions into the transaction of a producer elsewhere, or begins one with them. Durable once
   * resolved; what was refused for want of storage may be in it all the same.
   * @throws as add(); KAFKA_STORAGE_ERROR
   */
  async addPartitions(
    transactionalId: string,
    identity: ProducerIdentity,
    partitions: readonly Partition[],
  ): Promise<void> {
    const holder = this.#begun(transactionalId, identity);
    for (const partition of partitions) holder.partitions.set(partition, partition.leaderEpoch);
    await this.#store(holder);
  }

  /** As addPartitions(), a group: offsets of it may be committed with the transaction. */
  async addGroup(
    transactionalId: string,
    identity: ProducerIdentity,
    group: string,
  ): Promise<void> {
    const holder = this.#begun(transactionalId, identity);
    holder.groups.add(group);
    await this.#store(holder);
  }

  /**
   * As addPartitions(), offsets of a group that was added: what was read is made durable first. Who may commit
   * them is the caller's to check.
   * @throws PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS, KAFKA_STORAGE_ERROR
   */
  async commitOffsets(
    transactionalId: string,
    identity: ProducerIdentity,
    commit: GroupCommit,
  ): Promise<void> {
    const check = (): Holder => {
      const held = this.#held(transactionalId, identity);
      refuseUnadded(held, held.groups.has(commit.group), `group ${commit.group}`);
      return held;
    };
    check();
    // After a loss of power the offset would point at what was lost, and what was made of it would stay.
    await Promise.all(this.#rows.logsOf(commit.offsets).map((log) => log.sync()));
    const holder = check();
    holder.commits.push({ ...commit, check: owned });
    await this.#store(holder);
  }

  /**
   * Whether a producer elsewhere may append to a partition: it was added. To be called before each append,
   * in the same turn.
   * @throws PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS
   */
  refuseUnadded(transactionalId: string, identity: ProducerIdentity, partition: Partition): void {
    const holder = this.#held(transactionalId, identity);
    refuseUnadded(holder, holder.partitions.has(partition), partition.name);
  }

  #store(holder: Holder): Promise<void> {
    holder.isRemote = true;
    return this.#rows.save(holder);
  }

  /** Whether an open transaction is about to commit a group's offset of a partition. */
  hasPendingOffset(group: string, topicId: string, partition: number): boolean {
    for (const { commits } of this.#holders.values()) {
      const isPending = commits.some(
        (commit) =>
          commit.group === group &&
          commit.offsets.some((at) => at.topicId === topicId && at.partition === partition),
      );
      if (isPending) return true;
    }
    return false;
  }

  /** @throws INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED */
  #held(transactionalId: string, identity: ProducerIdentity): Holder {
    const holder = this.#holders.get(transactionalId);
    if (holder === undefined) {
      throw new OttlaError(
        'INVALID_PRODUCER_ID_MAPPING',
        `nobody holds ${transactionalId}: init comes first`,
      );
    }
    if (isSameProducer(holder, identity)) return holder;
    throw fencedBy(holder, identity);
  }

  #timedOut(holder: Holder): void {
    if (holder.state === 'ending') void holder.ending.then(() => this.#timedOut(holder));
    if (holder.state !== 'ongoing') return;
    this.#env.warn(
      `transaction of ${holder.transactionalId} was aborted: it took longer than ${holder.timeoutMs} ms, its transactionTimeoutMs`,
    );
    void this.#fence(holder, null)
      .then(() => this.#rows.save(holder))
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
    if (holder.state === (isCommit ? 'committed' : 'aborted')) return identity;
    if (holder.state !== 'ongoing') {
      throw new OttlaError(
        'INVALID_TXN_STATE',
        `${transactionalId}: ${isCommit ? 'commit' : 'abort'} of a transaction that is ${holder.state}`,
      );
    }
    if (isCommit) await this.#commit(holder);
    else if (begunAnew) {
      // Asked again by init(), for the want of storage, it is the same.
      const next = await this.#fence(holder, identity);
      await this.#rows.save(holder);
      return next;
    } else await this.#abort(holder, identity, 'aborted');
    return identity;
  }

  async #commit(holder: Holder): Promise<void> {
    await this.#ending(holder, true, async () => {
      await this.#undecided(holder, () => this.#decide(holder));
      await this.#conclude(holder, identityOf(holder), 'committed');
    });
  }

  /** @param identity whose markers end it */
  async #abort(
    holder: Holder,
    identity: ProducerIdentity,
    state: 'aborted' | 'empty',
  ): Promise<void> {
    await this.#ending(holder, false, async () => {
      if (holder.isRemote) {
        // With the markers of some logs only, it could still be committed after a restart.
        const ended = state === 'aborted' ? state : null;
        await this.#undecided(holder, () =>
          this.#rows.save(holder, { ended, decision: holder.decision }),
        );
      }
      await this.#conclude(holder, identity, state);
    });
  }

  /** What cannot be decided leaves the transaction open. */
  async #undecided(holder: Holder, decide: () => Promise<void>): Promise<void> {
    try {
      await decide();
    } catch (error) {
      this.#open(holder);
      throw asStorageError(`transaction of ${holder.transactionalId}`, error);
    }
  }

  async #ending(holder: Holder, isCommitting: boolean, end: () => Promise<void>): Promise<void> {
    holder.timeout?.cancel();
    holder.state = 'ending';
    holder.isCommitting = isCommitting;
    const ended = end();
    holder.ending = ended.catch(() => undefined);
    await ended;
  }

  async #decide(holder: Holder): Promise<void> {
    const { commits } = holder;
    const decision = decisionOf(holder, (partition) => this.#rows.isThere(partition));
    const before = this.#rows.logsOf(holder.decision?.partitions ?? []);
    const read = this.#rows.logsOf(commits.flatMap(({ offsets }) => offsets));
    const logs = new Set([...holder.partitions.keys(), ...before, ...read]);
    await Promise.all(
      [...logs].filter((log) => this.#rows.isThere(log)).map((partition) => partition.sync()),
    );
    for (const { check } of commits) check();
    if (decision === null && commits.length === 0 && !holder.isRemote) return;
    holder.forgetting?.cancel();
    const kept = commits.map(({ group, offsets }) => ({
      group,
      offsets: offsets.filter((at) => this.#rows.logsOf([at]).length > 0),
    }));
    const change = this.#rows.change(holder, { ended: 'committed', decision });
    await this.#env.offsets.commitAll(kept, [change]);
    holder.decision = decision;
  }

  /** Writes the markers; those that cannot be written come later. */
  async #conclude(
    holder: Holder,
    identity: ProducerIdentity,
    state: 'committed' | 'aborted' | 'empty',
  ): Promise<void> {
    holder.pending.push(...markersOf(holder, identity, state === 'committed'));
    forgetTransaction(holder);
    await this.#markers.write(holder);
    holder.state = state;
    holder.timestamp = this.#env.clock.now();
    if (holder.decision !== null) this.#rows.forgetLater(holder);
    this.#env.ended();
  }

  /** Tries again to write markers that could not be written: a partition takes records again. Never rejects. */
  writePending(): Promise<void> {
    return this.#markers.writeAll();
  }

  /**
   * At open: commits what was decided, where that is not done, and aborts every other transaction that is
   * open, but for those of producers elsewhere: no producer of this process lives on.
   * @returns what was done, in sentences
   * @throws KAFKA_STORAGE_ERROR
   */
  async recover(partitions: readonly Partition[], slices: Slices): Promise<string[]> {
    const report: string[] = [];
    const changes = [];
    for (const { key, value } of this.#env.store.range(['transaction'])) {
      const [, transactionalId] = key;
      const { timestamp, decision, open } = value;
      const isOver = decision === null && open === null;
      if (isOver && timestamp < this.#env.clock.now() - expirationMs) {
        changes.push(remove(key));
        continue;
      }
      const holder = holderOf(transactionalId, value);
      this.#holders.set(transactionalId, holder);
      if (open !== null) this.#resume(holder, open);
      if (decision === null) continue;
      for (const decided of decision.partitions) {
        report.push(...(await this.#markers.rollForward(holder, decided)));
      }
      if (holder.pending.length > 0) continue;
      await Promise.all(
        this.#rows.logsOf(decision.partitions).map((partition) => partition.sync()),
      );
      holder.decision = null;
      changes.push(put(key, { ...value, decision: null }));
    }
    const remote = [...this.#holders.values()].filter(({ isRemote }) => isRemote);
    for (const partition of partitions) {
      await slices.turn();
      if (!partition.hasOpenTransactions) continue;
      report.push(...(await this.#markers.abortOpen(partition, remote)));
    }
    if (changes.length > 0) await this.#env.store.write(changes);
    return report;
  }

  /** A producer elsewhere goes on with its transaction, for the time that it has left. */
  #resume(holder: Holder, { startedAt, partitions, groups, commits }: OpenTransactionRow): void {
    holder.isRemote = true;
    holder.startedAt = startedAt;
    for (const log of this.#rows.logsOf(partitions)) holder.partitions.set(log, log.leaderEpoch);
    for (const group of groups) holder.groups.add(group);
    holder.commits = commits.map(({ group, offsets }) => ({
      group,
      offsets: offsets.map((at) => this.#rewind(at)),
      check: owned,
    }));
    const passedMs = Math.max(0, this.#env.clock.now() - startedAt);
    this.#goOn(holder, Math.max(0, holder.timeoutMs - passedMs));
  }

  /** The log may have been cut since. */
  #rewind(at: GroupCommit['offsets'][number]): GroupCommit['offsets'][number] {
    const [log] = this.#rows.logsOf([at]);
    log?.open();
    return log === undefined || log.failure !== null ? at : rewind(at, log);
  }

  /**
   * Aborts what producers of this process have open, and makes all that is decided durable, as far as that
   * is possible. Never rejects.
   */
  async close(): Promise<void> {
    for (const holder of this.#holders.values()) {
      while (holder.state === 'ending') await holder.ending;
      if (holder.state === 'ongoing' && !holder.isRemote) {
        await this.#abort(holder, identityOf(holder), 'aborted');
      }
      if (holder.pending.length > 0) await this.#markers.write(holder);
      holder.timeout?.cancel();
      holder.forgetting?.cancel();
      await this.#rows.forget(holder).catch((error: unknown) => {
        asStorageError(holder.transactionalId, error);
      });
    }
    this.#markers.stop();
  }
}

/** Kafka checks who commits when the offsets come, and not again. */
function owned(): void {}
