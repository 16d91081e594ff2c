import { describe, expect, it } from 'vitest';
import { defineTopic } from '../../src/index.js';
import { testOttla, VirtualClock } from '../../src/testing/index.js';
import { failureOf } from '../contract.js';

describe('VirtualClock', () => {
  it('stands still, and moves as far as it is told', async () => {
    const clock = new VirtualClock({ startMs: 5000 });
    expect([clock.now(), clock.monotonic()]).toEqual([5000, 0]);
    await clock.advance(250);
    expect([clock.now(), clock.monotonic()]).toEqual([5250, 250]);
  });

  it('runs each timer at its time, those of one time in the order in which they were made', async () => {
    const clock = new VirtualClock();
    const ran: [string, number][] = [];
    const note = (name: string) => () => void ran.push([name, clock.monotonic()]);
    clock.after(20, note('c'));
    clock.after(10, note('a'));
    clock.after(10, note('b'));
    clock.after(10, note('cancelled')).cancel();
    clock.after(10, () => clock.after(5, note('nested')));
    clock.after(31, note('later'));
    await clock.advance(30);
    expect(ran).toEqual([
      ['a', 10],
      ['b', 10],
      ['nested', 15],
      ['c', 20],
    ]);
    expect(clock.timerCount).toBe(1);
  });

  it('lets things settle between two timers', async () => {
    const clock = new VirtualClock();
    let beats = 0;
    const beat = async (): Promise<void> => {
      for (;;) {
        await clock.sleep(100);
        await new Promise<void>((resolve) => clock.soon(resolve));
        beats++;
      }
    };
    void beat();
    await clock.advance(1000);
    expect(beats).toBe(10);
  });

  it('runs until a promise settles, and settles as it does', async () => {
    const clock = new VirtualClock();
    const slept = clock.sleep(90_000).then(() => clock.sleep(10_000));
    await clock.runUntil(slept);
    expect(clock.monotonic()).toBe(100_000);
    const refused = Promise.reject(new RangeError('no'));
    expect(await failureOf(() => clock.runUntil(refused))).toBeInstanceOf(RangeError);
    expect(await clock.runUntil(Promise.resolve(7))).toBe(7);
    expect(clock.monotonic()).toBe(100_000);
  });

  it('says when no timer is left that could settle the promise', async () => {
    const clock = new VirtualClock();
    clock.after(10, () => undefined);
    const never = new Promise<void>(() => undefined);
    expect((await failureOf(() => clock.runUntil(never))).message).toBe(
      'runUntil: the promise is pending, and no timer is left to run',
    );
  });

  it('says so after a day, or as long as is told, where timers follow each other without end', async () => {
    const clock = new VirtualClock();
    const beat = (): void => void clock.after(60_000, beat);
    beat();
    const never = new Promise<void>(() => undefined);
    expect((await failureOf(() => clock.runUntil(never, 90_000))).message).toBe(
      'runUntil: the promise is pending, after 90000 ms of this clock',
    );
    expect(clock.monotonic()).toBe(60_000);
    expect((await failureOf(() => clock.runUntil(never))).message).toContain('after 86400000 ms');
    await clock.runUntil(clock.sleep(3_600_000), 3_600_000);
  });

  it('refuses to go back', async () => {
    const clock = new VirtualClock();
    expect(await failureOf(() => clock.runUntil(Promise.resolve(), -1))).toBeInstanceOf(RangeError);
    for (const ms of [-1, Number.NaN, '5' as unknown as number]) {
      expect(await failureOf(() => clock.advance(ms))).toBeInstanceOf(RangeError);
    }
    expect(() => new VirtualClock({ startMs: 0.5 })).toThrow(RangeError);
  });
});

describe('time in an Ottla', () => {
  it('is what records, linger and retention go by', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create('orders', { segmentBytes: 1024 * 1024, segmentMs: 60_000 });
    await ottla.topics.alter('orders', { retentionMs: 3_600_000 });
    const sent = ottla.producer({ lingerMs: 500 }).send('orders', { value: 'v' });
    const { timestamp } = await clock.runUntil(sent);
    expect([timestamp, clock.now()]).toEqual([1_700_000_000_000, 1_700_000_000_500]);
    await clock.advance(2 * 3_600_000);
    await ottla.producer().send('orders', { value: 'w' });
    await clock.advance(3_600_000);
    const { partitions } = await ottla.topics.describe('orders');
    expect(partitions[0]).toMatchObject({ logStartOffset: 1, highWatermark: 2 });
  });

  it('does not pass without end where a group waits for a partition that is paused', async (test) => {
    const { ottla, clock, errors } = testOttla(test);
    const numbers = defineTopic('numbers', { value: 'json' });
    await ottla.topics.create(numbers);
    await ottla.producer().send('numbers', { value: 'no number' });
    const consumer = ottla.consumer({ group: 'g', topics: [numbers] });
    const running = consumer.run({ eachRecord: () => undefined });
    const failure = await failureOf(() => clock.runUntil(ottla.idle()));
    expect(failure.message).toContain('the promise is pending, after');
    expect(errors).toMatchObject([{ code: 'INVALID_RECORD' }]);
    await consumer.stop();
    await running;
  });

  it('is what a stalled consumer loses its partitions by', async (test) => {
    const { ottla, clock, warnings } = testOttla(test);
    await ottla.topics.create('orders');
    const lost: unknown[] = [];
    const stalled = ottla.consumer({
      group: 'g',
      topics: ['orders'],
      onLost: (partitions) => void lost.push(...partitions),
    });
    await ottla.producer().send('orders', { value: 'v' });
    await stalled[Symbol.asyncIterator]().next();
    await clock.advance(6 * 60_000);
    expect(lost).toEqual([{ topic: 'orders', partition: 0 }]);
    expect(warnings).toHaveLength(2);
  });
});
