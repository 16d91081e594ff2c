import type { Broker } from '../broker.js';
import type { OffsetToStore } from '../groups.js';

/** What a client says of one offset that it commits. */
interface CommittedPartition {
  readonly partitionIndex: number;
  readonly committedOffset: number;
  readonly committedLeaderEpoch: number;
  readonly committedMetadata: string | null;
}

interface CommittedTopic {
  readonly name: string;
  readonly partitions: readonly CommittedPartition[];
}

interface AnsweredTopic {
  readonly name: string;
  readonly partitions: { readonly partitionIndex: number; readonly errorCode: number }[];
}

/** The offsets of a commit, one after the other. */
export function offsetsOf(topics: readonly CommittedTopic[]): OffsetToStore[] {
  return topics.flatMap(({ name, partitions }) =>
    partitions.map((at) => ({
      topic: name,
      partition: at.partitionIndex,
      offset: at.committedOffset,
      leaderEpoch: at.committedLeaderEpoch,
      metadata: at.committedMetadata ?? '',
    })),
  );
}

/** The answer to a commit. @param errorCodes of its offsets, in their order */
export function answerOf<T extends CommittedTopic>(
  topics: readonly T[],
  errorCodes: readonly number[],
): (Omit<T, 'partitions'> & AnsweredTopic)[] {
  let next = 0;
  return topics.map((topic) => ({
    ...topic,
    partitions: topic.partitions.map(({ partitionIndex }) => ({
      partitionIndex,
      errorCode: errorCodes[next++]!,
    })),
  }));
}

/** A topic's name by its id; '' if there is none. */
export function nameOfTopic(broker: Broker, topicId: string): string {
  for (const { id, name } of broker.topics.all()) if (id === topicId) return name;
  return '';
}
