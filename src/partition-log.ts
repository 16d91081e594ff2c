import { join } from 'node:path';
import type { Clock } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { TopicSettings } from './options.js';
import {
  decodePartitionMetadata,
  encodeLeaderEpochs,
  parseSegmentFileName,
  partitionMetadataFile,
  segmentFileName,
  type LeaderEpoch,
} from './storage/checkpoint.js';
import {
  put,
  type CompactionRow,
  type MetaStore,
  type PartitionRow,
  type RecoveryPoint,
  type Row,
  type SwapRange,
} from './storage/meta-store.js';
import type { OpenFiles } from './storage/open-files.js';
import { addBatchesUpTo, endsWithKnownBatch, hasLaterBatch } from './storage/recovery.js';
import { Segment } from './storage/segment.js';
import { settleSwap } from './storage/segment-swap.js';
import type { SyncQueue } from './storage/sync-queue.js';

/** What every partition of one data directory works with. */
export interface LogEnvironment {
  readonly openFiles: OpenFiles;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly syncs: SyncQueue;
  /** One compaction at a time: each takes memory for its keys. */
  readonly compactions: SyncQueue;
  readonly readOnly: boolean;
  /** Told, in a sentence, of what is found amiss. */
  readonly warn: (message: string) => void;
}

/** What a log must know of its topic and place. */
export interface LogPlace {
  readonly topic: string;
  readonly topicId: string;
  readonly partition: number;
  readonly directory: string;
}

const recoveryPointBytes = 64 * 1024 * 1024;
const recoveryPointMs = 5000;

/**
 * One partition's files and rows: its segments, epochs and recovery point. Opened at first use; what a
 * crash left behind the recovery point is judged by recover() before anything is appended.
 */
export class PartitionLog {
  readonly name: string;
  readonly place: LogPlace;
  settings: TopicSettings;
  readonly #env: LogEnvironment;
  /** In order of offsets; the last one is the active one. Empty until opened. */
  #segments: Segment[] = [];
  #active!: Segment;
  #leaderEpochs: LeaderEpoch[] = [];
  #logStartOffset = 0;
  #failure: OttlaError | null = null;
  /** Linux takes what a failed sync did not write for clean: it must be written again to be synced. */
  #syncFailed = false;
  #savedPoint: RecoveryPoint = emptyRecoveryPoint(0);
  #savedAt = 0;
  /** The compaction's count of swaps that was read last. */
  #swaps = 0;

  constructor(env: LogEnvironment, place: LogPlace, settings: TopicSettings) {
    this.#env = env;
    this.place = place;
    this.name = `${place.topic}-${place.partition}`;
    this.settings = settings;
  }

  /** Why nothing can be appended until reset(); null: all is well. */
  get failure(): OttlaError | null {
    return this.#failure;
  }

