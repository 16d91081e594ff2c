import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import {
  NativeMembers,
  type NativeMember,
  type Ownership,
  type Target,
} from '../src/group-native.js';
import { keyOf, TestGroup, type TestMember } from './group-member.js';
import { seeds } from './seeds.js';

const topics = ['t', 'u', 'v'];
const longestMs = 3000;

/** One thing that happens; `who` picks among the members there are then. */
const happening = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('join' as const),
      topics: fc.subarray(topics, { minLength: 1 }),
      revokeTimeoutMs: fc.integer({ min: 1, max: longestMs }),
      releasesAtOnce: fc.boolean(),
      isBusy: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('leave' as const), who: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('expel' as const), who: fc.nat(99) }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('release' as const), who: fc.nat(99) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('ask' as const), who: fc.nat(99) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant('topic' as const),
      topic: fc.constantFrom(...topics),
      more: fc.integer({ min: -1, max: 3 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('turn' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('time' as const),
      ms: fc.integer({ min: 1, max: longestMs }),
    }),
  },
);

type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

class Simulation {
  readonly group = new TestGroup();
  readonly assignor: (typeof assignors)[keyof typeof assignors];
  members: TestMember[] = [];
  unsettled = 0;
  #made = 0;

  constructor(assignor: keyof typeof assignors) {
    this.assignor = assignors[assignor];
    for (const topic of topics) this.group.counts.set(topic, 2);
  }

  async happens(next: Happening): Promise<void> {
    const { group, members } = this;
    const member = 'who' in next ? members[next.who % Math.max(1, members.length)] : undefined;
    switch (next.what) {
      case 'join':
        this.#join(next);
        break;
      case 'leave':
        member?.leave();
        this.members = members.filter((other) => other !== member);
        break;
      case 'expel':
        if (member !== undefined) group.coordinator.expel('g', member.memberId);
        this.members = members.filter((other) => other !== member);
        break;
      case 'release':
        member?.release();
        break;
      case 'ask':
        if (member !== undefined) this.#ask(member);
        break;
      case 'topic':
        this.#changeTopic(next.topic, next.more);
        break;
      case 'turn':
        group.clock.endTurn();
        break;
      case 'time':
        await group.clock.advance(next.ms);
        break;
    }
    this.check();
  }

  #join(options: Extract<Happening, { what: 'join' }>): void {
    const member = this.group.member(`m${this.#made++}`, {
      topics: options.topics,
      revokeTimeoutMs: options.revokeTimeoutMs,
      assignor: this.assignor,
    });
    member.releasesAtOnce = options.releasesAtOnce;
    member.isBusy = options.isBusy;
    this.group.join(member);
    this.members.push(member);
  }

  #ask({ memberId }: TestMember): void {
    this.unsettled++;
    void this.group.coordinator.settled('g', memberId).then(() => this.unsettled--);
  }

  #changeTopic(topic: string, more: number): void {
    const count = this.group.counts.get(topic) ?? 0;
    this.group.change(topic, more < 0 ? undefined : Math.min(8, count + more) || undefined);
  }

  /** What holds at any time. That no partition has two owners, and no number comes twice, the group checks. */
  check(): void {
    const { counts, coordinator, owners } = this.group;
    const alive = new Set(this.members);
    for (const [key, member] of owners) {
      assert.ok(alive.has(member), `${member.memberId} has ${key} and is gone`);
    }
    for (const member of this.members) {
      for (const ownership of member.owned.values()) {
        const { topic, partition } = ownership;
        assert.ok(member.topics.includes(topic), `${member.memberId} did not ask for ${topic}`);
        assert.ok(partition < (counts.get(topic) ?? 0), `${keyOf(ownership)} does not exist`);
        assert.ok(coordinator.owns('g', ownership));
        assert.equal(this.group.ownerOf(keyOf(ownership)), member.memberId);
      }
    }
  }

  /** What holds once everything has come to rest. */
  async checkAtRest(): Promise<void> {
    const { clock, coordinator, counts, generations, owners } = this.group;
    await clock.settle();
    while (clock.timerCount > 0) await clock.advance(longestMs);
    this.check();
    assert.equal(this.unsettled, 0);
    const wanted = topics
      .filter((topic) => this.members.some((member) => member.topics.includes(topic)))
      .flatMap((topic) =>
        Array.from({ length: counts.get(topic) ?? 0 }, (_, partition) =>
          keyOf({ topic, partition }),
        ),
      );
    assert.deepEqual([...owners.keys()].toSorted(), wanted.toSorted());
    assert.equal(
      coordinator.describe('g')?.state,
      this.members.length === 0 ? undefined : 'Stable',
    );
    assert.deepEqual(
      generations,
      generations.map((_, i) => i + 1),
    );
    for (const member of this.members) assert.deepEqual(member.failures, []);
  }
}

it.each(['range', 'roundrobin', 'sticky', 'cooperativeSticky'] as const)(
  'keeps its promises, whatever happens in whatever order: %s',
  { timeout: 20_000 },
  async (assignor) => {
    const property = fc.asyncProperty(
      fc.array(happening, { minLength: 1, maxLength: 40 }),
      async (happenings) => {
        const simulation = new Simulation(assignor);
        for (const next of happenings) await simulation.happens(next);
        await simulation.checkAtRest();
      },
    );
    await fc.assert(property, { numRuns: seeds(150) });
  },
);

/** Counts how often it is asked, or walked over by one entry. */
class CountedMap<K, V> extends Map<K, V> {
  count = 0;

  override get(key: K): V | undefined {
    this.count++;
    return super.get(key);
  }

  override *[Symbol.iterator](): MapIterator<[K, V]> {
    for (const entry of this.entries()) {
      this.count++;
      yield entry;
    }
  }
}

it('takes as long to give one partition on as if there were no others', () => {
  const group = new TestGroup();
  const targetOf = (memberId: string, count: number): CountedMap<string, Target> =>
    new CountedMap(
      Array.from({ length: count }, (_, partition) => {
        const at = { topic: 't', partition };
        return [`t/${partition}`, { at, memberId }];
      }),
    );
  const lookups = [100, 200].map((count) => {
    const natives = new NativeMembers(group.clock, () => undefined);
    const granted: Ownership[] = [];
    const memberOf = (memberId: string): NativeMember => ({
      memberId,
      clientId: '',
      topics: ['t'],
      topicsChanged: () => false,
      assignor: assignors.range,
      revokeTimeoutMs: 1000,
      granted: (ownerships) => granted.push(...ownerships),
      revoke: () => false,
      lost: () => undefined,
      failed: () => undefined,
    });
    natives.add(memberOf('a'));
    natives.add(memberOf('b'));
    natives.moveTo(targetOf('a', count), () => false);
    const target = targetOf('b', count);
    natives.moveTo(target, () => false);
    const waiting = natives.settled('b').then(() => 'settled');
    const given = granted.splice(0);
    target.count = 0;
    for (const ownership of given) natives.released([ownership]);
    expect(granted).toHaveLength(count);
    return { waiting, each: target.count / count };
  });
  expect(lookups[0]!.each).toBe(lookups[1]!.each);
  return Promise.all(lookups.map(({ waiting }) => expect(waiting).resolves.toBe('settled')));
});
