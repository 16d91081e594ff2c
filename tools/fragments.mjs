/**
 * Checks that every fragment of a program in README.md and docs is code that runs: a comment before it
 * names the example that has it, line for line. docs/api.md has signatures instead: see api-page.mjs.
 */
import { readFileSync, readdirSync } from 'node:fs';

const root = new URL('..', import.meta.url);
const read = (path) => readFileSync(new URL(path, root), 'utf8').replaceAll('\r\n', '\n');
const pages = readdirSync(new URL('docs', root))
  .filter((name) => name.endsWith('.md') && name !== 'api.md')
  .map((name) => `docs/${name}`);

for (const page of ['README.md', ...pages]) {
  for (const [, comment, code] of read(page).matchAll(
    /(?:<!-- (\S+) -->\s*)?```(?:ts|js|python|java)\n([^]*?)```/g,
  )) {
    if (comment !== undefined && `\n${read(comment)}`.includes(`\n${code}`)) continue;
    const why = comment === undefined ? 'no example is named before' : `${comment} has not`;
    console.error(`${page}: ${why} this fragment:\n${code}`);
    process.exitCode = 1;
  }
}
