import { existsSync } from 'node:fs';
import { describe, expect, it, type TestContext as VitestContext } from 'vitest';
import { Gate, testDirectory, testOttla, type TestContext } from '../../src/testing/index.js';
import { collect, failureOf } from '../contract.js';

/** The context of a test that ends when told. */
class Ending {
  readonly #finishing: (() => Promise<void>)[] = [];

  get ofVitest(): TestContext {
    return { onTestFinished: (finish: () => Promise<void>) => this.#finishing.push(finish) };
  }

  get ofNode(): TestContext {
    return { after: (finish: () => Promise<void>) => this.#finishing.push(finish) };
  }

  async end(): Promise<void> {
    for (const finish of this.#finishing.toReversed()) await finish();
  }
}

describe('testOttla', () => {
  it('takes the context of a Vitest test', async (test: VitestContext) => {
    const { ottla } = testOttla(test);
    await ottla.topics.create('orders');
    expect(await ottla.topics.list()).toEqual(['orders']);
  });

  it.each(['ofVitest', 'ofNode'] as const)('closes when the test has ended (%s)', async (kind) => {
    const ending = new Ending();
    const { ottla, clock } = testOttla(ending[kind]);
    await ottla.topics.create('orders');
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    const loop = collect(consumer);
    await ottla.producer({ lingerMs: 1000 }).flush();
    await ending.end();
    expect(await loop).toEqual([]);
    expect(await failureOf(() => ottla.producer())).toMatchObject({ code: 'CLOSED' });
    expect(clock.timerCount).toBe(0);
  });

  it('closes though a disk waits or fails, and a linger is not over', async () => {
    const ending = new Ending();
    const { ottla, faults } = testOttla(ending.ofNode);
    await ottla.topics.create('orders');
    faults.hold('sync');
    faults.fail('commit', { times: Infinity });
    const sent = ottla.producer({ lingerMs: 1000 }).send('orders', { value: 'v' });
    await ending.end();
    expect(await sent).toMatchObject({ offset: 0 });
  });

  it('gives the same ids and choices in every run, and others with another seed', async () => {
    const run = async (options: { seed?: number }): Promise<unknown> => {
      const ending = new Ending();
      const { ottla } = testOttla(ending.ofNode, options);
      await ottla.topics.create('orders', { partitions: 100 });
      const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
      await consumer.ready();
      const { partition } = await ottla.producer().send('orders', { value: 'v' });
      const { id } = await ottla.topics.describe('orders');
      const { members } = await ottla.groups.describe('g');
      await ending.end();
      return { partition, id, member: members[0]!.memberId };
    };
    const first = await run({});
    expect(await run({})).toEqual(first);
    expect(await run({ seed: 1 })).toEqual(first);
    expect(await run({ seed: 2 })).not.toEqual(first);
  });

  it('gives the same events at the same times in every run, and others with another seed', async () => {
    const run = async (seed: number): Promise<string[]> => {
      const ending = new Ending();
      const { ottla, clock, faults } = testOttla(ending.ofNode, { seed });
      await ottla.topics.create('orders', { partitions: 6 });
      for (const topic of ['retry', 'dead']) await ottla.topics.create(topic);
      const log: string[] = [];
      const producer = ottla.producer({ lingerMs: 5 });
      for (let i = 0; i < 40; i++) void producer.send('orders', { value: String(i) });
      const consumers = ['a', 'b', 'c'].map((name) => {
        const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
        void consumer.run({
          concurrency: { by: 'key', max: 4 },
          rateLimit: { records: 20, perMs: 1000 },
          retry: { attempts: 3, topic: 'retry', deadLetter: 'dead' },
          eachRecord: async ({ partition, value }, { attempt }) => {
            const number = Number(String(value));
            log.push(`${clock.monotonic()} ${name} ${partition} ${number} ${attempt}`);
            await clock.sleep((number % 7) * 10);
            if (number % 3 === 0) throw new Error('no');
          },
        });
        return consumer;
      });
      await clock.advance(50);
      faults.fail('commit', { times: 2 });
      expect(faults.fence('g')).toBe(3);
      await clock.runUntil(ottla.idle());
      void consumers[0]!.close();
      await clock.advance(10);
      for (let i = 0; i < 20; i++) void producer.send('orders', { key: `k${i}`, value: String(i) });
      await clock.runUntil(ottla.idle());
      await ending.end();
      return log;
    };
    const first = await run(1);
    expect(first.length).toBeGreaterThan(60);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
  });

  it('collects errors and warnings', async (test) => {
    const { ottla, faults, errors, warnings } = testOttla(test, { maxBytes: 1000 });
    await ottla.topics.create('orders');
    faults.fail('write');
    const refused = ottla.producer().send('orders', { value: 'v' });
    expect(await failureOf(() => refused)).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    await ottla.producer().send('orders', { value: 'v'.repeat(850) });
    expect(errors).toMatchObject([{ code: 'KAFKA_STORAGE_ERROR' }]);
    expect(warnings).toEqual([expect.stringContaining('maxBytes')]);
  });

  it('refuses what is no context of a test', () => {
    expect(() => testOttla({} as TestContext)).toThrow(TypeError);
    expect(() => testOttla(undefined as unknown as TestContext)).toThrow(
      'testOttla: expected the context of a Vitest or node:test test, got undefined',
    );
  });
});

describe('testDirectory', () => {
  it('closes and removes the directory when the test has ended', async () => {
    const ending = new Ending();
    const { ottla, path } = await testDirectory(ending.ofVitest);
    await ottla.topics.create('orders');
    await ottla.producer().send('orders', { value: 'v' });
    expect(existsSync(path)).toBe(true);
    await ending.end();
    expect(existsSync(path)).toBe(false);
  });

  it('removes the directory also if it could not be opened, or the test closed it', async () => {
    const refused = new Ending();
    const options = { maxBytes: 0 };
    expect(await failureOf(() => testDirectory(refused.ofNode, options))).toBeInstanceOf(
      RangeError,
    );
    await refused.end();
    const closed = new Ending();
    const { ottla, path } = await testDirectory(closed.ofNode);
    await ottla.close();
    await closed.end();
    expect(existsSync(path)).toBe(false);
  });
});

describe('Gate', () => {
  it('stalls a handler where the test says', async (test) => {
    const { ottla } = testOttla(test);
    await ottla.topics.create('orders');
    const gate = new Gate();
    gate.close();
    const handled: string[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
    const loop = (async () => {
      for await (const { value } of consumer) {
        await gate.pass();
        handled.push(String(value));
      }
    })();
    await ottla.producer().sendBatch('orders', [{ value: 'a' }, { value: 'b' }, { value: 'c' }]);
    await gate.arrived();
    expect([gate.waitingCount, handled]).toEqual([1, []]);
    const next = gate.arrived();
    gate.letThrough();
    await gate.arrived();
    await next;
    expect(handled).toEqual(['a']);
    gate.open();
    await ottla.idle();
    expect(handled).toEqual(['a', 'b', 'c']);
    await consumer.close();
    await loop;
  });
});
