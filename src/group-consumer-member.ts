import { keyOf, type TopicPartition } from './assignment.js';
import type { Timer } from './clock.js';
import type { Session } from './group-session.js';
import type { RegularExpression } from './regular-expression.js';

/** Partitions, by their keys. In a consumer group topics go by their ids: their `topic` is one. */
export type PartitionMap = ReadonlyMap<string, TopicPartition>;

/** What a member of a consumer group wants to read, and who is to divide it. */
export interface ConsumerSubscription {
  readonly topics: readonly string[];
  /** Topics whose names it matches, too; null: none. */
  readonly pattern: RegularExpression | null;
  /** The assignor that it asks for; null: any. */
  readonly assignor: string | null;
}

/** What a member is to have, as from an epoch. */
export interface Target {
  readonly epoch: number;
  readonly partitions: PartitionMap;
}

/** Of a static member that is away for a moment: its place is kept. */
export const awayEpoch = -2;

/**
 * A member of a consumer group (KIP-848), and how far it has come on its way to its target: it gives up what
 * is no longer its own, says so, and then gets what others have given up.
 */
export class ConsumerMember {
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly session: Session;
  clientId: string = '';
  clientHost: string = '';
  rackId: string | null = null;
  rebalanceTimeoutMs: number = -1;
  subscription: ConsumerSubscription = { topics: [], pattern: null, assignor: null };
  /** Ids of the topics that there are of what it wants to read. */
  topicIds: readonly string[] = [];
  /** Waits for it to give up what it must. */
  revocation: Timer | null = null;
  #epoch = 0;
  /** Of its epoch before: the answer that told of the new one may have been lost. */
  #previousEpoch = 0;
  readonly #assigned = new Map<string, TopicPartition>();
  /** What it was told to give up, and has not said that it has. */
  readonly #revoking = new Map<string, TopicPartition>();
  /** Whoever may still read a partition, of all members: one at a time. */
  readonly #owners: Map<string, ConsumerMember>;

  constructor(
    memberId: string,
    instanceId: string | null,
    session: Session,
    owners: Map<string, ConsumerMember>,
  ) {
    this.memberId = memberId;
    this.instanceId = instanceId;
    this.session = session;
    this.#owners = owners;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** What it may read. */
  get assigned(): PartitionMap {
    return this.#assigned;
  }

  get isRevoking(): boolean {
    return this.#revoking.size > 0;
  }

  /** Whether it has what it is to have, and nothing else. */
  isAt({ epoch, partitions }: Target): boolean {
    const hasAll = this.#assigned.size === partitions.size;
    return this.#epoch === epoch && !this.isRevoking && hasAll;
  }

  /** Whether it is where a heartbeat says: there, or in the epoch before with nothing that it has not. */
  isIn(epoch: number, owned: readonly TopicPartition[] | null): boolean {
    if (epoch === this.#epoch) return true;
    if (epoch !== this.#previousEpoch || this.#epoch === awayEpoch || owned === null) return false;
    return owned.every((at) => this.#assigned.has(keyOf(at)));
  }

  /**
   * A step towards its target.
   * @param owned what it has by its own account; null: as before
   * @returns whether it must give up something, and has just been told
   */
  reconcile(target: Target, owned: readonly TopicPartition[] | null): boolean {
    if (this.isAt(target)) return false;
    const kept = owned === null ? null : new Set(owned.map(keyOf));
    const mayHave = (key: string): boolean => kept === null || kept.has(key);
    let epoch = this.#epoch;
    if (this.isRevoking) {
      if ([...this.#revoking.keys()].some(mayHave)) return false;
      this.#giveUp(this.#revoking);
      epoch++;
    }
    const extra = new Map([...this.#assigned].filter(([key]) => !target.partitions.has(key)));
    const mustRevoke = [...extra.keys()].some(mayHave);
    for (const [key, at] of extra) {
      this.#assigned.delete(key);
      if (mustRevoke) this.#revoking.set(key, at);
    }
    if (mustRevoke) {
      this.#moveTo(epoch);
      return true;
    }
    this.#giveUp(extra);
    for (const [key, at] of target.partitions) {
      if (!this.#owners.has(key)) this.#take(key, at);
    }
    this.#moveTo(target.epoch);
    return false;
  }

  #moveTo(epoch: number): void {
    this.#previousEpoch = this.#epoch;
    this.#epoch = epoch;
  }

  #take(key: string, at: TopicPartition): void {
    this.#owners.set(key, this);
    this.#assigned.set(key, at);
  }

  #giveUp(partitions: Map<string, TopicPartition>): void {
    for (const key of partitions.keys()) this.#owners.delete(key);
    partitions.clear();
  }

  /** It stops for a moment: what it has is kept for its instance, what it was to give up is free. */
  goAway(): void {
    this.#giveUp(this.#revoking);
    this.#epoch = awayEpoch;
    this.stopRevocation();
  }

  /** It goes on as another member of its instance, from the start. */
  takeOver(other: ConsumerMember): void {
    this.subscription = other.subscription;
    this.topicIds = other.topicIds;
    this.rackId = other.rackId;
    const assigned = [...other.assigned];
    other.end();
    for (const [key, at] of assigned) this.#take(key, at);
  }

  stopRevocation(): void {
    this.revocation?.cancel();
    this.revocation = null;
  }

  /** It is gone: all that it had is free. */
  end(): void {
    this.#giveUp(this.#assigned);
    this.#giveUp(this.#revoking);
    this.session.stop();
    this.stopRevocation();
  }
}
