import type { TopicPartition } from './assignment.js';
import { OttlaError, asStorageError, unknownTopic } from './errors.js';
import { maxStructures } from './msgpack.js';
import type { OffsetStore } from './offsets.js';
import type { TopicSettings } from './options.js';
import type { Partition } from './partition.js';
import type { LogEnvironment } from './partition-environment.js';
import { newTopicId } from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import { put, remove } from './storage/meta-store.js';
import { PartitionDirectories } from './storage/partition-directories.js';
import type { Slices } from './storage/slices.js';
import { Topic, type TopicSpec } from './topic.js';
import { topicNamesCollide } from './topic-name.js';

export interface TopicRegistryOptions {
  readonly env: LogEnvironment;
  /** The data directory. */
  readonly directory: string;
  readonly files: FileSystem;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly defaults: TopicSettings;
  /** Forgets the offsets of what is deleted. */
  readonly offsets: OffsetStore;
  /** Told when there are other topics or partitions, or other options of one. */
  readonly changed: () => void;
  /** @throws INVALID_REQUEST in read-only mode */
  readonly refuseReadOnly: () => void;
}

/** Where groups' offsets are kept: in the metadata store. */
const offsetsTopic = '__consumer_offsets';

/** The topics of one data directory: their rows, their directories, and how they come and go. */
export class TopicRegistry {
  readonly #options: TopicRegistryOptions;
  readonly #directories: PartitionDirectories;
  readonly #byName = new Map<string, Topic>();
  readonly #byId = new Map<string, Topic>();
  /** Changes run one after the other. */
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(options: TopicRegistryOptions) {
    const { directory, files, random } = options;
    this.#options = options;
    this.#directories = new PartitionDirectories(directory, files, random);
    if (options.env.readOnly) this.#follow();
  }

