import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { keyedBatch, keyedRecords, latestValues, type KeyedRecord } from './keyed.js';
import { Machine, append, createTopic, partitionOf } from './machine.js';
import { seeds } from './seeds.js';

const hour = 3_600_000;
/** Of the host's time: it may be busy with other tests. */
const timeout = 30_000;
const keys = ['a', 'b', 'c', 'd', 'e'];

type Step =
  | { readonly do: 'append'; readonly records: readonly (readonly [string, string | null])[] }
  | { readonly do: 'wait'; readonly hours: number }
  | { readonly do: 'compact' | 'reopen' | 'kill' };

const value = fc.oneof(fc.constant(null), fc.string({ maxLength: 40 }));
const appendStep = fc.record({
  do: fc.constant('append' as const),
  records: fc.array(fc.tuple(fc.constantFrom(...keys), value), { minLength: 1, maxLength: 12 }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: appendStep },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), hours: fc.nat(30) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('compact', 'reopen', 'kill' as const) }),
  },
);

/** What was appended, and what of it the log still has. */
class Model {
  readonly appended: KeyedRecord[] = [];
  /** Base offsets of what was appended. */
  readonly bases: number[] = [];
  readonly expectedBases: number[] = [];
  machine = new Machine();
  broker!: Broker;

  async begin(minCleanableDirtyRatio: number): Promise<void> {
    this.broker = await this.machine.open();
    await createTopic(this.broker, {
      segmentBytes: 1024,
      indexIntervalBytes: 64,
      cleanupPolicy: 'compact',
      minCleanableDirtyRatio,
    });
  }
}

async function run(model: Model, next: Step): Promise<void> {
  const partition = partitionOf(model.broker);
  if (next.do === 'append') {
    model.bases.push(await append(partition, keyedBatch(next.records), 'all'));
    model.expectedBases.push(model.appended.length);
    for (const [key, stored] of next.records) {
      model.appended.push({ offset: model.appended.length, key, value: stored });
    }
  } else if (next.do === 'wait') {
    await model.machine.clock.advance(next.hours * hour);
  } else if (next.do === 'compact') {
    await partition.compact();
  } else {
    // Both end what runs; a kill leaves the recovery point where it was.
    if (next.do === 'reopen') await model.broker.close();
    else await partition.abandon(new Error('killed') as never);
    model.broker = await model.machine.open();
  }
}

/** Nothing that is latest is gone, nothing changed, and nothing went back. */
async function check(model: Model): Promise<void> {
  const partition = partitionOf(model.broker);
  expect(model.bases).toEqual(model.expectedBases);
  expect(partition.logEndOffset).toBe(model.appended.length);
  const records = await keyedRecords(partition);
  for (const record of records) expect(record).toEqual(model.appended[record.offset]);
  expect(latestValues(records)).toEqual(latestValues(model.appended));
  for (const offset of [0, model.appended.length >> 1, model.appended.length]) {
    const from = await keyedRecords(partition, offset);
    const before = records.filter((record) => record.offset >= offset);
    // A cleaning that goes on may remove more, but nothing that is latest.
    expect(before).toEqual(expect.arrayContaining(from));
    expect(latestValues(from)).toEqual(latestValues(before));
  }
}

it('a compacted log equals its model, whatever comes when', { timeout }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.constantFrom(0, 0.3, 0.5),
      async (steps, minCleanableDirtyRatio) => {
        const model = new Model();
        await model.begin(minCleanableDirtyRatio);
        for (const next of steps) {
          await run(model, next);
          await check(model);
        }
        await model.broker.close();
        expect(model.machine.names().filter((name) => /cleaned|swap|deleted/.test(name))).toEqual(
          [],
        );
      },
    ),
    { numRuns: seeds(30) },
  );
});

it(
  'is down to the latest of each key once all is sealed and its tombstones are old',
  { timeout },
  async () => {
    const tuples = fc.array(fc.tuple(fc.constantFrom(...keys), value), {
      minLength: 1,
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(tuples, async (records) => {
        const model = new Model();
        await model.begin(0);
        for (const record of records) await run(model, { do: 'append', records: [record] });
        const seal = ['z', 'z'.repeat(1000)] as const;
        // The first seals what was written, the others each what was sealed before: it is dirty again.
        await run(model, { do: 'append', records: [seal] });
        await run(model, { do: 'compact' });
        await run(model, { do: 'wait', hours: 25 });
        await run(model, { do: 'append', records: [seal] });
        await run(model, { do: 'compact' });
        await check(model);
        const left = await keyedRecords(partitionOf(model.broker));
        const found = left.filter(({ key }) => key !== 'z');
        const expected = latestValues(model.appended);
        expected.delete('z');
        expect(new Map(found.map((one) => [one.key, one.value]))).toEqual(expected);
        expect(found).toHaveLength(expected.size);
        await model.broker.close();
      }),
      { numRuns: seeds(15) },
    );
  },
);
