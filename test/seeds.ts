/**
 * How many seeds, or runs of a property, a random test tries: OTTLA_SEEDS, else as many as it says itself. What
 * seeds meet by chance is asked of `usual` ones only.
 */
export function seeds(usual: number): number {
  return Number(process.env['OTTLA_SEEDS'] ?? usual);
}

/** The first of them, the same in each run unless OTTLA_SEED says another one. */
export const firstSeed: number = Number(process.env['OTTLA_SEED'] ?? 1);
