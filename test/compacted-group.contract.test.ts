import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { defineTopic, type From, type Ottla, type ResetTo } from '../src/index.js';
import { committed, take } from './consuming.js';
import { collect, describeContract } from './contract.js';

const users = defineTopic('users', {
  cleanupPolicy: 'compact',
  minCleanableDirtyRatio: 0,
  segmentBytes: 4096,
  key: 'string',
  value: 'string',
});
const at = { topic: 'users', partition: 0 };
const end = 60;

/**
 * A log of 60 records of which compaction has left eight: one that nothing replaced, the latest of the others that
 * are sealed, and the active segment. Record i has the timestamp 1000 i.
 */
async function compacted(ottla: Ottla): Promise<number[]> {
  await ottla.topics.create(users);
  const producer = ottla.producer({ acks: 1 });
  for (let i = 0; i < end; i++) {
    const key = i === 30 ? 'once' : `k${i % 3}`;
    await producer.send(users, { key, value: 'x'.repeat(500), timestamp: 1000 * i });
  }
  for (;;) {
    const left = (await collect(ottla.read(users))).map(({ offset }) => offset);
    if (left.length === 8) return left;
    await turn();
  }
}

/** The offsets that a new group is given, until it has read all. */
async function given(ottla: Ottla, from: From, count: number): Promise<number[]> {
  const consumer = ottla.consumer({ group: 'g', topics: [users], from });
  const offsets = (await take(consumer, count)).map(({ offset }) => offset);
  await consumer.close();
  return offsets;
}

describeContract('a group on a compacted log', ({ open }) => {
  it.each<[string, From, number]>([
    ["'earliest'", 'earliest', 0],
    ['the time of a record that is gone', new Date(500), 1],
    ['the time of a later one that is gone', new Date(1000 * 20), 20],
    ['the time of one that is left', new Date(1000 * 58), 58],
    ['so long ago', { durationMs: 8e12 }, 0],
  ])('begins from %s with the first record that is left', async (_what, from, first) => {
    const ottla = await open();
    const left = (await compacted(ottla)).filter((offset) => offset >= first);
    expect(await given(ottla, from, left.length)).toEqual(left);
  });

  it.each<[string, ResetTo, number]>([
    ['an offset that is gone', { offset: 20 }, 20],
    ['the first', 'earliest', 0],
    ['one that is gone, by shifting', { shift: -40 }, 20],
  ])('goes on after a reset to %s with the next that is left', async (_what, to, first) => {
    const ottla = await open();
    const left = await compacted(ottla);
    const place = { topic: users, partitions: [0] };
    await ottla.groups.resetOffsets('g', { to: { offset: end }, ...place });
    expect(await ottla.groups.resetOffsets('g', { to, ...place })).toMatchObject([
      { committed: end, offset: first },
    ]);
    const next = left.filter((offset) => offset >= first);
    expect(await given(ottla, 'none', next.length)).toEqual(next);
  });

  it('goes on after seek() to what is gone with the next that is left, and commits behind it', async () => {
    const ottla = await open();
    const left = await compacted(ottla);
    const next = left.find((offset) => offset >= 20)!;
    const consumer = ottla.consumer({ group: 'g', topics: [users], from: 'latest' });
    await consumer.ready();
    await consumer.seek({ ...at, offset: 20 });
    expect(consumer.position(at)).toBe(20);
    const [record] = await take(consumer, 1);
    expect(record!.offset).toBe(next);
    await record!.commit();
    expect(await committed(ottla, 'g', 'users')).toEqual([next + 1]);
    await consumer.seek({ ...at, timestamp: 1000 * 20 });
    expect((await take(consumer, 1))[0]!.offset).toBe(next);
  });

  it('reads what it is assigned from a place that is gone, and has no lag at the end', async () => {
    const ottla = await open();
    const left = (await compacted(ottla)).filter((offset) => offset >= 20);
    const consumer = ottla.consumer({});
    consumer.assign([{ ...at, offset: 20 }]);
    const seen: number[] = [];
    for await (const { offset } of consumer) {
      seen.push(offset);
      if (consumer.lag()[0]!.lag === 0) break;
    }
    expect(seen).toEqual(left);
    await consumer.close();
    const running = ottla.consumer({ group: 'g', topics: [users] });
    const all = collect(running);
    await ottla.idle();
    expect(running.lag()).toEqual([{ ...at, lag: 0 }]);
    await running.close();
    expect((await all).map(({ offset }) => offset)).toEqual(left);
  });
});