  /** Refuses appends from now on. The first failure stays. */
  fail(error: OttlaError): void {
    const { topic, partition } = this.place;
    this.#failure ??= new OttlaError(
      error.code,
      `${this.name} takes no records until topics.reopen(${JSON.stringify(topic)}, ${partition}): ${error.message}`,
      { cause: error, retriable: false },
    );
  }

  /** As fail(), after a sync that failed. */
  failSync(error: OttlaError): void {
    this.#syncFailed = true;
    this.fail(error);
  }

  get isOpen(): boolean {
    return this.#segments.length > 0;
  }

  get segments(): readonly Segment[] {
    this.open();
    return this.#segments;
  }

  /** The segment that is written to. */
  get active(): Segment {
    this.open();
    return this.#active;
  }

  get logStartOffset(): number {
    this.open();
    return this.#logStartOffset;
  }

  get leaderEpoch(): number {
    this.open();
    return this.#leaderEpochs.at(-1)![0];
  }

  /** The segment that holds `offset`, or the last one that begins before it. */
  segmentFor(offset: number): Segment {
    const segments = this.segments;
    let low = 0;
    let high = segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (segments[middle]!.baseOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return segments[low]!;
  }

  /** The epoch in which the record before `offset` was written. */
  epochBefore(offset: number): number {
    this.open();
    const last = this.#leaderEpochs.findLast(([, startOffset]) => startOffset < offset);
    return (last ?? this.#leaderEpochs[0]!)[0];
  }

  /**
   * Where what was written in `epoch` ends: a reader beyond it has read what was cut since. -1, unknown:
   * the end of the log.
   */
  endOfEpoch(epoch: number): number {
    this.open();
    const next =
      epoch === -1 ? undefined : this.#leaderEpochs.find(([candidate]) => candidate > epoch);
    return next === undefined ? this.#active.nextOffset : next[1];
  }

  /**
   * Reads what the metadata and the directory say. Damage in what was durable fails the log: it can be
   * read up to there, and nothing is appended behind it.
   * @throws METADATA_LOST if the metadata is not this directory's; KAFKA_STORAGE_ERROR
   */
  open(): void {
    if (this.#segments.length > 0) return;
    const swapping = this.#settleSwap();
    const { row, sealed, present } = this.#look();
    const segments: Segment[] = [];
    let missing: number | null = null;
    for (const { key, value } of sealed) {
      const base = key[3];
      const segment = this.#newSegment(base);
      segment.restoreSealed(value);
      if (swapping?.baseOffset === base) standIn(segment, swapping, present);
      if (present.delete(base)) {
        this.#checkSize(segment.path, segment.fileSize(), value.bytes, value.bytes);
      } else if (segments.length > 0) {
        this.#damaged(`sealed segment ${segment.path} is missing`);
      } else {
        missing ??= base;
        continue;
      }
      segments.push(segment);
    }
    present.delete(row.active.baseOffset);
    for (const base of present) {
      throw metadataLost(
        this.place.directory,
        `no metadata of segment ${segmentFileName(base, 'log')}`,
      );
    }
    const active = this.#newSegment(row.active.baseOffset);
    this.#checkSize(active.path, Math.max(0, active.fileSize()), row.active.bytes, Infinity);
    active.restoreActive(row.active, !this.#env.readOnly && this.#failure === null);
    this.#segments = [...segments, active];
    this.#active = active;
    const first = this.#segments[0]!.baseOffset;
    this.#logStartOffset = Math.max(row.logStartOffset, first);
    this.#leaderEpochs = row.leaderEpochs.slice();
    this.#savedPoint = row.active;
    this.#savedAt = this.#env.clock.monotonic();
    if (missing !== null) {
      this.#env.warn(
        `${this.name}: the log begins at offset ${this.#logStartOffset}: its segments from offset ${missing} to ${first} are gone.`,
      );
    }
  }

  /** The rows, and base offsets of the .log files that are there. */
  #look(): {
    readonly row: PartitionRow;
    readonly sealed: readonly Row<'segment'>[];
    readonly present: Set<number>;
  } {
    const { topicId, partition } = this.place;
    for (;;) {
      const row = this.#readRow();
      const swaps = this.#compactionRow()?.swaps ?? 0;
      const present = this.#listSegments();
      const sealed = [...this.#env.store.range(['segment', topicId, partition])];
      // An owner beside us may roll in between: then rows and files do not belong together.
      const isSame =
        this.#readRow().active.baseOffset === row.active.baseOffset && !this.#wasCompacted(swaps);
      this.#swaps = swaps;
      if (isSame) return { row, sealed, present };
    }
  }

  #compactionRow(): CompactionRow | undefined {
    return this.#env.store.get(['compaction', this.place.topicId, this.place.partition]);
  }

  #wasCompacted(swaps: number): boolean {
    return (this.#compactionRow()?.swaps ?? 0) !== swaps;
  }

  /**
   * A compaction that a crash cut short is finished or undone.
   * @returns read-only, which segment's files may still be on the way to their names
   */
  #settleSwap(): SwapRange | null {
    const swapping = this.#compactionRow()?.swapping ?? null;
    if (this.#env.readOnly) return swapping;
    settleSwap(this.#env.openFiles.files, this.place.directory, swapping);
    return null;
  }

  /** Puts a compacted segment in the place of those it was made of, whose rows it has replaced. */
  replaceSegments(old: readonly Segment[], compacted: Segment): void {
    this.#segments.splice(this.#segments.indexOf(old[0]!), old.length, compacted);
    for (const segment of old) {
      segment.isReplaced = true;
      segment.close();
    }
  }

  #readRow(): PartitionRow {
    const { topicId, partition } = this.place;
    return this.#env.store.get(['partition', topicId, partition]) ?? firstRow;
  }

  #checkSize(path: string, size: number, min: number, max: number): void {
    if (size >= min && size <= max) return;
    const expected = min === max ? `${min}` : `at least ${min}`;
    this.#damaged(`${path} has ${size} bytes, expected ${expected}`);
  }

  /** Base offsets of the .log files, once it is sure that the directory is this topic's. */
  #listSegments(): Set<number> {
    const { files } = this.#env.openFiles;
    const { directory, topicId } = this.place;
    let names: string[];
    try {
      names = files.list(directory);
    } catch (error) {
      throw asStorageError(this.name, error, false);
    }
    const metadata = files.readFile(join(directory, partitionMetadataFile));
    const found = metadata === undefined ? 'none' : decodePartitionMetadata(metadata.toString());
    if (found !== topicId) {
      throw metadataLost(directory, `its topic id is ${found}, the metadata says ${topicId}`);
    }
    const bases = names.map((name) => parseSegmentFileName(name, 'log'));
    return new Set(bases.filter((base) => base !== null));
  }

  #newSegment(baseOffset: number): Segment {
    const { directory } = this.place;
    return new Segment(
      this.#env.openFiles,
      directory,
      baseOffset,
      this.settings.indexIntervalBytes,
    );
  }

  /** Damage in what was durable: nothing may be written over it. */
  #damaged(what: string): void {
    if (this.#failure !== null) return;
    this.fail(new OttlaError('CORRUPT_MESSAGE', what));
    this.#env.warn(`${this.#failure!.message}.`);
  }

  #row(active: RecoveryPoint): PartitionRow {
    return { logStartOffset: this.#logStartOffset, leaderEpochs: this.#leaderEpochs, active };
  }

  /** Whether bytes lie behind the recovery point that recover() must judge. One look at the file's size. */
  needsRecovery(): boolean {
    const { active } = this.#readRow();
    const path = join(this.place.directory, segmentFileName(active.baseOffset, 'log'));
    return Math.max(0, this.#env.openFiles.files.size(path)) !== active.bytes;
  }

  /**
   * Takes over what was written behind the recovery point. The first batch that is not whole and valid
   * ends the log: it was never acknowledged as durable. What is cut is reported; if good batches lie
   * behind the bad one, all of it is kept aside in a .torn file.
   * @returns a sentence on what was cut, or null
   * @throws METADATA_LOST, KAFKA_STORAGE_ERROR
   */
  async recover(): Promise<string | null> {
    this.open();
    const { clock } = this.#env;
    const active = this.#active;
    if (this.#failure === null && !(await endsWithKnownBatch(active))) {
      this.#damaged(
        `${active.path} is another file: what ends at byte ${active.size} is not known`,
      );
    }
    if (this.#failure !== null) return null;
    const fileSize = active.fileSize();
    if (this.#syncFailed) await active.writeAgain(active.size, fileSize);
    this.#syncFailed = false;
    const { position, problem } = await addBatchesUpTo(active, fileSize, clock);
    let report: string | null = null;
    if (problem !== null) {
      const next = active.nextOffset;
      report = `${this.name}: cut ${fileSize - position} bytes at byte ${position}, next offset ${next}: ${problem}.`;
      if (await hasLaterBatch(active, position, fileSize, next, clock)) {
        const path = await this.#keepAside(position, fileSize);
        report += ` Good batches lay behind; they are kept in ${path}.`;
      }
      await active.cut(position);
      await this.#beginEpoch(next);
    }
    await active.sync();
    await active.saveIndexes();
    await this.#saveRow(active.recoveryPoint());
    return report;
  }

  async #keepAside(position: number, fileSize: number): Promise<string> {
    const path = join(this.place.directory, segmentFileName(this.#active.nextOffset, 'torn'));
    const bytes = Buffer.alloc(fileSize - position);
    await this.#active.readAsync(bytes, bytes.length, position);
    await this.#env.openFiles.files.replaceFile(path, bytes);
    return path;
  }

  /**
   * After a cut: offsets from here on may have been given out before, so they get a new epoch. The file is
   * for Kafka's tools: the row counts here.
   */
  async #beginEpoch(startOffset: number): Promise<void> {
    const epoch = this.#leaderEpochs.at(-1)![0] + 1;
    this.#leaderEpochs = this.#leaderEpochs.filter(([, start]) => start < startOffset);
    this.#leaderEpochs.push([epoch, startOffset]);
    await this.#env.openFiles.files.replaceFile(
      join(this.place.directory, 'leader-epoch-checkpoint'),
      Buffer.from(encodeLeaderEpochs(this.#leaderEpochs)),
    );
  }

  async #saveRow(point: RecoveryPoint): Promise<void> {
    const { topicId, partition } = this.place;
    await this.#env.store.write([put(['partition', topicId, partition], this.#row(point))]);
    this.#savedPoint = point;
    this.#savedAt = this.#env.clock.monotonic();
  }

  /** The recovery point to save after a sync that begins now; null if the saved one is recent enough. */
  dueRecoveryPoint(): RecoveryPoint | null {
    const isDue =
      this.#active.size - this.#savedPoint.bytes >= recoveryPointBytes ||
      this.#env.clock.monotonic() - this.#savedAt >= recoveryPointMs;
    return isDue ? this.#active.recoveryPoint() : null;
  }

  /**
   * Saves a point up to which the log is durable. Failing here costs nothing but a longer recovery, so
   * it is left to the next time.
   */
  async saveRecoveryPoint(point: RecoveryPoint): Promise<void> {
    this.#savedAt = this.#env.clock.monotonic();
    try {
      await this.#active.saveIndexes();
      if (point.baseOffset === this.#active.baseOffset) await this.#saveRow(point);
    } catch (error) {
      asStorageError(this.name, error);
    }
  }

  /** Seals the active segment, which must be synced, and begins the next: the rows come before its first byte. */
  async roll(): Promise<void> {
    const { topicId, partition } = this.place;
    const old = this.#active;
    old.seal();
    await old.saveIndexes();
    const point = emptyRecoveryPoint(old.nextOffset);
    await this.#env.store.write([
      put(['segment', topicId, partition, old.baseOffset], old.row()),
      put(['partition', topicId, partition], this.#row(point)),
    ]);
    this.#active = this.#newSegment(point.baseOffset);
    this.#active.restoreActive(point, true);
    this.#segments.push(this.#active);
    this.#savedPoint = point;
    this.#savedAt = this.#env.clock.monotonic();
  }

  /** Read-only, beside a running owner: takes over what it wrote since, up to the first incomplete batch. */
  async refresh(): Promise<void> {
    const hasRolled = this.#readRow().active.baseOffset !== this.active.baseOffset;
    if (hasRolled || this.#wasCompacted(this.#swaps)) {
      this.reset();
      this.open();
    }
    const fileSize = this.#active.fileSize();
    if (fileSize <= this.#active.size) return;
    await addBatchesUpTo(this.#active, fileSize, this.#env.clock);
  }

  /** Forgets all that is in memory: the files are read again at the next use. */
  reset(): void {
    this.closeFiles();
    for (const segment of this.#segments) segment.isReplaced = true;
    this.#segments = [];
    this.#failure = null;
  }

  /** Makes the recovery point what is written. The active segment must be synced. */
  async saveEnd(): Promise<void> {
    if (this.#active.size === this.#savedPoint.bytes) return;
    await this.saveRecoveryPoint(this.#active.recoveryPoint());
  }

  closeFiles(): void {
    for (const segment of this.#segments) segment.close();
  }
}

/** Beside an owner that swaps files, or died at it: the segment is read where its files are now. */
function standIn(segment: Segment, range: SwapRange, present: Set<number>): void {
  segment.nameSuffix = '.swap';
  if (segment.fileSize() < 0) segment.nameSuffix = '';
  for (const base of present) {
    if (base > range.baseOffset && base < range.nextOffset) present.delete(base);
  }
  present.add(range.baseOffset);
}

/** Where a segment begins that nothing was written to. */
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

function metadataLost(directory: string, why: string): OttlaError {
  return new OttlaError('METADATA_LOST', `${directory}: ${why}. Nothing was changed.`);
}
