import { join } from 'node:path';
import { PartitionProducers } from './partition-producers.js';
import { emptyRecoveryPoint, noProducers } from './partition-row.js';
import type { BatchHeader } from './record.js';
import { KeptAside } from './repair-aside.js';
import { BatchCursor } from './storage/batch-cursor.js';
import type { Slices } from './storage/slices.js';
import {
  decodeLeaderEpochs,
  encodeLeaderEpochs,
  parseSegmentFileName,
  segmentFileName,
  type LeaderEpoch,
} from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import { put, type Change, type PartitionRow, type ProducersRow } from './storage/meta-store.js';
import { OpenFiles } from './storage/open-files.js';
import { Segment } from './storage/segment.js';
import { undoSwap } from './storage/segment-swap.js';
import type { KnownPartition } from './verify-partition.js';
import type { VerifyProblem } from './verify-report.js';

const epochsFile = 'leader-epoch-checkpoint';

/** A partition to rebuild: what the metadata still says of it, and what is wrong with it. */
export interface DamagedPartition extends KnownPartition {
  readonly indexIntervalBytes: number;
  readonly problems: readonly VerifyProblem[];
  /** Whose segment has this size and checksum, as far as the metadata knows. */
  readonly ownerOf: (bytes: number, checksum: number) => string | undefined;
}

/** Where a segment ceases to be what it should be. */
interface Break {
  readonly position: number;
  readonly reason: string;
}

/**
 * Rebuilds one partition's rows and indexes from its .log files. The log ends before the first damage in
 * what was durable: what lies there and behind is kept aside in .torn files. What lies behind all that is
 * known to be durable is left to the next open. Fine to do again after a crash at any point of it.
 * @param tell called with a sentence for each thing that was not in order
 * @returns the rows to store
 */
export async function repairPartition(
  files: FileSystem,
  partition: DamagedPartition,
  slices: Slices,
  tell: (sentence: string) => void,
): Promise<Change[]> {
  return new PartitionRepair(files, partition, slices, tell).run();
}

class PartitionRepair {
  readonly #files: FileSystem;
  readonly #openFiles: OpenFiles;
  readonly #at: DamagedPartition;
  readonly #slices: Slices;
  readonly #tell: (sentence: string) => void;
  readonly #name: string;
  /** The metadata is older than the log, or lost: gaps may be compaction's, other bytes a compacted segment. */
  readonly #mayHaveGaps: boolean;
  readonly #aside: KeptAside;
  readonly #kept: Segment[] = [];
  /** Those that were looked at. */
  readonly #opened: Segment[] = [];
  /** As the batches tell. */
  readonly #epochs: LeaderEpoch[] = [];
  #hasProducers = false;
  /** Offsets that nothing has, as after compaction. */
  readonly #gaps: string[] = [];

  constructor(
    files: FileSystem,
    partition: DamagedPartition,
    slices: Slices,
    tell: (sentence: string) => void,
  ) {
    this.#files = files;
    this.#openFiles = new OpenFiles(files);
    this.#aside = new KeptAside(files, partition.directory, slices);
    this.#at = partition;
    this.#slices = slices;
    this.#name = `${partition.topic}-${partition.partition}`;
    this.#tell = (sentence) => tell(`${this.#name}: ${sentence}`);
    this.#mayHaveGaps = partition.mayHaveGaps || this.#isMetadataOlder;
  }

