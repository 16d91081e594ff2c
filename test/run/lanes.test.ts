import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Lanes, type Task } from '../../src/run-lanes.js';
import { exponentialBackoff } from '../../src/run-retry.js';
import { Slots } from '../../src/run-slots.js';
import { ManualClock } from '../manual-clock.js';

/** A task that ends when told. */
class ToldTask implements Task {
  readonly lane: string | null;
  readonly name: string;
  readonly #log: string[];
  end: () => void = () => undefined;

  constructor(lane: string | null, name: string, log: string[]) {
    this.lane = lane;
    this.name = name;
    this.#log = log;
  }

  async run(): Promise<void> {
    this.#log.push(`begin ${this.name}`);
    await new Promise<void>((resolve) => (this.end = resolve));
    this.#log.push(`end ${this.name}`);
  }
}

describe('Lanes', () => {
  it('runs the tasks of a lane in order, and lanes beside each other', async () => {
    const log: string[] = [];
    const lanes = new Lanes<ToldTask>(() => log.push('settled'));
    const tasks = ['a', 'a', 'b', null, null].map((lane, i) => new ToldTask(lane, `${i}`, log));
    for (const task of tasks) lanes.add(task);
    expect(log.splice(0)).toEqual(['begin 0', 'begin 2', 'begin 3', 'begin 4']);
    expect(lanes.count).toBe(5);
    tasks[0]!.end();
    await turn();
    expect(log.splice(0)).toEqual(['end 0', 'settled', 'begin 1']);
    for (const task of tasks) task.end();
    await turn();
    expect(lanes.count).toBe(0);
  });

  it('keeps the order of what settled() adds to the lane that has just ended', async () => {
    const log: string[] = [];
    const added = new ToldTask('a', '1', log);
    const behind = new ToldTask('a', '2', log);
    let toAdd: ToldTask[] = [added, behind];
    const lanes: Lanes<ToldTask> = new Lanes(() => {
      for (const task of toAdd) lanes.add(task);
      toAdd = [];
    });
    const first = new ToldTask('a', '0', log);
    lanes.add(first);
    for (const task of [first, added, behind]) {
      task.end();
      await turn();
    }
    expect(log).toEqual(['begin 0', 'end 0', 'begin 1', 'end 1', 'begin 2', 'end 2']);
    expect(lanes.count).toBe(0);
  });
});

describe('Slots', () => {
  it('bounds how many there are, first come, first served', async () => {
    const slots = new Slots(new ManualClock(), 2, null);
    expect([slots.take(), slots.take()]).toEqual([undefined, undefined]);
    const served: number[] = [];
    for (const i of [0, 1, 2]) void slots.take()?.then(() => served.push(i));
    slots.free();
    await turn();
    expect(served).toEqual([0]);
    slots.free();
    slots.free();
    await turn();
    expect(served).toEqual([0, 1, 2]);
  });

  it('bounds how many begin in a span of time', async () => {
    const clock = new ManualClock();
    const slots = new Slots(clock, 100, { records: 2, perMs: 1000 });
    const served: number[] = [];
    for (let i = 0; i < 7; i++) {
      const taken = slots.take();
      if (taken === undefined) served.push(i);
      else void taken.then(() => served.push(i));
    }
    const seen = [];
    for (const ms of [0, 499, 1, 500, 1000]) {
      await clock.advance(ms);
      seen.push(served.length);
    }
    expect(seen).toEqual([2, 2, 2, 4, 6]);
    await clock.advance(60_000);
    expect(served).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(clock.timerCount).toBe(0);
  });

  it('lets no more begin in any span, whenever they come', async () => {
    const clock = new ManualClock();
    const slots = new Slots(clock, 100, { records: 5, perMs: 100 });
    const began: number[] = [];
    for (let i = 0; i < 400; i++) {
      await clock.advance((i * 37) % 23);
      const begin = (): void => void began.push(clock.monotonic());
      const taken = slots.take();
      if (taken === undefined) begin();
      else void taken.then(begin);
      slots.free();
    }
    await clock.advance(60_000);
    expect(began).toHaveLength(400);
    for (const [i, at] of began.entries())
      expect((began[i + 5] ?? Infinity) - at).toBeGreaterThanOrEqual(100);
  });
});

describe('exponentialBackoff', () => {
  it('doubles to 30 s, and spreads over the upper half', () => {
    const failures = [1, 2, 3, 9, 10, 1000];
    expect(failures.map(exponentialBackoff(() => 1))).toEqual([
      100, 200, 400, 25_600, 30_000, 30_000,
    ]);
    expect(failures.map(exponentialBackoff(() => 0))).toEqual([
      50, 100, 200, 12_800, 15_000, 15_000,
    ]);
  });
});
