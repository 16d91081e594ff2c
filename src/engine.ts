import type { TopicPartition } from './assignment.js';
import type { Assignor } from './assignor.js';
import type { Compression } from './compression.js';
import type { OttlaError } from './errors.js';
import type { GroupState, MemberDescription } from './group.js';
import type { Acks, From, Isolation, TopicSettings } from './options.js';
import type { Bytes, RecordHeaders } from './record.js';
import type { TopicInfo, TopicSpec } from './topic.js';

/*
 * The upper seam: what the public objects ask of what lies beneath. Bytes, no codecs, no iterators.
 */

/** A place in a partition: the NEXT offset to read. */
export interface Position extends TopicPartition {
  readonly offset: number;
}

export interface CommitPosition extends Position {
  readonly metadata?: string;
}

/** What was committed of a partition: the NEXT offset to read, and what was kept with it. */
export interface Committed {
  readonly offset: number;
  readonly metadata: string;
}

/** How far a partition is. */
export interface PartitionInfo {
  readonly partition: number;
  /** The lowest offset that can be read. */
  readonly logStartOffset: number;
  /** Exclusive end of what consumers may read: all that is written. */
  readonly highWatermark: number;
  /** Exclusive end of what is decided: the first offset of the oldest open transaction, else the high watermark. */
  readonly lastStableOffset: number;
  /** Grows by one each time open had to cut the log. */
  readonly leaderEpoch: number;
  /** Number of segments, the active one included. */
  readonly segments: number;
  /** Size of all segments. */
  readonly bytes: number;
  /**
   * Why it takes no records; missing where it does. What cannot be opened at all is described as far as the
   * metadata knows.
   */
  readonly error?: OttlaError;
}

/** A place in a partition of a topic that is known. */
export interface PartitionOffset {
  readonly partition: number;
  readonly offset: number;
}

/** A group as it is now. */
export interface GroupInfo {
  readonly groupId: string;
  readonly state: GroupState;
  /** Number of its last rebalance. */
  readonly generation: number;
  /** null: no members. */
  readonly assignor: string | null;
  readonly members: readonly MemberDescription[];
  readonly partitions: readonly GroupPartitionInfo[];
}

/** A partition as a group sees it. */
export interface GroupPartitionInfo extends TopicPartition {
  /** -1: nothing committed. */
  readonly committed: number;
  /** Exclusive end of what may be read. */
  readonly end: number;
  /** `end` minus `committed`; -1: nothing committed. */
  readonly lag: number;
  /** null: no member owns it. */
  readonly memberId: string | null;
  /** Why the partition cannot be opened, so that `end` is what the metadata knows; missing where it can. */
  readonly error?: OttlaError;
}

export interface Engine {
  readonly supports: ReadonlySet<'customAssignor'>;
  /** From what is known here and now; undefined where there is no such topic. */
  topic(name: string): TopicInfo | undefined;
  topics(): readonly TopicInfo[];
  createTopic(spec: TopicSpec): Promise<TopicInfo>;
  alterTopic(name: string, settings: Partial<TopicSettings>): Promise<void>;
  addPartitions(name: string, total: number): Promise<void>;
  /** Sees to it that topic(name) has these property names among its structures, as soon as they are durable. */
  learnStructure(name: string, what: 'key' | 'value', structure: readonly string[]): void;
  deleteTopic(name: string): Promise<void>;
  /** @returns the log start offset then */
  deleteRecords(at: TopicPartition, beforeOffset: number): Promise<number>;
  reopenPartition(at: TopicPartition): Promise<string | null>;
  /** One that cannot be opened is told with its `error`. */
  partitions(topic: string): Promise<readonly PartitionInfo[]>;
  /** @throws why it cannot be opened */
  partition(at: TopicPartition): Promise<PartitionInfo>;
  /**
   * The offset that `from` means in a partition now; null for 'none'. Looking for a time ends at damage, with
   * the offset that cannot be read, unless `onCorrupt` is told of it: then it goes on behind.
   */
  offsetFor(
    at: TopicPartition,
    from: From,
    isolation: Isolation,
    onCorrupt?: (skipped: SkippedRange) => void,
  ): Promise<number | null>;
  groups(): readonly string[];
  group(groupId: string): Promise<GroupInfo>;
  /** Sets commits of a group without members, all or none. @throws NON_EMPTY_GROUP */
  setOffsets(groupId: string, positions: readonly CommitPosition[]): Promise<void>;
  /** Forgets commits, all or none. @throws GROUP_ID_NOT_FOUND, GROUP_SUBSCRIBED_TO_TOPIC */
  deleteOffsets(groupId: string, partitions: readonly TopicPartition[]): Promise<void>;
  /** Forgets a group without members. @throws GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP */
  deleteGroup(groupId: string): Promise<void>;
  writer(options: WriterOptions): Writer;
  transactionalWriter(options: TransactionalWriterOptions): TransactionalWriter;
  reader<R>(options: ReaderOptions<R>): Reader<R>;
  /** Resolves when everything sent is written and every group with a member here has committed it. */
  idle(groups: readonly string[] | undefined, signal: AbortSignal | undefined): Promise<void>;
  /** Writes what is buffered, waiting for nothing: the process exits. */
  flushNow(): void;
  /** Idempotent. */
  close(): Promise<void>;
}

