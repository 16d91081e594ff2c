import { describe, expect, it } from 'vitest';
import type { ConsumerOptions, Ottla, RunOptions } from '../../src/index.js';
import { Gate, testOttla, type TestContext, type TestOttla } from '../../src/testing/index.js';
import { committed, numbers, send, take } from '../consuming.js';

const group = { group: 'g', topics: ['orders'] } as const;
const p0 = { topic: 'orders', partition: 0 };

async function begin(test: TestContext, partitions = 1): Promise<TestOttla> {
  const made = testOttla(test);
  await made.ottla.topics.create('orders', { partitions });
  return made;
}

/** Each with a key of its own. */
async function sendKeyed(ottla: Ottla, values: readonly string[]): Promise<void> {
  await ottla.producer().sendBatch(
    'orders',
    values.map((value) => ({ key: value, value, partition: 0 })),
  );
}

function running(ottla: Ottla, options: RunOptions<'orders'>, more: Partial<ConsumerOptions> = {}) {
  const consumer = ottla.consumer({ ...more, ...group });
  const run = consumer.run(options);
  const done = run.then(
    () => 'stopped',
    (error: unknown) => error,
  );
  return { consumer, done };
}

function closedGate(): Gate {
  const gate = new Gate();
  gate.close();
  return gate;
}

describe('what is finished beyond the commit', () => {
  it('is not taken for more by who iterates afterwards', async (test) => {
    const { ottla, clock } = await begin(test);
    await sendKeyed(ottla, numbers(8));
    const stopping = new AbortController();
    const { consumer, done } = running(ottla, {
      concurrency: { by: 'key', max: 4 },
      signal: stopping.signal,
      retry: { attempts: 2, backoff: () => 60_000 },
      eachRecord: ({ value }) => {
        if (!['1', '2'].includes(String(value))) throw new Error('not yet');
      },
    });
    await clock.settle();
    stopping.abort();
    expect(await done).toBe('stopped');
    await take(consumer, 2);
    await consumer.close();
    const seen: string[] = [];
    running(ottla, { eachRecord: ({ value }) => void seen.push(String(value)) });
    await ottla.idle();
    expect(seen).toEqual(numbers(7, 1));
  });

  it('is not left out where seek() goes', async (test) => {
    const { ottla, clock } = await begin(test);
    await sendKeyed(ottla, numbers(4));
    const seen: string[] = [];
    const { consumer } = running(ottla, {
      concurrency: { by: 'key', max: 4 },
      retry: { attempts: 2, backoff: () => 60_000 },
      eachRecord: ({ value }, { attempt }) => {
        seen.push(String(value));
        if (value === null || (String(value) === '0' && attempt === 1 && seen.length < 5)) {
          throw new Error('not yet');
        }
      },
    });
    await clock.advance(1000);
    const kept = { ...p0, offset: 0, metadata: expect.stringMatching(/./) };
    expect(await consumer.committed()).toEqual([kept]);
    seen.length = 5;
    await consumer.seek({ ...p0, offset: 0 });
    await ottla.idle();
    expect(seen.slice(5).toSorted()).toEqual(numbers(4));
  });

  it('is not left out after a restart where seek() went', async (test) => {
    const { ottla, clock } = await begin(test);
    await sendKeyed(ottla, numbers(4));
    const gate = new Gate();
    const first = running(ottla, {
      concurrency: { by: 'key', max: 4 },
      retry: { attempts: 2, backoff: () => 60_000 },
      eachRecord: async ({ value }) => {
        await gate.pass();
        if (String(value) === '0') throw new Error('not yet');
      },
    });
    await clock.advance(1000);
    gate.close();
    await first.consumer.seek({ ...p0, offset: 0 });
    await gate.arrived(4);
    await clock.advance(1000);
    await first.consumer.close();
    const seen: string[] = [];
    running(ottla, { eachRecord: ({ value }) => void seen.push(String(value)) });
    await ottla.idle();
    expect(seen).toEqual(numbers(4));
    gate.open();
  });
});

describe('a run without a handler at work', () => {
  it('is not silent, however long a backoff is', async (test) => {
    const { ottla, clock, warnings } = await begin(test);
    await send(ottla, 'orders', numbers(600));
    const attempts: number[] = [];
    running(
      ottla,
      {
        retry: { attempts: 3, backoff: () => 5000 },
        eachRecord: ({ offset }, { attempt }) => {
          if (offset > 0) return;
          attempts.push(attempt);
          if (attempt < 3) throw new Error('not yet');
        },
      },
      { maxPollIntervalMs: 800 },
    );
    await clock.advance(10_000);
    await ottla.idle();
    expect([attempts, warnings]).toEqual([[1, 2, 3], []]);
  });

  it('is not silent, however low the rate', async (test) => {
    const { ottla, clock, warnings } = await begin(test);
    await send(ottla, 'orders', numbers(600));
    const seen: string[] = [];
    running(
      ottla,
      {
        rateLimit: { records: 1, perMs: 5000 },
        eachRecord: ({ value }) => void seen.push(String(value)),
      },
      { maxPollIntervalMs: 800 },
    );
    await clock.advance(10_000);
    expect([seen, warnings]).toEqual([['0', '1', '2'], []]);
  });
});

describe('a handler that hangs', () => {
  it('ends the run when it returns and the group has another assignor by then', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const gate = closedGate();
    const hanging = running(ottla, { eachRecord: () => gate.pass() }, { maxPollIntervalMs: 800 });
    await clock.advance(1000);
    const other = ottla.consumer({ ...group, assignor: 'sticky' });
    await other.ready();
    gate.open();
    expect(await hanging.done).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
    expect(other.assignment()).toEqual([p0]);
  });

  it('is not waited for by stop() once its partition is lost: so it may even await that', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    let stopped = 0;
    const { consumer, done } = running(
      ottla,
      {
        eachRecord: async () => {
          await consumer.stop();
          stopped++;
        },
      },
      { maxPollIntervalMs: 800 },
    );
    await clock.advance(1000);
    expect(await done).toBe('stopped');
    await clock.settle();
    expect([stopped, await committed(ottla, 'g', 'orders')]).toEqual([1, [0]]);
    expect((await ottla.groups.describe('g')).members).toEqual([]);
  });
});

describe('close() while partitions move', () => {
  it('tells of each once, and commits before they do', async (test) => {
    const { ottla, clock, errors, warnings } = await begin(test, 2);
    await send(ottla, 'orders', numbers(3), 1);
    const gate = new Gate();
    const told: unknown[] = [];
    const { consumer, done } = running(
      ottla,
      {
        eachRecord: async ({ offset }) => {
          if (offset === 1) gate.close();
          await gate.pass();
        },
      },
      {
        onRevoked: async (partitions) => {
          told.push(...partitions);
          await consumer.committed();
        },
      },
    );
    await gate.arrived();
    const other = ottla.consumer(group);
    await other.ready();
    expect(told).toEqual([]);
    await consumer.close();
    expect(told).toEqual([{ topic: 'orders', partition: 1 }, p0]);
    await other.ready();
    gate.open();
    expect(await done).toBe('stopped');
    await clock.advance(1000);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0, 1]);
    expect([errors, warnings]).toEqual([[], []]);
  });
});
