import { crc32c } from '../crc32c.js';
import { OttlaError, type ErrorCode } from '../errors.js';
import type { Marker } from '../record-marker.js';
import type { BatchHeader } from '../record.js';
import type { AbortedTransaction } from './transaction-index.js';

/** A batch that came last, or shortly before it. */
interface RecentBatch {
  baseSequence: number;
  lastSequence: number;
  lastOffset: number;
  offsetDelta: number;
}

/** What a log knows of one producer id. */
interface ProducerEntry {
  epoch: number;
  /** Oldest first, five at the most; of this epoch. */
  batches: RecentBatch[];
  /** Of the batch or marker that came last, ms since 1970. */
  timestamp: number;
  /** -1: it ended no transaction here. */
  coordinatorEpoch: number;
  /** Of the open transaction; -1: there is none. */
  firstOffset: number;
}

/** Kafka's: a producer may have five requests in flight. */
const batchesRemembered = 5;
/** Kafka's producer.id.expiration.ms. */
const expirationMs = 24 * 60 * 60 * 1000;
const maxSequence = 2 ** 31 - 1;
const snapshotVersion = 1;
const snapshotHeaderBytes = 10;
const snapshotEntryBytes = 46;

/**
 * What one log knows of the producers that number their batches: the sequence that comes next, the last
 * five batches, open transactions. No I/O here. The rules are those of Kafka's ProducerStateManager and
 * ProducerAppendInfo (KIP-98), the snapshot is Kafka's .snapshot file.
 */
export class ProducerState {
  readonly #producers = new Map<bigint, ProducerEntry>();
  /** What was looked up last, and for whom: most batches are of the producer of the one before. */
  #last: { readonly header: BatchHeader; readonly entry: ProducerEntry } | null = null;
  /** First offsets of open transactions, in their order. */
  readonly #open = new Map<bigint, number>();

  get count(): number {
    return this.#producers.size;
  }

  /** The first offset of the oldest open transaction; -1: none is open. */
  get firstUnstableOffset(): number {
    for (const firstOffset of this.#open.values()) return firstOffset;
    return -1;
  }

  /** Producers with an open transaction, by its first offset. */
  get openTransactions(): ReadonlyMap<bigint, number> {
    return this.#open;
  }

  /** -1: unknown. */
  epochOf(producerId: bigint): number {
    return this.#producers.get(producerId)?.epoch ?? -1;
  }

  #entryOf(header: BatchHeader): ProducerEntry | undefined {
    if (this.#last !== null && header.hasProducerOf(this.#last.header)) return this.#last.entry;
    const entry = this.#producers.get(header.producerId);
    if (entry !== undefined) this.#last = { header, entry };
    return entry;
  }

  /** The base offset that a batch was given when it came before; -1: it did not, as far as is known. */
  duplicateOf(header: BatchHeader): number {
    const entry = this.#entryOf(header);
    if (entry?.epoch !== header.producerEpoch) return -1;
    const { baseSequence, lastSequence } = header;
    for (const known of entry.batches) {
      const isSame = known.baseSequence === baseSequence && known.lastSequence === lastSequence;
      if (isSame) return known.lastOffset - known.offsetDelta;
    }
    return -1;
  }

  /**
   * Whether a client's batch, which is no duplicate, may come next.
   * @throws INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE
   */
  checkBatch(header: BatchHeader): void {
    const { producerEpoch, baseSequence } = header;
    const entry = this.#entryOf(header);
    // Of an unknown producer, or one known no more, any sequence is taken.
    if (entry === undefined) return;
    this.#checkEpoch(header, entry);
    const last = producerEpoch === entry.epoch ? (entry.batches.at(-1)?.lastSequence ?? -1) : -1;
    const next = last === maxSequence ? 0 : last + 1;
    if (baseSequence !== next) {
      throw refused(
        'OUT_OF_ORDER_SEQUENCE_NUMBER',
        header.producerId,
        `sequence ${baseSequence} in epoch ${producerEpoch}, expected ${next}`,
      );
    }
    if (entry.firstOffset >= 0 && !header.isTransactional) {
      throw refused(
        'INVALID_TXN_STATE',
        header.producerId,
        'a batch outside of its open transaction',
      );
    }
  }

  /** @throws INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED */
  checkMarker(header: BatchHeader, { coordinatorEpoch }: Marker): void {
    const entry = this.#entryOf(header);
    if (entry === undefined) return;
    this.#checkEpoch(header, entry);
    if (coordinatorEpoch >= entry.coordinatorEpoch) return;
    throw refused(
      'TRANSACTION_COORDINATOR_FENCED',
      header.producerId,
      `a marker of coordinator epoch ${coordinatorEpoch}, expected at least ${entry.coordinatorEpoch}`,
    );
  }

  #checkEpoch(header: BatchHeader, entry: ProducerEntry): void {
    const epoch = header.producerEpoch;
    if (epoch >= entry.epoch) return;
    const what = `epoch ${epoch}, expected at least ${entry.epoch}`;
    throw refused('INVALID_PRODUCER_EPOCH', header.producerId, what);
  }

