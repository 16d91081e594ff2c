/** What to do when a handler fails. */
export interface RetryPolicy {
  /** How often it is called for one record, the first time included. */
  readonly attempts: number;
  /** How long to wait after so many failures, in ms. */
  readonly backoffMs: (failures: number) => number;
  readonly isRetryable: (error: unknown) => boolean;
  /** The topic that a record waits in; null: it waits where it is. */
  readonly topic: string | null;
}

const firstBackoffMs = 100;
const longestBackoffMs = 30_000;

/** Doubles from 100 ms to 30 s; of each a random part between half and all, so that failures spread. */
export function exponentialBackoff(random: () => number): (failures: number) => number {
  return (failures) => {
    const most = Math.min(longestBackoffMs, firstBackoffMs * 2 ** (failures - 1));
    return Math.round(most * (0.5 + random() / 2));
  };
}
