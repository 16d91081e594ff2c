import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Ottla, defineTopic, type TopicOptions } from '../src/index.js';
import {
  closedAfterEach,
  collect,
  describeContract,
  describeDirectory,
  failureOf,
} from './contract.js';
import { ManualClock } from './manual-clock.js';

const both = ['compact', 'delete'] as const;

describeContract('a compacted topic', (harness) => {
  it.each(['compact', both] as const)(
    'with cleanupPolicy %j refuses records without a key',
    async (cleanupPolicy) => {
      const ottla = await harness.open();
      await ottla.topics.create('users', { cleanupPolicy });
      const producer = ottla.producer();
      expect(await failureOf(() => producer.send('users', { value: 'v' }))).toMatchObject({
        code: 'INVALID_RECORD',
        retriable: false,
      });
      const batch = [{ key: 'a', value: 'v' }, { value: 'w' }];
      expect(await failureOf(() => producer.sendBatch('users', batch))).toMatchObject({
        code: 'INVALID_RECORD',
        written: [],
      });
      expect((await producer.send('users', { key: '', value: 'v' })).offset).toBe(0);
    },
  );

  it('takes null for a value and gives it back, with a codec too', async () => {
    const ottla = await harness.open();
    const users = defineTopic('users', { cleanupPolicy: 'compact', key: 'string', value: 'json' });
    await ottla.topics.create(users);
    const producer = ottla.producer();
    await producer.send(users, { key: 'a', value: { name: 'A' } });
    await producer.send(users, { key: 'a', value: null });
    const records = await collect(ottla.read(users));
    expect(records.map(({ value }) => value)).toEqual([{ name: 'A' }, null]);
  });

  it('has types that say so', async () => {
    const ottla = await harness.open();
    const users = defineTopic('users', { cleanupPolicy: both, key: 'string', value: 'string' });
    const plain = defineTopic('plain', { key: 'string', value: 'string' });
    await ottla.topics.create(users);
    await ottla.topics.create(plain);
    await ottla.producer().send(users, { key: 'a', value: null });
    // @ts-expect-error: without compaction there are no tombstones
    const refused = await failureOf(() => ottla.producer().send(plain, { key: 'a', value: null }));
    expect(refused).toBeInstanceOf(TypeError);
    for await (const { value } of ottla.read(users))
      expect(value satisfies string | null).toBe(null);
    for await (const { value } of ottla.read(plain)) value satisfies string;
  });

  it('is the same topic when created again, and a changed policy is told', async () => {
    const ottla = await harness.open();
    await ottla.topics.create('users', { cleanupPolicy: both });
    await ottla.topics.create('users', { cleanupPolicy: ['compact', 'delete'] });
    const differs = await failureOf(() => ottla.topics.create('users'));
    expect(differs).toMatchObject({ code: 'TOPIC_ALREADY_EXISTS' });
    expect(differs.message).toContain('cleanupPolicy is ["compact","delete"], asked for "delete"');
    await ottla.topics.alter('users', { cleanupPolicy: 'delete' });
    expect((await ottla.producer().send('users', { value: 'v' })).offset).toBe(0);
  });
});

describeDirectory('a compacted log', (harness) => {
  it('has the latest record of each key, at its offset, then and after a restart', async () => {
    let ottla = await harness.open();
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    const users = defineTopic('users', {
      cleanupPolicy: 'compact',
      minCleanableDirtyRatio: 0,
      segmentBytes: 4096,
      key: 'string',
      value: 'string',
    });
    await ottla.topics.create(users);
    const producer = ottla.producer();
    for (let i = 0; i < 60; i++) {
      await producer.send(users, { key: `k${i % 3}`, value: `${i}`.padEnd(500) });
    }
    const bytes = async (): Promise<number> =>
      (await ottla.topics.describe(users)).partitions[0]!.bytes;
    while ((await bytes()) > 10_000) await turn();
    const records = await collect(ottla.read(users));
    const offsets = records.map(({ offset }) => offset);
    expect(offsets.length).toBeLessThan(20);
    expect(offsets.slice(-3)).toEqual([57, 58, 59]);
    for (const { offset, value } of records) expect(value?.trim()).toBe(String(offset));
    ottla = await harness.reopen(ottla);
    const again = await collect(ottla.read(users));
    expect(again.slice(-3).map(({ offset }) => offset)).toEqual([57, 58, 59]);
    expect((await ottla.producer().send(users, { key: 'k0', value: 'new' })).offset).toBe(60);
    expect([...ottla.recovery, ...warnings]).toEqual([]);
    expect(harness.files().filter((name) => /cleaned|swap|deleted/.test(name))).toEqual([]);
  });
});

