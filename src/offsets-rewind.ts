import { rewind, type CommittedOffset, type OffsetStore } from './offsets.js';
import type { Partition } from './partition.js';

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
): Promise<string[]> {
  const report: string[] = [];
  const rewound = new Map<string, CommittedOffset[]>();
  for (const { group, committed, partition } of commitsIn(offsets, find)) {
    if (partition.failure !== null || (only ?? partition) !== partition) continue;
    const back = rewind(committed, partition);
    if (back === committed) continue;
    rewound.set(group, [...(rewound.get(group) ?? []), back]);
    report.push(
      `group ${group}: its committed offset of ${partition.name} went back from ${committed.offset} to ${back.offset}, where the log now ends.`,
    );
  }
  for (const [group, commits] of rewound) await offsets.commit(group, commits);
  return report;
}
