import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { OttlaError, asStorageError } from '../src/errors.js';
import { FaultyMachine } from './faulty-machine.js';
import { append, batchOf, createTopic, partitionOf, readFrom, valuesIn } from './machine.js';
import { ioError, noSpace } from './watched-files.js';
import { seeds } from './seeds.js';

/** What a call to the file system, or a write of rows, meets with. */
type Fault = 'none' | 'no space' | 'i/o error' | number;

const fault = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Fault>('none') },
  { weight: 2, arbitrary: fc.constant<Fault>('no space') },
  { weight: 1, arbitrary: fc.constant<Fault>('i/o error') },
  { weight: 2, arbitrary: fc.nat(200) },
);

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      bytes: fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 3 }),
      durable: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.constant('settle' as const) },
  { weight: 1, arbitrary: fc.constant('wait 5 s' as const) },
  { weight: 1, arbitrary: fc.constant('reopen' as const) },
  { weight: 1, arbitrary: fc.constant('restart' as const) },
  { weight: 1, arbitrary: fc.constant('kill' as const) },
);

/** A partition under faults, and what it must hold. */
class Trial {
  readonly machine: FaultyMachine = new FaultyMachine();
  /** By offset. */
  readonly acknowledged = new Map<number, string>();
  readonly refused = new Set<string>();
  readonly problems: string[] = [];
  broker!: Broker;
  #faults: readonly Fault[];
  #next = 0;
  #sent = 0;
  #pending: Promise<void>[] = [];

  constructor(faults: readonly Fault[]) {
    this.#faults = faults;
  }

  async open(): Promise<void> {
    this.broker = await this.machine.open();
    await createTopic(this.broker, { segmentBytes: 2048, indexIntervalBytes: 100 });
    this.machine.fault = (call) => {
      if (call.path === '/') return undefined;
      const met = this.#take(['write', 'truncate', 'sync', 'replaceFile'].includes(call.name));
      if (typeof met === 'number') {
        return call.name === 'write' ? Math.min(met, call.bytes) : undefined;
      }
      if (met === 'no space') return call.name === 'sync' ? undefined : noSpace(call.path);
      return met === 'none' ? undefined : ioError(call.name, call.path);
    };
  }

  /** Starts again. What a write that was undone left behind would show as a torn tail now. */
  async start(): Promise<void> {
    const isWhole = partitionOf(this.broker).failure === null;
    this.broker = await this.machine.open();
    const cuts = this.broker.recovery.filter((report) => report.includes(': cut '));
    if (isWhole) this.problems.push(...cuts);
  }

  async reopen(): Promise<void> {
    await partitionOf(this.broker)
      .reopen()
      .catch((error: unknown) => {
        if (!(error instanceof OttlaError)) throw error;
      });
  }

  #take(counts: boolean): Fault {
    return counts ? (this.#faults[this.#next++] ?? 'none') : 'none';
  }

  send(sizes: readonly number[], durable: boolean): void {
    if (this.#take(true) === 'no space') {
      this.machine.rowFault = asStorageError('/meta', noSpace('/meta/data.mdb'));
    }
    const values = sizes.map((size) => `${this.#sent++}/`.padEnd(size, '.'));
    const sent = append(partitionOf(this.broker), batchOf(values), durable ? 'all' : 1).then(
      (base) => {
        for (const [i, value] of values.entries()) this.acknowledged.set(base + i, value);
      },
      (error: unknown) => {
        if (!(error instanceof OttlaError)) throw error;
        // Not retriable: it may be in the log, and nobody can tell.
        if (error.retriable) for (const value of values) this.refused.add(value);
      },
    );
    this.#pending.push(sent);
  }

  async settle(): Promise<void> {
    await this.machine.clock.settle();
    await Promise.all(this.#pending);
    this.#pending = [];
  }

  heal(): void {
    this.#faults = [];
    this.machine.rowFault = null;
  }

  async check(): Promise<void> {
    const partition = partitionOf(this.broker);
    const values = await valuesIn(partition);
    for (const [offset, value] of this.acknowledged) {
      if (values[offset] !== value) this.problems.push(`at ${offset}, acknowledged: ${value}`);
    }
    for (const [i, value] of values.entries()) {
      if (this.refused.has(value)) this.problems.push(`refused, and at ${i}: ${value}`);
      const isBehind = Number.parseInt(value, 10) > Number.parseInt(values[i - 1] ?? '-1', 10);
      if (!isBehind) this.problems.push(`at ${i}, behind ${values[i - 1]}: ${value}`);
      const [first] = i % 7 === 0 ? await readFrom(partition, i) : [{ offset: i }];
      if (first?.offset !== i) this.problems.push(`looked for ${i}, found ${first?.offset}`);
    }
  }
}

describe('a partition whose disk fails at random', () => {
  it('keeps what it acknowledged, in order, and nothing it refused', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.array(fault, { maxLength: 60 }),
        async (steps, faults) => {
          const trial = new Trial(faults);
          await trial.open();
          for (const what of steps) {
            if (typeof what === 'object') {
              trial.send(what.bytes, what.durable);
              continue;
            }
            await trial.settle();
            if (what === 'wait 5 s') await trial.machine.clock.advance(5000);
            if (what === 'reopen') await trial.reopen();
            if (what === 'restart') await trial.broker.close();
            if (what === 'restart' || what === 'kill') await trial.start();
          }
          await trial.settle();
          trial.heal();
          await partitionOf(trial.broker).reopen();
          await trial.check();
          trial.send([10], true);
          await trial.settle();
          await trial.check();
          // Those that were killed have closed nothing.
          const open = trial.machine.watched.openCount;
          trial.broker = await trial.machine.open();
          await trial.check();
          await trial.broker.close();
          expect(trial.problems).toEqual([]);
          expect(trial.machine.watched.openCount).toBe(open);
        },
      ),
      { numRuns: seeds(200) },
    );
  });
});
