/**
 * Fails each call to the disk in turn, with everything it can meet, once and for ever:
 * `npm run soak:faults`. `--seed 7 --sample 0.1` takes a tenth of them, `--workload backup` one workload.
 * `--replay '{"workload":"life","call":42,"kind":"EIO","forEver":false,"dies":false}'` repeats one.
 * Exit code 1 if a promise was broken, or a place that calls the disk was left out.
 */
import { parseArgs } from 'node:util';
import {
  callsOf,
  faultsAt,
  placesThatCall,
  runWithFault,
  warmUp,
  workloads,
  type Fault,
} from '../fault-loop.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    sample: { type: 'string', default: '1' },
    workload: { type: 'string' },
    replay: { type: 'string' },
  },
});
const started = performance.now();
const met = new Set<string>();
let runs = 0;
let failures = 0;
let state = Number(values.seed);

process.on('unhandledRejection', (error) => {
  failures++;
  console.error('nobody caught', error);
});

async function tryFault(fault: Fault): Promise<void> {
  runs++;
  const run = await runWithFault(fault);
  for (const place of run.met) met.add(place);
  if (run.problems.length === 0) return;
  failures++;
  for (const problem of run.problems) console.error(problem);
  console.error(`Again: npm run soak:faults -- --replay '${JSON.stringify(fault)}'`);
}

/** Park and Miller's minimal standard. */
function isTaken(): boolean {
  state = (state * 16_807) % 2_147_483_647;
  return state / 2_147_483_648 < Number(values.sample);
}

await warmUp();
if (values.replay === undefined) {
  const names = values.workload === undefined ? Object.keys(workloads) : [values.workload];
  for (const workload of names) {
    const { calls, problems } = await callsOf(workload);
    failures += problems.length;
    for (const problem of problems) console.error(`${workload}, nothing failing: ${problem}`);
    const before = runs;
    for (const [i, { call }] of calls.entries()) {
      for (const fault of faultsAt(workload, i, call)) if (isTaken()) await tryFault(fault);
    }
    console.log(`${workload}: ${calls.length} calls, ${runs - before} runs`);
  }
  const places = placesThatCall();
  const isWhole = values.workload === undefined && Number(values.sample) >= 1;
  const left = isWhole ? places.filter((place) => !met.has(place)) : [];
  failures += left.length;
  for (const place of left) console.error(`never failed: ${place}`);
  console.log(`${met.size} of ${places.length} places that call the disk met a fault`);
} else {
  await tryFault(JSON.parse(values.replay) as Fault);
}
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${runs} runs, seed ${values.seed}: ${failures} failed (${seconds} s)`);
process.exitCode = failures > 0 ? 1 : 0;
