import { beforeEach, expect, it } from 'vitest';
import type { Ottla, OttlaError, Producer } from '../src/index.js';
import type { ConsumerBatch } from '../src/consumer-record.js';
import { collect, describeContract, failureOf } from './contract.js';

const codeOf = async (run: () => unknown): Promise<string> =>
  ((await failureOf(run)) as OttlaError).code;

describeContract('a batch in a transaction', (harness) => {
  let ottla: Ottla;

  beforeEach(async () => {
    ottla = await harness.open();
    await ottla.topics.create('in', { partitions: 3 });
    await ottla.topics.create('out', { partitions: 3 });
    await ottla.producer().sendBatch(
      'in',
      Array.from({ length: 90 }, (_, i) => ({ value: `${i}`, partition: i % 3 })),
    );
  });

  /** Sends each record on, then does `more`. */
  function sendOn(tx: Producer, batch: ConsumerBatch, more: () => unknown): Promise<void> {
    return tx.transaction(batch, async (t) => {
      for (const { value } of batch) t.send('out', { value: value as Buffer });
      await more();
    });
  }

  async function expectAllOnce(count: number): Promise<void> {
    const values = (await collect(ottla.read('out'))).map(({ value }) => Number(value));
    expect(values.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  }

  async function committed(): Promise<(number | null)[]> {
    const { partitions } = await ottla.groups.describe('g');
    return partitions.map((one) => one.committed);
  }

  it('that was aborted may be tried again at once, and is not handed out again then', async () => {
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
    const tx = ottla.producer({ transactionalId: 'a' });
    let count = 0;
    for await (const batch of consumer.batches()) {
      for (let attempt = 0; attempt < 3; attempt++) {
        const sent = sendOn(tx, batch, () => {
          if (attempt < 2) throw new Error('no');
        });
        await sent.catch(() => undefined);
      }
      count += batch.records.length;
      if (count >= 90) break;
    }
    await expectAllOnce(90);
    expect(await committed()).toEqual([30, 30, 30]);
  });

  it('that was aborted may be tried again when it was handed out again: one of the two counts', async () => {
    await ottla.topics.create('one');
    await ottla.producer().sendBatch(
      'one',
      Array.from({ length: 12 }, (_, i) => ({ value: `${i}` })),
    );
    const consumer = ottla.consumer({ group: 'g', topics: ['one'], maxPollRecords: 5 });
    const tx = ottla.producer({ transactionalId: 'a' });
    const batches = consumer.batches();
    const { value: first } = await batches.next();
    await failureOf(() =>
      sendOn(tx, first!, () => {
        throw new Error('no');
      }),
    );
    const { value: again } = await batches.next();
    expect(again!.baseOffset).toBe(0);
    await sendOn(tx, first!, () => undefined);
    expect(await codeOf(() => sendOn(tx, again!, () => undefined))).toBe('INVALID_TXN_STATE');
    for (const baseOffset of [5, 10]) {
      const { value: next } = await batches.next();
      expect(next!.baseOffset).toBe(baseOffset);
      await sendOn(tx, next!, () => undefined);
    }
    await expectAllOnce(12);
  });

  it('is refused once it is processed', async () => {
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
    const tx = ottla.producer({ transactionalId: 'a' });
    const batches = consumer.batches();
    const { value: first } = await batches.next();
    await sendOn(tx, first!, () => undefined);
    expect(await codeOf(() => sendOn(tx, first!, () => undefined))).toBe('INVALID_TXN_STATE');
    const { value: second } = await batches.next();
    await batches.next();
    const failure = await failureOf(() => sendOn(tx, second!, () => undefined));
    expect(failure).toMatchObject({ code: 'INVALID_TXN_STATE' });
    expect(failure.message).toMatch(/in-\d from offset \d+ on is processed already, up to \d+/);
    expect(await collect(ottla.read('out'))).toHaveLength(7);
  });

  it('holds back its partition, and no other, until the transaction has ended', async () => {
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
    const producers = [0, 1, 2].map((i) => ottla.producer({ transactionalId: `${i}` }));
    const open = new Set<number>();
    let most = 0;
    let count = 0;
    let calls = 0;
    const sent: Promise<void>[] = [];
    for await (const batch of consumer.batches()) {
      const { partition } = batch;
      expect(open).not.toContain(partition);
      open.add(partition);
      most = Math.max(most, open.size);
      const isFailing = ++calls % 4 === 0;
      const ended = sendOn(producers[partition]!, batch, async () => {
        // The others get their turn.
        for (let i = 0; i < 20; i++) await Promise.resolve();
        open.delete(partition);
        if (isFailing) throw new Error('no');
      });
      const counted = ended.then(
        () => {
          count += batch.records.length;
        },
        () => undefined,
      );
      sent.push(counted.then(() => (count >= 90 ? consumer.close() : undefined)));
    }
    await Promise.all(sent);
    expect(most).toBeGreaterThan(1);
    await expectAllOnce(90);
    expect(await committed()).toEqual([30, 30, 30]);
  });

  it('is waited for when its partition moves, though another one is in flight', async () => {
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 30 });
    const producers = [0, 1, 2].map((i) => ottla.producer({ transactionalId: `${i}` }));
    const batches = consumer.batches();
    let goOn = (): void => undefined;
    const gate = new Promise<void>((resolve) => (goOn = resolve));
    const ended: Promise<void>[] = [];
    for (let i = 0; i < 3; i++) {
      const { value: batch } = await batches.next();
      ended.push(sendOn(producers[batch!.partition]!, batch!, () => gate));
    }
    const other = ottla.consumer({ group: 'g', topics: ['in'] });
    await other.ready();
    goOn();
    expect(await Promise.allSettled(ended)).toMatchObject(
      Array.from({ length: 3 }, () => ({ status: 'fulfilled' })),
    );
    await expectAllOnce(90);
    expect(await committed()).toEqual([30, 30, 30]);
  });

  it.each([true, false])(
    'whose partition is sought meanwhile goes on there (commits: %s)',
    async (commits) => {
      const consumer = ottla.consumer({ group: 'g', topics: ['in'], maxPollRecords: 7 });
      const tx = ottla.producer({ transactionalId: 'a' });
      const batches = consumer.batches();
      const { value: batch } = await batches.next();
      const { partition } = batch!;
      const sent = sendOn(tx, batch!, async () => {
        await consumer.seek({ topic: 'in', partition, offset: 20 });
        if (!commits) throw new Error('no');
      });
      await sent.catch(() => undefined);
      expect(consumer.position({ topic: 'in', partition })).toBe(20);
      await consumer.commit();
      expect((await committed())[partition]).toBe(20);
      expect(await collect(ottla.read('out'))).toHaveLength(commits ? 7 : 0);
    },
  );
});
