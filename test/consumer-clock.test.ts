import { expect, it } from 'vitest';
import { Ottla, type Consumer, type ConsumerOptions } from '../src/index.js';
import { committed, inOrder, Loop, numbers, owned, send, take, takeValues } from './consuming.js';
import { closedAfterEach, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { FaultInjector } from '../src/testing/index.js';

interface Setting {
  readonly clock: ManualClock;
  readonly ottla: Ottla;
  readonly warnings: string[];
  readonly consumerOf: (options?: Omit<ConsumerOptions, 'group' | 'topics'>) => Consumer<'orders'>;
}

const opened = closedAfterEach();
const p1 = { topic: 'orders', partition: 1 };
const fenced = { code: 'ILLEGAL_GENERATION', retriable: false };

async function setting(partitions: number, perPartition: number): Promise<Setting> {
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock }));
  const warnings: string[] = [];
  ottla.on('warning', (warning) => warnings.push(warning));
  await ottla.topics.create('orders', { partitions });
  for (let partition = 0; partition < partitions; partition++) {
    const values = numbers(perPartition).map((value) => `${partition}:${value}`);
    await send(ottla, 'orders', values, partition);
  }
  return {
    clock,
    ottla,
    warnings,
    consumerOf: (options = {}) =>
      ottla.consumer({ group: 'g', topics: ['orders'], assignor: inOrder, ...options }),
  };
}

it('commits what is marked at once, then at least 100 ms apart, one at a time', async () => {
  const { clock, ottla, consumerOf } = await setting(1, 10);
  const consumer = consumerOf();
  const records = consumer[Symbol.asyncIterator]();
  const next = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) await records.next();
    await clock.advance(0);
  };
  await next(3);
  expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  await next(2);
  await clock.advance(99);
  expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  await clock.advance(1);
  expect(await committed(ottla, 'g', 'orders')).toEqual([4]);
  await clock.advance(1000);
  await next(1);
  expect(await committed(ottla, 'g', 'orders')).toEqual([5]);
});

it('waits for no 100 ms when the loop waits for records', async () => {
  const { clock, ottla, consumerOf } = await setting(2, 2);
  const loop = new Loop(consumerOf());
  await clock.settle();
  expect(await committed(ottla, 'g', 'orders')).toEqual([2, 2]);
  await send(ottla, 'orders', ['more'], 1);
  await clock.settle();
  expect(await committed(ottla, 'g', 'orders')).toEqual([2, 3]);
  await ottla.idle();
  await loop.close();
});

it('hands out all records in order, however slow the clock says they are', async () => {
  const { ottla, clock } = await setting(3, 200);
  let steps = 0;
  Object.assign(clock, { monotonic: () => (steps += (steps * 7) % 11) + ++steps / 10 });
  const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollRecords: 7 });
  const seen = await takeValues(consumer, 600);
  for (const partition of [0, 1, 2]) {
    const mine = seen.filter((value) => value.startsWith(`${partition}:`));
    expect(mine).toEqual(numbers(200).map((value) => `${partition}:${value}`));
  }
});

it('takes a partition after revokeTimeoutMs from who does not finish, and fences it', async () => {
  const { clock, ottla, warnings, consumerOf } = await setting(2, 3);
  const one = consumerOf({ revokeTimeoutMs: 5000 });
  const two = consumerOf();
  for await (const { partition } of one) if (partition === 1) break;
  const records = one[Symbol.asyncIterator]();
  const inFlight = (await records.next()).value!;
  expect([inFlight.partition, inFlight.offset]).toEqual([1, 0]);
  await two.ready();
  await clock.advance(4999);
  expect(owned(two)).toEqual([]);
  await clock.advance(1);
  expect([owned(one), owned(two)]).toEqual([['orders-0'], ['orders-1']]);
  const before = await committed(ottla, 'g', 'orders');
  await expect(inFlight.commit()).rejects.toMatchObject(fenced);
  await expect(one.commit([{ ...p1, offset: 3 }])).rejects.toMatchObject(fenced);
  expect(await committed(ottla, 'g', 'orders')).toEqual(before);
  expect(await takeValues(two, 3)).toEqual(['1:0', '1:1', '1:2']);
  await one.commit();
  void records.next();
  await clock.advance(100);
  expect(await committed(ottla, 'g', 'orders')).toEqual([3, 2]);
  expect(warnings).toEqual([]);
});

it('fences a first stretch of owning for ever: A, B, then A again', async () => {
  const { clock, ottla, consumerOf } = await setting(2, 3);
  const one = consumerOf({ revokeTimeoutMs: 5000 });
  const records = one[Symbol.asyncIterator]();
  let stale = (await records.next()).value!;
  while (stale.partition !== 1) stale = (await records.next()).value!;
  const two = consumerOf();
  await two.ready();
  await clock.advance(5000);
  expect(owned(two)).toEqual(['orders-1']);
  await two.close();
  await one.ready();
  expect(owned(one)).toEqual(['orders-0', 'orders-1']);
  await expect(stale.commit()).rejects.toMatchObject(fenced);
  const again = (await records.next()).value!;
  expect([again.partition, again.offset]).toEqual([1, 0]);
  await expect(stale.commit()).rejects.toMatchObject(fenced);
  await again.commit();
  expect(await committed(ottla, 'g', 'orders')).toEqual([3, 1]);
});

