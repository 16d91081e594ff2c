import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeTemplates, type Template } from './damage/template.js';
import { DamageTrial } from './damage/trial.js';
import { Random } from './power/random.js';

const seeds = 3;
let place: string;
let templates: readonly Template[];
beforeAll(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-random-damage-'));
  templates = await makeTemplates(place);
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

it(`f05 damage to any file, ${seeds} times over, is found, named or mended`, async () => {
  const first = Math.floor(Math.random() * 2 ** 20);
  for (let seed = first; seed < first + seeds; seed++) {
    const random = new Random(seed);
    const template = random.oneOf(templates);
    const { problems, struck } = await new DamageTrial(template, place, random).run();
    expect(problems, `npm run soak:damage -- --seeds 1 --seed ${seed}: ${struck.file}`).toEqual([]);
  }
});
