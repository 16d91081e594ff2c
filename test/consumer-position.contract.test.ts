import { describe, expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla } from '../src/index.js';
import { committed, inOrder, Loop, numbers, send, take, takeValues } from './consuming.js';
import { describeContract, failureOf } from './contract.js';

type Options = Omit<ConsumerOptions, 'group' | 'topics'>;

function consumerOf(ottla: Ottla, options: Options = {}): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], ...options });
}

const p0 = { topic: 'orders', partition: 0 };
const p1 = { topic: 'orders', partition: 1 };

async function openWith(
  open: () => Promise<Ottla>,
  values: readonly string[],
  partitions = 1,
): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions });
  await send(ottla, 'orders', values);
  return ottla;
}

describeContract('where a group begins', ({ open }) => {
  it('begins at the first record by default, and commits that', async () => {
    const ottla = await openWith(open, numbers(2), 2);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 0]);
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
  });

  it("begins with 'latest' at the end, and commits that", async () => {
    const ottla = await openWith(open, numbers(2), 2);
    const consumer = consumerOf(ottla, { from: 'latest' });
    await consumer.ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2, 0]);
    await send(ottla, 'orders', ['2']);
    expect(await takeValues(consumer, 1)).toEqual(['2']);
  });

  it('begins with a duration at the first record since then, as a reading does', async () => {
    const ottla = await openWith(open, []);
    const timestamp = Date.now() - 3_600_000;
    await ottla.producer().send('orders', { value: 'old', timestamp });
    await send(ottla, 'orders', ['new']);
    const from = { durationMs: 1_800_000 };
    expect(await takeValues(consumerOf(ottla, { from }), 1)).toEqual(['new']);
    expect(await takeValues(ottla.read('orders', { from }), 1)).toEqual(['new']);
    expect(await takeValues(ottla.read('orders', { from: { durationMs: 7_200_000 } }), 1)).toEqual([
      'old',
    ]);
    const wrong = { durationMs: -1 };
    expect(await failureOf(() => consumerOf(ottla, { from: wrong }))).toBeInstanceOf(TypeError);
    expect(await failureOf(() => ottla.read('orders', { from: wrong }))).toBeInstanceOf(TypeError);
  });

  it("misses with 'latest' nothing sent after ready(), though the group restarts before it read", async () => {
    const ottla = await openWith(open, numbers(2));
    const first = consumerOf(ottla, { from: 'latest', autoCommit: false });
    await first.ready();
    await send(ottla, 'orders', ['2']);
    await first.close();
    await send(ottla, 'orders', ['3']);
    expect(await takeValues(consumerOf(ottla, { from: 'latest' }), 2)).toEqual(['2', '3']);
  });

  it("misses with 'latest' nothing in a partition that was added after ready()", async () => {
    const ottla = await openWith(open, numbers(2));
    const consumer = consumerOf(ottla, { from: 'latest' });
    await consumer.ready();
    await ottla.topics.addPartitions('orders', 2);
    await send(ottla, 'orders', ['new'], 1);
    expect(await takeValues(consumer, 1)).toEqual(['new']);
  });

  it("misses with 'latest' nothing in a topic that was created anew after ready()", async () => {
    const ottla = await openWith(open, numbers(2));
    const consumer = consumerOf(ottla, { from: 'latest' });
    await consumer.ready();
    await ottla.topics.delete('orders');
    await ottla.topics.create('orders');
    await send(ottla, 'orders', ['new']);
    expect(await takeValues(consumer, 1)).toEqual(['new']);
  });

  it("fails with 'none' where nothing is committed", async () => {
    const ottla = await openWith(open, numbers(2));
    const consumer = consumerOf(ottla, { from: 'none' });
    const error = await failureOf(() => consumer.ready());
    expect(error).toMatchObject({ code: 'NO_OFFSET_FOR_PARTITION', retriable: false });
    expect(error.message).toMatch(/\bg\b.*orders-0/);
    await expect(take(consumer, 1)).rejects.toMatchObject({ code: 'NO_OFFSET_FOR_PARTITION' });
  });

  it("goes on with 'none' at what is committed", async () => {
    const ottla = await openWith(open, numbers(3));
    const first = consumerOf(ottla);
    await first.ready();
    await first.commit([{ ...p0, offset: 2 }]);
    await first.close();
    expect(await takeValues(consumerOf(ottla, { from: 'none' }), 1)).toEqual(['2']);
  });

  it('begins with a date at the first record of that time or later', async () => {
    const ottla = await openWith(open, [], 2);
    const producer = ottla.producer();
    const times = [1000, 3000, 2000, 4000];
    for (const timestamp of times) {
      await producer.send('orders', { value: String(timestamp), timestamp, partition: 0 });
    }
    const consumer = consumerOf(ottla, { from: new Date(2500) });
    await consumer.ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([1, 0]);
    expect(await takeValues(consumer, 3)).toEqual(['3000', '2000', '4000']);
  });

  it('begins with a date after all records at the end', async () => {
    const ottla = await openWith(open, numbers(2));
    const consumer = consumerOf(ottla, { from: new Date(Date.now() + 3_600_000) });
    await consumer.ready();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  });

  it('goes on at a commit, whatever `from` says', async () => {
    const ottla = await openWith(open, numbers(3));
    const first = consumerOf(ottla);
    await first.ready();
    await first.commit([{ ...p0, offset: 1 }]);
    await first.close();
    const second = consumerOf(ottla, { from: 'latest' });
    expect(await takeValues(second, 2)).toEqual(['1', '2']);
  });
});

