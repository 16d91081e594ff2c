import { describe, expect, it } from 'vitest';
import { Consumer } from '../../src/consumer.js';
import { originOf, type LetterKind } from '../../src/consumer-letters.js';
import { TopicReading } from '../../src/consumer-read.js';
import type { RetryOptions } from '../../src/index.js';
import { LocalEngine } from '../../src/local.js';
import { numbers } from '../consuming.js';
import { collect } from '../contract.js';
import { DyingMachine } from '../dying-machine.js';
import { append, batchOf, createTopic, partitionOf } from '../machine.js';

const count = 6;

/** One process: it handles what there is until nothing goes on, and is left as it is then. */
async function live(
  machine: DyingMachine,
  retry: RetryOptions,
  eachRecord: (offset: number) => Promise<void>,
): Promise<{ engine: LocalEngine; consumer: Consumer }> {
  const events = { error: () => undefined, warning: () => undefined, closed: () => undefined };
  const engine = new LocalEngine(await machine.open(), events);
  const options = { group: 'g', topics: ['t'] };
  const consumer = new Consumer(engine, machine.clock, () => 0, options, events);
  const run = consumer.run({
    concurrency: { by: 'key', max: 10 },
    retry,
    eachRecord: ({ offset }) => eachRecord(offset),
  });
  run.catch(() => undefined);
  await machine.clock.settle();
  return { engine, consumer };
}

/** Offsets of the records that have letters. */
async function letters(engine: LocalEngine, kind: LetterKind): Promise<number[]> {
  const records = await collect(new TopicReading(engine, kind));
  return records.map((record) => originOf(kind, record).offset).toSorted((a, b) => a - b);
}

const hanging = (): Promise<void> => new Promise(() => undefined);
const failing = (): Promise<void> => Promise.reject(new Error('no'));

async function prepared(): Promise<DyingMachine> {
  const machine = new DyingMachine(false);
  const broker = await machine.open();
  for (const name of ['t', 'dlq', 'retry']) await createTopic(broker, {}, 1, name);
  await append(partitionOf(broker), batchOf(numbers(count)));
  return machine;
}

describe('a kill while records are handed over', () => {
  it.each<[LetterKind, RetryOptions]>([
    ['dlq', { deadLetter: 'dlq' }],
    ['retry', { attempts: 2, backoff: () => 60_000, topic: 'retry' }],
  ])(
    'to %s, at each change, leaves each either with a letter or to come again',
    async (kind, retry) => {
      const seen = new Set<number>();
      for (let changes = 0; ; changes++) {
        const machine = await prepared();
        machine.left = changes;
        machine.asked = 0;
        // What fails lies behind a record that hangs: no commit passes that one.
        await live(machine, retry, (offset) => (offset === 0 ? hanging() : failing()));
        const wasReached = machine.asked > changes;
        machine.left = Infinity;

        const again: number[] = [];
        const { engine, consumer } = await live(machine, retry, async (offset) => {
          again.push(offset);
          if (offset > 0) await failing();
        });
        const all = await letters(engine, kind);
        expect(all).toEqual([1, 2, 3, 4, 5]);
        expect(again).toContain(0);
        seen.add(again.length);
        await consumer.stop();
        const committed = (await engine.group('g')).partitions.find(({ topic }) => topic === 't');
        expect(committed).toMatchObject({ committed: count });
        if (!wasReached) break;
      }
      // The first letter has a transaction of its own, the others share the next.
      expect([...seen].toSorted((a, b) => a - b)).toEqual([1, 5, 6]);
    },
  );

  it('which comes from the retry topic itself, at each change, loses none and doubles none', async () => {
    const retry = { attempts: 2, backoff: () => 0, topic: 'retry', deadLetter: 'dlq' };
    for (let changes = 0; ; changes++) {
      const machine = await prepared();
      machine.left = changes;
      machine.asked = 0;
      await live(machine, retry, failing);
      const wasReached = machine.asked > changes;
      machine.left = Infinity;
      const { engine } = await live(machine, retry, failing);
      expect(await letters(engine, 'retry')).toEqual([0, 1, 2, 3, 4, 5]);
      expect(await letters(engine, 'dlq')).toEqual([0, 1, 2, 3, 4, 5]);
      if (!wasReached) break;
    }
  });
});
