import { expect, it } from 'vitest';
import { Consumer } from '../src/consumer.js';
import type { ConsumerOptions } from '../src/consumer-options.js';
import { OttlaError } from '../src/errors.js';
import { LocalEngine } from '../src/local.js';
import type {
  Change,
  Key,
  KeyPrefix,
  MetaStore,
  Row,
  RowKind,
  Rows,
} from '../src/storage/meta-store.js';
import { inOrder, numbers, owned, take } from './consuming.js';
import { failureOf } from './contract.js';
import { append, batchOf, createTopic, Machine, partitionOf } from './machine.js';

/** Commits of offsets wait until they are let through, or fail while the disk is full. */
class HeldStore implements MetaStore {
  isHolding = false;
  isFull = false;
  readonly #store: MetaStore;
  #held: (() => void)[] = [];

  constructor(store: MetaStore) {
    this.#store = store;
  }

  get heldCount(): number {
    return this.#held.length;
  }

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    return this.#store.get(key);
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    return this.#store.range(prefix);
  }

  async write(changes: readonly Change[]): Promise<void> {
    const isCommit = changes.some(({ key }) => key[0] === 'offset');
    if (isCommit && this.isHolding) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    if (isCommit && this.isFull) throw new OttlaError('KAFKA_STORAGE_ERROR', 'the disk is full');
    await this.#store.write(changes);
  }

  /** Lets the oldest one through. */
  letGo(): void {
    this.#held.shift()?.();
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}

interface Setting {
  readonly machine: Machine;
  readonly store: HeldStore;
  readonly engine: LocalEngine;
  readonly errors: OttlaError[];
  readonly warnings: string[];
  readonly consumerOf: (options?: Omit<ConsumerOptions, 'group' | 'topics'>) => Consumer<string>;
  readonly committed: () => Promise<number[]>;
}

async function setting(partitions: number): Promise<Setting> {
  const machine = new Machine();
  const store = new HeldStore(machine.store);
  machine.store = store;
  const broker = await machine.open();
  const errors: OttlaError[] = [];
  const warnings: string[] = [];
  const engine = new LocalEngine(broker, {
    error: (error) => errors.push(error),
    warning: (warning) => warnings.push(warning),
  });
  await createTopic(broker, {}, partitions);
  for (let partition = 0; partition < partitions; partition++) {
    await append(partitionOf(broker, partition), batchOf(numbers(5)));
  }
  return {
    machine,
    store,
    engine,
    errors,
    warnings,
    consumerOf: (options = {}) =>
      new Consumer<string>(
        engine,
        machine.clock,
        () => 0,
        { group: 'g', topics: ['t'], assignor: inOrder, ...options },
        {
          error: (error) => errors.push(error),
          warning: (warning) => warnings.push(warning),
          closed: () => undefined,
        },
      ),
    committed: async () =>
      (await engine.group('g')).partitions.map(({ committed: offset }) => offset),
  };
}

it('is ready once the start of each partition is durable', async () => {
  const { machine, store, consumerOf, committed } = await setting(1);
  store.isHolding = true;
  const consumer = consumerOf({ from: 'latest' });
  let isReady = false;
  const ready = consumer.ready().then(() => (isReady = true));
  await machine.clock.settle();
  expect([isReady, store.heldCount, owned(consumer)]).toEqual([false, 1, []]);
  store.letGo();
  await ready;
  expect(await committed()).toEqual([5]);
});

it('takes over no partition that is being revoked before its start was durable', async () => {
  const { machine, store, engine, consumerOf } = await setting(1);
  const { clock } = machine;
  const one = consumerOf({ onRevoked: () => undefined });
  const records = one[Symbol.asyncIterator]();
  await records.next();
  store.isHolding = true;
  await engine.addPartitions('t', 2);
  await clock.settle();
  expect(store.heldCount).toBe(1);
  // A commit of partition 0 delays the release of partition 1, whose start is not durable yet.
  await records.next();
  await clock.advance(100);
  expect(store.heldCount).toBe(2);
  const two = consumerOf();
  const ready = two.ready();
  await clock.settle();
  store.letGo();
  await clock.settle();
  expect(owned(one)).toEqual(['t-0']);
  store.isHolding = false;
  store.letGo();
  await ready;
  await clock.settle();
  expect([owned(one), owned(two)]).toEqual([['t-0'], ['t-1']]);
  await one.close();
  await two.close();
});

it('does not release a partition before the commit of what was processed is durable', async () => {
  const { machine, store, consumerOf, committed } = await setting(2);
  const one = consumerOf();
  await take(one, 8);
  store.isHolding = true;
  const two = consumerOf();
  const ready = two.ready();
  await machine.clock.settle();
  expect([owned(one), owned(two)]).toEqual([['t-0'], []]);
  store.isHolding = false;
  store.letGo();
  await ready;
  expect([owned(one), owned(two)]).toEqual([['t-0'], ['t-1']]);
  expect((await committed())[1]).toBe(2);
});

it('follows a commit under way with what was marked meanwhile, as soon as the loop waits', async () => {
  const { machine, store, consumerOf, committed } = await setting(2);
  const { clock } = machine;
  const consumer = consumerOf();
  const records = consumer[Symbol.asyncIterator]();
  await consumer.ready();
  store.isHolding = true;
  for (let i = 0; i < 6; i++) await records.next();
  await clock.advance(0);
  expect(store.heldCount).toBe(1);
  for (let i = 0; i < 4; i++) await records.next();
  const waiting = records.next();
  await clock.settle();
  expect(store.heldCount).toBe(1);
  store.letGo();
  await clock.settle();
  expect([store.heldCount, await committed()]).toEqual([1, [5, 0]]);
  store.letGo();
  await clock.settle();
  expect(await committed()).toEqual([5, 5]);
  await consumer.close();
  await waiting;
});

