import { expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { Room } from './group-room.js';
import { createTopic, Machine } from './machine.js';

const day = 86_400_000;

it('g25: Commit with an old generation', async () => {
  const room = await Room.open();
  const a = room.member();
  await room.stable(a);
  for (let i = 0; i < 2; i++) {
    await a.join();
    await room.rebalance(a);
  }
  expect(await a.commit(5)).toBeNull();
  expect(await a.commit(6, { generationId: 2 })).toBe('ILLEGAL_GENERATION');
  expect(await a.commit(7, { generationId: 4 })).toBe('ILLEGAL_GENERATION');
  expect([a.generationId, room.committed()]).toEqual([3, 5]);
});

it('g26: Commit of an unknown member', async () => {
  const room = await Room.open();
  const a = room.member();
  await room.stable(a);
  expect(await a.commit(5, { memberId: 'nobody' })).toBe('UNKNOWN_MEMBER_ID');
  expect(room.committed()).toBe(-1);
});

it('g27: Commit during a rebalance', async () => {
  const room = await Room.open();
  const [a, b] = [room.member(), room.member()];
  await room.stable(a);
  await b.join();
  expect(room.state).toBe('PreparingRebalance');
  expect(await a.commit(5)).toBeNull();
  await a.join();
  expect(room.state).toBe('CompletingRebalance');
  expect(await a.commit(6)).toBe('REBALANCE_IN_PROGRESS');
  expect(room.committed()).toBe(5);
});

it('g28: Commit without group membership', async () => {
  const room = await Room.open();
  const a = room.member();
  expect(await room.commit(1)).toEqual([null]);
  await room.stable(a);
  expect(await room.commit(2)).toEqual(['UNKNOWN_MEMBER_ID']);
  expect(room.committed()).toBe(1);
  a.leave();
  await room.clock.settle();
  expect(await room.commit(3)).toEqual([null]);
  expect(room.committed()).toBe(3);
});

it('g29: Offset metadata too large', async () => {
  const room = await Room.open();
  const metadata = ['x'.repeat(4097), 'x'.repeat(4096)];
  const results = await room.broker.groups.commit({
    groupId: 'g',
    memberId: '',
    groupInstanceId: null,
    generationId: -1,
    offsets: metadata.map((text, partition) => ({
      topic: 't',
      partition,
      offset: 7,
      leaderEpoch: -1,
      metadata: text,
    })),
  });
  expect(results).toEqual(['OFFSET_METADATA_TOO_LARGE', null]);
  expect([room.committed(0), room.committed(1)]).toEqual([-1, 7]);
});

it('g30: Fetch of committed offsets', async () => {
  const room = await Room.open();
  await room.commit(7);
  expect([room.committed(0), room.committed(1)]).toEqual([7, -1]);
  const all = room.broker.groups.allCommitted('g');
  expect(all).toMatchObject([{ topic: 't', partition: 0, offset: 7, metadata: '' }]);
  expect(room.broker.groups.allCommitted('unknown')).toEqual([]);
  expect(room.broker.groups.committed('unknown', { topic: 't', partition: 0 })).toBeUndefined();
});

it('g33: Transactional commit is fenced', async () => {
  const room = await Room.open();
  const { coordinator } = room.broker;
  const a = room.member({ groupInstanceId: 'i1' });
  await room.stable(a);
  const check = (memberId: string, generationId: number, groupInstanceId: string | null) =>
    coordinator.checkCommit('g', { memberId, groupInstanceId }, generationId, true);
  expect(check('nobody', 1, null)).toBe('UNKNOWN_MEMBER_ID');
  expect(check(a.memberId, 0, 'i1')).toBe('ILLEGAL_GENERATION');
  expect(check('another', 1, 'i1')).toBe('FENCED_INSTANCE_ID');
  expect(check(a.memberId, 1, 'i1')).toBeNull();
  expect(check('', -1, null)).toBeNull();
});

it('g34: Offset expiry: empty group', async () => {
  const room = await Room.open({ offsetsRetentionMs: 7 * day });
  const { groups } = room.broker;
  const [a, back] = [room.member({ sessionTimeoutMs: 1_800_000 }), room.member()];
  await room.stable(a);
  await a.commit(5);
  for (let ms = 0; ms < 8 * day; ms += day / 72) {
    await room.clock.advance(day / 72);
    expect(a.heartbeat()).toBeNull();
  }
  await groups.expire();
  expect(room.committed()).toBe(5);
  a.leave();
  await room.clock.settle();
  await room.clock.advance(7 * day - 1);
  await groups.expire();
  expect(room.committed()).toBe(5);
  await room.stable(back);
  await room.clock.advance(1);
  await groups.expire();
  expect(room.committed()).toBe(5);
  back.leave();
  await room.clock.settle();
  await room.clock.advance(7 * day - 1);
  await groups.expire();
  expect([room.committed(), [...groups.groupIds()]]).toEqual([5, ['g']]);
  await room.clock.advance(1);
  await groups.expire();
  expect([room.committed(), [...groups.groupIds()]]).toEqual([-1, []]);
});

it('g36: Offset expiry: no group protocol', async () => {
  const room = await Room.open({ offsetsRetentionMs: 7 * day });
  const { groups } = room.broker;
  await room.commit(5);
  await room.clock.advance(day);
  await room.commit(6, { topic: 'u' });
  await room.clock.advance(6 * day - 1);
  await groups.expire();
  expect([room.committed(), room.committed(0, 'u')]).toEqual([5, 6]);
  await room.clock.advance(1);
  await groups.expire();
  expect([room.committed(), room.committed(0, 'u')]).toEqual([-1, 6]);
  await room.clock.advance(day);
  await groups.expire();
  expect([...groups.groupIds()]).toEqual([]);
});

it('g37: Delete group and offsets', async () => {
  const room = await Room.open();
  const { groups } = room.broker;
  const a = room.member();
  await room.commit(1);
  await room.commit(2, { topic: 'u' });
  await room.stable(a);
  await expect(groups.delete('g')).rejects.toMatchObject({ code: 'NON_EMPTY_GROUP' });
  const [t, u] = ['t', 'u'].map((topic) => ({ topic, partition: 0 }));
  await expect(groups.deleteOffsets('g', [u!, t!])).rejects.toMatchObject({
    code: 'GROUP_SUBSCRIBED_TO_TOPIC',
  });
  await groups.deleteOffsets('g', [u!]);
  expect([room.committed(), room.committed(0, 'u')]).toEqual([1, -1]);
  a.leave();
  await room.clock.settle();
  await groups.delete('g');
  expect([room.committed(), [...groups.groupIds()]]).toEqual([-1, []]);
  await expect(groups.delete('g')).rejects.toMatchObject({ code: 'GROUP_ID_NOT_FOUND' });
  await expect(groups.deleteOffsets('g', [t!])).rejects.toMatchObject({
    code: 'GROUP_ID_NOT_FOUND',
  });
});

it('looks for expired offsets every ten minutes, and counts the time without members over restarts', async () => {
  const machine = new Machine();
  const open = (): Promise<Broker> => machine.open({ offsetsRetentionMs: day });
  const first = await open();
  first.groups.start();
  await createTopic(first, {}, 2);
  const room = new Room(first, machine.clock);
  const a = room.member({ sessionTimeoutMs: 1_800_000 });
  await room.stable(a);
  await a.commit(5);
  // The process is killed with a member in the group: that has none from the next start on.
  await first.groups.close();
  const second = await open();
  second.groups.start();
  await machine.clock.advance(day - 1);
  expect([...second.groups.groupIds()]).toEqual(['g']);
  await machine.clock.advance(600_000);
  expect([...second.groups.groupIds()]).toEqual([]);
  await second.close();
});
