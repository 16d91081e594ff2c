/**
 * Simulates losses of power for as many seeds as asked: `npm run soak:power -- --seeds 10000 --seed 1`.
 * `--seed 17 --seeds 1 --trace` repeats one, step by step; `--transactions` simulates those instead. Exit code 1 if a
 * promise was broken.
 */
import { parseArgs } from 'node:util';
import { Figures, simulate } from '../power/simulation.js';
import { simulateTransactions, TransactionFigures } from '../power/transactions.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
    trace: { type: 'boolean', default: false },
    transactions: { type: 'boolean', default: false },
  },
});
const [seeds, first] = [Number(values.seeds), Number(values.seed)];
const trace = values.trace ? (line: string) => console.log(line) : undefined;
const general = new Figures();
const ofTransactions = new TransactionFigures();
const figures = values.transactions ? ofTransactions : general;
const more = values.transactions ? ' --transactions' : '';
const started = performance.now();
let failures = 0;
for (let seed = first; seed < first + seeds; seed++) {
  try {
    if (values.transactions) await simulateTransactions(seed, ofTransactions, trace);
    else await simulate(seed, general, trace);
  } catch (error) {
    failures++;
    console.error(error);
    console.error(`Again: npm run soak:power -- --seed ${seed} --seeds 1 --trace${more}`);
  }
  if ((seed - first + 1) % 100 === 0) console.log(`seed ${seed}: ${figures.line()}`);
}
console.log(values.transactions ? ofTransactions.line() : general.table());
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${seeds} seeds from ${first}: ${failures} failed (${seconds} s)`);
process.exitCode = failures > 0 ? 1 : 0;
