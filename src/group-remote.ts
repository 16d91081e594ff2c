import type { Clock, Timer } from './clock.js';
import { decodeSubscription, type Subscription } from './group-protocol.js';
import { Session } from './group-session.js';

/** Kafka's error codes of the group protocols, as a member in another process gets them. */
export type GroupErrorCode =
  | 'COORDINATOR_NOT_AVAILABLE'
  | 'FENCED_INSTANCE_ID'
  | 'FENCED_MEMBER_EPOCH'
  | 'GROUP_ID_NOT_FOUND'
  | 'GROUP_MAX_SIZE_REACHED'
  | 'ILLEGAL_GENERATION'
  | 'INCONSISTENT_GROUP_PROTOCOL'
  | 'INVALID_GROUP_ID'
  | 'INVALID_REGULAR_EXPRESSION'
  | 'INVALID_REQUEST'
  | 'INVALID_SESSION_TIMEOUT'
  | 'MEMBER_ID_REQUIRED'
  | 'REBALANCE_IN_PROGRESS'
  | 'STALE_MEMBER_EPOCH'
  | 'UNKNOWN_MEMBER_ID'
  | 'UNRELEASED_INSTANCE_ID'
  | 'UNSUPPORTED_ASSIGNOR';

/** Bounds on members that are reached over the wire, by Kafka's names. */
export interface GroupLimits {
  /** How long the first join of an empty group waits for others, each of which prolongs it: in ms. */
  readonly initialRebalanceDelayMs: number;
  readonly maxGroupSize: number;
  readonly minSessionTimeoutMs: number;
  readonly maxSessionTimeoutMs: number;
  /** Members of the consumer protocol (KIP-848) are told it, and heard of within the session timeout. */
  readonly consumerHeartbeatIntervalMs: number;
  readonly consumerSessionTimeoutMs: number;
}

/** Kafka's limits, but for the delay of the first rebalance, which is none, and heartbeats, which it wants every 5 s. */
export const defaultGroupLimits: GroupLimits = {
  initialRebalanceDelayMs: 0,
  maxGroupSize: Infinity,
  minSessionTimeoutMs: 6000,
  maxSessionTimeoutMs: 1_800_000,
  consumerHeartbeatIntervalMs: 1000,
  consumerSessionTimeoutMs: 45_000,
};

/** Who asks: '' is the member id of one that has none yet. */
export interface MemberIdentity {
  readonly memberId: string;
  /** Set for a static member (KIP-345). */
  readonly groupInstanceId: string | null;
}

export interface GroupProtocol {
  readonly name: string;
  readonly metadata: Buffer;
}

export interface JoinGroupRequest extends MemberIdentity {
  readonly groupId: string;
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  /** How long a rebalance waits for this member: its max.poll.interval.ms. */
  readonly rebalanceTimeoutMs: number;
  readonly protocolType: string;
  /** The one it likes best first. */
  readonly protocols: readonly GroupProtocol[];
  /** A new dynamic member is told its id and joins again with it: JoinGroup 4 and above (KIP-394). */
  readonly requiresKnownMemberId: boolean;
  /** The client knows skipAssignment: JoinGroup 9 and above (KIP-814). */
  readonly knowsSkipAssignment: boolean;
}

export interface JoinGroupAnswer {
  readonly errorCode: GroupErrorCode | null;
  /** -1 with an error. */
  readonly generationId: number;
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  readonly leader: string;
  readonly memberId: string;
  /** The leader must not assign again: all it needs to know is who is there. */
  readonly skipAssignment: boolean;
  /** Empty but for the leader. */
  readonly members: readonly (MemberIdentity & { readonly metadata: Buffer })[];
}

export interface SyncGroupRequest extends MemberIdentity {
  readonly groupId: string;
  readonly generationId: number;
  /** null: not told, by SyncGroup below 5. */
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  /** The leader's; empty from all others. */
  readonly assignments: readonly { readonly memberId: string; readonly assignment: Buffer }[];
}

export interface SyncGroupAnswer {
  readonly errorCode: GroupErrorCode | null;
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  readonly assignment: Buffer;
}

/** The protocol type of members in this process, and of all that consume. */
export const consumerProtocolType = 'consumer';

