import { keyOf, type TopicPartition } from './assignment.js';
import { assignors, type Assignor } from './assignor.js';
import { longestTimerMs } from './clock.js';
import { onInvalidCheck, type OnInvalid } from './consumer-invalid.js';
import type { GroupMembership, Position } from './engine.js';
import { OttlaError, unknownTopic } from './errors.js';
import {
  aBoolean,
  aFunction,
  anId,
  checkOptions,
  either,
  fromCheck,
  got,
  integer,
  isolationCheck,
  milliseconds,
  oneOf,
  withDefaults,
  type From,
  type Isolation,
} from './options.js';
import { definitionOf, type TopicDefinition, type TopicRef } from './serde.js';

/** Names of Kafka's assignors. */
export type AssignorName = 'range' | 'roundrobin' | 'sticky' | 'cooperative-sticky';

/** What a consumer can read: a topic, or all whose name a pattern matches, now or later. */
export type Subscribable = TopicRef | RegExp;

/** The topics that come of it: of a pattern any. */
export type Subscribed<S> = S extends RegExp ? string : S extends TopicRef ? S : never;

/** Options of a consumer: a group with its topics, or neither and assign(). */
export interface ConsumerOptions<Topics extends readonly Subscribable[] = readonly Subscribable[]> {
  /** The group to share the topics' partitions with: 1 to 1024 bytes. @default none: assign() */
  readonly group?: string;
  /**
   * Definitions, names or patterns, at least one. A name or a pattern gives Buffers. Topics of a pattern are read
   * when they are created, from their first record on. @default none: assign()
   */
  readonly topics?: Topics;
  /** Who gets which partition; the same in all of the group. @default 'range' */
  readonly assignor?: AssignorName | Assignor;
  /** Where to begin without a committed offset; what it means at the first assignment is committed. @default 'earliest' */
  readonly from?: From;
  /** Whether what is marked as processed is committed by itself. @default true */
  readonly autoCommit?: boolean;
  /** Which records of transactions are read: see Isolation. @default 'read_committed' */
  readonly isolation?: Isolation;
  /** Records of one batch at the most. @default 500 */
  readonly maxPollRecords?: number;
  /**
   * A batch ends with the record that brings it to so many bytes, counted as records lie in the log,
   * uncompressed. @default 1048576 bytes
   */
  readonly maxPollBytes?: number;
  /** A member that does not ask for records for this long loses its partitions until it does. @default 300000 ms */
  readonly maxPollIntervalMs?: number;
  /** How long a partition that must move waits for what is in flight; then it moves all the same. @default 30000 ms */
  readonly revokeTimeoutMs?: number;
  /**
   * `(partitions) => void | Promise<void>`. Awaited before records of newly assigned partitions are handed
   * out, and before ready() resolves. @default none
   */
  readonly onAssigned?: RebalanceHook;
  /**
   * Awaited when partitions move to another member or the consumer closes: what is processed is
   * committed, and may still be committed here. For revokeTimeoutMs at the most. @default none
   */
  readonly onRevoked?: RebalanceHook;
  /** Partitions belong to another member already: nothing of them can be committed. @default none */
  readonly onLost?: RebalanceHook;
  /**
   * What to do with a record that cannot be decoded. 'fail': the iteration rejects with INVALID_RECORD, and the
   * next one meets it again; in run() its partition is paused and an 'error' tells, until resume(). 'skip': it
   * is passed over, and a 'warning' tells. A function: the same, told of it instead; what it throws is thrown
   * on. In run() it goes to the dead-letter topic where there is one, whatever this says. @default 'fail'
   */
  readonly onInvalid?: OnInvalid;
  /** Shown by groups.describe, and the beginning of the member's id. @default 'ottla' */
  readonly clientId?: string;
}

/**
 * Told which partitions of which topics move; called when the one before has ended. What it throws is told by the
 * 'error' event; the rebalance goes on.
 */
export type RebalanceHook = (partitions: readonly TopicPartition[]) => void | Promise<void>;

/** What a consumer asks of the Ottla that made it. */
export interface ConsumerEvents {
  /** Asked before each handler of run(), and waited for; undefined: nothing stalls them. */
  readonly beforeHandler?:
    | ((group: string | null, at: TopicPartition) => void | Promise<void>)
    | undefined;
  error(error: OttlaError): void;
  warning(warning: string): void;
  closed(): void;
}

/** A commit of your own choosing. */
export interface OffsetToCommit extends TopicPartition {
  /** The NEXT offset to read. */
  readonly offset: number;
  /** Kept with it; at most 4,096 bytes. */
  readonly metadata?: string;
}

/** How far behind a consumer is in a partition. */
export interface PartitionLag extends TopicPartition {
  /** The end of what may be read, minus the committed offset. */
  readonly lag: number;
}

export interface RebalanceHooks {
  readonly onAssigned: RebalanceHook | undefined;
  readonly onRevoked: RebalanceHook | undefined;
  readonly onLost: RebalanceHook | undefined;
}

/** As checkConsumerOptions leaves them. */
export interface CheckedConsumerOptions {
  readonly group: GroupMembership | undefined;
  readonly topics: ReadonlyMap<string, TopicDefinition>;
  readonly patterns: readonly RegExp[];
  readonly from: From;
  readonly autoCommit: boolean;
  readonly isolation: Isolation;
  readonly maxPollRecords: number;
  readonly maxPollBytes: number;
  readonly revokeTimeoutMs: number;
  readonly onInvalid: OnInvalid;
  readonly hooks: RebalanceHooks;
}

const byName: Readonly<Record<AssignorName, Assignor>> = {
  range: assignors.range,
  roundrobin: assignors.roundrobin,
  sticky: assignors.sticky,
  'cooperative-sticky': assignors.cooperativeSticky,
};

