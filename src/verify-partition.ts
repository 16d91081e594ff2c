import { join } from 'node:path';
import type { TopicPartition } from './assignment.js';
import { PartitionProducers } from './partition-producers.js';
import type { Slices } from './storage/slices.js';
import {
  decodePartitionMetadata,
  parseSegmentFileName,
  partitionMetadataFile,
  segmentFileName,
} from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import { ignoredNames } from './storage/identity.js';
import type {
  CompactionRow,
  MetaStore,
  PartitionRow,
  SegmentRow,
  TopicRow,
} from './storage/meta-store.js';
import { isOfSwap, pathInSwap } from './storage/segment-swap.js';
import type { Findings, ProblemCode } from './verify-report.js';
import { verifySegment } from './verify-segment.js';

/** Names of what was kept aside, or of what a crash left. */
export const leftover: RegExp = /\.torn$|\.tmp$|-stray$|-delete$|^meta.*-old$|\.old$/;
const partitionFile =
  /^(?:\d{20}\.(?:log|index|timeindex|txnindex|snapshot)|partition\.metadata|leader-epoch-checkpoint)$/;

/** A partition, and what the metadata says of it. */
export interface KnownPartition extends TopicPartition {
  readonly topicId: string;
  readonly directory: string;
  readonly row: PartitionRow | undefined;
  /** By base offset, in order. */
  readonly sealed: ReadonlyMap<number, SegmentRow>;
  readonly compaction: CompactionRow | undefined;
  /** Compaction leaves gaps between batches. */
  readonly mayHaveGaps: boolean;
}

export function knownPartition(
  store: MetaStore,
  dataDirectory: string,
  topic: string,
  { id: topicId, options }: TopicRow,
  partition: number,
): KnownPartition {
  const sealed = [...store.range(['segment', topicId, partition])];
  const compaction = store.get(['compaction', topicId, partition]);
  const isCompacted = [options['cleanupPolicy']].flat().includes('compact');
  return {
    topic,
    topicId,
    partition,
    directory: join(dataDirectory, `${topic}-${partition}`),
    row: store.get(['partition', topicId, partition]),
    sealed: new Map(sealed.map(({ key, value }) => [key[3], value])),
    compaction,
    // What was compacted once stays so, whatever its policy is now.
    mayHaveGaps: isCompacted || compaction !== undefined,
  };
}

/** What a check of a partition may ask for. */
export interface PartitionCheckOptions {
  /** Whose segment has this size and checksum, as far as the metadata knows; undefined: nobody's. */
  readonly ownerOf?: (bytes: number, checksum: number) => string | undefined;
  /** Called after each segment. */
  readonly progress?: () => void;
}

/**
 * Checks one partition: whose directory it is, which segments there are, and each of them.
 * @returns where its log ends; null if that cannot be told
 */
export async function verifyPartition(
  files: FileSystem,
  known: KnownPartition,
  slices: Slices,
  findings: Findings,
  options: PartitionCheckOptions = {},
): Promise<number | null> {
  return new PartitionCheck(files, known, slices, findings, options).run();
}

class PartitionCheck {
  readonly #files: FileSystem;
  readonly #known: KnownPartition;
  readonly #slices: Slices;
  readonly #findings: Findings;
  readonly #options: PartitionCheckOptions;
  readonly #name: string;

  constructor(
    files: FileSystem,
    known: KnownPartition,
    slices: Slices,
    findings: Findings,
    options: PartitionCheckOptions,
  ) {
    this.#files = files;
    this.#known = known;
    this.#slices = slices;
    this.#findings = findings;
    this.#options = options;
    this.#name = `${known.topic}-${known.partition}`;
  }

