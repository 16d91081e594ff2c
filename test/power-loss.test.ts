import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { keyedBatch, keyedRecords, latestValues } from './keyed.js';
import { append, batchOf, createTopic, partitionOf, valuesIn } from './machine.js';
import { atEveryLoss, type AfterLoss } from './power/every-loss.js';
import { Figures, simulate } from './power/simulation.js';
import { simulateTransactions, TransactionFigures } from './power/transactions.js';
import { seeds } from './seeds.js';

const nothing = async (): Promise<void> => undefined;
const settings = { segmentBytes: 1024, indexIntervalBytes: 256 } as const;
const directories = ['t-0', 't-1', 't-2'];

const numbers = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${i}`.padStart(200, '.'));

async function appendAll(broker: Broker, values: readonly string[], partition = 0): Promise<void> {
  for (const value of values) await append(partitionOf(broker, partition), batchOf([value]), 'all');
}

async function commit(broker: Broker, offset: number): Promise<void> {
  const partition = partitionOf(broker);
  const { topicId } = partition;
  const leaderEpoch = partition.epochBefore(offset);
  await broker.offsets.commit('g', [{ topicId, partition: 0, offset, leaderEpoch, metadata: '' }]);
}

const namesOf = (broker: Broker): string[] => [...broker.topics.all()].map(({ name }) => name);

/** Opens once more: there is nothing left to say or to mend. */
async function expectMended(broker: Broker, { machine }: AfterLoss): Promise<void> {
  await broker.close();
  const steps = machine.steps;
  const again = await machine.open();
  expect(again.recovery).toEqual([]);
  expect(machine.steps).toBe(steps);
  const { problems } = await machine.verify();
  expect(problems).toEqual([]);
}

describe('f02, f03: a kill or a loss of power at each step', () => {
  it('f20: of creating a topic leaves it whole or not there', async () => {
    const losses = await atEveryLoss(
      nothing,
      (broker) => createTopic(broker, {}, 3),
      async (broker, after) => {
        expect(after.isDone ? [['t']] : [[], ['t']]).toContainEqual(namesOf(broker));
        expect(after.machine.files.list('/')).toEqual(
          namesOf(broker).length > 0 ? directories : [],
        );
        await createTopic(broker, {}, 3);
        for (const index of [0, 1, 2]) {
          expect(await append(partitionOf(broker, index), batchOf(['a']))).toBe(0);
        }
        expect(after.machine.files.list('/')).toEqual(directories);
        await expectMended(broker, after);
      },
    );
    expect(losses).toBeGreaterThan(200);
  });

  it('f20: of deleting a topic leaves it whole or gone, and nothing of it to one created anew', async () => {
    await atEveryLoss(
      async (broker) => {
        await createTopic(broker, settings, 3);
        for (const index of [0, 1, 2]) await appendAll(broker, numbers(6), index);
        await commit(broker, 5);
      },
      (broker) => broker.topics.delete('t'),
      async (broker, after) => {
        const isThere = namesOf(broker).length > 0;
        expect(isThere && after.isDone).toBe(false);
        expect(after.machine.files.list('/')).toEqual(isThere ? directories : []);
        const values = isThere ? await valuesIn(partitionOf(broker, 2)) : [];
        const id = isThere ? partitionOf(broker).topicId : '';
        expect(values).toEqual(isThere ? numbers(6) : []);
        expect(broker.offsets.fetch('g', id, 0)?.offset).toBe(isThere ? 5 : undefined);
        if (isThere) await broker.topics.delete('t');
        const partition = await createTopic(broker, settings, 3);
        expect(partition.logEndOffset).toBe(0);
        expect(broker.offsets.fetch('g', partition.topicId, 0)).toBeUndefined();
        await appendAll(broker, ['new']);
        await expectMended(broker, after);
      },
    );
  });

  it('f20: of adding partitions takes none away, and deleting the topic removes what was begun', async () => {
    await atEveryLoss(
      async (broker) => {
        await createTopic(broker);
        await appendAll(broker, ['a']);
      },
      (broker) => broker.topics.addPartitions('t', 3),
      async (broker, after) => {
        const count = broker.topics.get('t').partitionCount;
        expect(after.isDone ? [3] : [1, 3]).toContain(count);
        expect(await valuesIn(partitionOf(broker))).toEqual(['a']);
        if (count === 1) await broker.topics.addPartitions('t', 3);
        expect(await append(partitionOf(broker, 2), batchOf(['b']))).toBe(0);
        expect(after.machine.files.list('/')).toEqual(directories);
        await broker.topics.delete('t');
        expect(after.machine.files.list('/')).toEqual([]);
      },
    );
  });

  it('f18: of rolling keeps what was acknowledged, and no hole', async () => {
    const values = numbers(12);
    await atEveryLoss(
      (broker) => createTopic(broker, settings),
      (broker) => appendAll(broker, values),
      async (broker, after) => {
        const found = await valuesIn(partitionOf(broker));
        expect(found).toEqual(after.isDone ? values : values.slice(0, found.length));
        expect(await append(partitionOf(broker), batchOf(['new']), 'all')).toBe(found.length);
        await expectMended(broker, after);
      },
    );
  });

  it('f19: of compacting leaves the old segments or the new one', async () => {
    const records = Array.from({ length: 30 }, (_, i) => [`k${i % 3}`, numbers(30)[i]!] as const);
    await atEveryLoss(
      async (broker) => {
        await createTopic(broker, { ...settings, cleanupPolicy: 'delete' });
        for (const record of records) {
          await append(partitionOf(broker), keyedBatch([record]), 'all');
        }
        await broker.topics.alter('t', { cleanupPolicy: 'compact', segmentBytes: 1024 * 1024 });
      },
      (broker) => partitionOf(broker).compact(),
      async (broker, after) => {
        const found = await keyedRecords(partitionOf(broker));
        expect(latestValues(found)).toEqual(new Map(records));
        expect(after.isDone ? [true] : [true, false]).toContain(found.length < 10);
        expect(found.length === records.length || found.length < 10).toBe(true);
        expect(partitionOf(broker).logEndOffset).toBe(records.length);
        await partitionOf(broker).compact();
        expect(latestValues(await keyedRecords(partitionOf(broker)))).toEqual(new Map(records));
        await expectMended(broker, after);
      },
    );
  });

  it('f21: of deleting records never brings one back, and frees what lies below', async () => {
    const values = numbers(12);
    await atEveryLoss(
      async (broker) => {
        await createTopic(broker, settings);
        await appendAll(broker, values);
      },
      (broker) => broker.deleteRecords({ topic: 't', partition: 0 }, 10),
      async (broker, after) => {
        const partition = partitionOf(broker);
        expect(after.isDone ? [10] : [0, 10]).toContain(partition.logStartOffset);
        expect(await valuesIn(partition)).toEqual(values.slice(partition.logStartOffset));
        await after.machine.clock.settle();
        await expectMended(broker, after);
        const logs = after.machine.files.list('/t-0').filter((name) => name.endsWith('.log'));
        expect(logs).toHaveLength(partition.segmentCount);
      },
    );
  });

  it('of committing keeps the commit, or rewinds it to where the log ends', async () => {
    await atEveryLoss(
      async (broker) => {
        await createTopic(broker);
        await appendAll(broker, ['a', 'b']);
        for (const value of ['c', 'd']) await append(partitionOf(broker), batchOf([value]), 1);
      },
      (broker) => commit(broker, 4),
      async (broker, after) => {
        const partition = partitionOf(broker);
        const offset = broker.offsets.fetch('g', partition.topicId, 0)?.offset;
        const { logEndOffset } = partition;
        expect(logEndOffset).toBeGreaterThan(1);
        expect(after.isDone ? [logEndOffset] : [logEndOffset, undefined]).toContain(offset);
        await expectMended(broker, after);
      },
    );
  });
});

describe('f37: the power fails at random', () => {
  const usual = 100;
  const count = seeds(usual);
  const first = Math.floor(Math.random() * 2 ** 20);

  it(`in ${count} workloads, from seed ${first} on, and no promise is broken`, async () => {
    const figures = new Figures();
    for (let seed = first; seed < first + count; seed++) {
      try {
        await simulate(seed, figures);
      } catch (error) {
        throw new Error(`npm run soak:power -- --seed ${seed} --seeds 1 --trace`, { cause: error });
      }
    }
    expect(figures.seeds).toBe(count);
    expect(figures.crashes).toBeGreaterThan(10 * count);
    if (count < usual) return;
    expect(figures.inRecovery).toBeGreaterThan(count / 10);
    expect(Math.min(figures.cuts, figures.rewound, figures.lost)).toBeGreaterThan(0);
  });
});

describe('f25: the power fails in transactions', () => {
  const usual = 40;
  const count = seeds(usual);
  const first = Math.floor(Math.random() * 2 ** 20);

  it(`of ${count} workloads, from seed ${first} on, and each is there wholly or not at all`, async () => {
    const figures = new TransactionFigures();
    for (let seed = first; seed < first + count; seed++) {
      try {
        await simulateTransactions(seed, figures);
      } catch (error) {
        const again = `npm run soak:power -- --seed ${seed} --seeds 1 --trace --transactions`;
        throw new Error(again, { cause: error });
      }
    }
    expect(figures.crashes).toBe(count * (4 + 4 * 2 + 4 * 2));
    if (count < usual) return;
    const { commits, aborts, rolledForward, wentOn } = figures;
    expect(Math.min(commits, aborts, rolledForward, wentOn)).toBeGreaterThan(0);
  });
});
