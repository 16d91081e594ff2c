import type { Clock, Timer } from './clock.js';
import { OttlaError, inWords } from './errors.js';
import { JoinPhase } from './group-join-phase.js';
import { GroupLeader } from './group-leader.js';
import { NativeMembers, type NativeMember } from './group-native.js';
import { encodeAssignment } from './group-protocol.js';
import { refuseAssignor, selectProtocol, supportsProtocols } from './group-selection.js';
import {
  consumerProtocolType,
  noBytes,
  refusedJoin,
  refusedSync,
  RemoteMembers,
  type GroupErrorCode,
  type GroupLimits,
  type JoinGroupAnswer,
  type JoinGroupRequest,
  type MemberIdentity,
  type RemoteMember,
  type SyncGroupAnswer,
  type SyncGroupRequest,
} from './group-remote.js';

/** Kafka's states of a classic group. */
export type ClassicGroupState =
  | 'Empty'
  | 'PreparingRebalance'
  | 'CompletingRebalance'
  | 'Stable'
  | 'Dead';

/** Which protocol a group's members speak. */
export type GroupType = 'classic' | 'consumer';

/** What of a generation outlives the process. */
export interface GenerationBegun {
  readonly generation: number;
  readonly type: GroupType;
  readonly protocolType: string;
  /** The last member has gone. */
  readonly isEmpty: boolean;
}

export interface GroupEnvironment {
  readonly clock: Clock;
  readonly limits: () => GroupLimits;
  /** undefined: no such topic. */
  readonly partitionCount: (topic: string) => number | undefined;
  readonly newMemberId: (prefix: string) => string;
  readonly generationBegan: (begun: GenerationBegun) => void;
  /** It has no members, and expects none: nothing of it needs to be remembered but its generation. */
  readonly emptied: () => void;
}

/**
 * One group: Kafka's classic state machine over members that are reached over the wire, and members of this
 * process, which need no round trips. As long as there are any of these the coordinator itself leads:
 * nobody else can ask them to let go.
 */
export class Group {
  readonly #groupId: string;
  readonly #env: GroupEnvironment;
  readonly natives: NativeMembers;
  readonly remotes: RemoteMembers;
  #state: ClassicGroupState = 'Empty';
  #generation: number;
  #protocolType: string = consumerProtocolType;
  #protocolName: string | null = null;
  #leaderId: string | null = null;
  /** The coordinator assigns in this generation. */
  #isLed = false;
  readonly #leader: GroupLeader;
  readonly #joinPhase: JoinPhase;
  #syncTimer: Timer | null = null;

  constructor(groupId: string, lastGeneration: number, env: GroupEnvironment) {
    this.#groupId = groupId;
    this.#env = env;
    this.#generation = lastGeneration;
    this.#leader = new GroupLeader(env.partitionCount);
    this.#joinPhase = new JoinPhase(
      env.clock,
      () => this.#tryToCompleteJoin(),
      () => this.#completeJoin(),
    );
    this.natives = new NativeMembers(env.clock, () => this.#completeSync());
    this.remotes = new RemoteMembers(
      env.clock,
      (member) => this.#removeRemote(member),
      () => this.#pendingEnded(),
    );
  }

  get state(): ClassicGroupState {
    return this.#state;
  }

  get generation(): number {
    return this.#generation;
  }

  get protocolType(): string {
    return this.#protocolType;
  }

  get protocolName(): string | null {
    return this.#protocolName;
  }

  get memberCount(): number {
    return this.natives.size + this.remotes.size;
  }

