import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSource, type CompiledSource } from './child-process.js';
import { seeds } from './seeds.js';
import { randomFrom } from './soak/crash-model.mjs';
import { crashRounds } from './soak/crash-rounds.mjs';
import { SoakLoad } from './soak/soak-load.mjs';

const usual = 6;
const rounds = seeds(usual);

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
    // Two of the kills wait until something was sent.
    expect(totals.acknowledged).toBeGreaterThanOrEqual(2);
    // Kept where a promise was broken: the error names it.
    rmSync(place, { recursive: true });
    if (rounds < usual) return;
    expect(Object.values(totals.hits).filter((count) => count > 0).length).toBeGreaterThan(0);
  });

  it('f38 keeps every promise where all goes on at once, over reopenings, and no file stays open', async () => {
    const openFiles = (): number =>
      process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
    const before = openFiles();
    const seed = Math.floor(Math.random() * 2 ** 20);
    const soaked = mkdtempSync(join(tmpdir(), `ottla-soak-${seed}-`));
    const load = new SoakLoad({
      entry: pathToFileURL(join(source.directory, 'dist', 'index.js')).href,
      place: soaked,
      random: randomFrom(seed),
      recordsPerSecond: 2000,
      shrinkBy: 64,
    });
    const running = load.run(500);
    const { counts } = load;
    while (Math.min(counts.opened - 1, counts.sent, counts.read) < 1) {
      await Promise.race([running, sleep(10)]);
    }
    load.end();
    await running;
    expect(Math.min(counts.opened - 1, counts.sent, counts.read)).toBeGreaterThanOrEqual(1);
    // What is loaded at first use stays: some files of LMDB's and of the checksum's.
    expect(openFiles()).toBeLessThan(before + 20);
    rmSync(soaked, { recursive: true });
  }, 120_000);
});
