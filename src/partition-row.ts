import { join } from 'node:path';
import { OttlaError } from './errors.js';
import {
  decodePartitionMetadata,
  encodePartitionMetadata,
  partitionMetadataFile,
} from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import {
  emptySum,
  put,
  type Change,
  type CompactionRow,
  type MetaStore,
  type PartitionRow,
  type ProducersRow,
  type RecoveryPoint,
} from './storage/meta-store.js';

/** What a log must know of its topic and place. */
export interface LogPlace {
  readonly topic: string;
  readonly topicId: string;
  readonly partition: number;
  readonly directory: string;
}

/** Where a segment that nothing was written to begins. */
export function emptyRecoveryPoint(baseOffset: number): RecoveryPoint {
  return {
    baseOffset,
    nextOffset: baseOffset,
    bytes: 0,
    offsetIndexBytes: 0,
    timeIndexBytes: 0,
    transactionIndex: emptySum,
    lastBatchBytes: 0,
    lastCrc: 0,
    checksum: 0,
    maxTimestamp: -1,
    maxTimestampOffset: -1,
    bytesSinceIndexEntry: 0,
  };
}

/** Of a log without numbered batches. */
export const noProducers: ProducersRow = Object.freeze({
  snapshotCrc: null,
  open: 0,
  hasAborted: false,
});

/** Of a partition that was never synced. */
const firstRow: PartitionRow = {
  logStartOffset: 0,
  leaderEpochs: [[0, 0]],
  active: emptyRecoveryPoint(0),
  producers: noProducers,
};

/** What open has seen behind a recovery point: whole batches alone, which the log adds when it is used. */
export interface WholeTail {
  /** Of the active segment's file, with them. */
  readonly fileSize: number;
  /** Offset after the last one. */
  readonly nextOffset: number;
}

/** How far a log is, as far as its rows, and the tail that open has seen, tell. */
export interface StoredExtent {
  readonly logStartOffset: number;
  readonly nextOffset: number;
  readonly leaderEpoch: number;
  readonly segments: number;
  readonly bytes: number;
}

/** The row of one partition. It is written one time after the other, so that nothing in it goes back. */
export class StoredPartition {
  readonly #store: MetaStore;
  readonly #topicId: string;
  readonly #partition: number;
  readonly #isOwner: boolean;
  /** As it was read or written last. */
  #row: PartitionRow | null = null;
  #tail: WholeTail | null;
  #written: Promise<void> | null = null;

  /**
   * @param isOwner nobody else writes it
   * @param tail that open has seen behind the row
   */
  constructor(
    store: MetaStore,
    topicId: string,
    partition: number,
    isOwner: boolean,
    tail: WholeTail | null,
  ) {
    this.#store = store;
    this.#isOwner = isOwner;
    this.#tail = tail;
    this.#topicId = topicId;
    this.#partition = partition;
  }

  /** The same, of which nothing was read. */
  anew(): StoredPartition {
    return new StoredPartition(this.#store, this.#topicId, this.#partition, this.#isOwner, null);
  }

  /** What open has seen behind the row, as long as that is the one that was there; null: nothing, or it did not look. */
  get tail(): WholeTail | null {
    return this.#tail;
  }

  read(): PartitionRow {
    if (this.#row !== null) return this.#row;
    const row = this.#store.get(['partition', this.#topicId, this.#partition]) ?? firstRow;
    if (this.#isOwner) this.#row = row;
    return row;
  }

  extent(): StoredExtent {
    const { active, logStartOffset, leaderEpochs } = this.read();
    let segments = 1;
    let bytes = this.#tail?.fileSize ?? active.bytes;
    for (const { value } of this.#store.range(['segment', this.#topicId, this.#partition])) {
      if (value.nextOffset <= logStartOffset) continue;
      segments++;
      bytes += value.bytes;
    }
    const leaderEpoch = leaderEpochs.at(-1)![0];
    const { nextOffset } = this.#tail ?? active;
    return { logStartOffset, nextOffset, leaderEpoch, segments, bytes };
  }

  /** Of a log that was compacted. */
  compaction(): CompactionRow | undefined {
    return this.#store.get(['compaction', this.#topicId, this.#partition]);
  }

  /**
   * Writes the row, and others with it. `row` is asked when its turn has come, `done` is called before
   * the turn of the next.
   */
  write(row: () => PartitionRow, others: readonly Change[], done: () => void): Promise<void> {
    const written = (this.#written ?? Promise.resolve()).then(async () => {
      const next = row();
      const change = put(['partition', this.#topicId, this.#partition], next);
      await this.#store.write([...others, change]);
      this.#row = next;
      this.#tail = null;
      done();
    });
    this.#written = written.catch(() => undefined);
    return written;
  }
}

/**
 * The names of a partition's files, once it is sure that the directory is this topic's.
 * @throws METADATA_LOST if it is another's; errors of the file system
 */
export function listFiles(files: FileSystem, place: LogPlace): string[] {
  const names = files.list(place.directory);
  refuseOthers(files, place);
  return names;
}

/** @throws METADATA_LOST if the directory is another topic's; errors of the file system */
export function refuseOthers(files: FileSystem, { directory, topicId }: LogPlace): void {
  const metadata = files.readFile(join(directory, partitionMetadataFile));
  if (metadata?.equals(encodePartitionMetadata(topicId)) === true) return;
  const found = metadata === undefined ? 'none' : decodePartitionMetadata(metadata.toString());
  if (found === topicId) return;
  throw metadataLost(directory, `its topic id is ${found}, the metadata says ${topicId}`);
}

export function metadataLost(directory: string, why: string): OttlaError {
  return new OttlaError(
    'METADATA_LOST',
    `${directory}: ${why}. Nothing was changed; Ottla.repair(directory) mends it`,
  );
}
