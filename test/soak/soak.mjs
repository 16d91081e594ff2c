/**
 * Writes, reads, frees, compacts, copies and reopens for as long as asked, checks all of it, and prints
 * memory, open files and the delay of the event loop: `npm run soak -- --minutes 20 --seed 7`. Exit code 1
 * if anything was wrong, or if memory grew: the median RSS of the last third is to be at most 1.1 times
 * that of the middle third; in runs of less than 5 minutes, which are still warming up, 1.5 times.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { randomFrom } from './crash-model.mjs';
import { SoakLoad } from './soak-load.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
    /** Records a second, of all writers together. */
    rate: { type: 'string', default: '10000' },
  },
});
const minutes = Number(values.minutes);
const totalMs = minutes * 60_000;
const mebibyte = 2 ** 20;
const place = mkdtempSync(join(tmpdir(), 'ottla-soak-'));
const load = new SoakLoad({
  entry: new URL('../../build/src/index.js', import.meta.url).href,
  place,
  random: randomFrom(Number(values.seed)),
  recordsPerSecond: Number(values.rate),
  shrinkBy: minutes < 5 ? 16 : 1,
});
console.log(`${minutes} minutes with seed ${values.seed} in ${place}`);

/** When the first opening was done. */
let started = Infinity;
const delay = monitorEventLoopDelay({ resolution: 1 });
const widths = [8, 9, 9, 8, 8, 10, 6, 8, 24];
const print = (cells) =>
  console.log(cells.map((cell, i) => String(cell).padStart(widths[i])).join(''));
const openFiles = () => (process.platform === 'linux' ? readdirSync('/proc/self/fd').length : '-');
const samples = [];

function printRow(before, sinceMs) {
  const { rss, heapUsed, external } = process.memoryUsage();
  const perSecond = (count) => Math.round((count * 1000) / sinceMs);
  const ms = (nanoseconds) => (nanoseconds / 1e6).toFixed(1);
  const { sent, read } = load.counts;
  print([
    `${((performance.now() - started) / 1000).toFixed(0)} s`,
    perSecond(sent - before.sent),
    perSecond(read - before.read),
    (rss / mebibyte).toFixed(0),
    (heapUsed / mebibyte).toFixed(0),
    (external / mebibyte).toFixed(0),
    openFiles(),
    (load.diskBytes() / mebibyte).toFixed(0),
    `${ms(delay.percentile(50))} / ${ms(delay.percentile(99))} / ${ms(delay.max)}`,
  ]);
  delay.reset();
}

async function watch() {
  const rowMs = Math.max(1000, totalMs / 40);
  print([
    '',
    'sent/s',
    'read/s',
    'RSS MiB',
    'heap',
    'external',
    'fds',
    'disk',
    'loop p50 / p99 / max ms',
  ]);
  while (load.counts.opened === 0) await sleep(20, undefined, { ref: false });
  started = performance.now();
  delay.enable();
  let before = { ...load.counts };
  let rowAt = performance.now();
  while (performance.now() - started < totalMs) {
    await sleep(Math.min(250, totalMs / 200), undefined, { ref: false });
    samples.push(process.memoryUsage.rss());
    const sinceMs = performance.now() - rowAt;
    if (sinceMs < rowMs) continue;
    printRow(before, sinceMs);
    before = { ...load.counts };
    rowAt = performance.now();
  }
  load.end();
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

const watching = watch();
await load.run(Math.min(60_000, Math.max(2000, totalMs / 8)));
await watching;
rmSync(place, { recursive: true });

for (const [warning, count] of load.warnings) console.log(`warning, ${count} times: ${warning}`);
const { sent, read, followed, opened, rebalanced, retention, compaction, backup } = load.counts;
console.log(
  `${sent} records sent, ${read} read, ${followed} read by another process; ${opened} openings, ${rebalanced} members came or went, ${retention} times segments were freed, ${compaction} compactions, ${backup} backups: all as it must be`,
);
const third = Math.floor(samples.length / 3);
const [middle, last] = [samples.slice(third, 2 * third), samples.slice(2 * third)].map(median);
const most = minutes < 5 ? 1.5 : 1.1;
console.log(
  `median RSS: middle third ${(middle / mebibyte).toFixed(0)} MiB, last third ${(last / mebibyte).toFixed(0)} MiB, ${(last / middle).toFixed(2)} times as much (at most ${most})`,
);
if (last > middle * most) {
  console.log('Memory grew.');
  process.exitCode = 1;
}
const idle = Object.keys(load.counts).filter((what) => load.counts[what] === 0);
if (idle.length > 0) {
  console.log(`Never happened: ${idle.join(', ')}.`);
  process.exitCode = 1;
}