  /** @throws INCONSISTENT_GROUP_PROTOCOL */
  addNative(member: NativeMember): void {
    refuseAssignor(this.#groupId, this.natives, this.remotes, member.assignor.name);
    this.natives.add(member);
    this.#rebalanceSoon();
  }

  removeNative(memberId: string, isLost: boolean): void {
    if (this.natives.remove(memberId, isLost)) this.#rebalanceSoon();
  }

  topicsChanged(): void {
    const isAffected = this.natives.topicsChanged();
    if (!this.#leader.topicsChanged() && !isAffected) return;
    this.natives.loseMissing(this.#env.partitionCount);
    this.#rebalanceSoon();
  }

  /** Held back until the join phase ends. */
  join(request: JoinGroupRequest): JoinGroupAnswer | Promise<JoinGroupAnswer> {
    const { memberId } = request;
    if (!this.#takesOneMore(memberId)) {
      const member = this.remotes.get(memberId);
      if (member !== undefined) this.#removeRemote(member);
      return refusedJoin('GROUP_MAX_SIZE_REACHED', memberId);
    }
    if (!this.#isSupported(request)) return refusedJoin('INCONSISTENT_GROUP_PROTOCOL', memberId);
    if (memberId === '') return this.#joinAsNew(request);
    if (this.remotes.isPending(memberId)) return this.#add(memberId, request);
    const member = this.remotes.identify(request);
    if (typeof member === 'string') return refusedJoin(member, memberId);
    return this.#rejoin(member, request);
  }

  #joinAsNew(request: JoinGroupRequest): JoinGroupAnswer | Promise<JoinGroupAnswer> {
    const { groupInstanceId, clientId, sessionTimeoutMs, requiresKnownMemberId } = request;
    const memberId = this.#env.newMemberId(groupInstanceId ?? clientId);
    const old = this.remotes.ofInstance(groupInstanceId);
    if (old !== undefined) return this.#replace(old, memberId, request);
    if (groupInstanceId !== null || !requiresKnownMemberId) return this.#add(memberId, request);
    this.remotes.addPending(memberId, sessionTimeoutMs);
    return refusedJoin('MEMBER_ID_REQUIRED', memberId);
  }

  #add(memberId: string, request: JoinGroupRequest): Promise<JoinGroupAnswer> {
    const member = this.remotes.add(memberId, request);
    this.#protocolType = request.protocolType;
    this.#joinPhase.newcomer();
    return this.#holdJoin(member, request);
  }

  #holdJoin(member: RemoteMember, request: JoinGroupRequest): Promise<JoinGroupAnswer> {
    const answer = member.holdJoin(request);
    this.#prepareRebalance();
    this.#tryToCompleteJoin();
    return answer;
  }

  #rejoin(
    member: RemoteMember,
    request: JoinGroupRequest,
  ): JoinGroupAnswer | Promise<JoinGroupAnswer> {
    // A leader that joins again asks for a rebalance: it has seen that topics have changed. While a
    // generation begins it only asks for the answer that it has missed.
    const isAsking = this.#state === 'Stable' && member.memberId === this.#leaderId;
    if (this.#state === 'PreparingRebalance' || isAsking || !member.matches(request)) {
      return this.#holdJoin(member, request);
    }
    member.heard();
    return this.#welcome(member);
  }

