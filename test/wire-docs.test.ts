import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { apis } from '../src/server/apis.js';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

it('docs/wire.md names each request that is offered, with its versions', () => {
  const page = read('docs/wire.md');
  const rows = page.matchAll(/^\| (\w+) +\| (\d+)(?: to (\d+))? +\|$/gm);
  const told = [...rows].map(([, name, oldest, newest = oldest]) => [name, +oldest!, +newest!]);
  const offered = [...apis.values()].map((api) => [api.name, api.minVersion, api.maxVersion]);
  expect(told).toEqual(offered.toSorted(([one], [other]) => (one! < other! ? -1 : 1)));
});
