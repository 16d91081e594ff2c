import { keyOf, type TopicPartition } from './assignment.js';
import { countingPolls, type Clock, type Timer } from './clock.js';
import { OttlaError } from './errors.js';
import { consumerProtocolType, type GroupErrorCode, type MemberIdentity } from './group-remote.js';
import { GroupCoordinator, type GenerationBegun, type GroupType } from './group.js';
import { OffsetStore, type CommittedOffset, type GroupCommit } from './offsets.js';
import { put, remove, type MetaStore } from './storage/meta-store.js';
import type { Topic } from './topic.js';

/** Kafka's offsets.retention.check.interval.ms. */
const retentionCheckMs = 600_000;

/** An offset that came over the wire. */
export interface OffsetToStore extends TopicPartition {
  /** Below 0: what was committed is to be forgotten, as some clients ask for it. */
  readonly offset: number;
  /** Of the record before it; -1: the client does not know. */
  readonly leaderEpoch: number;
  readonly metadata: string;
}

export interface OffsetCommitRequest extends MemberIdentity {
  readonly groupId: string;
  /** -1, with no ids: of nobody in the group. */
  readonly generationId: number;
  readonly offsets: readonly OffsetToStore[];
}

/** Why an offset was not stored; null: it is, durably. */
export type OffsetCommitResult =
  | GroupErrorCode
  | 'INVALID_REQUEST'
  | 'OFFSET_METADATA_TOO_LARGE'
  | 'UNKNOWN_TOPIC_OR_PARTITION'
  | null;

export interface GroupsOptions {
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly newMemberId: (prefix: string) => string;
  readonly findTopic: (name: string) => Topic | undefined;
  readonly topics: () => Iterable<Topic>;
  /** Called after each commit. */
  readonly committed: () => void;
  /** Called after each rebalance. */
  readonly rebalanced: () => void;
  /** Infinity: offsets do not expire. */
  readonly offsetsRetentionMs: number;
}

/** The groups of one data directory: their members, their offsets, and what of both outlives the process. */
export class GroupRegistry {
  readonly coordinator: GroupCoordinator;
  readonly offsets: OffsetStore;
  readonly #options: GroupsOptions;
  #check: Timer | null = null;
  #expiring: Promise<void> = Promise.resolve();

  constructor(options: GroupsOptions) {
    const { store, clock, newMemberId, findTopic, topics, committed } = options;
    this.#options = options;
    this.offsets = new OffsetStore(store, clock, committed);
    this.coordinator = new GroupCoordinator({
      clock: countingPolls(clock),
      findTopic,
      topics,
      newMemberId,
      lastGeneration: (groupId) => this.lastGeneration(groupId),
      generationBegan: (groupId, begun) => this.#generationBegan(groupId, begun),
    });
  }

  lastGeneration(groupId: string): number {
    return this.#options.store.get(['group', groupId])?.generation ?? 0;
  }

  /** Of a group whose members have gone, or speak the consumer protocol; '' if it never had any. */
  protocolTypeOf(groupId: string): string {
    if (this.typeOf(groupId) === 'consumer') return consumerProtocolType;
    const row = this.#options.store.get(['group', groupId]);
    return row === undefined ? '' : (row.protocolType ?? consumerProtocolType);
  }

  /** Of a group without members: that of the last. */
  typeOf(groupId: string): GroupType {
    const row = this.#options.store.get(['group', groupId]);
    return this.coordinator.typeOf(groupId) ?? row?.type ?? 'classic';
  }

