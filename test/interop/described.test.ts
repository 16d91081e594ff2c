import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Admin } from '@platformatic/kafka';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve, type Server } from '../../src/server/index.js';
import { kafka, notRun, whyNotRun } from './kafka-tools.js';

/** The words of a tool's table, by the names in its head. */
function table(text: string): Record<string, string>[] {
  const [head = [], ...rows] = text
    .split('\n')
    .filter((line) => line.includes('\t'))
    .map((line) => line.split('\t').map((word) => word.trim()));
  return rows.map((row) => Object.fromEntries(head.map((name, i) => [name, row[i] ?? ''])));
}

describe.skipIf(whyNotRun !== null)(
  `Kafka's tools on transactions and directories${notRun}`,
  () => {
    let directory: string;
    let ottla: Ottla;
    let server: Server;
    let release: () => void;
    let open: Promise<void>;

    const ask = async (name: string, ...args: string[]): Promise<string> =>
      (await kafka(name, '--bootstrap-server', server.bootstrap, ...args)).stdout;

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'ottla-described-'));
      ottla = await Ottla.open(join(directory, 'data'));
      server = await serve(ottla);
      await ottla.topics.create('t', { partitions: 2 });
      const done = ottla.producer({ transactionalId: 'done' });
      await done.transaction((t) => t.send('t', { value: 'a', partition: 0 }));
      const producer = ottla.producer({ transactionalId: 'open', transactionTimeoutMs: 600_000 });
      const held = new Promise<void>((resolve) => (release = resolve));
      await new Promise<void>((begun) => {
        open = producer.transaction(async (t) => {
          // An hour ago: tools that look for transactions that hang take it for one.
          const timestamp = Date.now() - 3_600_000;
          t.send('t', { value: 'b', partition: 1, timestamp });
          await producer.flush();
          begun();
          await held;
        });
      });
    });
    afterAll(async () => {
      release();
      await open;
      await ottla.close();
      rmSync(directory, { recursive: true, force: true });
    });

    it('list transactions', async () => {
      const listed = async (...args: string[]): Promise<string[]> =>
        table(await ask('transactions', 'list', ...args))
          .map((row) => `${row['TransactionalId']} ${row['TransactionState']}`)
          .toSorted();
      expect(await listed()).toEqual(['done CompleteCommit', 'open Ongoing']);
      expect(await listed('--duration-filter', '3600000')).toEqual([]);
      expect(await listed('--transactional-id-pattern', 'd.*')).toEqual(['done CompleteCommit']);
    });

    it('describe one', async () => {
      const [row] = table(await ask('transactions', 'describe', '--transactional-id', 'open'));
      expect(row).toMatchObject({
        CoordinatorId: '1',
        TransactionalId: 'open',
        TransactionState: 'Ongoing',
        TransactionTimeoutMs: '600000',
        TopicPartitions: 't-1',
      });
      expect(Number(row!['CurrentTransactionStartTimeMs'])).toBeGreaterThan(Date.now() - 600_000);
    });

    it('find that none hangs', async () => {
      // The partition's open transaction is old; that the coordinator knows of it clears it.
      const producers = table(
        await ask('transactions', 'describe-producers', '--topic', 't', '--partition', '1'),
      );
      expect(producers).toHaveLength(1);
      const found = await ask('transactions', 'find-hanging', '--broker-id', '1');
      expect(found).toContain('Topic');
      expect(table(found)).toEqual([]);
    });

    it('describe log directories', async () => {
      const printed = await ask('log-dirs', '--describe', '--topic-list', 't');
      const { brokers } = JSON.parse(printed.split('\n').find((line) => line.startsWith('{'))!) as {
        brokers: [{ logDirs: [{ partitions: unknown[] }] }];
      };
      const { partitions } = await ottla.topics.describe('t');
      const told = partitions.map(({ partition, bytes }) => ({
        partition: `t-${partition}`,
        size: bytes,
        offsetLag: 0,
        isFuture: false,
      }));
      const logDir = { logDir: join(directory, 'data'), error: null };
      expect(brokers).toMatchObject([{ broker: 1, logDirs: [logDir] }]);
      expect(new Set(brokers[0].logDirs[0].partitions)).toEqual(new Set(told));
    });
  },
  600_000,
);

describe('@platformatic/kafka', () => {
  it('describes log directories', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t', { partitions: 2 });
    await ottla.producer().send('t', { value: 'a', partition: 1 });
    const { partitions } = await ottla.topics.describe('t');
    const server = await serve(ottla);
    const admin = new Admin({ clientId: 'test', bootstrapBrokers: [server.bootstrap] });
    const topics = [{ name: 't', partitions: [0, 1] }];
    const [described] = await admin.describeLogDirs({ topics });
    expect(described!.results[0]!.topics).toMatchObject([
      {
        name: 't',
        partitions: partitions.map(({ partition, bytes }) => ({
          partitionIndex: partition,
          partitionSize: BigInt(bytes),
        })),
      },
    ]);
    await admin.close();
  });
});
