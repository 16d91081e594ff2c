import { expect, it } from 'vitest';
import { offsetFor, offsetForTimestamp } from '../src/partition-offsets.js';
import { append, batchOf, createTopic, Machine } from './machine.js';

const now = 10_000;

it('begins with a date at the first record of that time or later, batch after batch', async () => {
  const partition = await createTopic(await new Machine().open());
  for (const timestamp of [1000, 3000, 2000]) {
    await append(partition, batchOf(['a', 'b', 'c'], { timestamp }));
  }
  const offsets = [0, 1000, 1001, 1003, 2000, 3002, 3003].map(async (time) => {
    return [
      await offsetForTimestamp(partition, time),
      await offsetFor(partition, new Date(time), now),
    ];
  });
  expect(await Promise.all(offsets)).toEqual([
    [0, 0],
    [0, 0],
    [1, 1],
    [3, 3],
    [3, 3],
    [5, 5],
    [null, 9],
  ]);
});

it('does not pass over what is appended while it searches for a date', async () => {
  const partition = await createTopic(await new Machine().open());
  await append(partition, batchOf(['a', 'b']));
  const offset = offsetFor(partition, new Date(9000), now);
  await append(partition, batchOf(['c'], { timestamp: 9500 }));
  expect(await offset).toBe(2);
});

it('knows the beginning, the end, and that none is none', async () => {
  const partition = await createTopic(await new Machine().open());
  await append(partition, batchOf(['a', 'b']));
  expect(await offsetFor(partition, 'earliest', now)).toBe(0);
  expect(await offsetFor(partition, 'latest', now)).toBe(2);
  expect(await offsetFor(partition, 'none', now)).toBeNull();
});

it('begins with a duration so long ago', async () => {
  const partition = await createTopic(await new Machine().open());
  for (const timestamp of [1000, 3000, 9000]) {
    await append(partition, batchOf(['a'], { timestamp }));
  }
  const offsets = [0, 1000, 1001, 7000, 100_000].map((durationMs) =>
    offsetFor(partition, { durationMs }, now),
  );
  expect(await Promise.all(offsets)).toEqual([3, 2, 2, 1, 0]);
});
