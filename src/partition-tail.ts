import { sep } from 'node:path';
import { asStorageError } from './errors.js';
import { refuseOthers, type LogPlace, type WholeTail } from './partition-row.js';
import { segmentFileName } from './storage/checkpoint.js';
import type { FileSystem } from './storage/file-system.js';
import type { PartitionRow } from './storage/meta-store.js';
import { endOfWholeTail } from './storage/recovery.js';

/**
 * What a kill has left behind a log's recovery point, if it is so little that one look tells that there is nothing
 * to cut, and that rows and file belong together. As many partitions as there are may have some: so the log is
 * not opened for it. One that was rolled is: of that there is more to compare.
 * @param fileSize of the active segment's file
 * @returns null: the log must be opened, and recovered
 */
export function wholeTail(
  files: FileSystem,
  place: LogPlace,
  { active, logStartOffset }: PartitionRow,
  fileSize: number,
): WholeTail | null {
  if (active.baseOffset > 0) return null;
  const pathOf = (baseOffset: number): string =>
    `${place.directory}${sep}${segmentFileName(baseOffset, 'log')}`;
  try {
    // Where there is no batch before the point, nothing in the file tells whose it is.
    if (active.bytes === 0) refuseOthers(files, place);
    const nextOffset = endOfWholeTail(files, pathOf(0), active, fileSize);
    if (nextOffset === null || nextOffset < logStartOffset) return null;
    // With a segment behind it the log was rolled, and the metadata is older than that.
    return files.size(pathOf(nextOffset)) >= 0 ? null : { fileSize, nextOffset };
  } catch (error) {
    asStorageError(place.directory, error);
    return null;
  }
}
