import type { TopicSettings } from '../options.js';
import type { Topic } from '../topic.js';
import type { Node } from './protocol/api.js';

/** Where Kafka's default is not Ottla's: who creates a topic over the wire expects Kafka's. */
const kafkaDefaults: Partial<TopicSettings> = { retentionMs: 7 * 24 * 60 * 60 * 1000 };

/**
 * Creates a topic as a client elsewhere asks for it.
 * @throws TOPIC_ALREADY_EXISTS if there is one with other options; INVALID_TOPIC_EXCEPTION;
 *   KAFKA_STORAGE_ERROR
 */
export function createTopic(
  { broker, defaultPartitions }: Node,
  name: string,
  partitionCount: number = defaultPartitions,
  settings: Partial<TopicSettings> = {},
): Promise<Topic> {
  return broker.createTopic({
    name,
    partitionCount,
    settings: { ...kafkaDefaults, ...settings },
    codecs: { key: null, value: null },
  });
}
