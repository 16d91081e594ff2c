import type { TopicPartition } from './assignment.js';
import type { Clock } from './clock.js';
import { OttlaError } from './errors.js';
import {
  ConsumerGroup,
  refusedHeartbeat,
  refuseHeartbeat,
  type ConsumerGroupDescription,
  type ConsumerGroupEnvironment,
  type ConsumerHeartbeatAnswer,
  type ConsumerHeartbeatRequest,
  type GroupTopic,
} from './group-consumer.js';
import type { NativeMember, Ownership } from './group-native.js';
import { decodeAssignment, encodeAssignment, encodeSubscription } from './group-protocol.js';
import {
  defaultGroupLimits,
  refusedJoin,
  refusedSync,
  type GroupErrorCode,
  type GroupLimits,
  type JoinGroupAnswer,
  type JoinGroupRequest,
  type MemberIdentity,
  type SyncGroupAnswer,
  type SyncGroupRequest,
} from './group-remote.js';
import {
  Group,
  type ClassicGroupState,
  type GenerationBegun,
  type GroupEnvironment,
  type GroupType,
} from './group-state.js';
import { anId } from './options.js';

export type { ConsumerMemberDescription, GroupTopic, NamedPartition } from './group-consumer.js';
export type { NativeMember, Ownership } from './group-native.js';
export type { GenerationBegun, GroupType } from './group-state.js';

/** Kafka's states of a group. 'Reconciling': of the consumer protocol (KIP-848). */
export type GroupState =
  | 'Empty'
  | 'PreparingRebalance'
  | 'CompletingRebalance'
  | 'Reconciling'
  | 'Stable'
  | 'Dead';

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

/** A group as DescribeGroups shows it, its members' words in bytes. */
export interface GroupInBytes {
  readonly state: ClassicGroupState;
  readonly protocolType: string;
  /** '' unless it is Stable. */
  readonly protocolName: string;
  readonly members: readonly MemberInBytes[];
}

export interface MemberInBytes extends MemberIdentity {
  readonly clientId: string;
  readonly clientHost: string;
  readonly metadata: Buffer;
  readonly assignment: Buffer;
}

export interface CoordinatorOptions {
  readonly clock: Clock;
  readonly findTopic: (name: string) => GroupTopic | undefined;
  readonly topics: () => Iterable<GroupTopic>;
  readonly newMemberId: (prefix: string) => string;
  /** The last generation of a group that was known before, else 0. */
  readonly lastGeneration: (groupId: string) => number;
  readonly generationBegan: (groupId: string, begun: GenerationBegun) => void;
}

/**
 * Decides who owns which partition in each group. Pure: its time is the injected clock's, and all it does is
 * call its members and answer.
 *
 * It has three doors. Members of this process join with an object that is called; their rebalances are
 * incremental, as NativeMembers says. Members elsewhere go through Kafka's classic protocol (JoinGroup,
 * SyncGroup, Heartbeat, LeaveGroup), or through the consumer protocol (ConsumerGroupHeartbeat). Those of the
 * consumer protocol share no group with others: as long as a group has members, it is of one type.
 */
export class GroupCoordinator {
  /** Bounds for members that are reached over the wire. */
  limits: GroupLimits = defaultGroupLimits;
  readonly #options: CoordinatorOptions;
  readonly #groups = new Map<string, Group>();
  readonly #consumers = new Map<string, ConsumerGroup>();

  constructor(options: CoordinatorOptions) {
    this.#options = options;
  }

