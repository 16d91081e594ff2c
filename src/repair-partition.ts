import { join } from 'node:path';
import type { TopicPartition } from './assignment.js';
import { PartitionProducers } from './partition-producers.js';
import { noProducers } from './partition-row.js';
import type { BatchHeader } from './record.js';
import { BatchCursor, type Slices } from './storage/batch-cursor.js';
import {
  encodeLeaderEpochs,
  parseSegmentFileName,
  segmentFileName,
  type LeaderEpoch,
} from './storage/checkpoint.js';
import { Pace } from './storage/compaction.js';
import type { FileSystem } from './storage/file-system.js';
import {
  put,
  type Change,
  type PartitionRow,
  type ProducersRow,
  type SegmentRow,
} from './storage/meta-store.js';
import { OpenFiles } from './storage/open-files.js';
import { Segment } from './storage/segment.js';

const chunkBytes = 1024 * 1024;

/** A partition to rebuild, and what the metadata still says of it. */
export interface DamagedPartition extends TopicPartition {
  readonly topicId: string;
  readonly directory: string;
  readonly indexIntervalBytes: number;
  /** Compaction leaves gaps between batches. */
  readonly mayHaveGaps: boolean;
  readonly row: PartitionRow | undefined;
  readonly sealed: ReadonlyMap<number, SegmentRow>;
}

/** Where a segment ceases to be what it should be. */
interface Break {
  readonly position: number;
  readonly reason: string;
}

