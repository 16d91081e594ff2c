import { OttlaError } from './errors.js';
import { isCompacted } from './options.js';
import type { LogEnvironment } from './partition-environment.js';
import type { PartitionLog } from './partition-log.js';
import { emptyRecoveryPoint } from './partition-row.js';
import {
  CleaningPlan,
  Pace,
  TransactionsCleaned,
  groupSegments,
  writeCleaned,
} from './storage/compaction.js';
import {
  put,
  remove,
  type CompactionRow,
  type SegmentRow,
  type SwapRange,
} from './storage/meta-store.js';
import { Segment } from './storage/segment.js';
import { moveNewIn, moveOldAway, moveToSwap, removeLeftovers } from './storage/segment-swap.js';

/** For the keys of one pass: a million of them. Where there are more, several passes follow. */
const maxMapBytes = 32 * 1024 * 1024;

const nothingCompacted: CompactionRow = { firstDirtyOffset: 0, swaps: 0, swapping: null };

/**
 * Compacts one partition, in passes of which no two run at once. A pass that fails leaves every segment
 * as it was, or compacted, and says so as a warning.
 */
export class PartitionCompaction {
  readonly #env: LogEnvironment;
  readonly #log: PartitionLog;
  #running: Promise<void> | null = null;
  #pace: Pace | null = null;
  /** Whether it is this partition's turn. */
  isUnderWay = false;
  /** It is tried again, and fails again: that is told once. */
  #hasWarned = false;
  /** What damage has ended would only end there again. */
  #isGivenUp = false;

  constructor(env: LogEnvironment, log: PartitionLog) {
    this.#env = env;
    this.#log = log;
  }

  /**
   * Compacts for as long as the dirty share of the sealed segments is minCleanableDirtyRatio or more.
   * Never rejects. Joins the run that is under way, if there is one. After damage nothing more is done: it
   * would be read up to there again and again.
   */
  run(): Promise<void> {
    if (!isCompacted(this.#log.settings) || this.#isGivenUp) return Promise.resolve();
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      this.#pace = null;
    });
    return this.#running;
  }

  /**
   * Ends the run under way before its next commit, and waits for that; one that waits for its turn will do
   * nothing.
   */
  async stop(): Promise<void> {
    this.#pace?.stop();
    if (this.isUnderWay) await this.#running;
  }

  async #run(): Promise<void> {
    const pace = new Pace(this.#env.clock);
    this.#pace = pace;
    try {
      await this.#env.compactions.run(() => this.#passes(pace));
      this.#hasWarned = false;
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (error instanceof OttlaError && error.code === 'ABORTED') return;
    this.#isGivenUp = error instanceof OttlaError && !error.retriable;
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const reason = error instanceof Error ? error.message : String(error);
    this.#env.warn(`${this.#log.name} could not be compacted: ${reason}.`);
  }

  async #passes(pace: Pace): Promise<void> {
    pace.check();
    this.isUnderWay = true;
    try {
      while (this.#isDue) await this.#pass(pace);
    } finally {
      this.isUnderWay = false;
    }
  }

  get #row(): CompactionRow {
    const { topicId, partition } = this.#log.place;
    return this.#env.store.get(['compaction', topicId, partition]) ?? nothingCompacted;
  }

