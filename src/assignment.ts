import { got } from './options.js';

/** One partition of a topic. */
export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

/** Tells it from every other: no topic's name has a slash. */
export function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/** What an assignor knows of one member of the group. */
export interface AssignorMember {
  readonly memberId: string;
  /** Set for a static member (KIP-345); range and roundrobin serve these first, ordered by it. */
  readonly groupInstanceId?: string | undefined;
  /** Subscribed topics; those that do not exist are passed over, and so are repetitions. */
  readonly topics: readonly string[];
  /** What the member owns by its own account; read by the sticky assignors only. */
  readonly owned?: readonly TopicPartition[] | undefined;
  /** The generation in which `owned` was assigned; unknown counts as older than any (KIP-792). */
  readonly generation?: number | undefined;
}

/** A group at the moment of a rebalance. */
export interface AssignorInput {
  /** Partition count by topic; topics that nobody subscribes to are passed over. */
  readonly partitions: Readonly<Record<string, number>>;
  /** In any order: it has no influence on the result. */
  readonly members: readonly AssignorMember[];
}

/** Divides partitions among the members of a group. */
export interface Assignor {
  readonly name: string;
  /**
   * Gives each partition of a subscribed topic to at most one of the topic's subscribers. The result
   * has a list, perhaps empty, for every member. Deterministic; the input is not modified.
   *
   * @throws TypeError if a member's id or topics are missing.
   * @throws RangeError for a partition count that is no integer >= 0, or for a repeated member id.
   */
  assign(input: AssignorInput): Map<string, TopicPartition[]>;
}

/** Owner of a partition that is not assigned. */
export const NOBODY = -1;

/**
 * An assignment in the making, in dense numbers: members by rank in the order asked for, topics by
 * rank by name, partitions numbered topic after topic. With topics a (3 partitions) and b (2),
 * partition b-1 is number 4.
 */
export class Assignment {
  readonly members: readonly AssignorMember[];
  /** Topics that exist and have subscribers, ascending as Java orders strings: by UTF-16 unit. */
  readonly topics: readonly string[];
  /** Number of each topic's partition 0; one more element holds the count of all partitions. */
  readonly first: Int32Array;
  /** Subscribed members by topic, ascending. */
  readonly subscribers: readonly (readonly number[])[];
  /** Whether all subscribe to the same topics; ones that do not exist count too, as in Kafka. */
  readonly equalSubscriptions: boolean;
  /** The result: member by partition number. */
  readonly owner: Int32Array;
  readonly #rankByTopic = new Map<string, number>();

  constructor(input: AssignorInput, order: (a: AssignorMember, b: AssignorMember) => number) {
    checkInput(input);
    const counts = partitionCounts(input.partitions);
    this.members = input.members.toSorted(order);
    const subscribersByTopic = subscribersOf(this.members);
    this.equalSubscriptions = [...subscribersByTopic.values()].every(
      (subscribers) => subscribers.length === this.members.length,
    );
    this.topics = [...subscribersByTopic.keys()].filter((topic) => counts.has(topic)).toSorted();
    this.subscribers = this.topics.map((topic) => subscribersByTopic.get(topic)!);
    this.first = new Int32Array(this.topics.length + 1);
    for (const [rank, topic] of this.topics.entries()) {
      this.#rankByTopic.set(topic, rank);
      this.first[rank + 1] = this.first[rank]! + counts.get(topic)!;
    }
    this.owner = new Int32Array(this.partitionCount).fill(NOBODY);
  }

  get partitionCount(): number {
    return this.first[this.topics.length]!;
  }

  /** Number of a partition that exists and has subscribers, else -1. */
  numberOf(topic: string, partition: number): number {
    const rank = this.#rankByTopic.get(topic);
    if (rank === undefined) return -1;
    const number = this.first[rank]! + partition;
    return partition >= 0 && number < this.first[rank + 1]! ? number : -1;
  }

  /** The owners, spelled out; each list ascends by topic and partition. */
  toMap(): Map<string, TopicPartition[]> {
    const lists = this.members.map((): TopicPartition[] => []);
    for (const [rank, topic] of this.topics.entries()) {
      const first = this.first[rank]!;
      const end = this.first[rank + 1]!;
      for (let number = first; number < end; number++) {
        const member = this.owner[number]!;
        if (member !== NOBODY) lists[member]!.push({ topic, partition: number - first });
      }
    }
    return new Map(this.members.map(({ memberId }, member) => [memberId, lists[member]!]));
  }
}

/** @throws TypeError for what is no input at all */
function checkInput(input: unknown): void {
  const { partitions, members } = (input ?? {}) as Partial<Record<string, unknown>>;
  const isInput =
    typeof partitions === 'object' &&
    partitions !== null &&
    Array.isArray(members) &&
    members.every((member) => typeof member === 'object' && member !== null);
  if (isInput) return;
  throw new TypeError(
    `assign: expected { partitions: { topic: count }, members }, got ${got(input)}`,
  );
}

/** Counts of the topics with partitions; a Map, since a topic may be called `constructor`. */
function partitionCounts(partitions: AssignorInput['partitions']): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [topic, count] of Object.entries(partitions)) {
    if (!Number.isInteger(count) || count < 0) {
      throw new RangeError(`partitions['${topic}']: expected an integer >= 0, got ${got(count)}`);
    }
    if (count > 0) counts.set(topic, count);
  }
  return counts;
}

function subscribersOf(members: readonly AssignorMember[]): Map<string, number[]> {
  const subscribersByTopic = new Map<string, number[]>();
  const ids = new Set<string>();
  let previous: readonly string[] = [];
  let lists: number[][] = [];
  for (const [member, { memberId, topics }] of members.entries()) {
    if (typeof memberId !== 'string') {
      throw new TypeError(`memberId: expected a string, got ${got(memberId)}`);
    }
    if (!Array.isArray(topics)) {
      throw new TypeError(`topics of member '${memberId}': expected an array, got ${got(topics)}`);
    }
    if (ids.size === ids.add(memberId).size) {
      throw new RangeError(`memberId: expected each once, got '${memberId}' again`);
    }
    // Members of one application subscribe alike: comparing is cheaper than looking each topic up.
    if (!sameStrings(topics, previous)) {
      previous = topics;
      lists = [...new Set(previous)].map((topic) => {
        let list = subscribersByTopic.get(topic);
        if (list === undefined) subscribersByTopic.set(topic, (list = []));
        return list;
      });
    }
    for (const list of lists) list.push(member);
  }
  return subscribersByTopic;
}

function sameStrings(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((string, index) => string === b[index]));
}

/** Orders strings as Java's String.compareTo does. */
export function compareStrings(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
