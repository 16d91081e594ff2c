import { keyOf, type TopicPartition } from './assignment.js';
import { assignors, type Assignor } from './assignor.js';
import type { Clock } from './clock.js';
import {
  awayEpoch,
  ConsumerMember,
  type ConsumerSubscription,
  type PartitionMap,
  type Target,
} from './group-consumer-member.js';
import { consumerProtocolType, type GroupErrorCode, type GroupLimits } from './group-remote.js';
import { Session } from './group-session.js';
import type { GenerationBegun } from './group-state.js';
import { RegularExpression } from './regular-expression.js';

/** A topic as groups see it. */
export interface GroupTopic {
  readonly id: string;
  readonly name: string;
  readonly partitionCount: number;
}

/** Kafka's ConsumerGroupHeartbeat. Topics of partitions are ids; what is null, or -1 ms, is as before. */
export interface ConsumerHeartbeatRequest {
  readonly groupId: string;
  /** '': it is to be given one. */
  readonly memberId: string;
  /** 0: it joins; -1: it leaves; -2: it leaves, and its instance comes back. */
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  readonly rackId: string | null;
  readonly rebalanceTimeoutMs: number;
  readonly clientId: string;
  readonly clientHost: string;
  readonly topics: readonly string[] | null;
  /** '': none any more. */
  readonly pattern: string | null;
  readonly assignor: string | null;
  /** What it has by its own account. */
  readonly owned: readonly TopicPartition[] | null;
}

export interface ConsumerHeartbeatAnswer {
  readonly errorCode: GroupErrorCode | null;
  readonly errorMessage: string | null;
  /** null with an error. */
  readonly memberId: string | null;
  readonly memberEpoch: number;
  readonly heartbeatIntervalMs: number;
  /** What it may read from now on; null: as it was told last. */
  readonly assignment: readonly TopicPartition[] | null;
}

/** A consumer group as ConsumerGroupDescribe shows it. */
export interface ConsumerGroupDescription {
  readonly state: ConsumerGroupState;
  readonly epoch: number;
  readonly assignor: string;
  readonly members: readonly ConsumerMemberDescription[];
}

export interface ConsumerMemberDescription {
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly rackId: string | null;
  readonly clientId: string;
  readonly clientHost: string;
  readonly epoch: number;
  readonly topics: readonly string[];
  readonly pattern: string | null;
  /** The topics that there are of these. */
  readonly found: readonly string[];
  readonly assignment: readonly NamedPartition[];
  readonly target: readonly NamedPartition[];
}

export interface NamedPartition extends TopicPartition {
  readonly topicId: string;
}

/** Kafka's states of a consumer group, but for Assigning: a target is there at once. */
export type ConsumerGroupState = 'Reconciling' | 'Stable';

export interface ConsumerGroupEnvironment {
  readonly clock: Clock;
  readonly limits: () => GroupLimits;
  readonly findTopic: (name: string) => GroupTopic | undefined;
  readonly topics: () => Iterable<GroupTopic>;
  readonly newMemberId: (prefix: string) => string;
  readonly generationBegan: (begun: GenerationBegun) => void;
  /** It has no members: nothing of it needs to be remembered but its epoch. */
  readonly emptied: () => void;
}

/** Why a heartbeat is refused. */
class Refusal {
  readonly code: GroupErrorCode;
  readonly message: string;

  constructor(code: GroupErrorCode, message: string) {
    this.code = code;
    this.message = message;
  }
}

const joinEpoch = 0;

/**
 * Kafka's assignors of consumer groups; the first is taken where nobody asks for one. Uniform is as even as
 * subscriptions allow, and moves few partitions: what sticky does.
 */
const serverAssignors: ReadonlyMap<string, Assignor> = new Map<string, Assignor>([
  ['uniform', assignors.sticky],
  ['range', assignors.range],
]);

const noPartitions: PartitionMap = new Map();

/**
 * One group of the consumer protocol (KIP-848). All that its members do is send heartbeats: each tells what
 * has changed, and is answered with what the member may read. Whatever changes the group begins an epoch of
 * it, with a target for each member; each comes to it by itself, and a partition is one member's at a time.
 */
export class ConsumerGroup {
  readonly #groupId: string;
  readonly #env: ConsumerGroupEnvironment;
  readonly #members = new Map<string, ConsumerMember>();
  readonly #instances = new Map<string, ConsumerMember>();
  readonly #owners = new Map<string, ConsumerMember>();
  #targets: ReadonlyMap<string, PartitionMap> = new Map();
  /** Of the topics that its members want to read, by id. */
  #topics: ReadonlyMap<string, GroupTopic> = new Map();
  #epoch: number;
  #assignor = 'uniform';

