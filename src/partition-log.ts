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
  type MetaStore,
  type PartitionRow,
  type RecoveryPoint,
} from './storage/meta-store.js';
import type { OpenFiles } from './storage/open-files.js';
import { addBatchesUpTo, hasLaterBatch, incomplete } from './storage/recovery.js';
import { Segment } from './storage/segment.js';
import type { SyncQueue } from './storage/sync-queue.js';

/** What every partition of one data directory works with. */
export interface LogEnvironment {
  readonly openFiles: OpenFiles;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly syncs: SyncQueue;
  readonly readOnly: boolean;
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
  #savedPoint: RecoveryPoint = emptyRecoveryPoint(0);
  #savedAt = 0;

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

  /** Where what was written in `epoch` ends: a reader beyond it has read what was cut since. */
  endOfEpoch(epoch: number): number {
    this.open();
    const next = this.#leaderEpochs.find(([candidate]) => candidate > epoch);
    return next === undefined ? this.#active.nextOffset : next[1];
  }

  /**
   * Reads what the metadata and the directory say. Damage in what was durable fails the log: it can be
   * read up to there, and nothing is appended behind it.
   * @throws METADATA_LOST if the metadata is not this directory's; KAFKA_STORAGE_ERROR
   */
  open(): void {
    if (this.#segments.length > 0) return;
    const { store, clock } = this.#env;
    const { topicId, partition, directory } = this.place;
    const row = store.get(['partition', topicId, partition]) ?? firstRow;
    const present = this.#listSegments();
    const segments: Segment[] = [];
    for (const { key, value } of store.range(['segment', topicId, partition])) {
      const segment = this.#newSegment(key[3]);
      segment.restoreSealed(value);
      if (!present.delete(key[3])) {
        if (segments.length > 0) this.#damaged(`sealed segment ${segment.path} is missing`);
        continue;
      }
      const size = segment.fileSize();
      if (size !== value.bytes) {
        this.#damaged(`sealed segment ${segment.path} has ${size} bytes, expected ${value.bytes}`);
      }
      segments.push(segment);
    }
    present.delete(row.active.baseOffset);
    for (const base of present) {
      throw metadataLost(directory, `no metadata of segment ${segmentFileName(base, 'log')}`);
    }
    const active = this.#activeSegment(row.active);
    const size = Math.max(0, active.fileSize());
    if (size < row.active.bytes) {
      this.#damaged(`${active.path} has ${size} bytes, expected at least ${row.active.bytes}`);
    }
    const first = segments[0]?.baseOffset ?? active.baseOffset;
    this.#logStartOffset = Math.max(row.logStartOffset, first);
    this.#leaderEpochs = row.leaderEpochs.slice();
    this.#savedPoint = row.active;
    this.#savedAt = clock.monotonic();
    this.#active = active;
    this.#segments = [...segments, active];
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

  #activeSegment(point: RecoveryPoint): Segment {
    const segment = this.#newSegment(point.baseOffset);
    segment.restoreActive(point, !this.#env.readOnly);
    return segment;
  }

  #damaged(what: string): void {
    this.fail(new OttlaError('CORRUPT_MESSAGE', `${this.name}: ${what}`));
  }

  #row(active: RecoveryPoint): PartitionRow {
    return { logStartOffset: this.#logStartOffset, leaderEpochs: this.#leaderEpochs, active };
  }

  /** Whether bytes lie behind the recovery point that recover() must judge. One look at the file's size. */
  needsRecovery(): boolean {
    const { topicId, partition, directory } = this.place;
    const { active } = this.#env.store.get(['partition', topicId, partition]) ?? firstRow;
    const path = join(directory, segmentFileName(active.baseOffset, 'log'));
    return Math.max(0, this.#env.openFiles.files.size(path)) !== active.bytes;
  }

  /**
   * Takes over what was written behind the recovery point. The first batch that is not whole and valid
   * ends the log: it was never acknowledged as durable. What is cut is reported; if good batches lie
   * behind the bad one, all of it is kept aside in a .torn file.
   * @returns a sentence on what was cut, or null
   */
  async recover(): Promise<string | null> {
    this.open();
    if (this.#failure !== null) return this.#failure.message;
    const { clock } = this.#env;
    const active = this.#active;
    const fileSize = active.fileSize();
    const { position, problem } = await addBatchesUpTo(active, fileSize, clock);
    let report: string | null = null;
    if (problem !== null) {
      const next = active.nextOffset;
      report = `${this.name}: cut ${fileSize - position} bytes at byte ${position}, next offset ${next}: ${problem}.`;
      const keepsAside =
        problem !== incomplete && (await hasLaterBatch(active, position, fileSize, next, clock));
      if (keepsAside) {
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
    this.#active = this.#activeSegment(point);
    this.#segments.push(this.#active);
    this.#savedPoint = point;
    this.#savedAt = this.#env.clock.monotonic();
  }

  /** Read-only, beside a running owner: takes over what it wrote since, up to the first incomplete batch. */
  async refresh(): Promise<void> {
    const { topicId, partition } = this.place;
    const row = this.#env.store.get(['partition', topicId, partition]) ?? firstRow;
    if (row.active.baseOffset !== this.active.baseOffset) {
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

function emptyRecoveryPoint(baseOffset: number): RecoveryPoint {
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