  /** One that is not saved is given out again after a restart: to members that are new as well. */
  #generationBegan(groupId: string, begun: GenerationBegun): void {
    const { store, clock, rebalanced } = this.#options;
    const { isEmpty, type, ...known } = begun;
    const row = type === 'classic' ? known : { ...known, type };
    rebalanced();
    const emptied = isEmpty ? { ...row, emptySince: clock.now() } : row;
    store.write([put(['group', groupId], emptied)]).catch(() => undefined);
  }

  /**
   * Commits for a member elsewhere, or for nobody in the group. One result for each offset, in their order:
   * those that cannot be stored leave the others alone.
   * @throws KAFKA_STORAGE_ERROR
   */
  async commit(request: OffsetCommitRequest): Promise<OffsetCommitResult[]> {
    const { results, commit } = this.judge(request, false);
    const forgotten = new Set(
      request.offsets
        .filter(({ offset }, i) => offset < 0 && results[i] === null)
        .map((at) => this.committed(commit.group, at)),
    );
    await this.offsets.commit(commit.group, commit.offsets);
    if (forgotten.size > 0) await this.offsets.remove(commit.group, (at) => forgotten.has(at));
    return results;
  }

  /**
   * What of a commit may be stored, and what is to be said of each offset: of a request of its own, or of one
   * that comes by a transaction, which need not name its member.
   */
  judge(
    request: OffsetCommitRequest,
    isTransactional: boolean,
  ): { readonly results: OffsetCommitResult[]; readonly commit: GroupCommit } {
    const { groupId: group, generationId } = request;
    const error = this.coordinator.checkCommit(group, request, generationId, isTransactional);
    const offsets: GroupCommit['offsets'][number][] = [];
    const results = request.offsets.map((at): OffsetCommitResult => {
      const { topic, partition, offset, metadata } = at;
      if (error !== null) return error;
      const log = this.#options.findTopic(topic)?.partitions[partition];
      if (log === undefined) return 'UNKNOWN_TOPIC_OR_PARTITION';
      if (this.offsets.isMetadataTooLarge(metadata)) return 'OFFSET_METADATA_TOO_LARGE';
      if (!Number.isSafeInteger(offset) || (isTransactional && offset < 0))
        return 'INVALID_REQUEST';
      if (offset < 0) return null;
      const leaderEpoch = at.leaderEpoch >= 0 ? at.leaderEpoch : log.epochBefore(offset);
      offsets.push({ topicId: log.topicId, partition, offset, leaderEpoch, metadata });
      return null;
    });
    return { results, commit: { group, offsets } };
  }

  /** What a group has committed of a partition. */
  committed(groupId: string, { topic, partition }: TopicPartition): CommittedOffset | undefined {
    const found = this.#options.findTopic(topic);
    return found === undefined ? undefined : this.offsets.fetch(groupId, found.id, partition);
  }

  /** All that a group has committed of topics that exist, by name. */
  allCommitted(groupId: string): (CommittedOffset & { readonly topic: string })[] {
    const names = new Map([...this.#options.topics()].map(({ id, name }) => [id, name]));
    return [...this.offsets.committed(groupId)].flatMap((committed) => {
      const topic = names.get(committed.topicId);
      return topic === undefined ? [] : [{ ...committed, topic }];
    });
  }

  /**
   * Begins to look for offsets that have expired, if they do. Groups that had members when the process
   * ended are empty from now on.
   */
  start(): void {
    const { store, clock, offsetsRetentionMs } = this.#options;
    if (offsetsRetentionMs === Infinity) return;
    const emptySince = clock.now();
    const emptied = [...store.range(['group'])].filter(
      ({ value }) => value.emptySince === undefined,
    );
    store
      .write(emptied.map(({ key, value }) => put(key, { ...value, emptySince })))
      .catch(() => undefined);
    this.#checkLater();
  }

  #checkLater(): void {
    this.#check = this.#options.clock.after(retentionCheckMs, () => {
      this.#expiring = this.expire().catch(() => undefined);
      this.#checkLater();
    });
  }

  /**
   * Removes offsets that have expired, as Kafka does: of a group without members once it has had none for
   * the retention time; of one that never had any, and of topics that none of its members reads, each by
   * the time of its commit. A group without members goes with its last offset.
   */
  async expire(): Promise<void> {
    const { store, clock, offsetsRetentionMs } = this.#options;
    const before = clock.now() - offsetsRetentionMs;
    const names = new Map([...this.#options.topics()].map(({ id, name }) => [id, name]));
    const remembered = [...store.range(['group'])].map(({ key }) => key[1]);
    for (const groupId of new Set([...remembered, ...this.groupIds()])) {
      const emptySince = store.get(['group', groupId])?.emptySince ?? -Infinity;
      const isRead = this.#isRead(groupId);
      const isExpired = ({ topicId, timestamp }: CommittedOffset): boolean =>
        timestamp <= before &&
        (this.coordinator.has(groupId) ? !isRead(names.get(topicId)) : emptySince <= before);
      const isOver = (): boolean =>
        !this.coordinator.has(groupId) &&
        emptySince <= before &&
        [...this.offsets.committed(groupId)].every(isExpired);
      const row = remove(['group', groupId]);
      await this.offsets.remove(groupId, isExpired, () => (isOver() ? [row] : []));
    }
  }

  /** Whether a group's members read a topic; what they read may not be known: then it may be anything. */
  #isRead(groupId: string): (topic: string | undefined) => boolean {
    const { state, members = [] } = this.coordinator.describe(groupId) ?? {};
    if (state !== 'Stable' || members.some(({ topics }) => topics.length === 0)) return () => true;
    const topics = this.coordinator.subscriptions(groupId);
    return (topic) => topic !== undefined && topics.has(topic);
  }

  /** A group exists while it has members or commits. */
  groupIds(): Set<string> {
    return new Set([...this.coordinator.groupIds(), ...this.offsets.groups()]);
  }

  /**
   * Forgets a group and all that it has committed.
   * @throws NON_EMPTY_GROUP while it has members; GROUP_ID_NOT_FOUND
   */
  async delete(groupId: string): Promise<void> {
    this.refuseUnknown(groupId);
    this.refuseMembers(groupId);
    const isFree = (): boolean => !this.coordinator.has(groupId);
    const row = remove(['group', groupId]);
    await this.offsets.remove(groupId, isFree, () => (isFree() ? [row] : []));
    // Who joined meanwhile has kept it.
    this.refuseMembers(groupId);
  }

  /**
   * Forgets what a group has committed of these partitions, all or none. As Kafka's OffsetDelete (KIP-496)
   * for one partition.
   * @throws GROUP_SUBSCRIBED_TO_TOPIC while a member reads one of the topics; GROUP_ID_NOT_FOUND
   */
  async deleteOffsets(groupId: string, partitions: readonly TopicPartition[]): Promise<void> {
    this.refuseUnknown(groupId);
    const subscribed = this.coordinator.subscriptions(groupId);
    for (const at of partitions) {
      if (!subscribed.has(at.topic)) continue;
      throw new OttlaError(
        'GROUP_SUBSCRIBED_TO_TOPIC',
        `group ${groupId} has members that subscribe to ${at.topic}: offsets of ${keyOf(at)} were not deleted`,
      );
    }
    const gone = new Set(partitions.map((at) => this.committed(groupId, at)));
    await this.offsets.remove(groupId, (offset) => gone.has(offset));
  }

  /** @throws GROUP_ID_NOT_FOUND */
  refuseUnknown(groupId: string): void {
    if (this.groupIds().has(groupId)) return;
    throw new OttlaError('GROUP_ID_NOT_FOUND', `there is no group ${JSON.stringify(groupId)}`);
  }

  /** @throws NON_EMPTY_GROUP */
  refuseMembers(groupId: string): void {
    const members = this.coordinator.describe(groupId)?.members.length ?? 0;
    if (members === 0) return;
    throw new OttlaError(
      'NON_EMPTY_GROUP',
      `group ${groupId} has ${members} members: close them first`,
    );
  }

  async close(): Promise<void> {
    this.#check?.cancel();
    this.coordinator.close();
    await this.#expiring;
  }
}
