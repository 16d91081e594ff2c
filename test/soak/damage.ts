/**
 * Damages a random file of a data directory, for as many seeds as asked, and then reads, checks, opens and
 * repairs it: `npm run soak:damage -- --seeds 1000 --seed 1`. `--seeds 1 --seed 17 --trace` repeats one. The
 * work is done in a child process, so that one which is killed by damage, or hangs, is a failure of its seed.
 * Exit code 1 if a promise was broken.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeTemplates } from '../damage/template.js';
import { DamageTrial, type Outcome } from '../damage/trial.js';
import { Random } from '../power/random.js';

/** Longer than any seed takes: what has not ended by then hangs. */
const patienceMs = 600_000;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '300' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 20)}` },
    trace: { type: 'boolean', default: false },
    place: { type: 'string' },
  },
});

if (values.place === undefined) await runAll(Number(values.seeds), Number(values.seed));
else await serve(values.place);

/** In the child: one trial for each seed that comes. */
async function serve(place: string): Promise<void> {
  const templates = await makeTemplates(place);
  const strays: string[] = [];
  process.on('unhandledRejection', (error) => strays.push(`nobody caught ${String(error)}`));
  process.on('message', (seed: number) => {
    const random = new Random(seed);
    const template = random.oneOf(templates);
    const trial = new DamageTrial(template, place, random);
    void trial.run().then(({ problems, ...outcome }) => {
      process.send!({ ...outcome, problems: [...problems, ...strays.splice(0)] });
    });
  });
  process.send!('ready');
}

async function runAll(seeds: number, first: number): Promise<void> {
  const started = performance.now();
  const place = mkdtempSync(join(tmpdir(), 'ottla-soak-damage-'));
  const counts = new Map<string, number>();
  let failures = 0;
  let child: ChildProcess | null = null;
  for (let seed = first; seed < first + seeds; seed++) {
    child ??= await startChild(place);
    const outcome = await outcomeOf(child, seed);
    if (typeof outcome === 'string') child = null;
    const problems = typeof outcome === 'string' ? [outcome] : outcome.problems;
    if (typeof outcome !== 'string') {
      const { kind, what, file } = outcome.struck;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      if (problems.length > 0 || values.trace) {
        const state = outcome.wasKilled ? 'killed' : 'closed';
        console.error(`seed ${seed}: ${file} of a directory that was ${state}: ${what}`);
      }
    }
    if ((seed - first + 1) % 100 === 0) console.log(`seed ${seed}: ${failures} failed so far`);
    if (problems.length === 0) continue;
    failures++;
    for (const problem of problems) console.error(`  ${problem}`);
    console.error(`Again: npm run soak:damage -- --seeds 1 --seed ${seed}`);
  }
  child?.kill();
  rmSync(place, { recursive: true, force: true });
  for (const [kind, count] of [...counts].toSorted(([one], [other]) => one.localeCompare(other))) {
    console.log(`  ${kind.padEnd(26)}${String(count).padStart(6)}`);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${seeds} seeds from ${first}: ${failures} failed (${seconds} s)`);
  process.exitCode = failures > 0 ? 1 : 0;
}

async function startChild(parent: string): Promise<ChildProcess> {
  const place = mkdtempSync(join(parent, 'child-'));
  const child = fork(fileURLToPath(import.meta.url), ['--place', place]);
  await once(child, 'message');
  return child;
}

/** What the child has found, or how it ended instead. */
async function outcomeOf(child: ChildProcess, seed: number): Promise<Outcome | string> {
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  child.send(seed);
  try {
    return await new Promise((resolve) => {
      child.once('message', (outcome) => resolve(outcome as Outcome));
      child.once('exit', (code, signal) => resolve(`the process ended: ${code ?? signal}`));
    });
  } finally {
    clearTimeout(timer);
    child.removeAllListeners();
  }
}
