import { keyOf, type TopicPartition } from './assignment.js';
import { assignors, type Assignor } from './assignor.js';
import type { Clock, Timer } from './clock.js';
import { OttlaError } from './errors.js';

/** Kafka's states of a classic group. */
export type GroupState = 'Empty' | 'PreparingRebalance' | 'CompletingRebalance' | 'Stable' | 'Dead';

/** A partition as long as one member owns it without a break. */
export interface Ownership extends TopicPartition {
  /** Different for every stretch of owning. */
  readonly number: number;
  /** The partition came while the group had members for its topic: none of its records is an old one. */
  readonly isAdded: boolean;
}

/**
 * How the coordinator reaches a member of this process. Calls come from within the coordinator: they
 * must not call back into it before they return.
 */
export interface NativeMember {
  readonly memberId: string;
  readonly clientId: string;
  readonly topics: readonly string[];
  readonly assignor: Assignor;
  readonly revokeTimeoutMs: number;
  granted(ownerships: readonly Ownership[]): void;
  /**
   * Finish and commit what is in flight, then call released(). Returns true if that waits for code of
   * the user: then nobody's ready() may wait for it.
   */
  revoke(ownerships: readonly Ownership[]): boolean;
  /** Taken away already; commits of these ownerships are refused. */
  lost(ownerships: readonly Ownership[]): void;
  failed(error: OttlaError): void;
}

/** A member of a group, and what it owns. */
export interface MemberDescription {
  readonly memberId: string;
  readonly clientId: string;
  readonly topics: readonly string[];
  readonly assignment: readonly TopicPartition[];
}

export interface GroupDescription {
  readonly state: GroupState;
  readonly generation: number;
  readonly assignor: string | null;
  readonly members: readonly MemberDescription[];
}

export interface CoordinatorOptions {
  readonly clock: Clock;
  /** undefined: no such topic. */
  readonly partitionCount: (topic: string) => number | undefined;
  /** The last generation of a group that was known before, else 0. */
  readonly lastGeneration: (groupId: string) => number;
  readonly generationBegan: (groupId: string, generation: number) => void;
}

/**
 * Decides who owns which partition in each group. Pure: its time is the injected clock's, and all it
 * does is call its members.
 *
 * Rebalances of members in this process are incremental: the assignor computes a target, only what
 * moves is revoked, and a partition is granted once its last owner has released it. Two members never
 * own one partition at a time.
 */
export class GroupCoordinator {
  readonly #options: CoordinatorOptions;
  readonly #groups = new Map<string, Group>();

  constructor(options: CoordinatorOptions) {
    this.#options = options;
  }

