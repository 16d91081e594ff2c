import type { Clock } from './clock.js';
import { OttlaError } from './errors.js';
import type { Partition } from './partition.js';
import { offsetsPartitionFor } from './partitioner.js';
import {
  put,
  remove,
  type Change,
  type MetaStore,
  type OffsetRow,
  type Row,
} from './storage/meta-store.js';
import type { Slices } from './storage/slices.js';

/** A committed offset of one partition, by the id of its topic: a topic created anew begins without any. */
export interface CommittedOffset extends OffsetRow {
  readonly topicId: string;
  readonly partition: number;
}

/** What a group commits: the NEXT offsets to read. */
export interface GroupCommit {
  readonly group: string;
  readonly offsets: readonly Omit<CommittedOffset, 'timestamp'>[];
}

/** Where an offset points once its log was cut: not above the end of the epoch that it was read in. */
export function rewind<At extends Pick<OffsetRow, 'offset' | 'leaderEpoch'>>(
  at: At,
  log: Pick<Partition, 'logEndOffset' | 'endOfEpoch' | 'epochBefore'>,
): At {
  const end = Math.min(log.logEndOffset, log.endOfEpoch(at.leaderEpoch));
  return at.offset <= end ? at : { ...at, offset: end, leaderEpoch: log.epochBefore(end) };
}

interface UnderWay {
  readonly group: string;
  readonly keys: readonly string[];
}

/** Kafka's offset.metadata.max.bytes. */
const maxMetadataBytes = 4096;

/**
 * The `__consumer_offsets` store: what each group has committed. 50 partitions by Kafka's hash of the
 * group lead the keys. Held in memory and written as a journal: a commit shows once it is durable.
 */
export class OffsetStore {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #committed: () => void;
  readonly #groups = new Map<string, Map<string, CommittedOffset>>();
  /** Ids of topics that are being deleted: commits of them come to nothing. */
  readonly #dying = new Set<string>();
  /** Commits that are being written. */
  readonly #underWay = new Map<Promise<void>, readonly UnderWay[]>();

  /**
   * Knows nothing of what is stored before load() or reload().
   * @param committed called after each commit
   */
  constructor(store: MetaStore, clock: Clock, committed: () => void) {
    this.#store = store;
    this.#clock = clock;
    this.#committed = committed;
  }

  /** Reads what is stored, before anything is committed. */
  async load(slices: Slices): Promise<void> {
    for (const row of this.#store.range(['offset'])) {
      this.#rememberRow(row);
      await slices.turn();
    }
  }

  /** Reads all of it again, at once: in read-only mode the owner commits. */
  reload(): void {
    this.#groups.clear();
    for (const row of this.#store.range(['offset'])) this.#rememberRow(row);
  }

  #rememberRow({ key, value }: Row<'offset'>): void {
    const [, , group, topicId, partition] = key;
    this.#remember(group, { ...value, topicId, partition });
  }

  groups(): Iterable<string> {
    return this.#groups.keys();
  }

  has(group: string): boolean {
    return this.#groups.has(group);
  }

  /** All that a group has committed. */
  committed(group: string): Iterable<CommittedOffset> {
    return this.#groups.get(group)?.values() ?? [];
  }

  fetch(group: string, topicId: string, partition: number): CommittedOffset | undefined {
    return this.#groups.get(group)?.get(keyOf({ topicId, partition }));
  }

  isMetadataTooLarge(metadata: string): boolean {
    return Buffer.byteLength(metadata) > maxMetadataBytes;
  }

  /** Commits the NEXT offsets to read, all or none. Who may commit is the caller's to check. */
  async commit(group: string, offsets: GroupCommit['offsets']): Promise<void> {
    await this.commitAll([{ group, offsets }], []);
  }

  /** As commit(), for several groups at once, and with other rows. */
  async commitAll(commits: readonly GroupCommit[], others: readonly Change[]): Promise<void> {
    const timestamp = this.#clock.now();
    const committed = commits.map(({ group, offsets }) => ({
      group,
      offsets: offsets
        .filter(({ topicId }) => !this.#dying.has(topicId))
        .map((offset) => ({ ...offset, timestamp })),
    }));
    for (const { group, offsets } of committed) {
      for (const { metadata } of offsets) refuseLongMetadata(group, metadata);
    }
    const isEmpty = committed.every(({ offsets }) => offsets.length === 0);
    if (isEmpty && others.length === 0) return;
    const written = this.#write(committed, others);
    this.#underWay.set(
      written,
      committed.map(({ group, offsets }) => ({ group, keys: offsets.map(keyOf) })),
    );
    try {
      await written;
    } finally {
      this.#underWay.delete(written);
    }
    if (!isEmpty) this.#committed();
  }

