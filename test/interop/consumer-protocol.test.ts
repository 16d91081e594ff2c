import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve, type Server } from '../../src/server/index.js';
import { kafka, whyNotRun } from './kafka-tools.js';

const fileOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

type Group = Awaited<ReturnType<Ottla['groups']['describe']>>;

let ottla: Ottla;
let server: Server;
let running: Running[];
beforeEach(async () => {
  ottla = Ottla.memory();
  server = await serve(ottla);
  running = [];
});
afterEach(async () => {
  await Promise.all(running.map((consumer) => consumer.stop()));
  await ottla.close();
});

/** A consumer in a process of its own, and the lines that it has printed. */
class Running {
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(command: string, args: readonly string[]) {
    this.#process = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let rest = '';
    this.#process.stdout!.on('data', (bytes: Buffer) => {
      const lines = `${rest}${String(bytes)}`.split('\n');
      rest = lines.pop()!;
      this.lines.push(...lines);
    });
    this.#exited = new Promise((resolve) => this.#process.on('exit', resolve));
    running.push(this);
  }

  /** In an orderly way. */
  async stop(): Promise<void> {
    this.#process.kill('SIGTERM');
    await this.#exited;
  }
}

interface Client {
  readonly name: string;
  readonly whyNot: string | null;
  start(topic: string, instance?: string): Running;
}

const java: Client = {
  name: "Kafka's console consumer",
  whyNot: whyNotRun,
  start(topic, instance) {
    const properties = [
      'group.protocol=consumer',
      ...(instance ? [`group.instance.id=${instance}`] : []),
    ];
    const options = ['--bootstrap-server', server.bootstrap, '--topic', topic, '--group', 'g'];
    const more = properties.flatMap((property) => ['--command-property', property]);
    return new Running(fileOf('kafka/kafka'), [
      'console-consumer',
      ...options,
      ...more,
      '--from-beginning',
    ]);
  },
};

const hasConfluent = spawnSync('python3', ['-c', 'import confluent_kafka']).status === 0;
const confluent: Client = {
  name: 'confluent-kafka for Python',
  whyNot: hasConfluent ? null : 'python3 has no confluent_kafka here',
  start(topic, instance) {
    const options = [fileOf('clients/confluent_consumer.py'), server.bootstrap, topic, 'g'];
    return new Running('python3', instance === undefined ? options : [...options, instance]);
  },
};

async function until(isSo: (group: Group) => boolean): Promise<Group> {
  for (;;) {
    const group = await ottla.groups.describe('g').catch(() => null);
    if (group !== null && isSo(group)) return group;
    await wait(100);
  }
}

const isShared =
  (count: number) =>
  ({ state, members }: Group): boolean =>
    state === 'Stable' &&
    members.length === count &&
    members.every(({ assignment }) => assignment.length > 0);

const upTo = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));

/** Records with these values, one after the other over 4 partitions. */
async function send(values: readonly string[]): Promise<void> {
  await ottla.producer().sendBatch(
    't',
    values.map((value) => ({ value, partition: Number(value) % 4 })),
  );
}

/** What all of them have printed, once it is so many lines, and what would come twice has come. */
async function printed(count: number): Promise<string[]> {
  const lines = (): string[] => running.flatMap((consumer) => consumer.lines);
  while (lines().length < count) await wait(50);
  await until(({ partitions }) => partitions.every(({ lag }) => lag === 0));
  return lines().toSorted((one, other) => Number(one) - Number(other));
}

for (const client of [java, confluent]) {
  const { name, whyNot } = client;
  if (whyNot !== null) console.warn(`Not run: ${name}: ${whyNot}.`);
  const reason = whyNot === null ? '' : ` (not run: ${whyNot})`;

  describe.skipIf(whyNot !== null)(
    `${name}, in the consumer protocol${reason}`,
    () => {
      it('comes back as the static member that it was', async () => {
        await ottla.topics.create('t', { partitions: 4 });
        const one = client.start('t', 'one');
        client.start('t', 'two');
        const before = await until(isShared(2));
        const values = upTo(80);
        await send(values.slice(0, 40));
        expect(await printed(40)).toEqual(values.slice(0, 40));
        await one.stop();
        await send(values.slice(40));
        client.start('t', 'one');
        expect(await printed(80)).toEqual(values);
        const after = await until(isShared(2));
        expect(after.generation).toBe(before.generation);
      });
    },
    600_000,
  );
}

describe.skipIf(confluent.whyNot !== null)('confluent-kafka, by a pattern', () => {
  it('reads topics that are created later', async () => {
    await ottla.topics.create('t');
    const { lines } = confluent.start('^[t-u]$');
    await until(isShared(1));
    await ottla.topics.create('u');
    await until(({ partitions }) => partitions.filter(({ memberId }) => memberId).length === 2);
    await ottla.producer().send('u', { value: 'late' });
    while (lines.length === 0) await wait(50);
    expect(lines).toEqual(['late']);
  }, 600_000);
});

describe.skipIf(whyNotRun !== null)("Kafka's tools", () => {
  it('list and describe a group of the consumer protocol, and delete it', async () => {
    await ottla.topics.create('t', { partitions: 2 });
    const ask = async (name: string, ...args: string[]): Promise<string> =>
      (await kafka(name, '--bootstrap-server', server.bootstrap, ...args)).stdout;
    const describeGroup = async (...args: string[]): Promise<string[]> =>
      (await ask('consumer-groups', '--describe', '--group', 'g', ...args))
        .split('\n')
        .filter((line) => line.startsWith('g '))
        .map((line) => line.trim().replaceAll(/\s+/g, ' '));
    const consumer = java.start('t');
    await until(isShared(1));
    await ottla.producer().send('t', { value: 'a', partition: 1 });
    await until(({ partitions }) => partitions.every(({ lag }) => lag === 0));
    expect(await ask('groups', '--list')).toMatch(/^g\s+Consumer\s+consumer\s*$/m);
    expect(await describeGroup('--state')).toEqual([expect.stringMatching(/ uniform Stable 1$/)]);
    const [member] = await describeGroup('--members', '--verbose');
    expect(member).toMatch(/ 2 1 t:0,1 1 t:0,1$/);
    expect(await describeGroup()).toEqual([
      expect.stringMatching(/^g t 0 0 0 0 /),
      expect.stringMatching(/^g t 1 1 1 0 /),
    ]);
    await consumer.stop();
    await until(({ members }) => members.length === 0);
    expect(await ask('consumer-groups', '--delete', '--group', 'g')).toContain('successful');
    expect(await ottla.groups.list()).toEqual([]);
  }, 600_000);
});
