import type { LogEnvironment } from './partition-environment.js';
import type { PartitionLog } from './partition-log.js';
import { problemAtEnd, hasLaterBatch, keepAside } from './storage/recovery.js';
import { Slices } from './storage/slices.js';

/**
 * Takes over what was written behind a log's recovery point, as if it had just been written: what was
 * acknowledged as durable is, and the rest waits for the next sync, as it did before the crash. The first
 * batch that is not whole and valid ends the log: it was never acknowledged as durable. What is cut is
 * reported; if good batches lie behind the bad one, all of it is kept aside in a .torn file. Order: the
 * new epoch, then the cut, durable both before anything is written there.
 * @param afterFailedSync what the failed sync did not write is written again, so that the next one
 *   covers it
 * @returns a sentence on what was cut, or null
 * @throws METADATA_LOST, KAFKA_STORAGE_ERROR
 */
export async function recoverLog(
  log: PartitionLog,
  { clock, openFiles }: LogEnvironment,
  afterFailedSync: boolean,
): Promise<string | null> {
  const slices = new Slices(clock, `recovery of ${log.name}`);
  const segments = log.open(true);
  log.syncFailed ||= afterFailedSync;
  const { active } = segments;
  const damage = log.failure === null ? problemAtEnd(active) : null;
  if (damage !== null) log.damaged(damage);
  if (log.failure !== null) return null;
  const damaged = segments.all.filter((segment) => !segment.transactions.isWhole);
  const isRebuilt = log.producers.isLost || damaged.length > 0;
  if (isRebuilt) {
    await log.producers.rebuild(segments.all, damaged, slices);
  }
  const fileSize = log.foundBytes;
  if (log.syncFailed) await active.writeAgain(active.size, fileSize);
  const { position, problem } = await log.addBatchesUpTo(fileSize);
  let report: string | null = null;
  if (problem !== null) {
    const next = active.nextOffset;
    report = `${log.name}: cut ${fileSize - position} bytes at byte ${position}, next offset ${next}: ${problem}.`;
    if (await hasLaterBatch(active, position, fileSize, next, slices)) {
      const path = await keepAside(active, position, fileSize, openFiles.files);
      report += ` Good batches lay behind; they are kept in ${path}.`;
    }
    await log.beginEpoch(next);
    active.cut(position);
  }
  const isBelowStart = active.nextOffset < segments.startOffset;
  if (problem === null && !log.syncFailed && !isRebuilt && !isBelowStart) {
    log.removeOldSnapshots();
    return null;
  }
  try {
    await active.sync();
  } catch (error) {
    await log.noteFailedSync();
    throw error;
  }
  await log.recovered();
  log.removeOldSnapshots();
  if (isBelowStart) {
    // What lay between was deleted: its offsets are not given out again.
    await log.roll();
    await log.moveLogStart(segments.startOffset);
  }
  return report;
}
