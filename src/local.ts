import type { TopicPartition } from './assignment.js';
import type { Broker } from './broker.js';
import type {
  CommitPosition,
  Engine,
  GroupInfo,
  PartitionInfo,
  Reader,
  ReaderOptions,
  SkippedRange,
  TransactionalWriter,
  TransactionalWriterOptions,
  Writer,
  WriterOptions,
} from './engine.js';
import { OttlaError, asStorageError } from './errors.js';
import { LocalGroups } from './local-groups.js';
import { LocalReader } from './local-reader.js';
import { Accumulator } from './local-accumulator.js';
import {
  IdempotentSender,
  TransactionalSender,
  plainSender,
  type BatchSender,
} from './local-sender.js';
import { LocalTransactions } from './local-transactions.js';
import { LocalWriter } from './local-writer.js';
import { ownTransactionalIds, type From, type Isolation, type TopicSettings } from './options.js';
import { offsetFor } from './partition-offsets.js';
import type { Partition } from './partition.js';
import { withSignal } from './signal.js';
import type { TopicInfo, TopicSpec } from './topic.js';

export interface LocalEngineEvents {
  error(error: OttlaError): void;
  warning(message: string): void;
}

/** The engine over the broker of one data directory, or of memory. */
export class LocalEngine implements Engine {
  readonly supports: Engine['supports'] = new Set(['customAssignor']);
  readonly #broker: Broker;
  readonly #events: LocalEngineEvents;
  readonly #accumulator: Accumulator;
  readonly #groups: LocalGroups;
  readonly #writers = new Set<LocalWriter>();
  readonly #transactional = new Set<LocalTransactions>();
  readonly #readers = new Set<LocalReader<unknown>>();
  /** Structures that are being stored. */
  readonly #learning = new Set<string>();
  #closing: Promise<void> | null = null;
  #isClosed = false;

  constructor(broker: Broker, events: LocalEngineEvents) {
    this.#broker = broker;
    this.#events = events;
    this.#groups = new LocalGroups(broker);
    broker.onWarning = (warning) => events.warning(warning);
    this.#accumulator = this.#newAccumulator(plainSender);
    if (broker.readOnly) return;
    broker.retention.start();
    broker.groups.start();
  }

