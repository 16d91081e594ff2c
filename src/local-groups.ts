import { keyOf, type TopicPartition } from './assignment.js';
import type { Broker } from './broker.js';
import type { CommitPosition, GroupInfo } from './engine.js';
import { asStorageError } from './errors.js';
import type { Partition } from './partition.js';

/** Looks at the groups of a broker, and moves or deletes what they have committed. */
export class LocalGroups {
  readonly #broker: Broker;

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** A group exists while it has members here or commits. */
  list(): string[] {
    const { groups, offsets, readOnly } = this.#broker;
    if (readOnly) offsets.reload();
    return [...groups.groupIds()].toSorted();
  }

  /** @throws GROUP_ID_NOT_FOUND */
  async describe(groupId: string): Promise<GroupInfo> {
    const { coordinator, offsets, readOnly } = this.#broker;
    if (readOnly) offsets.reload();
    const described = coordinator.describe(groupId);
    this.#broker.groups.refuseUnknown(groupId);
    const subscribed = coordinator.subscriptions(groupId);
    const owners = new Map(
      described?.members.flatMap(({ memberId, assignment }) =>
        assignment.map((at) => [keyOf(at), memberId]),
      ),
    );
    const partitions = [];
    for (const topic of this.#broker.topics.all()) {
      for (const partition of topic.partitions) {
        const at = { topic: topic.name, partition: partition.index };
        const offset = offsets.fetch(groupId, topic.id, partition.index)?.offset ?? -1;
        if (offset === -1 && !subscribed.has(topic.name)) continue;
        const known = await this.#end(partition).catch((error: unknown) => ({
          end: partition.storedExtent.nextOffset,
          error: asStorageError(partition.name, error),
        }));
        const lag = offset === -1 ? -1 : Math.max(0, known.end - offset);
        const memberId = owners.get(keyOf(at)) ?? null;
        partitions.push({ ...at, committed: offset, lag, memberId, ...known });
      }
    }
    return {
      groupId,
      state: described?.state ?? 'Empty',
      generation: described?.generation ?? this.#broker.groups.lastGeneration(groupId),
      assignor: described?.assignor ?? null,
      members: described?.members ?? [],
      partitions,
    };
  }

  async #end(partition: Partition): Promise<{ readonly end: number }> {
    if (this.#broker.readOnly) await partition.refresh();
    return { end: partition.lastStableOffset };
  }

  /** Kafka's alterConsumerGroupOffsets. A group that was not known begins with these. */
  async setOffsets(groupId: string, positions: readonly CommitPosition[]): Promise<void> {
    this.#broker.refuseReadOnly();
    this.#broker.groups.refuseMembers(groupId);
    const offsets = positions.map(({ topic, partition, offset, metadata = '' }) => {
      const log = this.#broker.topics.partition({ topic, partition });
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

  async deleteOffsets(groupId: string, partitions: readonly TopicPartition[]): Promise<void> {
    this.#broker.refuseReadOnly();
    // What does not exist is refused rather than passed over.
    for (const at of partitions) this.#broker.topics.partition(at);
    await this.#broker.groups.deleteOffsets(groupId, partitions);
  }

  async delete(groupId: string): Promise<void> {
    this.#broker.refuseReadOnly();
    await this.#broker.groups.delete(groupId);
  }
}
