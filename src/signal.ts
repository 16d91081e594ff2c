import { OttlaError } from './errors.js';

/** What waits for one signal: one listener for all of it, since Node warns of more than ten. */
class Waits extends Set<() => void> {
  handleEvent(): void {
    for (const run of this) run();
  }
}

const waiting = new WeakMap<AbortSignal, Waits>();

/**
 * Calls `run` when the signal aborts; not at all if it has aborted already.
 * @returns what must be called once that is not waited for any more; idempotent
 */
export function onAbort(signal: AbortSignal, run: () => void): () => void {
  const waits = waiting.get(signal) ?? new Waits();
  if (waits.size === 0) {
    waiting.set(signal, waits);
    signal.addEventListener('abort', waits);
  }
  waits.add(run);
  return () => {
    if (!waits.delete(run) || waits.size > 0) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', waits);
  };
}

/** Settles as `promise` does, or rejects ABORTED once the signal aborts; the promise then goes on unheard. */
export async function withSignal<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  what: string,
): Promise<T> {
  if (signal === undefined) return promise;
  let cancel: (() => void) | undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    const abort = (): void => {
      reject(new OttlaError('ABORTED', `${what} was aborted`, { cause: signal.reason }));
    };
    cancel = onAbort(signal, abort);
    if (signal.aborted) abort();
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    cancel?.();
  }
}
