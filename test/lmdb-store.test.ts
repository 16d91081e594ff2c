import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { open } from 'lmdb';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put, remove, type MetaStore, type TombstoneRow } from '../src/storage/meta-store.js';
import { encodeKey } from '../src/storage/row-key.js';
import { compileSource, startChild, type CompiledSource } from './child-process.js';

const onWindows = process.platform === 'win32';
const generation = (store: MetaStore, group: string): number | undefined =>
  store.get(['group', group])?.generation;

function stored(key: (string | number)[], text: string): Buffer {
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(text, crc32(encodeKey(key))));
  return Buffer.concat([checksum, Buffer.from(text)]);
}

/** A hundred writes of one row each, made in one turn. */
function writes(store: MetaStore): Promise<void>[] {
  return Array.from({ length: 100 }, (_, i) =>
    store.write([put(['group', `group-${i}`], { generation: i })]),
  );
}

describe('the LMDB store', () => {
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
      ['nothing', Buffer.alloc(0), '0 bytes'],
      ['too little', Buffer.alloc(3), '3 bytes'],
      ['a checksum that disagrees', stored(['group', 'x'], '{"generation":7}'), '20 bytes'],
    ])('that hold %s are METADATA_LOST, naming key and reason', async (_what, bytes, length) => {
      await plant(key, bytes);
      const lost = {
        code: 'METADATA_LOST',
        retriable: false,
        message: expect.stringContaining(
          `metadata row ["group","g"]: its ${length} do not have the checksum that was stored with them`,
        ) as unknown,
      };
      await expect(openLmdbStore(directory)).rejects.toMatchObject(lost);
      const readOnly = openLmdbStore(directory, { readOnly: true });
      await expect(readOnly).rejects.toMatchObject(lost);
    });

    it.each([
      ['no JSON', stored(key, '{"generation":7'), /JSON/],
      ['another row', stored(key, '{"generation":"7"}'), /generation/],
      ['a number out of bounds', stored(key, '{"generation":-1}'), /generation/],
    ])('that hold %s are METADATA_LOST when they are read', async (_what, bytes, reason) => {
      await plant(key, bytes);
      const store = await openLmdbStore(directory);
      for (const read of [() => store.get(['group', 'g']), () => [...store.range(['group'])]]) {
        expect(read).toThrow(expect.objectContaining({ code: 'METADATA_LOST', retriable: false }));
        expect(read).toThrow('metadata row ["group","g"]: ');
        expect(read).toThrow(reason);
      }
      await store.close();
    });

    it('with a key of another shape are METADATA_LOST', async () => {
      await plant(['partition', 'id', 'x'], stored(['partition', 'id', 'x'], '{}'));
      const store = await openLmdbStore(directory);
      expect(() => [...store.range(['partition'])]).toThrow(
        expect.objectContaining({ code: 'METADATA_LOST' }),
      );
      await store.close();
    });
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
    it('of one turn share a transaction', async () => {
      const store = await openLmdbStore(directory);
      const before = lastTransaction();
      await Promise.all(writes(store));
      expect(lastTransaction() - before).toBe(1);
      expect([...store.range(['group'])]).toHaveLength(100);
      await store.close();
    });

    it('that come while a transaction is in flight share the next one', async () => {
      const store = await openLmdbStore(directory);
      const before = lastTransaction();
      const first = store.write([put(['group', 'first'], { generation: 0 })]);
      await Promise.resolve();
      await Promise.all([first, ...writes(store)]);
      expect(lastTransaction() - before).toBe(2);
      expect([...store.range(['group'])]).toHaveLength(101);
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

    it.runIf(process.platform === 'linux')('for want of space fails alone', async () => {
      const outcome = await writeUntilRefused(100, 256);
      expect(outcome).toMatchObject({
        refused: { code: 'KAFKA_STORAGE_ERROR', retriable: true, cause: 'ENOSPC' },
        refusedRows: [0, 0],
        unhandled: [],
      });
    });
  });

  it('f22 grows with what is stored, and by nothing that is only written again', async () => {
    const row = (partitions: number): TombstoneRow => ({ name: 'x'.repeat(4096), partitions });
    const store = await openLmdbStore(directory);
    for (let i = 0; i < 1000; i++) await store.write([put(['tombstone', `${i}`], row(i))]);
    const grown = fs.statSync(dataFile).size;
    expect(grown).toBeGreaterThan(4 * 1024 * 1024);
    for (let i = 0; i < 1000; i++) await store.write([put(['tombstone', `${i % 10}`], row(i))]);
    expect(fs.statSync(dataFile).size).toBeLessThan(1.1 * grown);
    await store.close();
    const again = await openLmdbStore(directory);
    expect(again.get(['tombstone', '999'])).toEqual(row(999));
    await again.close();
  });

  it('f10 refuses a write before the disk is full, and goes on when it no longer is', async () => {
    const child = startChild(
      source,
      `import fs from 'node:fs';
      import { syncBuiltinESMExports } from 'node:module';
      import { openLmdbStore } from './dist/storage/lmdb-store.js';
      import { put } from './dist/storage/meta-store.js';
      const statfsSync = fs.statfsSync;
      const leave = (bytes) => {
        fs.statfsSync = () => ({ bavail: bytes / 4096, bsize: 4096 });
        syncBuiltinESMExports();
      };
      const directory = ${JSON.stringify(directory)};
      leave(1024 * 1024 - 4096);
      const outcomes = [await openLmdbStore(directory).catch((error) => error.cause.code)];
      fs.statfsSync = statfsSync;
      syncBuiltinESMExports();
      const store = await openLmdbStore(directory);
      const write = (row) => store.write([put(['tombstone', 'id'], row)]).then(
        () => 'written',
        ({ code, retriable, cause }) => [code, retriable, cause.code],
      );
      leave(1024 * 1024 + 16384);
      outcomes.push(await write({ name: 'x'.repeat(16384), partitions: 1 }));
      outcomes.push(store.get(['tombstone', 'id']) ?? 'nothing');
      outcomes.push(await write({ name: 'x', partitions: 1 }));
      await store.close();
      process.send(outcomes);
      process.disconnect();`,
    );
    expect(await child.next()).toEqual([
      'ENOSPC',
      ['KAFKA_STORAGE_ERROR', true, 'ENOSPC'],
      'nothing',
      'written',
    ]);
    expect(await child.ended()).toBe(0);
  });
});
