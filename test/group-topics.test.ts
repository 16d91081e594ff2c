import { describe, expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import { OttlaError } from '../src/errors.js';
import { inOrder } from './consuming.js';
import { groupOf, TestGroup, type TestMember } from './group-member.js';

describe('topics', () => {
  it('that a group does not read leave it alone', async () => {
    const { group } = await groupOf('a');
    group.change('u', 5);
    group.change('u', undefined);
    await group.clock.settle();
    expect(group.generations).toEqual([1]);
  });

  it('that shrink to nothing are lost at once, and come back as added ones', async () => {
    const { group, members } = await groupOf('a', 'b');
    const [a, b] = members as [TestMember, TestMember];
    expect([...a.owned.values(), ...b.owned.values()].some(({ isAdded }) => isAdded)).toBe(false);
    group.change('t', undefined);
    expect([a.told.at(-1), b.told.at(-1)]).toEqual(['lost t-0', 'lost t-1']);
    group.change('t', 2);
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2, 3]);
    expect([...a.owned.values(), ...b.owned.values()].map(({ isAdded }) => isAdded)).toEqual([
      true,
      true,
    ]);
  });

  it('that grow give the new partitions out, as added ones, to whoever gets them later too', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    group.change('t', 4);
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2]);
    const added = (member: TestMember): string[] =>
      [...member.owned.values()]
        .filter(({ isAdded }) => isAdded)
        .map(({ partition }) => String(partition));
    expect(added(a)).toEqual(['2', '3']);
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    expect([b.places, added(b)]).toEqual([['t-1', 't-3'], ['3']]);
  });

  it('that grow in the turn of the first join are not added: all is new to the group', async () => {
    const group = new TestGroup();
    const a = group.member('a');
    group.join(a);
    group.change('t', 4);
    await group.clock.settle();
    expect(a.places).toHaveLength(4);
    expect([...a.owned.values()].some(({ isAdded }) => isAdded)).toBe(false);
  });

  it('that grew are forgotten as added ones once nobody in the group reads them', async () => {
    const group = new TestGroup();
    group.change('u', 1);
    const assignor = assignors.range;
    const reader = group.member('a', { assignor });
    const other = group.member('b', { assignor, topics: ['u'] });
    group.join(reader);
    group.join(other);
    await group.clock.settle();
    group.change('t', 3);
    await group.clock.settle();
    expect(reader.owned.get('t-2')?.isAdded).toBe(true);
    reader.leave();
    await group.clock.settle();
    const next = group.member('c', { assignor });
    group.join(next);
    await group.clock.settle();
    expect([...next.owned.values()].map(({ isAdded }) => isAdded)).toEqual([false, false, false]);
  });

  it('that go while they are given up are lost, once', async () => {
    const { group, members } = await groupOf('a');
    const a = members[0]!;
    a.releasesAtOnce = false;
    const b = group.member('b');
    group.join(b);
    await group.clock.settle();
    group.change('t', undefined);
    expect(a.told.at(-1)).toBe('lost t-0 t-1');
    a.release();
    await group.clock.settle();
    expect([a.places, b.places]).toEqual([[], []]);
    expect(await group.isSettled(b)).toBe(true);
    expect(group.clock.timerCount).toBe(0);
  });
});

describe('an assignor that fails', () => {
  it('dissolves the group: every member is told, loses all, and is settled', async () => {
    const group = new TestGroup();
    const cause = new Error('no idea');
    let isBroken = false;
    const assignor = {
      name: 'mine',
      assign: (input: Parameters<typeof inOrder.assign>[0]) => {
        if (isBroken) throw cause;
        return inOrder.assign(input);
      },
    };
    const [a, b] = [group.member('a', { assignor }), group.member('b', { assignor })];
    group.join(a);
    await group.clock.settle();
    a.releasesAtOnce = false;
    isBroken = true;
    group.join(b);
    const settled = group.coordinator.settled('g', 'b');
    await group.clock.settle();
    await settled;
    expect(a.told).toEqual(['granted t-0 t-1', 'lost t-0 t-1', 'failed']);
    expect(b.told.at(-1)).toBe('failed');
    for (const { failures } of [a, b]) {
      expect(failures).toHaveLength(1);
      expect(failures[0]).toBeInstanceOf(OttlaError);
      expect(failures[0]).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL', cause });
      expect(failures[0]!.message).toMatch(/group g: the assignor failed: Error: no idea/);
    }
    expect(group.coordinator.groupIds()).toEqual([]);
    expect(group.clock.timerCount).toBe(0);
  });

  it('gives members of this process the sticky target for cooperative-sticky', async () => {
    const group = new TestGroup();
    group.counts.set('t', 4);
    const assignor = assignors.cooperativeSticky;
    const [a, b] = [group.member('a', { assignor }), group.member('b', { assignor })];
    group.join(a);
    await group.clock.settle();
    group.join(b);
    await group.clock.settle();
    expect(group.generations).toEqual([1, 2]);
    expect([a.places.length, b.places.length]).toEqual([2, 2]);
    expect(group.coordinator.describe('g')?.assignor).toBe('cooperative-sticky');
  });
});
