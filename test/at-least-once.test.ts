import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { it } from 'vitest';
import { Ottla, type AssignorName, type Consumer } from '../src/index.js';
import { send } from './consuming.js';
import { ManualClock } from './manual-clock.js';
import { seeds } from './seeds.js';

const revokeTimeoutMs = 1000;
const maxPollIntervalMs = 4000;

const happening = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('send' as const),
      partition: fc.nat(99),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('join' as const),
      autoCommit: fc.boolean(),
      maxPollRecords: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('close' as const), who: fc.nat(99) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('stall' as const), who: fc.nat(99) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('wake' as const), who: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('grow' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('time' as const),
      ms: fc.constantFrom(1, 100, 600, revokeTimeoutMs, maxPollIntervalMs + 600),
    }),
  },
);

type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

/** A member that may stall in the middle of a record, for as long as it likes. */
class Worker {
  readonly consumer: Consumer;
  readonly ended: Promise<void>;
  readonly #autoCommit: boolean;
  #wakeUp: (() => void) | null = null;
  #stalled: Promise<void> | null = null;

  constructor(
    consumer: Consumer,
    autoCommit: boolean,
    process: (partition: number, offset: number) => void,
  ) {
    this.consumer = consumer;
    this.#autoCommit = autoCommit;
    this.ended = this.#run(process);
  }

  async #run(process: (partition: number, offset: number) => void): Promise<void> {
    for await (const record of this.consumer) {
      await turn();
      await this.#stalled;
      process(record.partition, record.offset);
      // Refused if the partition has been lost meanwhile.
      if (!this.#autoCommit) await record.commit().catch(() => undefined);
    }
  }

  stall(): void {
    this.#stalled ??= new Promise((resolve) => (this.#wakeUp = resolve));
  }

  wake(): void {
    this.#stalled = null;
    this.#wakeUp?.();
  }
}

class Shop {
  readonly clock = new ManualClock();
  readonly ottla: Ottla;
  readonly #assignor: AssignorName;
  readonly #processed = new Map<number, Set<number>>();
  readonly #committed = new Map<number, number>();
  readonly #everyWorker: Worker[] = [];
  #workers: Worker[] = [];
  #partitionCount = 2;

  constructor(assignor: AssignorName, seed: number) {
    this.ottla = Ottla.memory({ clock: this.clock, seed });
    this.ottla.on('warning', () => undefined);
    this.#assignor = assignor;
  }

  async open(): Promise<void> {
    await this.ottla.topics.create('orders', { partitions: this.#partitionCount });
  }

  async happens(next: Happening): Promise<void> {
    const worker =
      'who' in next ? this.#workers[next.who % Math.max(1, this.#workers.length)] : undefined;
    switch (next.what) {
      case 'send': {
        const values = Array.from({ length: next.count }, (_, i) => i);
        await send(this.ottla, 'orders', values, next.partition % this.#partitionCount);
        break;
      }
      case 'join':
        this.join(next);
        break;
      case 'close':
        this.#workers = this.#workers.filter((other) => other !== worker);
        await worker?.consumer.close();
        break;
      case 'stall':
        worker?.stall();
        break;
      case 'wake':
        worker?.wake();
        break;
      case 'grow':
        if (this.#partitionCount === 6) break;
        await this.ottla.topics.addPartitions('orders', ++this.#partitionCount);
        break;
      case 'time':
        await this.clock.advance(next.ms);
        break;
    }
    await this.check();
  }

  join({
    autoCommit,
    maxPollRecords,
  }: {
    readonly autoCommit: boolean;
    readonly maxPollRecords: number;
  }): void {
    const consumer = this.ottla.consumer({
      group: 'g',
      topics: ['orders'],
      assignor: this.#assignor,
      revokeTimeoutMs,
      maxPollIntervalMs,
      autoCommit,
      maxPollRecords,
    });
    const worker = new Worker(consumer, autoCommit, (partition, offset) => {
      const offsets = this.#processed.get(partition) ?? new Set();
      this.#processed.set(partition, offsets.add(offset));
    });
    this.#workers.push(worker);
    this.#everyWorker.push(worker);
  }

  /** Nothing is committed that was not processed, and no commit moves back. */
  async check(): Promise<void> {
    if (!(await this.ottla.groups.list()).includes('g')) return;
    const { partitions } = await this.ottla.groups.describe('g');
    for (const { partition, committed } of partitions) {
      assert.ok(committed >= (this.#committed.get(partition) ?? -1), 'a commit moved back');
      this.#committed.set(partition, committed);
      for (let offset = 0; offset < committed; offset++) {
        assert.ok(this.#processed.get(partition)?.has(offset), `${partition}: ${offset} is lost`);
      }
    }
  }

  async checkAtEnd(): Promise<void> {
    for (const worker of this.#everyWorker) worker.wake();
    this.join({ autoCommit: true, maxPollRecords: 3 });
    await Promise.all(this.#workers.map(({ consumer }) => consumer.ready()));
    await this.ottla.idle();
    await this.check();
    const { partitions } = await this.ottla.groups.describe('g');
    assert.equal(partitions.length, this.#partitionCount);
    for (const { lag, memberId } of partitions) assert.ok(lag === 0 && memberId !== null);
    await Promise.all(this.#workers.map(({ consumer }) => consumer.close()));
    await Promise.all(this.#everyWorker.map(({ ended }) => ended));
    await this.clock.settle();
    assert.equal(this.clock.timerCount, 0);
    await this.ottla.close();
  }
}

it.each(['range', 'roundrobin', 'sticky', 'cooperative-sticky'] as const)(
  'every record is processed before it is committed, however members stall, are expelled and close: %s',
  async (assignor) => {
    const property = fc.asyncProperty(
      fc.array(happening, { minLength: 1, maxLength: 25 }),
      fc.integer(),
      async (happenings, seed) => {
        const shop = new Shop(assignor, seed);
        await shop.open();
        for (const next of happenings) await shop.happens(next);
        await shop.checkAtEnd();
      },
    );
    await fc.assert(property, { numRuns: seeds(40) });
  },
);
