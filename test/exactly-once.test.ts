import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { it } from 'vitest';
import { Ottla, type AssignorName, type Consumer, type ConsumerRecord } from '../src/index.js';
import { ManualClock } from './manual-clock.js';
import { seeds } from './seeds.js';

const happening = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('send' as const),
      partitions: fc.array(fc.nat(99), { minLength: 1, maxLength: 12 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('join' as const),
      byBatch: fc.boolean(),
      maxPollRecords: fc.integer({ min: 1, max: 5 }),
      turnsPerRecord: fc.nat(3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('leave' as const), who: fc.nat(99) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('turns' as const),
      count: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('time' as const),
      ms: fc.integer({ min: 1, max: 300 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('grow' as const) }) },
);

type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;
type Join = Extract<Happening, { what: 'join' }>;

/** A member that works through its share, and leaves between two records: never with one half done. */
class Worker {
  readonly #consumer: Consumer;
  readonly #join: Join;
  readonly #process: (record: ConsumerRecord) => void;
  readonly #ended: Promise<void>;
  #isWorking = false;
  #isLeaving = false;

  constructor(consumer: Consumer, join: Join, process: (record: ConsumerRecord) => void) {
    this.#consumer = consumer;
    this.#join = join;
    this.#process = process;
    this.#ended = join.byBatch ? this.#runByBatch() : this.#run();
  }

  async #run(): Promise<void> {
    for await (const record of this.#consumer) {
      if (await this.#work([record])) continue;
      await record.commit();
      break;
    }
  }

  async #runByBatch(): Promise<void> {
    for await (const batch of this.#consumer.batches()) {
      if (await this.#work(batch.records)) continue;
      await batch.commit();
      break;
    }
  }

  /** @returns whether to go on */
  async #work(records: readonly ConsumerRecord[]): Promise<boolean> {
    this.#isWorking = true;
    for (const record of records) {
      for (let i = 0; i < this.#join.turnsPerRecord; i++) await turn();
      this.#process(record);
    }
    this.#isWorking = false;
    return !this.#isLeaving;
  }

  async leave(): Promise<void> {
    this.#isLeaving = true;
    // Now a record that was handed out is being worked on, or the loop waits for one.
    await turn();
    if (this.#isWorking) await this.#ended;
    await this.#consumer.close();
    await this.#ended;
  }
}

class Shop {
  readonly clock = new ManualClock();
  readonly ottla: Ottla;
  readonly #assignor: AssignorName;
  readonly #offsets = new Map<number, number[]>();
  #workers: Worker[] = [];
  #partitionCount = 3;
  #sentCount = 0;

  constructor(assignor: AssignorName, seed: number) {
    this.ottla = Ottla.memory({ clock: this.clock, seed });
    this.#assignor = assignor;
  }

  async open(): Promise<void> {
    await this.ottla.topics.create('orders', { partitions: this.#partitionCount });
  }

  async happens(next: Happening): Promise<void> {
    switch (next.what) {
      case 'send':
        await this.#send(next.partitions);
        break;
      case 'join':
        this.#join(next);
        break;
      case 'leave': {
        const [worker] = this.#workers.splice(next.who % Math.max(1, this.#workers.length), 1);
        await worker?.leave();
        break;
      }
      case 'turns':
        for (let i = 0; i < next.count; i++) await turn();
        break;
      case 'time':
        await this.clock.advance(next.ms);
        break;
      case 'grow':
        if (this.#partitionCount === 8) break;
        await this.ottla.topics.addPartitions('orders', ++this.#partitionCount);
        break;
    }
  }

  async #send(partitions: readonly number[]): Promise<void> {
    const producer = this.ottla.producer({ acks: 1 });
    for (const partition of partitions) {
      const value = String(this.#sentCount++);
      void producer.send('orders', { value, partition: partition % this.#partitionCount });
    }
    await producer.close();
  }

  #join(join: Join): void {
    const consumer = this.ottla.consumer({
      group: 'g',
      topics: ['orders'],
      assignor: this.#assignor,
      maxPollRecords: join.maxPollRecords,
    });
    this.#workers.push(
      new Worker(consumer, join, ({ partition, offset }) => {
        const offsets = this.#offsets.get(partition) ?? [];
        this.#offsets.set(partition, offsets);
        offsets.push(offset);
      }),
    );
  }

  async checkAtEnd(): Promise<void> {
    this.#join({ what: 'join', byBatch: false, maxPollRecords: 5, turnsPerRecord: 0 });
    await this.ottla.idle();
    await Promise.all(this.#workers.map((worker) => worker.leave()));
    const { partitions } = await this.ottla.topics.describe('orders');
    const expected = partitions.map(({ highWatermark }) =>
      Array.from({ length: highWatermark }, (_, offset) => offset),
    );
    const processed = partitions.map(({ partition }) => this.#offsets.get(partition) ?? []);
    assert.deepEqual(processed, expected);
    assert.equal(expected.flat().length, this.#sentCount);
    await this.clock.settle();
    assert.equal(this.clock.timerCount, 0);
    await this.ottla.close();
  }
}

it.each(['range', 'roundrobin', 'sticky', 'cooperative-sticky'] as const)(
  'every record is processed exactly once, in the order of its partition, while members come and go: %s',
  async (assignor) => {
    const property = fc.asyncProperty(
      fc.array(happening, { minLength: 1, maxLength: 30 }),
      fc.integer(),
      async (happenings, seed) => {
        const shop = new Shop(assignor, seed);
        await shop.open();
        for (const next of happenings) await shop.happens(next);
        await shop.checkAtEnd();
      },
    );
    await fc.assert(property, { numRuns: seeds(60) });
  },
);