  /** Resolves when the commits of the group that are being written now are done. */
  async written(group: string): Promise<void> {
    const mine = [...this.#underWay].filter(([, commits]) =>
      commits.some((commit) => commit.group === group),
    );
    await Promise.allSettled(mine.map(([written]) => written));
  }

  /**
   * Forgets the offsets of a group that are to go. Durable once resolved. Commits that come later stay.
   * @param others changes to be written with it. Both are asked when nothing stands in the way any more.
   */
  async remove(
    group: string,
    isToGo: (offset: CommittedOffset) => boolean,
    others: () => readonly Change[] = () => [],
  ): Promise<void> {
    // What is being written would be forgotten on the disk, and remembered here.
    await this.written(group);
    const kept = this.#groups.get(group) ?? new Map<string, CommittedOffset>();
    const anew = new Set(
      [...this.#underWay.values()]
        .flat()
        .flatMap((each) => (each.group === group ? each.keys : [])),
    );
    const gone = [...kept].filter(([key, offset]) => !anew.has(key) && isToGo(offset));
    const changes = [...gone.map(([, offset]) => removal(group, offset)), ...others()];
    if (changes.length > 0) await this.#store.write(changes);
    for (const [key, offset] of gone) if (kept.get(key) === offset) kept.delete(key);
    if (kept.size === 0) this.#groups.delete(group);
    if (changes.length > 0) this.#committed();
  }

  async #write(
    committed: readonly { readonly group: string; readonly offsets: readonly CommittedOffset[] }[],
    others: readonly Change[],
  ): Promise<void> {
    const changes = committed.flatMap(({ group, offsets }) =>
      offsets.map(({ topicId, partition, ...row }) =>
        put(['offset', offsetsPartitionFor(group), group, topicId, partition], row),
      ),
    );
    await this.#store.write([...others, ...changes]);
    for (const { group, offsets } of committed) {
      for (const offset of offsets) this.#remember(group, offset);
    }
  }

  #remember(group: string, offset: CommittedOffset): void {
    let offsets = this.#groups.get(group);
    if (offsets === undefined) {
      offsets = new Map();
      this.#groups.set(group, offsets);
    }
    offsets.set(keyOf(offset), offset);
  }

  /**
   * The changes that forget a topic's offsets, to be written with its tombstone; then forgotten(), or if
   * that failed kept(). No commit of the topic is taken in between.
   */
  async changesToForget(topicId: string): Promise<Change[]> {
    this.#dying.add(topicId);
    await Promise.allSettled(this.#underWay.keys());
    const changes: Change[] = [];
    for (const [group, offsets] of this.#groups) {
      for (const offset of offsets.values()) {
        if (offset.topicId === topicId) changes.push(removal(group, offset));
      }
    }
    return changes;
  }

  kept(topicId: string): void {
    this.#dying.delete(topicId);
  }

  forgotten(topicId: string): void {
    this.#dying.delete(topicId);
    for (const [group, offsets] of this.#groups) {
      for (const [key, offset] of offsets) if (offset.topicId === topicId) offsets.delete(key);
      if (offsets.size === 0) this.#groups.delete(group);
    }
  }
}

function keyOf({ topicId, partition }: Pick<CommittedOffset, 'topicId' | 'partition'>): string {
  return `${topicId}-${partition}`;
}

function removal(group: string, { topicId, partition }: CommittedOffset): Change {
  return remove(['offset', offsetsPartitionFor(group), group, topicId, partition]);
}

/** @throws OFFSET_METADATA_TOO_LARGE */
function refuseLongMetadata(group: string, metadata: string): void {
  const bytes = Buffer.byteLength(metadata);
  if (bytes <= maxMetadataBytes) return;
  throw new OttlaError(
    'OFFSET_METADATA_TOO_LARGE',
    `group ${group}: commit metadata has ${bytes} bytes, at most ${maxMetadataBytes} are kept`,
  );
}
