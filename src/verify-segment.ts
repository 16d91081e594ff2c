import { join } from 'node:path';
import { crc32c } from './crc32c.js';
import { OttlaError, asStorageError } from './errors.js';
import { RecordReader } from './record-reader.js';
import type { BatchHeader } from './record.js';
import { BatchCursor } from './storage/batch-cursor.js';
import type { Slices } from './storage/slices.js';
import { segmentFileName } from './storage/checkpoint.js';
import type { File, FileSystem } from './storage/file-system.js';
import type { FileSum, RecoveryPoint, SegmentRow } from './storage/meta-store.js';
import { pathInSwap } from './storage/segment-swap.js';
import type { Findings, ProblemCode, VerifyProblem } from './verify-report.js';

/** One segment as the metadata has it: sealed, active, or, where the metadata is lost, neither. */
export interface ExpectedSegment {
  readonly topic: string;
  readonly partition: number;
  readonly directory: string;
  readonly baseOffset: number;
  readonly sealed?: SegmentRow;
  readonly active?: RecoveryPoint;
  /** Its files may be on the way to their names. */
  readonly isSwapping: boolean;
  /** Compaction leaves gaps between batches. */
  readonly mayHaveGaps: boolean;
}

/** What a segment's batches add up to, as far as they are valid. */
export interface SegmentSum {
  firstOffset: number;
  nextOffset: number;
  bytes: number;
  maxTimestamp: number;
  checksum: number;
  lastCrc: number;
}

/** The entries of an index file, for comparison with the batches as they come. */
interface IndexEntries {
  readonly path: string;
  /** Of each entry: offset, then position or timestamp. */
  readonly entries: readonly (readonly [offset: number, value: number])[];
  next: number;
}

const crcBytes = Buffer.alloc(4);

/**
 * Checks one segment: all its batches, their records, what they add up to, and the entries of its
 * indexes.
 * @returns what the batches add up to; null if the file could not be read
 */
export async function verifySegment(
  files: FileSystem,
  expected: ExpectedSegment,
  slices: Slices,
  findings: Findings,
): Promise<SegmentSum | null> {
  const check = new SegmentCheck(files, expected, slices, findings);
  try {
    return await check.run();
  } catch (error) {
    const failure = asStorageError(check.path, error);
    if (failure.code === 'ABORTED') throw failure;
    check.problem('UNREADABLE', failure.message);
    return null;
  }
}

class SegmentCheck {
  readonly path: string;
  readonly #files: FileSystem;
  readonly #expected: ExpectedSegment;
  readonly #slices: Slices;
  readonly #findings: Findings;
  readonly #records = new RecordReader();
  readonly #sum: SegmentSum;
  #position = 0;
  /** Damage was found: the sums cannot fit, and are not compared. */
  #isDamaged = false;
  #isCompared = false;
  #hasProblem = false;
  /** Compressions of which the records are not read. */
  readonly #unread = new Set<BatchHeader['compression']>();
  readonly #indexProblems: VerifyProblem[] = [];

  constructor(files: FileSystem, expected: ExpectedSegment, slices: Slices, findings: Findings) {
    this.#files = files;
    this.#expected = expected;
    this.#slices = slices;
    this.#findings = findings;
    this.path = this.#path('log');
    this.#sum = emptySum(expected.baseOffset);
  }

  #path(suffix: 'log' | 'index' | 'timeindex'): string {
    const { directory, baseOffset, isSwapping } = this.#expected;
    const path = join(directory, segmentFileName(baseOffset, suffix));
    return isSwapping ? pathInSwap(this.#files, path) : path;
  }

