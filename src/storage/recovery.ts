import { join } from 'node:path';
import { OttlaError, asStorageError } from '../errors.js';
import {
  LOG_OVERHEAD,
  batchSizeAt,
  checkBatch,
  readBatchHeader,
  type BatchHeader,
} from '../record.js';
import { segmentFileName } from './checkpoint.js';
import type { FileSystem } from './file-system.js';
import type { RecoveryPoint } from './meta-store.js';
import type { Segment } from './segment.js';
import type { Slices } from './slices.js';

const chunkBytes = 1024 * 1024;
/** How often it is looked at the time: some tenths of a ms. */
const bytesPerLook = 128 * 1024;
const shortBytes = 32 * 1024;
/** What endOfWholeTail() reads. */
const tailBytes = Buffer.allocUnsafeSlow(shortBytes);
/** More than this is not searched: it is kept aside as it is. */
const maxSearchBytes = 256 * 1024 * 1024;

/** The problem of an ordinary torn tail: the last write did not reach the disk whole. */
const incomplete = 'an incomplete batch';

/**
 * Looks, by one read, at what lies behind a recovery point, and at the last batch before it, which shows that it is
 * the log's file.
 * @returns the offset after the last batch, if there are whole and valid batches alone, each the next one, and
 *   none that its producer has numbered; null if it is not so, or takes a longer look to tell
 * @throws errors of the file system
 */
export function endOfWholeTail(
  files: FileSystem,
  path: string,
  point: RecoveryPoint,
  fileSize: number,
): number | null {
  const start = point.bytes - point.lastBatchBytes;
  const length = fileSize - start;
  if (length > shortBytes || fileSize < point.bytes) return null;
  const file = files.open(path, 'read');
  try {
    if (file.read(tailBytes, 0, length, start) < length) return null;
  } finally {
    file.close();
  }
  try {
    const view = new DataView(tailBytes.buffer, 0, length);
    let { nextOffset } = point;
    for (let at = 0; at < length;) {
      const header = readBatchHeader(tailBytes, at, length, view);
      if (header === null) return null;
      if (at < point.lastBatchBytes) {
        const isKnown = header.size === point.lastBatchBytes && header.crc === point.lastCrc;
        if (!isKnown || header.nextOffset !== nextOffset) return null;
      } else {
        if (header.baseOffset !== nextOffset || header.hasProducerId) return null;
        ({ nextOffset } = header);
      }
      checkBatch(view, at, header);
      at += header.size;
    }
    return nextOffset;
  } catch (error) {
    problemIn(error);
    return null;
  }
}

/**
 * Adds, at once, what endOfWholeTail() has found.
 * @returns whether that is still there
 */
export function addWholeTail(segment: Segment, fileSize: number, added: AddBatch): boolean {
  const length = fileSize - segment.size;
  const bytes = Buffer.allocUnsafe(length);
  if (segment.read(bytes, length, segment.size) < length) return false;
  try {
    return addBatches(segment, bytes, 0, length, length, added) === length;
  } catch (error) {
    problemIn(error);
    return false;
  }
}

/** Where a scan ended, and why if that was before the end of the file. */
export interface ScanEnd {
  readonly position: number;
  readonly problem: string | null;
}

/**
 * Why the last batch before a segment's known end is not the one that was there when that became known:
 * damage, another file, or an older copy of it. Null: it is.
 */
export function problemAtEnd(segment: Segment): string | null {
  const { path, size, lastBatchBytes, lastCrc, nextOffset } = segment;
  if (size === 0) return null;
  const position = size - lastBatchBytes;
  const last = batchAt(segment, position, lastBatchBytes);
  if (typeof last === 'string') return `damage at byte ${position} of ${path}: ${last}`;
  // Behind the last batch that compaction left there may be a gap.
  if (last.crc === lastCrc && last.nextOffset <= nextOffset) return null;
  return `${path} is another file: it has not the batch at byte ${position} that was written there`;
}

