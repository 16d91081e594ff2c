import { keyOf, type TopicPartition } from './assignment.js';
import type { Assignor } from './assignor.js';
import type { Clock, Timer } from './clock.js';
import type { OttlaError } from './errors.js';

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
  /** Read at every rebalance. */
  readonly topics: readonly string[];
  /** Topics were created or deleted. Returns whether `topics` are others since. */
  topicsChanged(): boolean;
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

/** The member that a partition is meant for, here or elsewhere. */
export interface Target {
  readonly at: TopicPartition;
  readonly memberId: string;
}

interface Owned {
  readonly member: NativeMember;
  readonly ownership: Ownership;
  /** Set while the member is asked to release it. */
  revocation: Revocation | null;
}

interface Revocation {
  readonly busy: boolean;
  readonly timer: Timer;
  /** How many of its partitions are not released yet. */
  pending: number;
}

let lastOwnership = 0;

/**
 * The members of one group that live in this process, and what they own on the way to a target: only what
 * moves is revoked, and a partition is granted once its last owner has released it. Two members never own
 * one partition at a time.
 */
export class NativeMembers {
  readonly #clock: Clock;
  readonly #moved: () => void;
  readonly #members = new Map<string, NativeMember>();
  readonly #owned = new Map<string, Owned>();
  readonly #waiting = new Map<string, (() => void)[]>();
  /** By member here: how much of its target it has not, which waits for no code of a user. */
  readonly #missing = new Map<string, number>();
  /** How much of what members here own is meant for members elsewhere. */
  #owedCount = 0;
  #target: ReadonlyMap<string, Target> = new Map();
  #isAdded: (at: TopicPartition) => boolean = () => false;
  /** A new target is being waited for: until then nothing moves. */
  #isHeld = false;

  /** @param moved called each time that partitions may have got nearer to their target */
  constructor(clock: Clock, moved: () => void) {
    this.#clock = clock;
    this.#moved = moved;
  }

  get size(): number {
    return this.#members.size;
  }

  [Symbol.iterator](): IterableIterator<NativeMember> {
    return this.#members.values();
  }

  has(memberId: string): boolean {
    return this.#members.has(memberId);
  }

  add(member: NativeMember): void {
    this.#members.set(member.memberId, member);
  }

  /** Returns false if there is no such member. */
  remove(memberId: string, isLost: boolean): boolean {
    const member = this.#members.get(memberId);
    if (member === undefined) return false;
    this.#members.delete(memberId);
    this.#missing.delete(memberId);
    const gone = [...this.#owned.values()].filter((owned) => owned.member === member);
    for (const { ownership } of gone) this.#disown(ownership);
    if (isLost) member.lost(gone.map(({ ownership }) => ownership));
    this.#settle(memberId);
    return true;
  }

  /** Nothing moves until the next target is there. */
  hold(): void {
    this.#isHeld = true;
  }

  moveTo(target: ReadonlyMap<string, Target>, isAdded: (at: TopicPartition) => boolean): void {
    this.#target = target;
    this.#isAdded = isAdded;
    this.#isHeld = false;
    this.#revokeAll();
    this.#grant(target.keys());
    this.#count();
    this.#settleAll(this.#waiting.keys());
    this.#moved();
  }

  released(ownerships: readonly Ownership[]): void {
    const released = ownerships.filter((ownership) => this.owns(ownership));
    this.#take(released);
    this.#giveOn(released);
  }

  /** Topics were created or deleted. Whether a member asks for others since. */
  topicsChanged(): boolean {
    let isAffected = false;
    for (const member of this.#members.values()) {
      if (member.topicsChanged()) isAffected = true;
    }
    return isAffected;
  }

  /** Takes away what is not there any more. */
  loseMissing(partitionCount: (topic: string) => number | undefined): void {
    this.#lose(
      [...this.#owned.values()].filter(
        ({ ownership }) => ownership.partition >= (partitionCount(ownership.topic) ?? 0),
      ),
    );
  }

  owns(at: TopicPartition & { readonly number: number }): boolean {
    return this.#owned.get(keyOf(at))?.ownership.number === at.number;
  }

  ownerOf(at: TopicPartition): string | null {
    return this.#owned.get(keyOf(at))?.member.memberId ?? null;
  }

  /** What each member owns; those that own nothing are left out. */
  owned(): Map<string, TopicPartition[]> {
    const result = new Map<string, TopicPartition[]>();
    for (const { member, ownership } of this.#owned.values()) {
      const { topic, partition } = ownership;
      addTo(result, member.memberId, { topic, partition });
    }
    return result;
  }

