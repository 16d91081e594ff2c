/**
 * Simulates losses of power for as many seeds as asked: `npm run soak:power -- --seeds 10000 --seed 1`.
 * `--seed 17 --seeds 1 --trace` repeats one, step by step. Exit code 1 if a promise was broken.
 */
import { parseArgs } from 'node:util';
import { Figures, simulate } from '../power/simulation.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
    trace: { type: 'boolean', default: false },
  },
});
const [seeds, first] = [Number(values.seeds), Number(values.seed)];
const figures = new Figures();
const started = performance.now();
let failures = 0;
for (let seed = first; seed < first + seeds; seed++) {
  try {
    await simulate(seed, figures, values.trace ? (line) => console.log(line) : undefined);
  } catch (error) {
    failures++;
    console.error(error);
    console.error(`Again: npm run soak:power -- --seed ${seed} --seeds 1 --trace`);
  }
  if ((seed - first + 1) % 100 === 0) console.log(`seed ${seed}: ${figures.line()}`);
}
console.log(figures.table());
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${seeds} seeds from ${first}: ${failures} failed (${seconds} s)`);
process.exitCode = failures > 0 ? 1 : 0;
