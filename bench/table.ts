import type { Goal, Result } from './harness.js';

const widths = [41, 11, 10, 9, 14, 9, 10, 17] as const;

function print(cells: readonly string[]): void {
  const line = cells.map((cell, i) =>
    i === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[i] ?? 0),
  );
  process.stdout.write(`${line.join('').trimEnd()}\n`);
}

export function printHead(): void {
  print(['', 'per second', 'floor', 'ratio', 'goal', 'RSS MiB', 'heap MiB', 'loop p99/max ms']);
}

export function printResult(result: Result): void {
  const { name, rate, floorRate, ratio, goal, meetsGoal, peakRssMiB, heapMiB } = result;
  const { loopDelayP99Ms, loopDelayMaxMs } = result;
  print([
    name,
    rateText(goal, rate),
    rateText(goal, floorRate),
    ratio.toPrecision(2),
    `${goalText(goal)}${meetsGoal === false ? ' !' : '  '}`,
    peakRssMiB.toFixed(0),
    heapMiB.toFixed(0),
    `${loopDelayP99Ms.toFixed(1)} / ${loopDelayMaxMs.toFixed(1)}`,
  ]);
}

export function goalText(goal: Goal | null): string {
  if (goal === null) return '';
  if ('mostMs' in goal) {
    return `<= ${goal.mostMs} ms${goal.isBeyondFloor === true ? ' more' : ''}`;
  }
  return 'least' in goal ? `>= ${goal.least}` : `<= ${goal.most}`;
}

/** How many of them a second, or for a goal in ms how long one takes. */
export function rateText(goal: Goal | null, perSecond: number): string {
  if (goal === null || !('mostMs' in goal)) return short(perSecond);
  const ms = 1000 / perSecond;
  return `${ms < 10 ? ms.toPrecision(2) : ms.toFixed(ms < 100 ? 1 : 0)} ms`;
}

function short(perSecond: number): string {
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(2)} M`;
  if (perSecond >= 1e4) return `${(perSecond / 1e3).toFixed(0)} k`;
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toPrecision(3);
}
