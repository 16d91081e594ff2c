import { keyOf, type AssignorMember, type TopicPartition } from './assignment.js';
import { assignors, type Assignor } from './assignor.js';
import type { NativeMembers, Target } from './group-native.js';
import { decodeAssignment, previousAssignment } from './group-protocol.js';
import type { RemoteMembers } from './group-remote.js';

interface MemberToAssign {
  readonly asked: AssignorMember;
  /** What it goes on reading until it has its next assignment, out of reach: nobody else gets that yet. */
  readonly held: readonly TopicPartition[];
}

/** The coordinator as the leader of a group: who is to own which partition, and of which counts that came. */
export class GroupLeader {
  readonly #partitionCount: (topic: string) => number | undefined;
  /** By key of partition. */
  #target: ReadonlyMap<string, Target> = new Map();
  #isWithholding = false;
  /** Partition counts that the target was computed for; 0 where there is no such topic. */
  readonly #counts = new Map<string, number>();
  /** By topic that the group reads: the first of the partitions that came meanwhile. */
  readonly #addedFrom = new Map<string, number>();

  constructor(partitionCount: (topic: string) => number | undefined) {
    this.#partitionCount = partitionCount;
  }

  get target(): ReadonlyMap<string, Target> {
    return this.#target;
  }

  /** Something is nobody's because another member still holds it: a further generation gives it out. */
  get isWithholding(): boolean {
    return this.#isWithholding;
  }

  /** Whether a partition came while the group read its topic, without a break since. */
  readonly isAdded = ({ topic, partition }: TopicPartition): boolean => {
    const from = this.#addedFrom.get(topic);
    return from !== undefined && partition >= from;
  };

  /** It does not lead any more. */
  resign(): void {
    this.#counts.clear();
    this.#target = new Map();
    this.#isWithholding = false;
  }

  /** Whether the target was computed for other topics than there are now. */
  topicsChanged(): boolean {
    let isAffected = false;
    for (const [topic, before] of this.#counts) {
      const count = this.#partitionCount(topic) ?? 0;
      if (count === before) continue;
      isAffected = true;
      this.#counts.set(topic, count);
      // One that was deleted comes back as a new one.
      const from = Math.min(this.#addedFrom.get(topic) ?? count, before, count);
      this.#addedFrom.set(topic, from);
    }
    return isAffected;
  }

  /**
   * @param generation the one in which members got what they own
   * @throws whatever the assignor throws; a TypeError when its result is no assignment
   */
  assign(
    natives: NativeMembers,
    remotes: RemoteMembers,
    protocolName: string,
    generation: number,
  ): void {
    const members = [
      ...nativesToAssign(natives, generation),
      ...remotesToAssign(remotes, protocolName, natives),
    ];
    const topics = new Set(members.flatMap(({ asked }) => asked.topics));
    const [native] = natives;
    const target = targetOf(native!.assignor, members, this.#countPartitions(topics));
    this.#isWithholding = withhold(target, members);
    this.#target = target;
  }

  #countPartitions(topics: ReadonlySet<string>): Record<string, number> {
    const partitions: Record<string, number> = Object.create(null);
    this.#counts.clear();
    for (const topic of this.#addedFrom.keys()) {
      if (!topics.has(topic)) this.#addedFrom.delete(topic);
    }
    for (const topic of topics) {
      const count = this.#partitionCount(topic);
      this.#counts.set(topic, count ?? 0);
      if (count !== undefined) partitions[topic] = count;
    }
    return partitions;
  }

  /** The target by member. */
  shares(): Map<string, TopicPartition[]> {
    const shares = new Map<string, TopicPartition[]>();
    for (const { at, memberId } of this.#target.values()) {
      const share = shares.get(memberId);
      if (share === undefined) shares.set(memberId, [at]);
      else share.push(at);
    }
    return shares;
  }

  /** A member goes on under another id. */
  rename(before: string, now: string): void {
    const target = new Map<string, Target>();
    for (const [key, { at, memberId }] of this.#target) {
      target.set(key, { at, memberId: memberId === before ? now : memberId });
    }
    this.#target = target;
  }
}

function nativesToAssign(natives: NativeMembers, generation: number): MemberToAssign[] {
  const owned = natives.owned();
  return [...natives].map(({ memberId, topics }) => ({
    asked: { memberId, topics, owned: owned.get(memberId) ?? [], generation },
    held: [],
  }));
}

function remotesToAssign(
  remotes: RemoteMembers,
  protocolName: string,
  natives: NativeMembers,
): MemberToAssign[] {
  return [...remotes].map((member) => {
    const { memberId } = member;
    const groupInstanceId = member.groupInstanceId ?? undefined;
    const subscription = member.subscription(protocolName)!;
    const { topics } = subscription;
    const previous = previousAssignment(protocolName, subscription);
    // A static one that is not back has given up nothing.
    const held = member.hasJoined
      ? subscription.owned
      : (decodeAssignment(member.assignment) ?? []);
    return {
      asked: { memberId, groupInstanceId, topics, ...previous },
      // Members here were given what they own: who else claims it is behind the times.
      held: held.filter((at) => natives.ownerOf(at) === null),
    };
  });
}

function targetOf(
  assignor: Assignor,
  members: readonly MemberToAssign[],
  partitions: Readonly<Record<string, number>>,
): Map<string, Target> {
  // Members of this process give up what moves before anybody gets it, and what others hold is withheld
  // below: the assignor need not do so.
  const chosen = assignor === assignors.cooperativeSticky ? assignors.sticky : assignor;
  const asked = members.map((member) => member.asked);
  const topicsOf = new Map(asked.map(({ memberId, topics }) => [memberId, new Set(topics)]));
  const target = new Map<string, Target>();
  for (const [memberId, assigned] of chosen.assign({ partitions, members: asked })) {
    const topics = topicsOf.get(memberId);
    for (const { topic, partition } of assigned) {
      const key = keyOf({ topic, partition });
      const exists = Number.isInteger(partition) && partition >= 0;
      if (
        topics?.has(topic) !== true ||
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

/** Takes out of the target what somebody else holds. False: nothing. */
function withhold(target: Map<string, Target>, members: readonly MemberToAssign[]): boolean {
  const before = target.size;
  for (const { asked, held } of members) {
    for (const at of held) {
      const meant = target.get(keyOf(at));
      if (meant !== undefined && meant.memberId !== asked.memberId) target.delete(keyOf(at));
    }
  }
  return target.size < before;
}
