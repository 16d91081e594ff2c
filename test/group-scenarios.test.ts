import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Room } from './group-room.js';
import { withoutTest } from './named-tests.js';
import { protocolsOf, type WireMember } from './wire-member.js';

const unknown = { memberId: 'nobody', groupInstanceId: null };

it('has a test for each scenario, here or elsewhere', () => {
  const file = new URL('vectors/group-scenarios.json', import.meta.url);
  const { scenarios } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly scenarios: readonly { readonly id: string }[];
  };
  expect(withoutTest(scenarios.map(({ id }) => id))).toEqual([]);
});

it('g01: First member', async () => {
  const room = await Room.open();
  room.limit({ initialRebalanceDelayMs: 3000 });
  const a = room.member();
  const refused = await a.ask();
  expect(refused.answer).toMatchObject({ errorCode: 'MEMBER_ID_REQUIRED', generationId: -1 });
  a.memberId = refused.answer!.memberId;
  expect(a.memberId).toMatch(/^client-./);
  const joined = await a.ask();
  await room.clock.advance(2999);
  expect(joined.isAnswered).toBe(false);
  await room.clock.advance(1);
  expect(joined.answer).toMatchObject({
    errorCode: null,
    generationId: 1,
    leader: a.memberId,
    protocolType: 'consumer',
    protocolName: 'range',
    skipAssignment: false,
    members: [{ memberId: a.memberId, groupInstanceId: null }],
  });
  expect(joined.answer!.members[0]!.metadata).toEqual(protocolsOf(['range'], ['t'])[0]!.metadata);
  expect(room.state).toBe('CompletingRebalance');
  a.takeIn();
  const synced = await a.sync({ [a.memberId]: 'mine' });
  expect(String(synced.answer!.assignment)).toBe('mine');
  expect(room.state).toBe('Stable');
});

it('g02: Late comers during the first delay', async () => {
  const room = await Room.open();
  room.limit({ initialRebalanceDelayMs: 3000 });
  const members = [room.member(), room.member(), room.member()];
  const [a, b, late] = members as [WireMember, WireMember, WireMember];
  await a.join({ rebalanceTimeoutMs: 7000 });
  await room.clock.advance(1000);
  await b.join({ rebalanceTimeoutMs: 7000 });
  await room.clock.advance(2000);
  expect([a.joined!.isAnswered, b.joined!.isAnswered]).toEqual([false, false]);
  await late.join({ rebalanceTimeoutMs: 7000 });
  await room.clock.advance(3999);
  expect(a.joined!.isAnswered).toBe(false);
  await room.clock.advance(1);
  expect(members.map(({ joined }) => joined!.answer?.generationId)).toEqual([1, 1, 1]);
});

it('g03: Generation grows by one per rebalance', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  expect(a.generationId).toBe(1);
  await b.join();
  expect(a.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  await a.join();
  b.takeIn();
  expect([a.generationId, b.generationId]).toEqual([2, 2]);
  expect([a.joined!.answer!.leader, b.joined!.answer!.leader]).toEqual([a.memberId, a.memberId]);
  expect([a.joined!.answer!.members.length, b.joined!.answer!.members.length]).toEqual([2, 0]);
});

it('g04: Sync: follower first', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await a.join();
  b.takeIn();
  const follower = await b.sync();
  expect(follower.isAnswered).toBe(false);
  const leader = await a.sync({ [a.memberId]: 'for a', [b.memberId]: 'for b' });
  expect(String(leader.answer!.assignment)).toBe('for a');
  expect(String(follower.answer!.assignment)).toBe('for b');
});

it('g05: Sync: leader first', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await a.join();
  b.takeIn();
  await a.sync({ [a.memberId]: 'for a', [b.memberId]: 'for b' });
  expect(String((await b.sync()).answer!.assignment)).toBe('for b');
});

it('g06: Leader gives no assignment to B', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await a.join();
  b.takeIn();
  await a.sync({ [a.memberId]: 'for a' });
  const { answer } = await b.sync();
  expect(answer).toMatchObject({ errorCode: null });
  expect(answer!.assignment).toHaveLength(0);
});

it('g07: Sync is fenced', async () => {
  const room = await Room.open();
  const a = room.member();
  const elsewhere = room.member({ groupId: 'unknown' });
  elsewhere.memberId = 'nobody';
  expect((await elsewhere.sync()).answer!.errorCode).toBe('UNKNOWN_MEMBER_ID');
  await a.join();
  const stranger = room.member();
  stranger.memberId = 'nobody';
  expect((await stranger.sync({}, 1)).answer!.errorCode).toBe('UNKNOWN_MEMBER_ID');
  expect((await a.sync({}, 2)).answer!.errorCode).toBe('ILLEGAL_GENERATION');
  expect([room.state, room.generation]).toEqual(['CompletingRebalance', 1]);
  expect(room.memberIds).toEqual([a.memberId]);
});

