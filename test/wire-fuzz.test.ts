import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCampaign } from './wire-fuzz/campaign.js';
import { Reached } from './wire-fuzz/case.js';

describe('requests of every kind, good, wicked and broken', () => {
  it('neither crash a server nor hold up its other clients', async (test) => {
    const place = mkdtempSync(join(tmpdir(), 'ottla-wire-fuzz-'));
    test.onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    const reached = new Reached();
    const problems: string[] = [];
    await runCampaign({
      place,
      seed: Math.floor(Math.random() * 2 ** 20),
      requests: 5000,
      inDirectory: false,
      reached,
      ended({ seed, inDirectory, problems: found }) {
        const more = inDirectory ? ' --directory' : '';
        const again = `npm run soak:wire -- --requests 1 --seed ${seed}${more}`;
        problems.push(...found.map((problem) => `${problem} (${again})`));
      },
    });
    expect(problems).toEqual([]);
    expect(reached.answers).toBeGreaterThan(1000);
    expect(reached.paths.size).toBeGreaterThan(200);
  });
});
