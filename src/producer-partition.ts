import { got, type Partitioner } from './options.js';
import { RoundRobinPartitioner, partitionForKey } from './partitioner.js';
import type { Bytes } from './record.js';
import type { TopicInfo } from './topic.js';

/** Which partitions a producer's records go to. */
export class PartitionChoice {
  readonly #custom: Partitioner | null;

  /** @param random draws from 0 to below 1 */
  constructor(partitioner: 'default' | 'roundrobin' | Partitioner, random: () => number) {
    this.#custom = customOf(partitioner, random);
  }

  /** -1: the sticky rule of the engine. @throws TypeError, RangeError */
  of({ name, partitionCount }: TopicInfo, explicit: number | undefined, key: Bytes | null): number {
    if (explicit !== undefined) return checkedPartition(name, explicit, partitionCount);
    if (this.#custom !== null) {
      return checkedPartition(name, this.#custom(name, key, partitionCount), partitionCount);
    }
    if (partitionCount === 1) return 0;
    return key === null ? -1 : partitionForKey(key, partitionCount);
  }
}

function customOf(
  partitioner: 'default' | 'roundrobin' | Partitioner,
  random: () => number,
): Partitioner | null {
  if (typeof partitioner === 'function') return partitioner;
  if (partitioner === 'default') return null;
  const roundRobin = new RoundRobinPartitioner(() => (random() * 2 ** 32) | 0);
  return (topic, _key, partitionCount) => roundRobin.partition(topic, partitionCount);
}

function checkedPartition(topic: string, partition: number, partitionCount: number): number {
  if (Number.isInteger(partition) && partition >= 0 && partition < partitionCount) return partition;
  const message = `topic ${topic}: expected a partition from 0 to ${partitionCount - 1}, got ${got(partition)}`;
  if (typeof partition !== 'number') throw new TypeError(message);
  throw Object.assign(new RangeError(message), { code: 'UNKNOWN_TOPIC_OR_PARTITION' });
}
