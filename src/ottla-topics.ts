import type { Engine, PartitionInfo, PartitionOffset } from './engine.js';
import {
  checkOptions,
  checkValue,
  either,
  integer,
  oneOf,
  timeCheck,
  topicOptions,
  type From,
  type TopicOptions,
  type TopicSettings,
} from './options.js';
import { checkTopicName, definitionOf, type TopicRef } from './serde.js';

/** A topic, and how far each of its partitions is. */
export interface TopicDescription {
  readonly name: string;
  /** Different for a topic of the same name that was deleted and created anew. */
  readonly id: string;
  readonly options: Required<TopicOptions>;
  readonly partitions: readonly PartitionInfo[];
}

/** Creates, changes and deletes topics. All of it is durable once resolved. */
export class Topics {
  readonly #engine: Engine;

  /** @internal */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Creates a topic; fine if it exists with the same partitions, options and codecs.
   * @throws TOPIC_ALREADY_EXISTS, saying what differs; TypeError, RangeError
   */
  async create(topic: TopicRef, options?: TopicOptions): Promise<void> {
    const definition = definitionOf('topics.create', topic);
    if (options !== undefined && typeof topic !== 'string') {
      throw new TypeError('topics.create: a definition has its options already');
    }
    const { name, key, value, headers } = definition;
    checkTopicName('topics.create', name);
    const given = options === undefined ? definition.options : options;
    checkOptions(`topics.create ${name}`, topicOptions, given);
    const { partitions = 1, ...settings } = given;
    await this.#engine.createTopic({
      name,
      partitionCount: partitions,
      settings: defined(settings),
      codecs: {
        key: key.name,
        value: value.name,
        ...(headers !== null && { headers: headers.name }),
      },
    });
  }

  /** Names of all topics. */
  async list(): Promise<string[]> {
    return this.#engine
      .topics()
      .map(({ name }) => name)
      .toSorted();
  }

  /** A topic's id, options and partitions as they are now. @throws UNKNOWN_TOPIC_OR_PARTITION */
  async describe(topic: TopicRef): Promise<TopicDescription> {
    const { name } = definitionOf('topics.describe', topic);
    const partitions = await this.#engine.partitions(name);
    const { id, settings, partitionCount } = this.#engine.topic(name)!;
    return { name, id, options: { partitions: partitionCount, ...settings }, partitions };
  }

  /**
   * An offset of each partition: its first record's, its end, or that of the first record from a time on
   * (the end if there is none).
   * @throws UNKNOWN_TOPIC_OR_PARTITION; TypeError
   */
  async listOffsets(topic: TopicRef, at: Exclude<From, 'none'>): Promise<PartitionOffset[]> {
    const { name } = definitionOf('topics.listOffsets', topic);
    checkValue('topics.listOffsets', 'at', either(oneOf('earliest', 'latest'), timeCheck), at);
    const partitions = await this.#engine.partitions(name);
    return Promise.all(
      partitions.map(async ({ partition }) => ({
        partition,
        offset: (await this.#engine.offsetFor({ topic: name, partition }, at, 'read_committed'))!,
      })),
    );
  }

  /** Changes options; the number of partitions has a call of its own. @throws UNKNOWN_TOPIC_OR_PARTITION */
  async alter(topic: TopicRef, options: Omit<TopicOptions, 'partitions'>): Promise<void> {
    const { name } = definitionOf('topics.alter', topic);
    const { partitions: _partitions, ...table } = topicOptions;
    if (options === undefined) throw new TypeError('topics.alter: expected options, got undefined');
    checkOptions(`topics.alter ${name}`, table, options);
    await this.#engine.alterTopic(name, defined(options));
  }

  /**
   * Adds partitions up to `total`. Keys may go to other partitions from then on.
   * @throws INVALID_PARTITIONS unless there would be more of them
   */
  async addPartitions(topic: TopicRef, total: number): Promise<void> {
    const { name } = definitionOf('topics.addPartitions', topic);
    checkValue('topics.addPartitions', 'total', topicOptions.partitions, total);
    await this.#engine.addPartitions(name, total);
  }

  /**
   * Deletes a partition's records before `beforeOffset`, durably: the log start offset moves there, and
   * never back. Whole segments below are freed; records of the others can no longer be read (Kafka's
   * DeleteRecords, KIP-107). Consumers that were behind go on as their `from` says.
   * @returns the log start offset then: a higher one if the log began behind `beforeOffset` already
   * @throws OFFSET_OUT_OF_RANGE above the high watermark; UNKNOWN_TOPIC_OR_PARTITION; RangeError, TypeError
   */
  async deleteRecords(topic: TopicRef, partition: number, beforeOffset: number): Promise<number> {
    const { name } = definitionOf('topics.deleteRecords', topic);
    checkValue('topics.deleteRecords', 'partition', integer(0), partition);
    checkValue('topics.deleteRecords', 'beforeOffset', integer(0), beforeOffset);
    return this.#engine.deleteRecords({ topic: name, partition }, beforeOffset);
  }

  /**
   * Reads a partition's files again, after its failure was mended; until then it refuses appends.
   * @returns what had to be cut, in a sentence, or null
   */
  async reopen(topic: TopicRef, partition: number): Promise<string | null> {
    const { name } = definitionOf('topics.reopen', topic);
    checkValue('topics.reopen', 'partition', integer(0), partition);
    return this.#engine.reopenPartition({ topic: name, partition });
  }

  /** Deletes a topic with its records and all groups' commits of it. @throws UNKNOWN_TOPIC_OR_PARTITION */
  async delete(topic: TopicRef): Promise<void> {
    await this.#engine.deleteTopic(definitionOf('topics.delete', topic).name);
  }
}

function defined(settings: Omit<TopicOptions, 'partitions'>): Partial<TopicSettings> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}
