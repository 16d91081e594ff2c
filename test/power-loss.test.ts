import { describe, expect, it } from 'vitest';
import { Figures, simulate } from './power/simulation.js';

describe('power loss', () => {
  it('smoke', async () => {
    const figures = new Figures();
    const t = performance.now();
    for (let seed = 1; seed <= 20; seed++) await simulate(seed, figures);
    console.log(figures, performance.now() - t);
    expect(figures.seeds).toBe(20);
  }, 60_000);
});
