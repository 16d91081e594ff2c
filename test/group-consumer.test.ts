import assert from 'node:assert/strict';
import { beforeEach, describe, expect, it } from 'vitest';
import type { TopicPartition } from '../src/assignor.js';
import type { ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest } from '../src/group-consumer.js';
import { GroupCoordinator, type GenerationBegun } from '../src/group.js';
import { defaultGroupLimits } from '../src/group-remote.js';
import { TestMember, type TestGroup } from './group-member.js';
import { idOf, nameOf, topicsOf } from './group-world.js';
import { ManualClock } from './manual-clock.js';
import { protocolsOf } from './wire-member.js';

let clock: ManualClock;
let counts: Map<string, number>;
let begun: GenerationBegun[];
let coordinator: GroupCoordinator;
beforeEach(() => {
  clock = new ManualClock();
  counts = new Map([
    ['t', 4],
    ['u', 2],
  ]);
  begun = [];
  coordinator = new GroupCoordinator({
    clock,
    ...topicsOf(counts),
    newMemberId: (prefix) => `${prefix}-made`,
    lastGeneration: () => begun.at(-1)?.generation ?? 0,
    generationBegan: (_, generation) => begun.push(generation),
  });
});

/** 't-0 t-1', and back. */
const inWords = (partitions: readonly TopicPartition[]): string =>
  partitions
    .map(({ topic, partition }) => `${nameOf(topic)}-${partition}`)
    .toSorted()
    .join(' ');
const fromWords = (words: string): TopicPartition[] =>
  words
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => ({ topic: idOf(word[0]!), partition: Number(word.slice(2)) }));

/** A member that says only what it is told to. */
class Member {
  memberId: string;
  epoch = 0;
  /** What it was told last that it may read. */
  assigned = '';
  readonly #join: Partial<ConsumerHeartbeatRequest>;

  constructor(memberId: string, join: Partial<ConsumerHeartbeatRequest> = {}) {
    this.memberId = memberId;
    this.#join = join;
  }

  ask(request: Partial<ConsumerHeartbeatRequest> = {}): ConsumerHeartbeatAnswer {
    return coordinator.consumerHeartbeat({
      groupId: 'g',
      memberId: this.memberId,
      memberEpoch: this.epoch,
      instanceId: null,
      rackId: null,
      rebalanceTimeoutMs: -1,
      clientId: 'client',
      clientHost: '/127.0.0.1',
      topics: null,
      pattern: null,
      assignor: null,
      owned: null,
      ...request,
    });
  }

