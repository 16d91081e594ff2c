// Keeps results and offsets together in SQLite: what a batch changes and how far the group has come are one
// transaction, so that no payment counts twice and none is left out, wherever a crash hits.
//
//   npm run build:all && node build/examples/sqlite.js
//
// It needs node:sqlite, which Node has from 22.13 on; before, it says so and ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ottla, defineTopic, type Consumer, type TopicPartition } from 'ottla';

/** What of node:sqlite is used here: the types of Node 20 do not know it. */
interface Database {
  exec(sql: string): void;
  prepare(sql: string): { run(...values: unknown[]): void; get(...values: unknown[]): unknown };
  close(): void;
}

const moduleName: string = 'node:sqlite';
const sqlite = (await import(moduleName).catch(() => null)) as {
  readonly DatabaseSync: new (path: string) => Database;
} | null;

const payments = defineTopic('payments', { partitions: 4, key: 'string', value: 'json' });
const accounts = ['ada', 'bob', 'cyd', 'dan', 'eve'];
const count = 10_000;

if (sqlite === null) console.log(`Node ${process.version} has no node:sqlite: nothing to show.`);
else await run(new sqlite.DatabaseSync(':memory:'));

async function run(database: Database): Promise<void> {
  database.exec(`
    CREATE TABLE balance (account TEXT PRIMARY KEY, cents INTEGER NOT NULL);
    CREATE TABLE place (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
  `);
  const directory = mkdtempSync(join(tmpdir(), 'ottla-sqlite-'));
  const ottla = await Ottla.open(directory);
  try {
    await ottla.topics.create(payments);
    const producer = ottla.producer();
    const sent = Array.from({ length: count }, (_, i) => ({
      key: accounts[i % accounts.length]!,
      value: { cents: i },
    }));
    await producer.sendBatch(payments, sent);

    // The first consumer stops in the middle, and tells Ottla nothing of how far it came.
    await consume(ottla, database, 5);
    await consume(ottla, database, Infinity);
    for (const account of accounts) {
      const expected = sent.reduce(
        (sum, { key, value }) => sum + (key === account ? value.cents : 0),
        0,
      );
      const row = database.prepare('SELECT cents FROM balance WHERE account = ?').get(account);
      const { cents } = row as { readonly cents: number };
      if (cents !== expected) throw new Error(`${account} has ${cents}, not ${expected}`);
      console.log(`${account} has ${cents}`);
    }
  } finally {
    await ottla.close();
    database.close();
    rmSync(directory, { recursive: true });
  }
}

/** Reads until all is read, or so many batches. */
async function consume(ottla: Ottla, database: Database, batches: number): Promise<void> {
  const place = database.prepare('SELECT next FROM place WHERE topic = ? AND partition = ?');
  const add = database.prepare(
    'INSERT INTO balance VALUES (?, ?) ON CONFLICT DO UPDATE SET cents = cents + excluded.cents',
  );
  const move = database.prepare(
    'INSERT INTO place VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next',
  );
  const nextOf = ({ topic, partition }: TopicPartition): number => {
    const row = place.get(topic, partition) as { readonly next: number } | undefined;
    return row?.next ?? 0;
  };
  const consumer: Consumer<typeof payments> = ottla.consumer({
    group: 'balances',
    topics: [payments],
    autoCommit: false,
    maxPollRecords: 100,
    // Where the database says it is, whatever the group has committed.
    async onAssigned(partitions) {
      for (const at of partitions) await consumer.seek({ ...at, offset: nextOf(at) });
    },
  });
  let left = batches;
  for await (const batch of consumer.batches()) {
    database.exec('BEGIN');
    try {
      // Who took longer than revokeTimeoutMs does not know yet that another member has gone on.
      if (nextOf(batch) !== batch.baseOffset) throw new Error('this batch is another member’s now');
      for (const { key, value } of batch) add.run(key, (value as { readonly cents: number }).cents);
      move.run(batch.topic, batch.partition, batch.nextOffset);
      database.exec('COMMIT');
    } catch (error) {
      database.exec('ROLLBACK');
      throw error;
    }
    const row = database.prepare('SELECT sum(next) AS read FROM place').get();
    if (--left === 0 || (row as { readonly read: number }).read === count) break;
  }
  await consumer.close();
}
