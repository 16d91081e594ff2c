/**
 * The simulations of groups, of the coordinator by itself and of consumers through the public API, with as many seeds as asked: `npm run soak:groups -- --seeds 10000 --seed 1`.
 * Exit code 1 if a promise was broken, with the seeds that break it.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '10000' }, seed: { type: 'string', default: '1' } },
});
const started = performance.now();
const { status } = spawnSync(
  'npx',
  ['vitest', 'run', 'test/group-simulation.test.ts', 'test/consumer-simulation.test.ts'],
  {
    env: { ...process.env, OTTLA_SEEDS: values.seeds, OTTLA_SEED: values.seed },
    shell: process.platform === 'win32',
    stdio: 'inherit',
  },
);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${values.seeds} seeds from ${values.seed}: exit code ${status}, ${seconds} s`);
process.exitCode = status ?? 1;
