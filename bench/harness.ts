import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How long something took that was done `count` times. */
export interface Measured {
  readonly count: number;
  readonly ms: number;
}

/**
 * What is to be better than a floor: a least share of its rate, or at most so many times its duration. Or one
 * of what is counted is to take at most so many ms, or at most so many more than the floor's.
 */
export type Goal =
  | { readonly least: number }
  | { readonly most: number }
  | { readonly mostMs: number; readonly isBeyondFloor?: true };

/** One line of the table. */
export interface Row {
  readonly name: string;
  /** What one count is, in the plural: 'records'. */
  readonly unit: string;
  /** Exactly what is measured, and against which floor. */
  readonly what: string;
  readonly goal?: Goal;
  /** Prepares what is not measured. */
  readonly prepare: (setting: Setting) => Promise<Subject>;
}

export interface Setting {
  /** An empty directory, removed at the end. */
  readonly directory: string;
  /** Scales counts down for a quick run. */
  readonly scaled: (count: number) => number;
}

/** What is measured, and the least that the machine needs for the same work; both as often as asked. */
export interface Subject {
  readonly run: () => Promise<Measured>;
  readonly floor: () => Measured | Promise<Measured>;
  readonly close?: () => Promise<void>;
}

export interface Result {
  readonly name: string;
  readonly unit: string;
  readonly what: string;
  readonly goal: Goal | null;
  /** Per second: the median over all rounds. */
  readonly rate: number;
  readonly floorRate: number;
  /** The median of the rounds' ratios: of rates, or for a goal of durations of these. */
  readonly ratio: number;
  readonly ratios: readonly number[];
  readonly meetsGoal: boolean | null;
  /** Largest resident set of the row's process, in MiB; largest heap in use at the end of a round. */
  readonly peakRssMiB: number;
  readonly heapMiB: number;
  /** How late a timer of 1 ms fired during the measured runs: the worst run's 99th percentile, and maximum; in ms. */
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
}

/** 1,000 records of 116 bytes: keys of 16 bytes, values of 100, no headers. */
export const records: readonly { readonly key: Buffer; readonly value: Buffer }[] = Array.from(
  { length: 1000 },
  (_, i) => ({
    key: Buffer.from(String(i).padStart(16, 'k')),
    value: Buffer.alloc(100, 97 + (i % 26)),
  }),
);

/** Runs a row: one round unmeasured, then rounds of the subject and its floor, first the one, then the other. */
export async function measure(
  row: Row,
  parent: string,
  rounds: number,
  scale: number,
): Promise<Result> {
  const directory = mkdtempSync(join(parent, 'row-'));
  const scaled = (count: number): number => Math.max(1, Math.round(count * scale));
  const runs: Measured[] = [];
  const floors: Measured[] = [];
  let heap = 0;
  let [delayP99, delayMax] = [0, 0];
  const subject = await row.prepare({ directory, scaled });
  const run = async (): Promise<Measured> => {
    // One for each run: a monitor that goes on after a pause counts the pause as a delay.
    const delay = monitorEventLoopDelay({ resolution: 1 });
    globalThis.gc?.();
    delay.enable();
    const measured = await subject.run();
    delay.disable();
    delayP99 = Math.max(delayP99, delay.percentile(99));
    delayMax = Math.max(delayMax, delay.max);
    heap = Math.max(heap, process.memoryUsage().heapUsed);
    return measured;
  };
  const runFloor = async (): Promise<Measured> => {
    globalThis.gc?.();
    return subject.floor();
  };
  try {
    for (let round = 0; round <= rounds; round++) {
      const floorFirst = round % 2 === 0;
      const before = floorFirst ? await runFloor() : undefined;
      const measured = await run();
      const floor = before ?? (await runFloor());
      if (round === 0) {
        [delayP99, delayMax] = [0, 0];
      } else {
        runs.push(measured);
        floors.push(floor);
      }
    }
  } finally {
    await subject.close?.();
    rmSync(directory, { recursive: true, force: true });
  }
  const isOfTimes = row.goal !== undefined && !('least' in row.goal);
  const ratios = runs.map((measured, i) => {
    const ratio = perSecond(measured) / perSecond(floors[i]!);
    return isOfTimes ? 1 / ratio : ratio;
  });
  const ratio = median(ratios);
  const rate = median(runs.map(perSecond));
  const floorRate = median(floors.map(perSecond));
  return {
    name: row.name,
    unit: row.unit,
    what: row.what,
    goal: row.goal ?? null,
    rate,
    floorRate,
    ratio,
    ratios,
    meetsGoal: row.goal === undefined ? null : meets(row.goal, ratio, rate, floorRate),
    peakRssMiB: process.resourceUsage().maxRSS / 1024,
    heapMiB: heap / 2 ** 20,
    loopDelayP99Ms: delayP99 / 1e6,
    loopDelayMaxMs: delayMax / 1e6,
  };
}

/** How long one may take by a goal in ms. */
export function mostMs(goal: Extract<Goal, { mostMs: number }>, floorRate: number): number {
  return goal.mostMs + (goal.isBeyondFloor === true ? 1000 / floorRate : 0);
}

function meets(goal: Goal, ratio: number, rate: number, floorRate: number): boolean {
  if ('mostMs' in goal) return 1000 / rate <= mostMs(goal, floorRate);
  return 'least' in goal ? ratio >= goal.least : ratio <= goal.most;
}

function perSecond({ count, ms }: Measured): number {
  return (count / ms) * 1000;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[sorted.length >> 1]! + sorted[(sorted.length - 1) >> 1]!) / 2;
}

/** Does something `count` times, one after the other: as if each had taken as long as the median. */
export async function oneByOne(
  count: number,
  step: (i: number) => unknown,
  before?: () => Promise<void>,
): Promise<Measured> {
  const durations = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    if (before !== undefined) await before();
    const began = performance.now();
    await step(i);
    durations[i] = performance.now() - began;
  }
  return { count, ms: median([...durations]) * count };
}

/** Measures `count` times of something done in one go. */
export async function timed(count: number, work: () => void | Promise<void>): Promise<Measured> {
  const began = performance.now();
  await work();
  return { count, ms: performance.now() - began };
}