/**
 * Rebuilds one partition's rows and indexes from its .log files. The log ends before the first damage:
 * what lies there and behind is kept aside in .torn files.
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
  readonly #kept: Segment[] = [];
  /** As the batches tell. */
  readonly #epochs: LeaderEpoch[] = [];
  /** The log ended before what the metadata, or a file, had: offsets will be given out again. */
  #isCut = false;
  #hasProducers = false;

  constructor(
    files: FileSystem,
    partition: DamagedPartition,
    slices: Slices,
    tell: (sentence: string) => void,
  ) {
    this.#files = files;
    this.#openFiles = new OpenFiles(files);
    this.#at = partition;
    this.#slices = slices;
    this.#name = `${partition.topic}-${partition.partition}`;
    this.#tell = (sentence) => tell(`${this.#name}: ${sentence}`);
  }

  async run(): Promise<Change[]> {
    const { directory } = this.#at;
    const bases = this.#files
      .list(directory)
      .map((name) => parseSegmentFileName(name, 'log'))
      .filter((base) => base !== null)
      .toSorted((one, other) => one - other);
    const start = this.#at.row?.logStartOffset ?? 0;
    try {
      for (const [i, base] of bases.entries()) {
        // Freed by retention: the next open removes what is left of it.
        if ((bases[i + 1] ?? Infinity) <= start) continue;
        if (await this.#takeOver(base)) continue;
        await this.#keepSegmentsAside(bases.slice(i + 1));
        break;
      }
      return await this.#rows();
    } finally {
      for (const segment of this.#kept) segment.close();
    }
  }

  /** Takes a segment into the log. False: the log ends in it, or before it. */
  async #takeOver(base: number): Promise<boolean> {
    const { directory, indexIntervalBytes, mayHaveGaps } = this.#at;
    const end = this.#kept.at(-1)?.nextOffset;
    const path = join(directory, segmentFileName(base, 'log'));
    if (end !== undefined && base < end) {
      const kept = await this.#keepFileAside(base);
      this.#tell(
        `${path} begins before offset ${end}, where the segment before it ends. Kept in ${kept}.`,
      );
      return true;
    }
    if (end !== undefined && base > end && !mayHaveGaps) {
      const kept = await this.#keepFileAside(base);
      this.#tell(
        `offsets ${end} to ${base - 1} are missing: the log ends at ${end}. What follows is kept in ${kept}.`,
      );
      return false;
    }
    const segment = new Segment(this.#openFiles, directory, base, indexIntervalBytes);
    const size = segment.fileSize();
    const stop = (await this.#scan(segment, size)) ?? this.#mismatch(segment);
    if (stop === null) {
      this.#kept.push(segment);
      return true;
    }
    await this.#endLogIn(segment, size, stop);
    return false;
  }

  /** Adds the batches up to the end or the first that is not in order. */
  async #scan(segment: Segment, size: number): Promise<Break | null> {
    const cursor = new BatchCursor(
      (into, length, position) => segment.readAsync(into, length, position),
      size,
      this.#slices,
    );
    const point = this.#at.row?.active;
    while (segment.size < size) {
      if (this.#slices.isOver) await this.#slices.next();
      const position = segment.size;
      if (point?.baseOffset === segment.baseOffset && point.bytes === position) {
        if (point.checksum !== segment.checksum || point.nextOffset !== segment.nextOffset) {
          return { position: 0, reason: 'it has other batches than the metadata says' };
        }
      }
      const found = cursor.check(position) ?? (await cursor.batchAt(position));
      if (typeof found === 'string') return { position, reason: found };
      const { baseOffset } = found;
      const { nextOffset } = segment;
      if (baseOffset < nextOffset || (baseOffset > nextOffset && !this.#at.mayHaveGaps)) {
        const reason = `a batch of offset ${baseOffset} where ${nextOffset} is next`;
        return { position, reason };
      }
      if (baseOffset > nextOffset) {
        this.#tell(
          `offsets ${nextOffset} to ${baseOffset - 1} are not in ${segment.path}, as after compaction.`,
        );
      }
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
    const { sealed, row, mayHaveGaps } = this.#at;
    const { size, checksum, nextOffset, baseOffset } = segment;
    const known = sealed.get(baseOffset);
    const knownBytes =
      known?.bytes ?? (row?.active.baseOffset === baseOffset ? row.active.bytes : 0);
    if (size < knownBytes && !mayHaveGaps) {
      return { position: size, reason: `it has ${size} bytes, the metadata has ${knownBytes}` };
    }
    if (known === undefined || mayHaveGaps) return null;
    if (known.checksum === checksum && known.nextOffset === nextOffset) return null;
    return { position: 0, reason: 'it is not the file that was sealed' };
  }

  /** The log ends at a position in a segment: what lies behind goes aside. */
  async #endLogIn(segment: Segment, size: number, { position, reason }: Break): Promise<void> {
    this.#isCut = true;
    const { directory, indexIntervalBytes } = this.#at;
    const what = `damage at byte ${position} of ${segment.path}: ${reason}`;
    if (position === 0) {
      segment.close();
      const kept = await this.#keepFileAside(segment.baseOffset);
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
      const kept = await this.#keepBytesAside(segment, position, size);
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
      this.#isCut = true;
      const kept = await this.#keepFileAside(base);
      this.#tell(`the segment of offset ${base} lies behind the log's end. Kept in ${kept}.`);
    }
  }

  async #keepFileAside(base: number): Promise<string> {
    const { directory } = this.#at;
    const path = this.#freePath(base);
    this.#files.rename(join(directory, segmentFileName(base, 'log')), path);
    this.#removeIndexes(base);
    await this.#files.syncDirectory(directory);
    return path;
  }

  /** The copy is durable before the log is cut. */
  async #keepBytesAside(segment: Segment, from: number, size: number): Promise<string> {
    const path = this.#freePath(segment.nextOffset);
    const copy = this.#files.open(path, 'write');
    try {
      const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, size - from));
      for (let at = from; at < size;) {
        const length = await segment.readAsync(chunk, Math.min(chunk.length, size - at), at);
        for (let written = 0; written < length;) {
          written += copy.write(chunk, written, length, at - from + written);
        }
        at += length;
        if (this.#slices.isOver) await this.#slices.next();
      }
      await copy.sync();
    } finally {
      copy.close();
    }
    await this.#files.syncDirectory(this.#at.directory);
    segment.close();
    const file = this.#files.open(segment.path, 'write');
    try {
      file.truncate(from);
      await file.sync();
    } finally {
      file.close();
    }
    return path;
  }

  /** A name that no earlier repair has used. */
  #freePath(offset: number): string {
    const { directory } = this.#at;
    let path = join(directory, segmentFileName(offset, 'torn'));
    for (let i = 1; this.#files.size(path) >= 0; i++) {
      path = join(directory, segmentFileName(offset, `${i}.torn`));
    }
    return path;
  }

  /** They are made anew from the log. */
  #removeIndexes(base: number): void {
    for (const suffix of ['index', 'timeindex', 'txnindex']) {
      this.#files.removeFile(join(this.#at.directory, segmentFileName(base, suffix)));
    }
  }

  async #rows(): Promise<Change[]> {
    const { topicId, partition, row, directory, indexIntervalBytes } = this.#at;
    if (this.#kept.length === 0) {
      // No file is left: offsets that were given out are not given out again.
      const base = row?.active.nextOffset ?? 0;
      if (base > 0) this.#tell(`it has no segments: the log begins at offset ${base}.`);
      this.#kept.push(new Segment(this.#openFiles, directory, base, indexIntervalBytes));
    }
    const changes: Change[] = [];
    const active = this.#kept.at(-1)!;
    for (const [i, segment] of this.#kept.entries()) {
      if (segment !== active) segment.seal();
      // Compaction may have left a gap between two segments: they join all the same.
      segment.nextOffset = this.#kept[i + 1]?.baseOffset ?? segment.nextOffset;
      this.#removeIndexes(segment.baseOffset);
      await segment.saveIndexes();
    }
    const producers = await this.#producers(active.nextOffset);
    for (const segment of this.#kept) {
      if (segment === active) continue;
      changes.push(put(['segment', topicId, partition, segment.baseOffset], segment.row()));
    }
    if (active.fileSize() >= 0) await active.sync();
    await this.#files.syncDirectory(directory);
    const end = active.nextOffset;
    const knownEnd = row?.active.nextOffset ?? 0;
    if (knownEnd > end) {
      this.#isCut = true;
      this.#tell(`offsets ${end} to ${knownEnd - 1}, which the metadata had, are gone.`);
    }
    if (row === undefined && end === 0 && this.#kept.length === 1) return changes;
    const leaderEpochs = await this.#leaderEpochs(end);
    const first = this.#kept[0]!.baseOffset;
    const logStartOffset = Math.min(end, Math.max(row?.logStartOffset ?? 0, first));
    const value = { logStartOffset, leaderEpochs, active: active.recoveryPoint(), producers };
    return [...changes, put(['partition', topicId, partition], value)];
  }

  /** Makes what is known of producers anew from the log, and the snapshot at its end. */
  async #producers(end: number): Promise<ProducersRow> {
    const { directory } = this.#at;
    const producers = new PartitionProducers(this.#files, directory);
    producers.removeOthers(new Set());
    if (!this.#hasProducers) return noProducers;
    await producers.rebuild(this.#kept, this.#kept, new Pace(this.#slices.clock));
    const snapshot = producers.take(0);
    await producers.save(end, snapshot);
    const hasAborted = this.#kept.some((segment) => segment.mayHaveAborted);
    return { count: snapshot.count, open: snapshot.open, hasAborted };
  }

  /** Of the row, else of the batches; a new one where offsets will be given out a second time. */
  async #leaderEpochs(end: number): Promise<readonly LeaderEpoch[]> {
    const { row, directory } = this.#at;
    const known = row?.leaderEpochs ?? [];
    const source =
      (known.at(-1)?.[0] ?? -1) >= (this.#epochs.at(-1)?.[0] ?? 0) ? known : this.#epochs;
    if (!this.#isCut && row !== undefined) return source;
    const last = source.at(-1)?.[0] ?? 0;
    const kept = source.filter(([, start]) => start < end);
    const epochs: LeaderEpoch[] = [
      ...(kept.length > 0 || end === 0 ? kept : [[0, 0] as const]),
      [last + 1, end],
    ];
    const path = join(directory, 'leader-epoch-checkpoint');
    await this.#files.replaceFile(path, Buffer.from(encodeLeaderEpochs(epochs)));
    return epochs;
  }
}
