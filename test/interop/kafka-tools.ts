import { execFile, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const directory = fileURLToPath(new URL('kafka/', import.meta.url));
const light = { ...process.env, KAFKA_LIGHT: '1' };

/** Kafka's own classes, for Java's -cp. */
export const kafkaJars: string = join(
  process.env['KAFKA_HOME'] ?? join(homedir(), '.cache', 'ottla-kafka'),
  'lib',
  '*',
);

/** Why Apache Kafka's tools cannot be run here; null: they can. Fetches them at first use, 44 MB. */
export const whyNotRun: string | null = prepare();

if (whyNotRun !== null) console.warn(`Interop tests not run: ${whyNotRun}.`);

/** For the title of a suite that is skipped then. */
export const notRun: string = whyNotRun === null ? '' : ` (not run: ${whyNotRun})`;

function prepare(): string | null {
  if (process.platform === 'win32') return 'the scripts in test/interop/kafka need a Unix shell';
  const java = spawnSync('java', ['-version'], { encoding: 'utf8' });
  if (java.status !== 0) return 'there is no Java: version 17 or later is needed';
  const version = Number(/version "(\d+)/.exec(java.stderr)?.[1]);
  if (version < 17) return `Java 17 or later is needed, this is ${version}`;
  const install = spawnSync(`${directory}install`, { encoding: 'utf8' });
  if (install.status === 0) return null;
  if (spawnSync('mvn', ['-v']).status !== 0) return 'there is no Maven, which fetches the tools';
  return `the tools could not be fetched: ${install.stderr.trim().split('\n')[0]}`;
}

/** What one of Kafka's tools prints. @throws if it fails */
export function kafka(tool: string, ...options: string[]): Promise<Printed> {
  return run(`${directory}kafka`, [tool, ...options], { maxBuffer: 64 * 1024 * 1024 });
}

/** What a program in test/interop/java prints, run with Kafka's classes. @throws if it fails */
export async function runJava(program: string, ...options: string[]): Promise<string> {
  const source = fileURLToPath(new URL(`java/${program}.java`, import.meta.url));
  const args = ['-cp', kafkaJars, source, ...options];
  return (await run('java', args, { maxBuffer: 64 * 1024 * 1024 })).stdout;
}

export interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}

/** A running Kafka broker. Starting again goes on with its data. */
export class TestBroker {
  readonly directory: string;
  readonly server: string;
  readonly #port: number;

  private constructor(data: string, port: number) {
    this.directory = data;
    this.server = `127.0.0.1:${port}`;
    this.#port = port;
  }

  static async start(data: string): Promise<TestBroker> {
    const broker = new TestBroker(data, await freePorts());
    await broker.start();
    return broker;
  }

  async start(): Promise<void> {
    await run(`${directory}broker`, ['start', this.directory, String(this.#port)], { env: light });
  }

  /** Fine if it does not run. */
  async stop(): Promise<void> {
    await run(`${directory}broker`, ['stop', this.directory]);
  }

  async kafka(tool: string, ...options: string[]): Promise<string> {
    return (await kafka(tool, '--bootstrap-server', this.server, ...options)).stdout;
  }
}

/** A port that is free, as is the one behind it. */
async function freePorts(): Promise<number> {
  for (;;) {
    const first = createServer();
    const second = createServer();
    try {
      const port = await listen(first, 0);
      await listen(second, port + 1);
      return port;
    } catch {
      // The one behind is taken.
    } finally {
      first.close();
      second.close();
    }
  }
}

function listen(server: ReturnType<typeof createServer>, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' ? (address?.port ?? 0) : 0);
    });
  });
}
