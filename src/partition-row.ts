import { put, type Change, type MetaStore, type PartitionRow } from './storage/meta-store.js';
import type { RecoveryPoint } from './storage/meta-store.js';

/** Where a segment that nothing was written to begins. */
export function emptyRecoveryPoint(baseOffset: number): RecoveryPoint {
  return {
    baseOffset,
    nextOffset: baseOffset,
    bytes: 0,
    offsetIndexBytes: 0,
    timeIndexBytes: 0,
    lastCrc: 0,
    checksum: 0,
    maxTimestamp: -1,
    maxTimestampOffset: -1,
    bytesSinceIndexEntry: 0,
  };
}

/** Of a partition that was never synced. */
const firstRow: PartitionRow = {
  logStartOffset: 0,
  leaderEpochs: [[0, 0]],
  active: emptyRecoveryPoint(0),
};

/** The row of one partition. It is written one time after the other, so that nothing in it goes back. */
export class StoredPartition {
  readonly #store: MetaStore;
  readonly #topicId: string;
  readonly #partition: number;
  #written: Promise<void> = Promise.resolve();

  constructor(store: MetaStore, topicId: string, partition: number) {
    this.#store = store;
    this.#topicId = topicId;
    this.#partition = partition;
  }

  read(): PartitionRow {
    return this.#store.get(['partition', this.#topicId, this.#partition]) ?? firstRow;
  }

  /**
   * Writes the row, and others with it. `row` is asked when its turn has come, `done` is called before
   * the turn of the next.
   */
  write(row: () => PartitionRow, others: readonly Change[], done: () => void): Promise<void> {
    const written = this.#written.then(async () => {
      const change = put(['partition', this.#topicId, this.#partition], row());
      await this.#store.write([...others, change]);
      done();
    });
    this.#written = written.catch(() => undefined);
    return written;
  }
}