  constructor(groupId: string, lastEpoch: number, env: ConsumerGroupEnvironment) {
    this.#groupId = groupId;
    this.#epoch = lastEpoch;
    this.#env = env;
  }

  get size(): number {
    return this.#members.size;
  }

  /** The request is well-formed: see refuseHeartbeat(). */
  heartbeat(request: ConsumerHeartbeatRequest): ConsumerHeartbeatAnswer {
    const isJoining = request.memberEpoch === joinEpoch;
    const pattern = patternOf(request.pattern);
    if (pattern instanceof Refusal) return refusedHeartbeat(pattern.code, pattern.message);
    const member = isJoining ? this.#join(request) : this.#identify(request);
    if (member instanceof Refusal) return refusedHeartbeat(member.code, member.message);
    if (request.memberEpoch < joinEpoch) return this.#leave(member, request.memberEpoch);
    return this.#goOn(member, pattern, request);
  }

  #join({ memberId, instanceId, clientId }: ConsumerHeartbeatRequest): ConsumerMember | Refusal {
    const known = this.#members.get(memberId);
    const before = instanceId === null ? undefined : this.#instances.get(instanceId);
    if (before !== undefined && before !== known && before.epoch !== awayEpoch) {
      return new Refusal(
        'UNRELEASED_INSTANCE_ID',
        `Instance ${instanceId} is that of member ${before.memberId}, which has not left.`,
      );
    }
    const place = before ?? known;
    if (known !== undefined && known === place) return known;
    if (place === undefined && this.size >= this.#env.limits().maxGroupSize) {
      const message = `Group ${this.#groupId} has ${this.size} members, as many as it may.`;
      return new Refusal('GROUP_MAX_SIZE_REACHED', message);
    }
    // It has changed its instance: its place among the others is gone.
    if (known !== undefined) this.#remove(known);
    const id = memberId === '' ? this.#env.newMemberId(clientId) : memberId;
    const session = new Session(this.#env.clock, () => this.#remove(member));
    const member = new ConsumerMember(id, instanceId, session, this.#owners);
    if (before !== undefined) {
      const targets = new Map(this.#targets);
      targets.set(id, this.#targetOf(before).partitions);
      targets.delete(before.memberId);
      this.#targets = targets;
      member.takeOver(before);
      this.#members.delete(before.memberId);
    }
    this.#members.set(id, member);
    if (instanceId !== null) this.#instances.set(instanceId, member);
    return member;
  }

  #identify(request: ConsumerHeartbeatRequest): ConsumerMember | Refusal {
    const { memberId, memberEpoch, instanceId, owned } = request;
    const member = this.#members.get(memberId);
    if (instanceId !== null) {
      const current = this.#instances.get(instanceId);
      if (current === undefined) return this.#unknown(`instance ${instanceId}`);
      if (current !== member) {
        const message = `Instance ${instanceId} is that of member ${current.memberId}.`;
        return new Refusal('FENCED_INSTANCE_ID', message);
      }
    }
    if (member === undefined) return this.#unknown(`member ${memberId}`);
    if (memberEpoch < joinEpoch || member.isIn(memberEpoch, owned)) return member;
    return new Refusal(
      'FENCED_MEMBER_EPOCH',
      `Member ${memberId} is in epoch ${member.epoch}, not ${memberEpoch}: it must give up all that it has, and join again.`,
    );
  }

  #unknown(who: string): Refusal {
    return new Refusal('UNKNOWN_MEMBER_ID', `Group ${this.#groupId} has no ${who}.`);
  }

  #leave(member: ConsumerMember, memberEpoch: number): ConsumerHeartbeatAnswer {
    if (memberEpoch === awayEpoch) member.goAway();
    else this.#remove(member);
    return { ...accepted, memberId: member.memberId, memberEpoch };
  }

