import { keyOf, type TopicPartition } from './assignment.js';
import type { Broker } from './broker.js';
import type { Timer } from './clock.js';
import type {
  Committed,
  CommitPosition,
  GroupMembership,
  Position,
  Subscription,
} from './engine.js';
import { OttlaError, inWords } from './errors.js';
import type { NativeMember, Ownership } from './group.js';
import type { From } from './options.js';
import type { GroupCommit } from './offsets.js';
import { offsetFor } from './partition-offsets.js';
import type { PendingCommit } from './transaction.js';

/** Of maxPollIntervalMs: how finely it is measured, and when the warning comes. */
const pollChecks = 8;
const warnAfterChecks = 4;

/** What a member's owner is told, and asked. */
export interface MemberListener {
  assigned(positions: readonly (Position & { readonly ownership: number })[]): Promise<void>;
  revoked(
    partitions: readonly TopicPartition[],
    signal: AbortSignal,
  ): { readonly busy: boolean; readonly released: Promise<void> };
  lost(partitions: readonly TopicPartition[]): void;
  failed(error: OttlaError): void;
  /** Whether code of the user is at work: only then can it be silent for too long. */
  isAtWork(): boolean;
}

/**
 * A member of a group in this process. It needs no session: it loses its partitions by leaving, or when
 * the user's code has not come back for maxPollIntervalMs; then it joins again as soon as it does.
 */
export class GroupMember {
  readonly #broker: Broker;
  readonly #group: GroupMembership;
  readonly #from: From;
  readonly #listener: MemberListener;
  readonly #warn: (message: string) => void;
  readonly #native: NativeMember;
  /** Ends with the revocation that it belongs to. */
  readonly #revocations = new Map<number, AbortController>();
  readonly #owned = new Map<string, Ownership>();
  #subscription: Subscription;
  #topics: readonly string[];
  /** Topics that came while a pattern waited for them: none of their records is an old one. */
  readonly #awaited = new Set<string>();
  #starting: Promise<void> = Promise.resolve();
  #state: 'new' | 'member' | 'expelled' | 'left' = 'new';
  #cameBack = true;
  #silentChecks = 0;
  #timer: Timer | null = null;

