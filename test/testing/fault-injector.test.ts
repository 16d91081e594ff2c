import { describe, expect, it } from 'vitest';
import type { Consumer } from '../../src/index.js';
import { FaultInjector, testOttla } from '../../src/testing/index.js';
import { collect, failureOf } from '../contract.js';

describe('a write that fails', () => {
  it('is taken back and refused as retriable, and the next one is in its place', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    faults.fail('write', { topic: 'orders', code: 'ENOSPC' });
    const failure = await failureOf(() => producer.send('orders', { value: 'a' }));
    expect(failure).toMatchObject({
      code: 'KAFKA_STORAGE_ERROR',
      retriable: true,
      cause: { code: 'ENOSPC' },
    });
    expect(await producer.send('orders', { value: 'b' })).toMatchObject({ offset: 0 });
    expect((await collect(ottla.read('orders'))).map(({ value }) => String(value))).toEqual(['b']);
  });

  it('fails in the partition that is meant, as often as is meant', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('orders', { partitions: 2 });
    await ottla.topics.create('visits');
    const producer = ottla.producer({ acks: 1 });
    faults.fail('write', { topic: 'orders', partition: 1, times: 2 });
    const outcomes = [];
    for (const [topic, partition] of [
      ['orders', 0],
      ['visits', 0],
      ['orders', 1],
      ['orders', 1],
      ['orders', 1],
    ] as const) {
      const sent = producer.send(topic, { value: 'v', partition });
      outcomes.push(
        await sent.then(
          () => 'sent',
          () => 'failed',
        ),
      );
    }
    expect(outcomes).toEqual(['sent', 'sent', 'failed', 'failed', 'sent']);
  });

  it('fails until heal() when told so', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    faults.fail('write', { times: Infinity });
    for (let i = 0; i < 3; i++) {
      const sent = producer.send('orders', { value: 'v' });
      expect(await failureOf(() => sent)).toMatchObject({ retriable: true });
    }
    faults.heal();
    expect(await producer.send('orders', { value: 'v' })).toMatchObject({ offset: 0 });
  });
});

describe('a sync', () => {
  it('that fails makes the partition refuse appends until it is reopened', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    faults.fail('sync');
    for (const value of ['a', 'b']) {
      const failure = await failureOf(() => producer.send('orders', { value }));
      expect(failure).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
    }
    await ottla.topics.reopen('orders', 0);
    expect(await producer.send('orders', { value: 'c' })).toMatchObject({ offset: 1 });
  });

  it('that is held holds acks all, and not acks 1', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const gate = faults.hold('sync', { topic: 'orders' });
    const acknowledged: string[] = [];
    const all = ottla.producer().send('orders', { value: 'a' });
    void all.then(() => acknowledged.push('all'));
    await ottla.producer({ acks: 1 }).send('orders', { value: 'b' });
    await clock.advance(60_000);
    expect([acknowledged, gate.waitingCount]).toEqual([[], 1]);
    gate.open();
    await all;
    expect(acknowledged).toEqual(['all']);
  });
});

describe('a commit', () => {
  it('that fails is not made, and fails no other group', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('orders');
    await ottla.producer().send('orders', { value: 'v' });
    const commit = async (group: string): Promise<void> => {
      const consumer = ottla.consumer({ group, topics: ['orders'], autoCommit: false });
      await consumer.ready();
      faults.fail('commit', { group: 'a', code: 'ENOSPC' });
      await consumer.commit([{ topic: 'orders', partition: 0, offset: 1 }]);
    };
    await commit('b');
    faults.heal();
    const failure = await failureOf(() => commit('a'));
    expect(failure).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: true });
    const committed = async (group: string): Promise<number> =>
      (await ottla.groups.describe(group)).partitions[0]!.committed;
    expect([await committed('a'), await committed('b')]).toEqual([0, 1]);
  });
});

describe('a handler', () => {
  it('that is held waits before it is called, and no other one does', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('orders', { partitions: 2 });
    const gate = faults.hold('handler', { group: 'a', partition: 1 });
    const seen: string[] = [];
    for (const group of ['a', 'b']) {
      void ottla.consumer({ group, topics: ['orders'] }).run({
        eachRecord: ({ partition }) => void seen.push(`${group}${partition}`),
        concurrency: { by: 'partition', max: 2 },
      });
    }
    for (const partition of [0, 1])
      await ottla.producer().send('orders', { value: 'v', partition });
    await gate.arrived();
    await clock.advance(1000);
    expect(seen.toSorted()).toEqual(['a0', 'b0', 'b1']);
    gate.letThrough();
    await ottla.idle();
    expect(seen.at(-1)).toBe('a1');
  });

  it('that is held for too long costs its member the partition', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const gate = faults.hold('handler');
    const signals: AbortSignal[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollIntervalMs: 1000 });
    void consumer.run({ eachRecord: (_record, { signal }) => void signals.push(signal) });
    await ottla.producer().send('orders', { value: 'v' });
    await gate.arrived();
    await clock.advance(2000);
    expect(consumer.assignment()).toEqual([]);
    faults.heal();
    await clock.runUntil(ottla.idle());
    // The one that was held was called in vain, then it came again.
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
  });
});