/** The same of the first batch, and of the last one of a segment that is sealed. */
function problemAtEnds(segment: Segment): string | null {
  const { path, size, baseOffset, nextOffset } = segment;
  if (size === 0) return null;
  const first = batchAt(segment, 0);
  if (typeof first === 'string') return `damage at byte 0 of ${path}: ${first}`;
  if (first.baseOffset < baseOffset || first.nextOffset > nextOffset) {
    return `${path} is another file: its first batch has offsets ${first.baseOffset} to ${first.lastOffset}`;
  }
  return problemAtEnd(segment);
}

/**
 * The same of a whole log.
 * @throws KAFKA_STORAGE_ERROR if the active segment cannot be read; others are left to their readers
 */
export function problemAtAnyEnd(sealed: readonly Segment[], active: Segment): string | null {
  let problem = problemAtEnd(active);
  for (const segment of sealed) {
    if (problem !== null) break;
    try {
      problem = problemAtEnds(segment);
    } catch (error) {
      asStorageError(segment.path, error);
    }
  }
  return problem;
}

/** The valid batch at a position, or why there is none. @param size if it is known */
function batchAt(segment: Segment, position: number, size?: number): BatchHeader | string {
  try {
    const wanted = size ?? batchBytesAt(segment, position);
    const bytes = Buffer.allocUnsafe(wanted);
    const length = segment.read(bytes, wanted, position);
    const header = readBatchHeader(bytes, 0, length);
    if (header?.size !== wanted) return incomplete;
    checkBatch(bytes, 0, header);
    return header;
  } catch (error) {
    return problemIn(error);
  }
}

/** What a batch's length says, as far as the segment has so much. */
function batchBytesAt(segment: Segment, position: number): number {
  const bytes = Buffer.allocUnsafe(LOG_OVERHEAD);
  const length = segment.read(bytes, LOG_OVERHEAD, position);
  return Math.min(Math.max(0, batchSizeAt(bytes, 0, length)), segment.size - position);
}

/** Takes a batch into account that lies at the end of what is known. */
export type AddBatch = (bytes: Buffer, at: number, header: BatchHeader) => void;

/**
 * Walks the batches of a segment from its known end to the end of the file, and adds each one that is
 * whole, valid and starts exactly at the next offset. Stops at the first that is not. Works in slices of
 * 2 ms, so that the host stays responsive; while it looks at one part of the file the next one is read.
 */
export async function addBatchesUpTo(
  segment: Segment,
  fileSize: number,
  slices: Slices,
  added: AddBatch,
): Promise<ScanEnd> {
  const ended = (problem: string | null): ScanEnd => ({ position: segment.size, problem });
  const read = (into: Buffer | null, start: number): Part => {
    const bytes = into ?? Buffer.allocUnsafe(Math.min(chunkBytes, fileSize - start));
    const wanted = Math.min(bytes.length, fileSize - start);
    const length = readSome(segment, bytes, wanted, start);
    length.catch(() => undefined);
    return { bytes, start, wanted, length };
  };
  let ahead: Part | null = null;
  let spare: Buffer | null = null;
  try {
    while (segment.size < fileSize) {
      const part: Part = ahead ?? read(spare, segment.size);
      ahead = null;
      const { bytes, start, wanted } = part;
      const length = await part.length;
      const next = start + wholeBytes(bytes, length);
      if (next > start && next < fileSize) ahead = read(spare === bytes ? null : spare, next);
      spare = bytes;
      let at = 0;
      for (let until = 0; until < length && at >= until;) {
        until = Math.min(length, at + bytesPerLook);
        at = addBatches(segment, bytes, at, length, until, added);
        if (slices.isOver) await slices.next();
      }
      if (at > 0 && (at === length || start + length < fileSize)) continue;
      const size = batchSizeAt(bytes, at, length);
      // What is left is part of a batch, which may be larger than the chunk.
      const isCut = at > 0 || size === -1 || start + size > fileSize || length < wanted;
      if (isCut) return ended(incomplete);
      spare = Buffer.allocUnsafe(size);
    }
    return ended(null);
  } catch (error) {
    return ended(problemIn(error));
  } finally {
    await ahead?.length.catch(() => undefined);
  }
}

