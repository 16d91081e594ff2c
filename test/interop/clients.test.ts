import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve } from '../../src/server/index.js';
import { kafka, notRun, whyNotRun } from './kafka-tools.js';

const run = promisify(execFile);
const probes = fileURLToPath(new URL('kafka/clients/', import.meta.url));
const env = { ...process.env, KAFKAJS_NO_PARTITIONER_WARNING: '1' };

/** A client's own round trip, as it ran against Apache Kafka: produce 100, consume in a group, commit, read that back. */
interface Probe {
  readonly client: string;
  readonly command: readonly [string, ...string[]];
  readonly check: readonly [string, ...string[]];
  readonly says: string;
}

const clients: readonly Probe[] = [
  {
    client: 'KafkaJS',
    command: [process.execPath, 'kafkajs.mjs'],
    check: [process.execPath, '-e', "import('kafkajs')"],
    says: 'kafkajs ok',
  },
  {
    client: '@platformatic/kafka',
    command: [process.execPath, 'platformatic.mjs'],
    check: [process.execPath, '-e', "import('@platformatic/kafka')"],
    says: '@platformatic/kafka ok',
  },
  {
    client: 'kcat',
    command: ['sh', 'kcat.sh'],
    check: ['kcat', '-V'],
    says: 'kcat ok',
  },
  {
    client: 'confluent-kafka for Python',
    command: ['python3', 'confluent.py'],
    check: ['python3', '-c', 'import confluent_kafka'],
    says: 'confluent-kafka ok',
  },
  {
    client: 'kafka-python',
    command: ['python3', 'kafka_python.py'],
    check: ['python3', '-c', 'import kafka'],
    says: 'kafka-python ok',
  },
];

/** Why a client cannot be run here; null: it can. */
function absence({ client, check: [command, ...options] }: Probe): string | null {
  const { status, error } = spawnSync(command, options, { cwd: probes, encoding: 'utf8' });
  if (status === 0) return null;
  return `${client} is not there${error === undefined ? '' : `: ${error.message}`}`;
}

async function served(): Promise<{ readonly ottla: Ottla; readonly bootstrap: string }> {
  const place = mkdtempSync(join(tmpdir(), 'ottla-served-'));
  const ottla = await Ottla.open(join(place, 'data'));
  onTestFinished(async () => {
    await ottla.close();
    rmSync(place, { recursive: true, force: true });
  });
  const { bootstrap } = await serve(ottla);
  return { ottla, bootstrap };
}

describe('Clients of Kafka produce, consume in a group and commit', () => {
  for (const probe of clients) {
    const missing = absence(probe);
    if (missing !== null) console.warn(`Interop test not run: ${missing}.`);
    const { client, command, says } = probe;
    it.skipIf(missing !== null)(
      `${client}${missing === null ? '' : ` (not run: ${missing})`}`,
      async () => {
        const { ottla, bootstrap } = await served();
        await ottla.topics.create('t', { partitions: 3 });
        const [program, ...options] = command;
        const { stdout } = await run(program, [...options, bootstrap, 't'], { cwd: probes, env });
        expect(stdout).toContain(says);
        expect((await ottla.groups.list()).length).toBeGreaterThan(0);
      },
    );
  }

  const go = spawnSync('go', ['version']).status === 0;
  it.skipIf(!go)(`franz-go${go ? '' : ' (not run: there is no Go)'}`, async () => {
    const { ottla, bootstrap } = await served();
    await ottla.topics.create('t', { partitions: 3 });
    const place = mkdtempSync(join(tmpdir(), 'ottla-franz-'));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    cpSync(join(probes, 'franz'), place, { recursive: true });
    const { stdout } = await run('go', ['run', '.', bootstrap, 't'], { cwd: place });
    expect(stdout).toContain('ok');
  });
});

describe(`Kafka's own tools${notRun}`, () => {
  it.skipIf(whyNotRun !== null)('work through a day of a topic', async () => {
    const { ottla, bootstrap } = await served();
    const at = ['--bootstrap-server', bootstrap];
    const tool = async (name: string, ...options: string[]): Promise<string> =>
      (await kafka(name, ...at, ...options)).stdout;
    const named = ['--topic', 'numbers'];
    await tool('topics', '--create', ...named, '--partitions', '2');
    expect(await tool('topics', '--list')).toContain('numbers');
    expect(await tool('topics', '--describe', ...named)).toContain('PartitionCount: 2');
    const producer = ottla.producer();
    for (let i = 1; i <= 7; i++) {
      await producer.send('numbers', { value: String(i), partition: i % 2 });
    }
    const consumer = ['--from-beginning', '--group', 'day', '--max-messages', '7'];
    const read = await tool('console-consumer', ...named, ...consumer);
    expect(read.trim().split('\n').toSorted()).toEqual(['1', '2', '3', '4', '5', '6', '7']);
    expect(await tool('consumer-groups', '--list')).toContain('day');
    const group = await tool('consumer-groups', '--describe', '--group', 'day');
    expect(group).toMatch(/day\s+numbers\s+0\s+3\s+3\s+0/);
    expect(group).toMatch(/day\s+numbers\s+1\s+4\s+4\s+0/);
    await tool(
      'configs',
      '--alter',
      '--entity-type',
      'topics',
      '--entity-name',
      'numbers',
      '--add-config',
      'retention.ms=1000',
    );
    expect((await ottla.topics.describe('numbers')).options.retentionMs).toBe(1000);
    const offsets = await tool('get-offsets', ...named);
    expect(offsets.trim().split('\n').toSorted()).toEqual(['numbers:0:3', 'numbers:1:4']);
    await tool('topics', '--delete', ...named);
    expect(await ottla.topics.list()).toEqual([]);
  });
});
