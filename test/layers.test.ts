import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { layersOf } from '../tools/layers.mjs';

const root = new URL('../', import.meta.url);

/** Lints one tree under fixtures/layers with the project's own configuration. */
function lint(fixture: 'clean' | 'broken'): { status: number | null; reports: string[] } {
  const oxlint = fileURLToPath(new URL('node_modules/oxlint/bin/oxlint', root));
  const { status, stdout } = spawnSync(
    process.execPath,
    [oxlint, '--config', 'oxlint.config.mjs', '--format', 'unix', 'src'],
    { cwd: new URL(`test/fixtures/layers/${fixture}/`, root), encoding: 'utf8' },
  );
  const line = /^(?<file>.+?):\d+:\d+: .*\[Error\/\w+\((?<rule>[\w-]+)\)\]$/gm;
  const reports = Array.from(stdout.matchAll(line), ({ groups }) =>
    `${groups?.['file']} ${groups?.['rule']}`.replaceAll('\\', '/'),
  );
  return { status, reports: reports.toSorted() };
}

describe('the layers, over a tree that breaks them', () => {
  const { status, reports } = lint('broken');
  const broken: [what: string, file: string, rule: string][] = [
    ['an import upward', 'errors.ts', 'no-restricted-imports'],
    ['an import upward of a type', 'topic-name.ts', 'no-restricted-imports'],
    ['an upward re-export', 'crc32c.ts', 'no-restricted-imports'],
    ['an upward dynamic import', 'varint.ts', 'no-restricted-imports'],
    ['an import upward out of a directory', 'storage/compaction.ts', 'no-restricted-imports'],
    ['a type named by import()', 'partition.ts', 'consistent-type-imports'],
    ['an import by a roundabout path', 'consumer.ts', 'no-restricted-imports'],
    ['a file that is in no layer', 'helpers.ts', 'no-restricted-imports'],
    ['one side of a cycle of types', 'storage/recovery.ts', 'no-cycle'],
    ['the other side of it', 'storage/segment.ts', 'no-cycle'],
    ['node:fs outside storage', 'partitioner.ts', 'no-restricted-imports'],
    ['lmdb outside storage', 'assignor.ts', 'no-restricted-imports'],
    ['zod outside the stored rows', 'options.ts', 'no-restricted-imports'],
    ['node:timers outside the clock', 'group.ts', 'no-restricted-imports'],
    ['a global timer', 'engine.ts', 'no-restricted-globals'],
    ['a timer of globalThis', 'serde.ts', 'no-restricted-properties'],
    ['Date.now outside the clock', 'transaction.ts', 'no-restricted-properties'],
    ['performance outside the clock', 'broker.ts', 'no-restricted-globals'],
    ['Math.random', 'topic.ts', 'no-restricted-properties'],
  ];

  it.each(broken)('reports %s', (_what, file, rule) => {
    expect(reports).toContain(`src/${file} ${rule}`);
  });

  it('reports nothing else, and fails', () => {
    expect(reports).toEqual(broken.map(([, file, rule]) => `src/${file} ${rule}`).toSorted());
    expect(status).toBe(1);
  });
});

describe('the layers, over a tree that keeps them', () => {
  it('pass', () => {
    expect(lint('clean')).toEqual({ status: 0, reports: [] });
  });
});

describe('every file of src', () => {
  const files = readdirSync(new URL('src/', root), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.replaceAll('\\', '/').slice(0, -'.ts'.length));

  it.each(files)('%s belongs to one layer', (file) => {
    expect(layersOf(file)).toHaveLength(1);
  });
});
