/** The same numbers for the same seed. */
export declare function randomFrom(seed: number): {
  readonly below: (end: number) => number;
  readonly oneOf: <T>(items: readonly T[]) => T;
};