export const noBytes: Buffer = Buffer.alloc(0);

/**
 * How long a new member is kept that waits for its first join to be answered: it may be gone by then. At
 * least as long as clients wait, which is a little more than the rebalance may take.
 */
const newMemberTimeoutMs = 5 * 60_000;
const joinLapseMs = 5000;

/** A member that is reached over the wire: it lives while it is heard of within its session. */
export class RemoteMember {
  readonly memberId: string;
  readonly groupInstanceId: string | null;
  request: JoinGroupRequest;
  /** As it was last handed to the group; the member has it once it has synced. */
  assignment: Buffer = noBytes;
  /** Has not been in a generation yet. */
  isNew: boolean = true;
  /** Has not synced in this generation. */
  isSyncDue: boolean = false;
  #answerJoin: ((answer: JoinGroupAnswer) => void) | null = null;
  #answerSync: ((answer: SyncGroupAnswer) => void) | null = null;
  readonly #session: Session;

  constructor(
    memberId: string,
    request: JoinGroupRequest,
    clock: Clock,
    expired: (member: RemoteMember) => void,
  ) {
    this.memberId = memberId;
    this.groupInstanceId = request.groupInstanceId;
    this.request = request;
    this.#session = new Session(clock, () => {
      // The group holds its answer back: it has nothing to say meanwhile.
      const isWaiting = this.#answerSync !== null || (!this.isNew && this.hasJoined);
      if (isWaiting) this.heard();
      else expired(this);
    });
  }

  get hasJoined(): boolean {
    return this.#answerJoin !== null;
  }

  metadataFor(protocolName: string | null): Buffer {
    return this.request.protocols.find(({ name }) => name === protocolName)?.metadata ?? noBytes;
  }

  /** undefined: it is no consumer, or its metadata for this assignor is none. */
  subscription(assignorName: string | null): Subscription | undefined {
    if (this.request.protocolType !== consumerProtocolType) return undefined;
    return decodeSubscription(this.metadataFor(assignorName));
  }

  /** Whether it joins with just the protocols that it had. */
  matches({ protocols }: JoinGroupRequest): boolean {
    const mine = this.request.protocols;
    return (
      protocols.length === mine.length &&
      protocols.every(
        ({ name, metadata }, i) => mine[i]!.name === name && mine[i]!.metadata.equals(metadata),
      )
    );
  }

  /** Holds the answer back until the join phase ends. A join that it still held before is superseded. */
  holdJoin(request: JoinGroupRequest): Promise<JoinGroupAnswer> {
    this.answerJoin(refusedJoin('REBALANCE_IN_PROGRESS', this.memberId));
    this.request = request;
    const patienceMs = Math.max(newMemberTimeoutMs, request.rebalanceTimeoutMs + joinLapseMs);
    this.#session.extend(this.isNew ? patienceMs : request.sessionTimeoutMs);
    return new Promise((resolve) => (this.#answerJoin = resolve));
  }

  holdSync(): Promise<SyncGroupAnswer> {
    this.answerSync(refusedSync('REBALANCE_IN_PROGRESS'));
    return new Promise((resolve) => (this.#answerSync = resolve));
  }

  /** Nothing happens if no join is held. */
  answerJoin(answer: JoinGroupAnswer): void {
    this.#answerJoin?.(answer);
    this.#answerJoin = null;
  }

  answerSync(answer: SyncGroupAnswer): void {
    if (this.#answerSync === null) return;
    this.heard();
    this.#answerSync(answer);
    this.#answerSync = null;
  }

  /** It lives: its session begins anew. */
  heard(): void {
    this.#session.extend(this.request.sessionTimeoutMs);
  }

  /** Its session is watched no more. */
  end(): void {
    this.#session.stop();
  }
}

/** The members of one group that are reached over the wire, in the order in which they came. */
export class RemoteMembers {
  readonly #clock: Clock;
  readonly #expired: (member: RemoteMember) => void;
  readonly #pendingExpired: () => void;
  readonly #members = new Map<string, RemoteMember>();
  readonly #instances = new Map<string, string>();
  /** Ids given to members that have not joined with them yet. */
  readonly #pending = new Map<string, Timer>();

  constructor(clock: Clock, expired: (member: RemoteMember) => void, pendingExpired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
    this.#pendingExpired = pendingExpired;
  }

  get size(): number {
    return this.#members.size;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  get joinedCount(): number {
    return [...this.#members.values()].filter(({ hasJoined }) => hasJoined).length;
  }

  get rebalanceTimeoutMs(): number {
    let longest = 0;
    for (const { request } of this.#members.values()) {
      longest = Math.max(longest, request.rebalanceTimeoutMs);
    }
    return longest;
  }

  [Symbol.iterator](): IterableIterator<RemoteMember> {
    return this.#members.values();
  }

  get(memberId: string): RemoteMember | undefined {
    return this.#members.get(memberId);
  }

  ofInstance(groupInstanceId: string | null): RemoteMember | undefined {
    const memberId = groupInstanceId === null ? undefined : this.#instances.get(groupInstanceId);
    return memberId === undefined ? undefined : this.#members.get(memberId);
  }

  /** The member that asks, or why it is none: another one has its instance id, or it is not known. */
  identify({ memberId, groupInstanceId }: MemberIdentity): RemoteMember | GroupErrorCode {
    if (groupInstanceId !== null) {
      const current = this.#instances.get(groupInstanceId);
      if (current === undefined) return 'UNKNOWN_MEMBER_ID';
      if (current !== memberId) return 'FENCED_INSTANCE_ID';
    }
    return this.#members.get(memberId) ?? 'UNKNOWN_MEMBER_ID';
  }

  add(memberId: string, request: JoinGroupRequest): RemoteMember {
    this.removePending(memberId);
    const member = new RemoteMember(memberId, request, this.#clock, this.#expired);
    this.#members.set(memberId, member);
    if (request.groupInstanceId !== null) this.#instances.set(request.groupInstanceId, memberId);
    return member;
  }

  /** A static member has restarted: it goes on under a new id, in its old place; the old id is fenced. */
  replace(old: RemoteMember, memberId: string, request: JoinGroupRequest): RemoteMember {
    const order = [...this.#members];
    this.remove(old, 'FENCED_INSTANCE_ID');
    const member = this.add(memberId, request);
    member.assignment = old.assignment;
    member.isNew = old.isNew;
    member.isSyncDue = old.isSyncDue;
    member.heard();
    this.#members.clear();
    for (const [id, other] of order) {
      this.#members.set(id === old.memberId ? memberId : id, other === old ? member : other);
    }
    return member;
  }

  /** What it still waits for is answered with `error`. */
  remove(member: RemoteMember, error: GroupErrorCode): void {
    const { memberId, groupInstanceId } = member;
    member.answerJoin(refusedJoin(error, memberId));
    member.answerSync(refusedSync(error));
    member.end();
    this.#members.delete(memberId);
    if (groupInstanceId !== null && this.#instances.get(groupInstanceId) === memberId) {
      this.#instances.delete(groupInstanceId);
    }
  }

  addPending(memberId: string, timeoutMs: number): void {
    const timer = this.#clock.after(timeoutMs, () => {
      this.#pending.delete(memberId);
      this.#pendingExpired();
    });
    this.#pending.set(memberId, timer);
  }

  isPending(memberId: string): boolean {
    return this.#pending.has(memberId);
  }

  removePending(memberId: string): void {
    this.#pending.get(memberId)?.cancel();
    this.#pending.delete(memberId);
  }

  /** Whoever still waits is answered with `error`. */
  close(error: GroupErrorCode): void {
    for (const timer of this.#pending.values()) timer.cancel();
    this.#pending.clear();
    for (const member of this.#members.values()) this.remove(member, error);
  }
}

export function refusedJoin(errorCode: GroupErrorCode, memberId: string): JoinGroupAnswer {
  return {
    errorCode,
    generationId: -1,
    protocolType: null,
    protocolName: null,
    leader: '',
    memberId,
    skipAssignment: false,
    members: [],
  };
}

export function refusedSync(errorCode: GroupErrorCode): SyncGroupAnswer {
  return { errorCode, protocolType: null, protocolName: null, assignment: noBytes };
}
