import { keyOf, type TopicPartition } from './assignment.js';
import { checkPlaces } from './consumer-options.js';
import type { Engine, GroupInfo, GroupPartitionInfo } from './engine.js';
import { OttlaError } from './errors.js';
import {
  anId,
  aBoolean,
  checkOptions,
  checkValue,
  either,
  got,
  integer,
  oneOf,
  timeCheck,
  type Ago,
} from './options.js';
import { definitionOf, type TopicRef } from './serde.js';

/**
 * Where commits are moved: to the first record, to the end, to the first record from a time on, by so many
 * offsets (back if negative), to an offset.
 */
export type ResetTo =
  | 'earliest'
  | 'latest'
  | Date
  | Ago
  | { readonly shift: number }
  | { readonly offset: number };

/** What resetOffsets() is to move, and where to. */
export interface ResetOffsetsOptions {
  /** The place. One that is not in the log is drawn to its nearer end. @default required */
  readonly to: ResetTo;
  /** A topic. @default every partition that the group has commits of */
  readonly topic?: TopicRef;
  /** Numbers of partitions of `topic`. @default all of it */
  readonly partitions?: readonly number[];
  /** Whether to tell what would be moved, and to move nothing. @default false */
  readonly dryRun?: boolean;
}

/** A commit that was moved, or with `dryRun` would be. */
export interface OffsetReset extends TopicPartition {
  /** What was committed before; -1: nothing. */
  readonly committed: number;
  /** What is committed then: the NEXT offset to read. */
  readonly offset: number;
}

const byNumber = (name: 'shift' | 'offset', check: (value: unknown) => string | null) => {
  return (value: unknown): string | null => {
    const isThis = typeof value === 'object' && value !== null && name in value;
    const number = isThis && Object.keys(value).length === 1 ? Object.values(value)[0] : undefined;
    return number !== undefined && check(number) === null ? null : `{ ${name} }`;
  };
};

const resetTo = either(
  oneOf('earliest', 'latest'),
  timeCheck,
  byNumber('shift', integer(Number.MIN_SAFE_INTEGER)),
  byNumber('offset', integer(0)),
);

const partitionNumbers = (value: unknown): string | null =>
  Array.isArray(value) && value.every((item) => integer(0)(item) === null)
    ? null
    : 'a list of partition numbers';

/** Looks at groups, and moves or deletes what they have committed. */
export class Groups {
  readonly #engine: Engine;

  /** @internal */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Ids of the groups that have members here, or commits. */
  async list(): Promise<string[]> {
    return [...this.#engine.groups()];
  }

  /**
   * A group's members, and of each partition the commit, the end and who owns it: of those that it
   * subscribes to here or has commits of.
   * @throws GROUP_ID_NOT_FOUND
   */
  async describe(group: string): Promise<GroupInfo> {
    checkGroup('groups.describe', group);
    return this.#engine.group(group);
  }

  /**
   * Moves the commits of a group without members, all or none, durably. With `topic`, also where the group has
   * committed nothing so far, and for a group that is new. Metadata of what is moved is gone.
   * @returns what was moved, or with `dryRun` would be: that may be asked of a group with members, too
   * @throws NON_EMPTY_GROUP; GROUP_ID_NOT_FOUND without `topic`; NO_OFFSET_FOR_PARTITION if there is no commit
   *   to `shift`; UNKNOWN_TOPIC_OR_PARTITION; INVALID_REQUEST in read-only mode
   */
  async resetOffsets(group: string, options: ResetOffsetsOptions): Promise<OffsetReset[]> {
    const where = 'groups.resetOffsets';
    checkValue(where, 'the group', anId, group);
    if (options === undefined) throw new TypeError(`${where}: expected options, got undefined`);
    checkOptions<ResetOffsetsOptions>(
      where,
      { to: resetTo, topic: () => null, partitions: partitionNumbers, dryRun: aBoolean },
      options,
    );
    const { to, topic, partitions, dryRun = false } = options;
    checkValue(where, 'to', resetTo, to);
    if (partitions !== undefined && topic === undefined) {
      throw new TypeError(`${where}: expected a topic for the partitions, got none`);
    }
    const name = topic === undefined ? undefined : definitionOf(where, topic).name;
    const resets: OffsetReset[] = [];
    for (const at of await this.#places(group, name, partitions)) {
      resets.push({ ...at, offset: await this.#offsetFor(at, to) });
    }
    if (!dryRun) await this.#engine.setOffsets(group, resets);
    return resets;
  }

  /** The partitions to reset, with their commits. */
  async #places(
    group: string,
    topic: string | undefined,
    numbers: readonly number[] | undefined,
  ): Promise<(TopicPartition & { readonly committed: number })[]> {
    const isKnown = topic === undefined || this.#engine.groups().includes(group);
    const known: readonly GroupPartitionInfo[] = isKnown
      ? (await this.#engine.group(group)).partitions
      : [];
    if (topic === undefined) {
      return known
        .filter(({ committed }) => committed >= 0)
        .map(({ topic: name, partition, committed }) => ({ topic: name, partition, committed }));
    }
    const all = (await this.#engine.partitions(topic)).map(({ partition }) => partition);
    const strange = numbers?.find((partition) => partition >= all.length);
    if (strange !== undefined) {
      throw new OttlaError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `groups.resetOffsets: topic ${topic} has partitions 0 to ${all.length - 1}, got ${strange}`,
      );
    }
    const commits = new Map(known.map((at) => [keyOf(at), at.committed]));
    return (numbers ?? all).map((partition) => {
      const committed = commits.get(keyOf({ topic, partition })) ?? -1;
      return { topic, partition, committed };
    });
  }

  async #offsetFor(
    { committed, ...at }: TopicPartition & { readonly committed: number },
    to: ResetTo,
  ): Promise<number> {
    if (typeof to === 'object' && 'shift' in to && committed < 0) {
      throw new OttlaError(
        'NO_OFFSET_FOR_PARTITION',
        `groups.resetOffsets: there is no commit of ${at.topic}-${at.partition} to shift`,
      );
    }
    if (typeof to === 'object' && ('shift' in to || 'offset' in to)) {
      const wanted = 'shift' in to ? committed + to.shift : to.offset;
      const { logStartOffset, highWatermark } = await this.#engine.partition(at);
      return Math.min(Math.max(wanted, logStartOffset), highWatermark);
    }
    return (await this.#engine.offsetFor(at, to, 'read_committed'))!;
  }

  /**
   * Forgets commits of a group, durably: where it has none it begins anew as `from` says.
   * @throws GROUP_SUBSCRIBED_TO_TOPIC while a member subscribes to the topic; GROUP_ID_NOT_FOUND;
   *   UNKNOWN_TOPIC_OR_PARTITION; INVALID_REQUEST in read-only mode
   */
  async deleteOffsets(group: string, partitions: readonly TopicPartition[]): Promise<void> {
    checkGroup('groups.deleteOffsets', group);
    checkPlaces('groups.deleteOffsets', partitions);
    await this.#engine.deleteOffsets(group, partitions);
  }

  /**
   * Forgets a group without members, and all its commits, durably.
   * @throws NON_EMPTY_GROUP; GROUP_ID_NOT_FOUND; INVALID_REQUEST in read-only mode
   */
  async delete(group: string): Promise<void> {
    checkGroup('groups.delete', group);
    await this.#engine.deleteGroup(group);
  }
}

function checkGroup(where: string, group: unknown): void {
  if (typeof group === 'string') return;
  throw new TypeError(`${where}: expected a group id, got ${got(group)}`);
}
