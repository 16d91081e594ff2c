// The one place that reads time and makes timers. The bindings are taken from node:timers, not from
// the globals: a test framework that fakes the globals must not stop our flushes.
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import { OttlaError } from './errors.js';

/** A pending call of `run`; cancel is idempotent. */
export interface Timer {
  /** Its call does not come any more. Idempotent. */
  cancel(): void;
}

/** Time and timers, injected everywhere, so that tests decide what time it is. */
export interface Clock {
  /** Wall clock in ms since 1970: record timestamps only. It may jump. */
  now(): number;
  /** Monotonic ms from an arbitrary origin: deadlines and intervals. */
  monotonic(): number;
  /** Runs once after `ms`. The timer keeps the process alive only if `keepAlive` is true. */
  after(ms: number, run: () => void, keepAlive?: boolean): Timer;
  /** Runs at the end of this turn of the event loop, after the I/O callbacks that are due. */
  soon(run: () => void): void;
}

/** The longest timer that Node keeps, 24 days: longer ones would fire at once. */
export const longestTimerMs: number = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run, keepAlive = false) {
    const timer = setTimeout(run, Math.min(ms, longestTimerMs));
    if (!keepAlive) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  soon(run) {
    setImmediate(run);
  },
};

/**
 * A time has come only when the loop has polled for input since: what arrived while the process was busy,
 * or asleep, is heard first. From wherever in the loop a timer runs, two ends of turns have a whole poll
 * phase between them.
 */
export function countingPolls(clock: Clock): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    soon: (run) => clock.soon(run),
    after(ms, run, keepAlive) {
      let isCancelled = false;
      const timer = clock.after(
        ms,
        () => {
          clock.soon(() =>
            clock.soon(() => {
              if (!isCancelled) run();
            }),
          );
        },
        keepAlive,
      );
      return {
        cancel: () => {
          isCancelled = true;
          timer.cancel();
        },
      };
    },
  };
}

/** Settles as `promise` does, or rejects REQUEST_TIMED_OUT. */
export async function withDeadline<T>(
  clock: Clock,
  promise: Promise<T>,
  timeoutMs: number | undefined,
  what: string,
): Promise<T> {
  if (timeoutMs === undefined) return promise;
  let timer: Timer | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const error = new OttlaError('REQUEST_TIMED_OUT', `${what} took longer than ${timeoutMs} ms`);
    timer = clock.after(timeoutMs, () => reject(error), true);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer?.cancel();
  }
}
