import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { lmdbFileSteps } from '../src/storage/lmdb-check.js';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put } from '../src/storage/meta-store.js';
import { compileSource, startChild, type CompiledSource } from './child-process.js';

/** The number of the last transaction, as LMDB's two metas tell. */
function lastTransaction(file: Buffer): number {
  return Math.max(...[0, file.readUInt32LE(48)].map((at) => file.readUInt32LE(at + 152)));
}

describe('f23 LMDB’s data file', () => {
  let directory: string;
  let dataFile: string;
  let source: CompiledSource;
  beforeAll(() => {
    source = compileSource();
  });
  afterAll(() => source.remove());
  beforeEach(() => {
    directory = fs.mkdtempSync(join(tmpdir(), 'ottla-lmdb-'));
    dataFile = join(directory, 'data.mdb');
  });
  afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

  async function begin(): Promise<void> {
    const store = await openLmdbStore(directory);
    for (let i = 0; i < 3; i++) {
      await store.write([
        ...Array.from({ length: 300 }, (_, k) => put(['group', `group-${k}`], { generation: i })),
        put(['tombstone', 'id'], { name: 'long'.repeat(2000), partitions: i }),
      ]);
    }
    await store.close();
  }

  /** Damages the page at which one of the newest trees begins: `at` is that of a meta's root. */
  function damageRoot(at: 88 | 136, damage: (page: Buffer, mainRoot: number) => void): void {
    const file = fs.readFileSync(dataFile);
    const pageBytes = file.readUInt32LE(48);
    const meta = lastTransaction(file) % 2 === 0 ? 0 : pageBytes;
    const start = file.readUInt32LE(meta + at) * pageBytes;
    damage(file.subarray(start, start + pageBytes), file.readUInt32LE(meta + 136));
    fs.writeFileSync(dataFile, file);
  }

  it.each([
    ['that is missing', undefined],
    ['without a byte', Buffer.alloc(0)],
    ['of zeros, from a crash while it was made', Buffer.alloc(8192)],
  ])('%s is begun anew by the owner, and is METADATA_LOST to a reader', async (_what, bytes) => {
    if (bytes !== undefined) fs.writeFileSync(dataFile, bytes);
    await expect(openLmdbStore(directory, { readOnly: true })).rejects.toMatchObject({
      code: 'METADATA_LOST',
    });
    const store = await openLmdbStore(directory);
    await store.write([put(['group', 'g'], { generation: 1 })]);
    expect(store.get(['group', 'g'])).toEqual({ generation: 1 });
    await store.close();
  });

  it('is read in parts of 256 KiB, between which others have their turn', () => {
    fs.writeFileSync(dataFile, Buffer.alloc(2 ** 20 + 1));
    const steps = lmdbFileSteps(dataFile, () => undefined);
    let parts = 0;
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) parts++;
    expect([parts, step.value]).toEqual([5, 'empty']);
  });

  it('that a crash cut while it was made is begun anew', async () => {
    const store = await openLmdbStore(directory);
    await store.close();
    const untouched = fs.readFileSync(dataFile);
    for (const length of [512, 4096, 5120, untouched.length]) {
      fs.writeFileSync(dataFile, untouched.subarray(0, length));
      const again = await openLmdbStore(directory);
      expect([...again.range(['group'])]).toEqual([]);
      await again.close();
    }
  });

  it.each<[what: string, damage: (file: Buffer) => Buffer]>([
    ['of garbage', () => Buffer.alloc(8192, 7)],
    ['of text', () => Buffer.from('abc')],
    ['cut behind the first page', (file) => file.subarray(0, 4096)],
    ['cut behind the metas', (file) => file.subarray(0, 8192)],
    ['with a first page of zeros', (file) => file.fill(0, 0, 4096)],
    ['with a second page of zeros', (file) => file.fill(0, file.readUInt32LE(48), 8192 * 4)],
    ['of another data version', (file) => file.fill(9, 28, 29)],
    ['with zeros for rows', (file) => file.fill(0, 8192)],
    ['with 0xff for rows', (file) => file.fill(0xff, 8192)],
  ])('%s is METADATA_LOST, and the process lives', async (_what, damage) => {
    await begin();
    fs.writeFileSync(dataFile, damage(fs.readFileSync(dataFile)));
    const before = fs.readFileSync(dataFile);
    await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: 'METADATA_LOST' });
    expect(fs.readFileSync(dataFile).equals(before)).toBe(true);
  });

  it('whose free pages include a used one is METADATA_LOST', async () => {
    await begin();
    damageRoot(88, (page, mainRoot) => {
      // The first list: behind the node's header and key of 8 bytes each, and its length.
      page.writeBigUInt64LE(BigInt(mainRoot), 24 + page.readUInt16LE(24) + 24);
    });
    await expect(openLmdbStore(directory)).rejects.toThrow(
      /data\.mdb is damaged: page \d+ is used twice\. /,
    );
  });

  it('whose branch page would lead astray is METADATA_LOST', async () => {
    await begin();
    damageRoot(136, (page) => {
      // The last byte of the second node's key.
      const node = 24 + page.readUInt16LE(26);
      const end = node + 8 + page.readUInt16LE(node + 6);
      page.writeUInt8(0xff, end - 1);
    });
    await expect(openLmdbStore(directory)).rejects.toThrow(/keys that are not in order\. /);
  });

  it('f05 f23 with any bit flipped is right, or METADATA_LOST, and the process lives', async () => {
    await begin();
    const child = startChild(
      source,
      `import * as fs from 'node:fs';
      import { openLmdbStore } from './dist/storage/lmdb-store.js';
      import { put } from './dist/storage/meta-store.js';
      const directory = ${JSON.stringify(directory)};
      const file = directory + '/data.mdb';
      const good = fs.readFileSync(file);
      const everything = async () => {
        let store;
        try {
          store = await openLmdbStore(directory);
          const rows = [...store.range(['group']), ...store.range(['tombstone'])];
          await store.write([put(['group', 'new'], { generation: 1 })]);
          return JSON.stringify(rows);
        } catch (error) {
          if (error.code !== 'METADATA_LOST') throw error;
          return 'lost';
        } finally {
          await store?.close();
        }
      };
      const expected = await everything();
      if (expected === 'lost') throw new Error('an undamaged file was refused');
      const counts = { right: 0, lost: 0, wrong: [] };
      // The metas densely, each page's transaction, then bytes that mean something, evenly.
      const places = [...good.keys()].filter((at) => good[at] !== 0);
      const step = Math.ceil(places.length / 400);
      const metas = [0, 4096].flatMap((page) => Array.from({ length: 170 }, (_, at) => page + at));
      const headers = Array.from({ length: good.length / 4096 - 2 }, (_, i) => (i + 2) * 4096 + 8 + (i % 8));
      const flips = [...metas, ...headers, ...places.filter((_, i) => i % step === 0)];
      for (const [i, at] of flips.entries()) {
        const flipped = Buffer.from(good);
        flipped[at] ^= 1 << i % 8;
        fs.rmSync(directory, { recursive: true });
        fs.mkdirSync(directory);
        fs.writeFileSync(file, flipped);
        const got = await everything();
        if (got === expected) counts.right++;
        else if (got === 'lost') counts.lost++;
        else counts.wrong.push(at);
      }
      process.send(counts);
      process.disconnect();`,
    );
    const counts = await child.next();
    expect(await child.ended()).toBe(0);
    expect(counts).toEqual({ right: expect.any(Number), lost: expect.any(Number), wrong: [] });
    expect((counts as { lost: number }).lost).toBeGreaterThan(100);
  });
});
