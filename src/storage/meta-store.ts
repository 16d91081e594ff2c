import type { Slices } from './slices.js';
import { checkKey } from './row-key.js';

export interface StoreOptions {
  /** Works beside a running owner, and sees what that one committed at each read. */
  readonly readOnly?: boolean;
  /** Asked where nothing is there: whether it is begun anew. @default unless readOnly */
  readonly mayBeEmpty?: () => boolean;
  /** What is there is looked through in these. @default at once */
  readonly slices?: Slices;
}

/**
 * Where topics, recovery points, sealed segments and committed offsets are kept: a small ordered map,
 * read at open and written as a journal. Two implementations: LMDB, and one in memory.
 */
export interface MetaStore {
  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined;
  /**
   * Rows whose key starts with `prefix`, in key order: numbers numerically, strings by code point. They
   * are those of the call; writes that come while they are read do not show. To be gone through once: each is
   * decoded, and found to be damaged, in its turn.
   */
  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>>;
  /**
   * Writes all changes or none. Durable once resolved; what was refused is invisible, now and after
   * reopening. Calls take effect in the order they are made.
   *
   * Rejects KAFKA_STORAGE_ERROR. If that is retriable (no space left) only this write failed; if not,
   * nothing can be written until the store is opened anew. Rejects CLOSED once close() was called.
   */
  write(changes: readonly Change[]): Promise<void>;
  /** Waits for the writes under way; idempotent. Then get() and range() throw CLOSED. */
  close(): Promise<void>;
}

export interface Row<K extends RowKind> {
  readonly key: Key<K>;
  readonly value: Rows[K];
}

/** One row to put, or, with value undefined, to remove. Made by put() and remove(). */
export interface Change<K extends RowKind = RowKind> {
  readonly key: Key<K>;
  readonly value: Rows[K] | undefined;
}

/** @throws RangeError for a key that cannot be stored: see checkKey() */
export function put<K extends RowKind>(key: Key<K>, value: Rows[K]): Change<K> {
  checkKey(key);
  return { key, value };
}

/** @throws RangeError for a key that cannot be stored: see checkKey() */
export function remove<K extends RowKind>(key: Key<K>): Change<K> {
  checkKey(key);
  return { key, value: undefined };
}

export type RowKind = keyof Rows;
export type Key<K extends RowKind> = readonly [K, ...Keys[K]];
export type KeyPrefix<K extends RowKind> = readonly [K, ...Beginning<Keys[K]>];
type Beginning<Parts extends readonly KeyPart[]> = Parts extends readonly [
  ...infer Before extends readonly KeyPart[],
  KeyPart,
]
  ? Parts | Beginning<Before>
  : [];
type KeyPart = string | number;

/** What follows the kind in each row's key. */
export interface Keys {
  store: [];
  topic: [name: string];
  tombstone: [topicId: string];
  partition: [topicId: string, partition: number];
  segment: [topicId: string, partition: number, baseOffset: number];
  compaction: [topicId: string, partition: number];
  group: [group: string];
  transaction: [transactionalId: string];
  offset: [offsetsPartition: number, group: string, topicId: string, partition: number];
}

export interface Rows {
  store: StoreRow;
  topic: TopicRow;
  tombstone: TombstoneRow;
  partition: PartitionRow;
  segment: SegmentRow;
  compaction: CompactionRow;
  group: GroupRow;
  transaction: TransactionRow;
  offset: OffsetRow;
}

/** The data directory itself. */
export interface StoreRow {
  readonly formatVersion: number;
  /** The same as in the file meta.properties: metadata of another directory is told by it. */
  readonly storeId: string;
}

/** A topic that exists, or that a crash left half created (`state` 'creating': finished at the next open). */
export interface TopicRow {
  readonly id: string;
  readonly partitions: number;
  readonly state: 'creating' | 'live';
  /** Names of the codecs, as the definition gave them. */
  readonly codecs: {
    readonly key: string | null;
    readonly value: string | null;
    /** Absent: none. */
    readonly headers?: string;
  };
  /** The options that were given; what is absent has its default. */
  readonly options: Readonly<Record<string, string | number | readonly string[]>>;
  /** Property names that its records refer to by number; absent: they stand alone. */
  readonly structures?: {
    readonly key: readonly (readonly string[])[];
    readonly value: readonly (readonly string[])[];
  };
}

/** A deleted topic whose files are being removed. Nothing is ever removed without one. */
export interface TombstoneRow {
  readonly name: string;
  readonly partitions: number;
}

/** Length of a file, or of its known part, and its CRC-32C. */
export interface FileSum {
  readonly bytes: number;
  readonly checksum: number;
}

/** Of a file that need not be there. */
export const emptySum: FileSum = Object.freeze({ bytes: 0, checksum: 0 });