describeDirectory('a compacted log with transactions', (harness) => {
  it('has the latest committed record of each key, and nothing that was aborted, then and after a restart', async () => {
    let ottla = await harness.open();
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    await ottla.topics.create('t', {
      cleanupPolicy: 'compact',
      minCleanableDirtyRatio: 0,
      segmentBytes: 4096,
    });
    const tx = ottla.producer({ transactionalId: 'tx' });
    const other = ottla.producer({ transactionalId: 'other' });
    const latest = new Map<string, string>();
    const send = async (producer: typeof tx, i: number, aborts: boolean): Promise<void> => {
      const records = [0, 1, 2].map((k) => ({ key: `k${(i + k) % 7}`, value: `${i}`.padEnd(300) }));
      const done = producer.transaction((t) => {
        for (const record of records) t.send('t', record);
        if (aborts) throw new Error('aborted');
      });
      await (aborts ? failureOf(() => done) : done);
      if (!aborts) for (const { key } of records) latest.set(key, String(i));
    };
    for (let i = 0; i < 60; i++) await send(i % 2 === 0 ? tx : other, i, i % 3 === 2);
    const bytes = async (): Promise<number> =>
      (await ottla.topics.describe('t')).partitions[0]!.bytes;
    while ((await bytes()) > 16_000) await turn();
    const read = async (isolation: 'read_committed' | 'read_uncommitted'): Promise<string[][]> =>
      (await collect(ottla.read('t', { isolation }))).map(({ key, value }) => [
        String(key),
        String(value).trim(),
      ]);
    expect(new Map((await read('read_committed')) as [string, string][])).toEqual(latest);
    const all = await read('read_uncommitted');
    expect(all.length).toBeLessThan(40);
    const [partition] = (await ottla.topics.describe('t')).partitions;
    expect(partition!.lastStableOffset).toBe(partition!.highWatermark);
    ottla = await harness.reopen(ottla);
    expect(new Map((await read('read_committed')) as [string, string][])).toEqual(latest);
    const again = ottla.producer({ transactionalId: 'tx' });
    await again.transaction((t) => t.send('t', { key: 'k0', value: 'last' }));
    expect((await read('read_committed')).at(-1)).toEqual(['k0', 'last']);
    expect([...ottla.recovery, ...warnings]).toEqual([]);
    expect((await Ottla.verify(harness.directoryOf(ottla))).problems).toEqual([]);
  });
});

describe('the end of a compacted log', () => {
  const opened = closedAfterEach();

  /** Offsets 0 to 3 hold records of which nothing is left; the log goes on at 4. */
  async function emptied(): Promise<{ ottla: Ottla; clock: ManualClock }> {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await ottla.topics.create('users', {
      cleanupPolicy: 'compact',
      segmentBytes: 1024,
      minCleanableDirtyRatio: 0,
    });
    const producer = ottla.producer();
    const send = async (key: string, value: string | null): Promise<void> => {
      const sent = producer.send('users', { key, value });
      await clock.settle();
      await sent;
      await clock.settle();
    };
    const large = 'x'.repeat(900);
    await send('a', large);
    await send('a', null);
    await send('b', large);
    await send('b', null);
    await send('c', large);
    await clock.advance(86_400_000);
    await send('c', null);
    await send('d', large);
    await clock.advance(86_400_000);
    return { ottla, clock };
  }

  it('is reached by a reader and by a group, past what is gone', async () => {
    const { ottla, clock } = await emptied();
    const reading = collect(ottla.read('users'));
    await clock.settle();
    const offsets = (await reading).map(({ offset }) => offset);
    expect(offsets.at(-1)).toBe(6);
    expect(offsets.length).toBeLessThan(6);
    const consumer = ottla.consumer({ group: 'g', topics: ['users'] });
    const running = collect(consumer);
    const idle = ottla.idle();
    await clock.advance(1000);
    await idle;
    expect((await ottla.groups.describe('g')).partitions[0]).toMatchObject({
      committed: 7,
      lag: 0,
    });
    expect(consumer.lag()).toEqual([{ topic: 'users', partition: 0, lag: 0 }]);
    const closing = consumer.close();
    await clock.advance(1000);
    await closing;
    expect((await running).map(({ offset }) => offset)).toEqual(offsets);
  });
});

describe('options of compaction', () => {
  it.each<[string, object, new () => Error]>([
    ['an unknown policy', { cleanupPolicy: 'keep' }, TypeError],
    ['a list of one policy', { cleanupPolicy: ['compact'] }, TypeError],
    ['a ratio above 1', { minCleanableDirtyRatio: 1.1 }, RangeError],
    ['a ratio that is no number', { minCleanableDirtyRatio: '0.5' }, TypeError],
    ['NaN as ratio', { minCleanableDirtyRatio: Number.NaN }, RangeError],
    ['a negative time', { deleteRetentionMs: -1 }, RangeError],
  ])('refuse %s', (_what, options, error) => {
    expect(() => defineTopic('users', options as TopicOptions)).toThrow(error);
  });
});
