import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe } from 'vitest';
import { Ottla } from '../src/index.js';

/** One kind of Ottla, to run the contract on. */
export interface Harness {
  /** A new and empty one. It is closed after the test, however that ends. */
  readonly open: () => Promise<Ottla>;
  /** Every file and directory there is, in the data directory (`data`) and beside it. */
  readonly files: () => string[];
}

export interface DirectoryHarness extends Harness {
  /** Closes it and opens what it left behind. */
  readonly reopen: (ottla: Ottla) => Promise<Ottla>;
  readonly directoryOf: (ottla: Ottla) => string;
}

/** Defines the same tests over `Ottla.memory()` and over `Ottla.open()` of a directory of its own for each. */
export function describeContract(name: string, define: (harness: Harness) => void): void {
  describe(`${name}, in memory`, () => {
    const opened = closedAfterEach();
    define({ open: async () => opened(Ottla.memory()), files: () => [] });
  });
  describeDirectory(name, define);
}

/** Defines tests over `Ottla.open()` alone: what is about a restart. */
export function describeDirectory(name: string, define: (harness: DirectoryHarness) => void): void {
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
      async open() {
        const place = mkdtempSync(join(tmpdir(), 'ottla-contract-'));
        places.push(place);
        return openAt(join(place, 'data'));
      },
      async reopen(ottla) {
        await ottla.close();
        return openAt(directories.get(ottla)!);
      },
      directoryOf: (ottla) => directories.get(ottla)!,
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

/** What a call throws, or what its promise rejects with. */
export async function failureOf(run: () => unknown): Promise<Error> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('expected an Error');
}
