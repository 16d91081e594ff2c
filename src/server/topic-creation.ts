import type { TopicSettings } from '../options.js';
import type { Topic } from '../topic.js';
import type { Node } from './protocol/api.js';
import { WireError } from './protocol/errors.js';
import { wireDefaults } from './topic-configs.js';

/** A request makes no more: Kafka's limit (ReplicationControlManager.MAX_PARTITIONS_PER_BATCH). */
export const maxPartitionsAtOnce = 10_000;

/**
 * The error of a request that would make more than it may, all its topics together; null: it would not.
 * @param counts of each: one that is too many by itself has an error of its own
 */
export function tooManyPartitions(counts: readonly number[]): WireError | null {
  const made = counts.filter((count) => count > 0 && count <= maxPartitionsAtOnce);
  const sum = made.reduce((before, count) => before + count, 0);
  if (sum <= maxPartitionsAtOnce) return null;
  const message = `${sum} partitions in one request, expected at most ${maxPartitionsAtOnce}`;
  return new WireError('POLICY_VIOLATION', message);
}

/**
 * Creates a topic as a client elsewhere asks for it.
 * @throws TOPIC_ALREADY_EXISTS; INVALID_TOPIC_EXCEPTION; KAFKA_STORAGE_ERROR
 */
export function createTopic(
  { broker, defaultPartitions }: Node,
  name: string,
  partitionCount: number = defaultPartitions,
  settings: Partial<TopicSettings> = {},
): Promise<Topic> {
  const { retentionMs } = wireDefaults;
  const codecs = { key: null, value: null };
  return broker.topics.create({
    name,
    partitionCount,
    settings: { retentionMs, ...settings },
    codecs,
    mustBeNew: true,
  });
}
