import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { compileSource, startChild, type Child, type CompiledSource } from './child-process.js';

let source: CompiledSource;
beforeAll(() => {
  source = compileSource();
});
afterAll(() => source.remove());

let place: string;
let owner: Child;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'ottla-cleaning-'));
});
afterEach(async () => {
  owner.process.kill('SIGKILL');
  await owner.ended();
  rmSync(place, { recursive: true, force: true });
});

/** An owner that sends records in rounds, as many as it is told. Keys of every fifth are unique. */
async function startOwner(options: object, afterRound = ''): Promise<string> {
  const data = join(place, 'data');
  owner = startChild(
    source,
    `import { Ottla } from './dist/index.js';
    const ottla = await Ottla.open(${JSON.stringify(data)});
    await ottla.topics.create('t', ${JSON.stringify({ segmentBytes: 4096, ...options })});
    const producer = ottla.producer({ acks: 1 });
    let next = 0;
    const round = async () => {
      const records = Array.from({ length: 50 }, () => {
        const i = next++;
        return { key: i % 5 === 0 ? 'u' + i : 'k' + (i % 7), value: String(i).padStart(100, '.') };
      });
      for (const record of records) await producer.send('t', record);
      ${afterRound}
      await new Promise((resolve) => setTimeout(resolve, 1));
    };
    process.on('message', async (rounds) => {
      for (let i = 0; i < rounds; i++) await round();
      process.send('done');
    });
    process.send('open');`,
  );
  if ((await owner.next()) !== 'open') throw new Error(owner.stderr());
  await rounds(20);
  return data;
}

async function rounds(count: number): Promise<void> {
  owner.process.send(count);
  if ((await owner.next()) !== 'done') throw new Error(owner.stderr());
}

/** Reads all there is while more comes, again and again; each reading with an Ottla of its own or with one. */
async function readings(data: string): Promise<number[][]> {
  const found: number[][] = [];
  const kept = await Ottla.open(data, { readOnly: true });
  const warnings: string[] = [];
  kept.on('warning', (warning) => warnings.push(warning));
  for (let i = 0; i < 6; i++) {
    const fresh = i % 3 === 0 ? await Ottla.open(data, { readOnly: true }) : kept;
    const offsets: number[] = [];
    const writing = rounds(4);
    writing.catch(() => undefined);
    for await (const { offset, value } of fresh.read('t')) {
      expect(Number(String(value).replaceAll('.', ''))).toBe(offset);
      offsets.push(offset);
      if (offsets.length % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await writing;
    found.push(offsets);
    if (fresh !== kept) await fresh.close();
  }
  await kept.close();
  expect(warnings.filter((warning) => !warning.includes('is out of range'))).toEqual([]);
  return found;
}

function expectOrder(offsets: readonly number[]): void {
  expect(offsets).toEqual(offsets.toSorted((one, other) => one - other));
  expect(new Set(offsets).size).toBe(offsets.length);
}

describe('read-only, beside an owner', { timeout: 120_000 }, () => {
  it('that compacts: no reading fails, and none misses a record that is the latest of its key', async () => {
    const data = await startOwner({ cleanupPolicy: 'compact', minCleanableDirtyRatio: 0 });
    for (const offsets of await readings(data)) {
      expectOrder(offsets);
      const seen = new Set(offsets);
      const end = offsets.at(-1)!;
      const missed = [];
      for (let offset = 0; offset <= end; offset += 5) if (!seen.has(offset)) missed.push(offset);
      expect(end).toBeGreaterThan(900);
      expect(missed).toEqual([]);
    }
  });

  it('that deletes: no reading fails, and each goes on to the end', async () => {
    const data = await startOwner(
      {},
      "if (next > 500) await ottla.topics.deleteRecords('t', 0, next - 400);",
    );
    for (const offsets of await readings(data)) {
      expectOrder(offsets);
      expect(offsets.at(-1)).toBeGreaterThan(900);
    }
  });

  it('that compacts and deletes: no reading fails', async () => {
    const data = await startOwner(
      { cleanupPolicy: ['compact', 'delete'], minCleanableDirtyRatio: 0 },
      "if (next > 800) await ottla.topics.deleteRecords('t', 0, next - 700);",
    );
    for (const offsets of await readings(data)) {
      expectOrder(offsets);
      expect(offsets.at(-1)).toBeGreaterThan(900);
    }
  });
});
