import type { TopicPartition } from './assignment.js';
import { countingPolls, type Clock } from './clock.js';
import { OttlaError, asStorageError, unknownTopic } from './errors.js';
import type { GroupCoordinator } from './group.js';
import { GroupRegistry } from './groups.js';
import { maxStructures } from './msgpack.js';
import type { OffsetStore } from './offsets.js';
import { commitsIn, rewindCommits, type FindPartition } from './offsets-rewind.js';
import { topicDefaults, type TopicSettings } from './options.js';
import type { HeldLog, Partition } from './partition.js';
import type { LogEnvironment } from './partition-environment.js';
import { LogQuota } from './partition-quota.js';
import { Retention } from './retention.js';
import { Slices } from './storage/slices.js';
import { newTopicId } from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import { put, remove, type MetaStore } from './storage/meta-store.js';
import { OpenFiles } from './storage/open-files.js';
import { PartitionDirectories } from './storage/partition-directories.js';
import { SyncQueue } from './storage/sync-queue.js';
import { topicNamesCollide } from './topic-name.js';
import { LogCleaner } from './partition-cleaner.js';
import { Topic, type TopicSpec } from './topic.js';
import { TransactionCoordinator } from './transaction.js';

/** What a broker stands on. */
export interface BrokerOptions {
  readonly directory: string;
  readonly files: FileSystem;
  readonly store: MetaStore;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly syncs: SyncQueue;
  readonly readOnly: boolean;
  readonly defaults: Partial<TopicSettings>;
  /** Bound on the bytes of all logs. @default none */
  readonly maxBytes?: number;
  /** How long the offsets of a group without members are kept. @default for ever */
  readonly offsetsRetentionMs?: number;
}

/** What a backup copies: the files and rows of a broker in use. */
export interface BackupSource extends Pick<
  BrokerOptions,
  'directory' | 'files' | 'store' | 'clock' | 'random'
> {
  /** Partition.holdSegments(). @throws UNKNOWN_TOPIC_OR_PARTITION */
  readonly holdSegments: (
    at: TopicPartition,
    work: (look: () => HeldLog) => Promise<void>,
  ) => Promise<void>;
}

/** Where groups' offsets are kept: in the metadata store. */
const offsetsTopic = '__consumer_offsets';

/**
 * The lower seam: topics and their logs, the coordinator and the offsets of one data directory. Batches
 * go in and out as bytes.
 */
export class Broker {
  readonly clock: Clock;
  readonly random: () => number;
  readonly readOnly: boolean;
  readonly directory: string;
  readonly groups: GroupRegistry;
  readonly offsets: OffsetStore;
  readonly coordinator: GroupCoordinator;
  readonly retention: Retention;
  readonly transactions: TransactionCoordinator;
  /** What open had to cut, rewind or finish; one sentence each. */
  readonly recovery: string[] = [];
  /** Told of what is found amiss later, when a partition is first used. */
  onWarning: (warning: string) => void = (warning) => this.recovery.push(warning);
  readonly #env: LogEnvironment;
  readonly #files: FileSystem;
  readonly #directories: PartitionDirectories;
  readonly #store: MetaStore;
  readonly #defaults: TopicSettings;
  readonly #topics = new Map<string, Topic>();
  readonly #topicsById = new Map<string, Topic>();
  readonly #cleaner: LogCleaner;
  /** What is to be done once all partitions were looked at; null: they were. */
  #untilAllAreSeen: (() => void)[] | null = null;
  #waitingForChange: (() => void)[] = [];
  #storeId: string | null = null;
  /** Changes of topics run one after the other. */
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(options: BrokerOptions) {
    const { store, clock, files, syncs, readOnly } = options;
    this.clock = clock;
    this.random = options.random;
    this.readOnly = readOnly;
    this.directory = options.directory;
    this.#files = files;
    this.#directories = new PartitionDirectories(options.directory, files, options.random);
    this.#store = store;
    this.#defaults = { ...topicDefaults, ...options.defaults };
    this.#env = {
      openFiles: new OpenFiles(files),
      store,
      clock,
      syncs,
      compactions: new SyncQueue(1),
      readOnly,
      onceAllAreSeen: (run) => {
        if (this.#untilAllAreSeen === null) clock.soon(run);
        else this.#untilAllAreSeen.push(run);
      },
      quota: new LogQuota(options.maxBytes ?? Infinity, (warning) => this.onWarning(warning)),
      warn: (warning) => this.onWarning(warning),
    };
    this.#cleaner = new LogCleaner(clock, () => this.#partitions());
    this.groups = new GroupRegistry({
      store,
      clock,
      newMemberId: (prefix) => this.newMemberId(prefix),
      findTopic: (name) => this.findTopic(name),
      topics: () => this.topics(),
      committed: () => {
        this.tellChange();
        this.retention.committed();
      },
      rebalanced: () => this.tellChange(),
      offsetsRetentionMs: options.offsetsRetentionMs ?? Infinity,
    });
    this.offsets = this.groups.offsets;
    this.coordinator = this.groups.coordinator;
    this.retention = new Retention({
      clock,
      offsets: this.offsets,
      coordinator: this.coordinator,
      topics: () => this.#topics.values(),
      warn: (warning) => this.onWarning(warning),
    });
    this.transactions = new TransactionCoordinator({
      clock: countingPolls(clock),
      random: options.random,
      store,
      offsets: this.offsets,
      partition: (topicId, partition) => this.topicById(topicId)?.partitions[partition],
      ended: () => this.tellChange(),
      warn: (warning) => this.onWarning(warning),
    });
    if (!options.readOnly) return;
    this.#followTopics();
    this.offsets.reload();
  }

