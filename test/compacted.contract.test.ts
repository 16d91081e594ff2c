import { describe, expect, it } from 'vitest';
import { defineTopic, type TopicOptions } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

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