describe('a member that is fenced', () => {
  it('loses what it owns at once, cannot commit it, and comes back', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('orders', { partitions: 2 });
    const lost: string[] = [];
    const consumers = ['first', 'second'].map((clientId) =>
      ottla.consumer({
        group: 'g',
        topics: ['orders'],
        clientId,
        autoCommit: false,
        onLost: (list) =>
          void lost.push(...list.map(({ partition }) => `${clientId} ${partition}`)),
      }),
    );
    for (const consumer of consumers) await consumer.ready();
    const [first, second] = consumers as [Consumer<string>, Consumer<string>];
    const [at] = first.assignment();
    await ottla.producer().send('orders', { value: 'v', partition: at!.partition });
    const iterator = first[Symbol.asyncIterator]();
    const { value: record } = await iterator.next();
    const { members } = await ottla.groups.describe('g');
    const { memberId } = members.find(({ clientId }) => clientId === 'first')!;
    expect(faults.fence('g', memberId)).toBe(1);
    expect(first.assignment()).toEqual([]);
    expect(await failureOf(() => record!.commit())).toMatchObject({ code: 'ILLEGAL_GENERATION' });
    await clock.settle();
    expect(lost).toEqual([`first ${at!.partition}`]);
    expect(second.assignment()).toHaveLength(2);
    // It asks for the next record.
    void iterator.next();
    await clock.settle();
    expect([first.assignment().length, second.assignment().length]).toEqual([1, 1]);
  });

  it('comes back by itself where it waits for records', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('orders');
    const seen: string[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    void consumer.run({ eachRecord: ({ value }) => void seen.push(String(value)) });
    await ottla.producer().send('orders', { value: 'a' });
    await ottla.idle();
    expect(faults.fence('g')).toBe(1);
    await ottla.producer().send('orders', { value: 'b' });
    await ottla.idle();
    expect(seen).toEqual(['a', 'b']);
    expect([faults.fence('h'), faults.fence('g', 'nobody')]).toEqual([0, 0]);
    await clock.settle();
  });

  it('while its dead letter is decided changes neither the letter nor the commit', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    for (const topic of ['orders', 'dlq']) await ottla.topics.create(topic);
    const values: string[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    await consumer.ready();
    const gate = faults.hold('commit', { group: 'g' });
    void consumer.run({
      eachRecord: ({ value }) => {
        values.push(String(value));
        throw new Error('no');
      },
      retry: { deadLetter: 'dlq' },
    });
    await ottla.producer().send('orders', { value: 'v' });
    await gate.arrived();
    faults.fence('g');
    gate.open();
    await clock.runUntil(ottla.idle());
    const letters = await collect(ottla.read('dlq'));
    expect([values, letters.map(({ value }) => String(value))]).toEqual([['v'], ['v']]);
  });
});

describe('FaultInjector', () => {
  it('refuses what it does not know', () => {
    const faults = new FaultInjector();
    expect(() => faults.fail('read' as 'write')).toThrow(
      "fail: expected 'write' or 'sync' or 'commit', got read",
    );
    expect(() => faults.hold('write' as 'sync')).toThrow(TypeError);
    expect(() => faults.fail('write', { times: 0 })).toThrow(RangeError);
    expect(() => faults.fail('write', { times: 1.5 })).toThrow(RangeError);
    expect(() => faults.fail('write', { code: 'ENONE' as 'EIO' })).toThrow(
      "fail('write'): code must be 'EACCES' or",
    );
    expect(() => faults.fail('write', { tpoic: 'orders' } as object)).toThrow(
      "fail('write'): unknown option 'tpoic'; it takes topic, partition, times, code",
    );
    expect(() => faults.hold('sync', { partition: '0' } as object)).toThrow(TypeError);
    // What it would wait for in vain.
    expect(() => faults.fail('commit', { topic: 'orders' })).toThrow("fail('commit'): unknown");
    expect(() => faults.fail('write', { group: 'g' })).toThrow(TypeError);
    expect(() => faults.fence('g')).toThrow('give this to Ottla.memory() first');
  });
});
