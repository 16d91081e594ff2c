import { describe, expect, it } from 'vitest';
import { originOf } from '../../src/consumer-letters.js';
import { testOttla } from '../../src/testing/index.js';
import { collect } from '../contract.js';

const seeds = Array.from({ length: 20 }, (_, i) => i + 1);
const recordCount = 40;
const lives = 5;

/** Numbers from 0 to below 1: a linear congruential generator (Numerical Recipes'). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('run, with a retry topic and dead letters, over crashes', () => {
  it.each(seeds)('finishes each record, or puts it aside once (seed %i)', async (seed) => {
    const finish: (() => Promise<void>)[] = [];
    const { ottla, clock, faults } = testOttla({ after: (last) => finish.push(last) }, { seed });
    const chance = random(seed);
    await ottla.topics.create('orders', { partitions: 2 });
    for (const topic of ['retry', 'dlq']) await ottla.topics.create(topic, { partitions: 2 });
    await ottla.producer().sendBatch(
      'orders',
      Array.from({ length: recordCount }, (_, n) => ({ key: `k${n % 5}`, value: String(n) })),
    );
    const letters = async (topic: 'dlq' | 'retry'): Promise<string[]> =>
      (await collect(ottla.read(topic))).map((letter) => {
        const { offset, partition, attempts } = originOf(topic, letter);
        return `${partition}:${offset} ${attempts}`;
      });

    const finished = new Set<string>();
    const putAside = new Set<string>();
    const atWork = new Set<string>();
    let lastEnd: unknown = 'none';
    for (let life = 0; life < lives; life++) {
      const isLast = life === lives - 1;
      for (const letter of await letters('dlq')) putAside.add(letter.split(' ')[0]!);
      const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollRecords: 10 });
      const run = consumer.run({
        concurrency: { by: 'key', max: 1 + Math.floor(chance() * 5) },
        retry: {
          attempts: 3,
          backoff: () => Math.floor(chance() * 300),
          topic: 'retry',
          deadLetter: 'dlq',
        },
        eachRecord: async ({ partition, offset, key }, { attempt }) => {
          const place = `${partition}:${offset}`;
          const lane = `${life} ${String(key)}`;
          expect(putAside.has(place)).toBe(false);
          expect(attempt).toBeLessThanOrEqual(3);
          expect(atWork.has(lane)).toBe(false);
          atWork.add(lane);
          try {
            if (chance() < 0.5) await clock.sleep(Math.floor(chance() * 100));
            if (chance() < 0.5) throw new Error('by chance');
          } finally {
            atWork.delete(lane);
          }
          finished.add(place);
        },
      });
      const ended = run.catch((error: unknown) => error);
      if (isLast) {
        await clock.runUntil(ottla.idle());
        await clock.runUntil(consumer.stop());
        lastEnd = await ended;
        break;
      }
      await clock.advance(Math.floor(chance() * 500));
      // From here on nothing is decided or committed, as if the process had been killed.
      faults.fail('commit', { times: Infinity });
      await clock.advance(Math.floor(chance() * 200));
      await clock.runUntil(consumer.close()).catch(() => undefined);
      await ended;
      faults.heal();
    }

    expect(lastEnd).toBeUndefined();
    const dead = await letters('dlq');
    const places = dead.map((letter) => letter.split(' ')[0]!);
    expect(new Set(places).size).toBe(dead.length);
    expect(dead.every((letter) => letter.endsWith(' 3'))).toBe(true);
    // No attempt of a record is written down twice.
    const retried = await letters('retry');
    expect(new Set(retried).size).toBe(retried.length);
    expect(new Set([...finished, ...places]).size).toBe(recordCount);
    for (const last of finish) await last();
  });
});
