/**
 * Kills a writing process for as many rounds as asked: `npm run soak:crash -- --rounds 1000 --seed 7`.
 * Exit code 1 if a promise was broken, when the directory is kept; or if a long run never came into one of
 * the activities.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { crashRounds } from './crash-rounds.mjs';

/** So many rounds are to come into every activity. */
const longRun = 100;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
const place = mkdtempSync(join(tmpdir(), 'ottla-crash-'));
const entry = new URL('../../build/src/index.js', import.meta.url).href;
console.log(`${rounds} rounds with seed ${seed} in ${place}`);
const started = performance.now();
const { hits, ...totals } = await crashRounds({
  entry,
  directory: join(place, 'data'),
  rounds,
  seed,
  onRound({ round, topics, records, recovery }) {
    for (const line of recovery) console.log(`  ${line}`);
    if (round % 10 === 0) console.log(`round ${round}: ${topics} topics, ${records} records`);
  },
});
rmSync(place, { recursive: true });
console.log('Kills that came into each activity:');
for (const [activity, count] of Object.entries(hits)) {
  console.log(`  ${activity.padEnd(14)}${String(count).padStart(5)}`);
}
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  `${totals.kills} kills, ${totals.acknowledged} acknowledged records, ${totals.commits} commits, ${totals.topics} creations and deletions of topics, ${totals.copies} backups, ${totals.cuts} torn tails cut: 0 lost, reordered or duplicated (${seconds} s)`,
);
const missed = Object.keys(hits).filter((activity) => hits[activity] === 0);
if (totals.copies === 0) missed.push('the time after a backup');
if (rounds >= longRun && missed.length > 0) {
  console.log(`No kill came into ${missed.join(', ')}.`);
  process.exitCode = 1;
}
