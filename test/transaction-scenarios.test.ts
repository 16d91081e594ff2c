import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Ottla, type Isolation, type OttlaError, type Producer } from '../src/index.js';
import type { Broker } from '../src/broker.js';
import type { Partition } from '../src/partition.js';
import { encodeMarker } from '../src/record-marker.js';
import { put } from '../src/storage/meta-store.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach, collect, failureOf } from './contract.js';
import { Machine, append, batchOf, createTopic, firstLog, partitionOf } from './machine.js';
import { ManualClock } from './manual-clock.js';
import { numberedBatch } from './numbered.js';
import { takeAll } from './producer-steps.js';

interface Scenario {
  readonly id: string;
  readonly title: string;
  readonly vector?: string;
}

const vectorFile = (name: string): string =>
  readFileSync(new URL(`vectors/${name}.json`, import.meta.url), 'utf8');
const { scenarios } = JSON.parse(vectorFile('transaction-scenarios')) as {
  readonly scenarios: readonly Scenario[];
};
const { vectors } = JSON.parse(vectorFile('producer-state')) as {
  readonly vectors: readonly { readonly id: string; readonly steps: readonly object[] }[];
};

const opened = closedAfterEach();

/** An Ottla in memory with topics `in` and `out`, each of so many partitions. */
async function withTopics(partitions = 1, clock = new ManualClock()): Promise<Ottla> {
  const ottla = opened(Ottla.memory({ clock }));
  await ottla.topics.create('in', { partitions });
  await ottla.topics.create('out', { partitions });
  return ottla;
}

async function values(ottla: Ottla, isolation: Isolation = 'read_committed'): Promise<string[]> {
  return (await collect(ottla.read('out', { isolation }))).map(({ value }) => String(value));
}

async function endsOf(ottla: Ottla): Promise<{ lso: number; end: number }> {
  const [partition] = (await ottla.topics.describe('out')).partitions;
  return { lso: partition!.lastStableOffset, end: partition!.highWatermark };
}

/** A transaction that stays open until it is told how to end. */
interface OpenTransaction {
  readonly send: (...list: readonly string[]) => Promise<void>;
  readonly commit: () => Promise<void>;
  readonly abort: () => Promise<void>;
}

function begin(producer: Producer): OpenTransaction {
  const work: ((t: { send: (topic: string, record: object) => void }) => void)[] = [];
  let wake: () => void = () => undefined;
  let isOver: 'no' | 'commit' | 'abort' = 'no';
  const ended = producer.transaction(async (t) => {
    for (;;) {
      for (const step of work.splice(0)) step(t as never);
      if (isOver === 'abort') throw new Error('abort');
      if (isOver === 'commit') return;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  });
  ended.catch(() => undefined);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    async send(...list) {
      work.push((t) => {
        for (const value of list) t.send('out', { value });
      });
      for (let i = 0; i < 3; i++) {
        wake();
        await turn();
      }
      await producer.flush();
    },
    async commit() {
      isOver = 'commit';
      wake();
      await ended;
    },
    async abort() {
      isOver = 'abort';
      wake();
      await ended.catch(() => undefined);
    },
  };
}

const codeOf = async (run: () => unknown): Promise<string> =>
  ((await failureOf(run)) as OttlaError).code;

const numbers = (baseSequence: number, producerEpoch = 0) => ({
  producerId: 1n,
  producerEpoch,
  baseSequence,
  timestamp: new Machine().clock.now(),
});

const numbered = (value: string, baseSequence: number): Buffer =>
  numberedBatch([value], numbers(baseSequence));

const inTransaction = (value: string, baseSequence: number): Buffer =>
  numberedBatch([value], { ...numbers(baseSequence), isTransactional: true });

const marker = (isCommit: boolean): Buffer =>
  encodeMarker({ ...numbers(0), isCommit, coordinatorEpoch: 0 });

/** Eight batches over four segments of one producer, closed. */
async function closedLog(machine: Machine): Promise<void> {
  const broker = await machine.open();
  const partition = await createTopic(broker, { segmentBytes: 1024 });
  for (let i = 0; i < 8; i++) await append(partition, numbered(`${i}`.padEnd(400, '.'), i));
  await broker.close();
}

async function withAborted(machine: Machine): Promise<Partition> {
  const partition = await createTopic(await machine.open(), { segmentBytes: 1024 });
  for (let i = 0; i < 6; i++) {
    await append(partition, inTransaction('x'.repeat(300), i * 2));
    await append(partition, batchOf(['y'.repeat(300)]));
    await append(partition, inTransaction('x'.repeat(300), i * 2 + 1));
    await append(partition, marker(i % 2 === 0));
  }
  return partition;
}

