import { expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { numbers, send, take } from './consuming.js';
import { closedAfterEach, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';

const opened = closedAfterEach();
const day = 86_400_000;

it('forgets what a group has committed once it has had no members for offsetsRetentionMs', async () => {
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock, offsetsRetentionMs: day }));
  await ottla.topics.create('orders');
  await send(ottla, 'orders', numbers(3));
  const maxPollIntervalMs = 7 * day;
  const consumer = ottla.consumer({ group: 'g', topics: ['orders'], maxPollIntervalMs });
  await take(consumer, 2);
  await clock.advance(3 * day);
  expect(await ottla.groups.list()).toEqual(['g']);
  await consumer.close();
  await clock.advance(day - 1);
  expect((await ottla.groups.describe('g')).partitions[0]!.committed).toBe(1);
  await clock.advance(600_000);
  expect(await ottla.groups.list()).toEqual([]);
});

it('keeps it for ever by default, and takes only a whole number of ms', async () => {
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock }));
  await ottla.topics.create('orders');
  await ottla.consumer({ group: 'g', topics: ['orders'] }).ready();
  await clock.advance(1000 * day);
  expect(await ottla.groups.list()).toEqual(['g']);
  const error = await failureOf(() => Ottla.memory({ offsetsRetentionMs: 0.5 }));
  expect(error).toBeInstanceOf(RangeError);
});
