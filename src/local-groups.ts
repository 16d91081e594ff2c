import { keyOf, type TopicPartition } from './assignment.js';
import type { Broker } from './broker.js';
import type { CommitPosition, GroupInfo } from './engine.js';
import { OttlaError } from './errors.js';
import type { CommittedOffset } from './offsets.js';

/** Looks at the groups of a broker, and moves or deletes what they have committed. */
export class LocalGroups {
  readonly #broker: Broker;

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** A group exists while it has members here or commits. */
  list(): string[] {
    const { coordinator, offsets, readOnly } = this.#broker;
    if (readOnly) offsets.reload();
    return [...new Set([...coordinator.groupIds(), ...offsets.groups()])].toSorted();
  }

  /** @throws GROUP_ID_NOT_FOUND */
  async describe(groupId: string): Promise<GroupInfo> {
    const { coordinator, offsets, readOnly } = this.#broker;
    if (readOnly) offsets.reload();
    const described = coordinator.describe(groupId);
    this.#refuseUnknown(groupId);
    const subscribed = coordinator.subscriptions(groupId);
    const partitions = [];
    for (const topic of this.#broker.topics()) {
      for (const partition of topic.partitions) {
        const at = { topic: topic.name, partition: partition.index };
        const offset = offsets.fetch(groupId, topic.id, partition.index)?.offset ?? -1;
        if (offset === -1 && !subscribed.has(topic.name)) continue;
        if (readOnly) await partition.refresh();
        const end = partition.lastStableOffset;
        const lag = offset === -1 ? -1 : Math.max(0, end - offset);
        const memberId = coordinator.ownerOf(groupId, at);
        partitions.push({ ...at, committed: offset, end, lag, memberId });
      }
    }
    return {
      groupId,
      state: described?.state ?? 'Empty',
      generation: described?.generation ?? this.#broker.lastGeneration(groupId),
      assignor: described?.assignor ?? null,
      members: described?.members ?? [],
      partitions,
    };
  }

  /** Kafka's alterConsumerGroupOffsets. A group that was not known begins with these. */
  async setOffsets(groupId: string, positions: readonly CommitPosition[]): Promise<void> {
    this.#broker.refuseReadOnly();
    this.#refuseMembers(groupId);
    const offsets = positions.map(({ topic, partition, offset, metadata = '' }) => {
      const log = this.#broker.partition({ topic, partition });
      return {
        topicId: log.topicId,
        partition,
        offset,
        leaderEpoch: log.epochBefore(offset),
        metadata,
      };
    });
    await this.#broker.offsets.commit(groupId, offsets);
  }

  /** Kafka's OffsetDelete (KIP-496): not while a member subscribes to the topic. */
  async deleteOffsets(groupId: string, partitions: readonly TopicPartition[]): Promise<void> {
    this.#broker.refuseReadOnly();
    this.#refuseUnknown(groupId);
    const subscribed = this.#broker.coordinator.subscriptions(groupId);
    const offsets: CommittedOffset[] = [];
    for (const at of partitions) {
      if (subscribed.has(at.topic)) {
        throw new OttlaError(
          'GROUP_SUBSCRIBED_TO_TOPIC',
          `group ${groupId} has members that subscribe to ${at.topic}: offsets of ${keyOf(at)} were not deleted`,
        );
      }
      const { topicId } = this.#broker.partition(at);
      const offset = this.#broker.offsets.fetch(groupId, topicId, at.partition);
      if (offset !== undefined) offsets.push(offset);
    }
    await this.#broker.offsets.forget(groupId, offsets);
  }

  async delete(groupId: string): Promise<void> {
    this.#broker.refuseReadOnly();
    this.#refuseUnknown(groupId);
    this.#refuseMembers(groupId);
    await this.#broker.offsets.forgetGroup(groupId);
  }

  #refuseUnknown(groupId: string): void {
    const { coordinator, offsets } = this.#broker;
    if (coordinator.describe(groupId) !== undefined || offsets.has(groupId)) return;
    throw new OttlaError('GROUP_ID_NOT_FOUND', `there is no group ${JSON.stringify(groupId)}`);
  }

  #refuseMembers(groupId: string): void {
    const members = this.#broker.coordinator.describe(groupId)?.members.length ?? 0;
    if (members === 0) return;
    throw new OttlaError(
      'NON_EMPTY_GROUP',
      `group ${groupId} has ${members} members: close them first`,
    );
  }
}