  /** As findTopic(), by its id. */
  topicById(id: string): Topic | undefined {
    return this.#topicsById.get(id);
  }

  /** What a backup copies from. @throws INVALID_REQUEST in read-only mode, which has no moment of its own */
  get backupSource(): BackupSource {
    this.refuseReadOnly();
    const { directory, clock, random } = this;
    return {
      directory,
      files: this.#files,
      store: this.#store,
      clock,
      random,
      holdSegments: async (at, work) => this.partition(at).holdSegments(work),
    };
  }

  #makeTopic(name: string, row: ConstructorParameters<typeof Topic>[4]): Topic {
    return new Topic(this.#env, this.directory, this.#defaults, name, row);
  }

  /** Names the data, wherever it lies; of what is only in memory, this broker. */
  get storeId(): string {
    this.#storeId ??= this.#store.get(['store'])?.storeId ?? newTopicId(this.random);
    return this.#storeId;
  }

  newMemberId(clientId: string): string {
    return `${clientId}-${newTopicId(this.random)}`;
  }

  /** Resolves after the next commit or rebalance, or tellChange(). */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waitingForChange.push(resolve));
  }

  /** Whoever waits for a change looks again. */
  tellChange(): void {
    const waiting = this.#waitingForChange;
    this.#waitingForChange = [];
    for (const resolve of waiting) resolve();
  }

  /**
   * Finishes what a crash left half done: creations, deletions, the ends of logs, commits above them.
   * What was found is in `recovery`.
   */
  async recover(): Promise<void> {
    const slices = new Slices(this.clock, `opening ${this.directory}`);
    await this.#readTopics(slices);
    await this.offsets.load(slices);
    const unclean: Partition[] = [];
    const changes: (() => void)[] = [];
    this.#untilAllAreSeen = changes;
    for (const partition of this.#partitions()) {
      await slices.turn();
      if (!partition.needsRecovery()) continue;
      // Metadata that is lost shows here, before anything is changed.
      partition.open();
      unclean.push(partition);
    }
    for (const { partition } of commitsIn(this.offsets, this.#finder())) {
      await slices.turn();
      partition.open();
    }
    this.#untilAllAreSeen = null;
    for (const change of changes) this.clock.soon(change);
    const topics = [...this.#store.range(['topic'])];
    for (const { key, value } of topics) {
      if (value.state === 'live') continue;
      const topic = this.#makeTopic(key[1], value);
      await this.#makePartitions(topic, 0);
      this.#add(topic);
      this.recovery.push(`${key[1]}: finished creating the topic.`);
    }
    const tombstones = [...this.#store.range(['tombstone'])];
    for (const { key, value } of tombstones) {
      await this.#removeFiles(value.name, key[1]);
      this.recovery.push(`${value.name}: finished deleting the topic.`);
    }
    for (const partition of unclean) {
      await slices.turn();
      const report = await partition.recover();
      if (report !== null) this.recovery.push(report);
    }
    this.recovery.push(...(await this.transactions.recover(this.#partitions(), slices)));
    this.recovery.push(...(await rewindCommits(this.offsets, this.#finder(), null, slices)));
    for (const partition of this.#env.quota.isBounded ? this.#partitions() : []) {
      await slices.turn();
      partition.count();
    }
    this.#cleaner.start();
  }

  async #readTopics(slices: Slices): Promise<void> {
    for (const { key, value } of this.#store.range(['topic'])) {
      if (value.state !== 'live') continue;
      const topic = this.#makeTopic(key[1], { ...value, partitions: 0 });
      while (topic.partitionCount < value.partitions) {
        topic.grow(topic.partitionCount + 1);
        await slices.turn();
      }
      this.#add(topic);
    }
  }

  /** Of the topics that there are now. */
  #finder(): FindPartition {
    return (topicId, partition) => this.topicById(topicId)?.partitions[partition];
  }

  #partitions(): Partition[] {
    return [...this.#topics.values()].flatMap(({ partitions }) => partitions);
  }

  /**
   * Reads a partition's files again, and takes back commits above the end that it then has.
   * @returns a sentence on what was cut, or null
   * @throws why it takes no records still; METADATA_LOST, UNKNOWN_TOPIC_OR_PARTITION, CLOSED
   */
  async reopen(at: TopicPartition): Promise<string | null> {
    this.refuseReadOnly();
    const partition = this.partition(at);
    const report = await partition.reopen();
    // Transactions that could not end there do now.
    await this.transactions.writePending();
    const slices = new Slices(this.clock, `reopening ${partition.name}`);
    const rewound = await rewindCommits(this.offsets, this.#finder(), partition, slices);
    for (const sentence of rewound) this.onWarning(sentence);
    if (partition.failure !== null) throw partition.failure;
    return report;
  }

  topics(): Iterable<Topic> {
    if (this.readOnly) this.#followTopics();
    return this.#topics.values();
  }

  findTopic(name: string): Topic | undefined {
    if (this.readOnly) this.#followTopics();
    return this.#topics.get(name);
  }

  /** Takes over which topics the metadata has: at open, and again in read-only mode, where the owner changes it. */
  #followTopics(): void {
    const names = new Set<string>();
    for (const { key, value } of this.#store.range(['topic'])) {
      if (value.state !== 'live') continue;
      names.add(key[1]);
      const topic = this.#topics.get(key[1]);
      if (topic?.id === value.id) {
        topic.follow(value);
        continue;
      }
      if (topic !== undefined) void this.#forget(topic);
      this.#add(this.#makeTopic(key[1], value));
    }
    for (const topic of this.#topics.values()) if (!names.has(topic.name)) void this.#forget(topic);
  }

  #add(topic: Topic): void {
    this.#topics.set(topic.name, topic);
    this.#topicsById.set(topic.id, topic);
  }

  async #forget(topic: Topic): Promise<void> {
    this.#topics.delete(topic.name);
    this.#topicsById.delete(topic.id);
    const gone = new OttlaError('UNKNOWN_TOPIC_OR_PARTITION', `topic ${topic.name} was deleted`);
    await Promise.all(topic.partitions.map((partition) => partition.abandon(gone)));
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  topic(name: string): Topic {
    const topic = this.findTopic(name);
    if (topic !== undefined) return topic;
    throw unknownTopic(name);
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  partition(at: TopicPartition): Partition {
    return this.topic(at.topic).partition(at.partition);
  }

  #inOrder<T>(change: () => Promise<T>): Promise<T> {
    this.refuseReadOnly();
    const result = this.#lastChange.then(change).catch((error: unknown) => {
      throw asStorageError(this.directory, error);
    });
    this.#lastChange = result.catch(() => undefined);
    return result;
  }

  /** @throws INVALID_REQUEST */
  refuseReadOnly(): void {
    if (!this.readOnly) return;
    throw new OttlaError('INVALID_REQUEST', `${this.directory} was opened read-only`);
  }

  /**
   * Creates a topic, or finds that it exists as asked for. Durable once resolved.
   * The name must be a valid one.
   * @throws TOPIC_ALREADY_EXISTS saying what differs
   */
  createTopic(spec: TopicSpec): Promise<Topic> {
    return this.#inOrder(async () => {
      const { name, partitionCount, settings, codecs } = spec;
      const existing = this.#topics.get(name);
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
      const id = this.#store.get(['topic', name])?.id ?? newTopicId(this.random);
      await this.#setAside(name, id, 0, partitionCount);
      const row = { id, partitions: partitionCount, codecs, options: settings };
      await this.#store.write([put(['topic', name], { ...row, state: 'creating' })]);
      const topic = this.#makeTopic(name, row);
      await this.#makePartitions(topic, 0);
      this.#add(topic);
      this.coordinator.topicsChanged();
      this.retention.topicsChanged();
      this.#cleaner.start();
      return topic;
    });
  }

  /** Names that differ only in '.' and '_' collide in Kafka's metrics; ones differing in case, on some disks. */
  #refuseCollision(name: string): void {
    if (name === offsetsTopic) {
      throw new OttlaError('INVALID_TOPIC_EXCEPTION', `topic name ${name} is reserved`);
    }
    for (const other of [offsetsTopic, ...this.#topics.keys()]) {
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

  alterTopic(name: string, settings: Partial<TopicSettings>): Promise<void> {
    return this.#inOrder(async () => {
      const topic = this.topic(name);
      const row = topic.row();
      await this.#store.write([
        put(['topic', name], { ...row, options: { ...row.options, ...settings } }),
      ]);
      topic.alter(settings);
      this.retention.topicsChanged();
      this.#cleaner.start();
    });
  }

  /** Stores property names for a topic's records to refer to, unless it has them, or enough. */
  learnStructure(name: string, what: 'key' | 'value', structure: readonly string[]): Promise<void> {
    return this.#inOrder(async () => {
      const topic = this.topic(name);
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
    return this.#inOrder(async () => {
      const topic = this.topic(name);
      const before = topic.partitionCount;
      if (total <= before) {
        throw new OttlaError(
          'INVALID_PARTITIONS',
          `topic ${name} has ${before} partitions, got ${total}: they can only be added`,
        );
      }
      await this.#setAside(name, topic.id, before, total);
      const grown = this.#makeTopic(name, { ...topic.row(), partitions: total });
      await this.#makePartitions(grown, before);
      topic.grow(total);
      this.coordinator.topicsChanged();
    });
  }

  /**
   * Deletes a partition's records before an offset, durably; below the log start there is nothing to do.
   * @returns the log start offset then
   * @throws OFFSET_OUT_OF_RANGE above the high watermark
   */
  deleteRecords(at: TopicPartition, beforeOffset: number): Promise<number> {
    return this.#inOrder(async () => {
      const partition = this.partition(at);
      await partition.deleteRecords(beforeOffset);
      this.retention.topicsChanged();
      this.tellChange();
      return partition.logStartOffset;
    });
  }

  /** Order: a tombstone that names the topic's id, then the files, then the tombstone goes. */
  deleteTopic(name: string): Promise<void> {
    return this.#inOrder(async () => {
      const topic = this.topic(name);
      const { id, partitionCount } = topic;
      try {
        await this.#store.write([
          remove(['topic', name]),
          put(['tombstone', id], { name, partitions: partitionCount }),
          ...(await this.offsets.changesToForget(id)),
        ]);
      } catch (error) {
        this.offsets.kept(id);
        throw error;
      }
      const closed = this.#forget(topic);
      this.offsets.forgotten(id);
      this.coordinator.topicsChanged();
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

  /** Closes the files without another write: opening failed. */
  async abandon(error: OttlaError): Promise<void> {
    await Promise.all(this.#partitions().map((partition) => partition.abandon(error)));
  }

  async #closePartitions(): Promise<void> {
    const slices = new Slices(this.clock, `closing ${this.directory}`);
    const closing: Promise<void>[] = [];
    for (const partition of this.#partitions()) {
      const closed = partition.close();
      // Heard below, once all are being closed.
      closed.catch(() => undefined);
      closing.push(closed);
      await slices.turn();
    }
    await Promise.all(closing);
  }

  /** Makes everything durable and closes. */
  async close(): Promise<void> {
    await this.#lastChange;
    await this.groups.close();
    this.#cleaner.stop();
    await this.retention.stop();
    if (!this.readOnly) await this.transactions.close();
    await this.#closePartitions();
    await this.#store.close();
  }
}
