import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla, type OttlaError } from '../src/index.js';
import { FaultInjector } from '../src/testing/index.js';
import { LocalEngine } from '../src/local.js';
import { Producer } from '../src/producer.js';
import { committedIn } from './committed-records.js';
import { closedAfterEach, collect, failureOf } from './contract.js';
import { FaultyMachine } from './faulty-machine.js';
import { createTopic } from './machine.js';
import { ManualClock } from './manual-clock.js';
import { noSpace } from './watched-files.js';

const opened = closedAfterEach();
let ottla: Ottla;
let clock: ManualClock;
let faults: FaultInjector;
let errors: OttlaError[];

beforeEach(async () => {
  clock = new ManualClock();
  faults = new FaultInjector();
  ottla = opened(Ottla.memory({ clock, faults, seed: 1 }));
  errors = [];
  ottla.on('error', (error) => errors.push(error));
  await ottla.topics.create('out', { partitions: 3 });
});

const values = async (): Promise<string[]> =>
  (await collect(ottla.read('out'))).map(({ value }) => String(value));

describe('the sends of a transaction', () => {
  const many = Array.from({ length: 300 }, (_, i) => String(i).padStart(100, '.'));

  it('may be more than the buffer holds', async () => {
    const producer = ottla.producer({ transactionalId: 'a', bufferMemory: 1000 });
    await producer.transaction((t) => {
      for (const value of many) t.send('out', { value });
    });
    expect((await values()).toSorted()).toEqual(many.toSorted());
  });

  it('that wait for room when it is aborted are not sent in the next one', async () => {
    const producer = ottla.producer({ transactionalId: 'a', bufferMemory: 1000 });
    const failure = await failureOf(() =>
      producer.transaction((t) => {
        for (const value of many) t.send('out', { value });
        throw new Error('no');
      }),
    );
    expect(failure.message).toBe('no');
    expect(producer.metrics().waitingSendCount).toBe(0);
    await producer.transaction((t) => t.send('out', { value: 'yes' }));
    expect(await values()).toEqual(['yes']);
    expect(errors).toEqual([]);
  });

  it('do not linger once its function has settled', async () => {
    const producer = ottla.producer({ transactionalId: 'a', lingerMs: 60_000 });
    let isCommitted = false;
    const committed = producer
      .transaction((t) => t.send('out', { value: 'x' }))
      .then(() => (isCommitted = true));
    await clock.settle();
    expect(isCommitted).toBe(true);
    await committed;
    expect(await values()).toEqual(['x']);
  });

  it('may be flushed within it', async () => {
    const producer = ottla.producer({ transactionalId: 'a', bufferMemory: 1000 });
    await producer.transaction(async (t) => {
      for (const value of many) {
        t.send('out', { value });
        if (producer.metrics().waitingSendCount > 0) await producer.flush();
      }
    });
    expect(await values()).toHaveLength(many.length);
  });
});

describe('a failure that nobody awaits', () => {
  it('of a transaction is told once', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    void producer.transaction(() => {
      throw new Error('mine');
    });
    await clock.settle();
    expect(errors).toMatchObject([{ code: 'UNKNOWN_SERVER_ERROR', cause: { message: 'mine' } }]);
    expect(errors[0]!.message).toMatch(/transaction.*mine/);
  });

  it('of one of its sends is told once', async () => {
    const producer = ottla.producer({ transactionalId: 'a' });
    faults.fail('write', { topic: 'out', code: 'ENOSPC' });
    void producer.transaction((t) => t.send('out', { value: 'x' }));
    await clock.settle();
    expect(errors).toMatchObject([{ code: 'KAFKA_STORAGE_ERROR' }]);
  });

  it('of a call that is refused is told once', async () => {
    const producer = ottla.producer();
    void producer.transaction(() => 1);
    await clock.settle();
    expect(errors).toMatchObject([
      { cause: { message: expect.stringMatching(/transactionalId/) } },
    ]);
  });

  it('of flush and close is told once', async () => {
    const producer = ottla.producer();
    const gate = faults.hold('sync');
    const sent = producer.send('out', { value: 'x' });
    void producer.flush({ signal: AbortSignal.abort() });
    void producer.close({ timeoutMs: 10 });
    await clock.advance(10);
    expect(errors.map(({ code }) => code)).toEqual(['ABORTED', 'REQUEST_TIMED_OUT']);
    gate.open();
    await sent;
  });
});

describe('an abort that finds the disk full', () => {
  it('leaves the producer its id: the next transaction counts', async () => {
    const machine = new FaultyMachine();
    const broker = await machine.open();
    const partition = await createTopic(broker);
    const engine = new LocalEngine(broker, { error: () => undefined, warning: () => undefined });
    const options = { transactionalId: 'a' };
    const producer = new Producer(engine, machine.clock, () => 0, options, {
      error: () => undefined,
      closed: () => undefined,
    });
    await producer.transaction((t) => t.send('t', { value: '1' }));
    machine.fault = ({ name, path }) => (name === 'write' ? noSpace(path) : undefined);
    machine.rowFault = noSpace('rows');
    const failure = await failureOf(() => producer.transaction((t) => t.send('t', { value: '2' })));
    expect(failure).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: true });
    expect(machine.rowFault).toBeNull();
    machine.fault = () => undefined;
    await machine.clock.advance(2000);
    for (const value of ['3', '4']) await producer.transaction((t) => t.send('t', { value }));
    expect(await committedIn(partition)).toEqual(['1', '3', '4']);
    const other = new Producer(engine, machine.clock, () => 0, options, {
      error: () => undefined,
      closed: () => undefined,
    });
    await other.transaction((t) => t.send('t', { value: '5' }));
    const fenced = await failureOf(() => producer.transaction((t) => t.send('t', { value: '6' })));
    expect(fenced).toMatchObject({ code: 'PRODUCER_FENCED' });
    await engine.close();
  });
});