  get #store(): LogEnvironment['store'] {
    return this.#options.env.store;
  }

  /** All there are now. */
  all(): Iterable<Topic> {
    if (this.#options.env.readOnly) this.#follow();
    return this.known;
  }

  /** As all(), without another look in read-only mode. */
  get known(): Iterable<Topic> {
    return this.#byName.values();
  }

  /** Of what is known. */
  get partitions(): Partition[] {
    return [...this.known].flatMap(({ partitions }) => partitions);
  }

  find(name: string): Topic | undefined {
    if (this.#options.env.readOnly) this.#follow();
    return this.#byName.get(name);
  }

  byId(id: string): Topic | undefined {
    return this.#byId.get(id);
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  get(name: string): Topic {
    const topic = this.find(name);
    if (topic !== undefined) return topic;
    throw unknownTopic(name);
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  partition(at: TopicPartition): Partition {
    return this.get(at.topic).partition(at.partition);
  }

  #make(name: string, row: ConstructorParameters<typeof Topic>[4]): Topic {
    const { env, directory, defaults } = this.#options;
    return new Topic(env, directory, defaults, name, row);
  }

  #add(topic: Topic): void {
    this.#byName.set(topic.name, topic);
    this.#byId.set(topic.id, topic);
  }

  async #forget(topic: Topic): Promise<void> {
    this.#byName.delete(topic.name);
    this.#byId.delete(topic.id);
    const gone = new OttlaError('UNKNOWN_TOPIC_OR_PARTITION', `topic ${topic.name} was deleted`);
    await Promise.all(topic.partitions.map((partition) => partition.abandon(gone)));
  }

  /** Takes over which topics the metadata has: at open, and again in read-only mode, where the owner changes it. */
  #follow(): void {
    const names = new Set<string>();
    for (const { key, value } of this.#store.range(['topic'])) {
      if (value.state !== 'live') continue;
      names.add(key[1]);
      const topic = this.#byName.get(key[1]);
      if (topic?.id === value.id) {
        topic.follow(value);
        continue;
      }
      if (topic !== undefined) void this.#forget(topic);
      this.#add(this.#make(key[1], value));
    }
    for (const topic of this.known) if (!names.has(topic.name)) void this.#forget(topic);
  }

  /** Takes over which topics the metadata has, when a directory is opened. */
  async read(slices: Slices): Promise<void> {
    for (const { key, value } of this.#store.range(['topic'])) {
      if (value.state !== 'live') continue;
      const topic = this.#make(key[1], { ...value, partitions: 0 });
      while (topic.partitionCount < value.partitions) {
        topic.grow(topic.partitionCount + 1);
        await slices.turn();
      }
      this.#add(topic);
    }
  }

  /** Finishes creations and deletions that a crash left half done. @returns what it did, in sentences */
  async finishChanges(): Promise<string[]> {
    const done: string[] = [];
    const topics = [...this.#store.range(['topic'])];
    for (const { key, value } of topics) {
      if (value.state === 'live') continue;
      const topic = this.#make(key[1], value);
      await this.#makePartitions(topic, 0);
      this.#add(topic);
      done.push(`${key[1]}: finished creating the topic.`);
    }
    const tombstones = [...this.#store.range(['tombstone'])];
    for (const { key, value } of tombstones) {
      await this.#removeFiles(value.name, key[1]);
      done.push(`${value.name}: finished deleting the topic.`);
    }
    return done;
  }

  /** Runs a change once those before it are done. @throws INVALID_REQUEST in read-only mode */
  inOrder<T>(change: () => Promise<T>): Promise<T> {
    const { directory, refuseReadOnly } = this.#options;
    refuseReadOnly();
    const result = this.#lastChange.then(change).catch((error: unknown) => {
      throw asStorageError(directory, error);
    });
    this.#lastChange = result.catch(() => undefined);
    return result;
  }

  /** Resolves when no change is under way. */
  async settled(): Promise<void> {
    await this.#lastChange;
  }

  /**
   * Creates a topic, or finds that it exists as asked for. Durable once resolved.
   * The name must be a valid one.
   * @throws TOPIC_ALREADY_EXISTS saying what differs
   */
  create(spec: TopicSpec): Promise<Topic> {
    return this.inOrder(async () => {
      const { name, partitionCount, settings, codecs } = spec;
      const existing = this.#byName.get(name);
      if (existing !== undefined) {
        if (spec.mustBeNew === true) {
          throw new OttlaError('TOPIC_ALREADY_EXISTS', `topic ${name} exists`);
        }
        const differences = existing.differences(spec);
        if (differences.length === 0) return existing;
        throw new OttlaError(
          'TOPIC_ALREADY_EXISTS',
          `topic ${name} exists, and differs: ${differences.join('; ')}`,
        );
      }
      this.#refuseCollision(name);
      // A creation that failed half way is gone on with.
      const id = this.#store.get(['topic', name])?.id ?? newTopicId(this.#options.random);
      await this.#setAside(name, id, 0, partitionCount);
      const row = { id, partitions: partitionCount, codecs, options: settings };
      await this.#store.write([put(['topic', name], { ...row, state: 'creating' })]);
      const topic = this.#make(name, row);
      await this.#makePartitions(topic, 0);
      this.#add(topic);
      this.#options.changed();
      return topic;
    });
  }

  /** Names that differ only in '.' and '_' collide in Kafka's metrics; ones differing in case, on some disks. */
  #refuseCollision(name: string): void {
    if (name === offsetsTopic) {
      throw new OttlaError('INVALID_TOPIC_EXCEPTION', `topic name ${name} is reserved`);
    }
    for (const other of [offsetsTopic, ...this.#byName.keys()]) {
      const sameDirectory = other.toLowerCase() === name.toLowerCase();
      if (!topicNamesCollide(name, other) && !sameDirectory) continue;
      throw new OttlaError(
        'INVALID_TOPIC_EXCEPTION',
        `topic name ${name} collides with the topic ${other}: names must differ in more than case, '.' and '_'`,
      );
    }
  }

  #setAside(topic: string, id: string, from: number, end: number): Promise<void> {
    const isDeleted = (found: string): boolean =>
      this.#store.get(['tombstone', found]) !== undefined;
    return this.#directories.setAside(topic, id, from, end, isDeleted);
  }

  /** Adds the directories of partitions from `from` on, then the row that says they are there. */
  async #makePartitions(topic: Topic, from: number): Promise<void> {
    const { name, id, partitionCount } = topic;
    await this.#directories.make(name, id, from, partitionCount);
    await this.#store.write([put(['topic', name], topic.row())]);
  }

  alter(name: string, settings: Partial<TopicSettings>): Promise<void> {
    return this.inOrder(async () => {
      const topic = this.get(name);
      const row = topic.row();
      await this.#store.write([
        put(['topic', name], { ...row, options: { ...row.options, ...settings } }),
      ]);
      topic.alter(settings);
      this.#options.changed();
    });
  }

  /** Stores property names for a topic's records to refer to, unless it has them, or enough. */
  learnStructure(name: string, what: 'key' | 'value', structure: readonly string[]): Promise<void> {
    return this.inOrder(async () => {
      const topic = this.get(name);
      const row = topic.row();
      const known = topic.structures[what];
      const isKnown = known.some((other) => JSON.stringify(other) === JSON.stringify(structure));
      if (isKnown || known.length >= maxStructures) return;
      const structures = { ...topic.structures, [what]: [...known, structure] };
      await this.#store.write([put(['topic', name], { ...row, structures })]);
      topic.structures = structures;
    });
  }

  /** @throws INVALID_PARTITIONS unless there would be more of them */
  addPartitions(name: string, total: number): Promise<void> {
    return this.inOrder(async () => {
      const topic = this.get(name);
      const before = topic.partitionCount;
      if (total <= before) {
        throw new OttlaError(
          'INVALID_PARTITIONS',
          `topic ${name} has ${before} partitions, got ${total}: they can only be added`,
        );
      }
      await this.#setAside(name, topic.id, before, total);
      const grown = this.#make(name, { ...topic.row(), partitions: total });
      await this.#makePartitions(grown, before);
      topic.grow(total);
      this.#options.changed();
    });
  }

  /** Order: a tombstone that names the topic's id, then the files, then the tombstone goes. */
  delete(name: string): Promise<void> {
    const { offsets, changed } = this.#options;
    return this.inOrder(async () => {
      const topic = this.get(name);
      const { id, partitionCount } = topic;
      try {
        await this.#store.write([
          remove(['topic', name]),
          put(['tombstone', id], { name, partitions: partitionCount }),
          ...(await offsets.changesToForget(id)),
        ]);
      } catch (error) {
        offsets.kept(id);
        throw error;
      }
      const closed = this.#forget(topic);
      offsets.forgotten(id);
      changed();
      await closed;
      await this.#removeFiles(name, id);
    });
  }

  async #removeFiles(name: string, id: string): Promise<void> {
    await this.#directories.remove(name, id);
    const rows = [
      ...[...this.#store.range(['partition', id])].map(({ key }) => remove(key)),
      ...[...this.#store.range(['segment', id])].map(({ key }) => remove(key)),
      ...[...this.#store.range(['compaction', id])].map(({ key }) => remove(key)),
    ];
    await this.#store.write([...rows, remove(['tombstone', id])]);
  }
}
