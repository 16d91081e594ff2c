import { expect, it } from 'vitest';
import type { Consumer } from '../src/index.js';
import { describeContract } from './contract.js';

describeContract('a hook that calls its own consumer', ({ open }) => {
  it('may await ready() in onAssigned', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const errors: unknown[] = [];
    ottla.on('error', (error) => errors.push(error));
    let called = 0;
    const consumer: Consumer = ottla.consumer({
      group: 'g',
      topics: ['orders'],
      onAssigned: async () => {
        await consumer.ready();
        called++;
      },
    });
    await consumer.ready();
    expect([called, errors]).toEqual([1, []]);
  });

  it('may await close() in onRevoked', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const errors: unknown[] = [];
    ottla.on('error', (error) => errors.push(error));
    const consumer: Consumer = ottla.consumer({
      group: 'g',
      topics: ['orders'],
      onRevoked: () => consumer.close(),
    });
    await consumer.ready();
    await consumer.close();
    expect([consumer.assignment(), errors]).toEqual([[], []]);
  });
});