/** A part of a file that is being read. */
interface Part {
  readonly bytes: Buffer;
  readonly start: number;
  readonly wanted: number;
  /** How much of it there was. */
  readonly length: Promise<number>;
}

/** Up to where there are whole batches, as their lengths say. */
function wholeBytes(bytes: Buffer, length: number): number {
  let at = 0;
  try {
    for (;;) {
      const size = batchSizeAt(bytes, at, length);
      if (size === -1 || at + size > length) return at;
      at += size;
    }
  } catch (error) {
    problemIn(error);
    return 0;
  }
}

/** A short tail, as a kill leaves it in many partitions at once, is read at once: that takes a tenth of the time. */
async function readSome(
  segment: Segment,
  into: Buffer,
  length: number,
  position: number,
): Promise<number> {
  if (length <= shortBytes) return segment.read(into, length, position);
  return segment.readAsync(into, length, position);
}

/**
 * Adds batches that are whole until one begins at `until` or behind.
 * @returns where the first one begins that was not added
 * @throws CORRUPT_MESSAGE for one that is not the next one, or not valid
 */
function addBatches(
  segment: Segment,
  chunk: Buffer,
  from: number,
  end: number,
  until: number,
  added: AddBatch,
): number {
  const view = new DataView(chunk.buffer, chunk.byteOffset, end);
  let at = from;
  while (at < until) {
    const header = readBatchHeader(chunk, at, end, view);
    if (header === null) return at;
    const { baseOffset, size } = header;
    if (baseOffset !== segment.nextOffset) {
      throw new OttlaError(
        'CORRUPT_MESSAGE',
        `a batch of offset ${baseOffset} where ${segment.nextOffset} is next`,
      );
    }
    checkBatch(view, at, header);
    added(chunk, at, header);
    at += size;
  }
  return at;
}

function problemIn(error: unknown): string {
  if (error instanceof OttlaError) return error.message;
  throw error;
}

/**
 * Whether a valid batch with an offset from `minOffset` on begins anywhere in the file from `from` on:
 * then more than a torn write was lost there. Pages reach a disk in any order, so this is no damage in
 * the region that was never synced.
 */
export async function hasLaterBatch(
  segment: Segment,
  from: number,
  fileSize: number,
  minOffset: number,
  slices: Slices,
): Promise<boolean> {
  const maxBytes = fileSize - from;
  if (maxBytes > maxSearchBytes) return true;
  const bytes = Buffer.allocUnsafe(maxBytes);
  const length = await segment.readAsync(bytes, maxBytes, from);
  for (let at = 1; at + LOG_OVERHEAD <= length; at++) {
    if ((at & 0xffff) === 0 && slices.isOver) await slices.next();
    // Magic 2 at byte 16 is rare enough to look closer.
    if (bytes[at + 16] !== 2) continue;
    if (isBatch(bytes, at, length, minOffset)) return true;
  }
  return false;
}

/**
 * Keeps what is to be cut, in a .torn file: under a name of its own, unless a recovery that a crash cut
 * short has kept the same.
 * @returns its path
 */
export async function keepAside(
  segment: Segment,
  position: number,
  fileSize: number,
  files: FileSystem,
): Promise<string> {
  const bytes = Buffer.alloc(fileSize - position);
  await segment.readAsync(bytes, bytes.length, position);
  for (let number = 0; ; number++) {
    const suffix = number === 0 ? 'torn' : `${number}.torn`;
    const path = join(segment.directory, segmentFileName(segment.nextOffset, suffix));
    const there = files.readFile(path);
    if (there !== undefined && !there.equals(bytes)) continue;
    await files.replaceFile(path, bytes);
    return path;
  }
}

function isBatch(bytes: Buffer, at: number, end: number, minOffset: number): boolean {
  try {
    const size = batchSizeAt(bytes, at, end);
    if (size === -1 || at + size > end) return false;
    const header = readBatchHeader(bytes, at, end);
    if (header === null || header.baseOffset < minOffset) return false;
    checkBatch(bytes, at, header);
    return true;
  } catch (error) {
    problemIn(error);
    return false;
  }
}