  get #isMetadataOlder(): boolean {
    return this.#at.problems.some(({ code }) => code === 'SEGMENT_UNKNOWN');
  }

  async run(): Promise<Change[]> {
    const { directory, row } = this.#at;
    await this.#undoSwap();
    const bases = this.#files
      .list(directory)
      .map((name) => parseSegmentFileName(name, 'log'))
      .filter((base) => base !== null)
      .toSorted((one, other) => one - other);
    const start = row?.logStartOffset ?? 0;
    if (row !== undefined && this.#isMetadataOlder) {
      this.#tell(
        'the metadata is older than the log: what it has of log start and commits is, too.',
      );
    }
    if (this.#at.problems.some(({ code }) => code === 'INDEX_MISMATCH')) {
      this.#tell('its indexes did not fit the log, and were made anew.');
    }
    try {
      let isWhole = true;
      for (const [i, base] of bases.entries()) {
        // Freed by retention: the next open removes what is left of it.
        if ((bases[i + 1] ?? Infinity) <= start) continue;
        isWhole = await this.#takeOver(base, i === bases.length - 1);
        if (isWhole) continue;
        await this.#keepSegmentsAside(bases.slice(i + 1));
        break;
      }
      if (isWhole) this.#addEmptyActive();
      await this.#endAtStart(start);
      this.#tellGaps(bases);
      return await this.#rows();
    } finally {
      for (const segment of this.#opened) segment.close();
    }
  }

  async #undoSwap(): Promise<void> {
    const { directory } = this.#at;
    for (const name of await undoSwap(this.#files, directory)) {
      const path = this.#aside.keepDeleted(name);
      this.#tell(`${name} had been replaced by a compacted segment. Kept in ${path}.`);
    }
  }

  /** Nothing was written to it yet: so there is no file. */
  #addEmptyActive(): void {
    const { row, directory, indexIntervalBytes } = this.#at;
    const end = this.#kept.at(-1)?.nextOffset;
    if (row === undefined || end === undefined || row.active.bytes > 0) return;
    const base = row.active.baseOffset;
    if (end !== base && (end > base || !this.#mayHaveGaps)) return;
    if (this.#kept.at(-1)!.baseOffset === base) return;
    this.#kept.push(new Segment(this.#openFiles, directory, base, indexIntervalBytes));
  }

  /** Offsets that were deleted are not given out again, even if the log ends before. */
  async #endAtStart(start: number): Promise<void> {
    const end = this.#kept.at(-1)?.nextOffset;
    if (end === undefined || end >= start) return;
    const { directory, indexIntervalBytes } = this.#at;
    const below = this.#kept.splice(0);
    for (const segment of below) segment.close();
    await this.#keepSegmentsAside(below.map(({ baseOffset }) => baseOffset));
    this.#kept.push(new Segment(this.#openFiles, directory, start, indexIntervalBytes));
  }

  #tellGaps(bases: readonly number[]): void {
    const { sealed, row } = this.#at;
    if (!this.#mayHaveGaps) return;
    const [first] = this.#gaps;
    if (row === undefined && first !== undefined) {
      this.#tell(`${this.#gaps.length} gaps in its offsets, the first ${first}, as of compaction.`);
    }
    for (const [base, { nextOffset }] of sealed) {
      if (bases.includes(base) || nextOffset <= (row?.logStartOffset ?? 0)) continue;
      this.#tell(
        `the metadata has a segment of offsets ${base} to ${nextOffset - 1}, which there is not.`,
      );
    }
  }

  /** Takes a segment into the log. False: the log ends in it, or before it. */
  async #takeOver(base: number, isLast: boolean): Promise<boolean> {
    const { directory, indexIntervalBytes } = this.#at;
    const end = this.#kept.at(-1)?.nextOffset;
    const path = join(directory, segmentFileName(base, 'log'));
    if (end !== undefined && base < end) {
      const kept = await this.#aside.keepSegment(base);
      this.#tell(
        `${path} begins before offset ${end}, where the segment before it ends. Kept in ${kept}.`,
      );
      return true;
    }
    if (end !== undefined && base > end && !this.#mayHaveGaps) {
      const kept = await this.#aside.keepSegment(base);
      this.#tell(
        `offsets ${end} to ${base - 1} are missing: the log ends at ${end}. What follows is kept in ${kept}.`,
      );
      return false;
    }
    if (end !== undefined && base > end) this.#gaps.push(`from ${end} to ${base - 1}`);
    const segment = new Segment(this.#openFiles, directory, base, indexIntervalBytes);
    this.#opened.push(segment);
    const size = segment.fileSize();
    const stop = (await this.#scan(segment, size, isLast)) ?? this.#mismatch(segment);
    // What may be torn is cut by the next open, with all that belongs to it.
    const isTail = isLast && stop !== null && stop.position >= this.#durableBytes(base);
    if (stop === null || (isTail && stop.position === segment.size)) {
      this.#kept.push(segment);
      return true;
    }
    await this.#endLogIn(segment, size, stop);
    return false;
  }

  /** How much of a segment was durable, as far as the metadata knows. */
  #durableBytes(base: number): number {
    const { sealed, row } = this.#at;
    return sealed.get(base)?.bytes ?? (row?.active.baseOffset === base ? row.active.bytes : 0);
  }

  /** Adds the batches up to the end or the first that is not in order. */
  async #scan(segment: Segment, size: number, isLast: boolean): Promise<Break | null> {
    const cursor = new BatchCursor(
      (into, length, position) => segment.readAsync(into, length, position),
      size,
      this.#slices,
    );
    const point = this.#at.row?.active;
    // One that was sealed since may have been compacted.
    const isKnown = point?.baseOffset === segment.baseOffset && (isLast || !this.#mayHaveGaps);
    while (segment.size < size) {
      if (this.#slices.isOver) await this.#slices.next();
      const position = segment.size;
      if (isKnown && point.bytes === position) {
        if (point.checksum !== segment.checksum || point.nextOffset !== segment.nextOffset) {
          return { position: 0, reason: 'it has other batches than the metadata says' };
        }
      }
      const found = cursor.check(position) ?? (await cursor.batchAt(position));
      if (typeof found === 'string') return { position, reason: found };
      const { baseOffset } = found;
      const { nextOffset } = segment;
      if (baseOffset < nextOffset || (baseOffset > nextOffset && !this.#mayHaveGaps)) {
        const reason = `a batch of offset ${baseOffset} where ${nextOffset} is next`;
        return { position, reason };
      }
      if (baseOffset > nextOffset) this.#gaps.push(`from ${nextOffset} to ${baseOffset - 1}`);
      segment.added(found);
      this.#hasProducers ||= found.hasProducerId;
      this.#noteEpoch(found);
    }
    return null;
  }

  #noteEpoch({ leaderEpoch, baseOffset }: BatchHeader): void {
    const last = this.#epochs.at(-1);
    if (last === undefined || leaderEpoch > last[0]) {
      this.#epochs.push([Math.max(0, leaderEpoch), baseOffset]);
    }
  }

  /** Whether a sound segment is not the one that was sealed; if it is only shorter the log ends with it. */
  #mismatch(segment: Segment): Break | null {
    const { sealed, ownerOf } = this.#at;
    const { size, checksum, nextOffset, baseOffset } = segment;
    const known = sealed.get(baseOffset);
    const isSame = known?.checksum === checksum && known.bytes === size;
    const owner = known === undefined || isSame ? undefined : ownerOf(size, checksum);
    if (owner !== undefined && !owner.startsWith(`${this.#name},`)) {
      return { position: 0, reason: `it is the segment of ${owner}` };
    }
    if (this.#mayHaveGaps) return null;
    const durable = this.#durableBytes(baseOffset);
    if (size < durable) {
      return { position: size, reason: `it has ${size} bytes, the metadata has ${durable}` };
    }
    if (known === undefined || (isSame && known.nextOffset === nextOffset)) return null;
    return { position: 0, reason: 'it is not the file that was sealed' };
  }

  /** The log ends at a position in a segment: what lies behind goes aside. */
  async #endLogIn(segment: Segment, size: number, { position, reason }: Break): Promise<void> {
    const { directory, indexIntervalBytes } = this.#at;
    const what = `damage at byte ${position} of ${segment.path}: ${reason}`;
    if (position === 0) {
      segment.close();
      const kept = await this.#aside.keepSegment(segment.baseOffset);
      this.#tell(
        `${what}. The log ends at offset ${segment.baseOffset}; the file is kept in ${kept}.`,
      );
      if (this.#kept.length > 0) return;
      this.#kept.push(
        new Segment(this.#openFiles, directory, segment.baseOffset, indexIntervalBytes),
      );
      return;
    }
    if (position < size) {
      const kept = await this.#aside.keepBytes(segment, position, size);
      this.#tell(
        `${what}. The log ends at offset ${segment.nextOffset}; the bytes from there on are kept in ${kept}.`,
      );
    } else {
      this.#tell(`${what}. The log ends at offset ${segment.nextOffset}.`);
    }
    this.#kept.push(segment);
  }

  async #keepSegmentsAside(bases: readonly number[]): Promise<void> {
    for (const base of bases) {
      const kept = await this.#aside.keepSegment(base);
      this.#tell(`the segment of offset ${base} lies behind the log's end. Kept in ${kept}.`);
    }
  }

  async #rows(): Promise<Change[]> {
    const { topicId, partition, row, directory, indexIntervalBytes, compaction } = this.#at;
    if (this.#kept.length === 0) {
      // No file is left: offsets that were given out are not given out again.
      const base = Math.max(row?.active.nextOffset ?? 0, row?.logStartOffset ?? 0);
      if (base > 0) this.#tell(`it has no segments: the log begins at offset ${base}.`);
      this.#kept.push(new Segment(this.#openFiles, directory, base, indexIntervalBytes));
    }
    const changes: Change[] = [];
    const active = this.#kept.at(-1)!;
    for (const [i, segment] of this.#kept.entries()) {
      if (segment !== active) segment.seal();
      // Compaction may have left a gap between two segments: they join all the same.
      segment.nextOffset = this.#kept[i + 1]?.baseOffset ?? segment.nextOffset;
      await this.#saveIndexes(segment);
    }
    const producers = await this.#producers(active.nextOffset);
    for (const segment of this.#kept) {
      if (segment === active) continue;
      changes.push(put(['segment', topicId, partition, segment.baseOffset], segment.row()));
    }
    // After a failed sync another one would cover nothing: the next open writes the segment again.
    const isDurable = row?.syncFailed !== true;
    if (isDurable && active.fileSize() >= 0) await active.sync();
    await this.#files.syncDirectory(directory);
    const end = active.nextOffset;
    const knownEnd = row?.active.nextOffset ?? 0;
    if (knownEnd > end) {
      this.#tell(`offsets ${end} to ${knownEnd - 1}, which the metadata had, are gone.`);
    }
    if (compaction !== undefined || this.#gaps.length > 0) {
      // From the beginning: nothing is known of which records of a key are left.
      const anew = { firstDirtyOffset: 0, swaps: compaction?.swaps ?? 0, swapping: null };
      changes.push(put(['compaction', topicId, partition], anew));
    }
    if (row === undefined && end === 0 && this.#kept.length === 1) return changes;
    const leaderEpochs = await this.#leaderEpochs(end);
    const logStartOffset = Math.max(row?.logStartOffset ?? 0, this.#kept[0]!.baseOffset);
    const value: PartitionRow = isDurable
      ? { logStartOffset, leaderEpochs, active: active.recoveryPoint(), producers }
      : {
          logStartOffset,
          leaderEpochs,
          active: emptyRecoveryPoint(active.baseOffset),
          producers,
          syncFailed: true,
        };
    return [...changes, put(['partition', topicId, partition], value)];
  }

  /** Makes what is known of producers anew from the log, and the snapshot at its end. */
  async #producers(end: number): Promise<ProducersRow> {
    const { directory } = this.#at;
    const producers = new PartitionProducers(this.#files, directory);
    producers.removeOthers(new Set());
    if (!this.#hasProducers) return noProducers;
    await producers.rebuild(this.#kept, this.#kept, this.#slices);
    const snapshot = producers.take(0);
    await producers.save(end, snapshot);
    const hasAborted = this.#kept.some((segment) => segment.transactions.mayHaveAborted);
    return { snapshotCrc: snapshot.crc, open: snapshot.open, hasAborted };
  }

  async #saveIndexes(segment: Segment): Promise<void> {
    await segment.saveIndexes();
    const { offsetIndexBytes, timeIndexBytes } = segment.recoveryPoint();
    // One without entries is not written: what is in its file is wrong.
    const removeWrong = (suffix: string, bytes: number): void => {
      const path = join(this.#at.directory, segmentFileName(segment.baseOffset, suffix));
      if (bytes === 0 && this.#files.size(path) > 0) this.#files.removeFile(path);
    };
    removeWrong('index', offsetIndexBytes);
    removeWrong('timeindex', timeIndexBytes);
  }

  /**
   * Of the row, or, where it is lost, of Kafka's file or the batches; with a new one, because offsets may be
   * given out a second time, unless only indexes were wrong.
   */
  async #leaderEpochs(end: number): Promise<readonly LeaderEpoch[]> {
    const { row, directory, problems } = this.#at;
    const path = join(directory, epochsFile);
    const known = row?.leaderEpochs;
    if (known !== undefined && problems.every(({ code }) => code === 'INDEX_MISMATCH'))
      return known;
    const text = known === undefined ? this.#files.readFile(path)?.toString() : undefined;
    const stored = known ?? decodeLeaderEpochs(text ?? '') ?? [];
    const source = lastOf(stored) >= lastOf(this.#epochs) ? stored : this.#epochs;
    const kept = source.filter(([, start]) => start < end);
    const epochs: LeaderEpoch[] = [
      ...(kept.length > 0 || end === 0 ? kept : [[0, 0] as const]),
      [Math.max(0, lastOf(source)) + 1, end],
    ];
    await this.#files.replaceFile(path, encodeLeaderEpochs(epochs));
    return epochs;
  }
}

function lastOf(epochs: readonly LeaderEpoch[]): number {
  return epochs.at(-1)?.[0] ?? -1;
}
