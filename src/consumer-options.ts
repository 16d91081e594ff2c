import { assignors, type Assignor } from './assignor.js';
import type { GroupMembership } from './engine.js';
import {
  aBoolean,
  checkOptions,
  either,
  fromCheck,
  got,
  integer,
  milliseconds,
  oneOf,
  withDefaults,
  type From,
} from './options.js';
import { definitionOf, type TopicDefinition, type TopicRef } from './serde.js';

export type AssignorName = 'range' | 'roundrobin' | 'sticky' | 'cooperative-sticky';

export interface ConsumerOptions<Topics extends readonly TopicRef[] = readonly TopicRef[]> {
  /** The group to share the topics' partitions with. Without one: assign(). */
  readonly group?: string;
  /** Definitions or names. A name gives Buffers. */
  readonly topics?: Topics;
  /** Who gets which partition; the same in all of the group. @default 'range' */
  readonly assignor?: AssignorName | Assignor;
  /** Where to begin without a committed offset; what it means at the first assignment is committed. @default 'earliest' */
  readonly from?: From;
  /** Whether what is marked as processed is committed by itself. @default true */
  readonly autoCommit?: boolean;
  /** Records of one batch at the most. @default 500 */
  readonly maxPollRecords?: number;
  /** A member that does not ask for records for this long loses its partitions until it does. @default 300000 */
  readonly maxPollIntervalMs?: number;
  /** How long a partition that must move waits for what is in flight; then it moves all the same. @default 30000 */
  readonly revokeTimeoutMs?: number;
  /** Shown by groups.describe, and the beginning of the member's id. @default 'ottla' */
  readonly clientId?: string;
}

/** As checkConsumerOptions leaves them. */
export interface CheckedConsumerOptions {
  readonly group: GroupMembership | undefined;
  readonly topics: ReadonlyMap<string, TopicDefinition>;
  readonly from: From;
  readonly autoCommit: boolean;
  readonly maxPollRecords: number;
}

const byName: Readonly<Record<AssignorName, Assignor>> = {
  range: assignors.range,
  roundrobin: assignors.roundrobin,
  sticky: assignors.sticky,
  'cooperative-sticky': assignors.cooperativeSticky,
};

/** Group ids lead the keys of the metadata store, which have a limit. */
const maxGroupIdBytes = 1024;

const groupId = (value: unknown): string | null =>
  typeof value === 'string' && value.length > 0 && Buffer.byteLength(value) <= maxGroupIdBytes
    ? null
    : `a string of 1 to ${maxGroupIdBytes} bytes`;

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
  maxPollRecords: 500,
  maxPollIntervalMs: 300_000,
  revokeTimeoutMs: 30_000,
  clientId: 'ottla',
} as const satisfies Partial<ConsumerOptions>;

type Defaulted = Required<Omit<ConsumerOptions, 'group' | 'topics'>>;

/** @throws TypeError, RangeError */
export function checkConsumerOptions(options: ConsumerOptions): CheckedConsumerOptions {
  checkOptions<ConsumerOptions>(
    'consumer',
    {
      group: groupId,
      topics: (value) =>
        Array.isArray(value) && value.length > 0 ? null : 'a list of at least one topic',
      assignor: either(oneOf(...Object.keys(byName)), anAssignor),
      from: fromCheck,
      autoCommit: aBoolean,
      maxPollRecords: integer(1),
      maxPollIntervalMs: milliseconds,
      revokeTimeoutMs: milliseconds,
      clientId: groupId,
    },
    options,
  );
  const { group, topics } = options;
  if ((group === undefined) !== (topics === undefined)) {
    throw new TypeError(
      `consumer: expected group and topics together, or neither and assign(), got group ${got(group)} and topics ${got(topics)}`,
    );
  }
  const {
    assignor,
    from,
    autoCommit,
    maxPollRecords,
    maxPollIntervalMs,
    revokeTimeoutMs,
    clientId,
  } = withDefaults<Defaulted>(defaults, options);
  const definitions = (topics ?? []).map((topic) => definitionOf('consumer', topic));
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
          },
    topics: new Map(definitions.map((definition) => [definition.name, definition])),
    from,
    autoCommit,
    maxPollRecords,
  };
}