  #groupOf(groupId: string): Group {
    let group = this.#groups.get(groupId);
    if (group !== undefined) return group;
    const { clock, findTopic, newMemberId, lastGeneration, generationBegan } = this.#options;
    const env: GroupEnvironment = {
      clock,
      partitionCount: (topic) => findTopic(topic)?.partitionCount,
      newMemberId,
      limits: () => this.limits,
      generationBegan: (begun) => generationBegan(groupId, begun),
      emptied: () => this.#groups.delete(groupId),
    };
    group = new Group(groupId, lastGeneration(groupId), env);
    this.#groups.set(groupId, group);
    return group;
  }

  /** Groups with members, wherever these are. */
  groupIds(): string[] {
    return [...this.#idsOf((group) => group.memberCount > 0), ...this.#consumers.keys()];
  }

  /** undefined: it has no members. */
  typeOf(groupId: string): GroupType | undefined {
    if (this.#consumers.has(groupId)) return 'consumer';
    return (this.#groups.get(groupId)?.memberCount ?? 0) > 0 ? 'classic' : undefined;
  }

  /** Whether a group has members, or expects some. */
  has(groupId: string): boolean {
    if (this.#consumers.has(groupId)) return true;
    const group = this.#groups.get(groupId);
    return group !== undefined && group.memberCount + group.remotes.pendingCount > 0;
  }

  /** Groups with members in this process. */
  nativeGroupIds(): string[] {
    return this.#idsOf((group) => group.natives.size > 0);
  }

  #idsOf(isWanted: (group: Group) => boolean): string[] {
    return [...this.#groups].flatMap(([groupId, group]) => (isWanted(group) ? [groupId] : []));
  }

  /**
   * Adds a member of this process; the rebalance follows at the end of this turn, one for all that join
   * in it.
   * @throws INCONSISTENT_GROUP_PROTOCOL when the group's members use another assignor, or the consumer protocol
   */
  join(groupId: string, member: NativeMember): void {
    if (this.#consumers.has(groupId)) {
      throw new OttlaError(
        'INCONSISTENT_GROUP_PROTOCOL',
        `group ${groupId} has members of the consumer protocol (KIP-848): nobody else can join it`,
      );
    }
    this.#groupOf(groupId).addNative(member);
  }

  /** Removes a member that has released its partitions or gives them up unfinished. Fine if it is gone. */
  leave(groupId: string, memberId: string): void {
    this.#groups.get(groupId)?.removeNative(memberId, false);
  }

  /** Removes a member that does not answer: its partitions are lost to it at once. */
  expel(groupId: string, memberId: string): void {
    this.#groups.get(groupId)?.removeNative(memberId, true);
  }

  released(groupId: string, ownerships: readonly Ownership[]): void {
    this.#groups.get(groupId)?.natives.released(ownerships);
  }

  /** Whether this stretch of owning the partition still goes on. */
  owns(groupId: string, at: TopicPartition & { readonly number: number }): boolean {
    return this.#groups.get(groupId)?.natives.owns(at) ?? false;
  }

  /**
   * Resolves when the member has its whole target, but for what waits for code of a user elsewhere in this
   * process.
   */
  settled(groupId: string, memberId: string): Promise<void> {
    return this.#groups.get(groupId)?.natives.settled(memberId) ?? Promise.resolve();
  }

  /** Topics were created or deleted, or have more partitions. */
  topicsChanged(): void {
    for (const group of this.#groups.values()) group.topicsChanged();
    for (const group of this.#consumers.values()) group.topicsChanged();
  }

  /**
   * Kafka's JoinGroup: held back until all members have joined, or until the rebalance timeout, at most the
   * longest of theirs. Whoever has not joined by then is gone.
   */
  async joinGroup(request: JoinGroupRequest): Promise<JoinGroupAnswer> {
    const { groupId, memberId, sessionTimeoutMs } = request;
    if (!isGroupId(groupId)) return refusedJoin('INVALID_GROUP_ID', memberId);
    const { minSessionTimeoutMs, maxSessionTimeoutMs } = this.limits;
    if (sessionTimeoutMs < minSessionTimeoutMs || sessionTimeoutMs > maxSessionTimeoutMs) {
      return refusedJoin('INVALID_SESSION_TIMEOUT', memberId);
    }
    if (this.#consumers.has(groupId)) return refusedJoin('INCONSISTENT_GROUP_PROTOCOL', memberId);
    if (memberId !== '' && !this.#groups.has(groupId)) {
      return refusedJoin('UNKNOWN_MEMBER_ID', memberId);
    }
    const group = this.#groupOf(groupId);
    const answer = group.join(request);
    group.forgetIfUnused();
    return answer;
  }

  /** Kafka's SyncGroup: held back until the leader has assigned. */
  async syncGroup(request: SyncGroupRequest): Promise<SyncGroupAnswer> {
    if (!isGroupId(request.groupId)) return refusedSync('INVALID_GROUP_ID');
    const group = this.#groups.get(request.groupId);
    return group === undefined ? refusedSync('UNKNOWN_MEMBER_ID') : group.sync(request);
  }

  /** Kafka's Heartbeat: keeps the session; REBALANCE_IN_PROGRESS asks the member to join again. */
  heartbeat(
    groupId: string,
    identity: MemberIdentity,
    generationId: number,
  ): GroupErrorCode | null {
    if (!isGroupId(groupId)) return 'INVALID_GROUP_ID';
    const group = this.#groups.get(groupId);
    return group === undefined ? 'UNKNOWN_MEMBER_ID' : group.heartbeat(identity, generationId);
  }

  /** Kafka's LeaveGroup, for one member; a static one by its instance id alone, if an administrator asks. */
  leaveGroup(groupId: string, identity: MemberIdentity): GroupErrorCode | null {
    if (!isGroupId(groupId)) return 'INVALID_GROUP_ID';
    const group = this.#groups.get(groupId);
    return group === undefined ? 'UNKNOWN_MEMBER_ID' : group.leave(identity);
  }

  /** Kafka's ConsumerGroupHeartbeat (KIP-848): joining, going on, leaving. */
  consumerHeartbeat(request: ConsumerHeartbeatRequest): ConsumerHeartbeatAnswer {
    const { groupId, memberEpoch } = request;
    const refused = refuseHeartbeat(request);
    if (refused !== null) return refused;
    if (!isGroupId(groupId)) return refusedHeartbeat('INVALID_GROUP_ID', 'GroupId is too long.');
    if (this.typeOf(groupId) === 'classic') {
      return refusedHeartbeat('GROUP_ID_NOT_FOUND', `Group ${groupId} is not a consumer group.`);
    }
    let group = this.#consumers.get(groupId);
    if (group === undefined) {
      if (memberEpoch !== 0) {
        return refusedHeartbeat('UNKNOWN_MEMBER_ID', `Group ${groupId} has no members.`);
      }
      group = this.#newConsumerGroup(groupId);
      this.#consumers.set(groupId, group);
    }
    const answer = group.heartbeat(request);
    if (group.size === 0) this.#consumers.delete(groupId);
    return answer;
  }

  #newConsumerGroup(groupId: string): ConsumerGroup {
    const { clock, findTopic, topics, newMemberId, lastGeneration, generationBegan } =
      this.#options;
    const env: ConsumerGroupEnvironment = {
      clock,
      findTopic,
      topics,
      newMemberId,
      limits: () => this.limits,
      generationBegan: (begun) => generationBegan(groupId, begun),
      emptied: () => this.#consumers.delete(groupId),
    };
    return new ConsumerGroup(groupId, lastGeneration(groupId), env);
  }

  /**
   * Whether a member that names itself may hear what its group has committed.
   * @param memberId null: it does not
   */
  checkFetch(groupId: string, memberId: string | null, memberEpoch: number): GroupErrorCode | null {
    const group = this.#consumers.get(groupId);
    if (group === undefined || (memberId === null && memberEpoch < 0)) return null;
    return group.checkFetch(memberId ?? '', memberEpoch);
  }

  /**
   * Whether a commit that came over the wire may be written: its member is in this generation, or it names
   * none (generation -1) and the group has no members. It keeps the session of the classic protocol.
   * `isTransactional`: TxnOffsetCommit, which need not name its member.
   */
  checkCommit(
    groupId: string,
    identity: MemberIdentity,
    generationId: number,
    isTransactional = false,
  ): GroupErrorCode | null {
    if (!isGroupId(groupId)) return 'INVALID_GROUP_ID';
    const consumers = this.#consumers.get(groupId);
    if (consumers !== undefined) {
      return consumers.checkCommit(identity.memberId, generationId, isTransactional);
    }
    const group = this.#groups.get(groupId);
    if (group !== undefined) return group.checkCommit(identity, generationId, isTransactional);
    const isOfNobody = identity.memberId === '' && identity.groupInstanceId === null;
    if (isOfNobody && generationId < 0) return null;
    return this.#options.lastGeneration(groupId) > 0 ? 'UNKNOWN_MEMBER_ID' : 'ILLEGAL_GENERATION';
  }

  /** undefined: it has no members. */
  describe(groupId: string): GroupDescription | undefined {
    const consumers = this.describeConsumers(groupId);
    if (consumers !== undefined) {
      const { state, epoch: generation, assignor } = consumers;
      const members = consumers.members.map(({ memberId, clientId, found, assignment }) => ({
        memberId,
        clientId,
        topics: found,
        assignment: assignment.map(({ topic, partition }) => ({ topic, partition })),
      }));
      return { state, generation, assignor, members };
    }
    const group = this.#groups.get(groupId);
    if (group === undefined || group.memberCount === 0) return undefined;
    const owned = group.natives.owned();
    const natives = [...group.natives].map(({ memberId, clientId, topics }) => ({
      memberId,
      clientId,
      topics,
      assignment: owned.get(memberId) ?? [],
    }));
    const remotes = [...group.remotes].map((member) => ({
      memberId: member.memberId,
      clientId: member.request.clientId,
      topics: member.subscription(group.protocolName)?.topics ?? [],
      assignment: decodeAssignment(member.assignment) ?? [],
    }));
    return {
      state: stateOf(group),
      generation: group.generation,
      assignor: group.protocolName ?? [...group.natives][0]?.assignor.name ?? null,
      members: [...natives, ...remotes],
    };
  }

  /** As ConsumerGroupDescribe shows it; undefined: it has no members of the consumer protocol. */
  describeConsumers(groupId: string): ConsumerGroupDescription | undefined {
    return this.#consumers.get(groupId)?.describe();
  }

  /** As DescribeGroups shows it; undefined: it has no members of the classic protocol, and expects none. */
  describeInBytes(groupId: string): GroupInBytes | undefined {
    const group = this.#groups.get(groupId);
    if (group === undefined) return undefined;
    const state = stateOf(group);
    const protocolName = state === 'Stable' ? (group.protocolName ?? '') : '';
    const owned = group.natives.owned();
    const natives = [...group.natives].map(({ memberId, clientId, topics }) => {
      const assignment = owned.get(memberId) ?? [];
      return {
        memberId,
        groupInstanceId: null,
        clientId,
        clientHost: '',
        metadata: encodeSubscription({
          topics,
          userData: null,
          owned: assignment,
          generation: group.generation,
        }),
        assignment: encodeAssignment(assignment),
      };
    });
    const remotes = [...group.remotes].map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      clientId: member.request.clientId,
      clientHost: member.request.clientHost,
      metadata: member.metadataFor(group.protocolName),
      assignment: member.assignment,
    }));
    return {
      state,
      protocolType: group.protocolType,
      protocolName,
      members: [...natives, ...remotes],
    };
  }

  /** The topics that a group's members subscribe to. */
  subscriptions(groupId: string): Set<string> {
    const group = this.#consumers.get(groupId) ?? this.#groups.get(groupId);
    return group?.subscriptions() ?? new Set();
  }

  /** Answers whoever waits with COORDINATOR_NOT_AVAILABLE, and sets no timer any more. */
  close(): void {
    for (const group of this.#groups.values()) group.close();
    this.#groups.clear();
    for (const group of this.#consumers.values()) group.close();
    this.#consumers.clear();
  }
}

/** A generation is only complete once members of this process have what it gives them. */
function stateOf(group: Group): ClassicGroupState {
  const isMoving = group.state === 'Stable' && !group.natives.isAtTarget;
  return isMoving ? 'CompletingRebalance' : group.state;
}

/** As for the groups of this process: what fits a key of the metadata. */
function isGroupId(groupId: string): boolean {
  return anId(groupId) === null;
}
