import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LocalEngine } from '../src/local.js';
import { Producer } from '../src/producer.js';
import { fileError } from '../src/storage/file-system.js';
import { createTopic, Machine, partitionOf, valuesIn } from './machine.js';
import { WatchedFiles } from './watched-files.js';
import { seeds } from './seeds.js';

type Step = 'send' | 'sendBatch' | 'turn' | 'fail' | 'linger';

const steps = fc.array(
  fc.constantFrom<Step>('send', 'send', 'send', 'send', 'sendBatch', 'turn', 'fail', 'linger'),
  { minLength: 5, maxLength: 60 },
);

interface Sent {
  readonly partition: number;
  readonly value: string;
}

/** What a failing write met: the sends of its partition before the one under way, and the log. */
interface Failure {
  readonly takenOver: readonly string[];
  readonly logLength: number;
  readonly partition: number;
}

interface Outcome {
  /** In the order of the calls, by partition. */
  readonly written: readonly (readonly string[])[];
  readonly logs: readonly (readonly string[])[];
  readonly failures: readonly Failure[];
}

/** Two producers, which send to two partitions of small segments while some writes fail. */
async function run(plan: readonly Step[]): Promise<Outcome> {
  const machine = new Machine();
  const sent: Sent[] = [];
  const failures: Failure[] = [];
  let failing = 0;
  machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
    if (name !== 'write' || !path.endsWith('.log') || failing === 0) return undefined;
    failing--;
    const partition = path.startsWith('/t-0') ? 0 : 1;
    const takenOver = sent.slice(0, -1).filter((one) => one.partition === partition);
    failures.push({
      takenOver: takenOver.map(({ value }) => value),
      logLength: partitionOf(broker, partition).logEndOffset,
      partition,
    });
    throw fileError('ENOSPC', 'write', path);
  });
  const broker = await machine.open();
  await createTopic(broker, { segmentBytes: 1024 }, 2);
  const events = { error: () => undefined, warning: () => undefined, closed: () => undefined };
  const engine = new LocalEngine(broker, events);
  const producers = [
    new Producer(engine, machine.clock, () => 0, { batchSize: 300 }, events),
    new Producer(engine, machine.clock, () => 0, { acks: 1, lingerMs: 5, batchSize: 300 }, events),
  ];
  const settled: Promise<string | null>[] = [];
  for (const [i, step] of plan.entries()) {
    const producer = producers[i % 3 === 0 ? 1 : 0]!;
    if (step === 'send' || step === 'sendBatch') {
      const one = { partition: i % 2, value: `${i} ${'x'.repeat((i * 37) % 150)}` };
      sent.push(one);
      const done = step === 'send' ? producer.send('t', one) : producer.sendBatch('t', [one]);
      settled.push(
        done.then(
          () => one.value,
          () => null,
        ),
      );
    } else if (step === 'turn') await machine.clock.settle();
    else if (step === 'linger') await machine.clock.advance(5);
    else failing++;
  }
  await machine.clock.advance(5);
  const values = new Set(await Promise.all(settled));
  const partitions = [0, 1];
  const logs = await Promise.all(partitions.map((i) => valuesIn(partitionOf(broker, i))));
  const written = partitions.map((i) =>
    sent.filter(({ partition, value }) => partition === i && values.has(value)),
  );
  await broker.close();
  return { written: written.map((list) => list.map(({ value }) => value)), logs, failures };
}

describe('whatever fails', () => {
  it('a log has what was acknowledged, in the order of the calls', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const { written, logs } = await run(plan);
        expect(logs).toEqual(written);
      }),
      { numRuns: seeds(150) },
    );
  });

  it('with a batch fails what of its partition was taken over by then: none can be overtaken', async () => {
    const count = seeds(150);
    let failureCount = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const { logs, failures } = await run(plan);
        failureCount += failures.length;
        for (const { takenOver, logLength, partition } of failures) {
          const later = logs[partition]!.slice(logLength);
          expect(takenOver.filter((value) => later.includes(value))).toEqual([]);
        }
      }),
      { numRuns: count },
    );
    expect(failureCount).toBeGreaterThan(count < 150 ? 0 : 100);
  });
});
