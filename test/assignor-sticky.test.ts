import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import type { Assignor } from '../src/assignor.js';
import {
  ascending,
  assignable,
  claimsOf,
  countsOf,
  faultsOf,
  fewestMoves,
  groups,
  inputOf,
  keyOf,
  movesOf,
  ownersOf,
  run,
  settled,
  unevenIn,
  vectorsOf,
} from './assignor-cases.js';

const stickyOnes: readonly Assignor[] = [assignors.sticky, assignors.cooperativeSticky];

/** Who of three members gets t-1 when each claims it, of one partition for each. */
function ownerOfContested(
  assignor: Assignor,
  generations: readonly (number | undefined)[],
): string | undefined {
  const members = generations.map((generation, i) => ({
    memberId: `m${i}`,
    topics: ['t'],
    owned: run('t', 1, 2),
    generation,
  }));
  return ownersOf(assignor.assign({ partitions: { t: 3 }, members })).get('t-1');
}

// Where Kafka follows the order of a Java hash table, its result is one of several as good.
describe.each(stickyOnes)('$name: as good as Kafka 3.8.0', (assignor) => {
  const loose = vectorsOf(assignor).filter(({ compare }) => compare === 'properties-only');
  const contested = loose.filter(({ facts }) => facts.conflictingClaims! > 0);
  const agreed = loose.filter(({ facts }) => facts.conflictingClaims === 0);

  it.each(loose)('$id: $source, $note', (vector) => {
    const input = inputOf(vector);
    const { facts } = vector;
    const result = assignor.assign(input);
    expect(faultsOf(input, result)).toEqual([]);
    expect(countsOf(result)).toEqual(ascending(Object.values(facts.perMember)));
    expect(ownersOf(result).size).toBe(facts.assigned);
    expect(assignable(input)).toHaveLength(facts.partitionsToAssign);
    const withheld = facts.withheldUntilRevoked?.length ?? 0;
    expect(facts.assigned + withheld).toBe(facts.partitionsToAssign);
    expect(unevenIn(input, assignors.sticky.assign(input))).toEqual([]);
  });

  it.each(agreed)('$id: moves as many partitions', (vector) => {
    const { retained, moved, minMovesPossible } = vector.facts;
    const moves = movesOf(inputOf(vector), assignor.assign(inputOf(vector)));
    expect(moves).toEqual({ retained, moved });
    expect(moves.moved).toBe(minMovesPossible ?? moved);
  });

  // What the simulation of groups asks of each rebalance.
  const counted = vectorsOf(assignor).filter(({ facts }) => facts.minMovesPossible !== undefined);

  it.each(counted)('$id: could move as few partitions as is counted', (vector) => {
    const { members, partitions } = inputOf(vector);
    const counts = members.map(
      ({ topics, owned = [] }) =>
        owned.filter(({ topic, partition }) => {
          return topics.includes(topic) && partition < (partitions[topic] ?? 0);
        }).length,
    );
    const { partitionsToAssign, minMovesPossible } = vector.facts;
    expect(fewestMoves(counts, partitionsToAssign)).toBe(minMovesPossible);
  });

  it.runIf(contested.length > 0).each(contested)('$id: moves no more partitions', (vector) => {
    const moves = movesOf(inputOf(vector), assignor.assign(inputOf(vector)));
    expect(moves.retained).toBeGreaterThanOrEqual(vector.facts.retained!);
    expect(moves.moved).toBeLessThanOrEqual(vector.facts.moved!);
  });
});

describe('sticky', () => {
  it('gives every partition, none to a member that has two more than another subscriber', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const result = assignors.sticky.assign(input);
        expect(unevenIn(input, result)).toEqual([]);
        expect(ownersOf(result).size).toBe(assignable(input).length);
      }),
    );
  });

  it('brings a partition home rather than moving two in opposite directions', () => {
    const result = assignors.sticky.assign({
      partitions: { a: 10, b: 10 },
      members: [
        { memberId: 'x', topics: ['a'], generation: 1, owned: run('a', 0, 8) },
        {
          memberId: 'y',
          topics: ['a', 'b'],
          generation: 1,
          owned: [...run('a', 8, 10), ...run('b', 0, 8)],
        },
        { memberId: 'z', topics: ['b'], generation: 1, owned: [] },
      ],
    });
    // On the way y gives a-8 to x, then b-0 to b-3 to z, and is then short of partitions itself.
    expect(result.get('x')).toEqual(run('a', 1, 8));
    expect(result.get('y')).toEqual([...run('a', 0, 1), ...run('a', 8, 10), ...run('b', 4, 8)]);
    expect(result.get('z')).toEqual([...run('b', 0, 4), ...run('b', 8, 10)]);
  });

  it('brings one home that went where another came from, as Kafka does', () => {
    const result = assignors.sticky.assign({
      partitions: { a: 7, b: 5, c: 3 },
      members: [
        {
          memberId: 'm0',
          topics: ['a', 'b', 'c'],
          generation: 1,
          owned: [...run('a', 5, 7), ...run('c', 0, 3)],
        },
        { memberId: 'm1', topics: ['c'], generation: 1, owned: [] },
        {
          memberId: 'm2',
          topics: ['a', 'b', 'c'],
          generation: 1,
          owned: [...run('a', 0, 3), ...run('a', 4, 5), ...run('b', 0, 5)],
        },
        { memberId: 'm3', topics: ['a'], generation: 1, owned: run('a', 3, 4) },
      ],
    });
    expect(Object.fromEntries([...result].map(([id, list]) => [id, list.map(keyOf)]))).toEqual({
      m0: ['a-5', 'b-0', 'b-1', 'b-2'],
      m1: ['c-0', 'c-1', 'c-2'],
      m2: ['a-1', 'a-4', 'b-3', 'b-4'],
      m3: ['a-0', 'a-2', 'a-3', 'a-6'],
    });
  });

  it('gives a partition back to its owner of an older generation if that evens things out', () => {
    const result = assignors.sticky.assign({
      partitions: { t: 4, u: 1 },
      members: [
        { memberId: 'a', topics: ['t'] },
        { memberId: 'b', topics: ['t'], generation: 1, owned: run('t', 2, 3) },
        { memberId: 'c', topics: ['t', 'u'], generation: 2, owned: run('t', 0, 4) },
      ],
    });
    expect(result.get('b')).toContainEqual({ topic: 't', partition: 2 });
  });

  it('moves as few partitions as evenness allows', () => {
    fc.assert(
      fc.property(groups({ equal: true }), (input) => {
        const claims = claimsOf(input);
        const held = input.members.map(
          ({ memberId }) =>
            [...claims.values()].filter(
              ({ latest }) => latest.length === 1 && latest[0] === memberId,
            ).length,
        );
        const count = assignable(input).length;
        const least = Math.floor(count / held.length);
        const above = held.filter((own) => own > least).length;
        const expected =
          held.reduce((sum, own) => sum + Math.min(own, least), 0) +
          Math.min(above, count % held.length);
        const owners = ownersOf(assignors.sticky.assign(input));
        const kept = [...claims].filter(
          ([key, { latest }]) => latest.length === 1 && owners.get(key) === latest[0],
        );
        expect(kept.length).toBeGreaterThanOrEqual(expected);
      }),
    );
  });
});