  async #saveRow(row: CompactionRow): Promise<void> {
    const { topicId, partition } = this.#log.place;
    await this.#log.writeRows([put(['compaction', topicId, partition], row)], () => undefined);
  }

  /** What may be compacted: sealed segments into which no open transaction reaches. */
  get #sealed(): Segment[] {
    const unstable = this.#log.producers.state.firstUnstableOffset;
    const end = unstable === -1 ? Infinity : unstable;
    return this.#log.segments.sealed.filter(({ nextOffset }) => nextOffset <= end);
  }

  get #firstDirtyOffset(): number {
    return Math.max(this.#row.firstDirtyOffset, this.#log.segments.all[0]!.baseOffset);
  }

  /** By bytes of sealed segments, as in Kafka's LogToClean. Nothing is written behind damage. */
  get #isDue(): boolean {
    const sealed = this.#sealed;
    if (this.#log.failure !== null) return false;
    const firstDirtyOffset = this.#firstDirtyOffset;
    let bytes = 0;
    let dirtyBytes = 0;
    for (const { nextOffset, size } of sealed) {
      bytes += size;
      if (nextOffset > firstDirtyOffset) dirtyBytes += size;
    }
    return dirtyBytes > 0 && dirtyBytes >= bytes * this.#log.settings.minCleanableDirtyRatio;
  }

  async #pass(pace: Pace): Promise<void> {
    const { swapping } = this.#row;
    if (swapping !== null) await this.#log.changeSegments(() => this.#finishSwap(swapping));
    const { deleteRetentionMs, segmentBytes } = this.#log.settings;
    const sealed = this.#sealed;
    const endOffset = sealed.at(-1)!.nextOffset;
    const aborted = this.#log.segments.abortedBetween(sealed[0]!.baseOffset, endOffset);
    const terms = {
      firstDirtyOffset: this.#firstDirtyOffset,
      endOffset,
      aborted,
      maxMapBytes,
      deleteRetentionMs,
      now: this.#env.clock.now(),
    };
    const plan = await CleaningPlan.read(sealed, terms, pace);
    const cleanable = sealed.filter(({ baseOffset }) => baseOffset < plan.endOffset);
    let transactions = new TransactionsCleaned(aborted);
    for (const group of groupSegments(cleanable, segmentBytes)) {
      // Retention goes on meanwhile, and frees the oldest: what is left of the group is written anew.
      let rest = group;
      let reached = transactions;
      do {
        rest = rest.filter(({ isRemoved }) => !isRemoved);
        reached = transactions.copy();
      } while (rest.length > 0 && !(await this.#cleanGroup(rest, plan, reached, pace)));
      transactions = reached;
    }
    await this.#saveRow({ ...this.#row, firstDirtyOffset: plan.endOffset, swapping: null });
  }

  /** @returns false, with nothing changed, if one of them was freed meanwhile */
  async #cleanGroup(
    group: readonly Segment[],
    plan: CleaningPlan,
    transactions: TransactionsCleaned,
    pace: Pace,
  ): Promise<boolean> {
    const { files } = this.#env.openFiles;
    const { directory } = this.#log.place;
    const range = { baseOffset: group[0]!.baseOffset, nextOffset: group.at(-1)!.nextOffset };
    removeLeftovers(files, directory);
    const cleaned = this.#newSegment(range.baseOffset, '.cleaned');
    cleaned.restoreActive(emptyRecoveryPoint(range.baseOffset), true);
    let isChanged: boolean;
    try {
      isChanged = await writeCleaned(group, cleaned, plan, transactions, pace, this.#env.syncs);
    } catch (error) {
      cleaned.close();
      removeLeftovers(files, directory);
      throw error;
    }
    cleaned.close();
    const row = { ...cleaned.row(), nextOffset: range.nextOffset };
    let isDone = false;
    await this.#log.changeSegments(async () => {
      isDone = group.every(({ isRemoved }) => !isRemoved);
      if (isDone && (isChanged || group.length > 1)) await this.#swap(group, row, range, pace);
      else removeLeftovers(files, directory);
    });
    return isDone;
  }

  async #swap(
    group: readonly Segment[],
    row: SegmentRow,
    range: SwapRange,
    pace: Pace,
  ): Promise<void> {
    const { files } = this.#env.openFiles;
    const { directory } = this.#log.place;
    try {
      moveToSwap(files, directory, range.baseOffset);
      await files.syncDirectory(directory);
      pace.check();
    } catch (error) {
      removeLeftovers(files, directory);
      throw error;
    }
    // If that fails the rows may have arrived all the same: what to make of the files is open's to say.
    const compacted = await this.#commit(group, row, range);
    await Promise.all(group.map((segment) => segment.whenUnused(() => undefined)));
    await this.#moveFiles(range, compacted);
  }

  #newSegment(baseOffset: number, nameSuffix: Segment['nameSuffix']): Segment {
    const { settings, place } = this.#log;
    const { openFiles } = this.#env;
    const segment = new Segment(
      openFiles,
      place.directory,
      baseOffset,
      settings.indexIntervalBytes,
    );
    segment.nameSuffix = nameSuffix;
    return segment;
  }

  /**
   * One write of rows: before it the old segments count, behind it the new one.
   * @returns the new one
   */
  async #commit(group: readonly Segment[], row: SegmentRow, swapping: SwapRange): Promise<Segment> {
    const { topicId, partition } = this.#log.place;
    const { firstDirtyOffset, swaps } = this.#row;
    const compacted = this.#newSegment(swapping.baseOffset, '.swap');
    compacted.restoreSealed(row);
    const changes = [
      ...group.map(({ baseOffset }) => remove(['segment', topicId, partition, baseOffset])),
      put(['segment', topicId, partition, swapping.baseOffset], row),
      put(['compaction', topicId, partition], { firstDirtyOffset, swaps: swaps + 1, swapping }),
    ];
    await this.#log.writeRows(changes, () => this.#log.segments.replace(group, compacted));
    return compacted;
  }

  /** A swap that was committed, and then failed. */
  async #finishSwap(range: SwapRange): Promise<void> {
    const segment = this.#log.segments.all.find(
      ({ baseOffset }) => baseOffset === range.baseOffset,
    );
    if (segment !== undefined) await this.#moveFiles(range, segment);
    await this.#saveRow({ ...this.#row, swapping: null });
  }

  /** Each directory is synced before the next step: what is durable is always the old or the new files. */
  async #moveFiles(range: SwapRange, compacted: Segment): Promise<void> {
    const { files } = this.#env.openFiles;
    const { directory } = this.#log.place;
    moveOldAway(files, directory, range);
    await files.syncDirectory(directory);
    await compacted.whenUnused(() => {
      moveNewIn(files, directory, range);
      compacted.nameSuffix = '';
    });
    await files.syncDirectory(directory);
    removeLeftovers(files, directory);
  }
}
