import { expect, it } from 'vitest';
import type { Headers, Ottla, PartitionInfo } from '../src/index.js';
import { committed, numbers } from './consuming.js';
import { collect, describeContract, failureOf } from './contract.js';

/** Two partitions of three records, of which those with an odd value fail. */
async function withLetters(ottla: Ottla): Promise<Ottla> {
  await ottla.topics.create('orders', { partitions: 2 });
  await ottla.topics.create('letters');
  for (const [partition, start] of [10, 20].entries()) {
    await ottla.producer().sendBatch(
      'orders',
      numbers(3).map((i) => ({
        key: `k${start}`,
        value: String(start + Number(i)),
        partition,
        timestamp: start,
        headers: { own: 'header' },
      })),
    );
  }
  await handle(ottla, (value) => value % 2 === 1);
  return ottla;
}

/** Handles all there is, and tells what was handled. */
async function handle(ottla: Ottla, fails: (value: number) => boolean): Promise<string[]> {
  const handled: string[] = [];
  const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
  const run = consumer.run({
    eachRecord: ({ partition, value }) => {
      if (fails(Number(String(value)))) throw new Error('odd');
      handled.push(`${partition}: ${String(value)}`);
    },
    retry: { deadLetter: 'letters' },
  });
  await ottla.idle();
  await consumer.stop();
  await run;
  return handled;
}

describeContract('redrive', ({ open }) => {
  it('sends dead letters back where they came from, as they were, once', async () => {
    const ottla = await withLetters(await open());
    expect(await ottla.redrive('letters')).toBe(2);
    const again = await collect(ottla.read('orders', { from: { 0: 3, 1: 3 } }));
    expect(
      again.map(({ partition, key, value, timestamp, headers }) => [
        partition,
        String(key),
        String(value),
        timestamp,
        headers.map(([name, header]) => [name, String(header)]),
      ]),
    ).toEqual(
      expect.arrayContaining([
        [0, 'k10', '11', 10, [['own', 'header']]],
        [1, 'k20', '21', 20, [['own', 'header']]],
      ]),
    );
    expect(await ottla.redrive('letters')).toBe(0);
    const [{ highWatermark }] = (await ottla.topics.describe('letters')).partitions as [
      PartitionInfo,
    ];
    expect(await committed(ottla, 'letters.redrive', 'letters')).toEqual([highWatermark]);
    expect(await handle(ottla, () => false)).toEqual(expect.arrayContaining(['0: 11', '1: 21']));
  });

  it('goes on where it ended, or from the start for another group', async () => {
    const ottla = await withLetters(await open());
    await ottla.redrive('letters');
    await handle(ottla, () => true);
    expect(await ottla.redrive('letters')).toBe(2);
    expect(await ottla.redrive('letters', { group: 'other' })).toBe(4);
  });

  it('passes for good what a filter leaves out, be it a letter or not', async () => {
    const ottla = await withLetters(await open());
    await ottla.producer().send('letters', { value: 'no letter' });
    const partitionOf = ({ headers }: { headers: Headers }): string =>
      String(headers.find(([name]) => name === 'ottla.dlq.partition')?.[1]);
    const only = (partition: string) => ({
      filter: (letter: { headers: Headers }) => partitionOf(letter) === partition,
    });
    expect(await ottla.redrive('letters', only('1'))).toBe(1);
    const sentBack = await collect(ottla.read('orders', { from: { 0: 3, 1: 3 } }));
    expect(sentBack.map(({ value }) => String(value))).toEqual(['21']);
    expect(await ottla.redrive('letters')).toBe(0);
    expect(await ottla.redrive('letters', { group: 'other', ...only('0') })).toBe(1);
    const cause = new Error('no');
    const failing = {
      group: 'third',
      filter: (): never => {
        throw cause;
      },
    };
    expect(await failureOf(() => ottla.redrive('letters', failing))).toBe(cause);
    expect(await committed(ottla, 'third', 'letters')).toEqual([0]);
    expect(await failureOf(() => ottla.redrive('letters', { filter: 7 } as never))).toBeInstanceOf(
      TypeError,
    );
  });

  it('stops before what it cannot send back, and goes on there', async () => {
    const ottla = await withLetters(await open());
    const { offset } = await ottla.producer().send('letters', { value: 'no letter' });
    expect(await failureOf(() => ottla.redrive('letters'))).toMatchObject({
      code: 'INVALID_RECORD',
      at: { topic: 'letters', partition: 0, offset },
    });
    // The two before it were sent back, and are not sent again.
    expect(await collect(ottla.read('orders', { from: { 0: 3, 1: 3 } }))).toHaveLength(2);
    expect(await failureOf(() => ottla.redrive('letters'))).toMatchObject({ at: { offset } });
    expect(await collect(ottla.read('orders', { from: { 0: 3, 1: 3 } }))).toHaveLength(2);
    await ottla.groups.resetOffsets('letters.redrive', { to: 'earliest' });
    await ottla.topics.delete('orders');
    expect(await failureOf(() => ottla.redrive('letters'))).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(await failureOf(() => ottla.redrive('nowhere'))).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(await failureOf(() => ottla.redrive('letters', { group: '' }))).toBeInstanceOf(
      TypeError,
    );
  });
});