it('goes on with what it still has after a loss', async () => {
  const { clock, consumerOf } = await setting(2, 2);
  const one = consumerOf({ revokeTimeoutMs: 100 });
  const records = one[Symbol.asyncIterator]();
  const seen = [await records.next(), await records.next(), await records.next()];
  expect(seen.map(({ value }) => String(value?.value))).toEqual(['0:0', '0:1', '1:0']);
  await consumerOf().ready();
  await clock.advance(100);
  await one.seekToBeginning();
  expect(String((await records.next()).value?.value)).toBe('0:0');
});

it('warns of a member that does not come back at half of maxPollIntervalMs, then expels it', async () => {
  const { clock, ottla, warnings, consumerOf } = await setting(2, 2);
  const one = consumerOf({ maxPollIntervalMs: 8000 });
  const records = one[Symbol.asyncIterator]();
  const inFlight = (await records.next()).value!;
  await clock.advance(3999);
  expect(warnings).toEqual([]);
  await clock.advance(1001);
  expect(warnings).toEqual([expect.stringMatching(/member ottla-.* of group g .*half/)]);
  await clock.advance(2999);
  expect(owned(one)).toHaveLength(2);
  await clock.advance(1001);
  expect(owned(one)).toEqual([]);
  expect(warnings[1]).toMatch(/member ottla-.* of group g .*8000 ms.*maxPollIntervalMs/);
  expect((await ottla.groups.describe('g')).members).toEqual([]);
  await expect(inFlight.commit()).rejects.toMatchObject(fenced);
  expect(await committed(ottla, 'g', 'orders')).toEqual([0, 0]);
});

it('gives the partitions of a member that does not come back to others, until it does', async () => {
  const { clock, consumerOf } = await setting(2, 2);
  const one = consumerOf({ maxPollIntervalMs: 8000 });
  const records = one[Symbol.asyncIterator]();
  await records.next();
  const two = new Loop(consumerOf({ maxPollIntervalMs: 8000 }));
  await clock.advance(100);
  expect(owned(one)).toEqual(['orders-0']);
  await clock.advance(9000);
  expect(owned(two.consumer)).toEqual(['orders-0', 'orders-1']);
  expect(two.values).toEqual(['1:0', '1:1', '0:0', '0:1']);
  const next = records.next();
  await clock.settle();
  expect([owned(one), owned(two.consumer)]).toEqual([['orders-1'], ['orders-0']]);
  await two.close();
  await one.close();
  expect(await next).toEqual({ value: undefined, done: true });
});

it('reads topics of its pattern that came while it was expelled, from their first record on', async () => {
  const { clock, ottla } = await setting(1, 0);
  const options = { group: 'g', topics: [/^orders/], from: 'latest' } as const;
  const consumer = ottla.consumer({ ...options, maxPollIntervalMs: 800 });
  await consumer.ready();
  await clock.advance(1000);
  await ottla.topics.create('orders-new');
  await send(ottla, 'orders-new', ['first']);
  expect(await takeValues(consumer, 1)).toEqual(['first']);
  await consumer.close();
});

it('begins behind a commit of the last owner that is still being written', async () => {
  const clock = new ManualClock();
  const faults = new FaultInjector();
  const ottla = opened(Ottla.memory({ clock, faults }));
  await ottla.topics.create('orders');
  await send(ottla, 'orders', numbers(5));
  const options = { group: 'g', topics: ['orders'], maxPollIntervalMs: 80_000 } as const;
  const one = ottla.consumer(options);
  const records = await take(one, 3);
  const gate = faults.hold('commit', { group: 'g' });
  const committing = records[2]!.commit();
  await clock.advance(90_000);
  const next = takeValues(ottla.consumer(options), 1);
  await clock.advance(1000);
  gate.open();
  await committing;
  expect(await next).toEqual(['3']);
  await one.close();
});

it('refuses a commit that waited for its turn while its partition was lost', async () => {
  const clock = new ManualClock();
  const faults = new FaultInjector();
  const ottla = opened(Ottla.memory({ clock, faults }));
  await ottla.topics.create('orders');
  await send(ottla, 'orders', numbers(5));
  const one = ottla.consumer({ group: 'g', topics: ['orders'], maxPollIntervalMs: 80_000 });
  const records = await take(one, 3);
  const gate = faults.hold('commit', { group: 'g' });
  const first = records[0]!.commit();
  const second = failureOf(() => records[2]!.commit());
  await clock.advance(90_000);
  gate.open();
  await first;
  expect(await second).toMatchObject(fenced);
  expect(await committed(ottla, 'g', 'orders')).toEqual([1]);
});