export interface WriterOptions {
  readonly acks: Acks;
  readonly lingerMs: number;
  readonly batchSize: number;
  readonly bufferMemory: number;
  /** Batches are numbered, and what fails is sent again: see ProducerOptions. */
  readonly idempotent: boolean;
  readonly compression: Compression;
  readonly deliveryTimeoutMs: number;
}

/** What a producer has done since it was made, and does now. */
export interface ProducerMetrics {
  /** Records acknowledged as acks asks; with 0, written. */
  readonly recordCount: number;
  /** Records that failed after they were taken over. */
  readonly recordErrorCount: number;
  /** Bytes of the records in recordCount, encoded, before compression. */
  readonly recordBytes: number;
  /** Records acknowledged in a second, over the last 30 to 60 s. */
  readonly recordsPerSecond: number;
  /** recordBytes in a second, over the last 30 to 60 s. */
  readonly bytesPerSecond: number;
  /** Batches handed to the log with records of this producer. They may have records of others, too. */
  readonly batchCount: number;
  /** Average number of records in them. */
  readonly recordsPerBatch: number;
  /** Average size of them, as written. */
  readonly batchAverageBytes: number;
  /** Size of the largest. */
  readonly batchMaxBytes: number;
  /** Their size as written, divided by their size without compression; 1 while there are none. */
  readonly compressionRatio: number;
  /** How long batches of single sends lay open, from their first record on, on average. */
  readonly queueAverageMs: number;
  /** The longest of those times. */
  readonly queueMaxMs: number;
  /** The option bufferMemory. */
  readonly bufferTotalBytes: number;
  /** Bytes taken over and not settled yet. */
  readonly bufferUsedBytes: number;
  /** Sends that wait for room in the buffer. */
  readonly waitingSendCount: number;
}

/** What a writer knows of it. */
export type WriterMetrics = Omit<ProducerMetrics, 'waitingSendCount'>;

/**
 * What `diagnostics_channel` 'ottla:producer:batch' tells of each batch of single sends, and of each write
 * of a sendBatch, once it is settled.
 */
export interface ProducerBatchMessage {
  readonly topic: string;
  readonly partition: number;
  /** Of the first record; -1: nothing was written. */
  readonly baseOffset: number;
  /** Number of records. */
  readonly recordCount: number;
  /** Number of batches: a sendBatch writes several at once; 0: the records failed before they were one. */
  readonly batchCount: number;
  /** Their size as written. */
  readonly batchBytes: number;
  /** Their size without compression. */
  readonly plainBytes: number;
  readonly compression: Compression;
  /** From the first record taken over to the write. */
  readonly queueMs: number;
  /** From the write to the last acknowledgement, or to the failure. */
  readonly deliveryMs: number;
  /** null: acknowledged. */
  readonly error: OttlaError | null;
}

/** Told what became of appended records. Exactly one call for each record. */
export interface AppendSink {
  /** As the writer's acks ask. `timestamp` is the log's where that counts, else -1. */
  acknowledged(partition: number, baseOffset: number, count: number, timestamp: number): void;
  /** `baseOffset` is -1 unless the records are in the log, not known to be durable. */
  failed(error: OttlaError, partition: number, baseOffset: number, count: number): void;
}

