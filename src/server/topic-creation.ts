import type { TopicSettings } from '../options.js';
import type { Topic } from '../topic.js';
import type { Node } from './protocol/api.js';
import { wireDefaults } from './topic-configs.js';

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
  return broker.createTopic({
    name,
    partitionCount,
    settings: { retentionMs, ...settings },
    codecs,
    mustBeNew: true,
  });
}