it('g40: loses all when it is expelled, keeps its position at a refused commit, and joins again by itself', async () => {
  const { clock, consumerOf } = await setting(1, 5);
  const told: string[] = [];
  const onLost = (lost: readonly unknown[]): void => void told.push(`lost ${lost.length}`);
  const onAssigned = (given: readonly unknown[]): void => void told.push(`given ${given.length}`);
  const one = consumerOf({ maxPollIntervalMs: 80_000, onLost, onAssigned });
  const records = await take(one, 3);
  await clock.advance(90_000);
  expect(told).toEqual(['given 1', 'lost 1']);
  await expect(records[2]!.commit()).rejects.toMatchObject(fenced);
  const again = await take(one, 1);
  expect(told).toEqual(['given 1', 'lost 1', 'given 1']);
  expect(again[0]!.offset).toBe(records[2]!.offset);
});

it('joins again at ready() as well', async () => {
  const { clock, consumerOf } = await setting(1, 2);
  const one = consumerOf({ maxPollIntervalMs: 8000 });
  await one.ready();
  await clock.advance(9000);
  expect(owned(one)).toEqual([]);
  await one.ready();
  expect(owned(one)).toEqual(['orders-0']);
});

it('does not expel a member that waits for records, nor one that works in time', async () => {
  const { clock, consumerOf, warnings } = await setting(2, 100);
  const waiting = new Loop(consumerOf({ maxPollIntervalMs: 1000 }));
  const working = consumerOf({ maxPollIntervalMs: 1000 });
  await working.ready();
  const records = working[Symbol.asyncIterator]();
  for (let i = 0; i < 50; i++) {
    await records.next();
    await clock.advance(450);
  }
  expect(owned(waiting.consumer)).toEqual(['orders-0']);
  expect(owned(working)).toEqual(['orders-1']);
  expect(warnings).toEqual([]);
  await waiting.close();
});

it('is not disturbed by the maxPollIntervalMs of a member that failed or closed', async () => {
  const { clock, ottla, warnings, consumerOf } = await setting(1, 1);
  const broken = consumerOf({ assignor: { name: 'x', assign: () => new Map([['y', [p1]]]) } });
  await expect(broken.ready()).rejects.toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
  const none = ottla.consumer({ group: 'none', topics: ['orders'], from: 'none' });
  await expect(none.ready()).rejects.toMatchObject({ code: 'NO_OFFSET_FOR_PARTITION' });
  expect((await ottla.groups.describe('none').catch(() => null))?.members).toBeUndefined();
  await none.close();
  const closed = consumerOf();
  await closed.ready();
  await closed.close();
  await clock.advance(1_000_000);
  expect(warnings).toEqual([]);
  await broken.close();
  expect(clock.timerCount).toBe(0);
});

it('leaves no timer behind', async () => {
  const { clock, ottla, consumerOf } = await setting(4, 50);
  const loops = [new Loop(consumerOf()), new Loop(consumerOf()), new Loop(consumerOf())];
  await clock.settle();
  await take(ottla.read('orders'), 10);
  await loops[1]!.close();
  await ottla.idle();
  await Promise.all(loops.map((loop) => loop.close()));
  await clock.settle();
  expect(clock.timerCount).toBe(0);
});

it('close() gives up after timeoutMs, and goes on all the same', async () => {
  const { clock, consumerOf } = await setting(1, 3);
  let finish!: () => void;
  const hook = new Promise<void>((resolve) => (finish = resolve));
  const consumer = consumerOf({ onRevoked: () => hook });
  await consumer.ready();
  const closing = failureOf(() => consumer.close({ timeoutMs: 1000 }));
  await clock.advance(1000);
  expect(await closing).toMatchObject({ code: 'REQUEST_TIMED_OUT', retriable: true });
  finish();
  await consumer.close();
  expect(consumer.assignment()).toEqual([]);
});

it('keeps the process alive while it waits for records, and at no other time', async () => {
  const { clock, consumerOf } = await setting(1, 2);
  const consumer = consumerOf();
  await consumer.ready();
  expect(clock.keepAliveCount).toBe(0);
  const records = consumer[Symbol.asyncIterator]();
  await records.next();
  await records.next();
  expect(clock.keepAliveCount).toBe(0);
  const waiting = records.next();
  await clock.settle();
  expect(clock.keepAliveCount).toBe(1);
  await consumer.close();
  await waiting;
  expect(clock.keepAliveCount).toBe(0);
});

it('is not ready when it is closed before it was assigned anything', async () => {
  const { consumerOf } = await setting(1, 2);
  const consumer = consumerOf();
  const ready = failureOf(() => consumer.ready());
  await consumer.close();
  expect(await ready).toMatchObject({ code: 'CLOSED' });
});
