import { describe, expect, it } from 'vitest';
import { testOttla } from '../../src/testing/index.js';
import { failureOf } from '../contract.js';

const seeds = Array.from({ length: 40 }, (_, i) => i + 1);
const partitions = 3;
const keys = 7;
const recordCount = 60;

/** Numbers from 0 to below 1: a linear congruential generator (Numerical Recipes'). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A record that a handler has finished. */
interface Finished {
  readonly life: number;
  readonly key: string;
  readonly number: number;
}

describe('run, by key, with handlers that fail, stall and finish out of order, over crashes', () => {
  it.each(seeds)('keeps the order of a key and skips nothing (seed %i)', async (seed) => {
    const finish: (() => Promise<void>)[] = [];
    const { ottla, clock, faults } = testOttla({ after: (last) => finish.push(last) }, { seed });
    const chance = random(seed);
    await ottla.topics.create('orders', { partitions });
    const sent = new Map<string, number[]>();
    const records = Array.from({ length: recordCount }, (_, number) => {
      const key = `k${Math.floor(chance() * keys)}`;
      sent.set(key, [...(sent.get(key) ?? []), number]);
      return { key, value: String(number) };
    });
    await ottla.producer().sendBatch('orders', records);

    const finished: Finished[] = [];
    const atWork = new Set<string>();
    /** What was finished when a commit was last known to be made: it must not come again. */
    const durable = new Set<number>();
    const max = 1 + Math.floor(chance() * 5);
    for (let life = 0; ; life++) {
      const isLast = life === 6;
      const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollRecords: 20 });
      const run = consumer.run({
        concurrency: { by: 'key', max },
        retry: { attempts: 50, backoff: () => Math.floor(chance() * 300) },
        eachRecord: async (record) => {
          const key = String(record.key);
          const number = Number(String(record.value));
          expect(durable.has(number)).toBe(false);
          expect(atWork.has(`${life} ${key}`)).toBe(false);
          atWork.add(`${life} ${key}`);
          try {
            if (chance() < 0.7) await clock.sleep(Math.floor(chance() * 200));
            if (chance() < 0.3) throw new Error('by chance');
          } finally {
            atWork.delete(`${life} ${key}`);
          }
          finished.push({ life, key, number });
        },
      });
      if (isLast) {
        await clock.runUntil(ottla.idle());
        await clock.runUntil(consumer.stop());
        await run;
        break;
      }
      await clock.advance(Math.floor(chance() * 600));
      // With time for it, a commit is made of all that is finished.
      if (chance() < 0.5) {
        const before = finished.filter((at) => at.life === life).map(({ number }) => number);
        await clock.advance(101);
        for (const number of before) durable.add(number);
      }
      // From here on nothing is committed, as if the process had been killed.
      faults.fail('commit', { times: Infinity });
      const closed = clock.runUntil(consumer.close());
      await closed.catch(() => undefined);
      await run;
      faults.heal();
    }

    for (const [key, numbers] of sent) {
      const ofKey = finished.filter((at) => at.key === key);
      // At least once, and none before an earlier one of its key has been finished once.
      const firsts = [...new Set(ofKey.map(({ number }) => number))];
      expect(firsts).toEqual(numbers);
      // In one life none is finished twice, or after a later one.
      for (let life = 0; life <= 6; life++) {
        const inLife = ofKey.filter((at) => at.life === life).map(({ number }) => number);
        expect(inLife).toEqual([...new Set(inLife)].toSorted((a, b) => a - b));
      }
    }
    for (const last of finish) await last();
    expect(await failureOf(() => ottla.producer())).toMatchObject({ code: 'CLOSED' });
  });
});