  /** A static member has restarted: nothing moves, unless it comes with other topics or protocols. */
  #replace(
    old: RemoteMember,
    memberId: string,
    request: JoinGroupRequest,
  ): JoinGroupAnswer | Promise<JoinGroupAnswer> {
    const name = this.#protocolName;
    const topics = (member: RemoteMember): string =>
      JSON.stringify(member.subscription(name)?.topics.toSorted() ?? []);
    const member = this.remotes.replace(old, memberId, request);
    const oldLeader = this.#leaderId;
    if (oldLeader === old.memberId) this.#leaderId = memberId;
    const isSame =
      this.#state === 'Stable' &&
      selectProtocol(this.natives, this.remotes) === name &&
      topics(member) === topics(old);
    if (!isSame) return this.#holdJoin(member, request);
    if (this.#isLed) {
      this.#leader.rename(old.memberId, memberId);
      this.#moveToTarget();
    }
    const isLeader = this.#leaderId === memberId;
    const welcome = this.#welcome(member);
    if (request.knowsSkipAssignment) return { ...welcome, skipAssignment: isLeader };
    // An older client would assign anew if it were told that it leads.
    return { ...welcome, leader: oldLeader ?? '', members: [] };
  }

  #takesOneMore(memberId: string): boolean {
    const { maxGroupSize } = this.#env.limits();
    const member = this.remotes.get(memberId);
    if (this.#state !== 'PreparingRebalance') {
      return member !== undefined || this.memberCount < maxGroupSize;
    }
    const joinedCount = this.natives.size + this.remotes.joinedCount;
    return member?.hasJoined === true || joinedCount < maxGroupSize;
  }

  #isSupported(request: JoinGroupRequest): boolean {
    if (this.memberCount === 0) return request.protocolType !== '' && request.protocols.length > 0;
    const isSameType = request.protocolType === this.#protocolType;
    return isSameType && supportsProtocols(this.natives, this.remotes, request.protocols);
  }

  /** One rebalance for all that happens in this turn. */
  #rebalanceSoon(): void {
    const isBegun = this.#state === 'PreparingRebalance';
    this.#prepareRebalance();
    if (!isBegun) this.#joinPhase.holdForTurn();
  }

  #prepareRebalance(): void {
    if (this.#state === 'PreparingRebalance' || this.#state === 'Dead') return;
    const wasEmpty = this.#state === 'Empty';
    this.#state = 'PreparingRebalance';
    this.#syncTimer?.cancel();
    this.natives.hold();
    for (const member of this.remotes) member.answerSync(refusedSync('REBALANCE_IN_PROGRESS'));
    const { rebalanceTimeoutMs, size } = this.remotes;
    const { initialRebalanceDelayMs } = this.#env.limits();
    if (size > 0 && !wasEmpty) this.#joinPhase.within(rebalanceTimeoutMs);
    else if (size > 0 && initialRebalanceDelayMs > 0) {
      this.#joinPhase.holdForOthers(initialRebalanceDelayMs, rebalanceTimeoutMs);
    } else this.#joinPhase.holdForTurn();
  }

  #tryToCompleteJoin(): void {
    if (this.#state !== 'PreparingRebalance' || this.#joinPhase.isHeld) return;
    const { size, joinedCount, pendingCount } = this.remotes;
    if (joinedCount < size || (size > 0 && pendingCount > 0)) return;
    this.#completeJoin();
  }

  #completeJoin(): void {
    this.#joinPhase.stop();
    for (const member of this.remotes) {
      if (member.hasJoined || member.groupInstanceId !== null) continue;
      this.remotes.remove(member, 'UNKNOWN_MEMBER_ID');
    }
    if (this.natives.size === 0 && this.remotes.size > 0 && !this.#electLeader()) {
      // Static members only, none of which is back: until their sessions end.
      this.#joinPhase.within(this.remotes.rebalanceTimeoutMs);
      return;
    }
    this.#generation++;
    this.#env.generationBegan({
      generation: this.#generation,
      type: 'classic',
      protocolType: this.#protocolType,
      isEmpty: this.memberCount === 0,
    });
    this.#isLed = this.natives.size > 0;
    this.#protocolName = selectProtocol(this.natives, this.remotes);
    if (!this.#isLed) this.#leader.resign();
    if (this.memberCount === 0) {
      this.#state = 'Empty';
      this.#leaderId = null;
      this.forgetIfUnused();
    } else if (this.#isLed) {
      this.#lead();
    } else {
      this.#welcomeAll();
    }
  }

  #pendingEnded(): void {
    this.#tryToCompleteJoin();
    this.forgetIfUnused();
  }

  forgetIfUnused(): void {
    if (this.#state === 'Empty' && this.remotes.pendingCount === 0) this.#env.emptied();
  }

  /** The old one, or the first that is back. False: nobody is. */
  #electLeader(): boolean {
    const members = [...this.remotes].filter(({ hasJoined }) => hasJoined);
    const leader = members.find(({ memberId }) => memberId === this.#leaderId) ?? members[0];
    this.#leaderId = leader?.memberId ?? null;
    return leader !== undefined;
  }

  #welcomeAll(): void {
    this.#state = 'CompletingRebalance';
    for (const member of this.remotes) {
      member.isNew = false;
      member.isSyncDue = true;
      member.answerJoin(this.#welcome(member));
      member.heard();
    }
    if (this.remotes.size > 0) {
      const { rebalanceTimeoutMs } = this.remotes;
      this.#syncTimer = this.#env.clock.after(rebalanceTimeoutMs, () => this.#endSyncPhase());
    }
  }

  /** Who has not asked for its assignment in all this time is gone. */
  #endSyncPhase(): void {
    const late = [...this.remotes].filter(({ isSyncDue }) => isSyncDue);
    for (const member of late) this.remotes.remove(member, 'UNKNOWN_MEMBER_ID');
    if (late.length > 0) this.#membersLeft();
  }

  #welcome(member: RemoteMember): JoinGroupAnswer {
    const { memberId } = member;
    const isLeader = memberId === this.#leaderId;
    return {
      errorCode: null,
      generationId: this.#generation,
      protocolType: this.#protocolType,
      protocolName: this.#protocolName,
      leader: this.#leaderId ?? '',
      memberId,
      skipAssignment: false,
      members: isLeader
        ? [...this.remotes].map((other) => ({
            memberId: other.memberId,
            groupInstanceId: other.groupInstanceId,
            metadata: other.metadataFor(this.#protocolName),
          }))
        : [],
    };
  }

  /** The coordinator assigns; what is meant for others waits until members here have given it up. */
  #lead(): void {
    const [first] = this.natives;
    this.#leaderId = first!.memberId;
    try {
      this.#leader.assign(this.natives, this.remotes, this.#protocolName!, this.#generation - 1);
    } catch (cause) {
      this.#dissolve(cause);
      return;
    }
    this.#welcomeAll();
    this.#moveToTarget();
  }

  #moveToTarget(): void {
    this.natives.moveTo(this.#leader.target, this.#leader.isAdded);
  }

  /** The assignor failed: members here cannot go on with it, so each of them learns why. */
  #dissolve(cause: unknown): void {
    const error = new OttlaError(
      'INCONSISTENT_GROUP_PROTOCOL',
      `group ${this.#groupId}: the assignor failed: ${inWords(cause)}`,
      { cause },
    );
    for (const member of this.natives) {
      this.natives.remove(member.memberId, true);
      member.failed(error);
    }
    this.#joinPhase.holdForTurn();
  }

  /** Held back until the leader has assigned. */
  sync(request: SyncGroupRequest): SyncGroupAnswer | Promise<SyncGroupAnswer> {
    const member = this.remotes.identify(request);
    if (typeof member === 'string') return refusedSync(member);
    if (request.generationId !== this.#generation) return refusedSync('ILLEGAL_GENERATION');
    const { protocolType, protocolName } = request;
    const isOtherType = protocolType !== null && protocolType !== this.#protocolType;
    if (isOtherType || (protocolName !== null && protocolName !== this.#protocolName)) {
      return refusedSync('INCONSISTENT_GROUP_PROTOCOL');
    }
    if (this.#state === 'PreparingRebalance') return refusedSync('REBALANCE_IN_PROGRESS');
    member.isSyncDue = false;
    member.heard();
    if (this.#state === 'Stable') {
      const answer = this.#assignmentOf(member);
      this.#followUp();
      return answer;
    }
    const answer = member.holdSync();
    if (member.memberId === this.#leaderId) {
      const given = new Map(request.assignments.map((each) => [each.memberId, each.assignment]));
      this.#assign((memberId) => given.get(memberId) ?? noBytes);
    }
    return answer;
  }

  /** In a generation that the coordinator leads: once members here have given up what is meant for others. */
  #completeSync(): void {
    if (this.#state !== 'CompletingRebalance' || !this.#isLed || !this.natives.hasGivenUp) return;
    const shares = this.#leader.shares();
    this.#assign((memberId) => encodeAssignment(shares.get(memberId) ?? []));
  }

  #assign(assignmentFor: (memberId: string) => Buffer): void {
    this.#state = 'Stable';
    for (const member of this.remotes) {
      member.assignment = assignmentFor(member.memberId);
      member.answerSync(this.#assignmentOf(member));
    }
    this.#followUp();
  }

  /** When all know what they no longer have, another generation gives that to others. */
  #followUp(): void {
    if (!this.#isLed || !this.#leader.isWithholding) return;
    if ([...this.remotes].every(({ isSyncDue }) => !isSyncDue)) this.#rebalanceSoon();
  }

  #assignmentOf({ assignment }: RemoteMember): SyncGroupAnswer {
    const [protocolType, protocolName] = [this.#protocolType, this.#protocolName];
    return { errorCode: null, protocolType, protocolName, assignment };
  }

  heartbeat(identity: MemberIdentity, generationId: number): GroupErrorCode | null {
    const member = this.remotes.identify(identity);
    if (typeof member === 'string') return member;
    if (generationId !== this.#generation) return 'ILLEGAL_GENERATION';
    member.heard();
    return this.#state === 'PreparingRebalance' ? 'REBALANCE_IN_PROGRESS' : null;
  }

  /** An administrator removes a static member by its instance id alone. */
  leave(identity: MemberIdentity): GroupErrorCode | null {
    const { memberId, groupInstanceId } = identity;
    if (this.remotes.isPending(memberId)) {
      this.remotes.removePending(memberId);
      this.#pendingEnded();
      return null;
    }
    const member =
      memberId === ''
        ? (this.remotes.ofInstance(groupInstanceId) ?? 'UNKNOWN_MEMBER_ID')
        : this.remotes.identify(identity);
    if (typeof member === 'string') return member;
    this.#removeRemote(member);
    return null;
  }

  #removeRemote(member: RemoteMember): void {
    this.remotes.remove(member, 'UNKNOWN_MEMBER_ID');
    this.#membersLeft();
  }

  #membersLeft(): void {
    this.#prepareRebalance();
    this.#tryToCompleteJoin();
  }

  /**
   * Whether a commit of a member elsewhere, or of nobody's (generation -1, no ids), may be written.
   * `isTransactional`: it comes by a transaction, which need not name its member.
   */
  checkCommit(
    identity: MemberIdentity,
    generationId: number,
    isTransactional: boolean,
  ): GroupErrorCode | null {
    const { memberId, groupInstanceId } = identity;
    if (generationId < 0 && memberId === '' && groupInstanceId === null) {
      return this.memberCount === 0 || isTransactional ? null : 'UNKNOWN_MEMBER_ID';
    }
    const member = this.remotes.identify(identity);
    if (typeof member === 'string') return member;
    if (generationId !== this.#generation) return 'ILLEGAL_GENERATION';
    if (this.#state === 'CompletingRebalance') return 'REBALANCE_IN_PROGRESS';
    member.heard();
    return null;
  }

  /** The topics that its members subscribe to, as far as they are consumers. */
  subscriptions(): Set<string> {
    const topics = new Set([...this.natives].flatMap((member) => member.topics));
    for (const member of this.remotes) {
      const subscription = member.subscription(this.#protocolName);
      for (const topic of subscription?.topics ?? []) topics.add(topic);
    }
    return topics;
  }

  /** Nothing is answered any more, nothing moves. */
  close(): void {
    this.#state = 'Dead';
    this.#joinPhase.stop();
    this.#syncTimer?.cancel();
    this.remotes.close('COORDINATOR_NOT_AVAILABLE');
  }
}
