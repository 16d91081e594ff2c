import { expect, it } from 'vitest';
import { longestTimerMs, type Clock } from '../src/clock.js';
import { Session } from '../src/group-session.js';
import { ManualClock } from './manual-clock.js';

it('a session longer than any timer is watched by several', async () => {
  const manual = new ManualClock();
  const timers: number[] = [];
  const clock: Clock = {
    now: () => manual.now(),
    monotonic: () => manual.monotonic(),
    soon: (run) => manual.soon(run),
    after: (ms, run) => {
      timers.push(ms);
      return manual.after(ms, run);
    },
  };
  let isOver = false;
  const session = new Session(clock, () => (isOver = true));
  session.extend(longestTimerMs + 5000);
  await manual.advance(longestTimerMs + 4999);
  expect(isOver).toBe(false);
  await manual.advance(1);
  expect(isOver).toBe(true);
  expect(timers).toEqual([longestTimerMs, 5000]);
});
