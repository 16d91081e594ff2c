import type { PartitionAppends } from './partition-append.js';
import type { Segment } from './storage/segment.js';

/** Partition.freeSegments(). */
export async function freeSegments(
  appends: PartitionAppends,
  choose: (segments: readonly Segment[]) => number,
): Promise<void> {
  while (appends.gate !== null) await appends.gate;
  if (appends.refusal !== null) return;
  const { log } = appends;
  const { all, active } = log.segments;
  const count = choose(all);
  const last = all[count - 1];
  if (last === active) {
    const sealed = all[count - 2];
    await appends.roll();
    // A disk too full to roll still lets the sealed ones go.
    const end = appends.log.active === active ? (sealed?.nextOffset ?? 0) : active.nextOffset;
    const isExpired = ({ nextOffset }: Segment): boolean => nextOffset <= end;
    await freeSegments(appends, (now) => now.slice(0, -1).filter(isExpired).length);
  } else if (last !== undefined) {
    await log.moveLogStart(last.nextOffset);
  } else if (log.hasLeftovers) {
    await log.removeLeftovers();
  }
}

/**
 * Begins the log at an offset, once what lies below is durable: the log must not end below its start after a
 * loss of power.
 * @param check whether the offset may be the start, asked whenever something may have changed
 */
export async function beginAt(
  appends: PartitionAppends,
  offset: number,
  check: () => void,
): Promise<void> {
  for (let isSynced = false; ; isSynced = true) {
    // A reopening replaces the log: what is begun on the old one would be written over.
    while (appends.gate !== null || appends.commit.underWay !== null) {
      await appends.gate;
      await appends.commit.underWay;
    }
    check();
    const { log } = appends;
    const { active, failure } = log;
    const isUnsynced = offset > active.baseOffset && active.syncedSize < active.size;
    if (isSynced || !isUnsynced || failure !== null) {
      // In this turn: in the next one a reopening may have begun.
      if (offset > log.segments.startOffset) await log.moveLogStart(offset);
      return;
    }
    await appends.commit.all();
  }
}
