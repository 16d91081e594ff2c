import { OpenFiles } from './storage/open-files.js';
import type { FileSystem } from './storage/file-system.js';
import { problemAtEnd } from './storage/recovery.js';
import { Segment } from './storage/segment.js';
import type { KnownPartition } from './verify-partition.js';

/**
 * Whether a directory holds the log that the rows describe, whatever its partition.metadata says: one of
 * its segments is as large as they say, and ends with the batch that they know.
 */
export function holdsKnownLog(
  files: FileSystem,
  { directory, row, sealed }: KnownPartition,
): boolean {
  const ends = new Map([
    ...sealed,
    ...(row === undefined ? [] : [[row.active.baseOffset, row.active] as const]),
  ]);
  return [...ends].some(([baseOffset, end]) => {
    const segment = new Segment(new OpenFiles(files), directory, baseOffset, 0);
    if (end.bytes === 0 || segment.fileSize() < end.bytes) return false;
    segment.restoreSealed(end);
    try {
      return problemAtEnd(segment) === null;
    } finally {
      segment.close();
    }
  });
}
