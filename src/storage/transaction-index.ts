import { OttlaError } from '../errors.js';

const entryBytes = 34;

/** A transaction that was aborted in one partition. */
export interface AbortedTransaction {
  readonly producerId: bigint;
  readonly firstOffset: number;
  /** Of the abort marker. */
  readonly lastOffset: number;
  /** Of the partition, once the marker was there. */
  readonly lastStableOffset: number;
}

/**
 * The aborted transactions whose markers lie in one segment: Kafka's .txnindex file, in memory. No I/O
 * here: the segment reads and appends the file.
 *
 * Entries are 34 bytes, big endian: int16 version 0, int64 producer id, int64 first offset, int64 last
 * offset, int64 last stable offset; last offsets strictly grow. Unlike the other indexes it is no hint:
 * what it lacks is read as committed. So a segment's row has its length and checksum.
 */
export class TransactionIndex {
  readonly entries: AbortedTransaction[] = [];

  /** @throws CORRUPT_MESSAGE if the bytes cannot be what was appended */
  static fromBytes(bytes: Uint8Array): TransactionIndex {
    const index = new TransactionIndex();
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (view.length % entryBytes !== 0) {
      throw corrupt(`${view.length} bytes are not a multiple of ${entryBytes}`);
    }
    let last = -1;
    for (let at = 0; at < view.length; at += entryBytes) {
      const entry = {
        producerId: view.readBigInt64BE(at + 2),
        firstOffset: Number(view.readBigInt64BE(at + 10)),
        lastOffset: Number(view.readBigInt64BE(at + 18)),
        lastStableOffset: Number(view.readBigInt64BE(at + 26)),
      };
      const { firstOffset, lastOffset } = entry;
      if (view.readInt16BE(at) !== 0 || lastOffset <= last || !(firstOffset <= lastOffset)) {
        throw corrupt(`entry at byte ${at} is none`);
      }
      last = lastOffset;
      index.entries.push(entry);
    }
    return index;
  }

  get length(): number {
    return this.entries.length;
  }

  get byteLength(): number {
    return this.entries.length * entryBytes;
  }

  append(entry: AbortedTransaction): void {
    this.entries.push(entry);
  }

  /** What the file lacks when it holds the first `count` entries. */
  bytesFrom(count: number): Buffer {
    const bytes = Buffer.alloc((this.entries.length - count) * entryBytes);
    let at = 0;
    for (const entry of this.entries.slice(count)) {
      bytes.writeBigInt64BE(entry.producerId, at + 2);
      bytes.writeBigInt64BE(BigInt(entry.firstOffset), at + 10);
      bytes.writeBigInt64BE(BigInt(entry.lastOffset), at + 18);
      bytes.writeBigInt64BE(BigInt(entry.lastStableOffset), at + 26);
      at += entryBytes;
    }
    return bytes;
  }

  /**
   * Adds the aborted transactions that reach into the offsets from `from` to below `end` to `found`.
   * @returns whether those in later segments cannot (Kafka's TransactionIndex.collectAbortedTxns)
   */
  collect(from: number, end: number, found: AbortedTransaction[]): boolean {
    for (const entry of this.entries) {
      if (entry.lastOffset >= from && entry.firstOffset < end) found.push(entry);
      if (entry.lastStableOffset >= end) return true;
    }
    return false;
  }
}

/** Tells of one batch after another, in order, whether it belongs to an aborted transaction. */
export class AbortedBatches {
  readonly #byFirstOffset: readonly AbortedTransaction[];
  #next = 0;
  /** Of each producer, where the aborted transaction ends that began last. */
  readonly #ends = new Map<bigint, number>();

  constructor(aborted: readonly AbortedTransaction[]) {
    this.#byFirstOffset = aborted.toSorted((one, other) => one.firstOffset - other.firstOffset);
  }

  has(producerId: bigint, baseOffset: number): boolean {
    const all = this.#byFirstOffset;
    while (this.#next < all.length && all[this.#next]!.firstOffset <= baseOffset) {
      const { producerId: id, lastOffset } = all[this.#next++]!;
      this.#ends.set(id, lastOffset);
    }
    return baseOffset <= (this.#ends.get(producerId) ?? -1);
  }
}

function corrupt(reason: string): OttlaError {
  return new OttlaError('CORRUPT_MESSAGE', `transaction index: ${reason}`);
}