/** The state of one partition that must survive. */
export interface PartitionRow {
  readonly logStartOffset: number;
  /** [epoch, first offset written in it], oldest first. */
  readonly leaderEpochs: readonly (readonly [epoch: number, startOffset: number])[];
  readonly active: RecoveryPoint;
  readonly producers: ProducersRow;
  /** A sync of what lies behind the recovery point has failed: it is to be written again. */
  readonly syncFailed?: true | undefined;
}

/** What the producer snapshot at the recovery point holds, and whether the log has aborted transactions. */
export interface ProducersRow {
  /** CRC-32C of the snapshot, as that file begins with; null: there is none. */
  readonly snapshotCrc: number | null;
  /** Number of transactions that were open. */
  readonly open: number;
  readonly hasAborted: boolean;
}

/** Where a file ends, as far as it is known. By its last batch it is told from another, and damage there. */
export interface KnownEnd {
  /** Offset after the last record. */
  readonly nextOffset: number;
  readonly bytes: number;
  /** Of the last batch; 0 where there is none. */
  readonly lastBatchBytes: number;
  /** Its CRC-32C; 0 where there is none. */
  readonly lastCrc: number;
}

/** Up to here the active segment and its indexes are known to be durable. Behind it anything may be torn. */
export interface RecoveryPoint extends KnownEnd {
  /** Names the active segment. */
  readonly baseOffset: number;
  /** Durable bytes of the two index files. */
  readonly offsetIndexBytes: number;
  readonly timeIndexBytes: number;
  readonly transactionIndex: FileSum;
  /** What the segment goes on counting from here: see Segment. */
  readonly checksum: number;
  readonly maxTimestamp: number;
  readonly maxTimestampOffset: number;
  readonly bytesSinceIndexEntry: number;
}

/** A sealed segment. The row is the commit point of a roll. */
export interface SegmentRow extends KnownEnd {
  readonly maxTimestamp: number;
  /** CRC-32C over the CRCs of its batches, four bytes each, big endian. */
  readonly checksum: number;
  readonly transactionIndex: FileSum;
}

/** How far a partition is compacted. */
export interface CompactionRow {
  /** The cleaner's checkpoint: below it no key has two records, but for what transactions wrote. */
  readonly firstDirtyOffset: number;
  /** How many swaps were committed: who reads beside the owner sees by it that files have changed. */
  readonly swaps: number;
  /** The swap that was committed last, until its files are known to be in place. */
  readonly swapping: SwapRange | null;
}

/** The offsets of the sealed segments that one compacted segment takes the place of. */
export interface SwapRange {
  readonly baseOffset: number;
  /** Exclusive. */
  readonly nextOffset: number;
}

/** What is known of a transactional id. */
export interface TransactionRow {
  /** An int64, in digits. */
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly timeoutMs: number;
  /** When it was used last, ms since 1970. */
  readonly timestamp: number;
  /** How its last transaction has ended, as far as that is written. */
  readonly ended: 'committed' | 'aborted' | null;
  /** What was decided last, as long as its markers are not known to be durable. */
  readonly decision: DecisionRow | null;
  /** The transaction that is open, if it is a producer's elsewhere: it outlives this process. */
  readonly open: OpenTransactionRow | null;
}

/** A transaction that is not decided. */
export interface OpenTransactionRow {
  /** ms since 1970. */
  readonly startedAt: number;
  /** What it may have written to. */
  readonly partitions: readonly { readonly topicId: string; readonly partition: number }[];
  /** Groups that it may commit offsets of. */
  readonly groups: readonly string[];
  /** Offsets that are committed with it, those that came last last. */
  readonly commits: readonly {
    readonly group: string;
    readonly offsets: readonly (Omit<OffsetRow, 'timestamp'> & {
      readonly topicId: string;
      readonly partition: number;
    })[];
  }[];
}

/** A transaction that is committed, whatever happens. */
export interface DecisionRow {
  readonly partitions: readonly {
    readonly topicId: string;
    readonly partition: number;
    /** Of its records in this partition; the end is exclusive. */
    readonly firstOffset: number;
    readonly endOffset: number;
  }[];
}

export interface GroupRow {
  /** The last one that began. */
  readonly generation: number;
  /** Of the protocol that its members speak, or spoke last; absent: the classic one. */
  readonly type?: 'consumer' | undefined;
  /** Absent: 'consumer', as everything that consumes has it. */
  readonly protocolType?: string | undefined;
  /** When its last member left, ms since 1970; absent: it had members when this was written. */
  readonly emptySince?: number | undefined;
}

/** A committed offset: the NEXT one to read. */
export interface OffsetRow {
  readonly offset: number;
  /** Leader epoch of the record before it, -1 where unknown. */
  readonly leaderEpoch: number;
  readonly metadata: string;
  /** When it was committed, ms since 1970. */
  readonly timestamp: number;
}