  /** Everything that there is to say, in epoch 0. */
  asksToJoin(request: Partial<ConsumerHeartbeatRequest> = {}): ConsumerHeartbeatAnswer {
    const joining = { memberEpoch: 0, rebalanceTimeoutMs: 60_000, topics: ['t'], owned: [] };
    return this.ask({ ...joining, ...this.#join, ...request });
  }

  join(request: Partial<ConsumerHeartbeatRequest> = {}): this {
    return this.#takeIn(this.asksToJoin(request));
  }

  /** @param owned what it has by its own account; as before unless it is given */
  beat(owned?: string, request: Partial<ConsumerHeartbeatRequest> = {}): this {
    const own = owned === undefined ? null : fromWords(owned);
    return this.#takeIn(this.ask({ owned: own, ...request }));
  }

  #takeIn(answer: ConsumerHeartbeatAnswer): this {
    assert.equal(answer.errorCode, null);
    this.epoch = answer.memberEpoch;
    if (answer.assignment !== null) this.assigned = inWords(answer.assignment);
    return this;
  }

  leave(memberEpoch = -1): ConsumerHeartbeatAnswer {
    return this.ask({ ...this.#join, memberEpoch });
  }
}

const stateOf = (): string | undefined => coordinator.describe('g')?.state;

/** Two members that have shared four partitions. */
function two(join: Partial<ConsumerHeartbeatRequest> = {}): [Member, Member] {
  const a = new Member('a', join).join();
  const b = new Member('b', join).join();
  a.beat().beat('t-0 t-1');
  b.beat();
  expect([a.assigned, b.assigned]).toEqual(['t-0 t-1', 't-2 t-3']);
  return [a, b];
}

describe('A member', () => {
  it('joins with epoch 0, and is given all that nobody has', () => {
    const a = new Member('a');
    expect(a.asksToJoin()).toMatchObject({
      errorCode: null,
      errorMessage: null,
      memberId: 'a',
      memberEpoch: 1,
      heartbeatIntervalMs: 1000,
    });
    expect(a.join().assigned).toBe('t-0 t-1 t-2 t-3');
    expect(stateOf()).toBe('Stable');
    expect(begun).toEqual([
      { generation: 1, type: 'consumer', protocolType: 'consumer', isEmpty: false },
    ]);
  });

  it('is given an id if it has none', () => {
    expect(new Member('').asksToJoin()).toMatchObject({ errorCode: null, memberId: 'client-made' });
  });

  it('is told what it has only when that changes, or when it says everything', () => {
    const a = new Member('a').join();
    expect(a.ask()).toMatchObject({ errorCode: null, memberEpoch: 1, assignment: null });
    const everything = { rebalanceTimeoutMs: 60_000, topics: ['t'], owned: fromWords('t-0') };
    expect(a.ask(everything).assignment).toHaveLength(4);
  });

  it('gets what others have once they say that they have given it up', () => {
    const a = new Member('a').join();
    const b = new Member('b').join();
    expect([b.epoch, b.assigned]).toEqual([2, '']);
    expect(stateOf()).toBe('Reconciling');
    a.beat();
    expect([a.epoch, a.assigned]).toEqual([1, 't-0 t-1']);
    // It has said nothing, or that it still has some of it.
    expect(b.beat().assigned).toBe('');
    a.beat('t-0 t-1 t-2');
    expect([a.epoch, b.beat().assigned]).toEqual([1, '']);
    a.beat('t-0 t-1');
    expect([a.epoch, a.assigned]).toEqual([2, 't-0 t-1']);
    expect(b.beat().assigned).toBe('t-2 t-3');
    expect(stateOf()).toBe('Stable');
  });

  it('gives up at once what it says that it does not have', () => {
    const a = new Member('a').join();
    const b = new Member('b').join();
    a.beat('');
    expect([a.epoch, a.assigned]).toEqual([2, 't-0 t-1']);
    expect(b.beat().assigned).toBe('t-2 t-3');
  });

  it('goes on from one target to the next', () => {
    counts.set('t', 6);
    const a = new Member('a').join();
    new Member('b').join();
    a.beat();
    const c = new Member('c').join();
    // What it must give up now was decided before; what c is to have comes next.
    a.beat('t-0 t-1 t-2');
    expect([a.epoch, a.assigned]).toEqual([2, 't-0 t-1']);
    expect(c.beat().assigned).toBe('t-5');
    a.beat('t-0 t-1');
    expect([a.epoch, a.assigned]).toEqual([3, 't-0 t-1']);
    expect(c.beat().assigned).toBe('t-2 t-5');
  });

  it('leaves with epoch -1: what it had is free at once', () => {
    const [a, b] = two();
    expect(a.leave()).toMatchObject({ errorCode: null, memberId: 'a', memberEpoch: -1 });
    expect(b.beat().assigned).toBe('t-0 t-1 t-2 t-3');
    expect(a.ask()).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID' });
    b.leave();
    expect(coordinator.has('g')).toBe(false);
    expect(begun.at(-1)).toMatchObject({ generation: 4, isEmpty: true });
    expect(b.ask()).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID' });
    expect(b.join().epoch).toBe(5);
  });

  it('is gone when it has not been heard of in its session', async () => {
    const [a, b] = two();
    await clock.advance(40_000);
    b.beat();
    await clock.advance(5000);
    expect(b.beat().assigned).toBe('t-0 t-1 t-2 t-3');
    expect(a.ask()).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID', memberId: null });
    expect(a.join()).toMatchObject({ epoch: 4, assigned: '' });
  });

  it('is gone when it does not give up in time what it must', async () => {
    const a = new Member('a').join();
    const b = new Member('b').join();
    a.beat();
    for (let i = 0; i < 5; i++) {
      await clock.advance(10_000);
      a.beat('t-0 t-1 t-2 t-3');
      expect(b.beat().assigned).toBe('');
    }
    await clock.advance(10_000);
    expect(a.ask()).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID' });
    expect(b.beat().assigned).toBe('t-0 t-1 t-2 t-3');
  });

  it('is not gone when it gave up in time', async () => {
    const a = new Member('a').join();
    const b = new Member('b').join();
    a.beat();
    await clock.advance(30_000);
    b.beat();
    a.beat('t-0 t-1');
    await clock.advance(31_000);
    expect(a.beat().epoch).toBe(2);
  });

  it('may come from the epoch before, if it has nothing that it has not', () => {
    const a = new Member('a').join();
    new Member('b').join();
    a.beat().beat('t-0 t-1');
    expect(a.epoch).toBe(2);
    const late = (owned: TopicPartition[] | null): ConsumerHeartbeatAnswer =>
      a.ask({ memberEpoch: 1, owned });
    expect(late(null)).toMatchObject({ errorCode: 'FENCED_MEMBER_EPOCH' });
    expect(late(fromWords('t-0 t-2'))).toMatchObject({ errorCode: 'FENCED_MEMBER_EPOCH' });
    expect(late(fromWords('t-0'))).toMatchObject({ errorCode: null, memberEpoch: 2 });
  });

  it('is fenced in any other epoch, and joins again', () => {
    const [a] = two();
    for (const memberEpoch of [7, 1]) {
      const answer = a.ask({ memberEpoch });
      expect(answer).toMatchObject({ errorCode: 'FENCED_MEMBER_EPOCH', memberEpoch: 0 });
      expect(answer.errorMessage).toContain('epoch 2');
    }
    expect(a.join()).toMatchObject({ epoch: 2, assigned: 't-0 t-1' });
    expect(begun).toHaveLength(2);
  });

  it('changes its topics as it goes', () => {
    const a = new Member('a').join();
    expect(a.beat('', { topics: ['u'] }).assigned).toBe('u-0 u-1');
    a.beat('u-0 u-1', { topics: ['u'] });
    expect(begun).toHaveLength(2);
  });

  it('reads topics by their names as a pattern has them', () => {
    counts.set('tt', 1);
    const a = new Member('a').join({ topics: null, pattern: 't+' });
    expect(a.assigned).toBe('t-0 t-1 t-2 t-3 tt-0');
    counts.set('ttt', 1);
    coordinator.topicsChanged();
    expect(a.beat().assigned).toBe('t-0 t-1 t-2 t-3 tt-0 ttt-0');
    expect(coordinator.subscriptions('g')).toEqual(new Set(['t', 'tt', 'ttt']));
    // With names beside it; then without it.
    expect(a.beat('', { topics: ['u'] }).assigned).toBe('t-0 t-1 t-2 t-3 tt-0 ttt-0 u-0 u-1');
    expect(a.beat('', { pattern: '' }).assigned).toBe('u-0 u-1');
    expect(a.ask({ pattern: '(' })).toMatchObject({ errorCode: 'INVALID_REGULAR_EXPRESSION' });
  });

  it('is refused where the group is full', () => {
    coordinator.limits = { ...defaultGroupLimits, maxGroupSize: 1 };
    const a = new Member('a').join();
    const b = new Member('b');
    expect(b.asksToJoin()).toMatchObject({ errorCode: 'GROUP_MAX_SIZE_REACHED' });
    a.join().beat();
    a.leave();
    b.join();
  });
});

describe('A static member', () => {
  const one = { instanceId: 'one' };

  it('that leaves with epoch -2 has its place kept', () => {
    const a = new Member('a', one).join();
    const b = new Member('b').join();
    a.beat().beat('t-0 t-1');
    b.beat();
    expect(a.leave(-2)).toMatchObject({ errorCode: null, memberId: 'a', memberEpoch: -2 });
    expect(b.beat()).toMatchObject({ epoch: 2, assigned: 't-2 t-3' });
    const again = new Member('again', one).join();
    expect(again).toMatchObject({ epoch: 2, assigned: 't-0 t-1' });
    expect(begun).toHaveLength(2);
    expect(a.ask()).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID' });
    expect(a.ask(one)).toMatchObject({ errorCode: 'FENCED_INSTANCE_ID' });
    expect(stateOf()).toBe('Stable');
  });

  it('is gone when it does not come back in its session', async () => {
    const a = new Member('a', one).join();
    a.leave(-2);
    const b = new Member('b').join();
    expect(b.assigned).toBe('');
    await clock.advance(30_000);
    b.beat();
    await clock.advance(15_000);
    expect(b.beat().assigned).toBe('t-0 t-1 t-2 t-3');
    expect(new Member('again', one).join()).toMatchObject({ assigned: '' });
  });

  it('comes back with other topics', () => {
    const a = new Member('a', one).join();
    a.leave(-2);
    const again = new Member('again', one).join({ topics: ['t', 'u'] });
    expect(again).toMatchObject({ epoch: 2, assigned: 't-0 t-1 t-2 t-3 u-0 u-1' });
  });

  it('waits until its instance is free', () => {
    const a = new Member('a', one).join();
    const again = new Member('again', one);
    expect(again.asksToJoin()).toMatchObject({ errorCode: 'UNRELEASED_INSTANCE_ID' });
    // It is the same one, which has been fenced.
    a.join();
    a.leave(-1);
    expect(again.join().assigned).toBe('t-0 t-1 t-2 t-3');
  });

  it('frees what it was giving up when it leaves for a moment', () => {
    const a = new Member('a', one).join();
    const b = new Member('b').join();
    a.beat();
    a.leave(-2);
    expect(b.beat().assigned).toBe('t-2 t-3');
  });

  it('may become another instance', () => {
    const a = new Member('a', one).join();
    const b = new Member('b', { instanceId: 'two' }).join();
    a.beat().beat('t-0 t-1');
    b.beat();
    b.leave(-2);
    a.join({ instanceId: 'two' });
    expect(a).toMatchObject({ epoch: 3, assigned: 't-0 t-1 t-2 t-3' });
    expect(coordinator.describe('g')?.members).toHaveLength(1);
    a.beat();
    expect(new Member('c', one).join().epoch).toBe(4);
  });

  it('is not known by another name', () => {
    const a = new Member('a').join();
    expect(a.ask({ instanceId: 'nobody' })).toMatchObject({ errorCode: 'UNKNOWN_MEMBER_ID' });
    expect(a.ask({ memberEpoch: -2, instanceId: 'nobody' })).toMatchObject({
      errorCode: 'UNKNOWN_MEMBER_ID',
    });
  });
});

describe('A consumer group', () => {
  it('divides by the assignor that most ask for, else uniformly', () => {
    const both = { topics: ['t', 'u'] };
    const a = new Member('a', { ...both, assignor: 'range' }).join();
    expect(coordinator.describe('g')?.assignor).toBe('range');
    const b = new Member('b', both).join();
    expect(coordinator.describe('g')?.assignor).toBe('range');
    a.beat().beat('t-0 t-1 u-0');
    expect(b.beat().assigned).toBe('t-2 t-3 u-1');
    a.ask({ assignor: 'uniform' });
    expect(coordinator.describe('g')?.assignor).toBe('uniform');
    expect(begun).toHaveLength(3);
  });

  it('moves few partitions when another comes', () => {
    counts.set('t', 6);
    const [a, b] = [new Member('a').join(), new Member('b').join()];
    a.beat().beat('t-0 t-1 t-2');
    b.beat();
    const c = new Member('c').join();
    a.beat().beat('t-0 t-1');
    b.beat().beat('t-3 t-4');
    c.beat();
    const shares = [a, b, c].map(({ assigned }) => assigned);
    expect(shares).toEqual(['t-0 t-1', 't-3 t-4', 't-2 t-5']);
  });

  it('divides partitions that are added, and topics that are created', () => {
    const a = new Member('a').join({ topics: ['t', 'late'] });
    counts.set('t', 5);
    coordinator.topicsChanged();
    expect(a.beat()).toMatchObject({ epoch: 2, assigned: 't-0 t-1 t-2 t-3 t-4' });
    counts.set('late', 1);
    coordinator.topicsChanged();
    expect(a.beat().assigned).toBe('late-0 t-0 t-1 t-2 t-3 t-4');
    counts.set('nobody reads it', 1);
    coordinator.topicsChanged();
    expect(begun).toHaveLength(3);
  });

  it('takes what was deleted away', () => {
    const a = new Member('a').join({ topics: ['t', 'u'] });
    counts.delete('t');
    coordinator.topicsChanged();
    expect(a.beat().assigned).toBe('u-0 u-1');
    expect(stateOf()).toBe('Reconciling');
    a.beat('u-0 u-1');
    expect(stateOf()).toBe('Stable');
  });

  it('may have a member that reads nothing', () => {
    expect(new Member('a').join({ topics: [] }).assigned).toBe('');
    expect(stateOf()).toBe('Stable');
  });

  it('is described', () => {
    const [a] = two();
    new Member('c').join({ instanceId: 'i', rackId: 'r', topics: null, pattern: 't|u' });
    expect(coordinator.describeConsumers('g')).toMatchObject({
      state: 'Reconciling',
      epoch: 3,
      assignor: 'uniform',
      members: [
        { memberId: 'a', instanceId: null, epoch: 2, topics: ['t'], pattern: null },
        { memberId: 'b' },
        {
          memberId: 'c',
          instanceId: 'i',
          rackId: 'r',
          clientId: 'client',
          clientHost: '/127.0.0.1',
          epoch: 3,
          topics: [],
          pattern: 't|u',
          found: ['t', 'u'],
          assignment: [
            { topic: 'u', topicId: idOf('u'), partition: 0 },
            { topic: 'u', topicId: idOf('u'), partition: 1 },
          ],
        },
      ],
    });
    expect(coordinator.groupIds()).toEqual(['g']);
    expect(coordinator.describeInBytes('g')).toBeUndefined();
    expect(coordinator.describe('g')?.members[0]).toEqual({
      memberId: 'a',
      clientId: 'client',
      topics: ['t'],
      assignment: a.assigned.split(' ').map((word) => ({
        topic: 't',
        partition: Number(word.slice(2)),
      })),
    });
  });

  it('takes commits of its members, in their epochs', () => {
    const [a] = two();
    const check = (memberId: string, epoch: number, isTransactional = false): string | null =>
      coordinator.checkCommit('g', { memberId, groupInstanceId: null }, epoch, isTransactional);
    expect(check('a', a.epoch)).toBeNull();
    expect(check('a', a.epoch - 1)).toBe('STALE_MEMBER_EPOCH');
    expect(check('nobody', a.epoch)).toBe('UNKNOWN_MEMBER_ID');
    expect(check('', -1)).toBe('UNKNOWN_MEMBER_ID');
    expect(check('a', a.epoch - 1, true)).toBe('ILLEGAL_GENERATION');
    expect(check('', -1, true)).toBeNull();
    expect(coordinator.checkFetch('g', null, -1)).toBeNull();
    expect(coordinator.checkFetch('g', 'a', a.epoch)).toBeNull();
    expect(coordinator.checkFetch('g', 'a', 9)).toBe('STALE_MEMBER_EPOCH');
    expect(coordinator.checkFetch('g', 'b2', 9)).toBe('UNKNOWN_MEMBER_ID');
    expect(coordinator.checkFetch('other', 'a', 9)).toBeNull();
  });

  it('has no timers once it is closed', async () => {
    const a = new Member('a').join();
    new Member('b').join();
    a.beat();
    coordinator.close();
    const before = begun.length;
    await clock.advance(1_000_000);
    expect(begun).toHaveLength(before);
  });
});

describe('A heartbeat is refused', () => {
  const member = new Member('a');

  it.each<[string, Partial<ConsumerHeartbeatRequest>]>([
    ['without a group', { groupId: '' }],
    ['with an empty instance', { instanceId: '' }],
    ['with an empty rack', { rackId: '' }],
    ['in an epoch that there is not', { memberEpoch: -3 }],
    ['without a member that goes on', { memberId: '', memberEpoch: 3 }],
    ['without a member that leaves', { memberId: '', memberEpoch: -1 }],
    ['without an instance that will be back', { memberEpoch: -2 }],
    ['that joins without a rebalance timeout', { rebalanceTimeoutMs: -1 }],
    ['that joins with partitions', { owned: fromWords('t-0') }],
    ['that joins without a word on partitions', { owned: null }],
    ['that joins without topics', { topics: null }],
  ])('%s', (_, request) => {
    const answer = member.asksToJoin(request);
    expect(answer).toMatchObject({ errorCode: 'INVALID_REQUEST', memberId: null, memberEpoch: 0 });
    expect(coordinator.has('g')).toBe(false);
  });

  it.each<[string, Partial<ConsumerHeartbeatRequest>]>([
    ['UNSUPPORTED_ASSIGNOR', { assignor: 'sticky' }],
    ['INVALID_GROUP_ID', { groupId: 'g'.repeat(2000) }],
    ['INVALID_REGULAR_EXPRESSION', { pattern: '[' }],
    ['UNKNOWN_MEMBER_ID', { memberEpoch: 4 }],
    ['UNKNOWN_MEMBER_ID', { memberEpoch: -1 }],
  ])('as %s', (errorCode, request) => {
    expect(member.asksToJoin(request)).toMatchObject({ errorCode });
    expect(coordinator.groupIds()).toEqual([]);
  });
});

describe('A group is of one type', () => {
  const classic = {
    groupId: 'g',
    memberId: '',
    groupInstanceId: null,
    clientId: 'client',
    clientHost: '',
    sessionTimeoutMs: 45_000,
    rebalanceTimeoutMs: 60_000,
    protocolType: 'consumer',
    protocols: protocolsOf(['range'], ['t']),
    requiresKnownMemberId: false,
    knowsSkipAssignment: true,
  };

  it('while it has members of the consumer protocol', async () => {
    const a = new Member('a').join();
    expect(await coordinator.joinGroup(classic)).toMatchObject({
      errorCode: 'INCONSISTENT_GROUP_PROTOCOL',
    });
    const native = new TestMember({ coordinator } as TestGroup, 'native');
    expect(() => coordinator.join('g', native)).toThrow('KIP-848');
    const identity = { memberId: 'a', groupInstanceId: null };
    expect(coordinator.heartbeat('g', identity, 1)).toBe('UNKNOWN_MEMBER_ID');
    expect(coordinator.leaveGroup('g', identity)).toBe('UNKNOWN_MEMBER_ID');
    expect(coordinator.typeOf('g')).toBe('consumer');
    a.leave();
    expect(coordinator.typeOf('g')).toBeUndefined();
    const joined = coordinator.joinGroup(classic);
    await clock.settle();
    expect(await joined).toMatchObject({ errorCode: null, generationId: 3 });
  });

  it('while it has members of the classic protocol', async () => {
    const joined = coordinator.joinGroup(classic);
    await clock.settle();
    const { memberId } = await joined;
    const a = new Member('a');
    expect(a.asksToJoin()).toMatchObject({ errorCode: 'GROUP_ID_NOT_FOUND' });
    expect(coordinator.typeOf('g')).toBe('classic');
    coordinator.leaveGroup('g', { memberId, groupInstanceId: null });
    await clock.settle();
    expect(a.join()).toMatchObject({ epoch: 3, assigned: 't-0 t-1 t-2 t-3' });
  });
});
