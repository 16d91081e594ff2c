import { asStorageError } from './errors.js';
import type { Partition } from './partition.js';
import { BatchCursor, Slices } from './storage/batch-cursor.js';
import type { Segment } from './storage/segment.js';

/** Where a partition can be read. */
export interface ReadablePlace {
  readonly segment: Segment;
  /** Byte at which a whole and valid batch begins; the segment's end where there is none. */
  readonly position: number;
  /** The offset asked for, or the first behind it that can be read; at the log's end the next one. */
  readonly offset: number;
}

/**
 * Looks for the batch that holds an offset, or the first one behind it that is whole and valid, past
 * damage of any kind: in slices of 2 ms, reading from the last index entry before the offset on.
 */
export async function findReadable(partition: Partition, offset: number): Promise<ReadablePlace> {
  const slices = new Slices(partition.clock, `read of ${partition.name}`);
  for (let segment = partition.segmentFor(offset); ;) {
    const found = await findIn(segment, offset, slices);
    if (found !== null) return found;
    const next = partition.segmentAfter(segment);
    if (next === null) {
      return { segment, position: segment.size, offset: Math.max(offset, segment.nextOffset) };
    }
    segment = next;
  }
}

async function findIn(
  segment: Segment,
  offset: number,
  slices: Slices,
): Promise<ReadablePlace | null> {
  const { baseOffset, nextOffset } = segment;
  const end = Math.min(segment.size, segment.fileSize());
  const cursor = new BatchCursor(
    (into, length, position) => segment.readAsync(into, length, position),
    end,
    slices,
  );
  let position = end > 0 ? segment.positionBefore(offset) : 0;
  let minOffset = baseOffset;
  try {
    while (position !== -1 && position < end) {
      if (slices.isOver) await slices.next();
      const found = cursor.check(position) ?? (await cursor.batchAt(position));
      const fits =
        typeof found !== 'string' &&
        found.baseOffset >= minOffset &&
        found.nextOffset <= nextOffset;
      if (fits && found.nextOffset > offset) {
        return { segment, position, offset: Math.max(offset, found.baseOffset) };
      }
      if (fits) {
        minOffset = found.nextOffset;
        position += found.size;
      } else {
        position = await cursor.findBehind(position, minOffset, nextOffset);
      }
    }
  } catch (error) {
    // Removed meanwhile, as it may be: what lies behind can still be read.
    if (segment.fileSize() !== -1) throw asStorageError(segment.path, error);
  }
  return null;
}
