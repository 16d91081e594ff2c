/**
 * Kills a writing process for as many rounds as asked: `npm run soak:crash -- --rounds 200 --seed 7`.
 * Exit code 1 if a promise was broken; the directory is then kept.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { crashRounds } from './crash-rounds.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
const place = mkdtempSync(join(tmpdir(), 'ottla-crash-'));
const entry = new URL('../../dist/index.js', import.meta.url).href;
console.log(`${rounds} rounds with seed ${seed} in ${place}`);
const started = performance.now();
const totals = await crashRounds({
  entry,
  directory: join(place, 'data'),
  rounds,
  seed,
  onRound({ round, topics, records, recovery }) {
    for (const line of recovery) console.log(`  ${line}`);
    if (round % 10 === 0) console.log(`round ${round}: ${topics} topics, ${records} records`);
  },
});
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  `${totals.kills} kills, ${totals.acknowledged} acknowledged records, ${totals.commits} commits, ${totals.topics} creations and deletions of topics, ${totals.cuts} torn tails cut: 0 lost, reordered or duplicated (${seconds} s)`,
);
rmSync(place, { recursive: true });
