import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve, type Server } from '../../src/server/index.js';
import { kafka, notRun, whyNotRun } from './kafka-tools.js';

type Group = Awaited<ReturnType<Ottla['groups']['describe']>>;

const tool = fileURLToPath(new URL('kafka/kafka', import.meta.url));

/** One of Kafka's tools that runs on, and what it has printed. */
class Running {
  readonly process: ChildProcess;
  lines: string[] = [];
  readonly exited: Promise<number | null>;

  constructor(...args: string[]) {
    this.process = spawn(tool, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    let rest = '';
    this.process.stdout!.on('data', (bytes: Buffer) => {
      const lines = `${rest}${String(bytes)}`.split('\n');
      rest = lines.pop()!;
      this.lines.push(...lines);
    });
    this.exited = new Promise((resolve) => this.process.on('exit', resolve));
  }

  async stop(): Promise<void> {
    this.process.kill('SIGTERM');
    await this.exited;
  }
}

/** The words of a tool's table, without its head. */
const rows = (text: string): string[][] =>
  text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([first]) => first !== '' && first !== 'GROUP');

describe.skipIf(whyNotRun !== null)(
  `Kafka's console tools${notRun}`,
  () => {
    let directory: string;
    let ottla: Ottla;
    let server: Server;
    const consumers: Running[] = [];

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'ottla-console-'));
      ottla = await Ottla.open(join(directory, 'data'));
      server = await serve(ottla);
    });
    afterAll(async () => {
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      await ottla.close();
      rmSync(directory, { recursive: true, force: true });
    });

    const ask = async (name: string, ...args: string[]): Promise<string> =>
      (await kafka(name, '--bootstrap-server', server.bootstrap, ...args)).stdout;

    const consume = (): void => {
      const args = ['--bootstrap-server', server.bootstrap, '--topic', 'numbers', '--group', 'g'];
      consumers.push(new Running('console-consumer', ...args));
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
      (group: Group): boolean =>
        group.state === 'Stable' && group.members.length === count;

    it('create a topic, list and describe it', async () => {
      const created = await ask('topics', '--create', '--topic', 'numbers', '--partitions', '2');
      expect(created).toContain('Created topic numbers.');
      expect((await ask('topics', '--list')).trim()).toBe('numbers');
      const described = await ask('topics', '--describe', '--topic', 'numbers');
      expect(described).toContain('PartitionCount: 2\tReplicationFactor: 1');
      expect(described.match(/Leader: 1/g)).toHaveLength(2);
    });

    const read = (): string[] => consumers.flatMap(({ lines }) => lines).toSorted();
    const sharesOf = ({ members }: Group): number[] =>
      members.map(({ assignment }) => assignment.length).toSorted((a, b) => a - b);

    it('share a topic of two partitions between two consumers, each in a process', async () => {
      consume();
      consume();
      expect(sharesOf(await until(isShared(2)))).toEqual([1, 1]);
      const args = ['--bootstrap-server', server.bootstrap, '--topic', 'numbers'];
      const producer = new Running('console-producer', ...args);
      producer.process.stdin!.end('1\n2\n3\n4\n5\n6\n7\n');
      expect(await producer.exited).toBe(0);
      while (read().length < 7) await wait(100);
      await until(({ partitions }) => partitions.every(({ lag }) => lag === 0));
      expect(read()).toEqual(['1', '2', '3', '4', '5', '6', '7']);
    });

    it('leave one of three consumers idle', async () => {
      consume();
      expect(sharesOf(await until(isShared(3)))).toEqual([0, 1, 1]);
      expect(read()).toHaveLength(7);
    });

    it('list and describe the group', async () => {
      expect((await ask('consumer-groups', '--list')).trim()).toBe('g');
      const described = rows(await ask('consumer-groups', '--describe', '--group', 'g'));
      expect(described).toHaveLength(2);
      const owners = described.map(([group, topic, , committed, end, lag, owner]) => {
        expect([group, topic, committed, lag]).toEqual(['g', 'numbers', end, '0']);
        return owner;
      });
      expect(new Set(owners).size).toBe(2);
      const members = await ask('consumer-groups', '--describe', '--group', 'g', '--members');
      const shares = rows(members).map((row) => Number(row.at(-1)));
      expect(shares.toSorted((a, b) => a - b)).toEqual([0, 1, 1]);
      const state = await ask('consumer-groups', '--describe', '--group', 'g', '--state');
      expect(state).toContain('Stable');
    });

    it('delete the group once its members have gone, and the topic', async () => {
      const refused = await ask('consumer-groups', '--delete', '--group', 'g').catch(String);
      expect(refused).toContain('not empty');
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      await until(({ members }) => members.length === 0);
      const reset = ['--reset-offsets', '--to-earliest', '--topic', 'numbers', '--execute'];
      await ask('consumer-groups', '--group', 'g', ...reset);
      const { partitions } = await ottla.groups.describe('g');
      expect(partitions.map(({ committed }) => committed)).toEqual([0, 0]);
      expect(await ask('consumer-groups', '--delete', '--group', 'g')).toContain('successful');
      expect(await ottla.groups.list()).toEqual([]);
      await ask('topics', '--delete', '--topic', 'numbers');
      expect(await ottla.topics.list()).toEqual([]);
    });
  },
  600_000,
);