  /** Whether each member here has its whole target. */
  get isAtTarget(): boolean {
    for (const [key, { memberId }] of this.#target) {
      if (!this.#members.has(memberId)) continue;
      if (this.#owned.get(key)?.member.memberId !== memberId) return false;
    }
    return true;
  }

  /** Whether nobody here still has what is meant for a member elsewhere. */
  get hasGivenUp(): boolean {
    return this.#owedCount === 0;
  }

  /** Resolves when the member has its whole target, but for what waits for code of a user elsewhere. */
  settled(memberId: string): Promise<void> {
    if (!this.#members.has(memberId) || this.#isSettled(memberId)) return Promise.resolve();
    return new Promise((resolve) => addTo(this.#waiting, memberId, resolve));
  }

  #revokeAll(): void {
    const revoked = new Map<NativeMember, Owned[]>();
    for (const [key, owned] of this.#owned) {
      if (this.#target.get(key)?.memberId === owned.member.memberId) continue;
      if (owned.revocation !== null) continue;
      addTo(revoked, owned.member, owned);
    }
    for (const [member, list] of revoked) this.#revoke(member, list);
  }

  /** Gives those of these that are free to whoever they are meant for. */
  #grant(keys: Iterable<string>): void {
    const granted = new Map<NativeMember, Ownership[]>();
    for (const key of keys) {
      const { at, memberId } = this.#target.get(key) ?? {};
      const member = memberId === undefined ? undefined : this.#members.get(memberId);
      if (at === undefined || member === undefined || this.#owned.has(key)) continue;
      const ownership = { ...at, number: ++lastOwnership, isAdded: this.#isAdded(at) };
      this.#owned.set(key, { member, ownership, revocation: null });
      addTo(granted, member, ownership);
    }
    for (const [member, ownerships] of granted) member.granted(ownerships);
  }

  /** What is missing now that the target is another. */
  #count(): void {
    this.#missing.clear();
    this.#owedCount = 0;
    for (const [key, { memberId }] of this.#target) this.#countOne(key, memberId, 1);
  }

  #countOne(key: string, memberId: string, by: 1 | -1): void {
    const owned = this.#owned.get(key);
    if (owned === undefined) return;
    if (!this.#members.has(memberId)) this.#owedCount += by;
    else if (owned.revocation?.busy === false) {
      this.#missing.set(memberId, (this.#missing.get(memberId) ?? 0) + by);
    }
  }

  /** Takes these from their owners. */
  #take(ownerships: readonly Ownership[]): void {
    for (const ownership of ownerships) {
      const key = keyOf(ownership);
      const target = this.#target.get(key);
      if (target !== undefined) this.#countOne(key, target.memberId, -1);
      this.#disown(ownership);
    }
  }

  /** Grants what was taken; the rest of the target is not looked at, however large. */
  #giveOn(taken: readonly Ownership[]): void {
    if (this.#isHeld) return;
    const keys = taken.map(keyOf);
    this.#grant(keys);
    this.#settleAll(keys.flatMap((key) => this.#target.get(key)?.memberId ?? []));
    this.#moved();
  }

  #revoke(member: NativeMember, list: readonly Owned[]): void {
    const busy = member.revoke(list.map(({ ownership }) => ownership));
    const timer = this.#clock.after(member.revokeTimeoutMs, () => {
      this.#giveOn(this.#lose(list));
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

  /** @returns what was lost of it: the rest was released before */
  #lose(list: readonly Owned[]): Ownership[] {
    const taken: Ownership[] = [];
    const lost = new Map<NativeMember, Ownership[]>();
    for (const { member, ownership } of list) {
      if (!this.owns(ownership)) continue;
      taken.push(ownership);
      addTo(lost, member, ownership);
    }
    this.#take(taken);
    for (const [member, ownerships] of lost) member.lost(ownerships);
    return taken;
  }

  #isSettled(memberId: string): boolean {
    return !this.#isHeld && (this.#missing.get(memberId) ?? 0) === 0;
  }

  /** Tells those of these who wait for their assignment to be whole. */
  #settleAll(memberIds: Iterable<string>): void {
    for (const memberId of memberIds) if (this.#isSettled(memberId)) this.#settle(memberId);
  }

  #settle(memberId: string): void {
    const waiting = this.#waiting.get(memberId) ?? [];
    this.#waiting.delete(memberId);
    for (const resolve of waiting) resolve();
  }
}

function addTo<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
