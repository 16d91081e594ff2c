import type { Api } from '../../src/server/protocol/api.js';
import type { Field, Schema } from '../../src/server/protocol/schema.js';
import type { Random } from '../power/random.js';
import { requestFrame, type Fields } from '../wire-client.js';
import { someRecords } from './batches.js';
import type { Known } from './known.js';

type Make = (random: Random, known: Known) => unknown;

const topic: Make = (random, known) => random.oneOf(known.topics);
const group: Make = (random, known) => random.oneOf(known.groups);
const transaction: Make = (random, known) => random.oneOf(known.transactionalIds);
const partition: Make = (random) => random.oneOf([0, 0, 0, 1, 2, -1, 7]);
const ms: Make = (random) => random.oneOf([0, 1, 50, 500]);
const size: Make = (random) => random.oneOf([0, 1, 1000, 1_000_000]);
const epoch: Make = (random) => random.oneOf([-1, -1, 0, 0, 1]);
const offset: Make = (random) => random.oneOf([0, 0, 1, 3, -1, -2, 100]);
const ofConfig = ['cleanup.policy', 'retention.ms', 'max.message.bytes', 'compression.type'];
const config: Make = (random) => random.oneOf([...ofConfig, 'message.timestamp.type', 'none.such']);
const mechanism: Make = (random) => random.oneOf(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', '?']);
const empty: Make = () => [];

/** A member's subscription as consumers write it (ConsumerProtocolSubscription.json, version 0). */
const subscription: Make = (random, known) => {
  const name = Buffer.from(random.oneOf(known.topics));
  const head = Buffer.from([0, 0, 0, 0, 0, 1, 0, name.length]);
  return Buffer.concat([head, name, Buffer.from([0xff, 0xff, 0xff, 0xff])]);
};

/** What fields are likely to be, by `parent.name` or by name: others are anything. */
const likely: Readonly<Record<string, Make>> = {
  name: topic,
  topic,
  topicName: topic,
  topicNames: topic,
  topicId: (random, known) => (known.topicIds.length > 0 ? random.oneOf(known.topicIds) : zeros),
  groupId: group,
  groups: group,
  groupsNames: group,
  key: group,
  coordinatorKeys: group,
  keyType: (random) => random.below(2),
  transactionalId: (random, known) => (random.chance(0.7) ? transaction(random, known) : null),
  memberId: (random, known) => random.oneOf(['', ...known.memberIds]),
  groupInstanceId: (random) => random.oneOf([null, null, null, 'i0', 'i1']),
  generationId: (random, known) => random.oneOf([-1, 1, ...known.generations]),
  generationIdOrMemberEpoch: (random, known) => random.oneOf([-1, -1, ...known.generations]),
  memberEpoch: (random, known) => random.oneOf([0, 0, 0, -1, -2, ...known.generations]),
  instanceId: (random) => random.oneOf([null, null, null, 'i0', 'i1']),
  rackId: () => null,
  subscribedTopicNames: topic,
  subscribedTopicRegex: (random) => random.oneOf([null, null, 't.*', '[^t]+|t(0|1)', '', '(']),
  serverAssignor: (random) => random.oneOf([null, 'uniform', 'range', 'mine']),
  protocolType: (random) => random.oneOf(['consumer', 'consumer', 'consumer', 'connect', '']),
  protocolName: () => 'range',
  'protocols.name': (random) => random.oneOf(['range', 'range', 'roundrobin', 'mine']),
  'protocols.metadata': subscription,
  sessionTimeoutMs: (random) => random.oneOf([6000, 10_000, 10_000, 100]),
  rebalanceTimeoutMs: (random) => random.oneOf([100, 1000, 5000]),
  producerId: (random, known) => random.oneOf([-1n, ...known.producers.map((p) => p.producerId)]),
  producerEpoch: (random) => random.oneOf([-1, 0, 0, 1]),
  transactionTimeoutMs: (random) => random.oneOf([1000, 60_000]),
  sessionId: (random, known) => random.oneOf([0, ...known.sessions]),
  sessionEpoch: (random) => random.oneOf([-1, 0, 0, 1, 2, 3]),
  index: partition,
  partition,
  partitions: partition,
  partitionIndex: partition,
  partitionIndexes: partition,
  acks: (random) => random.oneOf([-1, -1, -1, -1, 1, 1, 0]),
  timeoutMs: ms,
  maxWaitMs: ms,
  minBytes: size,
  maxBytes: size,
  partitionMaxBytes: size,
  fetchOffset: offset,
  offset,
  committedOffset: offset,
  timestamp: (random) => random.oneOf([-1, -2, -3, 0, 1_700_000_000_500]),
  currentLeaderEpoch: epoch,
  leaderEpoch: epoch,
  lastFetchedEpoch: epoch,
  committedLeaderEpoch: epoch,
  isolationLevel: (random) => random.below(2),
  numPartitions: (random) => random.oneOf([-1, 1, 2, 3]),
  count: (random) => random.oneOf([2, 3, 4]),
  replicationFactor: (random) => random.oneOf([-1, -1, 1, 1, 3]),
  brokerIds: (random) => random.oneOf([1, 1, 1, 2]),
  assignments: empty,
  'configs.name': config,
  configurationKeys: config,
  'configs.value': (random) => random.oneOf(['compact', 'delete', '1000', 'zstd', '-1', null]),
  resourceType: (random) => random.oneOf([2, 2, 4, 3]),
  resourceName: (random, known) => random.oneOf([...known.topics, '1', '']),
  configOperation: (random) => random.below(4),
  statesFilter: (random) => random.oneOf(['Stable', 'Empty', 'none']),
  typesFilter: (random) => random.oneOf(['classic', 'consumer', 'none']),
  mechanism,
  authBytes: (random) => Buffer.from(random.oneOf(['\0alice\0secret', 'n,,n=alice,r=abc', 'x'])),
  clientSoftwareName: () => 'fuzz',
  clientSoftwareVersion: () => '1',
};

const zeros = 'AAAAAAAAAAAAAAAAAAAAAA';

/** Field by field, any value of its type: of the schemas' kinds, the wicked ones. */
const wicked: Readonly<Record<Exclude<Field['kind'], 'array' | 'struct'>, Make>> = {
  bool: (random) => random.chance(0.5),
  int8: (random) => random.oneOf([-128, -1, 0, 2, 127]),
  int16: (random) => random.oneOf([-32_768, -2, -1, 0, 2, 32_767]),
  int32: (random) => random.oneOf([-(2 ** 31), -2, -1, 0, 1, 4, 65_536, 2 ** 31 - 1]),
  int64: (random) => random.oneOf([-(2 ** 63), -7, -1, 0, 2 ** 31, 2 ** 53 - 1, 2 ** 62, largest]),
  bigint64: (random) => random.oneOf([-(2n ** 63n), -2n, -1n, 0n, 1n, 2n ** 63n - 1n]),
  uuid: (random) => random.oneOf([zeros, 'AAAAAAAAAAAAAAAAAAAAAQ', '_____________________w']),
  string: someText,
  bytes: (random) => random.oneOf([null, someBytes(random, 8), someBytes(random, 3000)]),
  records: someRecords,
};

/** The largest below 2^63 that a number can be. */
const largest = 2 ** 63 - 1024;

function someText(random: Random): string | null {
  const texts = ['', '.', '..', '../x', 'a/b', '\0', 'ü€😀', '__consumer_offsets', '<a&"b>', 'T0'];
  if (random.chance(0.6)) return random.oneOf(texts);
  if (random.chance(0.3)) return null;
  const unit = random.oneOf(['x', 'ß', '😀']);
  return unit.repeat(random.oneOf([5, 249, 250, 2000, 8000, 32_767]) / unit.length / 2);
}

function someBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = random.below(256);
  return bytes;
}

