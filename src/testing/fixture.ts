import type { OttlaError } from '../errors.js';
import { Ottla, type MemoryOptions, type OpenOptions } from '../index.js';
import { makeDirectory } from './directory.js';
import { FaultInjector } from './fault-injector.js';
import { VirtualClock } from './virtual-clock.js';

/**
 * What a test framework hands to a test, to be told of its end: the context of Vitest (`onTestFinished`),
 * or that of node:test (`after`).
 */
export type TestContext =
  | { onTestFinished(finish: () => Promise<void>): unknown }
  | { after(finish: () => Promise<void>): unknown };

/** An Ottla for one test. */
export interface TestOttla {
  readonly ottla: Ottla;
  /** The time in it. It stands still until it is told to move. */
  readonly clock: VirtualClock;
  /** Makes its disk fail or wait. */
  readonly faults: FaultInjector;
  /** What came as 'error' so far, in order. */
  readonly errors: readonly OttlaError[];
  /** What came as 'warning' so far, in order. */
  readonly warnings: readonly string[];
}

/**
 * An Ottla in memory for one test, which is closed when the test has ended, however it ended. Time is
 * virtual; ids and choices are the same in every run.
 * @throws TypeError for what is no context of a test
 */
export function testOttla(
  test: TestContext,
  options: Omit<MemoryOptions, 'clock' | 'faults'> = {},
): TestOttla {
  const clock = new VirtualClock();
  const faults = new FaultInjector();
  const finished = finishing('testOttla', test);
  const ottla = Ottla.memory({ seed: 1, ...options, clock, faults });
  finished(async () => {
    faults.heal();
    await clock.runUntil(ottla.close());
  });
  const errors: OttlaError[] = [];
  const warnings: string[] = [];
  ottla.on('error', (error) => void errors.push(error));
  ottla.on('warning', (warning) => void warnings.push(warning));
  return { ottla, clock, faults, errors, warnings };
}

/**
 * An Ottla in a new directory for one test, after which it is closed and the directory removed. Its time is
 * the system's.
 * @throws TypeError for what is no context of a test
 */
export async function testDirectory(
  test: TestContext,
  options: OpenOptions = {},
): Promise<{ readonly ottla: Ottla; readonly path: string }> {
  const finished = finishing('testDirectory', test);
  const { path, remove } = makeDirectory();
  let ottla: Ottla | undefined;
  finished(async () => {
    try {
      await ottla?.close();
    } finally {
      remove();
    }
  });
  ottla = await Ottla.open(path, options);
  return { ottla, path };
}

function finishing(where: string, test: TestContext): (finish: () => Promise<void>) => void {
  // Vitest's is a function, with the rest as its properties.
  if (Object(test) === test) {
    if ('onTestFinished' in test) return (finish) => void test.onTestFinished(finish);
    if ('after' in test) return (finish) => void test.after(finish);
  }
  throw new TypeError(
    `${where}: expected the context of a Vitest or node:test test, got ${typeof test}`,
  );
}
