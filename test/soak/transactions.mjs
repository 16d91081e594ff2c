/**
 * Kills a process in its transactions, as often as asked:
 * `npm run soak:transactions -- --rounds 1000 --seed 7`. A new directory every 50 rounds. Exit code 1 if a
 * promise was broken; the directory is then kept.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { transactionRounds } from './transaction-rounds.mjs';

const roundsPerDirectory = 50;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
const place = mkdtempSync(join(tmpdir(), 'ottla-transactions-'));
const entry = new URL('../../build/src/index.js', import.meta.url).href;
console.log(`${rounds} rounds with seed ${seed} in ${place}`);
const started = performance.now();
const sum = {};
for (let done = 0; done < rounds; done += roundsPerDirectory) {
  const directory = join(place, `data-${done}`);
  const totals = await transactionRounds({
    entry,
    directory,
    rounds: Math.min(roundsPerDirectory, rounds - done),
    seed: seed + done,
  });
  for (const [name, count] of Object.entries(totals)) sum[name] = (sum[name] ?? 0) + count;
  console.log(`${sum.kills} kills: ${JSON.stringify(sum)}`);
  rmSync(directory, { recursive: true });
}
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  `${sum.kills} kills in transactions: each is there wholly or not at all, offsets included (${seconds} s)`,
);
rmSync(place, { recursive: true });
