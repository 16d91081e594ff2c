import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  callsOf,
  faultsAt,
  placesThatCall,
  runWithFault,
  warmUp,
  workloads,
  type Fault,
} from './fault-loop.js';

/**
 * The short run of `npm run soak:faults`: the first call from every place in the source, with an
 * input/output error and one other fault by turns. The long one takes every call and every fault.
 */
describe('each call to the disk failing in turn', () => {
  const met = new Set<string>();
  /** Places that an earlier workload called from. */
  const seen = new Set<string>();
  let turn = 0;
  const rejections: unknown[] = [];
  const reject = (error: unknown): void => void rejections.push(error);
  beforeAll(async () => {
    process.on('unhandledRejection', reject);
    await warmUp();
  });
  afterAll(() => process.off('unhandledRejection', reject));

  it.each(Object.keys(workloads))(
    '%s: what was acknowledged is there, what was refused is not, and work goes on',
    async (workload) => {
      const { calls, problems } = await callsOf(workload);
      expect(problems).toEqual([]);
      const broken: { fault: Fault; problems: readonly string[] }[] = [];
      for (const [i, { call, site }] of calls.entries()) {
        if (seen.has(site)) continue;
        seen.add(site);
        // The first one is an input/output error, once, and the process lives on.
        const [first, ...others] = faultsAt(workload, i, call);
        for (const fault of [first!, others[turn % others.length]!]) {
          const run = await runWithFault(fault);
          for (const place of run.met) met.add(place);
          if (run.problems.length > 0) broken.push({ fault, problems: run.problems });
        }
        turn++;
      }
      expect(broken).toEqual([]);
    },
    120_000,
  );

  it('leaves no place out that calls it', () => {
    expect(placesThatCall().filter((place) => !met.has(place))).toEqual([]);
    expect(rejections).toEqual([]);
  });
});