/** Makes requests of every kind and version that the schemas know. */
export class Messages {
  readonly #random: Random;
  readonly #known: Known;
  readonly #apis: readonly Api[];
  #wickedness = 0;
  #correlationId = 0;

  constructor(random: Random, known: Known, apis: Iterable<Api>) {
    this.#random = random;
    this.#known = known;
    this.#apis = [...apis];
  }

  /** The next frame, of any kind unless one is named. */
  frame(name?: string): Buffer {
    const random = this.#random;
    const api = this.#apis.find((each) => each.name === name) ?? random.oneOf(this.#apis);
    const version = api.minVersion + random.below(api.maxVersion - api.minVersion + 1);
    this.#wickedness = random.oneOf([0, 0, 0.01, 0.05, 0.3]);
    const body = this.#struct(api.fields, version, '');
    return requestFrame(api, version, this.#correlationId++, body);
  }

  #struct(fields: Schema, version: number, parent: string): Fields {
    const made: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(fields)) {
      const { since = 0, until = Infinity, tag } = field.options;
      if (version < since || version > until) continue;
      if (tag !== undefined && this.#random.chance(0.8)) continue;
      made[name] = this.#value(name, field, version, parent);
    }
    return made;
  }

  #value(name: string, field: Field, version: number, parent: string): unknown {
    const random = this.#random;
    const isWicked = random.chance(this.#wickedness);
    if (field.kind === 'struct') {
      const isNull = (field.options.nullable ?? Infinity) <= version && random.chance(0.5);
      return isNull ? null : this.#struct(field.fields!, version, name);
    }
    if (field.kind === 'array') return this.#array(name, field, version, parent, isWicked);
    const make = likely[`${parent}.${name}`] ?? likely[name];
    const isNumber = field.kind.startsWith('int') || field.kind === 'bigint64';
    const value = make?.(random, this.#known);
    // One name may be several kinds of field.
    const fits = isNumber === (typeof value === 'number' || typeof value === 'bigint');
    if (make === undefined || isWicked || !fits) return wicked[field.kind](random, this.#known);
    const isNullable = (field.options.nullable ?? Infinity) <= version;
    return value === null && !isNullable ? wicked[field.kind](random, this.#known) : value;
  }

  #array(name: string, field: Field, version: number, parent: string, isWicked: boolean): unknown {
    const random = this.#random;
    const make = likely[name];
    if (make === empty && !isWicked) return [];
    if (isWicked && random.chance(0.3)) return null;
    const isNullable = (field.options.nullable ?? Infinity) <= version;
    if (isNullable && random.chance(0.2)) return null;
    const most = isWicked ? random.oneOf([20, 300]) : random.oneOf([1, 1, 2, 3]);
    const element = field.element!;
    return Array.from({ length: random.below(most + 1) }, () =>
      element.kind === 'struct'
        ? this.#struct(element.fields!, version, name)
        : this.#value(name, element, version, parent),
    );
  }
}
