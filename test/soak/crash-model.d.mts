/** The same numbers for the same seed. */
export declare function randomFrom(seed: number): {
  below(end: number): number;
  oneOf<T>(items: readonly T[]): T;
};
