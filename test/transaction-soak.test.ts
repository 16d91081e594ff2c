import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSource, type CompiledSource } from './child-process.js';
import { seeds } from './seeds.js';
import { transactionRounds } from './soak/transaction-rounds.mjs';

const usual = 5;
const rounds = seeds(usual);

describe('a process that is killed in its transactions', () => {
  let source: CompiledSource;
  let place: string;
  beforeAll(() => {
    source = compileSource();
    place = mkdtempSync(join(tmpdir(), 'ottla-transactions-'));
  });
  afterAll(() => source.remove());

  it(`has left each wholly or not at all, offsets included, ${rounds} times over`, async () => {
    const totals = await transactionRounds({
      entry: pathToFileURL(join(source.directory, 'dist', 'index.js')).href,
      directory: join(place, 'data'),
      rounds,
      seed: Math.floor(Math.random() * 2 ** 20),
    });
    expect(totals.kills).toBe(rounds);
    expect(totals.commits + totals.caughtCommitted).toBeGreaterThan(0);
    // Kept where a promise was broken: the error names it.
    rmSync(place, { recursive: true });
    if (rounds < usual) return;
    expect(totals.rolledBack + totals.rolledForward).toBeGreaterThan(0);
  }, 120_000);
});
