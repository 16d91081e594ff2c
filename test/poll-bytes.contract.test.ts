import { expect, it } from 'vitest';
import { describeContract, failureOf } from './contract.js';

describeContract('maxPollBytes', ({ open }) => {
  it.each(['none', 'gzip'] as const)(
    'ends a batch with the record that reaches it (compression %s)',
    async (compression) => {
      const ottla = await open();
      await ottla.topics.create('orders');
      const lengths = [100, 100, 100, 5000, 100, 300, 300, 300, 300, 100];
      await ottla.producer({ compression }).sendBatch(
        'orders',
        lengths.map((length) => ({ value: 'v'.repeat(length) })),
      );
      const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollBytes: 1000 });
      const batches: number[][] = [];
      for await (const { records } of consumer.batches()) {
        batches.push(records.map(({ value }) => value!.length));
        if (batches.flat().length === lengths.length) break;
      }
      expect(batches.flat()).toEqual(lengths);
      for (const batch of batches) {
        const before = batch.slice(0, -1).reduce((sum, length) => sum + length, 0);
        expect(before).toBeLessThan(1000);
      }
      expect(batches.slice(0, 2)).toEqual([
        [100, 100, 100, 5000],
        [100, 300, 300, 300],
      ]);
    },
  );

  it('is at least one byte', async () => {
    const ottla = await open();
    const wrong = { group: 'g', topics: ['orders'], maxPollBytes: 0 };
    expect(await failureOf(() => ottla.consumer(wrong))).toBeInstanceOf(RangeError);
  });
});
