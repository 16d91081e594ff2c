import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSource, type CompiledSource } from './child-process.js';
import { crashRounds } from './soak/crash-rounds.mjs';

const rounds = 6;

describe('a process that is killed while it writes', () => {
  let source: CompiledSource;
  let place: string;
  beforeAll(() => {
    source = compileSource();
    place = mkdtempSync(join(tmpdir(), 'ottla-crash-'));
  });
  afterAll(() => source.remove());

  it(`f01 has lost, repeated or reordered nothing it acknowledged, ${rounds} times over`, async () => {
    const totals = await crashRounds({
      entry: pathToFileURL(join(source.directory, 'dist', 'index.js')).href,
      directory: join(place, 'data'),
      rounds,
      seed: Math.floor(Math.random() * 2 ** 20),
    });
    expect(totals.kills).toBe(rounds);
    expect(totals.acknowledged).toBeGreaterThan(rounds);
    expect(Object.values(totals.hits).filter((count) => count > 0).length).toBeGreaterThan(0);
    // Kept where a promise was broken: the error names it.
    rmSync(place, { recursive: true });
  });
});