  #newAccumulator(sender: BatchSender): Accumulator {
    const broker = this.#broker;
    return new Accumulator({
      clock: broker.clock,
      topic: (info) => {
        const topic = broker.topics.get(info.name);
        if (topic === info) return topic;
        throw new OttlaError('UNKNOWN_TOPIC_OR_PARTITION', `topic ${info.name} was deleted`);
      },
      onError: (error) => this.#events.error(error),
      sender,
    });
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new OttlaError('CLOSED', 'this Ottla is closed');
  }

  topic(name: string): TopicInfo | undefined {
    this.#refuseClosed();
    return this.#broker.topics.find(name);
  }

  topics(): readonly TopicInfo[] {
    this.#refuseClosed();
    return [...this.#broker.topics.all()];
  }

  async createTopic(spec: TopicSpec): Promise<TopicInfo> {
    this.#refuseClosed();
    return this.#broker.topics.create(spec);
  }

  async alterTopic(name: string, settings: Partial<TopicSettings>): Promise<void> {
    this.#refuseClosed();
    return this.#broker.topics.alter(name, settings);
  }

  async addPartitions(name: string, total: number): Promise<void> {
    this.#refuseClosed();
    return this.#broker.topics.addPartitions(name, total);
  }

  learnStructure(name: string, what: 'key' | 'value', structure: readonly string[]): void {
    const key = JSON.stringify([name, what, structure]);
    if (this.#learning.has(key)) return;
    this.#learning.add(key);
    // What cannot be stored now is asked for again with the next record.
    const done = (): boolean => this.#learning.delete(key);
    this.#broker.topics.learnStructure(name, what, structure).then(done, done);
  }

  async deleteTopic(name: string): Promise<void> {
    this.#refuseClosed();
    const topic = this.#broker.topics.get(name);
    await this.#broker.topics.delete(name);
    for (const writer of this.#writers) writer.forgetTopic(topic);
  }

  async deleteRecords(at: TopicPartition, beforeOffset: number): Promise<number> {
    this.#refuseClosed();
    return this.#broker.deleteRecords(at, beforeOffset);
  }

  async reopenPartition(at: TopicPartition): Promise<string | null> {
    this.#refuseClosed();
    return this.#broker.reopen(at);
  }

  async partitions(name: string): Promise<readonly PartitionInfo[]> {
    this.#refuseClosed();
    const infos: PartitionInfo[] = [];
    for (const partition of this.#broker.topics.get(name).partitions) {
      infos.push(
        await this.#info(partition).catch((error: unknown) => infoWithout(partition, error)),
      );
    }
    return infos;
  }

  async partition(at: TopicPartition): Promise<PartitionInfo> {
    this.#refuseClosed();
    return this.#info(this.#broker.topics.partition(at));
  }

  async #info(partition: Partition): Promise<PartitionInfo> {
    if (this.#broker.readOnly) await partition.refresh();
    const { logStartOffset, highWatermark, lastStableOffset, leaderEpoch } = partition;
    partition.check();
    const { index, segmentCount, bytes, failure } = partition;
    return {
      partition: index,
      logStartOffset,
      highWatermark,
      lastStableOffset,
      leaderEpoch,
      segments: segmentCount,
      bytes,
      ...(failure === null ? {} : { error: failure }),
    };
  }

  offsetFor(
    at: TopicPartition,
    from: From,
    isolation: Isolation,
    onCorrupt?: (skipped: SkippedRange) => void,
  ): Promise<number | null> {
    const onDamage =
      onCorrupt &&
      ((offset: number, nextOffset: number, error: OttlaError): void =>
        onCorrupt({ topic: at.topic, partition: at.partition, offset, nextOffset, error }));
    const now = this.#broker.clock.now();
    return offsetFor(this.#broker.topics.partition(at), from, now, isolation, onDamage);
  }

  groups(): readonly string[] {
    this.#refuseClosed();
    return this.#groups.list();
  }

  async group(groupId: string): Promise<GroupInfo> {
    this.#refuseClosed();
    return this.#groups.describe(groupId);
  }

  async setOffsets(groupId: string, positions: readonly CommitPosition[]): Promise<void> {
    this.#refuseClosed();
    await this.#groups.setOffsets(groupId, positions);
  }

  async deleteOffsets(groupId: string, partitions: readonly TopicPartition[]): Promise<void> {
    this.#refuseClosed();
    await this.#groups.deleteOffsets(groupId, partitions);
  }

  async deleteGroup(groupId: string): Promise<void> {
    this.#refuseClosed();
    await this.#groups.delete(groupId);
  }

  writer(options: WriterOptions): Writer {
    this.#broker.refuseReadOnly();
    if (!options.idempotent) return this.#newWriter(this.#accumulator, options);
    const { clock, transactions } = this.#broker;
    const sender = new IdempotentSender({
      clock,
      newProducerId: () => transactions.newProducerId(),
      warn: (message) => this.#events.warning(message),
    });
    return this.#newWriter(this.#newAccumulator(sender), options);
  }

  transactionalWriter(options: TransactionalWriterOptions): TransactionalWriter {
    this.#broker.refuseReadOnly();
    const { transactions } = this.#broker;
    const { transactionalId = this.#freeTransactionalId() } = options;
    const sender = new TransactionalSender(transactions, transactionalId);
    // The commit makes durable what it needs.
    const writer = this.#newWriter(this.#newAccumulator(sender), { ...options, acks: 1 });
    const transactional = new LocalTransactions(
      this.#broker,
      writer,
      sender,
      { ...options, transactionalId },
      () => this.#transactional.delete(transactional),
    );
    this.#transactional.add(transactional);
    return transactional;
  }

  /** The same ones over and over: each leaves a row behind. */
  #freeTransactionalId(): string {
    const taken = new Set([...this.#transactional].map((writer) => writer.transactionalId));
    let number = 0;
    while (taken.has(`${ownTransactionalIds}${number}`)) number++;
    return `${ownTransactionalIds}${number}`;
  }

  #newWriter(accumulator: Accumulator, options: WriterOptions): LocalWriter {
    const writer = new LocalWriter(options, {
      accumulator,
      clock: this.#broker.clock,
      random: this.#broker.random,
      closed: () => this.#writers.delete(writer),
    });
    this.#writers.add(writer);
    return writer;
  }

  reader<R>(options: ReaderOptions<R>): Reader<R> {
    if (options.group !== undefined) this.#broker.refuseReadOnly();
    const reader = new LocalReader(
      this.#broker,
      options,
      (warning) => this.#events.warning(warning),
      () => this.#readers.delete(reader as LocalReader<unknown>),
    );
    this.#readers.add(reader as LocalReader<unknown>);
    return reader;
  }

  /** Takes members here for dead, as if they had hung for too long. @returns how many there were */
  fence(group: string, memberId: string | undefined): number {
    return [...this.#readers].filter((reader) => reader.groupId === group && reader.fence(memberId))
      .length;
  }

  /**
   * Looks again after every change that could make it true: a writer that is empty, a commit, a new
   * generation.
   */
  async idle(
    groups: readonly string[] | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    for (const groupId of groups ?? []) this.#refuseUnknownGroup(groupId);
    for (;;) {
      const isSending = (): boolean => [...this.#writers].some((writer) => !writer.isEmpty);
      // An aborted signal does not hide who is behind when there is nothing to flush.
      const ended = isSending() ? signal : undefined;
      const flushed = Promise.all([...this.#writers].map((writer) => writer.flush()));
      await withSignal(flushed, ended, 'idle, while sends are under way,');
      if (isSending()) continue;
      const behind = this.#behind(groups);
      const { hasOpen } = this.#broker.transactions;
      if (behind.length === 0 && !hasOpen) return;
      if (hasOpen) behind.push('a transaction is open');
      await withSignal(this.#broker.changed(), signal, `idle, while ${behind.join('; ')},`);
    }
  }

  /** A consumer that has not joined yet makes its group known. @throws GROUP_ID_NOT_FOUND */
  #refuseUnknownGroup(groupId: string): void {
    if ([...this.#readers].some((reader) => reader.groupId === groupId)) return;
    this.#broker.groups.refuseUnknown(groupId);
  }

  /**
   * The groups with a live member here whose commits have not reached the end, in words.
   * @throws why a member has given up
   */
  #behind(groups: readonly string[] | undefined): string[] {
    const { coordinator, offsets } = this.#broker;
    const behind: string[] = [];
    for (const groupId of groups ?? coordinator.nativeGroupIds()) {
      for (const name of coordinator.subscriptions(groupId)) {
        const topic = this.#broker.topics.find(name);
        for (const partition of topic?.partitions ?? []) {
          const end = partition.lastStableOffset;
          const committed = offsets.fetch(groupId, partition.topicId, partition.index)?.offset;
          // What was deleted from the log's start has no one to commit it.
          if (Math.max(committed ?? 0, partition.logStartOffset) >= end) continue;
          const at = { topic: name, partition: partition.index };
          const readers = [...this.#readers].filter((reader) => reader.groupId === groupId);
          for (const reader of readers) {
            const why = reader.whyGivenUp(at);
            if (why !== null) throw why;
          }
          const paused = readers.some((reader) => reader.isPaused(at)) ? ', which is paused' : '';
          behind.push(
            `group ${groupId} has committed ${committed ?? 'nothing'} of ${end} in ${partition.name}${paused}`,
          );
        }
      }
    }
    return behind;
  }

  flushNow(): void {
    for (const writer of this.#writers) writer.writeNow();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#readers].map((reader) => reader.close()));
    // Not before: what consumers do last may be to send.
    this.#isClosed = true;
    await Promise.all([...this.#transactional].map((writer) => writer.close()));
    await Promise.all([...this.#writers].map((writer) => writer.close()));
    await this.#broker.close();
  }
}

/** Of a partition that cannot be opened. */
function infoWithout(partition: Partition, error: unknown): PartitionInfo {
  const failure = asStorageError(partition.name, error);
  const { nextOffset, ...extent } = partition.storedExtent;
  const ends = { highWatermark: nextOffset, lastStableOffset: nextOffset };
  return { partition: partition.index, ...extent, ...ends, error: failure };
}