  #entry(header: BatchHeader): ProducerEntry {
    const epoch = header.producerEpoch;
    let entry = this.#entryOf(header);
    if (entry === undefined) {
      entry = { epoch, batches: [], timestamp: -1, coordinatorEpoch: -1, firstOffset: -1 };
      this.#producers.set(header.producerId, entry);
    } else if (epoch > entry.epoch) {
      entry.epoch = epoch;
      entry.batches = [];
    }
    entry.timestamp = header.maxTimestamp;
    return entry;
  }

  /** Takes a batch into account that is in the log. */
  added(header: BatchHeader): void {
    const entry = this.#entry(header);
    const { batches } = entry;
    const { baseSequence, lastSequence, lastOffset, lastOffsetDelta, baseOffset } = header;
    if (batches.length < batchesRemembered) {
      batches.push({ baseSequence, lastSequence, lastOffset, offsetDelta: lastOffsetDelta });
    } else {
      // The oldest becomes the latest: nothing is allocated for each batch.
      const batch = batches.shift()!;
      batch.baseSequence = baseSequence;
      batch.lastSequence = lastSequence;
      batch.lastOffset = lastOffset;
      batch.offsetDelta = lastOffsetDelta;
      batches.push(batch);
    }
    if (!header.isTransactional || entry.firstOffset >= 0) return;
    entry.firstOffset = baseOffset;
    this.#open.set(header.producerId, baseOffset);
  }

  /** Takes a marker into account that is in the log. @returns the transaction, if it ended one by aborting it */
  ended(header: BatchHeader, marker: Marker): AbortedTransaction | null {
    const entry = this.#entry(header);
    const { firstOffset } = entry;
    const { producerId, lastOffset } = header;
    entry.coordinatorEpoch = marker.coordinatorEpoch;
    entry.firstOffset = -1;
    if (!this.#open.delete(producerId) || marker.isCommit) return null;
    const unstable = this.firstUnstableOffset;
    const lastStableOffset = unstable === -1 ? lastOffset + 1 : unstable;
    return { producerId, firstOffset, lastOffset, lastStableOffset };
  }

  /** Forgets producers that were silent for a day. */
  expire(now: number): void {
    this.#last = null;
    for (const [id, { timestamp, firstOffset }] of this.#producers) {
      if (firstOffset < 0 && timestamp < now - expirationMs) this.#producers.delete(id);
    }
  }

  /** Bytes of a snapshot of so many producers. */
  static snapshotBytes(count: number): number {
    return snapshotHeaderBytes + count * snapshotEntryBytes;
  }

  /** What tells a whole snapshot from another. */
  static snapshotCrc(file: Uint8Array): number {
    return Buffer.from(file.buffer, file.byteOffset, file.length).readUInt32BE(2);
  }

  /**
   * Kafka's .snapshot file, big endian: int16 version 1, uint32 CRC-32C of the bytes from 6 on, int32
   * count; of each producer int64 id, int16 epoch, int32 last sequence, int64 last offset, int32 offset
   * delta of the last batch, int64 timestamp, int32 coordinator epoch, int64 first offset of the open
   * transaction or -1. Of a producer's batches only the last is in it.
   */
  encode(): Buffer {
    const bytes = Buffer.alloc(ProducerState.snapshotBytes(this.count));
    bytes.writeInt16BE(snapshotVersion, 0);
    bytes.writeInt32BE(this.count, 6);
    let at = snapshotHeaderBytes;
    for (const [id, entry] of this.#producers) {
      const last = entry.batches.at(-1);
      bytes.writeBigInt64BE(id, at);
      bytes.writeInt16BE(entry.epoch, at + 8);
      bytes.writeInt32BE(last?.lastSequence ?? -1, at + 10);
      bytes.writeBigInt64BE(BigInt(last?.lastOffset ?? -1), at + 14);
      bytes.writeInt32BE(last?.offsetDelta ?? 0, at + 22);
      bytes.writeBigInt64BE(BigInt(entry.timestamp), at + 26);
      bytes.writeInt32BE(entry.coordinatorEpoch, at + 34);
      bytes.writeBigInt64BE(BigInt(entry.firstOffset), at + 38);
      at += snapshotEntryBytes;
    }
    bytes.writeUInt32BE(crc32c(bytes, 6, bytes.length), 2);
    return bytes;
  }

  /** @throws CORRUPT_MESSAGE for bytes that encode(), or Kafka, did not make */
  static decode(file: Uint8Array): ProducerState {
    const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
    const count = bytes.length < snapshotHeaderBytes ? -1 : bytes.readInt32BE(6);
    const isWhole =
      count >= 0 &&
      bytes.readInt16BE(0) === snapshotVersion &&
      bytes.length === ProducerState.snapshotBytes(count) &&
      bytes.readUInt32BE(2) === crc32c(bytes, 6, bytes.length);
    if (!isWhole) throw new OttlaError('CORRUPT_MESSAGE', 'no whole producer snapshot');
    const state = new ProducerState();
    for (let at = snapshotHeaderBytes; at < bytes.length; at += snapshotEntryBytes) {
      const lastSequence = bytes.readInt32BE(at + 10);
      const lastOffset = Number(bytes.readBigInt64BE(at + 14));
      const offsetDelta = bytes.readInt32BE(at + 22);
      const baseSequence = (lastSequence - offsetDelta) & maxSequence;
      state.#producers.set(bytes.readBigInt64BE(at), {
        epoch: bytes.readInt16BE(at + 8),
        batches: lastOffset < 0 ? [] : [{ baseSequence, lastSequence, lastOffset, offsetDelta }],
        timestamp: Number(bytes.readBigInt64BE(at + 26)),
        coordinatorEpoch: bytes.readInt32BE(at + 34),
        firstOffset: Number(bytes.readBigInt64BE(at + 38)),
      });
    }
    const open = [...state.#producers].filter(([, { firstOffset }]) => firstOffset >= 0);
    open.sort(([, one], [, other]) => one.firstOffset - other.firstOffset);
    for (const [id, { firstOffset }] of open) state.#open.set(id, firstOffset);
    return state;
  }

  /** What is known of each producer, for whoever looks on. */
  *describe(): Iterable<ProducerDescription> {
    for (const [
      producerId,
      { epoch, batches, timestamp, coordinatorEpoch, firstOffset },
    ] of this.#producers) {
      const last = batches.at(-1);
      yield {
        producerId,
        epoch,
        lastSequence: last?.lastSequence ?? -1,
        lastOffset: last?.lastOffset ?? -1,
        timestamp,
        coordinatorEpoch,
        firstOffset,
        batchesRemembered: batches.length,
      };
    }
  }
}

/** One producer as a log knows it: see ProducerState.encode(). */
export interface ProducerDescription {
  readonly producerId: bigint;
  readonly epoch: number;
  readonly lastSequence: number;
  readonly lastOffset: number;
  readonly timestamp: number;
  readonly coordinatorEpoch: number;
  readonly firstOffset: number;
  readonly batchesRemembered: number;
}

function refused(code: ErrorCode, producerId: bigint, what: string): OttlaError {
  return new OttlaError(code, `producer ${producerId}: ${what}; nothing was written`);
}