  problem(code: ProblemCode, what: string, offset?: number, position?: number): void {
    const { topic, partition } = this.#expected;
    this.#hasProblem = true;
    this.#findings.problems.push({
      code,
      topic,
      partition,
      file: this.path,
      ...(offset === undefined ? {} : { offset }),
      ...(position === undefined ? {} : { position }),
      message: `${topic}-${partition}: ${what}`,
    });
  }

  async run(): Promise<SegmentSum> {
    const { sealed, active } = this.#expected;
    this.#findings.segments++;
    const size = Math.max(0, this.#files.size(this.path));
    const known = sealed?.bytes ?? active?.bytes ?? 0;
    const wasShort = size < known;
    if (size > 0) {
      const file = this.#files.open(this.path, 'read');
      try {
        await this.#walk(file, size, sealed === undefined ? known : size);
      } finally {
        file.close();
      }
    }
    const sum = this.#sum;
    if (!this.#isDamaged && wasShort) {
      const what = `${this.path} has ${size} bytes, the metadata has ${known}: it is shorter, or an older copy`;
      this.problem('SEGMENT_MISMATCH', what, sum.nextOffset, size);
    } else if (!this.#isDamaged && sealed !== undefined) {
      this.#compareSealed(sealed);
    }
    this.#checkTransactionIndex(sealed?.transactionIndex ?? active?.transactionIndex);
    // Of a log that is not the right one the indexes say nothing.
    if (!this.#hasProblem) this.#findings.problems.push(...this.#indexProblems);
    return sum;
  }

  #checkTransactionIndex(known: FileSum | undefined): void {
    if (known === undefined || known.bytes === 0) return;
    const { directory, baseOffset, topic, partition, isSwapping } = this.#expected;
    const name = join(directory, segmentFileName(baseOffset, 'txnindex'));
    const path = isSwapping ? pathInSwap(this.#files, name) : name;
    const bytes = this.#files.readFile(path);
    const isWhole =
      bytes !== undefined &&
      bytes.length >= known.bytes &&
      crc32c(bytes, 0, known.bytes) === known.checksum;
    if (isWhole) return;
    this.#findings.notes.push({
      code: 'INDEX_MISSING',
      topic,
      partition,
      file: path,
      message: `${topic}-${partition}: ${path} is missing or not the file that was written: the next open makes it anew from the log`,
    });
  }

  async #walk(file: File, size: number, durableEnd: number): Promise<void> {
    const { active, sealed } = this.#expected;
    const indexes = this.#readIndexes();
    const cursor = new BatchCursor(
      (into, length, position) => file.readAsync(into, 0, length, position),
      size,
      this.#slices,
    );
    const sum = this.#sum;
    while (this.#position < size) {
      if (this.#slices.isOver) await this.#slices.next();
      if (active !== undefined) this.#compareActive(active);
      const found = cursor.check(this.#position) ?? (await cursor.batchAt(this.#position));
      const reason = typeof found === 'string' ? found : this.#misfit(found);
      if (typeof found !== 'string' && reason === null) {
        this.#add(cursor, found, indexes);
        continue;
      }
      if (this.#position >= durableEnd) {
        this.#tornTail(size, reason!);
        this.#checkIndexesDone(indexes);
        return;
      }
      if (typeof found !== 'string' && (await this.#isWholeElsewhere(cursor, found))) {
        // A whole file of other offsets: what it holds shows which it is.
        sum.firstOffset = found.baseOffset;
        sum.nextOffset = found.baseOffset;
        continue;
      }
      this.#isDamaged = true;
      const code = typeof found === 'string' ? 'BATCH_DAMAGED' : 'OFFSETS_WRONG';
      const from = this.#position;
      const what = `damage at byte ${from} of ${this.path}, offset ${sum.nextOffset}: ${reason}`;
      const maxOffset = sealed?.nextOffset ?? Number.MAX_SAFE_INTEGER;
      const next = await cursor.findBehind(from, sum.nextOffset, maxOffset);
      if (next === -1) {
        this.problem(code, `${what}; nothing behind it is whole`, sum.nextOffset, from);
        return;
      }
      const { baseOffset: offset } = (await cursor.batchAt(next)) as BatchHeader;
      this.problem(
        code,
        `${what}; the log goes on at byte ${next}, offset ${offset}`,
        sum.nextOffset,
        from,
      );
      this.#position = next;
      sum.nextOffset = offset;
    }
    if (active !== undefined) this.#compareActive(active);
    this.#checkIndexesDone(indexes);
  }

  /** Whether the first batch is not of this segment, and the second follows the first. */
  async #isWholeElsewhere(cursor: BatchCursor, first: BatchHeader): Promise<boolean> {
    if (this.#position > 0) return false;
    const second = await cursor.batchAt(first.size);
    await cursor.batchAt(0);
    return typeof second !== 'string' && second.baseOffset >= first.nextOffset;
  }

  /** Why a valid batch is not the next one; null: it is. */
  #misfit({ baseOffset }: BatchHeader): string | null {
    const { nextOffset } = this.#sum;
    const { mayHaveGaps } = this.#expected;
    if (baseOffset === nextOffset || (mayHaveGaps && baseOffset > nextOffset)) return null;
    return `a batch of offset ${baseOffset} where ${nextOffset} is next`;
  }

  #add(cursor: BatchCursor, header: BatchHeader, indexes: readonly IndexEntries[]): void {
    const sum = this.#sum;
    const findings = this.#findings;
    this.#checkRecords(cursor, header);
    this.#checkIndexes(indexes, header);
    sum.nextOffset = header.nextOffset;
    sum.maxTimestamp = Math.max(sum.maxTimestamp, header.maxTimestamp);
    sum.lastCrc = header.crc;
    crcBytes.writeUInt32BE(header.crc);
    sum.checksum = crc32c(crcBytes, 0, 4, sum.checksum);
    this.#position += header.size;
    sum.bytes += header.size;
    findings.batches++;
    findings.records += header.recordCount;
    findings.bytes += header.size;
  }

  #checkRecords(cursor: BatchCursor, header: BatchHeader): void {
    if (this.#unread.has(header.compression)) return;
    try {
      this.#records.open(cursor.bytes, cursor.startOf(this.#position), header);
      while (this.#records.next());
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error;
      if (error.code === 'UNSUPPORTED_COMPRESSION_TYPE') {
        this.#noteUnread(header, error);
        return;
      }
      this.problem(
        'RECORD_INVALID',
        `byte ${this.#position} of ${this.path}: ${error.message}`,
        header.baseOffset,
        this.#position,
      );
    }
  }

  #noteUnread({ compression, baseOffset }: BatchHeader, error: OttlaError): void {
    const { topic, partition } = this.#expected;
    this.#unread.add(compression);
    this.#findings.notes.push({
      code: 'RECORDS_UNREAD',
      topic,
      partition,
      offset: baseOffset,
      file: this.path,
      position: this.#position,
      message: `${topic}-${partition}: from byte ${this.#position} of ${this.path} on, records were not read: ${error.message}`,
    });
  }

  #tornTail(size: number, reason: string): void {
    const { topic, partition } = this.#expected;
    const { nextOffset } = this.#sum;
    this.#findings.notes.push({
      code: 'TORN_TAIL',
      topic,
      partition,
      offset: nextOffset,
      file: this.path,
      position: this.#position,
      message: `${topic}-${partition}: ${size - this.#position} bytes from byte ${this.#position} of ${this.path} on, offset ${nextOffset}, were not known to be durable and are not whole: ${reason}`,
    });
  }

  #compareSealed(row: SegmentRow): void {
    const { bytes, nextOffset, maxTimestamp, checksum, firstOffset } = this.#sum;
    const { baseOffset, mayHaveGaps } = this.#expected;
    const differences: string[] = [];
    const compare = (what: string, found: number, known: number): void => {
      if (found !== known) differences.push(`${what} is ${found}, the metadata has ${known}`);
    };
    if (!mayHaveGaps || firstOffset < baseOffset) compare('first offset', firstOffset, baseOffset);
    compare('size', bytes, row.bytes);
    // Behind the last batch that compaction left there may be a gap.
    if (!mayHaveGaps || nextOffset > row.nextOffset) {
      compare('next offset', nextOffset, row.nextOffset);
    }
    compare('largest timestamp', maxTimestamp, row.maxTimestamp);
    compare('checksum', checksum, row.checksum);
    if (differences.length === 0) return;
    const what = `${this.path} is not the file that was sealed: its ${differences.join('; its ')}`;
    this.problem('SEGMENT_MISMATCH', what, baseOffset);
  }

  /** At the recovery point, or behind it if no batch ends there: that is none of the file's. */
  #compareActive(point: RecoveryPoint): void {
    const { nextOffset, checksum, lastCrc, maxTimestamp } = this.#sum;
    if (this.#isDamaged || this.#isCompared || this.#position < point.bytes) return;
    this.#isCompared = true;
    if (
      nextOffset === point.nextOffset &&
      checksum === point.checksum &&
      lastCrc === point.lastCrc &&
      maxTimestamp === point.maxTimestamp
    ) {
      return;
    }
    this.#isDamaged = true;
    this.problem(
      'SEGMENT_MISMATCH',
      `${this.path} is not the file that was written: up to byte ${point.bytes} it has other batches than the metadata says (next offset ${nextOffset} and ${point.nextOffset}, checksum ${checksum} and ${point.checksum})`,
      nextOffset,
      point.bytes,
    );
  }

  /** Entries of both indexes, in the order of the log. Of the active segment those up to the recovery point. */
  #readIndexes(): IndexEntries[] {
    const { active, sealed } = this.#expected;
    if (active === undefined && sealed === undefined) return [];
    return [
      this.#readIndex('index', 8, active?.offsetIndexBytes, (bytes, at) => [
        bytes.readInt32BE(at),
        bytes.readInt32BE(at + 4),
      ]),
      this.#readIndex('timeindex', 12, active?.timeIndexBytes, (bytes, at) => [
        bytes.readInt32BE(at + 8),
        bytes.readInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4),
      ]),
    ];
  }

  #readIndex(
    suffix: 'index' | 'timeindex',
    entryBytes: number,
    knownBytes: number | undefined,
    entryAt: (bytes: Buffer, at: number) => [offset: number, value: number],
  ): IndexEntries {
    const { baseOffset, topic, partition } = this.#expected;
    const path = this.#path(suffix);
    const bytes = this.#files.readFile(path);
    const length = Math.min(bytes?.length ?? 0, knownBytes ?? Infinity);
    if ((bytes?.length ?? 0) < (knownBytes ?? 0)) {
      this.#findings.notes.push({
        code: 'INDEX_MISSING',
        topic,
        partition,
        file: path,
        message: `${topic}-${partition}: ${path} has ${bytes?.length ?? 0} bytes, ${knownBytes} were durable: look-ups are slower`,
      });
      return { path, entries: [], next: 0 };
    }
    if (length % entryBytes !== 0) {
      this.#indexProblem(path, `${length} bytes are not a multiple of ${entryBytes}`, length);
      return { path, entries: [], next: 0 };
    }
    const entries: [number, number][] = [];
    for (let at = 0; at < length; at += entryBytes) {
      const [offset, value] = entryAt(bytes!, at);
      entries.push([baseOffset + offset, value]);
    }
    return { path, entries, next: 0 };
  }

  #indexProblem(path: string, what: string, position: number): void {
    const { topic, partition } = this.#expected;
    this.#indexProblems.push({
      code: 'INDEX_MISMATCH',
      topic,
      partition,
      file: path,
      position,
      message: `${topic}-${partition}: ${path}: ${what}`,
    });
  }

  /** Every entry must be of a batch that ends with its offset. */
  #checkIndexes(indexes: readonly IndexEntries[], header: BatchHeader): void {
    const [positions, timestamps] = indexes;
    if (positions !== undefined) this.#checkEntry(positions, header, this.#position);
    if (timestamps !== undefined) {
      const { maxTimestamp } = header;
      this.#checkEntry(timestamps, header, Math.max(maxTimestamp, this.#sum.maxTimestamp));
    }
  }

  #checkEntry(index: IndexEntries, header: BatchHeader, value: number): void {
    const entry = index.entries[index.next];
    if (entry === undefined || header.lastOffset < entry[0]) return;
    if (header.lastOffset === entry[0] && value === entry[1]) index.next++;
    else this.#wrongEntry(index);
  }

  #wrongEntry(index: IndexEntries): void {
    const [offset, value] = index.entries[index.next]!;
    const entryBytes = index.path.endsWith('.timeindex') ? 12 : 8;
    this.#indexProblem(
      index.path,
      `entry ${index.next} says ${value} for offset ${offset}, the log does not`,
      index.next * entryBytes,
    );
    index.next = index.entries.length;
  }

  #checkIndexesDone(indexes: readonly IndexEntries[]): void {
    if (this.#isDamaged) return;
    for (const index of indexes) if (index.next < index.entries.length) this.#wrongEntry(index);
  }
}

function emptySum(baseOffset: number): SegmentSum {
  return {
    firstOffset: baseOffset,
    nextOffset: baseOffset,
    bytes: 0,
    maxTimestamp: -1,
    checksum: 0,
    lastCrc: 0,
  };
}
