import { describe, expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import { failureOf } from './contract.js';
import { groupOf, TestGroup, type TestMember } from './group-member.js';

describe('joining', () => {
  it('grants at the end of the turn, once for all joins in it', async () => {
    const group = new TestGroup();
    const [a, b] = [group.member('a'), group.member('b')];
    group.join(a);
    group.join(b);
    expect([a.told, b.told]).toEqual([[], []]);
    expect(group.coordinator.describe('g')?.state).toBe('PreparingRebalance');
    await group.clock.settle();
    expect([a.told, b.told]).toEqual([['granted t-0'], ['granted t-1']]);
    expect(group.generations).toEqual([1]);
    expect(group.coordinator.describe('g')).toEqual({
      state: 'Stable',
      generation: 1,
      assignor: 'in-order',
      members: [
        {
          memberId: 'a',
          clientId: 'test',
          topics: ['t'],
          assignment: [{ topic: 't', partition: 0 }],
        },
        {
          memberId: 'b',
          clientId: 'test',
          topics: ['t'],
          assignment: [{ topic: 't', partition: 1 }],
        },
      ],
    });
  });

  it('revokes only what moves, and grants it when it is released', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    expect(a.told).toEqual(['granted t-0 t-1', 'revoke t-1']);
    expect(group.coordinator.describe('g')?.state).toBe('CompletingRebalance');
    expect(group.ownerOf('t-1')).toBe('a');
    a.release();
    expect(b.told).toEqual(['granted t-1']);
    expect(group.ownerOf('t-1')).toBe('b');
    expect(group.coordinator.describe('g')?.state).toBe('Stable');
    expect(group.clock.timerCount).toBe(0);
  });

  it('gives nothing on until the next target is there', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    const [b, c] = [group.member('b'), group.member('c')];
    group.join(b);
    await group.clock.settle();
    group.join(c);
    a.release();
    expect([b.told, group.ownerOf('t-1')]).toEqual([[], null]);
    await group.clock.settle();
    expect([a.places, b.places, c.places]).toEqual([['t-0'], ['t-1'], []]);
  });

  it('continues the generations that are known', async () => {
    const group = new TestGroup({ lastGeneration: 41 });
    group.join(group.member('a'));
    await group.clock.settle();
    expect(group.generations).toEqual([42]);
  });

  it('is refused with another assignor, and disturbs nobody', async () => {
    const { group, members } = await groupOf('a');
    const other = group.member('b', { assignor: assignors.range });
    const failure = await failureOf(() => group.join(other));
    expect(failure).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
    await group.clock.settle();
    expect(group.generations).toEqual([1]);
    expect(members[0]!.places).toEqual(['t-0', 't-1']);
  });

  it('keeps a spare member, without a word to it', async () => {
    const { group, members } = await groupOf('a', 'b', 'c');
    expect(members[2]!.told).toEqual([]);
    expect(await group.isSettled(members[2]!)).toBe(true);
    members[0]!.leave();
    await group.clock.settle();
    expect(members[2]!.places).toEqual(['t-1']);
  });

  it('keeps groups apart', async () => {
    const { group, members } = await groupOf('a');
    group.counts.set('u', 1);
    const other = group.member('x', { topics: ['u'] });
    group.coordinator.join('h', other);
    await group.clock.settle();
    expect(members[0]!.places).toEqual(['t-0', 't-1']);
    expect(other.told).toEqual(['granted u-0']);
    expect(group.coordinator.groupIds()).toEqual(['g', 'h']);
    expect(group.coordinator.subscriptions('h')).toEqual(new Set(['u']));
    expect(group.coordinator.subscriptions('unknown')).toEqual(new Set());
    expect(group.coordinator.describe('unknown')).toBeUndefined();
  });
});

describe('leaving', () => {
  it('frees what was owned at once; a second time, or of a stranger, is nothing', async () => {
    const { group, members } = await groupOf('a', 'b');
    members[0]!.leave();
    expect(group.ownerOf('t-0')).toBeNull();
    members[0]!.leave();
    group.coordinator.leave('g', 'nobody');
    group.coordinator.leave('h', 'a');
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2, 3]);
    expect(members[1]!.places).toEqual(['t-0', 't-1']);
    expect(members[0]!.told.at(-1)).not.toMatch(/lost/);
  });

  it('forgets a group with its last member, once its generation is counted', async () => {
    const { group, members } = await groupOf('a');
    members[0]!.leave();
    expect(group.coordinator.groupIds()).toEqual([]);
    expect(group.coordinator.describe('g')).toBeUndefined();
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2]);
    const sticky = group.member('b', { assignor: assignors.sticky });
    group.join(sticky);
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2, 3]);
    expect(sticky.places).toEqual(['t-0', 't-1']);
  });

  it('in the turn in which another joins makes one generation', async () => {
    const { group, members } = await groupOf('a');
    const b = group.member('b', { assignor: assignors.range });
    members[0]!.leave();
    group.join(b);
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2]);
    expect(b.places).toEqual(['t-0', 't-1']);
  });

  it('while it gives something up ends that, and its timer', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    a.leave();
    await group.clock.settle();
    expect(b.places).toEqual(['t-0', 't-1']);
    expect(group.clock.timerCount).toBe(0);
  });

  it('by force takes all at once, and tells', async () => {
    const { group, members } = await groupOf('a', 'b');
    const [a, b] = members as [TestMember, TestMember];
    const ownership = a.owned.get('t-0')!;
    expect(group.coordinator.owns('g', ownership)).toBe(true);
    group.coordinator.expel('g', 'a');
    expect(a.told.at(-1)).toBe('lost t-0');
    expect(group.coordinator.owns('g', ownership)).toBe(false);
    await group.clock.settle();
    expect(b.places).toEqual(['t-0', 't-1']);
    expect(group.coordinator.owns('g', ownership)).toBe(false);
    group.coordinator.released('g', [ownership]);
    expect(b.places).toEqual(['t-0', 't-1']);
  });
});

