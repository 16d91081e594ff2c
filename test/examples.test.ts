import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSource, type CompiledSource } from './child-process.js';

const root = new URL('../', import.meta.url);

describe('the example of exactly once', () => {
  let source: CompiledSource;
  let place: string;
  beforeAll(() => {
    source = compileSource();
    place = mkdtempSync(join(tmpdir(), 'ottla-example-'));
  });
  afterAll(() => {
    source.remove();
    rmSync(place, { recursive: true, force: true });
  });

  it('bills each order once', () => {
    const out = join(place, 'example');
    mkdirSync(out);
    const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', root));
    const example = fileURLToPath(new URL('examples/exactly-once.ts', root));
    cpSync(join(source.directory, 'package.json'), join(out, 'package.json'));
    const compiled = spawnSync(
      process.execPath,
      [tsc, example, '--noCheck', '--ignoreConfig', '--outDir', out].concat(
        ['--module', 'nodenext', '--target', 'es2023', '--rootDir'],
        fileURLToPath(new URL('examples', root)),
      ),
      { encoding: 'utf8' },
    );
    expect(compiled.stdout).toBe('');
    const registered = `import { register } from 'node:module';
      register('data:text/javascript,' + encodeURIComponent(\`export const resolve = (name, context, next) =>
        next(name === 'ottla' ? '\${process.argv[1]}' : name, context);\`));`;
    const entry = new URL(`file://${join(source.directory, 'dist', 'index.js')}`).href;
    const run = spawnSync(
      process.execPath,
      [
        '--import',
        `data:text/javascript,${encodeURIComponent(registered.replace('${process.argv[1]}', entry))}`,
        join(out, 'exactly-once.js'),
      ],
      { cwd: place, encoding: 'utf8' },
    );
    expect(run.stderr).toBe('');
    expect(run.stdout.trim().split('\n').slice(-2)).toEqual([
      'billed 55, each order once',
      'moved 100',
    ]);
  }, 30_000);
});
