import type { Broker } from '../broker.js';
import type { Partition } from '../partition.js';
import { WireError } from './protocol/errors.js';

/** How a request names a topic. */
export interface NamedTopic {
  /** '' if it is named by its id. */
  readonly topic: string;
  readonly topicId: string;
}

/** @throws UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID */
export function findPartition(
  broker: Broker,
  { topic, topicId }: NamedTopic,
  partition: number,
  isById: boolean,
): Partition {
  if (!isById) return broker.topics.partition({ topic, partition });
  const found = broker.topics.byId(topicId);
  if (found !== undefined) return found.partition(partition);
  throw new WireError('UNKNOWN_TOPIC_ID', `there is no topic of the id ${topicId}`);
}
