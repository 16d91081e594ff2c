// Measures Ottla beside the least that this machine needs for the same work.
//
//   npm run bench                    all of it, about two minutes
//   npm run bench -- --quick         small and once: whether it runs, not how fast
//   npm run bench -- --only append,deliver   rows whose name contains one of these texts
//   npm run bench -- --json          results as JSON, for a program
//   npm run bench -- --page docs/benchmarks.md   renews that page's table, and its plot
//   npm run bench -- --rounds 11     how often each row and its floor take turns
//   npm run bench -- --directory D   where the files are written; .ottla-bench

import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { rows as append } from './append.js';
import { rows as assignor } from './assignor.js';
import { rows as commit } from './commit.js';
import { rows as compact } from './compact.js';
import { rows as compression } from './compression.js';
import { rows as deliver } from './deliver.js';
import { rows as group } from './group.js';
import { measure, type Result } from './harness.js';
import { rows as objects } from './objects.js';
import { rows as open } from './open.js';
import { writePage } from './page.js';
import { rows as partitioner } from './partitioner.js';
import { rows as read } from './read.js';
import { rows as handlers } from './handlers.js';
import { rows as start } from './start.js';
import { printHead, printResult } from './table.js';
import { rows as transactions } from './transactions.js';
import { rows as wire } from './wire.js';

const rows = [
  ...append,
  ...transactions,
  ...read,
  ...compact,
  ...deliver,
  ...commit,
  ...group,
  ...compression,
  ...partitioner,
  ...assignor,
  ...start,
  ...handlers,
  ...objects,
  ...open,
  ...wire,
];

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    rounds: { type: 'string' },
    page: { type: 'string' },
    directory: { type: 'string', default: '.ottla-bench' },
    row: { type: 'string' },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 1 : 7));
const scale = values.quick ? 0.02 : 1;
const wanted = values.only.split(',');

if (values.row === undefined) await runAll();
else await runOne(values.row);

/** In a process of its own, which the memory and the compiled code of other rows do not reach. */
async function runOne(name: string): Promise<void> {
  const row = rows.find((candidate) => candidate.name === name)!;
  const result = await measure(row, values.directory, rounds, scale);
  process.stdout.write(JSON.stringify(result));
}

async function runAll(): Promise<void> {
  const run = promisify(execFile);
  const script = fileURLToPath(import.meta.url);
  const results: Result[] = [];
  mkdirSync(values.directory, { recursive: true });
  if (!values.json) {
    if (values.quick) console.log('Quick: this shows that it runs; the ratios mean nothing.');
    printHead();
  }
  for (const { name } of rows) {
    if (!wanted.some((text) => name.includes(text))) continue;
    const options = ['--row', name, '--rounds', String(rounds), '--directory', values.directory];
    if (values.quick) options.push('--quick');
    const { stdout } = await run(process.execPath, ['--expose-gc', script, ...options]);
    const result = JSON.parse(stdout) as Result;
    results.push(result);
    if (!values.json) printResult(result);
  }
  rmSync(values.directory, { recursive: true, force: true });
  if (values.page !== undefined) writePage(values.page, results, rounds);
  if (!values.json) return;
  const machine = { node: process.version, platform: process.platform, arch: process.arch };
  const cpu = { model: cpus()[0]?.model ?? 'unknown', count: availableParallelism() };
  process.stdout.write(`${JSON.stringify({ ...machine, cpu, rounds, scale, results }, null, 2)}\n`);
}
