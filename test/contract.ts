import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe } from 'vitest';
import { Ottla } from '../src/index.js';

/** One kind of Ottla, to run the contract on. */
export interface Harness {
  readonly kind: 'memory' | 'directory';
  /** A new and empty one. It is closed after the test, however that ends. */
  open(): Promise<Ottla>;
  /** Closes it and opens what it left behind; null for a kind of which nothing is left. */
  readonly reopen: ((ottla: Ottla) => Promise<Ottla>) | null;
  /** Every file and directory there is, in the data directory (`data`) and around it. */
  files(): string[];
}

/** Runs the same tests over `Ottla.memory()` and over `Ottla.open()` of a directory made for each test. */
export function describeContract(name: string, define: (harness: Harness) => void): void {
  describe(`${name}, in memory`, () => {
    const opened = closedAfterEach();
    define({
      kind: 'memory',
      open: async () => opened(Ottla.memory()),
      reopen: null,
      files: () => [],
    });
  });

  describe(`${name}, in a directory`, () => {
    const directories = new Map<Ottla, string>();
    let places: string[] = [];
    const opened = closedAfterEach(() => {
      for (const place of places) rmSync(place, { recursive: true, force: true });
      places = [];
      directories.clear();
    });
    const openAt = async (directory: string): Promise<Ottla> => {
      const ottla = opened(await Ottla.open(directory));
      directories.set(ottla, directory);
      return ottla;
    };
    define({
      kind: 'directory',
      async open() {
        const place = mkdtempSync(join(tmpdir(), 'ottla-contract-'));
        places.push(place);
        return openAt(join(place, 'data'));
      },
      async reopen(ottla) {
        await ottla.close();
        return openAt(directories.get(ottla)!);
      },
      files: () =>
        places
          .flatMap((place) => readdirSync(place, { recursive: true, encoding: 'utf8' }))
          .toSorted(),
    });
  });
}

/** Hands an Ottla through, and closes it after the test; then `finish` is called. */
export function closedAfterEach(finish?: () => void): (ottla: Ottla) => Ottla {
  const open = new Set<Ottla>();
  afterEach(async () => {
    const ottlas = [...open];
    open.clear();
    await Promise.allSettled(ottlas.map((ottla) => ottla.close()));
    finish?.();
  });
  return (ottla) => {
    open.add(ottla);
    return ottla;
  };
}

export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}

/** What the promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('expected a rejection');
}
