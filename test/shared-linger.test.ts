import { describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { closedAfterEach } from './contract.js';
import { ManualClock } from './manual-clock.js';

const opened = closedAfterEach();

describe('producers that share an open batch', () => {
  it('write it when the most impatient of them would', async () => {
    const ottla = opened(Ottla.memory({ clock: new ManualClock() }));
    await ottla.topics.create('orders');
    const patient = ottla.producer({ lingerMs: 60_000 }).send('orders', { value: 'a' });
    const { offset } = await ottla.producer().send('orders', { value: 'b' });
    expect([(await patient).offset, offset]).toEqual([0, 1]);
  });

  it('wait the shorter of two lingers', async () => {
    const clock = new ManualClock();
    const ottla = opened(Ottla.memory({ clock }));
    await ottla.topics.create('orders');
    const first = ottla.producer({ lingerMs: 5000 }).send('orders', { value: 'a' });
    const second = ottla.producer({ lingerMs: 10 }).send('orders', { value: 'b' });
    await clock.advance(10);
    expect([(await first).offset, (await second).offset]).toEqual([0, 1]);
  });
});
