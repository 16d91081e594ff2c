import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { acquireLock } from '../src/storage/lock.js';
import { compileSource, startChild, type Child, type CompiledSource } from './child-process.js';

const since = '2024-05-06T07:08:09.000Z';

describe('acquireLock', () => {
  let root: string;
  let path: string;
  let source: CompiledSource;
  beforeAll(() => {
    source = compileSource();
  });
  afterAll(() => source.remove());
  beforeEach(() => {
    root = fs.mkdtempSync(join(tmpdir(), 'ottla-lock-'));
    path = join(root, 'lock');
  });
  afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

  it('writes who holds it, and leaves that behind when it lets go', () => {
    const lock = acquireLock(path, since);
    const text = (): unknown => JSON.parse(fs.readFileSync(path, 'utf8'));
    expect(text()).toEqual({ pid: process.pid, since });
    lock.close();
    lock.close();
    expect(text()).toEqual({ pid: process.pid, since });
  });

  it('f16 refuses a second owner in the same process, naming path, pid and since when', () => {
    const lock = acquireLock(path, since);
    expect(() => acquireLock(path, '2030-01-01T00:00:00.000Z')).toThrow(
      expect.objectContaining({
        name: 'OttlaError',
        code: 'LOCKED',
        retriable: true,
        message: `${path} is locked by process ${process.pid} since ${since}`,
      }),
    );
    lock.close();
    acquireLock(path, since).close();
  });

  it('names where the holder serves clients, as long as it does', () => {
    const lock = acquireLock(path, since);
    lock.tell(['[::1]:9092', String.raw`\\.\pipe\kafka`]);
    expect(() => acquireLock(path, since)).toThrow(
      String.raw` since ${since}, which serves clients at [::1]:9092, \\.\pipe\kafka`,
    );
    lock.tell([]);
    expect(JSON.parse(fs.readFileSync(path, 'utf8'))).toEqual({ pid: process.pid, since });
    lock.close();
  });

  it('is not let go by a refused owner', () => {
    const lock = acquireLock(path, since);
    for (let i = 0; i < 3; i++) {
      expect(() => acquireLock(path, since)).toThrow(expect.objectContaining({ code: 'LOCKED' }));
    }
    lock.close();
  });

  it('writes over a longer text of before', () => {
    fs.writeFileSync(path, `${JSON.stringify({ pid: 1, since: 'x'.repeat(500) })}\n`);
    acquireLock(path, since).close();
    expect(JSON.parse(fs.readFileSync(path, 'utf8'))).toEqual({ pid: process.pid, since });
  });

  it.each([
    ['empty', '', 'process unknown'],
    ['cut in the pid', '{"pid":12', 'process unknown'],
    ['cut behind the pid', '{"pid":1234,"sin', 'process 1234'],
    ['garbage', '\0\xff{', 'process unknown'],
  ])('refuses a second owner also when the text is %s', (_what, text, holder) => {
    const lock = acquireLock(path, since);
    fs.writeFileSync(path, text);
    expect(() => acquireLock(path, since)).toThrow(`${path} is locked by ${holder}`);
    lock.close();
  });

  it('fails with KAFKA_STORAGE_ERROR where the file cannot be made', () => {
    expect(() => acquireLock(join(root, 'missing', 'lock'), since)).toThrow(
      expect.objectContaining({
        code: 'KAFKA_STORAGE_ERROR',
        cause: expect.objectContaining({ code: 'ENOENT' }) as unknown,
      }),
    );
  });

  describe('f16 beside another process', () => {
    let child: Child;
    beforeEach(async () => {
      child = startChild(
        source,
        `import { acquireLock } from './dist/storage/lock.js';
        const lock = acquireLock(${JSON.stringify(path)}, ${JSON.stringify(since)});
        process.on('message', () => { lock.close(); process.send('let go'); });
        process.send('held');`,
      );
      await child.next();
    });
    afterEach(async () => {
      child.process.kill('SIGKILL');
      await child.ended();
    });

    it('names that one’s pid', () => {
      expect(() => acquireLock(path, since)).toThrow(
        `${path} is locked by process ${child.process.pid} since ${since}`,
      );
    });

    it('gets it once the other lets go', async () => {
      child.process.send('let go');
      expect(await child.next()).toBe('let go');
      acquireLock(path, since).close();
    });

    it('gets it once the other is killed', async () => {
      child.process.kill('SIGKILL');
      expect(await child.ended()).toBe('SIGKILL');
      acquireLock(path, since).close();
    });
  });

  it.runIf(process.platform === 'linux')('works on musl, with the addon for glibc', async () => {
    // As require-addon answers where /etc/alpine-release is: it then knows linux-x64-musl only.
    const child = startChild(
      source,
      `import Module from 'node:module';
      import { acquireLock } from './dist/storage/lock.js';
      const load = Module._load;
      Module._load = (request, ...rest) => {
        if (request !== 'fs-native-extensions') return load(request, ...rest);
        throw Object.assign(new Error('Cannot find addon'), { code: 'ADDON_NOT_FOUND' });
      };
      const path = ${JSON.stringify(path)};
      const lock = acquireLock(path, 'now');
      try { acquireLock(path, 'later'); } catch (error) { process.send(error.message); }
      lock.close();
      acquireLock(path, 'again').close();
      process.send('again');
      process.disconnect();`,
    );
    expect(await child.next()).toBe(`${path} is locked by process ${child.process.pid} since now`);
    expect(await child.next()).toBe('again');
    expect(await child.ended()).toBe(0);
  });
});