describe.each(stickyOnes)('$name: from one generation to the next', (assignor) => {
  it('changes nothing while nothing changes', () => {
    fc.assert(
      fc.property(groups({ claims: 'none' }), (input) => {
        const result = assignor.assign(input);
        expect(assignor.assign(settled(input, result, 1))).toEqual(result);
      }),
    );
  });

  it('leaves survivors what they had when a member leaves', () => {
    fc.assert(
      fc.property(groups({ equal: true, claims: 'none' }), fc.nat(), (input, pick) => {
        const before = assignor.assign(input);
        const { members } = settled(input, before, 1);
        const survivors = members.toSpliced(pick % members.length, 1);
        const after = assignor.assign({ ...input, members: survivors });
        for (const { memberId } of survivors) {
          const kept = after.get(memberId)!.map(keyOf);
          for (const at of before.get(memberId)!) expect(kept).toContain(keyOf(at));
        }
      }),
    );
  });

  it('prefers the claim of the latest generation', () => {
    expect(ownerOfContested(assignor, [1, 3, 2])).toBe('m1');
    expect(ownerOfContested(assignor, [undefined, undefined, 0])).toBe('m2');
    expect(ownerOfContested(assignor, [2, 2, 3])).toBe('m2');
  });
});

describe('cooperative-sticky', () => {
  const assignor = assignors.cooperativeSticky;

  it('gives nobody what another member still owns', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const owners = ownersOf(assignor.assign(input));
        const tooEarly = [...claimsOf(input)].filter(([key, { latest, everyone }]) => {
          const owner = owners.get(key);
          const stays = latest.length === 1 && latest[0] === owner;
          return owner !== undefined && !stays && everyone.some((memberId) => memberId !== owner);
        });
        expect(tooEarly).toEqual([]);
      }),
    );
  });

  it('gives a partition that members of one generation claim to none of them', () => {
    expect(ownerOfContested(assignor, [3, 2, 3])).toBeUndefined();
    expect(ownerOfContested(assignor, [undefined, undefined, undefined])).toBeUndefined();
  });

  it('is the sticky assignment less what others claim', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const claims = claimsOf(input);
        const cooperative = ownersOf(assignor.assign(input));
        const withheld = [...ownersOf(assignors.sticky.assign(input))].filter(
          ([key, owner]) => cooperative.get(key) !== owner,
        );
        const unclaimed = withheld.filter(
          ([key, owner]) => !claims.get(key)?.everyone.some((memberId) => memberId !== owner),
        );
        expect(unclaimed).toEqual([]);
        expect(cooperative.size).toBe(assignable(input).length - withheld.length);
      }),
    );
  });

  it('reaches sticky’s balance in two rounds with equal subscriptions', () => {
    fc.assert(
      fc.property(groups({ equal: true }), (input) => {
        const second = settled(input, assignor.assign(input), 4);
        const result = assignor.assign(second);
        expect(ownersOf(result).size).toBe(assignable(input).length);
        expect(countsOf(result)).toEqual(countsOf(assignors.sticky.assign(input)));
        expect(assignor.assign(settled(input, result, 5))).toEqual(result);
      }),
    );
  });

  it('reaches an even assignment with different subscriptions, mostly in two rounds as well', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const count = assignable(input).length;
        let group = input;
        let result = assignor.assign(group);
        for (let round = 2; ownersOf(result).size < count; round++) {
          expect(round).toBeLessThan(10);
          group = settled(group, result, 2 + round);
          result = assignor.assign(group);
        }
        expect(unevenIn(group, result)).toEqual([]);
      }),
    );
  });
});
