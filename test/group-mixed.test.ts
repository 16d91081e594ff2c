import { expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import { decodeAssignment, encodeSubscription } from '../src/group-protocol.js';
import type { JoinGroupRequest } from '../src/group-remote.js';
import { inOrder } from './consuming.js';
import { failureOf } from './contract.js';
import { keyOf, TestGroup, type TestMember } from './group-member.js';
import { Room } from './group-room.js';
import { protocolsOf, WireMember } from './wire-member.js';

function remote(group: TestGroup, request: Partial<JoinGroupRequest> = {}): WireMember {
  const protocols = protocolsOf([inOrder.name], ['t']);
  return new WireMember(group, group.clock, { protocols, ...request });
}

/** What its last sync gave it. */
function given({ synced }: WireMember): string[] {
  return decodeAssignment(synced!.answer!.assignment)!.map(keyOf);
}

async function native(group: TestGroup, memberId: string): Promise<TestMember> {
  const member = group.member(memberId);
  group.join(member);
  await group.clock.settle();
  return member;
}

it('is led by the coordinator, which answers when members here have given up what moves', async () => {
  const group = new TestGroup();
  const a = await native(group, 'a');
  a.releasesAtOnce = false;
  const z = remote(group);
  const joined = await z.join();
  expect(joined.answer).toMatchObject({
    errorCode: null,
    generationId: 2,
    leader: 'a',
    members: [],
  });
  const synced = await z.sync();
  expect(synced.isAnswered).toBe(false);
  expect(group.coordinator.describeInBytes('g')!.state).toBe('CompletingRebalance');
  a.release();
  await group.clock.settle();
  expect(synced.answer).toMatchObject({ errorCode: null, protocolName: inOrder.name });
  expect([a.places, given(z)]).toEqual([['t-0'], ['t-1']]);
  const described = group.coordinator.describe('g')!;
  expect(described.state).toBe('Stable');
  expect(
    described.members.map(({ memberId, topics, assignment }) => [
      memberId,
      topics,
      assignment.map(keyOf),
    ]),
  ).toEqual([
    ['a', ['t'], ['t-0']],
    [z.memberId, ['t'], ['t-1']],
  ]);
  const [first] = group.coordinator.describeInBytes('g')!.members;
  expect(decodeAssignment(first!.assignment)!.map(keyOf)).toEqual(['t-0']);
});

it('asks members elsewhere to join again when one here comes or goes, or topics grow', async () => {
  const group = new TestGroup();
  const z = remote(group);
  await z.join();
  await z.sync({ [z.memberId]: '' });
  const a = await native(group, 'a');
  expect([z.heartbeat(), a.places]).toEqual(['REBALANCE_IN_PROGRESS', []]);
  await z.join();
  await z.sync();
  expect([a.places, given(z)]).toEqual([['t-0'], ['t-1']]);
  group.change('t', 4);
  await group.clock.settle();
  expect(z.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  await z.join();
  await z.sync();
  expect([a.places, given(z)]).toEqual([
    ['t-0', 't-2'],
    ['t-1', 't-3'],
  ]);
  a.leave();
  await group.clock.settle();
  expect(z.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  await z.join();
  expect(z.isLeader).toBe(true);
});

it('gives everything to members here when the others are not heard of', async () => {
  const group = new TestGroup();
  const a = await native(group, 'a');
  const z = remote(group);
  await z.join();
  await z.sync();
  await group.clock.advance(45_000);
  expect(a.places).toEqual(['t-0', 't-1']);
  expect(z.heartbeat()).toBe('UNKNOWN_MEMBER_ID');
});

it('takes only members who know the assignor, and whose words it can read', async () => {
  const group = new TestGroup();
  await native(group, 'a');
  const refused = { errorCode: 'INCONSISTENT_GROUP_PROTOCOL' };
  expect(
    (await remote(group, { protocols: protocolsOf(['range'], ['t']) }).join()).answer,
  ).toMatchObject(refused);
  const unreadable = [{ name: inOrder.name, metadata: Buffer.from('?') }];
  expect((await remote(group, { protocols: unreadable }).join()).answer).toMatchObject(refused);
  const other = new TestGroup();
  const z = remote(other, { protocols: unreadable });
  await z.join();
  const error = await failureOf(() => other.join(other.member('a')));
  expect(error).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
  const range = await failureOf(() => other.join(other.member('b', { assignor: assignors.range })));
  expect(range.message).toContain(`use assignor ${inOrder.name}, got range`);
});

it('withholds what a member elsewhere still reads, and gives it out in the next generation', async () => {
  const group = new TestGroup();
  const assignor = assignors.cooperativeSticky;
  const z = remote(group, { protocols: protocolsOf([assignor.name], ['t']) });
  await z.join();
  await z.sync();
  const a = group.member('a', { assignor });
  group.join(a);
  await group.clock.settle();
  const owning = (partitions: number[], generation: number) => [
    {
      name: assignor.name,
      metadata: encodeSubscription({
        topics: ['t'],
        userData: null,
        owned: partitions.map((partition) => ({ topic: 't', partition })),
        generation,
      }),
    },
  ];
  await z.join({ protocols: owning([0, 1], 1) });
  await z.sync();
  expect([given(z).length, a.places]).toEqual([1, []]);
  expect(z.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  const kept = Number(given(z)[0]!.slice(-1));
  await z.join({ protocols: owning([kept], 2) });
  await z.sync();
  expect([given(z), a.places]).toEqual([[`t-${kept}`], [`t-${1 - kept}`]]);
  expect(z.heartbeat()).toBeNull();
});

it('lets a static member elsewhere restart without moving anything', async () => {
  const group = new TestGroup();
  const a = await native(group, 'a');
  const z = remote(group, { groupInstanceId: 'i' });
  await z.join();
  await z.sync();
  const back = remote(group, { groupInstanceId: 'i' });
  expect((await back.join()).answer).toMatchObject({ errorCode: null, generationId: 2 });
  await back.sync();
  expect([given(back), a.places, group.generations]).toEqual([['t-1'], ['t-0'], [1, 2]]);
  expect(z.heartbeat()).toBe('FENCED_INSTANCE_ID');
});

it('counts a session as over only when the loop has polled since', async () => {
  const room = await Room.open();
  const a = room.member();
  await room.stable(a);
  // What arrived while the process was busy is read right after the timers that are due.
  const soon = room.clock.soon.bind(room.clock);
  Object.assign(room.clock, { soon: (run: () => void) => soon(() => (a.heartbeat(), run())) });
  await room.clock.advance(45_000);
  expect(room.memberIds).toEqual([a.memberId]);
  Object.assign(room.clock, { soon });
  await room.clock.advance(45_000);
  expect(room.memberIds).toEqual([]);
});

it('answers whoever waits when it closes', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  const waiting = await b.join();
  await room.broker.close();
  await room.clock.settle();
  expect(waiting.answer!.errorCode).toBe('COORDINATOR_NOT_AVAILABLE');
  expect(room.clock.timerCount).toBe(0);
});

it('removes members that have joined and do not ask for their assignment', async () => {
  const room = await Room.open();
  const rebalanceTimeoutMs = 20_000;
  const [a, b] = [room.member({ rebalanceTimeoutMs }), room.member({ rebalanceTimeoutMs })];
  await a.join();
  await b.join();
  await a.join();
  b.takeIn();
  await a.sync();
  await room.clock.advance(19_999);
  expect([a.heartbeat(), b.heartbeat()]).toEqual([null, null]);
  await room.clock.advance(1);
  expect(b.heartbeat()).toBe('UNKNOWN_MEMBER_ID');
  expect(a.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
});

it('forgets an id that nobody has joined with', async () => {
  const room = await Room.open();
  const a = room.member();
  const refused = await a.ask();
  expect(room.state).toBe('Empty');
  await room.clock.advance(45_000);
  expect(room.state).toBeUndefined();
  const { answer } = await a.ask({ memberId: refused.answer!.memberId });
  expect(answer!.errorCode).toBe('UNKNOWN_MEMBER_ID');
});

it('refuses ids of groups that cannot be one', async () => {
  const room = await Room.open();
  for (const groupId of ['', 'g'.repeat(1025)]) {
    const member = room.member({ groupId });
    expect((await member.ask()).answer!.errorCode).toBe('INVALID_GROUP_ID');
    expect((await member.sync()).answer!.errorCode).toBe('INVALID_GROUP_ID');
    expect([member.heartbeat(), member.leave()]).toEqual(['INVALID_GROUP_ID', 'INVALID_GROUP_ID']);
    expect(await member.commit(1)).toBe('INVALID_GROUP_ID');
  }
});