  constructor(
    broker: Broker,
    memberId: string,
    group: GroupMembership,
    from: From,
    subscription: Subscription,
    warn: (message: string) => void,
    listener: MemberListener,
  ) {
    this.#broker = broker;
    this.#group = group;
    this.#from = from;
    this.#warn = warn;
    this.#listener = listener;
    this.#subscription = subscription;
    this.#topics = this.#matching();
    const topics = (): readonly string[] => this.#topics;
    this.#native = {
      memberId,
      clientId: group.clientId,
      get topics() {
        return topics();
      },
      topicsChanged: () => this.#topicsChanged(),
      assignor: group.assignor,
      revokeTimeoutMs: group.revokeTimeoutMs,
      granted: (ownerships) => this.#granted(ownerships),
      revoke: (ownerships) => this.#revoke(ownerships),
      lost: (ownerships) => this.#lost(ownerships),
      failed: (error) => this.#fail(error),
    };
  }

  #matching(): string[] {
    const { topics, patterns } = this.#subscription;
    if (patterns.length === 0) return [...topics];
    const names = [...this.#broker.topics.all()].map(({ name }) => name);
    const matching = names.filter((name) => patterns.some((pattern) => pattern.test(name)));
    return [...new Set([...topics, ...matching])];
  }

  #topicsChanged(): boolean {
    if (this.#subscription.patterns.length === 0) return false;
    const before = new Set(this.#topics);
    this.#topics = this.#matching();
    const added = this.#topics.filter((topic) => !before.has(topic));
    for (const topic of added) this.#awaited.add(topic);
    return added.length > 0 || this.#topics.length < before.size;
  }

  /** Wants other topics from now on. */
  resubscribe(subscription: Subscription): void {
    this.#subscription = subscription;
    this.#topics = this.#matching();
    // To join again is to say so.
    if (this.#state === 'member') {
      this.#broker.coordinator.join(this.#group.groupId, this.#native);
    }
  }

  /** @throws INCONSISTENT_GROUP_PROTOCOL */
  join(): void {
    // While it was expelled nobody told it of topics.
    this.#topicsChanged();
    this.#broker.coordinator.join(this.#group.groupId, this.#native);
    this.#state = 'member';
    this.#silentChecks = 0;
    this.#watch();
  }

  /** Resolves when the member has its target and the start of each partition is fixed and committed. */
  async ready(): Promise<void> {
    const { groupId } = this.#group;
    await this.#broker.coordinator.settled(groupId, this.#native.memberId);
    await this.#starting;
  }

  leave(): void {
    if (this.#state === 'member') {
      this.#broker.coordinator.leave(this.#group.groupId, this.#native.memberId);
    }
    this.#end();
    this.#owned.clear();
  }

  #end(): void {
    this.#timer?.cancel();
    this.#state = 'left';
  }

  #fail(cause: unknown): void {
    this.#end();
    const { groupId } = this.#group;
    this.#listener.failed(
      cause instanceof OttlaError
        ? cause
        : new OttlaError('UNKNOWN_SERVER_ERROR', `group ${groupId}: ${inWords(cause)}`, { cause }),
    );
  }

  /** The user's code has come back. */
  alive(): void {
    this.#cameBack = true;
    if (this.#state !== 'expelled') return;
    try {
      this.join();
    } catch (error) {
      this.#fail(error);
    }
  }

  #watch(): void {
    const { maxPollIntervalMs, groupId } = this.#group;
    this.#timer = this.#broker.clock.after(maxPollIntervalMs / pollChecks, () => {
      if (this.#cameBack || !this.#listener.isAtWork()) this.#silentChecks = 0;
      else this.#silentChecks++;
      this.#cameBack = false;
      const who = `member ${this.#native.memberId} of group ${groupId}`;
      if (this.#silentChecks === warnAfterChecks) {
        this.#warn(`${who} has not asked for records for half of its maxPollIntervalMs`);
      }
      if (this.#silentChecks < pollChecks) {
        this.#watch();
        return;
      }
      this.#warn(
        `${who} has not asked for records for ${maxPollIntervalMs} ms, its maxPollIntervalMs: its partitions go to others until it does`,
      );
      this.#expel();
    });
  }

  #expel(): void {
    this.#timer?.cancel();
    this.#state = 'expelled';
    this.#broker.coordinator.expel(this.#group.groupId, this.#native.memberId);
  }

  /** As if it had not asked for records for too long. False: another one is meant, or it is none now. */
  fence(memberId: string = this.#native.memberId): boolean {
    if (memberId !== this.#native.memberId || this.#state !== 'member') return false;
    this.#expel();
    return true;
  }

  #granted(ownerships: readonly Ownership[]): void {
    for (const ownership of ownerships) this.#owned.set(keyOf(ownership), ownership);
    this.#starting = this.#start(ownerships, this.#starting);
  }

  /** Where each granted partition begins: at its commit, else where `from` says, which is committed. */
  async #start(ownerships: readonly Ownership[], previous: Promise<void>): Promise<void> {
    await previous;
    const { groupId } = this.#group;
    try {
      // A commit of the last owner may still be on its way to the disk, and show after ours.
      await this.#broker.offsets.written(groupId);
      const positions = [];
      const resolved = [];
      for (const ownership of ownerships) {
        const { topic, partition, number } = ownership;
        const committed = this.committed(ownership)?.offset ?? -1;
        const offset = committed >= 0 ? committed : await this.#initialOffset(ownership);
        if (offset === null) continue;
        positions.push({ topic, partition, offset, ownership: number });
        if (committed < 0) resolved.push({ topic, partition, offset, ownership: number });
      }
      // What moved on meanwhile is its new owner's to commit.
      const mine = resolved.filter((position) => this.#owns(position));
      if (mine.length > 0) await this.commit(mine);
      const stillOwned = positions.filter(
        (position) => this.#owns(position) && !this.#revocations.has(position.ownership),
      );
      if (stillOwned.length > 0) await this.#listener.assigned(stillOwned);
    } catch (error) {
      if (!ownerships.some((ownership) => this.#owned.get(keyOf(ownership)) === ownership)) return;
      this.#broker.coordinator.expel(groupId, this.#native.memberId);
      this.#fail(error);
    }
  }

  /** null: it is not owned any more, which may be because there is no such partition any more. */
  async #initialOffset(ownership: Ownership): Promise<number | null> {
    const { topic, partition: index, number, isAdded } = ownership;
    const isOwned = (): boolean => this.#owns({ topic, partition: index, ownership: number });
    if (!isOwned()) return null;
    const partition = this.#broker.topics.partition(ownership);
    const isNew = isAdded || this.#awaited.has(topic);
    const isEarliest =
      this.#subscription.fromEarliest.includes(topic) || (isNew && typeof this.#from === 'string');
    const from = isEarliest ? 'earliest' : this.#from;
    const now = this.#broker.clock.now();
    const { isolation } = this.#group;
    const offset = await offsetFor(partition, from, now, isolation).catch((error: unknown) => {
      if (isOwned()) throw error;
      return null;
    });
    if (offset !== null || !isOwned()) return offset;
    throw new OttlaError(
      'NO_OFFSET_FOR_PARTITION',
      `group ${this.#group.groupId} has committed nothing for ${partition.name}, and from is 'none'`,
    );
  }

  #owns(position: TopicPartition & { readonly ownership: number }): boolean {
    const { topic, partition, ownership: number } = position;
    return this.#broker.coordinator.owns(this.#group.groupId, { topic, partition, number });
  }

  #revoke(ownerships: readonly Ownership[]): boolean {
    const controller = new AbortController();
    for (const { number } of ownerships) this.#revocations.set(number, controller);
    const { busy, released } = this.#listener.revoked(ownerships.map(placeOf), controller.signal);
    const release = (): void => {
      for (const ownership of ownerships) this.#forget(ownership);
      this.#broker.coordinator.released(this.#group.groupId, ownerships);
    };
    released.then(release, (error: unknown) => {
      this.#warn(
        `group ${this.#group.groupId}: what was processed last could not be committed before its partitions moved: ${String(error)}`,
      );
      release();
    });
    return busy;
  }

  #lost(ownerships: readonly Ownership[]): void {
    for (const ownership of ownerships) {
      this.#revocations.get(ownership.number)?.abort();
      this.#forget(ownership);
    }
    this.#listener.lost(ownerships.map(placeOf));
  }

  #forget(ownership: Ownership): void {
    this.#revocations.delete(ownership.number);
    const key = keyOf(ownership);
    if (this.#owned.get(key) === ownership) this.#owned.delete(key);
  }

  committed(at: TopicPartition): Committed | undefined {
    const topic = this.#broker.topics.find(at.topic);
    if (topic === undefined) return undefined;
    return this.#broker.offsets.fetch(this.#group.groupId, topic.id, at.partition);
  }

  /** @throws ILLEGAL_GENERATION, writing nothing, unless all are owned since without a break */
  async commit(positions: readonly OwnedPosition[]): Promise<void> {
    this.#refuseLost(positions);
    await this.#broker.offsets.commit(this.#group.groupId, this.#offsetsAt(positions));
  }

  /** What a transaction commits of these. Whether they are owned is checked when it is taken in, and at the end. */
  pendingCommit(positions: readonly OwnedPosition[]): PendingCommit {
    return {
      group: this.#group.groupId,
      offsets: this.#offsetsAt(positions),
      check: () => this.#refuseLost(positions),
    };
  }

  #refuseLost(positions: readonly OwnedPosition[]): void {
    for (const position of positions) {
      if (this.#owns(position)) continue;
      const { topic, partition, offset } = position;
      throw new OttlaError(
        'ILLEGAL_GENERATION',
        `group ${this.#group.groupId}: ${topic}-${partition} is no longer this member's; offset ${offset} was not committed`,
      );
    }
  }

  #offsetsAt(positions: readonly OwnedPosition[]): GroupCommit['offsets'] {
    return positions.map(({ topic, partition, offset, metadata = '' }) => {
      const log = this.#broker.topics.partition({ topic, partition });
      const leaderEpoch = log.epochBefore(offset);
      return { topicId: log.topicId, partition, offset, leaderEpoch, metadata };
    });
  }
}

type OwnedPosition = CommitPosition & { readonly ownership: number };

function placeOf({ topic, partition }: TopicPartition): TopicPartition {
  return { topic, partition };
}
