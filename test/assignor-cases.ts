// Groups and what is true of their assignments, shared by the tests of the assignors.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import type { Assignor, AssignorInput, TopicPartition } from '../src/assignor.js';

type Pair = readonly [topic: string, partition: number];

/** A case of Kafka's. */
export interface Vector {
  readonly id: string;
  readonly source: string;
  readonly note?: string;
  readonly topics: Readonly<Record<string, number>>;
  readonly members: readonly {
    readonly id: string;
    readonly groupInstanceId?: string;
    readonly topics: readonly string[];
    readonly owned?: readonly Pair[];
    readonly generation?: number | null;
  }[];
  readonly expected: Readonly<Record<string, readonly Pair[]>>;
  readonly compare: 'exact-set' | 'properties-only';
  readonly facts: {
    readonly partitionsToAssign: number;
    readonly assigned: number;
    readonly perMember: Readonly<Record<string, number>>;
    readonly conflictingClaims?: number;
    readonly withheldUntilRevoked?: readonly Pair[];
    readonly retained?: number;
    readonly moved?: number;
    readonly minMovesPossible?: number;
  };
}

export function vectorsOf({ name }: Assignor): readonly Vector[] {
  const file = new URL(`vectors/${name}.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { vectors: Vector[] }).vectors;
}

export function inputOf({ topics, members }: Vector): AssignorInput {
  return {
    partitions: topics,
    members: members.map((member) => ({
      memberId: member.id,
      groupInstanceId: member.groupInstanceId,
      topics: member.topics,
      owned: member.owned?.map(([topic, partition]) => ({ topic, partition })),
      generation: member.generation ?? undefined,
    })),
  };
}

export const keyOf = ({ topic, partition }: TopicPartition): string => `${topic}-${partition}`;
export const ascending = (numbers: Iterable<number>): number[] =>
  [...numbers].toSorted((a, b) => a - b);
/** Partitions from the first number up to, not with, the second. */
export const run = (topic: string, from: number, end: number): TopicPartition[] =>
  Array.from({ length: end - from }, (_, i) => ({ topic, partition: from + i }));
export const countsOf = (result: Map<string, TopicPartition[]>): number[] =>
  ascending([...result.values()].map((list) => list.length));

/** Owner by partition. */
export function ownersOf(result: Map<string, TopicPartition[]>): Map<string, string> {
  return new Map(
    [...result].flatMap(([memberId, list]) => list.map((at) => [keyOf(at), memberId])),
  );
}

/** Every partition that exists and has subscribers. */
export function assignable({ partitions, members }: AssignorInput): TopicPartition[] {
  const subscribed = new Set(members.flatMap(({ topics }) => topics));
  return Object.entries(partitions)
    .filter(([topic]) => subscribed.has(topic))
    .flatMap(([topic, count]) =>
      Array.from({ length: count }, (_, partition) => ({ topic, partition })),
    );
}

/** By partition: who claims it in the latest generation in which anybody does, and who at all. */
export function claimsOf(
  input: AssignorInput,
): Map<string, { latest: string[]; everyone: string[] }> {
  const claims = new Map<string, { generation: number; latest: string[]; everyone: string[] }>();
  const known = new Set(assignable(input).map(keyOf));
  for (const { memberId, owned = [], generation = -1 } of input.members) {
    for (const key of new Set(owned.map(keyOf))) {
      if (!known.has(key)) continue;
      const claim = claims.get(key) ?? { generation, latest: [], everyone: [] };
      if (generation > claim.generation) Object.assign(claim, { generation, latest: [] });
      if (generation === claim.generation) claim.latest.push(memberId);
      claim.everyone.push(memberId);
      claims.set(key, claim);
    }
  }
  return claims;
}

/** What is wrong with a result: every member is in it, only subscribers get partitions, each once. */
export function faultsOf(input: AssignorInput, result: Map<string, TopicPartition[]>): string[] {
  const faults: string[] = [];
  const known = new Set(assignable(input).map(keyOf));
  const given = new Set<string>();
  for (const { memberId, topics } of input.members) {
    const list = result.get(memberId);
    if (list === undefined) faults.push(`${memberId} is missing`);
    for (const at of list ?? []) {
      if (!known.has(keyOf(at))) faults.push(`${keyOf(at)} does not exist`);
      if (!topics.includes(at.topic)) faults.push(`${memberId} got ${keyOf(at)}, unsubscribed`);
      if (given.has(keyOf(at))) faults.push(`${keyOf(at)} is given twice`);
      given.add(keyOf(at));
    }
  }
  if (result.size !== input.members.length) faults.push('strangers are in the result');
  return faults;
}

/** Partitions that their owner could give to a subscriber with at least two fewer. */
export function unevenIn(input: AssignorInput, result: Map<string, TopicPartition[]>): string[] {
  return input.members.flatMap(({ memberId, topics }) =>
    [...result.values()]
      .filter((list) => list.length >= result.get(memberId)!.length + 2)
      .flatMap((list) => list.filter(({ topic }) => topics.includes(topic)))
      .map((at) => `${keyOf(at)} to ${memberId}`),
  );
}

/** Claimed partitions that stayed, and ones that moved away from a member that still subscribes. */
export function movesOf(
  input: AssignorInput,
  result: Map<string, TopicPartition[]>,
): { readonly retained: number; readonly moved: number } {
  const claims = claimsOf(input);
  const owners = ownersOf(result);
  const topicsOf = new Map(input.members.map(({ memberId, topics }) => [memberId, topics]));
  let retained = 0;
  let moved = 0;
  for (const at of assignable(input)) {
    const latest = claims.get(keyOf(at))?.latest ?? [];
    if (latest.includes(owners.get(keyOf(at)) ?? '')) retained++;
    else if (latest.some((memberId) => topicsOf.get(memberId)!.includes(at.topic))) moved++;
  }
  return { retained, moved };
}

/** The group after everybody took over its part of the result. */
export function settled(
  input: AssignorInput,
  result: Map<string, TopicPartition[]>,
  generation: number,
): AssignorInput {
  const members = input.members.map((member) => ({
    ...member,
    owned: result.get(member.memberId) ?? [],
    generation,
  }));
  return { ...input, members };
}

export function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) frozen(inner);
    Object.freeze(value);
  }
  return value;
}

const topicNames = ['orders', 'bills', 'mail', '__proto__', 'constructor', 'toString', 'ü', ''];
const missing = 'missing';

export interface Shape {
  readonly equal?: boolean;
  readonly claims?: 'none' | 'any';
}

/** A group; with claims 'any' members say anything, of any generation, against one another too. */
export function groups({ equal, claims = 'any' }: Shape = {}): fc.Arbitrary<AssignorInput> {
  const topics = fc.subarray([...topicNames, missing]);
  const at = fc.record({
    topic: fc.constantFrom(...topicNames, missing),
    partition: fc.integer({ min: -1, max: 12 }),
  });
  const member = fc.record(
    {
      groupInstanceId: fc.option(fc.string(), { nil: undefined }),
      topics,
      owned: claims === 'none' ? fc.constant(undefined) : fc.array(at, { maxLength: 12 }),
      generation:
        claims === 'none'
          ? fc.constant(undefined)
          : fc.option(fc.integer({ min: -1, max: 3 }), { nil: undefined }),
    },
    { requiredKeys: ['topics'] },
  );
  const members = fc.uniqueArray(fc.tuple(fc.string(), member), {
    minLength: 1,
    maxLength: 8,
    selector: ([memberId]) => memberId,
  });
  const partitions = fc
    .array(fc.tuple(fc.constantFrom(...topicNames), fc.nat(12)))
    .map((counts) => Object.fromEntries(counts));
  return fc
    .tuple(partitions, members, topics, equal === undefined ? fc.boolean() : fc.constant(equal))
    .map(([counts, list, common, alike]) => ({
      partitions: counts,
      members: list.map(([memberId, rest]) => ({
        memberId,
        ...rest,
        topics: alike ? common : rest.topics,
      })),
    }));
}

/** How few of the partitions that members had must move to others so that all have equally many. */
export function fewestMoves(counts: readonly number[], partitions: number): number {
  const least = Math.floor(partitions / counts.length);
  const extras = partitions % counts.length;
  const above = counts.filter((count) => count > least).length;
  const kept = counts.reduce((sum, count) => sum + Math.min(count, least), Math.min(extras, above));
  return counts.reduce((sum, count) => sum + count, 0) - kept;
}
