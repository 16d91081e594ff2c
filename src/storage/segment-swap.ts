import { join } from 'node:path';
import { parseSegmentFileName, segmentFileName } from './checkpoint.js';
import type { FileSystem } from './file-system.js';
import type { SwapRange } from './meta-store.js';

/*
 * How a compacted segment takes the place of those it was made of, so that a crash at any point leaves
 * the old ones or the new one:
 *
 * 1. <base>.log.cleaned, .index.cleaned and .timeindex.cleaned are written and synced.
 * 2. They are renamed to <base>.log.swap and so on; the directory is synced.
 * 3. One write of rows: the new segment's row takes the place of the old ones', and the compaction's row
 *    names the range that is being swapped. This is the commit point: before it open undoes, behind it
 *    open finishes.
 * 4. The old files are renamed to <base>.log.deleted and so on; the directory is synced.
 * 5. The .swap files get their final names, the log last; the directory is synced.
 * 6. The .deleted files are removed. The next write of the compaction's row ends the swap.
 */

/** The log comes last: as long as its .swap is there, the swap is not done. */
const kinds = ['index', 'timeindex', 'txnindex', 'snapshot', 'log'] as const;

/** Step 2, but for the sync of the directory. */
export function moveToSwap(files: FileSystem, directory: string, baseOffset: number): void {
  for (const kind of kinds) {
    const path = join(directory, segmentFileName(baseOffset, kind));
    const isMissing = files.size(`${path}.cleaned`) < 0;
    // No entry of a transaction index is dropped: without one here there is no old file either. The
    // snapshot of the producers at the beginning stays as it is.
    if (isMissing && (kind === 'txnindex' || kind === 'snapshot')) continue;
    // An index without entries has no file: an empty one takes the old one's place.
    if (isMissing) files.open(`${path}.cleaned`, 'write').close();
    files.rename(`${path}.cleaned`, `${path}.swap`);
  }
}

/** Step 4, but for the sync of the directory. Fine to do again. */
export function moveOldAway(files: FileSystem, directory: string, range: SwapRange): void {
  const names = new Set(files.list(directory));
  for (const name of names) {
    for (const kind of kinds) {
      const base = parseSegmentFileName(name, kind);
      if (base === null || base < range.baseOffset || base >= range.nextOffset) continue;
      // Where its .swap is gone, the file is the new one.
      if (base === range.baseOffset && !names.has(`${name}.swap`)) continue;
      files.rename(join(directory, name), join(directory, `${name}.deleted`));
    }
  }
}

/** Step 5, but for the sync of the directory. Fine to do again. */
export function moveNewIn(files: FileSystem, directory: string, range: SwapRange): void {
  for (const kind of kinds) {
    const path = join(directory, segmentFileName(range.baseOffset, kind));
    if (files.size(`${path}.swap`) >= 0) files.rename(`${path}.swap`, path);
  }
}

/** Where a file of the committed segment is now. */
export function pathInSwap(files: FileSystem, path: string): string {
  return files.size(`${path}.swap`) >= 0 ? `${path}.swap` : path;
}

/** Bytes of a file of the committed segment, which may get its name meanwhile; -1 where there is none. */
export function sizeInSwap(files: FileSystem, path: string): number {
  for (const name of [`${path}.swap`, path]) {
    const size = files.size(name);
    if (size >= 0) return size;
  }
  return -1;
}

/** Whether a name is of a swap under way, or of what a crash left of one. */
export function isOfSwap(name: string): boolean {
  const [, file, suffix] = /^(.*)\.(cleaned|swap|deleted)$/.exec(name) ?? [];
  if (file === undefined || suffix === undefined) return false;
  return kinds.some((kind) => parseSegmentFileName(file, kind) !== null);
}

/** Step 6, and undoing: what is left of swaps that are done, or were never committed. */
export function removeLeftovers(files: FileSystem, directory: string): void {
  for (const name of files.list(directory)) {
    if (isOfSwap(name)) files.removeFile(join(directory, name));
  }
}

/** At open, once the rows are known to be this log's: finishes the swap that was committed, undoes any other. */
export function settleSwap(
  files: FileSystem,
  directory: string,
  committed: SwapRange | null,
): void {
  if (committed !== null) {
    moveOldAway(files, directory, committed);
    moveNewIn(files, directory, committed);
  }
  removeLeftovers(files, directory);
}

/**
 * Without rows that can be believed: goes back to the old segments, which are all there as long as the new
 * log has its .swap name. What else is left of old logs is superseded; it is not removed.
 * @returns names of the logs that were kept
 */
export async function undoSwap(files: FileSystem, directory: string): Promise<string[]> {
  const names = files.list(directory).filter(isOfSwap);
  const areOldThere = names.some((name) => name.endsWith('.log.swap'));
  const old = names.filter((name) => name.endsWith('.deleted'));
  if (areOldThere) {
    for (const name of old) {
      files.rename(join(directory, name), join(directory, name.slice(0, -'.deleted'.length)));
    }
    await files.syncDirectory(directory);
  }
  const kept = areOldThere ? [] : old.filter((name) => name.endsWith('.log.deleted'));
  for (const name of names) {
    if (!kept.includes(name)) files.removeFile(join(directory, name));
  }
  return kept;
}