/** Many records on their way in, column by column: of each the first `count` entries. */
export interface RawRecords {
  readonly count: number;
  readonly timestamps: Float64Array;
  /** Strings are written as UTF-8. So are those of values. */
  readonly keys: readonly (Bytes | null)[];
  readonly values: readonly (Bytes | null)[];
  readonly headers: readonly RecordHeaders[];
  /** -1 is filled in by the engine's sticky rule. */
  readonly partitions: Int32Array;
  /** No key and value together have more bytes, or units of a string; Infinity if any has headers. */
  readonly longest: number;
  /** Of all keys and values: bytes, or units of strings. */
  readonly bytes: number;
}

export interface Writer {
  /**
   * Takes one record over: its bytes are read before this returns. `partition` -1: the engine's sticky
   * rule. Returns the partition; -1, having done nothing, while the buffer has no room: await room().
   * @throws MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION
   */
  append(
    topic: TopicInfo,
    partition: number,
    timestamp: number,
    key: Bytes | null,
    value: Bytes | null,
    headers: RecordHeaders,
    sink: AppendSink,
  ): number;
  /**
   * Takes many records over at once, written in as few calls as possible. False, having done nothing,
   * while the buffer is full. What is refused is refused before anything is written.
   */
  appendAll(topic: TopicInfo, records: RawRecords, sink: AppendSink): boolean;
  /** Resolves when there may be room in the buffer for this many bytes of keys and values. */
  room(bytes: number): Promise<void>;
  readonly metrics: WriterMetrics;
  /** Writes what lingers; resolves when everything taken over until now is acknowledged or has failed. */
  flush(): Promise<void>;
  /** Flushes, then refuses. */
  close(): Promise<void>;
}

export interface TransactionalWriterOptions extends WriterOptions {
  /** Absent: one that no other writer of this engine has while this one is open. */
  readonly transactionalId?: string;
  readonly transactionTimeoutMs: number;
}

/** Writes in transactions. What it takes over belongs to the one that is open. */
export interface TransactionalWriter extends Writer {
  /**
   * Begins a transaction. The first one takes the transactional id over from whoever held it.
   * @throws PRODUCER_FENCED, CONCURRENT_TRANSACTIONS, INVALID_TRANSACTION_TIMEOUT, KAFKA_STORAGE_ERROR
   */
  begin(): Promise<void>;
  /**
   * Commits offsets of a reader's group with the transaction.
   * @throws ILLEGAL_GENERATION unless the partitions are owned since without a break; INVALID_TXN_STATE
   */
  sendOffsets(
    reader: Reader<unknown>,
    positions: readonly (CommitPosition & { readonly ownership: number })[],
  ): void;
  /**
   * Waits for what was taken over, then commits it. What rejects is not committed, and still open: abort it.
   * @throws INVALID_TXN_STATE, PRODUCER_FENCED, ILLEGAL_GENERATION, KAFKA_STORAGE_ERROR
   */
  commit(): Promise<void>;
  abort(): Promise<void>;
  /** Aborts what is open; waits for what is ending. */
  close(): Promise<void>;
}

/** Makes the consumer's record from bytes that, unless keepsBytes, are only lent for the call. */
export interface RecordFormat<R> {
  readonly keepsBytes: boolean;
  make(
    partition: number,
    offset: number,
    timestamp: number,
    key: Buffer | null,
    value: Buffer | null,
    headers: readonly (readonly [string, Buffer | null])[],
  ): R;
}

/** Offsets of a partition that cannot be read any more. */
export interface SkippedRange extends TopicPartition {
  /** The first one, and the next one that can be read: the end of the log if none behind can. */
  readonly offset: number;
  readonly nextOffset: number;
  /** CORRUPT_MESSAGE, with the file, the byte in it and the reason. */
  readonly error: OttlaError;
}

export interface ReaderOptions<R> {
  /** Absent: assign() gives the partitions. */
  readonly group?: GroupMembership;
  readonly from: From;
  readonly isolation: Isolation;
  /** Asked once for each stretch of reading a partition. */
  readonly formatFor: (topic: string, ownership: number) => RecordFormat<R>;
  /** Called when a poll has to wait for records. */
  readonly idle: () => void;
  /** A poll ends with the record that reaches it, counted as they lie in the log uncompressed. @default no bound */
  readonly maxPollBytes?: number;
  /** Whether code of the user is at work; null: a poll that waits tells that none is. @default always null */
  readonly isAtWork?: () => boolean | null;
  /** Called before offsets that damage has made unreadable are passed over; absent: the poll rejects. */
  readonly onCorrupt?: (skipped: SkippedRange) => void;
}

