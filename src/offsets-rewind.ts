import { rewind, type CommittedOffset, type OffsetStore } from './offsets.js';
import type { Partition } from './partition.js';
import type { Slices } from './storage/slices.js';

/** undefined: it was deleted. */
export type FindPartition = (topicId: string, partition: number) => Partition | undefined;

interface Commit {
  readonly group: string;
  readonly committed: CommittedOffset;
  readonly partition: Partition;
}

/** What groups have committed of partitions that exist. */
export function* commitsIn(offsets: OffsetStore, find: FindPartition): Iterable<Commit> {
  for (const group of offsets.groups()) {
    for (const committed of offsets.committed(group)) {
      const partition = find(committed.topicId, committed.partition);
      if (partition !== undefined) yield { group, committed, partition };
    }
  }
}

/**
 * Takes back commits above a log's end, which point at records that were cut: to where their epoch now ends.
 * @param only of this partition, if there is one
 * @returns a sentence on each
 */
export async function rewindCommits(
  offsets: OffsetStore,
  find: FindPartition,
  only: Partition | null,
  slices: Slices,
): Promise<string[]> {
  const report: string[] = [];
  const written: Promise<void>[] = [];
  for (const { group, committed, partition } of commitsIn(offsets, find)) {
    const isJudged = partition.failure === null && (only ?? partition) === partition;
    const back = isJudged ? rewind(committed, partition) : committed;
    if (back !== committed) {
      report.push(
        `group ${group}: its committed offset of ${partition.name} went back from ${committed.offset} to ${back.offset}, where the log now ends.`,
      );
      // In this turn, or it might be written over a later one. The store takes many into one transaction.
      const commit = offsets.commit(group, [back]);
      commit.catch(() => undefined);
      written.push(commit);
    }
    await slices.turn();
  }
  await Promise.all(written);
  return report;
}
