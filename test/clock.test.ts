import { expect, it } from 'vitest';
import { longestTimerMs, systemClock } from '../src/clock.js';

it('A timer longer than Node keeps does not fire at once', async () => {
  let hasFired = false;
  const timers = [1, 5000, longestTimerMs].map((more) =>
    systemClock.after(longestTimerMs + more, () => (hasFired = true)),
  );
  await new Promise<void>((resolve) => void systemClock.after(5, resolve, true));
  for (const timer of timers) timer.cancel();
  expect(hasFired).toBe(false);
});