describeContract('seek', ({ open }) => {
  it('goes on at an offset, forward and back', async () => {
    const ottla = await openWith(open, numbers(5));
    const consumer = consumerOf(ottla);
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
    await consumer.seek({ ...p0, offset: 4 });
    expect(consumer.position(p0)).toBe(4);
    expect(await takeValues(consumer, 1)).toEqual(['4']);
    await consumer.seek({ ...p0, offset: 1 });
    expect(await takeValues(consumer, 1)).toEqual(['1']);
  });

  it('forgets what was in flight: the record before is not marked', async () => {
    const ottla = await openWith(open, numbers(5));
    const consumer = consumerOf(ottla, { autoCommit: false });
    const seen: string[] = [];
    for await (const { value } of consumer) {
      seen.push(String(value));
      if (seen.length === 2) await consumer.seek({ ...p0, offset: 0 });
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(['0', '1', '0', '1']);
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([1]);
  });

  it('is what is committed next', async () => {
    const ottla = await openWith(open, numbers(5));
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await consumer.seek({ ...p0, offset: 3 });
    await consumer.close();
    expect(await committed(ottla, 'g', 'orders')).toEqual([3]);
  });

  it('wakes a loop that waits', async () => {
    const ottla = await openWith(open, numbers(2));
    const consumer = consumerOf(ottla);
    const loop = new Loop(consumer);
    await ottla.idle();
    await consumer.seek({ ...p0, offset: 1 });
    await ottla.idle();
    await loop.close();
    expect(loop.values).toEqual(['0', '1', '1']);
  });

  it('goes on at the first record of a time or later, or else at the end', async () => {
    const ottla = await openWith(open, []);
    const producer = ottla.producer();
    for (const timestamp of [1000, 2000, 3000]) {
      await producer.send('orders', { value: String(timestamp), timestamp });
    }
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await consumer.seek({ ...p0, timestamp: 1500 });
    expect(await takeValues(consumer, 1)).toEqual(['2000']);
    await consumer.seek({ ...p0, timestamp: 9000 });
    expect(consumer.position(p0)).toBe(3);
  });

  it('goes to the beginning and to the end, of all or of some', async () => {
    const ottla = await openWith(open, numbers(3), 2);
    await send(ottla, 'orders', numbers(2), 1);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await consumer.seekToEnd();
    expect([consumer.position(p0), consumer.position(p1)]).toEqual([3, 2]);
    await consumer.seekToBeginning([p1]);
    expect([consumer.position(p0), consumer.position(p1)]).toEqual([3, 0]);
    await consumer.seekToBeginning();
    await consumer.seekToEnd([p1]);
    expect([consumer.position(p0), consumer.position(p1)]).toEqual([0, 2]);
  });

  it('beyond the log goes on where `from` says, and warns', async () => {
    const ottla = await openWith(open, numbers(3));
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await consumer.seek({ ...p0, offset: 100 });
    expect(await takeValues(consumer, 1)).toEqual(['0']);
    expect(warnings).toEqual([expect.stringMatching(/orders-0.*100.*0 to 3/)]);
  });

  it("beyond the log fails with from 'none', and another seek mends it", async () => {
    const ottla = await openWith(open, numbers(3));
    const first = consumerOf(ottla);
    await first.ready();
    await first.close();
    const consumer = consumerOf(ottla, { from: 'none' });
    await consumer.ready();
    await consumer.seek({ ...p0, offset: 100 });
    await expect(take(consumer, 1)).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
    await consumer.seek({ ...p0, offset: 2 });
    expect(await takeValues(consumer, 1)).toEqual(['2']);
  });
});

describeContract('pause and resume', ({ open }) => {
  it('hands out nothing of a paused partition until it is resumed', async () => {
    const ottla = await openWith(open, numbers(3), 2);
    await send(ottla, 'orders', ['other'], 1);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    consumer.pause([p0]);
    const records = consumer[Symbol.asyncIterator]();
    expect(String((await records.next()).value?.value)).toBe('other');
    const waiting = records.next();
    await send(ottla, 'orders', ['more'], 1);
    expect(String((await waiting).value?.value)).toBe('more');
    const resumed = records.next();
    consumer.resume([p0]);
    expect(String((await resumed).value?.value)).toBe('0');
  });

  it('keeps back the rest of a run, and gives it once resumed', async () => {
    const ottla = await openWith(open, numbers(4), 2);
    const consumer = consumerOf(ottla);
    const records = consumer[Symbol.asyncIterator]();
    await records.next();
    await records.next();
    consumer.pause([p0]);
    expect(consumer.position(p0)).toBe(2);
    const waiting = records.next();
    await send(ottla, 'orders', ['other'], 1);
    expect(String((await waiting).value?.value)).toBe('other');
    consumer.resume([p0]);
    expect(String((await records.next()).value?.value)).toBe('2');
    expect(String((await records.next()).value?.value)).toBe('3');
    await consumer.commit();
    expect(await committed(ottla, 'g', 'orders')).toEqual([3, 1]);
  });

  it('gives after break and resume the record that was not marked', async () => {
    const ottla = await openWith(open, numbers(4));
    const consumer = consumerOf(ottla);
    expect(await takeValues(consumer, 2)).toEqual(['0', '1']);
    consumer.pause([p0]);
    consumer.resume([p0]);
    expect(await takeValues(consumer, 3)).toEqual(['1', '2', '3']);
  });

  it.each(['records', 'batches'])('holds back what break leaves unmarked: %s', async (what) => {
    const ottla = await openWith(open, numbers(4), 2);
    const consumer = consumerOf(ottla);
    for await (const _ of what === 'records' ? consumer : consumer.batches()) {
      consumer.pause([p0]);
      break;
    }
    await send(ottla, 'orders', ['other'], 1);
    expect(await takeValues(consumer, 1)).toEqual(['other']);
    consumer.resume([p0]);
    const both = ['0', '1', '2', '3', 'other'];
    expect((await takeValues(consumer, 5)).toSorted()).toEqual(both);
  });

  it('hands out nothing that was read ahead from files', async () => {
    const ottla = await openWith(open, [], 2);
    const big = 'x'.repeat(100_000);
    for (const partition of [0, 1]) {
      const values = Array.from({ length: 30 }, (_, i) => `${i}${big}`);
      await send(ottla, 'orders', values, partition);
    }
    const consumer = consumerOf(ottla, { maxPollRecords: 1 });
    const records = consumer[Symbol.asyncIterator]();
    const first = (await records.next()).value!.partition;
    const other = 1 - first;
    await records.next();
    consumer.pause([{ topic: 'orders', partition: other }]);
    for (let i = 2; i < 30; i++) expect((await records.next()).value?.partition).toBe(first);
    const waiting = records.next();
    consumer.resume([{ topic: 'orders', partition: other }]);
    for (let i = 0; i < 30; i++) {
      const { value } = await (i === 0 ? waiting : records.next());
      expect(value).toMatchObject({ partition: other, offset: i });
    }
  });

  it('holds over break and over seek', async () => {
    const ottla = await openWith(open, numbers(3), 2);
    await send(ottla, 'orders', ['other'], 1);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    consumer.pause([p0]);
    await take(consumer, 1);
    await consumer.seek({ ...p0, offset: 1 });
    expect(await takeValues(consumer, 1)).toEqual(['other']);
    consumer.resume([p0]);
    expect(new Set(await takeValues(consumer, 3))).toEqual(new Set(['1', '2', 'other']));
  });

  it('holds over a rebalance for what stays, and not for what goes and comes back', async () => {
    const ottla = await openWith(open, numbers(1), 2);
    await send(ottla, 'orders', ['other'], 1);
    const consumer = consumerOf(ottla, { assignor: inOrder });
    await consumer.ready();
    consumer.pause([p0, p1]);
    const second = consumerOf(ottla, { assignor: inOrder });
    await second.ready();
    expect(consumer.assignment()).toEqual([p0]);
    await second.close();
    await consumer.ready();
    const records = consumer[Symbol.asyncIterator]();
    expect(String((await records.next()).value?.value)).toBe('other');
    const waiting = records.next();
    consumer.resume([p0]);
    expect(String((await waiting).value?.value)).toBe('0');
  });
});

describeContract('position, lag, assignment', ({ open }) => {
  it('tell how far each partition is', async () => {
    const ottla = await openWith(open, numbers(5), 2);
    const consumer = consumerOf(ottla, { autoCommit: false });
    expect(consumer.assignment()).toEqual([]);
    expect(consumer.lag()).toEqual([]);
    await take(consumer, 3);
    expect(consumer.assignment()).toEqual([p0, p1]);
    expect(consumer.position(p0)).toBe(2);
    expect(consumer.lag()).toEqual([
      { ...p0, lag: 5 },
      { ...p1, lag: 0 },
    ]);
    await consumer.commit();
    expect(consumer.lag()[0]).toEqual({ ...p0, lag: 3 });
  });
});

describe('a consumer without a group', () => {
  describeContract('assign', ({ open }) => {
    it('reads what it was assigned, from the beginning or from an offset', async () => {
      const ottla = await openWith(open, numbers(5), 3);
      await send(ottla, 'orders', numbers(5, 10), 1);
      const consumer = ottla.consumer({});
      consumer.assign([p0, { ...p1, offset: 3 }]);
      await consumer.ready();
      expect(consumer.assignment()).toEqual([p0, p1]);
      const seen = await takeValues(consumer, 7);
      expect(seen.toSorted()).toEqual(['0', '1', '13', '14', '2', '3', '4']);
      expect(await ottla.groups.list()).toEqual([]);
    });

    it('refuses a partition that it is given twice', async () => {
      const ottla = await openWith(open, numbers(1));
      const consumer = ottla.consumer({});
      expect(() => consumer.assign([p0, { ...p0, offset: 1 }])).toThrow(/orders-0 twice/);
    });

    it("begins with from 'latest' at the end", async () => {
      const ottla = await openWith(open, numbers(5));
      const consumer = ottla.consumer({ from: 'latest' });
      consumer.assign([p0]);
      await consumer.ready();
      await send(ottla, 'orders', ['5']);
      expect(await takeValues(consumer, 1)).toEqual(['5']);
    });

    it('replaces what was assigned before, at once', async () => {
      const ottla = await openWith(open, numbers(3), 2);
      await send(ottla, 'orders', ['other'], 1);
      const consumer = ottla.consumer({ from: new Date(0) });
      consumer.assign([p0]);
      consumer.assign([{ ...p1, offset: 0 }]);
      await consumer.ready();
      expect(consumer.assignment()).toEqual([p1]);
      expect(await takeValues(consumer, 1)).toEqual(['other']);
      consumer.assign([p0]);
      expect(await takeValues(consumer, 1)).toEqual(['0']);
    });

    it('can be followed by seek at once', async () => {
      const ottla = await openWith(open, numbers(5));
      const consumer = ottla.consumer({});
      consumer.assign([p0]);
      await consumer.seek({ ...p0, offset: 3 });
      expect(await takeValues(consumer, 1)).toEqual(['3']);
    });

    it('has its lag from its position', async () => {
      const ottla = await openWith(open, numbers(5));
      const consumer = ottla.consumer({});
      consumer.assign([{ ...p0, offset: 1 }]);
      await take(consumer, 2);
      expect(consumer.lag()).toEqual([{ ...p0, lag: 3 }]);
    });

    it("fails with from 'none' and no offset", async () => {
      const ottla = await openWith(open, numbers(5));
      const consumer = ottla.consumer({ from: 'none' });
      consumer.assign([p0]);
      const failure = { code: 'NO_OFFSET_FOR_PARTITION' };
      await expect(consumer.ready()).rejects.toMatchObject(failure);
      await expect(take(consumer, 1)).rejects.toMatchObject(failure);
    });

    it('fails once its topic is deleted', async () => {
      const ottla = await openWith(open, numbers(1));
      const consumer = ottla.consumer({});
      consumer.assign([p0]);
      const records = consumer[Symbol.asyncIterator]();
      await records.next();
      const failure = failureOf(() => records.next());
      await ottla.topics.delete('orders');
      expect(await failure).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    });
  });
});
