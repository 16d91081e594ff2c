import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve, type Server } from '../../src/server/index.js';

const run = promisify(execFile);
const fileOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Null: it can be run. Else why not, for the title of a test that is skipped. */
function whyNot(command: string, ...args: string[]): string | null {
  const { status } = spawnSync(command, args, { stdio: 'ignore', timeout: 60_000 });
  return status === 0 ? null : `${[command, ...args].join(' ')} does not run here`;
}

interface Client {
  readonly name: string;
  readonly whyNot: string | null;
  /**
   * With the server and a name as its last arguments, prints what ends in 'ok'. `<name>-in` and `<name>-out` are
   * topics of 2 partitions.
   */
  readonly command: readonly [program: string, ...options: string[]];
}

const hasConfluent = whyNot('python3', '-c', 'import confluent_kafka');
const hasKafkaPython = whyNot('python3', '-c', 'import kafka.producer');

const clients: readonly Client[] = [
  {
    name: 'confluent-kafka, in transactions and a rebalance',
    whyNot: hasConfluent,
    command: ['python3', fileOf('clients/confluent_groups.py')],
  },
  {
    name: 'kafka-python, in transactions and a rebalance',
    whyNot: hasKafkaPython,
    command: ['python3', fileOf('clients/kafka_python_groups.py')],
  },
];

for (const client of clients) {
  if (client.whyNot !== null) console.warn(`Not run: ${client.name}: ${client.whyNot}.`);
}

describe('A client in a group, over the wire', () => {
  let directory: string;
  let ottla: Ottla;
  let server: Server;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'ottla-clients-'));
    ottla = await Ottla.open(join(directory, 'data'));
    server = await serve(ottla);
  });
  afterAll(async () => {
    await ottla.close();
    rmSync(directory, { recursive: true, force: true });
  });

  for (const [i, client] of clients.entries()) {
    const reason = client.whyNot === null ? '' : ` (not run: ${client.whyNot})`;
    it.skipIf(client.whyNot !== null)(
      `works: ${client.name}${reason}`,
      async () => {
        const name = `client-${i}`;
        for (const end of ['in', 'out'])
          await ottla.topics.create(`${name}-${end}`, { partitions: 2 });
        const [program, ...options] = client.command;
        const args = [...options, server.bootstrap, name];
        const { stdout } = await run(program, args, { timeout: 300_000 });
        expect(stdout.trimEnd()).toMatch(/ ok$/);
      },
      300_000,
    );
  }
});
