import { beforeEach, expect, it } from 'vitest';
import type { Isolation, Ottla, Transaction } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

describeContract('transactions', (harness) => {
  let ottla: Ottla;

  beforeEach(async () => {
    ottla = await harness.open();
    await ottla.topics.create('in', { partitions: 1 });
    await ottla.topics.create('out', { partitions: 3 });
  });

  async function values(topic: string, isolation: Isolation = 'read_committed'): Promise<string[]> {
    const records = await collect(ottla.read(topic, { isolation }));
    return records.map(({ value }) => String(value)).toSorted();
  }

  async function committed(group: string): Promise<number | undefined> {
    const { partitions } = await ottla.groups.describe(group);
    return partitions.find(({ topic }) => topic === 'in')?.committed;
  }

  const sendAll = (t: Transaction, list: readonly string[]): void => {
    for (const [i, value] of list.entries()) t.send('out', { value, partition: i % 3 });
  };

  it('makes all of a transaction visible, over partitions, and nothing before', async () => {
    const tx = ottla.producer({ transactionalId: 'a' });
    const result = await tx.transaction(async (t) => {
      sendAll(t, ['1', '2', '3']);
      await tx.flush();
      expect(await values('out')).toEqual([]);
      expect(await values('out', 'read_uncommitted')).toEqual(['1', '2', '3']);
      sendAll(t, ['4']);
      return 'done';
    });
    expect(result).toBe('done');
    expect(await values('out')).toEqual(['1', '2', '3', '4']);
  });

  it('makes nothing visible of a transaction whose function throws', async () => {
    const tx = ottla.producer({ transactionalId: 'a' });
    const failure = await failureOf(() =>
      tx.transaction(async (t) => {
        sendAll(t, ['1', '2', '3']);
        await tx.flush();
        throw new Error('no');
      }),
    );
    expect(failure.message).toBe('no');
    await tx.transaction((t) => sendAll(t, ['4']));
    expect(await values('out')).toEqual(['4']);
    expect(await values('out', 'read_uncommitted')).toEqual(['1', '2', '3', '4']);
  });

  it('commits a batch with what was made of it', async () => {
    const producer = ottla.producer();
    await producer.sendBatch(
      'in',
      Array.from({ length: 20 }, (_, i) => ({ value: `${i}` })),
    );
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
    const tx = ottla.producer({ transactionalId: 'a' });
    const positions: (number | undefined)[] = [];
    for await (const batch of consumer.batches()) {
      await tx.transaction(batch, (t) => {
        for (const { value } of batch) t.send('out', { value });
      });
      positions.push(await committed('g'));
      if (batch.nextOffset === 20) break;
    }
    expect(positions).toEqual([7, 14, 20]);
    expect((await values('out')).map(Number).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    );
  });

  it('hands a batch out again whose transaction was aborted', async () => {
    const producer = ottla.producer();
    await producer.sendBatch(
      'in',
      Array.from({ length: 20 }, (_, i) => ({ value: `${i}` })),
    );
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
    const tx = ottla.producer({ transactionalId: 'a' });
    const seen: number[] = [];
    for await (const batch of consumer.batches()) {
      seen.push(batch.baseOffset);
      const failed = seen.length % 2 === 1;
      await tx
        .transaction(batch, (t) => {
          for (const { value } of batch) t.send('out', { value });
          if (failed) throw new Error('no');
        })
        .catch(() => undefined);
      expect(await committed('g')).toBe(failed ? batch.baseOffset : batch.nextOffset);
      if (!failed && batch.nextOffset === 20) break;
    }
    expect(seen).toEqual([0, 0, 7, 7, 14, 14]);
    expect(await values('out')).toHaveLength(20);
    await consumer.close();
    expect(await committed('g')).toBe(20);
  });

  it('commits offsets by hand', async () => {
    const producer = ottla.producer();
    await producer.sendBatch(
      'in',
      Array.from({ length: 5 }, (_, i) => ({ value: `${i}` })),
    );
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], autoCommit: false });
    await consumer.ready();
    const tx = ottla.producer({ transactionalId: 'a' });
    await tx.transaction((t) => {
      t.send('out', { value: 'x' });
      t.sendOffsets(consumer, [{ topic: 'in', partition: 0, offset: 3 }]);
    });
    expect(await committed('g')).toBe(3);
  });

  it('lets lag reach 0 behind markers and aborted records', async () => {
    const tx = ottla.producer({ transactionalId: 'a' });
    const consumer = ottla.consumer({ group: 'g', topics: ['out'] });
    await consumer.ready();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { value } of consumer) seen.push(String(value));
    })();
    await tx.transaction((t) => sendAll(t, ['1', '2', '3']));
    await failureOf(() =>
      tx.transaction((t) => {
        sendAll(t, ['4', '5', '6']);
        throw new Error('no');
      }),
    );
    await tx.transaction((t) => sendAll(t, ['7', '8', '9']));
    await ottla.idle();
    expect(seen.toSorted()).toEqual(['1', '2', '3', '7', '8', '9']);
    expect(consumer.lag().map(({ lag }) => lag)).toEqual([0, 0, 0]);
    await consumer.close();
    await reading;
  });
});
