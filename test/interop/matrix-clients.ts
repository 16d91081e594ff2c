import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';
import { kafkaJars, whyNotRun } from './kafka-tools.js';

type Command = readonly [program: string, ...options: string[]];

/**
 * A client of Kafka, and the program that works it: `COMMAND FEATURE SERVER TOPIC CA` does what the feature is, and
 * prints 'ok' at last; `COMMAND version` prints which version it is.
 */
export interface Client {
  readonly name: string;
  /** A directory that is thrown away is given to who must be built. @throws if it cannot be */
  readonly command: (scratch: string) => Command;
  /** It is no dependency of this project: it is run where it is installed, and has no row in the table. */
  readonly isOptional?: boolean;
  /** What it compresses with, if not all four. */
  readonly codecs?: readonly string[];
  /** What is to be known of it. */
  readonly remark?: string;
  /** Features that it does not have, and why. */
  readonly lacks?: Readonly<Record<string, string>>;
}

export interface FoundClient extends Client {
  readonly run: Command;
  readonly version: string;
  /** Why it cannot be run here; null: it can. */
  readonly whyNot: string | null;
}

const fileOf = (name: string): string => fileURLToPath(new URL(`clients/${name}`, import.meta.url));

const clients: readonly Client[] = [
  {
    name: 'KafkaJS',
    command: () => [process.execPath, fileOf('kafkajs.mjs')],
    lacks: { kip848: 'it has the classic protocol alone' },
  },
  {
    name: '@platformatic/kafka',
    command: () => [process.execPath, fileOf('platformatic.mjs')],
    remark:
      'with READ_COMMITTED it hands out aborted records, too, and may hand out records again when its partitions ' +
      'change, of Kafka as well.',
    codecs: ['gzip', 'snappy', 'lz4', ...('zstdCompress' in zlib ? ['zstd'] : [])],
  },
  {
    name: 'confluent-kafka (Python)',
    command: () => ['python3', fileOf('confluent.py')],
  },
  {
    name: '@confluentinc/kafka-javascript',
    command: () => [process.execPath, fileOf('confluent_js.mjs')],
    isOptional: true,
  },
  {
    name: 'kafka-python',
    command: () => ['python3', fileOf('kafka_python.py')],
    lacks: { kip848: 'it has the classic protocol alone' },
  },
  {
    name: 'franz-go',
    command(scratch) {
      cpSync(fileOf('franz'), scratch, { recursive: true });
      const program = join(scratch, 'franz');
      execFileSync('go', ['build', '-o', program, '.'], { cwd: scratch, stdio: 'pipe' });
      return [program];
    },
  },
  {
    name: 'Kafka’s Java client',
    command(scratch) {
      if (whyNotRun !== null) throw new Error(whyNotRun);
      const source = fileOf('JavaClient.java');
      execFileSync('javac', ['-cp', kafkaJars, '-d', scratch, source], { stdio: 'pipe' });
      return ['java', '-XX:TieredStopAtLevel=1', '-cp', `${scratch}:${kafkaJars}`, 'JavaClient'];
    },
  },
  {
    name: 'Kafka’s command-line tools',
    command() {
      if (whyNotRun !== null) throw new Error(whyNotRun);
      return [fileOf('kafka-tools.sh')];
    },
    lacks: { transactions: 'its producer for the console takes part in none' },
  },
  {
    name: 'kcat',
    command: () => [fileOf('kcat.sh')],
    remark:
      'Of SASL, PLAIN alone: librdkafka 2.0 says its nonce of SCRAM twice, which Kafka refuses, too, since CVE-2024-56128.',
    lacks: {
      kip848: 'its librdkafka 2.0 has the classic protocol alone',
      transactions: 'it reads in none',
      topics: 'it only lists them',
      groups: 'it reads in them, and no more',
    },
  },
];

/** All of them, with what is needed to run those that can be here. */
export function findClients(): FoundClient[] {
  return clients.map((client) => {
    try {
      const run = client.command(mkdtempSync(join(tmpdir(), 'ottla-client-')));
      const [program, ...options] = run;
      const version = execFileSync(program, [...options, 'version'], { stdio: 'pipe' });
      return { ...client, run, version: String(version).trim(), whyNot: null };
    } catch (error) {
      const reason = error instanceof Error ? error.message.split('\n')[0]! : String(error);
      return { ...client, run: ['false'], version: '', whyNot: reason };
    }
  });
}
