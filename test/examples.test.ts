import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla, defineTopic } from '../src/index.js';
import { committed } from './consuming.js';
import { compileSource, type CompiledSource } from './child-process.js';

// What a Node has only by its prefixed name is not in the list of the older ones: ask for it.
const hasSqlite = process.getBuiltinModule?.('node:sqlite') !== undefined;

/** What an example says, among others. */
const told: Readonly<Record<string, readonly string[]>> = {
  bytes: ['   0  00 00 00 00 00 00 00 00'],
  'exactly-once': ['billed 55, each order once', 'moved 100'],
  'fan-out': ['mail: 1000', 'search: 1000', 'statistics: 1000', 'audit, which came later: 1000'],
  first: ["ann orders { item: 'tea', count: 2 }", "bob orders { item: 'ink', count: 1 }"],
  flights: [],
  handlers: ['not charged: bob: Error: the card was refused', "charged ann { item: 'pen' }"],
  kafkajs: ['packed tea for ann', 'committed 1 of 1'],
  observability: [' records/s, ratio '],
  outbox: hasSqlite ? ['not packed: o2', 'packed 2 of 3'] : ['nothing to show'],
  'per-user': ['ann: 1 2 3 4 5', 'bob: 1 2 3 4 5', 'cyd: 1 2 3 4 5', 'dan: 1 2 3 4 5'],
  replay: ['booked 2400 cents', '12 payments since noon', 'booked 1200 cents again'],
  retries: ['not mailed to nobody: RangeError: there is no such address', 'mailed to ann'],
  semantics: [],
  sqlite: [hasSqlite ? 'ada has ' : 'nothing to show'],
  testing: ['pass 2'],
  typed: ["ann: 11a, 2027, second { trace: 't1' }", 'no booking: bookings-1, offset 0'],
  workers: [' primes'],
};
/** Not programs by themselves, or run below. */
const others = ['flights-file', 'flights-report', 'serve', 'service', 'workers-thread'];

let source: CompiledSource;
let place: string;
beforeAll(() => {
  source = compileSource();
  const directory = fileURLToPath(new URL('../examples', import.meta.url));
  const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
  const files = readdirSync(directory).filter((name) => name.endsWith('.ts'));
  const compiled = spawnSync(
    process.execPath,
    [tsc, ...files, '--noCheck', '--ignoreConfig', '--module', 'nodenext', '--target', 'es2023']
      // Node 20 has no `await using`.
      .concat(
        '--lib',
        'es2023,esnext.disposable',
        '--rootDir',
        directory,
        '--outDir',
        join(source.directory, 'examples'),
      ),
    { cwd: directory, encoding: 'utf8' },
  );
  if (compiled.status !== 0) throw new Error(compiled.stdout);
  // So that 'ottla' in an example is what was compiled.
  const exported = {
    '.': './dist/index.js',
    './server': './dist/server/index.js',
    './testing': './dist/testing/index.js',
  };
  const description = { name: 'ottla', type: 'module', exports: exported };
  writeFileSync(join(source.directory, 'package.json'), JSON.stringify(description));
  place = mkdtempSync(join(tmpdir(), 'ottla-example-'));
});
afterAll(() => {
  source.remove();
  rmSync(place, { recursive: true, force: true });
});

function directoryFor(name: string): string {
  const directory = join(place, name);
  mkdirSync(directory);
  return directory;
}

const compiledExample = (name: string): string => join(source.directory, 'examples', `${name}.js`);

describe('an example', () => {
  it('is run here, each of them', () => {
    const compiled = readdirSync(join(source.directory, 'examples'));
    const known = [...Object.keys(told), ...others].map((name) => `${name}.js`);
    expect(compiled.toSorted()).toEqual(known.toSorted());
  });

  it.each(Object.entries(told))('%s', { timeout: 60_000 }, (name, lines) => {
    const run = spawnSync(process.execPath, [compiledExample(name)], {
      cwd: directoryFor(name),
      encoding: 'utf8',
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    expect([run.stderr, run.status]).toEqual(['', 0]);
    for (const line of lines) expect(run.stdout).toContain(line);
  });
});

describe('the example of a service', () => {
  // Windows has no signals to be told by.
  it.skipIf(process.platform === 'win32')(
    'finishes its job on SIGTERM, and commits it',
    { timeout: 60_000 },
    async () => {
      const directory = directoryFor('service');
      const data = join(directory, 'data');
      const before = await Ottla.open(data);
      const jobs = defineTopic('jobs', { partitions: 4, key: 'string', value: 'json' });
      await before.topics.create(jobs);
      await before.producer().send(jobs, { key: 'long', value: { ms: 500 }, partition: 0 });
      await before.close();
      const child = spawn(process.execPath, [compiledExample('service')], { cwd: directory });
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
      while (!said.includes('long begins')) await once(child.stdout, 'data');
      child.kill('SIGTERM');
      const [code] = (await once(child, 'close')) as [number | null];
      expect(code).toBe(0);
      expect(said.trim().split('\n').slice(-2)).toEqual(['long is done', 'ended in order']);
      await using after = await Ottla.open(data, { readOnly: true });
      expect(await committed(after, 'workers', 'jobs')).toEqual([1, 0, 0, 0]);
    },
  );
});

describe('the example of a server for tests in other languages', () => {
  it('tells its address, serves, and ends when its input does', { timeout: 60_000 }, async () => {
    const child = spawn(process.execPath, [compiledExample('serve')]);
    const exited = once(child, 'close');
    const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
    const kafka = new Kafka({ brokers: [line.trim()], logLevel: logLevel.NOTHING });
    const producer = kafka.producer();
    await producer.connect();
    const [sent] = await producer.send({ topic: 'orders', messages: [{ value: 'tea' }] });
    expect(sent).toMatchObject({ errorCode: 0, baseOffset: '0' });
    await producer.disconnect();
    child.stdin.end();
    expect(await exited).toEqual([0, null]);
  });
});
