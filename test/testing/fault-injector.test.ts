import { describe, expect, it } from 'vitest';
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

describe('FaultInjector', () => {
  it('refuses what it does not know', () => {
    const faults = new FaultInjector();
    expect(() => faults.fail('read' as 'write')).toThrow(
      "fail: expected 'write' or 'sync' or 'commit', got read",
    );
    expect(() => faults.hold('write' as 'sync')).toThrow(TypeError);
    expect(() => faults.fail('write', { times: 0 })).toThrow(RangeError);
  });
});
