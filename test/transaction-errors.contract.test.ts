import { beforeEach, expect, it } from 'vitest';
import { Ottla, type OttlaError, type Transaction } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

const codeOf = async (run: () => unknown): Promise<string> =>
  ((await failureOf(run)) as OttlaError).code;

describeContract('what a transaction refuses', (harness) => {
  let ottla: Ottla;

  beforeEach(async () => {
    ottla = await harness.open();
    await ottla.topics.create('in');
    await ottla.topics.create('out', { maxMessageBytes: 1024 });
    await ottla.producer().sendBatch('in', [{ value: '0' }, { value: '1' }]);
  });

  async function expectNothing(): Promise<void> {
    expect(await collect(ottla.read('out'))).toEqual([]);
    const [partition] = (await ottla.topics.describe('out')).partitions;
    expect(partition!.lastStableOffset).toBe(partition!.highWatermark);
  }

  it('send, and sendBatch, outside of it', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    expect(await codeOf(() => producer.send('out', { value: 'x' }))).toBe('INVALID_TXN_STATE');
    expect(await codeOf(() => producer.sendBatch('out', [{ value: 'x' }]))).toBe(
      'INVALID_TXN_STATE',
    );
    await expectNothing();
  });

  it('a call without a transactionalId, or without a function', async () => {
    expect(await failureOf(() => ottla.producer().transaction(() => 1))).toBeInstanceOf(TypeError);
    const producer = ottla.producer({ transactionalId: 'a' });
    expect(await failureOf(() => producer.transaction('x' as never))).toBeInstanceOf(TypeError);
    for (const batch of [{}, null, undefined]) {
      const failure = await failureOf(() => producer.transaction(batch as never, () => 1));
      expect(failure).toBeInstanceOf(TypeError);
    }
    await producer.transaction((t) => t.send('out', { value: 'x' }));
    expect(await collect(ottla.read('out'))).toHaveLength(1);
  });

  it('send and sendOffsets after its function has settled', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const consumer = ottla.consumer({ group: 'g', topics: ['in'] });
    await consumer.ready();
    const kept: Transaction[] = [];
    await producer.transaction((t) => void kept.push(t));
    await failureOf(() =>
      producer.transaction((t) => {
        kept.push(t);
        throw new Error('abort');
      }),
    );
    for (const t of kept) {
      expect(await codeOf(() => t.send('out', { value: 'x' }))).toBe('INVALID_TXN_STATE');
      expect(await codeOf(() => t.sendOffsets(consumer, []))).toBe('INVALID_TXN_STATE');
    }
    await expectNothing();
  });

  it('a second one while one is open', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const code = await producer.transaction(async (t) => {
      t.send('out', { value: 'x' });
      return codeOf(() => producer.transaction(() => undefined));
    });
    expect(code).toBe('CONCURRENT_TRANSACTIONS');
    expect(await collect(ottla.read('out'))).toHaveLength(1);
  });

  it('a batch while another one is open, and hands it out again', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const consumer = ottla.consumer({ group: 'g', topics: ['in'] });
    const batches = consumer.batches();
    const { value: batch } = await batches.next();
    const code = await producer.transaction(() =>
      codeOf(() => producer.transaction(batch!, () => undefined)),
    );
    expect(code).toBe('CONCURRENT_TRANSACTIONS');
    const { value: again } = await batches.next();
    expect(again!.baseOffset).toBe(0);
  });

  it('whoever was fenced by another producer of its id', async () => {
    const old = ottla.producer({ transactionalId: 'a' });
    const young = ottla.producer({ transactionalId: 'a' });
    const code = await codeOf(() =>
      old.transaction(async (t) => {
        t.send('out', { value: 'old' });
        await old.flush();
        await young.transaction((other) => other.send('out', { value: 'young' }));
        t.send('out', { value: 'old' });
        await old.flush();
      }),
    );
    expect(code).toBe('PRODUCER_FENCED');
    expect(await codeOf(() => old.transaction(() => undefined))).toBe('PRODUCER_FENCED');
    const values = (await collect(ottla.read('out'))).map(({ value }) => String(value));
    expect(values).toEqual(['young']);
  });

  it('records that are too large, or of a wrong kind, at once', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const code = await codeOf(() =>
      producer.transaction((t) => {
        t.send('out', { value: 'fits' });
        t.send('out', { value: 'x'.repeat(2000) });
      }),
    );
    expect(code).toBe('MESSAGE_TOO_LARGE');
    const failure = await failureOf(() =>
      producer.transaction((t) => {
        t.send('out', { value: 'fits' });
        t.send('out', { value: 7 as never });
      }),
    );
    expect(failure).toBeInstanceOf(TypeError);
    expect(await codeOf(() => producer.transaction((t) => t.send('none', { value: '' })))).toBe(
      'UNKNOWN_TOPIC_OR_PARTITION',
    );
    await expectNothing();
  });

  it('offsets of a partition that is not owned, of another Ottla, without a group', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], autoCommit: false });
    await consumer.ready();
    const offsets = [{ topic: 'in', partition: 1, offset: 1 }];
    const sendOffsets = (of: never, at = offsets): Promise<Error> =>
      failureOf(() =>
        producer.transaction((t) => {
          t.send('out', { value: 'x' });
          t.sendOffsets(of, at);
        }),
      );
    expect(await sendOffsets(consumer as never)).toMatchObject({ code: 'ILLEGAL_GENERATION' });
    expect(await sendOffsets(ottla.consumer({}) as never)).toBeInstanceOf(TypeError);
    expect(await sendOffsets({} as never)).toBeInstanceOf(TypeError);
    expect(
      await sendOffsets(consumer as never, [{ topic: 'in', partition: 0, offset: -1 }]),
    ).toBeInstanceOf(RangeError);
    await using other = Ottla.memory();
    await other.topics.create('in');
    const foreign = other.consumer({ group: 'g', topics: ['in'] });
    await foreign.ready();
    expect(await sendOffsets(foreign as never)).toBeInstanceOf(TypeError);
    await expectNothing();
    expect((await ottla.groups.describe('g')).partitions[0]!.committed).toBe(0);
  });

  it('a batch of read(), of another Ottla, or in two transactions at once', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const { value: read } = await ottla.read('in').batches().next();
    expect(await failureOf(() => producer.transaction(read!, () => 1))).toBeInstanceOf(TypeError);
    await using other = Ottla.memory();
    await other.topics.create('in');
    await other.producer().send('in', { value: '0' });
    const { value: foreign } = await other
      .consumer({ group: 'g', topics: ['in'] })
      .batches()
      .next();
    expect(await failureOf(() => producer.transaction(foreign!, () => 1))).toBeInstanceOf(
      TypeError,
    );
    const consumer = ottla.consumer({ group: 'g', topics: ['in'] });
    const { value: batch } = await consumer.batches().next();
    const second = ottla.producer({ transactionalId: 'b' });
    const code = await producer.transaction(batch!, () =>
      codeOf(() => second.transaction(batch!, () => undefined)),
    );
    expect(code).toBe('CONCURRENT_TRANSACTIONS');
    expect((await ottla.groups.describe('g')).partitions[0]!.committed).toBe(2);
  });

  it('what comes after close, which aborts what is open', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const failure = await failureOf(() =>
      producer.transaction(async (t) => {
        t.send('out', { value: 'x' });
        await producer.close();
        t.send('out', { value: 'y' });
      }),
    );
    expect(failure).toMatchObject({ code: 'CLOSED' });
    expect(await codeOf(() => producer.transaction(() => undefined))).toBe('CLOSED');
    await expectNothing();
  });

  it('a commit once the Ottla is closed, which aborts what is open', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    const code = await codeOf(() =>
      producer.transaction(async (t) => {
        t.send('out', { value: 'x' });
        await ottla.close();
      }),
    );
    expect(code).toBe('CLOSED');
  });
});
