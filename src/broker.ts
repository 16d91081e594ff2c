import type { TopicPartition } from './assignment.js';
import { countingPolls, type Clock } from './clock.js';
import { OttlaError } from './errors.js';
import type { GroupCoordinator } from './group.js';
import { GroupRegistry } from './groups.js';
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
import type { MetaStore } from './storage/meta-store.js';
import { OpenFiles } from './storage/open-files.js';
import { SyncQueue } from './storage/sync-queue.js';
import { LogCleaner } from './partition-cleaner.js';
import { TopicRegistry } from './topics.js';
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

/**
 * The lower seam: topics and their logs, the coordinator and the offsets of one data directory. Batches
 * go in and out as bytes.
 */
export class Broker {
  readonly clock: Clock;
  readonly random: () => number;
  readonly readOnly: boolean;
  readonly directory: string;
  readonly topics: TopicRegistry;
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
  readonly #store: MetaStore;
  readonly #cleaner: LogCleaner;
  /** What is to be done once all partitions were looked at; null: they were. */
  #untilAllAreSeen: (() => void)[] | null = null;
  #waitingForChange: (() => void)[] = [];
  #storeId: string | null = null;

  constructor(options: BrokerOptions) {
    const { store, clock, files, syncs, readOnly } = options;
    this.clock = clock;
    this.random = options.random;
    this.readOnly = readOnly;
    this.directory = options.directory;
    this.#files = files;
    this.#store = store;
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
    this.#cleaner = new LogCleaner(clock, () => this.topics.partitions);
    this.groups = new GroupRegistry({
      store,
      clock,
      newMemberId: (prefix) => this.newMemberId(prefix),
      findTopic: (name) => this.topics.find(name),
      topics: () => this.topics.all(),
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
      topics: () => this.topics.known,
      warn: (warning) => this.onWarning(warning),
    });
    this.transactions = new TransactionCoordinator({
      clock: countingPolls(clock),
      random: options.random,
      store,
      offsets: this.offsets,
      partition: (topicId, partition) => this.topics.byId(topicId)?.partitions[partition],
      ended: () => this.tellChange(),
      warn: (warning) => this.onWarning(warning),
    });
    this.topics = new TopicRegistry({
      env: this.#env,
      directory: options.directory,
      files,
      random: options.random,
      defaults: { ...topicDefaults, ...options.defaults },
      offsets: this.offsets,
      changed: () => {
        this.coordinator.topicsChanged();
        this.retention.topicsChanged();
        this.#cleaner.start();
      },
      refuseReadOnly: () => this.refuseReadOnly(),
    });
    if (options.readOnly) this.offsets.reload();
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
      holdSegments: async (at, work) => this.topics.partition(at).holdSegments(work),
    };
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
    await this.topics.read(slices);
    await this.offsets.load(slices);
    const unclean: Partition[] = [];
    const changes: (() => void)[] = [];
    this.#untilAllAreSeen = changes;
    for (const partition of this.topics.partitions) {
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
    this.recovery.push(...(await this.topics.finishChanges()));
    for (const partition of unclean) {
      await slices.turn();
      const report = await partition.recover();
      if (report !== null) this.recovery.push(report);
    }
    this.recovery.push(...(await this.transactions.recover(this.topics.partitions, slices)));
    this.recovery.push(...(await rewindCommits(this.offsets, this.#finder(), null, slices)));
    for (const partition of this.#env.quota.isBounded ? this.topics.partitions : []) {
      await slices.turn();
      partition.count();
    }
    this.#cleaner.start();
  }

  /** Of the topics that there are now. */
  #finder(): FindPartition {
    return (topicId, partition) => this.topics.byId(topicId)?.partitions[partition];
  }

  /**
   * Reads a partition's files again, and takes back commits above the end that it then has.
   * @returns a sentence on what was cut, or null
   * @throws why it takes no records still; METADATA_LOST, UNKNOWN_TOPIC_OR_PARTITION, CLOSED
   */
  async reopen(at: TopicPartition): Promise<string | null> {
    this.refuseReadOnly();
    const partition = this.topics.partition(at);
    const report = await partition.reopen();
    // Transactions that could not end there do now.
    await this.transactions.writePending();
    const slices = new Slices(this.clock, `reopening ${partition.name}`);
    const rewound = await rewindCommits(this.offsets, this.#finder(), partition, slices);
    for (const sentence of rewound) this.onWarning(sentence);
    if (partition.failure !== null) throw partition.failure;
    return report;
  }

  /** @throws INVALID_REQUEST */
  refuseReadOnly(): void {
    if (!this.readOnly) return;
    throw new OttlaError('INVALID_REQUEST', `${this.directory} was opened read-only`);
  }

  /**
   * Deletes a partition's records before an offset, durably; below the log start there is nothing to do.
   * @returns the log start offset then
   * @throws OFFSET_OUT_OF_RANGE above the high watermark
   */
  deleteRecords(at: TopicPartition, beforeOffset: number): Promise<number> {
    return this.topics.inOrder(async () => {
      const partition = this.topics.partition(at);
      await partition.deleteRecords(beforeOffset);
      this.retention.topicsChanged();
      this.tellChange();
      return partition.logStartOffset;
    });
  }

  /** Closes the files without another write: opening failed. */
  async abandon(error: OttlaError): Promise<void> {
    await Promise.all(this.topics.partitions.map((partition) => partition.abandon(error)));
  }

  async #closePartitions(): Promise<void> {
    const slices = new Slices(this.clock, `closing ${this.directory}`);
    const closing: Promise<void>[] = [];
    for (const partition of this.topics.partitions) {
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
    await this.topics.settled();
    await this.groups.close();
    this.#cleaner.stop();
    await this.retention.stop();
    if (!this.readOnly) await this.transactions.close();
    await this.#closePartitions();
    await this.#store.close();
  }
}
