import type { TopicSettings } from '../../src/options.js';

/** A record that was sent. Its number is its timestamp as well: no two records have the same. */
export interface SentRecord {
  readonly number: number;
  readonly key: string | null;
  readonly value: string | null;
}

export interface PartitionModel {
  /** By number. */
  readonly sent: Map<number, SentRecord>;
  /** Offset to number: what must be there after a loss of power, and what after a kill only. */
  durable: Map<number, number>;
  written: Map<number, number>;
  /** The log begins here at least, and, unless retention frees records, at most. */
  startAtLeast: number;
  startAtMost: number;
  /** At the last opening. */
  leaderEpoch: number;
  /** A loss of power since has left a torn tail: the epoch must have grown. */
  isTorn: boolean;
  /** Torn tails with good batches in them. */
  keptAside: Buffer[];
}

export interface TopicModel {
  readonly name: string;
  readonly incarnation: number;
  state: 'creating' | 'live' | 'deleting';
  readonly settings: Partial<TopicSettings>;
  partitionsAtLeast: number;
  readonly partitions: PartitionModel[];
}

/** A commit that was asked for. */
export interface CommitModel {
  readonly offset: number;
  /** No record with a higher number was there when it was made. */
  readonly lastNumber: number;
  isDurable: boolean;
}

/** What a user has asked for, and has been told. */
export interface Model {
  nextNumber: number;
  nextIncarnation: number;
  /** Whether the power has failed, and not only the process died, since the last opening. */
  lostPower: boolean;
  /** A recovery was killed that had cut a log and not synced it: the torn bytes may be back after a loss. */
  mayTearAgain: boolean;
  /** Directories that a crash while partitions were added may have left behind. */
  readonly leftovers: Set<string>;
  /** By name. */
  readonly topics: Map<string, TopicModel>;
  /** By group, incarnation and partition; in the order of the calls. */
  readonly commits: Map<string, CommitModel[]>;
}

export function newModel(): Model {
  return {
    nextNumber: 0,
    nextIncarnation: 0,
    lostPower: false,
    mayTearAgain: false,
    leftovers: new Set(),
    topics: new Map(),
    commits: new Map(),
  };
}

export function newPartition(): PartitionModel {
  return {
    sent: new Map(),
    durable: new Map(),
    written: new Map(),
    startAtLeast: 0,
    startAtMost: 0,
    leaderEpoch: 0,
    isTorn: false,
    keptAside: [],
  };
}

/** As it is now: what is told later does not show in the copy. */
export function copyOf(model: Model): Model {
  const topics = new Map<string, TopicModel>();
  for (const [name, topic] of model.topics) {
    const partitions = topic.partitions.map((partition) => ({
      ...partition,
      sent: new Map(partition.sent),
      durable: new Map(partition.durable),
      written: new Map(partition.written),
      keptAside: [...partition.keptAside],
    }));
    topics.set(name, { ...topic, partitions });
  }
  const commits = new Map<string, CommitModel[]>();
  for (const [key, asked] of model.commits) {
    commits.set(
      key,
      asked.map((commit) => ({ ...commit })),
    );
  }
  return { ...model, leftovers: new Set(model.leftovers), topics, commits };
}

export const groups = ['g', 'h'] as const;

export function commitKey(group: string, { incarnation }: TopicModel, partition: number): string {
  return `${group} ${incarnation} ${partition}`;
}

export function isCompacted({ settings }: TopicModel): boolean {
  return settings.cleanupPolicy === 'compact';
}

/** A record's text: all of it follows from where it belongs. */
export function valueOf(incarnation: number, partition: number, number: number): string {
  const length = number % 11 === 0 ? (number * 7919) % 6000 : (number * 7919) % 301;
  return `${incarnation}/${partition}/${number}/${'abcdefghij'.repeat(600).slice(0, length)}`;
}

/** The timestamp of record number 0. */
export const firstTimestamp = 1_700_000_000_000;