  #goOn(
    member: ConsumerMember,
    pattern: RegularExpression | null | undefined,
    request: ConsumerHeartbeatRequest,
  ): ConsumerHeartbeatAnswer {
    const { rebalanceTimeoutMs, rackId, topics, owned } = request;
    if (rebalanceTimeoutMs >= 0) member.rebalanceTimeoutMs = rebalanceTimeoutMs;
    if (rackId !== null) member.rackId = rackId;
    member.clientId = request.clientId;
    member.clientHost = request.clientHost;
    const before = member.subscription;
    const subscription: ConsumerSubscription = {
      topics: topics ?? before.topics,
      pattern: pattern === undefined ? before.pattern : pattern,
      assignor: request.assignor ?? before.assignor,
    };
    member.subscription = subscription;
    const isNew = !this.#targets.has(member.memberId);
    if (isNew || wordsOf(subscription) !== wordsOf(before)) this.#beginEpoch();
    const assigned = new Set(member.assigned.keys());
    const isRevoking = member.reconcile(this.#targetOf(member), owned);
    if (!member.isRevoking) member.stopRevocation();
    if (isRevoking) this.#awaitRevocation(member);
    const { consumerSessionTimeoutMs, consumerHeartbeatIntervalMs } = this.#env.limits();
    member.session.extend(consumerSessionTimeoutMs);
    const isWhole =
      request.memberEpoch === joinEpoch ||
      (rebalanceTimeoutMs >= 0 && owned !== null && (topics ?? request.pattern) !== null);
    const isChanged =
      assigned.size !== member.assigned.size ||
      [...member.assigned.keys()].some((key) => !assigned.has(key));
    return {
      ...accepted,
      memberId: member.memberId,
      memberEpoch: member.epoch,
      heartbeatIntervalMs: consumerHeartbeatIntervalMs,
      assignment: isWhole || isChanged ? [...member.assigned.values()] : null,
    };
  }

  #awaitRevocation(member: ConsumerMember): void {
    member.stopRevocation();
    const { clock } = this.#env;
    member.revocation = clock.after(member.rebalanceTimeoutMs, () => this.#remove(member));
  }

  #targetOf({ memberId }: ConsumerMember): Target {
    return { epoch: this.#epoch, partitions: this.#targets.get(memberId) ?? noPartitions };
  }

  #remove(member: ConsumerMember): void {
    member.end();
    this.#members.delete(member.memberId);
    const { instanceId } = member;
    if (instanceId !== null && this.#instances.get(instanceId) === member) {
      this.#instances.delete(instanceId);
    }
    this.#beginEpoch();
    if (this.size === 0) this.#env.emptied();
  }

  /** Topics were created or deleted, or have more partitions. */
  topicsChanged(): void {
    const before = this.#wantedInWords();
    this.#resolve();
    if (this.#wantedInWords() !== before) this.#beginEpoch();
  }

  #wantedInWords(): string {
    const counts = Array.from(this.#topics.values(), ({ id, partitionCount }) => [
      id,
      partitionCount,
    ]);
    return JSON.stringify([counts, Array.from(this.#members.values(), (each) => each.topicIds)]);
  }

  /** Looks up what its members want to read. */
  #resolve(): void {
    const { findTopic, topics } = this.#env;
    const found = new Map<string, GroupTopic>();
    for (const member of this.#members.values()) {
      const { pattern, topics: names } = member.subscription;
      const wanted = names.map(findTopic).filter((topic) => topic !== undefined);
      if (pattern !== null) {
        wanted.push(...[...topics()].filter(({ name }) => pattern.matches(name)));
      }
      member.topicIds = [...new Set(wanted.map(({ id }) => id))].toSorted();
      // As they are now: a topic grows in its place.
      for (const { id, name, partitionCount } of wanted)
        found.set(id, { id, name, partitionCount });
    }
    this.#topics = found;
  }

  /** Gives each member a new target. */
  #beginEpoch(): void {
    this.#epoch++;
    this.#resolve();
    this.#assignor = this.#electAssignor();
    const members = Array.from(this.#members.values(), (member) => ({
      memberId: member.memberId,
      groupInstanceId: member.instanceId ?? undefined,
      topics: member.topicIds,
      owned: [...this.#targetOf(member).partitions.values()],
      generation: 0,
    }));
    const counts = Array.from(this.#topics.values(), (topic) => [topic.id, topic.partitionCount]);
    const partitions = Object.fromEntries(counts) as Record<string, number>;
    const assigned = serverAssignors.get(this.#assignor)!.assign({ partitions, members });
    this.#targets = new Map(
      Array.from(assigned, ([memberId, list]) => [
        memberId,
        new Map(list.map((at) => [keyOf(at), at])),
      ]),
    );
    this.#env.generationBegan({
      generation: this.#epoch,
      protocolType: consumerProtocolType,
      type: 'consumer',
      isEmpty: this.size === 0,
    });
  }

  /** The one that most members ask for. */
  #electAssignor(): string {
    const votes = new Map(Array.from(serverAssignors.keys(), (name) => [name, 0]));
    for (const { subscription } of this.#members.values()) {
      const { assignor } = subscription;
      if (assignor !== null) votes.set(assignor, votes.get(assignor)! + 1);
    }
    const [[elected]] = [...votes].toSorted(([, one], [, other]) => other - one) as [
      [string, number],
    ];
    return elected;
  }

  /**
   * Whether a commit may be written: its member is in this epoch, or it names none and the group is empty.
   * `isTransactional`: it comes by a transaction, which need not name its member.
   */
  checkCommit(memberId: string, epoch: number, isTransactional: boolean): GroupErrorCode | null {
    if (epoch < 0 && memberId === '' && isTransactional) return null;
    const refused = this.checkFetch(memberId, epoch);
    // Who sends these knows no other word for it.
    return refused === 'STALE_MEMBER_EPOCH' && isTransactional ? 'ILLEGAL_GENERATION' : refused;
  }

  /** Whether a member that names itself may hear what is committed. */
  checkFetch(memberId: string, epoch: number): GroupErrorCode | null {
    const member = this.#members.get(memberId);
    if (member === undefined) return 'UNKNOWN_MEMBER_ID';
    return epoch === member.epoch ? null : 'STALE_MEMBER_EPOCH';
  }

  describe(): ConsumerGroupDescription {
    const members = [...this.#members.values()];
    return {
      state: members.every((member) => member.isAt(this.#targetOf(member)))
        ? 'Stable'
        : 'Reconciling',
      epoch: this.#epoch,
      assignor: this.#assignor,
      members: members.map((member) => ({
        memberId: member.memberId,
        instanceId: member.instanceId,
        rackId: member.rackId,
        clientId: member.clientId,
        clientHost: member.clientHost,
        epoch: member.epoch,
        topics: member.subscription.topics,
        pattern: member.subscription.pattern?.source ?? null,
        found: member.topicIds.map((id) => this.#topics.get(id)!.name),
        assignment: this.#named(member.assigned),
        target: this.#named(this.#targetOf(member).partitions),
      })),
    };
  }

  /** As far as the topics are still there. */
  #named(partitions: PartitionMap): NamedPartition[] {
    return [...partitions.values()].flatMap(({ topic: topicId, partition }) => {
      const topic = this.#topics.get(topicId)?.name;
      return topic === undefined ? [] : { topic, topicId, partition };
    });
  }

  /** Names of the topics that its members read, of those that there are. */
  subscriptions(): Set<string> {
    return new Set(Array.from(this.#topics.values(), ({ name }) => name));
  }

  close(): void {
    for (const member of this.#members.values()) member.end();
  }
}

const accepted = {
  errorCode: null,
  errorMessage: null,
  heartbeatIntervalMs: 0,
  assignment: null,
} as const;

export function refusedHeartbeat(
  errorCode: GroupErrorCode,
  errorMessage: string,
): ConsumerHeartbeatAnswer {
  return { ...accepted, errorCode, errorMessage, memberId: null, memberEpoch: 0 };
}

/**
 * Why a heartbeat makes no sense, whatever the group is; null: it does. As Kafka's
 * throwIfConsumerGroupHeartbeatRequestIsInvalid.
 */
export function refuseHeartbeat(request: ConsumerHeartbeatRequest): ConsumerHeartbeatAnswer | null {
  const { memberId, memberEpoch, instanceId, rackId, assignor } = request;
  const invalid = (message: string): ConsumerHeartbeatAnswer =>
    refusedHeartbeat('INVALID_REQUEST', message);
  if (request.groupId === '') return invalid('GroupId is empty.');
  if (instanceId === '') return invalid('InstanceId is empty.');
  if (rackId === '') return invalid('RackId is empty.');
  if (memberEpoch < awayEpoch) return invalid(`MemberEpoch ${memberEpoch} is below ${awayEpoch}.`);
  if (memberEpoch !== joinEpoch && memberId === '') return invalid('MemberId is empty.');
  if (memberEpoch === awayEpoch && instanceId === null) return invalid('InstanceId is missing.');
  if (memberEpoch === joinEpoch) {
    if (request.rebalanceTimeoutMs < 0) return invalid('RebalanceTimeoutMs is missing.');
    if (request.owned?.length !== 0) return invalid('TopicPartitions is not empty.');
    if (request.topics === null && request.pattern === null) {
      return invalid('Neither SubscribedTopicNames nor SubscribedTopicRegex is there.');
    }
  }
  if (assignor === null || serverAssignors.has(assignor)) return null;
  const known = [...serverAssignors.keys()].join(', ');
  return refusedHeartbeat('UNSUPPORTED_ASSIGNOR', `ServerAssignor ${assignor}: expected ${known}.`);
}

/** undefined: as before; null: none. */
function patternOf(source: string | null): RegularExpression | Refusal | null | undefined {
  if (source === null) return undefined;
  if (source === '') return null;
  try {
    return new RegularExpression(source);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return new Refusal('INVALID_REGULAR_EXPRESSION', `${source}: ${error.message}`);
  }
}

function wordsOf({ topics, pattern, assignor }: ConsumerSubscription): string {
  return JSON.stringify([topics.toSorted(), pattern?.source, assignor]);
}