  /** Groups with members here. */
  groupIds(): string[] {
    return [...this.#groups].flatMap(([groupId, { isEmpty }]) => (isEmpty ? [] : [groupId]));
  }

  /**
   * Adds a member; the rebalance follows at the end of this turn, one for all that join in it.
   * @throws INCONSISTENT_GROUP_PROTOCOL when the group's members use another assignor
   */
  join(groupId: string, member: NativeMember): void {
    let group = this.#groups.get(groupId);
    if (group === undefined) {
      group = new Group(groupId, this.#options, () => this.#groups.delete(groupId));
      this.#groups.set(groupId, group);
    }
    group.join(member);
  }

  /** Removes a member that has released its partitions or gives them up unfinished. Fine if it is gone. */
  leave(groupId: string, memberId: string): void {
    this.#groups.get(groupId)?.remove(memberId, false);
  }

  /** Removes a member that does not answer: its partitions are lost to it at once. */
  expel(groupId: string, memberId: string): void {
    this.#groups.get(groupId)?.remove(memberId, true);
  }

  released(groupId: string, ownerships: readonly Ownership[]): void {
    this.#groups.get(groupId)?.released(ownerships);
  }

  /** Whether this stretch of owning the partition still goes on. */
  owns(groupId: string, at: TopicPartition & { readonly number: number }): boolean {
    return this.#groups.get(groupId)?.owns(at) ?? false;
  }

  /** Resolves when the member has its whole target, but for what waits for code of a user elsewhere. */
  settled(groupId: string, memberId: string): Promise<void> {
    return this.#groups.get(groupId)?.settled(memberId) ?? Promise.resolve();
  }

  /** Topics were created or deleted, or have more partitions. */
  topicsChanged(): void {
    for (const group of this.#groups.values()) group.topicsChanged();
  }

  /** undefined: it has no members here. */
  describe(groupId: string): GroupDescription | undefined {
    const group = this.#groups.get(groupId);
    return group === undefined || group.isEmpty ? undefined : group.describe();
  }

  /** The topics that a group's members subscribe to; the owner of each owned partition. */
  subscriptions(groupId: string): Set<string> {
    return this.#groups.get(groupId)?.subscriptions() ?? new Set();
  }

  ownerOf(groupId: string, at: TopicPartition): string | null {
    return this.#groups.get(groupId)?.ownerOf(at) ?? null;
  }
}

interface Owned {
  readonly member: NativeMember;
  readonly ownership: Ownership;
  /** Set while the member is asked to release it. */
  revocation: Revocation | null;
}

interface Target {
  readonly at: TopicPartition;
  readonly memberId: string;
}

interface Revocation {
  readonly busy: boolean;
  readonly timer: Timer;
  /** How many of its partitions are not released yet. */
  pending: number;
}

let lastOwnership = 0;

class Group {
  readonly #groupId: string;
  readonly #options: CoordinatorOptions;
  readonly #emptied: () => void;
  readonly #members = new Map<string, NativeMember>();
  readonly #owned = new Map<string, Owned>();
  readonly #waiting = new Map<string, (() => void)[]>();
  #target = new Map<string, Target>();
  /** Partition counts that the target was computed for; 0 where there is no such topic. */
  readonly #counts = new Map<string, number>();
  readonly #added = new Set<string>();
  #generation: number;
  #rebalanceDue = false;

  constructor(groupId: string, options: CoordinatorOptions, emptied: () => void) {
    this.#groupId = groupId;
    this.#options = options;
    this.#emptied = emptied;
    this.#generation = options.lastGeneration(groupId);
  }

  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  join(member: NativeMember): void {
    for (const other of this.#members.values()) {
      if (other.assignor.name === member.assignor.name) continue;
      throw new OttlaError(
        'INCONSISTENT_GROUP_PROTOCOL',
        `group ${this.#groupId}: its members use assignor ${other.assignor.name}, got ${member.assignor.name}`,
      );
    }
    this.#members.set(member.memberId, member);
    this.#scheduleRebalance();
  }

  remove(memberId: string, lost: boolean): void {
    const member = this.#members.get(memberId);
    if (member === undefined) return;
    this.#members.delete(memberId);
    const gone = [...this.#owned.values()].filter((owned) => owned.member === member);
    for (const { ownership } of gone) this.#disown(ownership);
    if (lost) member.lost(gone.map(({ ownership }) => ownership));
    this.#settle(memberId);
    this.#scheduleRebalance();
  }

  topicsChanged(): void {
    let isAffected = false;
    for (const [topic, before] of this.#counts) {
      const count = this.#options.partitionCount(topic) ?? 0;
      if (count === before) continue;
      isAffected = true;
      this.#counts.set(topic, count);
      for (let partition = before; partition < count; partition++) {
        this.#added.add(keyOf({ topic, partition }));
      }
    }
    if (!isAffected) return;
    const gone = [...this.#owned.values()].filter(
      ({ ownership }) =>
        ownership.partition >= (this.#options.partitionCount(ownership.topic) ?? 0),
    );
    this.#lose(gone);
    this.#scheduleRebalance();
  }

  released(ownerships: readonly Ownership[]): void {
    for (const ownership of ownerships) {
      if (this.owns(ownership)) this.#disown(ownership);
    }
    this.#moveToTarget();
  }

  owns(at: TopicPartition & { readonly number: number }): boolean {
    return this.#owned.get(keyOf(at))?.ownership.number === at.number;
  }

  ownerOf(at: TopicPartition): string | null {
    return this.#owned.get(keyOf(at))?.member.memberId ?? null;
  }

  subscriptions(): Set<string> {
    return new Set([...this.#members.values()].flatMap(({ topics }) => topics));
  }

  settled(memberId: string): Promise<void> {
    if (!this.#members.has(memberId) || this.#isSettled(memberId)) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(memberId);
      if (waiting === undefined) this.#waiting.set(memberId, [resolve]);
      else waiting.push(resolve);
    });
  }

  describe(): GroupDescription {
    return {
      state: this.#state(),
      generation: this.#generation,
      assignor: this.#members.values().next().value?.assignor.name ?? null,
      members: [...this.#members.values()].map(({ memberId, clientId, topics }) => ({
        memberId,
        clientId,
        topics,
        assignment: this.#ownedBy(memberId),
      })),
    };
  }

  #state(): GroupState {
    if (this.#rebalanceDue) return 'PreparingRebalance';
    for (const memberId of this.#members.keys()) {
      for (const { at, memberId: target } of this.#target.values()) {
        if (target === memberId && this.ownerOf(at) !== memberId) return 'CompletingRebalance';
      }
    }
    return 'Stable';
  }

  #ownedBy(memberId: string): TopicPartition[] {
    const result: TopicPartition[] = [];
    for (const { member, ownership } of this.#owned.values()) {
      const { topic, partition } = ownership;
      if (member.memberId === memberId) result.push({ topic, partition });
    }
    return result;
  }

  #scheduleRebalance(): void {
    if (this.#rebalanceDue) return;
    this.#rebalanceDue = true;
    this.#options.clock.soon(() => this.#rebalance());
  }

  #rebalance(): void {
    this.#rebalanceDue = false;
    this.#generation++;
    this.#options.generationBegan(this.#groupId, this.#generation);
    if (this.isEmpty) {
      this.#emptied();
      return;
    }
    try {
      this.#target = this.#computeTarget();
    } catch (cause) {
      this.#dissolve(cause);
      return;
    }
    this.#moveToTarget();
  }

  /** @throws whatever the assignor throws; a TypeError when its result is no assignment */
  #computeTarget(): Map<string, Target> {
    const partitions: Record<string, number> = Object.create(null);
    this.#counts.clear();
    for (const topic of this.subscriptions()) {
      const count = this.#options.partitionCount(topic);
      this.#counts.set(topic, count ?? 0);
      if (count !== undefined) partitions[topic] = count;
    }
    const members = [...this.#members.values()];
    const { assignor } = members[0]!;
    // Members of this process give up what moves before anybody gets it: nothing need be withheld.
    const chosen = assignor === assignors.cooperativeSticky ? assignors.sticky : assignor;
    const result = chosen.assign({
      partitions,
      members: members.map(({ memberId, topics }) => ({
        memberId,
        topics,
        owned: this.#ownedBy(memberId),
        generation: this.#generation - 1,
      })),
    });
    const target = new Map<string, Target>();
    for (const [memberId, assigned] of result) {
      const topics = this.#members.get(memberId)?.topics;
      for (const { topic, partition } of assigned) {
        const key = keyOf({ topic, partition });
        const exists = Number.isInteger(partition) && partition >= 0;
        if (
          topics?.includes(topic) !== true ||
          !exists ||
          partition >= (partitions[topic] ?? 0) ||
          target.has(key)
        ) {
          throw new TypeError(
            `assignor ${assignor.name} gave ${topic}-${partition} to ${memberId}: not a partition of its topics, or given twice`,
          );
        }
        target.set(key, { at: { topic, partition }, memberId });
      }
    }
    return target;
  }

  /** The assignor failed: the group cannot go on with it, so every member learns why. */
  #dissolve(cause: unknown): void {
    const message = cause instanceof Error ? cause.message : String(cause);
    const error = new OttlaError(
      'INCONSISTENT_GROUP_PROTOCOL',
      `group ${this.#groupId}: the assignor failed: ${message}`,
      { cause },
    );
    for (const member of this.#members.values()) {
      this.remove(member.memberId, true);
      member.failed(error);
    }
  }

  /** Revokes what must move, grants what is free, and tells who waits for its assignment to be whole. */
  #moveToTarget(): void {
    if (this.#rebalanceDue) return;
    const revoked = new Map<NativeMember, Owned[]>();
    for (const [key, owned] of this.#owned) {
      if (this.#target.get(key)?.memberId === owned.member.memberId) continue;
      if (owned.revocation !== null) continue;
      const list = revoked.get(owned.member);
      if (list === undefined) revoked.set(owned.member, [owned]);
      else list.push(owned);
    }
    for (const [member, list] of revoked) this.#revoke(member, list);
    const granted = new Map<NativeMember, Ownership[]>();
    for (const [key, { at, memberId }] of this.#target) {
      const member = this.#members.get(memberId);
      if (member === undefined || this.#owned.has(key)) continue;
      const ownership = { ...at, number: ++lastOwnership, isAdded: this.#added.has(key) };
      this.#owned.set(key, { member, ownership, revocation: null });
      const list = granted.get(member);
      if (list === undefined) granted.set(member, [ownership]);
      else list.push(ownership);
    }
    for (const [member, ownerships] of granted) member.granted(ownerships);
    for (const memberId of this.#waiting.keys()) {
      if (this.#isSettled(memberId)) this.#settle(memberId);
    }
  }

  #revoke(member: NativeMember, list: readonly Owned[]): void {
    const busy = member.revoke(list.map(({ ownership }) => ownership));
    const timer = this.#options.clock.after(member.revokeTimeoutMs, () => {
      this.#lose(list);
      this.#moveToTarget();
    });
    const revocation = { busy, timer, pending: list.length };
    for (const owned of list) owned.revocation = revocation;
  }

  #disown(ownership: Ownership): void {
    const key = keyOf(ownership);
    const revocation = this.#owned.get(key)?.revocation;
    this.#owned.delete(key);
    if (revocation != null && --revocation.pending === 0) revocation.timer.cancel();
  }

  #lose(list: readonly Owned[]): void {
    const lost = new Map<NativeMember, Ownership[]>();
    for (const { member, ownership } of list) {
      if (!this.owns(ownership)) continue;
      this.#disown(ownership);
      const ownerships = lost.get(member);
      if (ownerships === undefined) lost.set(member, [ownership]);
      else ownerships.push(ownership);
    }
    for (const [member, ownerships] of lost) member.lost(ownerships);
  }

  #isSettled(memberId: string): boolean {
    if (this.#rebalanceDue) return false;
    for (const [key, { memberId: target }] of this.#target) {
      if (target !== memberId) continue;
      const owned = this.#owned.get(key);
      if (owned === undefined) return false;
      const isMine = owned.member.memberId === memberId && owned.revocation === null;
      if (!isMine && owned.revocation?.busy !== true) return false;
    }
    return true;
  }

  #settle(memberId: string): void {
    const waiting = this.#waiting.get(memberId) ?? [];
    this.#waiting.delete(memberId);
    for (const resolve of waiting) resolve();
  }
}