it('shares one commit among calls that wait', async () => {
  const { machine, store, consumerOf, committed } = await setting(1);
  const consumer = consumerOf({ autoCommit: false });
  const records = await take(consumer, 5);
  store.isHolding = true;
  const commits = records.map((record) => record.commit());
  await machine.clock.settle();
  for (const lets of [1, 1]) {
    expect(store.heldCount).toBe(lets);
    store.letGo();
    await machine.clock.settle();
  }
  await Promise.all(commits);
  expect([store.heldCount, await committed()]).toEqual([0, [5]]);
});

it('reports an automatic commit that failed, once, and commits with the next one', async () => {
  const { machine, store, errors, consumerOf, committed } = await setting(1);
  const { clock } = machine;
  const consumer = consumerOf();
  const records = consumer[Symbol.asyncIterator]();
  await records.next();
  store.isFull = true;
  await records.next();
  await clock.advance(0);
  expect(errors).toMatchObject([{ code: 'KAFKA_STORAGE_ERROR', retriable: true }]);
  store.isFull = false;
  await records.next();
  await clock.advance(100);
  expect(await committed()).toEqual([2]);
  expect(errors).toHaveLength(1);
});

it('tries an automatic commit that failed again, a second later, though nothing more is processed', async () => {
  const { machine, store, errors, consumerOf, committed } = await setting(1);
  const consumer = consumerOf();
  await take(consumer, 2);
  store.isFull = true;
  await machine.clock.advance(2500);
  expect(errors.length).toBeGreaterThan(1);
  expect(errors.length).toBeLessThan(5);
  store.isFull = false;
  await machine.clock.advance(1000);
  expect(await committed()).toEqual([1]);
  await consumer.close();
  expect(machine.clock.timerCount).toBe(0);
});

it('rejects the commits of your own that fail, and leaves the rest as it was', async () => {
  const { store, consumerOf, committed } = await setting(1);
  const consumer = consumerOf({ autoCommit: false });
  const records = await take(consumer, 3);
  store.isFull = true;
  const calls = [
    () => records[0]!.commit(),
    () => consumer.commit(),
    () => consumer.commit([{ topic: 't', partition: 0, offset: 1 }]),
  ];
  for (const call of calls) {
    expect(await failureOf(call)).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
  }
  expect(await committed()).toEqual([0]);
  store.isFull = false;
  await consumer.commit();
  expect(await committed()).toEqual([2]);
});

it('hands a partition over although its last commit failed, and warns', async () => {
  const { machine, store, warnings, consumerOf } = await setting(2);
  const one = consumerOf();
  await take(one, 8);
  store.isFull = true;
  const two = consumerOf();
  await machine.clock.settle();
  const ready = two.ready();
  await machine.clock.settle();
  store.isFull = false;
  await ready;
  expect(owned(two)).toEqual(['t-1']);
  expect(warnings).toEqual([
    expect.stringMatching(/group g.*could not be committed.*disk is full/),
  ]);
});

it('goes on committing what it has kept after that', async () => {
  const { machine, store, errors, consumerOf, committed } = await setting(2);
  let told = 0;
  const one = consumerOf({ onRevoked: () => void told++ });
  await take(one, 8);
  store.isFull = true;
  const two = consumerOf();
  await two.ready();
  await machine.clock.settle();
  store.isFull = false;
  expect([told, owned(one)]).toEqual([1, ['t-0']]);
  errors.length = 0;
  await one.seek({ topic: 't', partition: 0, offset: 3 });
  await one.commit();
  expect([await committed(), errors]).toEqual([[3, 0], []]);
});

it('leaves the group at close() although its last commit failed', async () => {
  const { store, engine, consumerOf } = await setting(1);
  let told = 0;
  const consumer = consumerOf({ onRevoked: () => void told++ });
  await take(consumer, 3);
  store.isFull = true;
  expect(await failureOf(() => consumer.close())).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
  expect([told, (await engine.group('g')).members]).toEqual([1, []]);
});

it('fails a member whose start cannot be committed, and lets others have its partitions', async () => {
  const { store, engine, consumerOf } = await setting(1);
  store.isFull = true;
  const one = consumerOf();
  const failure = { code: 'KAFKA_STORAGE_ERROR' };
  expect(await failureOf(() => one.ready())).toMatchObject(failure);
  expect(await failureOf(() => take(one, 1))).toMatchObject(failure);
  store.isFull = false;
  const two = consumerOf();
  await two.ready();
  expect(owned(two)).toEqual(['t-0']);
  expect((await engine.group('g')).members).toHaveLength(1);
});

it('keeps nothing of a first commit that was under way when its topic was deleted', async () => {
  const { machine, store, engine, consumerOf } = await setting(1);
  store.isHolding = true;
  const consumer = consumerOf();
  const ready = consumer.ready();
  await machine.clock.settle();
  const deleted = engine.deleteTopic('t');
  await machine.clock.settle();
  store.isHolding = false;
  store.letGo();
  await deleted;
  await ready;
  expect(owned(consumer)).toEqual([]);
  await consumer.close();
  expect(engine.groups()).toEqual([]);
  expect([...store.range(['offset'])]).toEqual([]);
});