it('g09: Session expiry', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await room.clock.advance(3000);
  expect(a.heartbeat()).toBeNull();
  await room.clock.advance(44_900);
  expect(room.memberIds).toEqual([a.memberId]);
  await room.clock.advance(100);
  expect(room.state).toBeUndefined();
  expect(room.generation).toBe(2);
  expect(a.heartbeat()).toBe('UNKNOWN_MEMBER_ID');
  await room.stable(b);
  const c = room.member();
  await c.join();
  await room.rebalance(b, c);
  await room.clock.advance(30_000);
  expect(b.heartbeat()).toBeNull();
  await room.clock.advance(15_000);
  expect([room.state, room.memberIds]).toEqual(['PreparingRebalance', [b.memberId]]);
  expect(c.heartbeat()).toBe('UNKNOWN_MEMBER_ID');
});

it('g10: Heartbeats keep the session', async () => {
  const room = await Room.open();
  const a = room.member();
  await room.stable(a);
  for (let i = 0; i < 10; i++) {
    await room.clock.advance(30_000);
    expect(a.heartbeat()).toBeNull();
  }
  expect(room.memberIds).toEqual([a.memberId]);
});

it('g11: A commit keeps the session too', async () => {
  const room = await Room.open();
  const a = room.member();
  await room.stable(a);
  for (let i = 0; i < 10; i++) {
    await room.clock.advance(30_000);
    expect(await a.commit(i)).toBeNull();
  }
  expect(room.memberIds).toEqual([a.memberId]);
});

it('g12: Heartbeat errors', async () => {
  const room = await Room.open();
  const { coordinator } = room.broker;
  expect(coordinator.heartbeat('unknown', unknown, 1)).toBe('UNKNOWN_MEMBER_ID');
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  expect(coordinator.heartbeat('g', unknown, 1)).toBe('UNKNOWN_MEMBER_ID');
  expect(a.heartbeat(2)).toBe('ILLEGAL_GENERATION');
  expect(a.heartbeat()).toBeNull();
  await b.join();
  expect(room.state).toBe('PreparingRebalance');
  expect(a.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  await a.join();
  expect(room.state).toBe('CompletingRebalance');
  expect(a.heartbeat()).toBeNull();
});

it('g13: Member does not rejoin in time', async () => {
  const room = await Room.open();
  const [a, b, c] = [room.member(), room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  await c.join();
  await a.join();
  for (let ms = 0; ms < 300_000; ms += 30_000) {
    expect(b.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
    await room.clock.advance(30_000);
  }
  expect(room.memberIds).toEqual([a.memberId, c.memberId].toSorted());
  for (const member of [a, c]) member.takeIn();
  expect([a.generationId, c.generationId]).toEqual([3, 3]);
  expect(b.heartbeat()).toBe('UNKNOWN_MEMBER_ID');
});

it('g15: Rejoin without change', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  const again = await b.join();
  expect(again.answer).toMatchObject({ errorCode: null, generationId: 2, leader: a.memberId });
  expect(room.state).toBe('Stable');
  const asked = await a.join();
  expect([asked.isAnswered, room.state]).toEqual([false, 'PreparingRebalance']);
  await b.join();
  expect(asked.answer!.generationId).toBe(3);
});

it('g16: Changed subscription', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  const asked = await b.join({ protocols: protocolsOf(['range'], ['t', 'u']) });
  expect([asked.isAnswered, room.state]).toEqual([false, 'PreparingRebalance']);
  expect(a.heartbeat()).toBe('REBALANCE_IN_PROGRESS');
  await a.join();
  expect([a.generationId, asked.answer!.generationId]).toEqual([3, 3]);
});

it('g17: No common protocol', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  const only = await b.join({ protocols: protocolsOf(['sticky'], ['t']) });
  expect(only.answer!.errorCode).toBe('INCONSISTENT_GROUP_PROTOCOL');
  const none = await b.join({ protocols: [] });
  expect(none.answer!.errorCode).toBe('INCONSISTENT_GROUP_PROTOCOL');
  const noType = await room.member({ groupId: 'h', protocolType: '' }).join();
  expect(noType.answer!.errorCode).toBe('INCONSISTENT_GROUP_PROTOCOL');
  const otherType = await b.join({ protocolType: 'connect' });
  expect(otherType.answer!.errorCode).toBe('INCONSISTENT_GROUP_PROTOCOL');
  expect([a.heartbeat(), room.generation]).toEqual([null, 1]);
  const both = await b.join({ protocols: protocolsOf(['sticky', 'range'], ['t']) });
  await a.join();
  expect(both.answer).toMatchObject({ errorCode: null, protocolName: 'range' });
});