export interface GroupMembership {
  readonly groupId: string;
  readonly clientId: string;
  readonly assignor: Assignor;
  readonly maxPollIntervalMs: number;
  readonly revokeTimeoutMs: number;
  readonly isolation: Isolation;
}

/** What a member of a group wants to read: topics that must be there, and those that match, now or later. */
export interface Subscription {
  readonly topics: readonly string[];
  readonly patterns: readonly RegExp[];
  /** Of these it wants the first record where nothing is committed, whatever `from` says. */
  readonly fromEarliest: readonly string[];
}

/** A run of records of one partition. */
export interface Fetched<R> extends TopicPartition {
  readonly records: readonly R[];
  /** Offset of the first record, and the next one to read behind the last: past markers and gaps. */
  readonly baseOffset: number;
  readonly nextOffset: number;
  /** Tells this stretch of owning the partition from an earlier or later one. */
  readonly ownership: number;
}

/** What the owner of a Reader must do when the group moves partitions. */
export interface RebalanceListener {
  /** Nothing of these is handed out before this resolves. */
  assigned(positions: readonly (Position & { readonly ownership: number })[]): Promise<void>;
  /**
   * Give these up: resolve when what is in flight is done and committed. `busy` tells whether that
   * waits for code of the user. When `signal` aborts, they are lost.
   */
  revoked(
    partitions: readonly TopicPartition[],
    signal: AbortSignal,
  ): { readonly busy: boolean; readonly released: Promise<void> };
  /** They belong to somebody else already: what is in flight must not be committed. */
  lost(partitions: readonly TopicPartition[]): void;
  /** The membership itself has failed. */
  failed(error: OttlaError): void;
}

export interface Reader<R> {
  /** Joins the group. @throws UNKNOWN_TOPIC_OR_PARTITION, INCONSISTENT_GROUP_PROTOCOL */
  subscribe(subscription: Subscription, listener: RebalanceListener): void;
  /** Wants other topics from now on. */
  resubscribe(subscription: Subscription): void;
  /** Resolves when assigned: nothing appended from then on is missed. */
  ready(): Promise<void>;
  /** Reads these, without a group. Positions not given (-1) follow `from`. */
  assign(positions: readonly Position[]): Promise<void>;
  /**
   * The next records of one partition, taking turns between partitions; waits for some. null: nothing
   * came before the signal aborted, or the reader was closed.
   */
  poll(maxRecords: number, signal: AbortSignal | null): Promise<Fetched<R> | null>;
  /** As poll(), only what is at hand: undefined where that would need to wait. */
  pollNow(maxRecords: number): Fetched<R> | undefined;
  /** Where the next poll of each assigned partition begins. */
  positions(): readonly Position[];
  /** Of one assigned partition, as positions(). */
  position(at: TopicPartition): number;
  seek(at: Position): void;
  pause(partitions: readonly TopicPartition[]): void;
  resume(partitions: readonly TopicPartition[]): void;
  /** Hands out nothing of an assigned partition until release(), paused or not. */
  hold(at: TopicPartition): void;
  /** Goes on at an offset; null: where it is. Fine if it is not assigned any more. */
  release(at: TopicPartition, offset: number | null): void;
  /** Durable once resolved; rejects ILLEGAL_GENERATION, writing nothing, for a partition not owned since. */
  commit(positions: readonly (CommitPosition & { readonly ownership: number })[]): Promise<void>;
  /** What the group has committed; undefined: nothing. */
  committed(at: TopicPartition): Committed | undefined;
  /** Exclusive end of what this reader may read now. */
  endOffset(at: TopicPartition): number;
  /** The user's code has come back for more, or says that it is alive. */
  alive(): void;
  /** Why nothing of what it owns is asked for any more: idle() rejects with it instead of waiting. null: it is. */
  gaveUp(why: OttlaError | null): void;
  /** Leaves the group and stops; a waiting poll gives null. Idempotent. */
  close(): Promise<void>;
}
