/**
 * Sends servers requests of every kind, good, wicked and broken, by clients that behave well and badly:
 * `npm run soak:wire -- --requests 100000 --seed 1`. Each case of some hundred requests has a server in memory
 * of its own, with a time of its own; but one in ten is for a directory that those share, over TCP and a Unix
 * socket. `--requests 1 --seed 17` repeats one case, with `--directory` one of those. `--coverage`, which takes
 * time, tells how much of the server was run, and which functions never were. Exit code 1 if a promise was broken, or memory grew.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Reached } from '../wire-fuzz/case.js';
import { runCampaign, type EndedCase } from '../wire-fuzz/campaign.js';
import { Coverage } from '../wire-fuzz/coverage.js';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '100000' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
    directory: { type: 'boolean', default: false },
    coverage: { type: 'boolean', default: false },
  },
});
const started = performance.now();
const mebibyte = 2 ** 20;
const reached = new Reached();
const strays: string[] = [];
const heaps: number[] = [];
let rss = 0;
let failures = 0;

const caught = (error: unknown): void => {
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  strays.push(`nobody caught ${what}`);
};
process.on('unhandledRejection', caught);
process.on('uncaughtException', caught);

function ended({ number, seed, inDirectory, problems }: EndedCase): void {
  const all = [...problems, ...strays.splice(0)];
  if (all.length > 0) {
    failures++;
    for (const problem of all) console.error(`seed ${seed}: ${problem}`);
    const more = inDirectory ? ' --directory' : '';
    console.error(`Again: npm run soak:wire -- --requests 1 --seed ${seed}${more}`);
  }
  rss = Math.max(rss, process.memoryUsage.rss());
  if (number % 20 === 0) {
    globalThis.gc!();
    const { heapUsed, external } = process.memoryUsage();
    heaps.push(heapUsed + external);
  }
  if (number % 400 === 0) console.log(`${line()}; ${failures} cases failed`);
}

function line(): string {
  const { requests, connections, frames, answers, paths } = reached;
  return `${requests} requests over ${connections} connections, ${frames} of them whole, ${answers} answered, ${paths.size} paths`;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[numbers.length >> 1]!;
}

const coverage = values.coverage ? await Coverage.start('/src/server/') : null;
const place = mkdtempSync(join(tmpdir(), 'ottla-soak-wire-'));
const requests = Number(values.requests);
const inDirectory = values.directory;
await runCampaign({ place, seed: Number(values.seed), requests, inDirectory, reached, ended });
rmSync(place, { recursive: true, force: true });

console.log(line());
if (coverage !== null) {
  const { functions, branches, missed } = await coverage.take();
  for (const name of missed) console.log(`never called: ${name}`);
  console.log(
    `of src/server ${functions.join(' of ')} functions, and ${branches.join(' of ')} branches in them`,
  );
}
if (heaps.length >= 6) {
  const third = Math.floor(heaps.length / 3);
  const [middle, last] = [heaps.slice(third, 2 * third), heaps.slice(2 * third)].map(median);
  const growth = last! / middle!;
  const mib = (bytes: number): string => `${(bytes / mebibyte).toFixed(0)} MiB`;
  console.log(
    `heap after collection: median of the middle third ${mib(middle!)}, of the last ${mib(last!)}: ${growth.toFixed(2)} times as much (at most 1.2); RSS at most ${mib(rss)}`,
  );
  if (growth > 1.2) failures++;
}
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`seed ${values.seed}: ${failures} failed (${seconds} s)`);
process.exitCode = failures > 0 ? 1 : 0;
