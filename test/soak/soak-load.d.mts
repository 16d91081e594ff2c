export interface SoakOptions {
  /** URL of the built index.js; its modules, which are watched, lie beside it. */
  readonly entry: string;
  /** A directory for the data directory and what is copied of it. */
  readonly place: string;
  readonly random: {
    readonly below: (end: number) => number;
    readonly oneOf: <T>(items: readonly T[]) => T;
  };
  /** Of all writers together. */
  readonly recordsPerSecond: number;
  /** So many times smaller are segments: more is freed and compacted in less time. */
  readonly shrinkBy: number;
}

export declare class SoakLoad {
  /** How often what goes on has happened. */
  readonly counts: Readonly<
    Record<
      | 'sent'
      | 'read'
      | 'followed'
      | 'opened'
      | 'rebalanced'
      | 'retention'
      | 'compaction'
      | 'backup',
      number
    >
  >;
  constructor(options: SoakOptions);
  /**
   * Works until end() is called, closing and opening at an interval.
   * @throws Error if anything is not as it must be
   */
  run(reopenMs: number): Promise<void>;
  end(): void;
}