const newest = (machine: Machine, suffix: string): string =>
  machine
    .names()
    .filter((name) => name.endsWith(suffix))
    .toSorted()
    .at(-1)!;

async function coordinated(): Promise<{ broker: Broker; partition: Partition }> {
  const broker = await new Machine().open();
  return { broker, partition: await createTopic(broker) };
}

const checks: Readonly<Record<string, () => Promise<void>>> = {
  async t10() {
    const damage: readonly ((bytes: Buffer) => Buffer | undefined)[] = [
      (bytes) => {
        bytes[20]! ^= 1;
        return bytes;
      },
      (bytes) => bytes.subarray(0, -5),
      () => Buffer.alloc(0),
      () => undefined,
    ];
    for (const all of [false, true]) {
      for (const damaged of damage) {
        const machine = new Machine();
        await closedLog(machine);
        const snapshots = machine.names().filter((name) => name.endsWith('.snapshot'));
        expect(snapshots.length).toBeGreaterThan(2);
        for (const name of all ? snapshots : [newest(machine, '.snapshot')]) {
          machine.write(name, damaged(Buffer.from(machine.read(name))));
        }
        const partition = partitionOf(await machine.open());
        expect(partition.failure).toBeNull();
        expect(await append(partition, numbered('7'.padEnd(400, '.'), 7))).toBe(7);
        expect(await append(partition, numbered('8', 8))).toBe(8);
      }
    }
  },
  async t11() {
    const machine = new Machine();
    const partition = await createTopic(await machine.open());
    for (let i = 0; i < 3; i++) await append(partition, numbered(`${i}`, i));
    machine.write(firstLog, machine.read(firstLog).subarray(0, -1));
    const after = partitionOf(await machine.open());
    expect(after.logEndOffset).toBe(2);
    expect([...after.producers.describe()].map(({ lastSequence }) => lastSequence)).toEqual([1]);
    expect(await append(after, numbered('2', 2))).toBe(2);
    expect(await append(after, numbered('2', 2))).toBe(2);
    expect(after.logEndOffset).toBe(3);
  },
  async t13() {
    const ottla = await withTopics();
    const plain = ottla.producer();
    const open = begin(ottla.producer({ transactionalId: 'a' }));
    await plain.sendBatch('out', [{ value: '0' }, { value: '1' }]);
    await open.send('2', '3');
    await plain.send('out', { value: '4' });
    expect(await endsOf(ottla)).toEqual({ lso: 2, end: 5 });
    expect(await values(ottla)).toEqual(['0', '1']);
    expect(await values(ottla, 'read_uncommitted')).toEqual(['0', '1', '2', '3', '4']);
    await open.commit();
    expect(await values(ottla)).toEqual(['0', '1', '2', '3', '4']);
  },
  async t15() {
    const ottla = await withTopics();
    const plain = ottla.producer();
    const one = begin(ottla.producer({ transactionalId: 'one' }));
    const two = begin(ottla.producer({ transactionalId: 'two' }));
    const consumer = ottla.consumer({ group: 'g', topics: ['out'] });
    await consumer.ready();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { value } of consumer) seen.push(String(value));
    })();
    await one.send('a');
    await two.send('c');
    await one.send('b');
    await plain.send('out', { value: 'd' });
    await one.abort();
    await two.commit();
    await ottla.idle();
    expect(seen).toEqual(['c', 'd']);
    expect(await values(ottla)).toEqual(['c', 'd']);
    const { lso, end } = await endsOf(ottla);
    expect({ lso, position: consumer.position({ topic: 'out', partition: 0 }) }).toEqual({
      lso: end,
      position: end,
    });
    await consumer.close();
    await reading;
  },
  async t17() {
    const clock = new ManualClock();
    const ottla = await withTopics(1, clock);
    const one = begin(ottla.producer({ transactionalId: 'one' }));
    const two = begin(ottla.producer({ transactionalId: 'two' }));
    await one.send('a');
    await two.send('b');
    await one.commit();
    expect(await values(ottla)).toEqual(['a']);
    const { lso } = await endsOf(ottla);
    expect(lso).toBe(1);
    const consumer = ottla.consumer({});
    consumer.assign([{ topic: 'out', partition: 0, offset: 0 }]);
    await consumer.ready();
    const at = { topic: 'out', partition: 0 };
    await consumer.seekToEnd([at]);
    expect(consumer.position(at)).toBe(lso);
    await consumer.seek({ ...at, timestamp: clock.now() + 1 });
    expect(consumer.position(at)).toBe(lso);
    await two.abort();
    expect(await values(ottla)).toEqual(['a']);
  },
  async t19() {
    const clock = new ManualClock();
    const ottla = await withTopics(1, clock);
    const producer = ottla.producer({ transactionalId: 'a', transactionTimeoutMs: 100 });
    const open = begin(producer);
    await open.send('first');
    await clock.advance(10_000);
    await open.send('second');
    expect(await codeOf(() => open.commit())).toBe('PRODUCER_FENCED');
    expect(await codeOf(() => producer.transaction(() => undefined))).toBe('PRODUCER_FENCED');
    expect(await values(ottla)).toEqual([]);
    const { lso, end } = await endsOf(ottla);
    expect(lso).toBe(end);
    await ottla
      .producer({ transactionalId: 'a' })
      .transaction((t) => t.send('out', { value: 'x' }));
    expect(await values(ottla)).toEqual(['x']);
  },
  async t20() {
    const ottla = await withTopics();
    const producer = ottla.producer({ transactionalId: 'a', transactionTimeoutMs: 900_001 });
    expect(await codeOf(() => producer.transaction(() => undefined))).toBe(
      'INVALID_TRANSACTION_TIMEOUT',
    );
  },
  async t21() {
    const ottla = await withTopics();
    await ottla.producer().sendBatch('in', [{ value: '0' }, { value: '1' }]);
    const consumer = ottla.consumer({ group: 'g', topics: ['in'], autoCommit: false });
    await consumer.ready();
    const at = { topic: 'in', partition: 0 };
    const producer = ottla.producer({ transactionalId: 'a' });
    const committed = async (): Promise<number | undefined> =>
      (await ottla.groups.describe('g')).partitions[0]?.committed;
    await failureOf(() =>
      producer.transaction((t) => {
        t.send('out', { value: 'no' });
        t.sendOffsets(consumer, [{ ...at, offset: 1 }]);
        throw new Error('abort');
      }),
    );
    expect([await committed(), await values(ottla)]).toEqual([0, []]);
    await producer.transaction(async (t) => {
      t.send('out', { value: 'yes' });
      t.sendOffsets(consumer, [{ ...at, offset: 2 }]);
      await producer.flush();
      expect([await committed(), await values(ottla)]).toEqual([0, []]);
    });
    expect([await committed(), await values(ottla)]).toEqual([2, ['yes']]);
  },
  async t22() {
    const ottla = await withTopics();
    await ottla.producer().send('in', { value: '0' });
    const consumer = ottla.consumer({ group: 'g', topics: ['in'] });
    const producer = ottla.producer({ transactionalId: 'a' });
    const { value: batch } = await consumer.batches().next();
    const other = ottla.consumer({ group: 'g', topics: ['in'] });
    const code = await codeOf(() =>
      producer.transaction(batch!, async (t) => {
        t.send('out', { value: 'zombie' });
        await consumer.close();
        await other.ready();
      }),
    );
    expect(code).toBe('ILLEGAL_GENERATION');
    expect(await values(ottla)).toEqual([]);
    expect((await ottla.groups.describe('g')).partitions[0]?.committed).toBe(0);
    const { value: again } = await other.batches().next();
    expect(again!.records.map(({ value }) => String(value))).toEqual(['0']);
  },
  async t23() {
    const ottla = await withTopics(4);
    const whole = new Map<string, Set<number>>();
    const sequences = new Map<string, number>();
    const stop = new AbortController();
    const reading = (async () => {
      const { signal } = stop;
      for await (const { value, partition } of ottla.read('out', { until: 'never', signal })) {
        const [producer = '', number = ''] = String(value).split('/');
        expect(Number(number) % 3).not.toBe(0);
        const key = `${producer}/${number}`;
        whole.set(key, (whole.get(key) ?? new Set()).add(partition));
        const last = `${producer}-${partition}`;
        expect(Number(number)).toBeGreaterThan(sequences.get(last) ?? -1);
        sequences.set(last, Number(number));
      }
    })();
    const produce = async (name: string): Promise<void> => {
      const producer = ottla.producer({ transactionalId: name });
      for (let i = 0; i < 50; i++) {
        await producer
          .transaction((t) => {
            for (let partition = 0; partition < 4; partition++) {
              t.send('out', { value: `${name}/${i}`, partition });
            }
            if (i % 3 === 0) throw new Error('abort');
          })
          .catch(() => undefined);
      }
    };
    await Promise.all(['a', 'b', 'c', 'd'].map(produce));
    expect(await values(ottla)).toHaveLength(4 * 4 * 33);
    while (sequences.size < 16 || [...sequences.values()].some((last) => last < 49)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    stop.abort();
    await reading;
    expect([...whole.values()].every(({ size }) => size === 4)).toBe(true);
    expect(whole.size).toBe(4 * 33);
  },
  async t25() {
    const { broker, partition } = await coordinated();
    const { transactions } = broker;
    const identity = await transactions.init('a', 60_000);
    const send = async (sequence: number): Promise<void> => {
      transactions.add('a', identity, partition);
      const bytes = numberedBatch(['x'], {
        ...identity,
        baseSequence: sequence,
        isTransactional: true,
      });
      await append(partition, bytes);
    };
    await send(0);
    await transactions.end('a', identity, true);
    const { logEndOffset } = partition;
    await transactions.end('a', identity, true);
    expect(await codeOf(() => transactions.end('a', identity, false))).toBe('INVALID_TXN_STATE');
    expect(partition.logEndOffset).toBe(logEndOffset);
    await send(1);
    await transactions.end('a', identity, false);
    expect(await codeOf(() => transactions.end('a', identity, true))).toBe('INVALID_TXN_STATE');
    const ottla = await withTopics();
    const producer = ottla.producer({ transactionalId: 'a' });
    await producer.transaction(() => undefined);
    expect(await endsOf(ottla)).toEqual({ lso: 0, end: 0 });
  },
  async t26() {
    const machine = new Machine();
    const { store, clock } = machine;
    const row = {
      producerId: '7',
      producerEpoch: 32_766,
      timeoutMs: 60_000,
      timestamp: clock.now(),
      ended: null,
      decision: null,
      open: null,
    };
    await store.write([put(['transaction', 'a'], row)]);
    const broker = await machine.open();
    const partition = await createTopic(broker);
    const identity = await broker.transactions.init('a', 60_000);
    expect(identity.producerId).not.toBe(7n);
    expect(identity.producerEpoch).toBe(0);
    const old = { producerId: 7n, producerEpoch: 32_766 };
    expect(await codeOf(() => broker.transactions.add('a', old, partition))).toBe(
      'PRODUCER_FENCED',
    );
  },
  async t29() {
    const damage: readonly ((bytes: Buffer) => Buffer | undefined)[] = [
      () => undefined,
      (bytes) => bytes.subarray(0, -34),
      (bytes) => {
        bytes[12]! ^= 1;
        return bytes;
      },
    ];
    for (const isClosed of [true, false]) {
      for (const damaged of damage) {
        const machine = new Machine();
        const before = await withAborted(machine);
        const expected = before.abortedBetween(0, before.logEndOffset);
        expect(expected).toHaveLength(3);
        if (isClosed) await before.close();
        for (const name of machine.names().filter((file) => file.endsWith('.txnindex'))) {
          machine.write(name, damaged(Buffer.from(machine.read(name))));
        }
        const after = partitionOf(await machine.open());
        expect(after.abortedBetween(0, after.logEndOffset)).toEqual(expected);
        expect(after.failure).toBeNull();
      }
    }
  },
  async t30() {
    const clock = new ManualClock();
    const faults = new FaultInjector();
    const ottla = opened(Ottla.memory({ clock, faults }));
    await ottla.topics.create('out');
    const producer = ottla.producer({ idempotent: true, batchSize: 1 });
    let writes = 0;
    faults.beforeWrite = () => {
      writes++;
      if (writes === 2) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    };
    const sent = Promise.all([0, 1, 2, 3, 4].map((i) => producer.send('out', { value: `${i}` })));
    await clock.advance(1000);
    expect((await sent).map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4]);
    expect(await values(ottla)).toEqual(['0', '1', '2', '3', '4']);
  },
};

describe('transactions and idempotence', () => {
  it.each(scenarios)('$id: $title', async ({ id, vector }) => {
    const ids = vector?.split(', ') ?? [];
    const named = ids.map((one) => vectors.find((candidate) => candidate.id === one)!);
    for (const { steps } of named) {
      await takeAll(await createTopic(await new Machine().open()), steps);
    }
    await checks[id]?.();
    expect(named.length + Number(id in checks)).toBeGreaterThan(0);
  });

  it('has checks for these scenarios only', () => {
    const ids = scenarios.map(({ id }) => id);
    expect(Object.keys(checks).filter((id) => !ids.includes(id))).toEqual([]);
  });
});
