import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSource, startChild, type CompiledSource } from '../child-process.js';

let source: CompiledSource;
beforeAll(() => {
  source = compileSource();
});
afterAll(() => source.remove());

/** The native parts that a process has loaded after a module ran. */
async function nativeParts(module: string): Promise<unknown> {
  const child = startChild(
    source,
    `${module}
     const { sharedObjects } = process.report.getReport();
     process.send(sharedObjects.filter((path) => path.endsWith('.node')));
     process.disconnect();`,
  );
  const parts = await child.next();
  expect(await child.ended()).toBe(0);
  return parts;
}

describe('ottla/testing', () => {
  it('loads nothing native, also when it is used', async () => {
    const parts = await nativeParts(
      `import { testOttla } from './dist/testing/index.js';
       const finish = [];
       const { ottla } = testOttla({ after: (last) => finish.push(last) });
       await ottla.topics.create('orders');
       await ottla.producer().send('orders', { value: 'v' });
       for await (const record of ottla.read('orders')) if (record.offset !== 0) process.exit(1);
       for (const last of finish) await last();`,
    );
    expect(parts).toEqual([]);
  });

  it('would be found out: a directory loads native parts', async () => {
    const parts = await nativeParts(
      `import { testDirectory } from './dist/testing/index.js';
       const finish = [];
       await testDirectory({ after: (last) => finish.push(last) });
       for (const last of finish) await last();`,
    );
    expect(parts).toEqual(expect.arrayContaining([expect.stringMatching(/lmdb/)]));
  });
});
