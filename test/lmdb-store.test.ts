import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { open } from 'lmdb';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put, remove, type MetaStore } from '../src/storage/meta-store.js';
import { compileSource, startChild, type CompiledSource } from './child-process.js';

const onWindows = process.platform === 'win32';
const generation = (store: MetaStore, group: string): number | undefined =>
  store.get(['group', group])?.generation;

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

/** Puts raw bytes where a row is expected, as a disk or an older program could have left them. */
async function plant(key: (string | number)[], bytes: Buffer): Promise<void> {
  const db = open<Buffer, (string | number)[]>({
    path: directory,
    noSubdir: false,
    encoding: 'binary',
    overlappingSync: false,
  });
  await db.put(key, bytes);
  await db.close();
}

function stored(key: unknown, text: string): Buffer {
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(text, crc32(JSON.stringify(key))));
  return Buffer.concat([checksum, Buffer.from(text)]);
}

/** The number of the last transaction, as LMDB's two metas tell. */
function lastTransaction(): number {
  const file = fs.readFileSync(dataFile);
  return Math.max(...[0, file.readUInt32LE(48)].map((at) => file.readUInt32LE(at + 152)));
}

describe('rows on disk', () => {
  it('are there when the store is opened again', async () => {
    const store = await openLmdbStore(directory);
    await store.write([put(['store'], { formatVersion: 1, storeId: 'x' })]);
    await store.close();
    const again = await openLmdbStore(directory);
    expect(again.get(['store'])).toEqual({ formatVersion: 1, storeId: 'x' });
    await again.close();
  });

  it('are a CRC-32 of key and text, then the text, JSON', async () => {
    await plant(['group', 'g'], stored(['group', 'g'], '{"generation":7}'));
    const store = await openLmdbStore(directory);
    expect(generation(store, 'g')).toBe(7);
    await store.write([put(['group', 'h'], { generation: 8 })]);
    await store.close();
    const db = open({ path: directory, noSubdir: false, encoding: 'binary' });
    expect(db.get(['group', 'h'])).toEqual(stored(['group', 'h'], '{"generation":8}'));
    await db.close();
  });

  const key = ['group', 'g'];
  it.each([
    ['nothing', Buffer.alloc(0), /0 bytes do not have the checksum/],
    ['too little', Buffer.alloc(3), /3 bytes do not have the checksum/],
    ['a checksum that disagrees', stored(['group', 'x'], '{"generation":7}'), /checksum/],
    ['no JSON', stored(key, '{"generation":7'), /JSON/],
    ['another row', stored(key, '{"generation":"7"}'), /generation/],
    ['a number out of bounds', stored(key, '{"generation":-1}'), /generation/],
  ])('that hold %s are METADATA_LOST, naming key and reason', async (_what, bytes, reason) => {
    await plant(key, bytes);
    const store = await openLmdbStore(directory);
    for (const read of [() => store.get(['group', 'g']), () => store.range(['group'])]) {
      expect(read).toThrow(expect.objectContaining({ code: 'METADATA_LOST', retriable: false }));
      expect(read).toThrow('metadata row ["group","g"]: ');
      expect(read).toThrow(reason);
    }
    await store.close();
  });

  it('with a key of another shape are METADATA_LOST', async () => {
    await plant(['partition', 'id', 'x'], stored(['partition', 'id', 'x'], '{}'));
    const store = await openLmdbStore(directory);
    expect(() => store.range(['partition'])).toThrow(
      expect.objectContaining({ code: 'METADATA_LOST' }),
    );
    await store.close();
  });
});

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