describe('a member that does not release', () => {
  it('loses what it was asked for after its revokeTimeoutMs, and nothing else', async () => {
    const group = new TestGroup();
    const slow = group.member('a', { revokeTimeoutMs: 1000 });
    slow.releasesAtOnce = false;
    group.join(slow);
    await group.clock.settle();
    const b = group.member('b');
    group.join(b);
    await group.clock.advance(999);
    expect(b.told).toEqual([]);
    await group.clock.advance(1);
    expect(slow.told.at(-1)).toBe('lost t-1');
    expect([slow.places, b.places]).toEqual([['t-0'], ['t-1']]);
    slow.release();
    expect([slow.places, b.places]).toEqual([['t-0'], ['t-1']]);
    expect(group.clock.timerCount).toBe(0);
  });

  it('may release part in time: the rest is lost', async () => {
    const group = new TestGroup();
    group.counts.set('t', 4);
    const slow = group.member('a', { revokeTimeoutMs: 1000 });
    slow.releasesAtOnce = false;
    group.join(slow);
    await group.clock.settle();
    group.join(group.member('b'));
    await group.clock.settle();
    const first = slow.owned.get('t-1')!;
    group.ends(first);
    slow.owned.delete('t-1');
    group.coordinator.released('g', [first]);
    await group.clock.advance(1000);
    expect(slow.told.at(-1)).toBe('lost t-3');
    expect(group.clock.timerCount).toBe(0);
  });

  it('is not asked again for what it is giving up already, nor sooner or later', async () => {
    const group = new TestGroup();
    group.counts.set('t', 3);
    const slow = group.member('a', { revokeTimeoutMs: 1000 });
    slow.releasesAtOnce = false;
    group.join(slow);
    await group.clock.settle();
    group.join(group.member('b'));
    await group.clock.advance(600);
    group.join(group.member('c'));
    await group.clock.advance(399);
    expect(slow.told).toEqual(['granted t-0 t-1 t-2', 'revoke t-1', 'revoke t-2']);
    await group.clock.advance(1);
    expect(slow.told.at(-1)).toBe('lost t-1');
    await group.clock.advance(599);
    expect(slow.places).toEqual(['t-0', 't-2']);
    await group.clock.advance(1);
    expect(slow.told.at(-1)).toBe('lost t-2');
  });

  it('gets back under a new number what falls to it again before it was released', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    const old = a.owned.get('t-1')!;
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    b.leave();
    await group.clock.settle();
    expect(a.told).toEqual(['granted t-0 t-1', 'revoke t-1']);
    a.release();
    expect(a.told.at(-1)).toBe('granted t-1');
    expect(group.coordinator.owns('g', old)).toBe(false);
    expect(group.coordinator.owns('g', a.owned.get('t-1')!)).toBe(true);
  });
});

describe('settled', () => {
  it('resolves when the member has all of its target', async () => {
    const { group, members } = await groupOf('a');
    members[0]!.releasesAtOnce = false;
    const b = group.member('b');
    group.join(b);
    expect(await group.isSettled(b)).toBe(false);
    await group.clock.settle();
    expect(await group.isSettled(b)).toBe(false);
    expect(await group.isSettled(members[0]!)).toBe(true);
    members[0]!.release();
    expect(await group.isSettled(b)).toBe(true);
  });

  it('does not wait for what waits for code of a user', async () => {
    const { group, members } = await groupOf('a');
    members[0]!.releasesAtOnce = false;
    members[0]!.isBusy = true;
    const b = group.member('b');
    group.join(b);
    const settled = group.coordinator.settled('g', 'b');
    await group.clock.settle();
    await settled;
    expect(b.places).toEqual([]);
  });

  it('waits for itself as little as for others', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    a.isBusy = true;
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    b.leave();
    await group.clock.settle();
    expect(a.isLeaving).toBe(true);
    expect(await group.isSettled(a)).toBe(true);
  });

  it('resolves for a member that leaves, is expelled, or is not there', async () => {
    const { group, members } = await groupOf('a');
    members[0]!.releasesAtOnce = false;
    const [b, c] = [group.member('b'), group.member('c')];
    group.join(b);
    group.join(c);
    const settled = [group.coordinator.settled('g', 'b'), group.coordinator.settled('g', 'c')];
    await group.clock.settle();
    b.leave();
    group.coordinator.expel('g', 'c');
    await Promise.all(settled);
    await group.coordinator.settled('g', 'nobody');
    await group.coordinator.settled('h', 'a');
    expect(group.coordinator.describe('g')?.members).toHaveLength(1);
  });
});
