import { expect } from 'vitest';
import type { Partition } from '../src/partition.js';
import type { Change } from '../src/storage/meta-store.js';
import { Machine, append, batchOf } from './machine.js';
import { WatchedFiles, type Call, type CallName } from './watched-files.js';

/** A machine whose calls are noted, and fail or wait when told to. */
export class FaultyMachine extends Machine {
  readonly watched: WatchedFiles;
  /** Calls that change something or make it durable, and 'write rows'. */
  readonly log: string[] = [];
  /** Asked of each call: an error fails it, a number is how much of a write gets through. */
  fault: (call: Call) => Error | number | undefined = () => undefined;
  /** Of the next write of rows. */
  rowFault: Error | null = null;
  /** A write of rows of these kinds is done, and answered after letRowsGo(). */
  holdRows = '';
  letRowsGo: () => void = () => undefined;
  syncing = 0;
  mostSyncing = 0;
  #held: (() => void)[] | null = null;

  constructor() {
    super();
    this.watched = new WatchedFiles(this.files, (call) => this.#onCall(call));
    this.files = this.watched;
    const { store } = this;
    const write = store.write.bind(store);
    store.write = async (changes: readonly Change[]) => {
      const kinds = changes.map(({ key }) => key[0]).join(' ');
      this.log.push(`write rows ${kinds}`);
      const fault = this.rowFault;
      this.rowFault = null;
      if (fault !== null) throw fault;
      await write(changes);
      if (kinds !== this.holdRows) return;
      await new Promise<void>((resolve) => (this.letRowsGo = resolve));
    };
  }

  #onCall(call: Call): number | Promise<void> | undefined {
    const noted: readonly CallName[] = ['write', 'truncate', 'sync', 'syncDirectory'];
    if (noted.includes(call.name)) this.log.push(`${call.name} ${call.path.replace('/t-0/', '')}`);
    const fault = this.fault(call);
    if (fault instanceof Error) throw fault;
    if (typeof fault === 'number') return fault;
    return call.name === 'sync' && call.path.endsWith('.log') ? this.#sync() : undefined;
  }

  async #sync(): Promise<void> {
    this.syncing++;
    this.mostSyncing = Math.max(this.mostSyncing, this.syncing);
    const held = this.#held;
    if (held !== null) await new Promise<void>((resolve) => held.push(resolve));
    this.syncing--;
  }

  /** Syncs of .log files wait from now on. */
  holdSyncs(): void {
    this.#held = [];
  }

  letLastSyncGo(): void {
    this.#held?.pop()?.();
  }

  letSyncsGo(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const resolve of held) resolve();
  }

  count(entry: string): number {
    return this.log.filter((call) => call === entry).length;
  }
}

/** Faults of a call by name, for .log files: `errors` in turn, then none. */
export function failing(name: CallName, ...errors: (Error | number)[]): FaultyMachine['fault'] {
  return (call) => (call.name === name && call.path.endsWith('.log') ? errors.shift() : undefined);
}

/** What became of an append: its base offset, or its error. */
export interface Outcome {
  readonly value: string;
  readonly outcome: unknown;
}

/** Appends several at once; the outcomes are in the order in which they were told. */
export async function appendEach(
  partition: Partition,
  values: readonly string[],
  acks: 1 | 'all',
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  await Promise.all(
    values.map(async (value) => {
      const appended = append(partition, batchOf([value]), acks);
      const outcome = await appended.catch((error: unknown) => error);
      outcomes.push({ value, outcome });
    }),
  );
  return outcomes;
}

export const retriable: unknown = expect.objectContaining({
  code: 'KAFKA_STORAGE_ERROR',
  retriable: true,
});
export const notRetriable: unknown = expect.objectContaining({
  code: 'KAFKA_STORAGE_ERROR',
  retriable: false,
});
