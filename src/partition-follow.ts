import type { PartitionLog } from './partition-log.js';

// Read-only, beside a running owner: what that one has done to a log since it was opened here.

/** Takes over which segments were freed. */
export function followLogStart(log: PartitionLog): void {
  log.segments.follow(log.stored.read().logStartOffset);
}

/** Whether the owner has rolled, compacted, or cut what was torn, so that all must be read anew. */
export function isOutdated(log: PartitionLog): boolean {
  const { active, leaderEpochs } = log.stored.read();
  return (
    active.baseOffset !== log.active.baseOffset ||
    leaderEpochs.at(-1)![0] !== log.epochs.current ||
    log.wasCompacted
  );
}

/** Takes over what was written, up to the first incomplete batch. */
export async function readOn(log: PartitionLog): Promise<void> {
  const { active } = log;
  const fileSize = active.fileSize();
  if (fileSize > active.size) await log.addBatchesUpTo(fileSize);
}
