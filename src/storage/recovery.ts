import type { Clock } from '../clock.js';
import { OttlaError } from '../errors.js';
import {
  BatchHeader,
  LOG_OVERHEAD,
  RECORD_BATCH_OVERHEAD,
  batchSizeAt,
  checkBatch,
  readBatchHeader,
} from '../record.js';
import type { Segment } from './segment.js';

const chunkBytes = 1024 * 1024;
const sliceMs = 2;
/** More than this is not searched: it is kept aside as it is. */
const maxSearchBytes = 256 * 1024 * 1024;

/** The problem of an ordinary torn tail: the last write did not reach the disk whole. */
const incomplete = 'an incomplete batch';

/** Where a scan ended, and why if that was before the end of the file. */
export interface ScanEnd {
  readonly position: number;
  readonly problem: string | null;
}

/**
 * Whether the last batch before a segment's known end is the one that was there when that became known.
 * If not, this is another file, or an older copy of it.
 */
export async function endsWithKnownBatch(segment: Segment): Promise<boolean> {
  const { size, nextOffset, lastCrc } = segment;
  if (size === 0) return true;
  let position = segment.positionBefore(nextOffset - 1);
  let last: BatchHeader | null = null;
  const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, size - position));
  while (position < size) {
    const wanted = Math.min(chunk.length, size - position);
    const length = await segment.readAsync(chunk, wanted, position);
    let at = 0;
    while (at + RECORD_BATCH_OVERHEAD <= length) {
      const batchSize = sizeOrProblem(chunk, at, length);
      if (typeof batchSize === 'string') return false;
      last = new BatchHeader(chunk, at);
      at += batchSize;
    }
    if (at === 0) return false;
    position += at;
  }
  return position === size && last?.nextOffset === nextOffset && last.crc === lastCrc;
}

/** Takes a batch into account that lies at the end of what is known. */
export type AddBatch = (bytes: Buffer, at: number, header: BatchHeader) => void;

/**
 * Walks the batches of a segment from its known end to the end of the file, and adds each one that is
 * whole, valid and starts exactly at the next offset. Stops at the first that is not. Works in slices of
 * 2 ms, so that the host stays responsive.
 */
export async function addBatchesUpTo(
  segment: Segment,
  fileSize: number,
  clock: Clock,
  added: AddBatch,
): Promise<ScanEnd> {
  let chunk = Buffer.allocUnsafe(Math.min(chunkBytes, fileSize - segment.size));
  let sliceEnd = clock.monotonic() + sliceMs;
  while (segment.size < fileSize) {
    const start = segment.size;
    const wanted = Math.min(chunk.length, fileSize - start);
    const length = await segment.readAsync(chunk, wanted, start);
    let at = 0;
    for (;;) {
      const size = sizeOrProblem(chunk, at, length);
      if (typeof size === 'string') return { position: segment.size, problem: size };
      if (size === -1 || at + size > length) {
        if (at > 0 && start + length < fileSize) break;
        if (at > 0 || size === -1 || start + size > fileSize || length < wanted) {
          return { position: segment.size, problem: incomplete };
        }
        chunk = Buffer.allocUnsafe(size);
        break;
      }
      const problem = addBatch(segment, chunk, at, length, added);
      if (problem !== null) return { position: segment.size, problem };
      at += size;
      if (at === length) break;
      if (clock.monotonic() >= sliceEnd) {
        await new Promise<void>((resolve) => clock.soon(resolve));
        sliceEnd = clock.monotonic() + sliceMs;
      }
    }
  }
  return { position: segment.size, problem: null };
}

function sizeOrProblem(chunk: Buffer, at: number, end: number): number | string {
  try {
    return batchSizeAt(chunk, at, end);
  } catch (error) {
    return problemIn(error);
  }
}

/** Adds the batch at `at`, or says why it is not the next one. */
function addBatch(
  segment: Segment,
  chunk: Buffer,
  at: number,
  end: number,
  added: AddBatch,
): string | null {
  try {
    const header = readBatchHeader(chunk, at, end);
    if (header === null) return incomplete;
    if (header.baseOffset !== segment.nextOffset) {
      return `a batch of offset ${header.baseOffset} where ${segment.nextOffset} is next`;
    }
    checkBatch(chunk, at, header);
    added(chunk, at, header);
    return null;
  } catch (error) {
    return problemIn(error);
  }
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
  clock: Clock,
): Promise<boolean> {
  const maxBytes = fileSize - from;
  if (maxBytes > maxSearchBytes) return true;
  let sliceEnd = clock.monotonic() + sliceMs;
  const bytes = Buffer.allocUnsafe(maxBytes);
  const length = await segment.readAsync(bytes, maxBytes, from);
  for (let at = 1; at + LOG_OVERHEAD <= length; at++) {
    if ((at & 0xffff) === 0 && clock.monotonic() >= sliceEnd) {
      await new Promise<void>((resolve) => clock.soon(resolve));
      sliceEnd = clock.monotonic() + sliceMs;
    }
    // Magic 2 at byte 16 is rare enough to look closer.
    if (bytes[at + 16] !== 2) continue;
    if (isBatch(bytes, at, length, minOffset)) return true;
  }
  return false;
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
