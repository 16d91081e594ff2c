import { readdirSync, readFileSync } from 'node:fs';

/** Those of the ids that begin no test's name, as in `it('g01: …')` or the first column of a table. */
export function withoutTest(ids: readonly string[]): string[] {
  const directory = new URL('.', import.meta.url);
  const text = readdirSync(directory)
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => readFileSync(new URL(name, directory), 'utf8'))
    .join('');
  return ids.filter((id) => !new RegExp(`(?:\\bit\\(|^ *\\[)'[^']*\\b${id}\\b`, 'm').test(text));
}
