import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { OttlaError } from './errors.js';
import type { LogEnvironment } from './partition-environment.js';
import { listFiles, metadataLost, type LogPlace, type StoredPartition } from './partition-row.js';
import { parseSegmentFileName, segmentFileName } from './storage/checkpoint.js';
import type { CompactionRow, PartitionRow, Row, SwapRange } from './storage/meta-store.js';
import type { Segment } from './storage/segment.js';
import { isOfSwap, pathInSwap, sizeInSwap } from './storage/segment-swap.js';

/** What rows and files say of a log. Nothing was changed. */
export interface FoundLog {
  readonly row: PartitionRow;
  /** The compaction's count of swaps. */
  readonly swaps: number;
  /** The swap that a crash cut short, and the compacted segment. */
  readonly swapping: SwapRange | null;
  readonly swapped: Segment | null;
  /** Of that one, or of others that were not committed. */
  readonly hasSwapFiles: boolean;
  /** Offsets of the producer snapshots that are there. */
  readonly snapshots: readonly number[];
  readonly sealed: readonly Segment[];
  /** As the recovery point has it, once restoreActive() was called. */
  readonly active: Segment;
  /** Bytes of its file; 0 where there is none. */
  readonly activeBytes: number;
  /** Base offsets of segments below the log start whose rows are still there. */
  readonly freedRows: readonly number[];
  /** Those below the log start whose files are. */
  readonly freedFiles: readonly Segment[];
  /** Where the oldest segments began, which are not there, though the log start was not moved; null: all are. */
  readonly missing: number | null;
  /** What is amiss in what was durable; null: nothing. */
  readonly damage: string | null;
}

/** Rows and files of one moment. */
interface Look {
  readonly row: PartitionRow;
  readonly compaction: CompactionRow | undefined;
  readonly sealed: readonly Row<'segment'>[];
  /** Base offsets of the .log files that are there. */
  readonly present: Set<number>;
  /** Bytes of sealed segments by base offset; -1 for one that is not there. */
  readonly sizes: ReadonlyMap<number, number>;
  readonly names: readonly string[];
}

/** Compares the rows of one log with its directory. */
export class LogOpening {
  readonly #env: LogEnvironment;
  readonly #place: LogPlace;
  readonly #stored: StoredPartition;
  readonly #newSegment: (baseOffset: number) => Segment;

  constructor(
    env: LogEnvironment,
    place: LogPlace,
    stored: StoredPartition,
    newSegment: (baseOffset: number) => Segment,
  ) {
    this.#env = env;
    this.#place = place;
    this.#stored = stored;
    this.#newSegment = newSegment;
  }

  /**
   * @param knownBytes of the active segment's file; null: not looked at yet
   * @throws METADATA_LOST if the metadata is not this directory's; errors of the file system
   */
  find(knownBytes: number | null): FoundLog {
    const { row, compaction, sealed: rows, present, sizes, names } = this.#look();
    const swapping = compaction?.swapping ?? null;
    const { files } = this.#env.openFiles;
    const sealed: Segment[] = [];
    const freedRows: number[] = [];
    const freedFiles: Segment[] = [];
    const damage: string[] = [];
    let missing: number | null = null;
    let swapped: Segment | null = null;
    for (const { key, value } of rows) {
      const base = key[3];
      const segment = this.#newSegment(base);
      segment.restoreSealed(value);
      if (value.nextOffset <= row.logStartOffset) {
        freedRows.push(base);
        if (present.delete(base)) freedFiles.push(segment);
        continue;
      }
      if (swapping?.baseOffset === base) {
        swapped = segment;
        if (pathInSwap(files, segment.path) !== segment.path) segment.nameSuffix = '.swap';
      }
      if (present.delete(base)) {
        const size = sizes.get(base) ?? -1;
        if (size !== value.bytes) damage.push(wrongSize(segment, size, `${value.bytes}`));
      } else if (sealed.length > 0) {
        damage.push(`sealed segment ${segment.path} is missing`);
      } else if (files.size(`${segment.path}.deleted`) >= 0) {
        throw this.#metadataLost(`${segmentFileName(base, 'log')} was replaced by a compaction`);
      } else {
        freedRows.push(base);
        missing ??= base;
        continue;
      }
      sealed.push(segment);
    }
    present.delete(row.active.baseOffset);
    const firstBase = sealed[0]?.baseOffset ?? row.active.baseOffset;
    for (const base of present) {
      // The rows say that all up to the first segment that they know was to be removed.
      if (base >= firstBase || firstBase > row.logStartOffset) {
        throw this.#metadataLost(`no metadata of segment ${segmentFileName(base, 'log')}`);
      }
      freedFiles.push(this.#newSegment(base));
    }
    const active = this.#newSegment(row.active.baseOffset);
    const activeBytes = knownBytes ?? Math.max(0, active.fileSize());
    if (activeBytes < row.active.bytes) {
      damage.push(wrongSize(active, activeBytes, `at least ${row.active.bytes}`));
    }
    return {
      row,
      swaps: compaction?.swaps ?? 0,
      swapping,
      swapped,
      hasSwapFiles: names.some(isOfSwap),
      snapshots: offsetsIn(names, 'snapshot'),
      sealed,
      active,
      activeBytes,
      freedRows,
      freedFiles,
      missing,
      damage: damage[0] ?? null,
    };
  }

  /** An owner beside us may roll, free or compact in between: then rows and files are looked at again. */
  #look(): Look {
    for (let look = this.#lookOnce(); ;) {
      if (!this.#env.readOnly) return look;
      const again = this.#lookOnce();
      if (isDeepStrictEqual(again, look)) return look;
      look = again;
    }
  }

  #lookOnce(): Look {
    const { topicId, partition, directory } = this.#place;
    const { files } = this.#env.openFiles;
    const row = this.#stored.read();
    // A log that was never rolled has neither: they would lie below its active segment.
    const mayHaveSealed = row.active.baseOffset > 0;
    const compaction = mayHaveSealed ? this.#stored.compaction() : undefined;
    const names = listFiles(files, this.#place);
    const present = new Set(offsetsIn(names, 'log'));
    const sealed = mayHaveSealed ? [...this.#env.store.range(['segment', topicId, partition])] : [];
    const swapping = compaction?.swapping ?? null;
    const sizes = new Map<number, number>();
    for (const { key, value } of sealed) {
      const base = key[3];
      const path = join(directory, segmentFileName(base, 'log'));
      const isInSwap = swapping?.baseOffset === base;
      if (isInSwap) {
        // Of the old segments nothing counts any more.
        for (const old of present) {
          if (old > base && old < swapping.nextOffset) present.delete(old);
        }
      }
      if (!isInSwap && value.nextOffset <= row.logStartOffset) continue;
      const size = isInSwap ? sizeInSwap(files, path) : files.size(path);
      sizes.set(base, size);
      // A list may lack what got its name while it was made.
      if (size >= 0) present.add(base);
    }
    return { row, compaction, sealed, present, sizes, names };
  }

  #metadataLost(why: string): OttlaError {
    return metadataLost(this.#place.directory, why);
  }
}

function offsetsIn(names: readonly string[], suffix: string): number[] {
  return names
    .map((name) => parseSegmentFileName(name, suffix))
    .filter((offset) => offset !== null);
}

function wrongSize(segment: Segment, size: number, expected: string): string {
  return `${segment.path} has ${size} bytes, expected ${expected}`;
}
