/**
 * How many seeds, runs of a property or kills a random test tries: OTTLA_SEEDS, else as many as it says itself.
 * What is met by chance must not be asked of fewer.
 */
export function seeds(usual: number): number {
  const count = Number(process.env['OTTLA_SEEDS'] ?? usual);
  if (Number.isInteger(count) && count > 0) return count;
  throw new RangeError(`OTTLA_SEEDS: expected an integer from 1, got ${count}`);
}

/** The first of them, the same in each run unless OTTLA_SEED says another one. */
export const firstSeed: number = Number(process.env['OTTLA_SEED'] ?? 1);