it('g18: Leave', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  expect(a.leave()).toBeNull();
  expect([room.state, b.heartbeat()]).toEqual(['PreparingRebalance', 'REBALANCE_IN_PROGRESS']);
  await room.rebalance(b);
  expect([room.memberIds, room.generation]).toEqual([[b.memberId], 3]);
  expect(a.leave()).toBe('UNKNOWN_MEMBER_ID');
  expect(room.broker.coordinator.leaveGroup('g', unknown)).toBe('UNKNOWN_MEMBER_ID');
  expect(room.broker.coordinator.leaveGroup('unknown', unknown)).toBe('UNKNOWN_MEMBER_ID');
});

it('g19: Group size limit', async () => {
  const room = await Room.open();
  room.limit({ maxGroupSize: 2 });
  const [a, b, c] = [room.member(), room.member(), room.member()];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  expect((await c.join()).answer!.errorCode).toBe('GROUP_MAX_SIZE_REACHED');
  expect([a.heartbeat(), b.heartbeat(), room.generation]).toEqual([null, null, 2]);
  await a.join();
  await room.rebalance(b, a);
  expect(room.memberIds).toEqual([a.memberId, b.memberId].toSorted());
});

it('g20: Session timeout out of range', async () => {
  const room = await Room.open();
  for (const sessionTimeoutMs of [5999, 1_800_001]) {
    const { answer } = await room.member({ sessionTimeoutMs }).join();
    expect(answer!.errorCode).toBe('INVALID_SESSION_TIMEOUT');
  }
  for (const sessionTimeoutMs of [6000, 1_800_000]) {
    const groupId = `g${sessionTimeoutMs}`;
    const { answer } = await room.member({ sessionTimeoutMs, groupId }).join();
    expect(answer!.errorCode).toBeNull();
  }
  expect(room.state).toBeUndefined();
});

it('g22: Static member restarts with other topics', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member({ groupInstanceId: 'i2' })];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  const back = room.member({ groupInstanceId: 'i2' });
  const welcome = await back.join();
  expect(welcome.answer).toMatchObject({ errorCode: null, generationId: 2, leader: a.memberId });
  expect(back.memberId).not.toBe(b.memberId);
  expect(String((await back.sync()).answer!.assignment)).toBe(b.memberId);
  expect([room.state, room.generation, a.heartbeat()]).toEqual(['Stable', 2, null]);
  const changed = room.member({
    groupInstanceId: 'i2',
    protocols: protocolsOf(['range'], ['t', 'u']),
  });
  expect((await changed.join()).isAnswered).toBe(false);
  expect([room.state, a.heartbeat()]).toEqual(['PreparingRebalance', 'REBALANCE_IN_PROGRESS']);
});

it('g23: Static member leaves by closing / is gone for good', async () => {
  const room = await Room.open();
  const { coordinator } = room.broker;
  const [a, b] = [room.member(), room.member({ groupInstanceId: 'i2' })];
  await room.stable(a);
  await b.join();
  await room.rebalance(a, b);
  await room.clock.advance(30_000);
  expect(a.heartbeat()).toBeNull();
  await room.clock.advance(14_999);
  expect([room.state, room.memberIds.length]).toEqual(['Stable', 2]);
  await room.clock.advance(1);
  expect([room.state, room.memberIds]).toEqual(['PreparingRebalance', [a.memberId]]);
  const c = room.member({ groupInstanceId: 'i2' });
  await c.join();
  await room.rebalance(a, c);
  const identity = { memberId: '', groupInstanceId: 'i3' };
  expect(coordinator.leaveGroup('g', identity)).toBe('UNKNOWN_MEMBER_ID');
  const wrong = { memberId: a.memberId, groupInstanceId: 'i2' };
  expect(coordinator.leaveGroup('g', wrong)).toBe('FENCED_INSTANCE_ID');
  expect(room.state).toBe('Stable');
  expect(coordinator.leaveGroup('g', { memberId: '', groupInstanceId: 'i2' })).toBeNull();
  expect([room.state, room.memberIds]).toEqual(['PreparingRebalance', [a.memberId]]);
});

it('g24: Two processes with one instance id', async () => {
  const room = await Room.open();
  const [leader, a] = [room.member(), room.member({ groupInstanceId: 'i1' })];
  await room.stable(leader);
  const waiting = await a.join();
  const later = room.member({ groupInstanceId: 'i1' });
  await later.join();
  expect(waiting.answer!.errorCode).toBe('FENCED_INSTANCE_ID');
  await room.rebalance(leader, later);
  a.memberId = 'the earlier one';
  expect(a.heartbeat(2)).toBe('FENCED_INSTANCE_ID');
  expect((await a.ask()).answer!.errorCode).toBe('FENCED_INSTANCE_ID');
  expect((await a.sync({}, 2)).answer!.errorCode).toBe('FENCED_INSTANCE_ID');
  expect(await a.commit(1, { generationId: 2 })).toBe('FENCED_INSTANCE_ID');
  expect(later.heartbeat()).toBeNull();
});