  #problem(code: ProblemCode, file: string, what: string, offset?: number): void {
    const { topic, partition } = this.#known;
    const at = { topic, partition, ...(offset === undefined ? {} : { offset }) };
    this.#findings.problems.push({ code, ...at, file, message: `${this.#name}: ${what}` });
  }

  async run(): Promise<number | null> {
    const { directory, row } = this.#known;
    this.#findings.partitions++;
    if (!this.#files.isDirectory(directory)) {
      this.#problem('PARTITION_MISSING', directory, `there is no directory ${directory}`);
      return null;
    }
    this.#checkOwner();
    if (row !== undefined) this.#checkSnapshot(row);
    const present = new Set(segmentsIn(this.#files, this.#known, this.#findings));
    const activeBase = row?.active.baseOffset ?? 0;
    const sealedEnd = await this.#checkSealed(present, activeBase);
    present.delete(activeBase);
    this.#checkUnknown(present, activeBase);
    const start = row?.logStartOffset ?? 0;
    if (sealedEnd !== null && sealedEnd !== activeBase && activeBase > start) {
      this.#hole(sealedEnd, activeBase);
    }
    const { sealed: _, ...at } = this.#known;
    const active = row === undefined ? {} : { active: row.active };
    const expected = { ...at, baseOffset: activeBase, isSwapping: false, ...active };
    const sum = await verifySegment(this.#files, expected, this.#slices, this.#findings);
    this.#options.progress?.();
    return sum?.nextOffset ?? null;
  }

  #checkOwner(): void {
    const { directory, topicId } = this.#known;
    const path = join(directory, partitionMetadataFile);
    const text = this.#files.readFile(path)?.toString();
    const found = text === undefined ? 'none' : decodePartitionMetadata(text);
    if (found === topicId) return;
    const what = `${path} names topic id ${found ?? 'none'}, the metadata ${topicId}`;
    this.#problem('IDENTITY_MISMATCH', path, what);
  }

  #checkSnapshot({ active, producers }: PartitionRow): void {
    const { directory, topic, partition } = this.#known;
    const file = join(directory, segmentFileName(active.nextOffset, 'snapshot'));
    const known = new PartitionProducers(this.#files, directory);
    if (known.isWhole(active.nextOffset, producers)) return;
    const message = `${this.#name}: ${file} is missing or damaged: the next open makes it anew from the log`;
    this.#findings.notes.push({ code: 'INDEX_MISSING', topic, partition, file, message });
  }

  /** Those that are accounted for are taken out of `present`. @returns where the last one ends; null: there is none */
  async #checkSealed(present: Set<number>, activeBase: number): Promise<number | null> {
    const { sealed, compaction, directory, row } = this.#known;
    const start = row?.logStartOffset ?? 0;
    const swapping = compaction?.swapping ?? null;
    let end: number | null = null;
    let firstMissing: number | null = null;
    for (const [baseOffset, value] of sealed) {
      const isSwapping = swapping?.baseOffset === baseOffset;
      const path = join(directory, segmentFileName(baseOffset, 'log'));
      if (isSwapping) {
        // Of the old segments nothing counts any more, and the new one may be on the way to its name.
        for (const base of present) {
          if (base > baseOffset && base < swapping.nextOffset) present.delete(base);
        }
        if (this.#files.size(pathInSwap(this.#files, path)) >= 0) present.add(baseOffset);
      }
      const isThere = present.delete(baseOffset);
      const wasReplaced = !isThere && this.#files.size(`${path}.deleted`) >= 0;
      // Freed by retention; the next open removes what a crash left of it.
      if (value.nextOffset <= start) continue;
      if (!isThere && !wasReplaced && end === null) {
        firstMissing ??= baseOffset;
        continue;
      }
      if (!isThere) {
        const why = wasReplaced ? ': a compaction that the metadata does not know replaced it' : '';
        const what = `the sealed segment of offset ${baseOffset} is missing in ${directory}${why}`;
        this.#problem('SEGMENT_MISSING', directory, what, baseOffset);
        continue;
      }
      if (end === null && firstMissing !== null) this.#beginsLater(firstMissing, baseOffset);
      else if (end !== null && end !== baseOffset) this.#hole(end, baseOffset);
      end = value.nextOffset;
      await this.#checkSegment(baseOffset, value, isSwapping);
    }
    if (end === null && firstMissing !== null) this.#beginsLater(firstMissing, activeBase);
    return end;
  }

  async #checkSegment(baseOffset: number, sealed: SegmentRow, isSwapping: boolean): Promise<void> {
    const expected = { ...this.#known, baseOffset, sealed, isSwapping };
    const findings = this.#findings;
    const before = findings.problems.length;
    const sum = await verifySegment(this.#files, expected, this.#slices, findings);
    this.#options.progress?.();
    if (sum === null || sum.checksum === sealed.checksum) return;
    const owner = this.#options.ownerOf?.(sum.bytes, sum.checksum);
    if (owner === undefined) return;
    findings.problems = findings.problems.map((problem, i) =>
      i < before || problem.code !== 'SEGMENT_MISMATCH'
        ? problem
        : { ...problem, message: `${problem.message}. It is the segment of ${owner}` },
    );
  }

  #checkUnknown(present: ReadonlySet<number>, activeBase: number): void {
    const { sealed, directory, row } = this.#known;
    const start = row?.logStartOffset ?? 0;
    const firstBase =
      [...sealed].find(([, { nextOffset }]) => nextOffset > start)?.[0] ?? activeBase;
    for (const offset of present) {
      // The rows say that all up to the first segment that they know was to be removed.
      if (offset < firstBase && firstBase <= start) continue;
      const what = `the metadata does not know the segment of offset ${offset} in ${directory}: it is older than the log, or another's; Ottla.repair() takes the segment over`;
      this.#problem('SEGMENT_UNKNOWN', directory, what, offset);
    }
  }

  #beginsLater(gone: number, first: number): void {
    const { topic, partition, directory } = this.#known;
    this.#findings.notes.push({
      code: 'LOG_BEGINS_LATER',
      topic,
      partition,
      offset: gone,
      file: directory,
      message: `${this.#name}: the segments from offset ${gone} to ${first} were removed: the log begins behind them`,
    });
  }

  #hole(from: number, to: number): void {
    const { directory } = this.#known;
    const isTold = this.#findings.problems.some(
      ({ code, offset }) => code === 'SEGMENT_MISSING' && offset === from,
    );
    if (isTold) return;
    const what = `no segment in ${directory} has offsets ${from} to ${to - 1}`;
    this.#problem('SEGMENT_MISSING', directory, what, from);
  }
}

/** Base offsets of the segments in a partition's directory; what does not belong there is noted. */
export function segmentsIn(
  files: FileSystem,
  { topic, partition, directory }: TopicPartition & { readonly directory: string },
  findings: Findings,
): number[] {
  const bases: number[] = [];
  let isSwapNoted = false;
  for (const name of files.list(directory)) {
    if (ignoredNames.has(name)) continue;
    const base = parseSegmentFileName(name, 'log');
    if (base !== null) bases.push(base);
    if (partitionFile.test(name)) continue;
    const file = join(directory, name);
    if (isOfSwap(name)) {
      const message = `${topic}-${partition}: a compaction was interrupted, or is under way; the next open ends it`;
      if (!isSwapNoted)
        findings.notes.push({ code: 'UNFINISHED', topic, partition, file, message });
      isSwapNoted = true;
      continue;
    }
    const code = leftover.test(name) ? 'LEFTOVER' : 'UNKNOWN_FILE';
    const what = code === 'LEFTOVER' ? 'was kept aside, or left behind' : "is not Ottla's";
    const message = `${file} ${what}; nothing reads it`;
    findings.notes.push({ code, topic, partition, file, message });
  }
  return bases;
}
