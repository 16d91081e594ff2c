import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FileSystem } from '../src/storage/file-system.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { nodeFiles } from '../src/storage/node-files.js';
import { seeds } from './seeds.js';

const onWindows = process.platform === 'win32';

describe.each([
  ['nodeFiles', () => nodeFiles],
  ['MemoryFiles', () => new MemoryFiles()],
])('%s', (_name, make) => {
  let files: FileSystem;
  let root: string;
  const at = (...names: string[]): string => join(root, ...names);

  beforeEach(() => {
    files = make();
    root = fs.mkdtempSync(join(tmpdir(), 'ottla-files-'));
    files.makeDirectory(root);
  });
  afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

  function writeFile(path: string, text: string): void {
    const file = files.open(path, 'write');
    const bytes = Buffer.from(text);
    expect(file.write(bytes, 0, bytes.length, 0)).toBe(bytes.length);
    file.close();
  }

  function readFrom(path: string, position: number, length: number): string {
    const file = files.open(path, 'read');
    const into = Buffer.alloc(length);
    const count = file.read(into, 0, length, position);
    file.close();
    return into.toString('latin1', 0, count);
  }

  describe('open', () => {
    it('for writing creates a file and keeps what is in it', () => {
      files.open(at('f'), 'write').close();
      expect(files.size(at('f'))).toBe(0);
      writeFile(at('f'), 'abc');
      files.open(at('f'), 'write').close();
      expect(files.readFile(at('f'))).toEqual(Buffer.from('abc'));
    });

    it('for writing may read too', () => {
      const file = files.open(at('f'), 'write');
      file.write(Buffer.from('hello'), 0, 5, 0);
      const into = Buffer.alloc(5);
      expect(file.read(into, 0, 5, 0)).toBe(5);
      expect(into.toString()).toBe('hello');
      file.close();
    });

    it('for reading fails with ENOENT where there is nothing', () => {
      expect(() => files.open(at('f'), 'read')).toThrow(
        expect.objectContaining({ code: 'ENOENT', syscall: 'open', path: at('f') }),
      );
      expect(files.list(root)).toEqual([]);
    });

    it('fails with ENOENT in a directory that is missing', () => {
      expect(() => files.open(at('d', 'f'), 'write')).toThrow(
        expect.objectContaining({ code: 'ENOENT' }),
      );
    });

    it('fails with EISDIR on a directory', () => {
      expect(() => files.open(root, 'write')).toThrow(expect.objectContaining({ code: 'EISDIR' }));
    });

    it.skipIf(onWindows)('fails with ENOTDIR below a file', () => {
      writeFile(at('f'), '');
      for (const mode of ['read', 'write'] as const) {
        expect(() => files.open(at('f', 'g'), mode)).toThrow(
          expect.objectContaining({ code: 'ENOTDIR' }),
        );
      }
    });

    it('for reading refuses writes and truncation, changing nothing', () => {
      writeFile(at('f'), 'abc');
      const file = files.open(at('f'), 'read');
      expect(() => file.write(Buffer.from('x'), 0, 1, 0)).toThrow(/^(EBADF|EPERM)/);
      expect(() => file.truncate(0)).toThrow(/^(EBADF|EINVAL|EPERM)/);
      file.close();
      expect(files.readFile(at('f'))).toEqual(Buffer.from('abc'));
    });
  });

  describe('an open file', () => {
    it('writes a part of a buffer at a position, over what is there', () => {
      writeFile(at('f'), '0123456789');
      const file = files.open(at('f'), 'write');
      expect(file.write(Buffer.from('--abc--'), 2, 5, 4)).toBe(3);
      file.close();
      expect(files.readFile(at('f'))?.toString()).toBe('0123abc789');
    });

    it('fills a gap before a write with zeros', () => {
      const file = files.open(at('f'), 'write');
      file.write(Buffer.from('a'), 0, 1, 0);
      file.write(Buffer.from('b'), 0, 1, 600_000);
      expect(file.size()).toBe(600_001);
      const gap = Buffer.alloc(599_999, 1);
      expect(file.read(gap, 0, gap.length, 1)).toBe(gap.length);
      expect(gap.equals(Buffer.alloc(599_999))).toBe(true);
      file.close();
    });

    it('writes nothing when told to write nothing, behind the end too', () => {
      const file = files.open(at('f'), 'write');
      expect(file.write(Buffer.from('abc'), 1, 1, 100)).toBe(0);
      expect(file.size()).toBe(0);
      file.close();
    });

    it('reads less than asked only at the end', () => {
      writeFile(at('f'), 'abcdef');
      expect(readFrom(at('f'), 0, 6)).toBe('abcdef');
      expect(readFrom(at('f'), 4, 6)).toBe('ef');
      expect(readFrom(at('f'), 6, 6)).toBe('');
      expect(readFrom(at('f'), 1000, 6)).toBe('');
    });

    it('reads into a part of a buffer and leaves the rest alone', async () => {
      writeFile(at('f'), 'abcdef');
      const file = files.open(at('f'), 'read');
      const sync = Buffer.from('........');
      const async = Buffer.from('........');
      expect(file.read(sync, 2, 5, 1)).toBe(3);
      expect(await file.readAsync(async, 2, 5, 1)).toBe(3);
      expect([sync.toString(), async.toString()]).toEqual(['..bcd...', '..bcd...']);
      expect(await file.readAsync(async, 0, 8, 3)).toBe(3);
      file.close();
    });

    it('takes and fills any Uint8Array', () => {
      const file = files.open(at('f'), 'write');
      file.write(new Uint8Array([9, 1, 2, 3, 9]).subarray(1, 4), 0, 3, 0);
      const into = new Uint8Array(5);
      expect(file.read(into, 1, 4, 0)).toBe(3);
      expect([...into]).toEqual([0, 1, 2, 3, 0]);
      file.close();
    });

    it('is cut by truncate, and what comes back is zeros', () => {
      writeFile(at('f'), 'abcdef');
      const file = files.open(at('f'), 'write');
      file.truncate(2);
      expect(file.size()).toBe(2);
      file.truncate(5);
      file.close();
      expect(files.readFile(at('f'))).toEqual(Buffer.from('ab\0\0\0'));
    });

    it('is seen through every handle and by its name', async () => {
      const one = files.open(at('f'), 'write');
      const other = files.open(at('f'), 'read');
      one.write(Buffer.from('xyz'), 0, 3, 0);
      expect(other.size()).toBe(3);
      expect(files.size(at('f'))).toBe(3);
      const into = Buffer.alloc(3);
      await other.readAsync(into, 0, 3, 0);
      expect(into.toString()).toBe('xyz');
      one.close();
      other.close();
    });

    it('syncs', async () => {
      const file = files.open(at('f'), 'write');
      file.write(Buffer.from('xyz'), 0, 3, 0);
      await expect(file.sync()).resolves.toBeUndefined();
      file.close();
    });

    it('lets a read and a sync under way end after close()', async () => {
      writeFile(at('f'), 'abc');
      const file = files.open(at('f'), 'write');
      const into = Buffer.alloc(3);
      const reading = file.readAsync(into, 0, 3, 0);
      const syncing = file.sync();
      file.close();
      writeFile(at('g'), 'xyz');
      expect(await reading).toBe(3);
      await syncing;
      expect(into.toString()).toBe('abc');
    });

    it('fails with EBADF once closed; closing again is fine', async () => {
      const file = files.open(at('f'), 'write');
      file.close();
      file.close();
      const into = Buffer.alloc(1);
      const closed = expect.objectContaining({ code: 'EBADF' }) as Error;
      expect(() => file.write(into, 0, 1, 0)).toThrow(closed);
      expect(() => file.read(into, 0, 1, 0)).toThrow(closed);
      expect(() => file.size()).toThrow(closed);
      expect(() => file.truncate(0)).toThrow(closed);
      await expect(file.sync()).rejects.toEqual(closed);
      await expect(file.readAsync(into, 0, 1, 0)).rejects.toEqual(closed);
    });

    it.skipIf(onWindows)('goes on when its name is removed, renamed or replaced', async () => {
      writeFile(at('a'), 'old');
      const file = files.open(at('a'), 'write');
      const text = (): string => {
        const into = Buffer.alloc(4);
        return into.toString('latin1', 0, file.read(into, 0, 4, 0));
      };
      files.rename(at('a'), at('b'));
      expect(text()).toBe('old');
      await files.replaceFile(at('b'), Buffer.from('new'));
      expect(text()).toBe('old');
      files.removeFile(at('b'));
      file.write(Buffer.from('!'), 0, 1, 3);
      expect(text()).toBe('old!');
      expect(files.list(root)).toEqual([]);
      file.close();
    });
  });

  describe('size', () => {
    it.each([
      ['a name that is missing', ['f']],
      ['a name in a directory that is missing', ['d', 'f']],
      ['a name below a file', ['there', 'f']],
      ['a directory', []],
    ])('is -1 for %s', (_what, names) => {
      writeFile(at('there'), 'abc');
      expect(files.size(at(...names))).toBe(-1);
    });
  });

  describe('readFile', () => {
    it('returns bytes of the caller’s own', () => {
      writeFile(at('f'), 'abc');
      files.readFile(at('f'))?.fill(0);
      expect(files.readFile(at('f'))).toEqual(Buffer.from('abc'));
    });

    it('is undefined where there is no file', () => {
      writeFile(at('f'), '');
      expect(files.readFile(at('g'))).toBeUndefined();
      expect(files.readFile(at('d', 'g'))).toBeUndefined();
      expect(files.readFile(at('f', 'g'))).toBeUndefined();
    });

    it('fails with EISDIR on a directory', () => {
      expect(() => files.readFile(root)).toThrow(expect.objectContaining({ code: 'EISDIR' }));
    });
  });

  describe('replaceFile', () => {
    it('creates and replaces, and leaves nothing beside', async () => {
      await files.replaceFile(at('f'), Buffer.from('first, long'));
      expect(files.readFile(at('f'))?.toString()).toBe('first, long');
      await files.replaceFile(at('f'), Buffer.from('second'));
      expect(files.readFile(at('f'))?.toString()).toBe('second');
      expect(files.list(root)).toEqual(['f']);
    });

    it('is not disturbed by what a crash left behind', async () => {
      writeFile(at('f.tmp'), 'half of something long');
      await files.replaceFile(at('f'), Buffer.from('whole'));
      expect(files.readFile(at('f'))?.toString()).toBe('whole');
    });

    it('fails with ENOENT in a directory that is missing', async () => {
      await expect(files.replaceFile(at('d', 'f'), Buffer.from('x'))).rejects.toMatchObject({
        code: 'ENOENT',
      });
    });

    it.skipIf(onWindows)('fails with EISDIR on a directory, leaving nothing behind', async () => {
      files.makeDirectory(at('d'));
      await expect(files.replaceFile(at('d'), Buffer.from('x'))).rejects.toMatchObject({
        code: 'EISDIR',
      });
      expect(files.list(root)).toEqual(['d']);
    });
  });

  describe('directories', () => {
    it('are made with their parents, again too', () => {
      files.makeDirectory(at('a', 'b', 'c'));
      files.makeDirectory(at('a', 'b'));
      expect(files.isDirectory(at('a', 'b', 'c'))).toBe(true);
      expect(files.list(at('a'))).toEqual(['b']);
    });

    it('are made at once where all is there, the root too', () => {
      files.makeDirectory(root);
      files.makeDirectory('/');
      expect(files.list(root)).toEqual([]);
    });

    it('are not made over a file (EEXIST)', () => {
      writeFile(at('f'), '');
      expect(() => files.makeDirectory(at('f'))).toThrow(
        expect.objectContaining({ code: 'EEXIST' }),
      );
    });

    it.skipIf(onWindows)('are not made below a file (ENOTDIR)', () => {
      writeFile(at('f'), '');
      expect(() => files.makeDirectory(at('f', 'd'))).toThrow(
        expect.objectContaining({ code: 'ENOTDIR' }),
      );
    });

    it('are told from files and from nothing', () => {
      writeFile(at('f'), '');
      expect(files.isDirectory(root)).toBe(true);
      expect(files.isDirectory(at('f'))).toBe(false);
      expect(files.isDirectory(at('f', 'd'))).toBe(false);
      expect(files.isDirectory(at('d'))).toBe(false);
    });

    it('list their names sorted', () => {
      for (const name of ['b', 'a.log', 'C', 'a-1', 'é']) writeFile(at(name), '');
      files.makeDirectory(at('ab'));
      expect(files.list(root)).toEqual(['C', 'a-1', 'a.log', 'ab', 'b', 'é']);
    });

    it('that are missing cannot be listed (ENOENT), nor files (ENOTDIR)', () => {
      writeFile(at('f'), '');
      expect(() => files.list(at('d'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      expect(() => files.list(at('f'))).toThrow(expect.objectContaining({ code: 'ENOTDIR' }));
    });

    it('can be synced', async () => {
      writeFile(at('f'), '');
      await expect(files.syncDirectory(root)).resolves.toBeUndefined();
    });

    it.skipIf(onWindows)('that are missing cannot be synced (ENOENT)', async () => {
      await expect(files.syncDirectory(at('d'))).rejects.toMatchObject({ code: 'ENOENT' });
    });

    it('are removed with the files in them; fine when they are gone', () => {
      files.makeDirectory(at('d'));
      writeFile(at('d', 'one'), 'x');
      writeFile(at('d', 'two'), 'x');
      files.removeDirectory(at('d'));
      files.removeDirectory(at('d'));
      expect(files.list(root)).toEqual([]);
    });

    it('are not removed with a directory in them (ENOTEMPTY): all stays', () => {
      files.makeDirectory(at('d', 'inner'));
      writeFile(at('d', 'a'), 'x');
      expect(() => files.removeDirectory(at('d'))).toThrow(
        expect.objectContaining({ code: 'ENOTEMPTY' }),
      );
      expect(files.list(at('d'))).toEqual(['a', 'inner']);
    });

    it('are not what removeDirectory takes a file for (ENOTDIR)', () => {
      writeFile(at('f'), 'x');
      expect(() => files.removeDirectory(at('f'))).toThrow(
        expect.objectContaining({ code: 'ENOTDIR' }),
      );
      expect(files.size(at('f'))).toBe(1);
    });
  });

  describe('removeFile', () => {
    it('removes; fine when it is gone', () => {
      writeFile(at('f'), 'x');
      files.removeFile(at('f'));
      files.removeFile(at('f'));
      files.removeFile(at('d', 'f'));
      expect(files.size(at('f'))).toBe(-1);
    });

    it('does not remove a directory', () => {
      files.makeDirectory(at('d'));
      expect(() => files.removeFile(at('d'))).toThrow(/^(EISDIR|EPERM)/);
      expect(files.isDirectory(at('d'))).toBe(true);
    });
  });

  describe('rename', () => {
    it('moves a file over another', () => {
      writeFile(at('a'), 'a');
      writeFile(at('b'), 'b');
      files.rename(at('a'), at('b'));
      files.rename(at('b'), at('b'));
      expect(files.list(root)).toEqual(['b']);
      expect(files.readFile(at('b'))?.toString()).toBe('a');
    });

    it('moves a directory with what is in it', () => {
      files.makeDirectory(at('a', 'inner'));
      writeFile(at('a', 'inner', 'f'), 'x');
      files.makeDirectory(at('c'));
      files.rename(at('a'), at('c', 'b'));
      expect(files.list(root)).toEqual(['c']);
      expect(files.readFile(at('c', 'b', 'inner', 'f'))?.toString()).toBe('x');
    });

    it('fails with ENOENT where there is nothing to move, or nowhere to', () => {
      writeFile(at('f'), 'x');
      const missing = expect.objectContaining({ code: 'ENOENT' }) as Error;
      expect(() => files.rename(at('a'), at('b'))).toThrow(missing);
      expect(() => files.rename(at('f'), at('d', 'f'))).toThrow(missing);
      expect(files.list(root)).toEqual(['f']);
    });

    it.skipIf(onWindows)('keeps files and directories apart', () => {
      writeFile(at('f'), 'x');
      files.makeDirectory(at('empty'));
      files.makeDirectory(at('full', 'inner'));
      const code = (from: string, to: string): unknown => {
        try {
          files.rename(at(from), at(to));
          return 'renamed';
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        }
      };
      expect(code('f', 'empty')).toBe('EISDIR');
      expect(code('empty', 'f')).toBe('ENOTDIR');
      expect(code('empty', 'full')).toBe('ENOTEMPTY');
      expect(code('full', 'full/inner/x')).toBe('EINVAL');
      expect(code('full', 'empty')).toBe('renamed');
      expect(files.list(root)).toEqual(['empty', 'f']);
    });
  });

  it('keeps what random writes, cuts and reads did', () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('write' as const),
        bytes: fc.uint8Array({ minLength: 1, maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
        times: fc.constantFrom(1, 1, 40, 9000),
        where: fc.double({ min: 0, max: 1.2, noNaN: true }),
      }),
      fc.record({
        kind: fc.constant('truncate' as const),
        where: fc.double({ min: 0, max: 1.5, noNaN: true }),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const file = files.open(at('random'), 'write');
        file.truncate(0);
        let model = Buffer.alloc(0);
        for (const { where, ...rest } of steps) {
          const position = Math.round(where * model.length);
          const grow = (size: number): void => {
            model = Buffer.concat([model, Buffer.alloc(Math.max(0, size - model.length))]);
          };
          if (rest.kind === 'write') {
            const bytes = Buffer.concat(Array.from({ length: rest.times }, () => rest.bytes));
            grow(position + bytes.length);
            bytes.copy(model, position);
            file.write(bytes, 0, bytes.length, position);
          } else {
            grow(position);
            model = model.subarray(0, position);
            file.truncate(position);
          }
          const read = Buffer.alloc(model.length + 1);
          expect(file.read(read, 0, read.length, 0)).toBe(model.length);
          expect(read.subarray(0, model.length).equals(model)).toBe(true);
        }
        file.close();
      }),
      { numRuns: seeds(40) },
    );
  });
});