const anAssignor = (value: unknown): string | null =>
  typeof value === 'object' &&
  value !== null &&
  'assign' in value &&
  typeof value.assign === 'function' &&
  'name' in value &&
  typeof value.name === 'string'
    ? null
    : 'an object { name, assign }';

const defaults = {
  assignor: 'range',
  from: 'earliest',
  autoCommit: true,
  isolation: 'read_committed',
  maxPollRecords: 500,
  maxPollBytes: 1024 * 1024,
  maxPollIntervalMs: 300_000,
  revokeTimeoutMs: 30_000,
  clientId: 'ottla',
  onInvalid: 'fail',
} as const satisfies Partial<ConsumerOptions>;

type Defaulted = Required<Omit<ConsumerOptions, 'group' | 'topics' | keyof RebalanceHooks>>;

const anOffset = integer(0);

/** @throws TypeError, RangeError unless it is an offset; or a timestamp */
export function checkOffset(where: string, offset: unknown): void {
  const expected = anOffset(offset);
  if (expected === null) return;
  const message = `${where}: expected ${expected}, got ${got(offset)}`;
  throw typeof offset === 'number' ? new RangeError(message) : new TypeError(message);
}

/** @throws TypeError unless it names a partition; whether there is one is not asked */
export function checkPlace(where: string, at: unknown): void {
  const { topic, partition } = (at ?? {}) as {
    readonly topic?: unknown;
    readonly partition?: unknown;
  };
  if (typeof topic === 'string' && typeof partition === 'number') return;
  throw new TypeError(`${where}: expected { topic, partition }, got ${got(at)}`);
}

/** @throws TypeError unless it is a list of partitions */
export function checkPlaces(where: string, list: unknown): void {
  if (!Array.isArray(list)) {
    throw new TypeError(`${where}: expected a list of partitions, got ${got(list)}`);
  }
  for (const at of list) checkPlace(where, at);
}

/** @throws TypeError, RangeError */
export function checkConsumerOptions(options: ConsumerOptions): CheckedConsumerOptions {
  if (options === undefined) throw new TypeError('consumer: expected options, got undefined');
  checkOptions<ConsumerOptions>(
    'consumer',
    {
      group: anId,
      topics: (value) =>
        Array.isArray(value) && value.length > 0 ? null : 'a list of at least one topic',
      assignor: either(oneOf(...Object.keys(byName)), anAssignor),
      from: fromCheck,
      autoCommit: aBoolean,
      isolation: isolationCheck,
      maxPollRecords: integer(1),
      maxPollBytes: integer(1),
      maxPollIntervalMs: integer(1, longestTimerMs),
      revokeTimeoutMs: milliseconds,
      clientId: anId,
      onInvalid: onInvalidCheck,
      onAssigned: aFunction,
      onRevoked: aFunction,
      onLost: aFunction,
    },
    options,
  );
  const { group, topics, onAssigned, onRevoked, onLost } = options;
  if ((group === undefined) !== (topics === undefined)) {
    throw new TypeError(
      `consumer: expected group and topics together, or neither and assign(), got group ${got(group)} and topics ${got(topics)}`,
    );
  }
  const {
    assignor,
    from,
    autoCommit,
    isolation,
    maxPollRecords,
    maxPollBytes,
    maxPollIntervalMs,
    revokeTimeoutMs,
    clientId,
    onInvalid,
  } = withDefaults<Defaulted>(defaults, options);
  const definitions: TopicDefinition[] = [];
  const patterns: RegExp[] = [];
  for (const topic of topics ?? []) {
    // Without the flags that make a pattern remember where it was.
    if (topic instanceof RegExp)
      patterns.push(new RegExp(topic, topic.flags.replaceAll(/[gy]/g, '')));
    else definitions.push(definitionOf('consumer', topic));
  }
  return {
    group:
      group === undefined
        ? undefined
        : {
            groupId: group,
            clientId,
            assignor: typeof assignor === 'string' ? byName[assignor] : assignor,
            maxPollIntervalMs,
            revokeTimeoutMs,
            isolation,
          },
    topics: new Map(definitions.map((definition) => [definition.name, definition])),
    patterns,
    from,
    autoCommit,
    isolation,
    maxPollRecords,
    maxPollBytes,
    revokeTimeoutMs,
    onInvalid,
    hooks: { onAssigned, onRevoked, onLost },
  };
}

/**
 * Positions to read from without a group; those not given (-1) follow `from`.
 * @throws TypeError, RangeError, UNKNOWN_TOPIC_OR_PARTITION
 */
export function checkPositions(
  partitions: readonly (TopicPartition & { readonly offset?: number })[],
  partitionCount: (topic: string) => number | undefined,
): Position[] {
  checkPlaces('assign', partitions);
  const places = new Set<string>();
  for (const at of partitions) {
    if (places.size < places.add(keyOf(at)).size) continue;
    throw new TypeError(
      `assign: expected each partition once, got ${at.topic}-${at.partition} twice`,
    );
  }
  return partitions.map(({ topic, partition, offset }) => {
    if (offset !== undefined) checkOffset('assign', offset);
    const count = partitionCount(topic);
    if (count === undefined) throw unknownTopic(topic, 'assign: ');
    if (Number.isInteger(partition) && partition >= 0 && partition < count) {
      return { topic, partition, offset: offset ?? -1 };
    }
    throw new OttlaError(
      'UNKNOWN_TOPIC_OR_PARTITION',
      `assign: expected a partition of ${topic} from 0 to ${count - 1}, got ${got(partition)}`,
    );
  });
}