describe('a data file', () => {
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
    expect(generation(store, 'g')).toBe(1);
    await store.close();
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
    ['with a second page of zeros', (file) => file.fill(0, 4096, 8192)],
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

  it('with any bit flipped is right, or METADATA_LOST, and the process lives', async () => {
    await begin();
    const child = startChild(
      source,
      `import * as fs from 'node:fs';
      import { openLmdbStore } from './dist/storage/lmdb-store.js';
      const directory = ${JSON.stringify(directory)};
      const file = directory + '/data.mdb';
      const good = fs.readFileSync(file);
      const everything = async () => {
        let store;
        try {
          store = await openLmdbStore(directory);
          return JSON.stringify([...store.range(['group']), ...store.range(['tombstone'])]);
        } catch (error) {
          if (error.code !== 'METADATA_LOST') throw error;
          return 'lost';
        } finally {
          await store?.close();
        }
      };
      const expected = await everything();
      const counts = { right: 0, lost: 0, wrong: [] };
      // The metas densely, then bytes that mean something, evenly.
      const places = [...good.keys()].filter((at) => good[at] !== 0);
      const step = Math.ceil(places.length / 400);
      const metas = [0, 4096].flatMap((page) => Array.from({ length: 170 }, (_, at) => page + at));
      const flips = [...metas, ...places.filter((_, i) => i % step === 0)];
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
  }, 60_000);
});

describe('opening', () => {
  it('fails with KAFKA_STORAGE_ERROR where there is no directory, and makes none', async () => {
    const missing = join(directory, 'missing');
    for (const readOnly of [false, true]) {
      await expect(openLmdbStore(missing, { readOnly })).rejects.toMatchObject({
        code: 'KAFKA_STORAGE_ERROR',
        cause: { code: 'ENOENT' },
      });
    }
    expect(fs.existsSync(missing)).toBe(false);
  });

  it('takes a directory whose name has a dot', async () => {
    const dotted = join(directory, 'a.b');
    fs.mkdirSync(dotted);
    const store = await openLmdbStore(dotted);
    await store.write([put(['group', 'g'], { generation: 1 })]);
    await store.close();
    expect(fs.readdirSync(dotted).toSorted()).toEqual(['data.mdb', 'lock.mdb']);
  });
});

describe('read-only', () => {
  it('refuses to write', async () => {
    await (await openLmdbStore(directory)).write([put(['group', 'g'], { generation: 1 })]);
    const reader = await openLmdbStore(directory, { readOnly: true });
    await expect(reader.write([remove(['group', 'g'])])).rejects.toThrow(TypeError);
    expect(generation(reader, 'g')).toBe(1);
    await reader.close();
  });

  it('works beside an owner in the same process', async () => {
    const owner = await openLmdbStore(directory);
    await owner.write([put(['group', 'g'], { generation: 1 })]);
    const reader = await openLmdbStore(directory, { readOnly: true });
    expect(generation(reader, 'g')).toBe(1);
    await owner.write([put(['group', 'g'], { generation: 2 })]);
    expect(generation(reader, 'g')).toBe(2);
    await owner.close();
    expect(generation(reader, 'g')).toBe(2);
    await reader.close();
  });

  it('keeps out an owner in the same process that comes later, until it is closed', async () => {
    await (await openLmdbStore(directory)).write([put(['group', 'g'], { generation: 1 })]);
    const readers = [
      await openLmdbStore(directory, { readOnly: true }),
      await openLmdbStore(directory, { readOnly: true }),
    ];
    for (const reader of readers) {
      await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: 'LOCKED' });
      expect(generation(reader, 'g')).toBe(1);
      await reader.close();
    }
    const owner = await openLmdbStore(directory);
    await owner.write([put(['group', 'g'], { generation: 2 })]);
    expect(generation(owner, 'g')).toBe(2);
    await owner.close();
  });

  it('sees at each read what another process committed', async () => {
    const child = startChild(
      source,
      `import { openLmdbStore } from './dist/storage/lmdb-store.js';
      import { put } from './dist/storage/meta-store.js';
      const store = await openLmdbStore(${JSON.stringify(directory)});
      process.on('message', async (count) => {
        await store.write(
          Array.from({ length: count }, (_, i) => put(['group', 'g' + i], { generation: count })),
        );
        process.send(count);
      });
      await store.write([put(['group', 'g0'], { generation: 0 })]);
      process.send(0);`,
    );
    await child.next();
    const reader = await openLmdbStore(directory, { readOnly: true });
    expect(generation(reader, 'g0')).toBe(0);
    // The last one makes the file larger than it was mapped.
    for (const count of [1, 2, 3, 20_000]) {
      child.process.send(count);
      expect(await child.next()).toBe(count);
      expect(generation(reader, 'g0')).toBe(count);
      expect([...reader.range(['group'])]).toHaveLength(count);
    }
    child.process.kill('SIGKILL');
    await child.ended();
    expect([...reader.range(['group'])]).toHaveLength(20_000);
    await reader.close();
  });
});

describe('writes', () => {
  it('of one turn share a transaction, and so do those that come while one is in flight', async () => {
    const store = await openLmdbStore(directory);
    await store.write([put(['group', 'first'], { generation: 0 })]);
    const before = lastTransaction();
    const one = Array.from({ length: 100 }, (_, i) =>
      store.write([put(['group', `one-${i}`], { generation: i })]),
    );
    await new Promise(setImmediate);
    const other = Array.from({ length: 100 }, (_, i) =>
      store.write([put(['group', `other-${i}`], { generation: i })]),
    );
    await Promise.all([...one, ...other]);
    expect(lastTransaction() - before).toBe(2);
    expect([...store.range(['group'])]).toHaveLength(201);
    await store.close();
  });

  it('are whole or not there after a kill, and there once they resolved', async () => {
    const child = startChild(
      source,
      `import { openLmdbStore } from './dist/storage/lmdb-store.js';
      import { put } from './dist/storage/meta-store.js';
      const store = await openLmdbStore(${JSON.stringify(directory)});
      for (let i = 1; ; i++) {
        await store.write(['a', 'b', 'c'].map((name) => put(['group', name], { generation: i })));
        process.send(i);
      }`,
    );
    let resolved = 0;
    while (resolved < 50) resolved = Number(await child.next());
    child.process.kill('SIGKILL');
    await child.ended();
    const store = await openLmdbStore(directory);
    const generations = ['a', 'b', 'c'].map((name) => generation(store, name));
    expect(new Set(generations).size).toBe(1);
    expect(generations[0]).toBeGreaterThanOrEqual(resolved);
    await store.close();
  });

  it('resolve while a test framework fakes the timers', async () => {
    const store = await openLmdbStore(directory);
    vi.useFakeTimers();
    try {
      for (let i = 0; i < 3; i++) await store.write([put(['group', 'g'], { generation: i })]);
      await store.write([]);
      expect(generation(store, 'g')).toBe(2);
      await store.close();
    } finally {
      vi.useRealTimers();
    }
  });
});

/**
 * Writes until the size of a file is limited by the kernel. Under the limit `reads` are the rows in the
 * store, in the same process and when it is opened again.
 */
async function writeUntilRefused(nameLength: number, blocks: number): Promise<unknown> {
  const child = startChild(
    source,
    `import { openLmdbStore } from './dist/storage/lmdb-store.js';
    import { put, remove } from './dist/storage/meta-store.js';
    const unhandled = [];
    process.on('unhandledRejection', (error) => unhandled.push(String(error)));
    const name = 'x'.repeat(${nameLength});
    const store = await openLmdbStore(${JSON.stringify(directory)});
    const rows = (store) => [...store.range(['tombstone'])].length;
    let written = 0;
    let refused;
    while (refused === undefined) {
      const put3 = ['a', 'b', 'c'].map((part) => put(['tombstone', part + written], { name, partitions: 1 }));
      try {
        await store.write(put3);
        written += 3;
      } catch (error) {
        refused = error;
      }
    }
    const attempt = (changes) => store.write(changes).then(() => 'written', (error) => error.message);
    const together = [attempt([put(['group', 'g'], { generation: 1 })]), attempt([put(['group', 'h'], { generation: 1 })])];
    const later = await Promise.all(together);
    const visible = rows(store);
    await store.close();
    const again = await openLmdbStore(${JSON.stringify(directory)});
    const reopened = rows(again);
    const removed = await again.write([remove(['tombstone', 'a0'])]).then(() => 'written', (error) => error.code);
    await again.close();
    await new Promise(setImmediate);
    const { name: kind, code, retriable, message, cause } = refused;
    process.send({
      refused: { kind, code, retriable, message, cause: cause.code },
      refusedRows: [visible - written, reopened - written],
      later, removed, unhandled,
    });
    process.disconnect();`,
    `ulimit -f ${blocks}`,
  );
  const outcome = await child.next();
  expect(await child.ended()).toBe(0);
  return outcome;
}

describe.skipIf(onWindows)('a commit that fails', () => {
  it('by a short write refuses all that follow until the store is opened again', async () => {
    const outcome = await writeUntilRefused(3000, 301);
    const message = expect.stringMatching(
      /a commit failed, and nothing can be written until it is opened anew: Input\/output error/,
    ) as string;
    expect(outcome).toEqual({
      refused: {
        kind: 'OttlaError',
        code: 'KAFKA_STORAGE_ERROR',
        retriable: false,
        message,
        cause: 5,
      },
      refusedRows: [0, 0],
      later: [message, message],
      removed: expect.any(String),
      unhandled: [],
    });
  });

  it('for want of space fails alone', async () => {
    const outcome = await writeUntilRefused(100, 256);
    expect(outcome).toMatchObject({
      refused: { code: 'KAFKA_STORAGE_ERROR', retriable: true, cause: 'ENOSPC' },
      refusedRows: [0, 0],
      unhandled: [],
    });
  });
});
