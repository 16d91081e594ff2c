import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kafkaJars, whyNotRun } from './kafka-tools.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const serve = ['node', join(root, 'build/examples/serve.js')] as const;
const fileOf = (name: string): string => join(root, 'examples/clients', name);
const python = await run('python3', ['-c', 'import confluent_kafka']).then(
  () => null,
  () => 'there is no confluent-kafka for Python',
);

const maven = await run('mvn', ['-v']).then(
  () => whyNotRun,
  () => 'there is no Maven',
);

describe('A test in another language', () => {
  let place: string;
  beforeAll(async () => {
    place = mkdtempSync(join(tmpdir(), 'ottla-examples-'));
    await run('npm', ['run', 'build:all'], { cwd: root });
  });
  afterAll(() => rmSync(place, { recursive: true, force: true }));

  it.skipIf(python !== null)(
    `in Python${python === null ? '' : ` (not run: ${python})`}`,
    async () => {
      const env = { ...process.env, SERVE: serve.join(' ') };
      const { stderr } = await run('python3', [fileOf('test_orders.py')], { env });
      expect(stderr).toMatch(/Ran 1 test .*\n\nOK/);
    },
  );

  it.skipIf(whyNotRun !== null)(
    `in Java${whyNotRun === null ? '' : ` (not run: ${whyNotRun})`}`,
    async () => {
      const sources = ['OttlaServer.java', 'OrdersTest.java'].map(fileOf);
      await run('javac', ['-cp', kafkaJars, '-d', place, ...sources]);
      const { stdout } = await run('java', [
        '-cp',
        `${place}:${kafkaJars}`,
        'OrdersTest',
        ...serve,
      ]);
      expect(stdout).toContain('packed tea for ann');
    },
  );

  it.skipIf(maven !== null)(
    `with Spring${maven === null ? '' : ` (not run: ${maven})`}`,
    async () => {
      const project = join(place, 'spring');
      cpSync(fileOf('spring'), project, { recursive: true });
      const server = `package orders;\n\n${readFileSync(fileOf('OttlaServer.java'), 'utf8')}`;
      writeFileSync(join(project, 'src/test/java/orders/OttlaServer.java'), server);
      const env = { ...process.env, SERVE: serve.join(' ') };
      const { stdout } = await run('mvn', ['-B', '-ntp', 'test'], { cwd: project, env });
      expect(stdout).toContain('Tests run: 1, Failures: 0, Errors: 0, Skipped: 0');
    },
    600_000,
  );
});
