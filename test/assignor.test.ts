import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import type { Assignor, AssignorInput, AssignorMember } from '../src/assignor.js';
import {
  ascending,
  assignable,
  countsOf,
  faultsOf,
  frozen,
  groups,
  inputOf,
  keyOf,
  ownersOf,
  vectorsOf,
} from './assignor-cases.js';

const all: readonly Assignor[] = Object.values(assignors);

describe.each(all)('$name: what Kafka 3.8.0 does', (assignor) => {
  const exact = vectorsOf(assignor).filter(({ compare }) => compare === 'exact-set');

  it.each(exact)('$id: $source, $note', (vector) => {
    const result = assignor.assign(inputOf(vector));
    const pairs = [...result].map(([memberId, list]) => [memberId, list.map(keyOf).toSorted()]);
    const expected = Object.entries(vector.expected).map(([memberId, list]) => [
      memberId,
      list.map(([topic, partition]) => keyOf({ topic, partition })).toSorted(),
    ]);
    expect(Object.fromEntries(pairs)).toEqual(Object.fromEntries(expected));
  });

  it('has a test for each vector, here or in assignor-sticky.test.ts', () => {
    const ways = assignor.name.endsWith('sticky')
      ? ['exact-set', 'properties-only']
      : ['exact-set'];
    const others = vectorsOf(assignor).filter(({ compare }) => !ways.includes(compare));
    expect(others).toEqual([]);
  });
});

describe.each(all)('$name: always', (assignor) => {
  it('gives every partition once, to a subscriber', () => {
    fc.assert(
      fc.property(groups({ claims: 'none' }), (input) => {
        const result = assignor.assign(input);
        expect(faultsOf(input, result)).toEqual([]);
        expect(ownersOf(result).size).toBe(assignable(input).length);
      }),
    );
  });

  it('gives nothing twice nor to others, whatever members claim', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const result = assignor.assign(input);
        expect(faultsOf(input, result)).toEqual([]);
      }),
    );
  });

  it('does not modify its input', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const before = structuredClone(input);
        assignor.assign(frozen(input));
        expect(input).toEqual(before);
      }),
    );
  });

  it('gives the same for any order of members, topics and claims', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const members = input.members.map((member) => ({
          ...member,
          topics: [...member.topics].toReversed(),
          owned: [...(member.owned ?? [])].toReversed(),
        }));
        const partitions = Object.fromEntries(Object.entries(input.partitions).toReversed());
        const turned = assignor.assign({ partitions, members: members.toReversed() });
        expect(turned).toEqual(assignor.assign(input));
      }),
    );
  });

  it('takes partitions without a prototype, topics with the names of its parts', () => {
    const partitions = Object.assign(Object.create(null) as Record<string, number>, {
      constructor: 2,
      ['__proto__']: 1,
    });
    const topics = ['constructor', '__proto__', 'hasOwnProperty', 'toString'];
    const result = assignor.assign({ partitions, members: [{ memberId: '__proto__', topics }] });
    expect(result.get('__proto__')!.map(keyOf).toSorted()).toEqual([
      '__proto__-0',
      'constructor-0',
      'constructor-1',
    ]);
  });

  it('counts a topic once that a member names twice', () => {
    const [once, twice] = [['t'], ['t', 't']].map((topics) =>
      assignor.assign({
        partitions: { t: 4 },
        members: [
          { memberId: 'x', topics },
          { memberId: 'y', topics: ['t'] },
        ],
      }),
    );
    expect(twice).toEqual(once);
    expect(countsOf(twice!)).toEqual([2, 2]);
  });

  it('takes a group without members, topics or partitions', () => {
    expect(assignor.assign({ partitions: { a: 3 }, members: [] })).toEqual(new Map());
    const idle: AssignorMember[] = [
      { memberId: 'x', topics: [] },
      { memberId: 'y', topics: ['none', 'empty'] },
    ];
    const result = assignor.assign({ partitions: { a: 3, empty: 0 }, members: idle });
    expect([...result]).toEqual([
      ['x', []],
      ['y', []],
    ]);
  });

  it('refuses counts that are none, and members without an id or topics', () => {
    const member = { memberId: 'a', topics: ['t'] };
    for (const count of [-1, 1.5, Number.NaN, '3' as unknown as number]) {
      expect(() => assignor.assign({ partitions: { t: count }, members: [member] })).toThrow(
        RangeError,
      );
    }
    const wrong: unknown[] = [{ topics: ['t'] }, { memberId: 'a' }, { memberId: 'a', topics: 't' }];
    for (const members of wrong.map((one) => [one as AssignorMember])) {
      expect(() => assignor.assign({ partitions: { t: 3 }, members })).toThrow(TypeError);
    }
    const noInput: unknown[] = [
      undefined,
      null,
      'x',
      {},
      { partitions: { t: 3 } },
      { members: [member] },
      { partitions: null, members: [member] },
      { partitions: { t: 3 }, members: [member, null] },
    ];
    for (const input of noInput) {
      expect(() => assignor.assign(input as AssignorInput)).toThrow(/expected \{ partitions.*got/);
      expect(() => assignor.assign(input as AssignorInput)).toThrow(TypeError);
    }
    const twice = { partitions: { t: 3 }, members: [member, { ...member }] };
    expect(() => assignor.assign(twice)).toThrow(RangeError);
  });
});

describe('range', () => {
  it('gives runs of neighbours, one longer for the first members of each topic', () => {
    fc.assert(
      fc.property(groups(), (input) => {
        const result = assignors.range.assign(input);
        for (const topic of new Set(assignable(input).map((at) => at.topic))) {
          const runs = [...result.values()]
            .map((list) => list.filter((at) => at.topic === topic).map((at) => at.partition))
            .filter((numbers) => numbers.length > 0)
            .toSorted((a, b) => a[0]! - b[0]!);
          expect(runs.flat()).toEqual([...runs.flat().keys()]);
          const lengths = runs.map((numbers) => numbers.length);
          expect(lengths).toEqual(ascending(lengths).toReversed());
          expect(lengths[0]! - lengths.at(-1)!).toBeLessThanOrEqual(1);
        }
      }),
    );
  });
});

describe.each([assignors.range, assignors.roundrobin])('$name: static members', (assignor) => {
  it('come first, by instance id; a new member id changes nothing', () => {
    const topics = ['t'];
    const groupOf = (ids: readonly string[]): AssignorInput => ({
      partitions: { t: 5 },
      members: [
        { memberId: 'a', topics },
        { memberId: ids[0]!, groupInstanceId: 'two', topics },
        { memberId: ids[1]!, groupInstanceId: 'one', topics },
      ],
    });
    const before = assignor.assign(groupOf(['m', 'n']));
    const after = assignor.assign(groupOf(['z', 'b']));
    expect(before.get('n')![0]).toEqual({ topic: 't', partition: 0 });
    expect(before.get('a')).toHaveLength(1);
    expect([after.get('b'), after.get('z'), after.get('a')]).toEqual([
      before.get('n'),
      before.get('m'),
      before.get('a'),
    ]);
  });
});

describe.each([assignors.roundrobin, assignors.sticky])(
  '$name: equal subscriptions',
  (assignor) => {
    it('leave members at most one partition apart', () => {
      fc.assert(
        fc.property(groups({ equal: true }), (input) => {
          const counts = countsOf(assignor.assign(input));
          expect(counts.at(-1)! - counts[0]!).toBeLessThanOrEqual(1);
        }),
      );
    });
  },
);
