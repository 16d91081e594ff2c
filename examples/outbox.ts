// An outbox and a worker queue: an order and the work that it causes are one transaction of SQLite. A relay
// moves the work into a topic, and workers do it: again where it failed, and aside where it fails for good.
//
//   npm run build:all && node build/examples/outbox.js
//
// It needs node:sqlite, which Node has from 22.13 on; before, it says so and ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ottla, defineTopic } from 'ottla';

/** What of node:sqlite is used here: the types of Node 20 do not know it. */
interface Database {
  exec(sql: string): void;
  prepare(sql: string): { run(...values: unknown[]): void; all(...values: unknown[]): unknown[] };
  close(): void;
}

const moduleName: string = 'node:sqlite';
const sqlite = (await import(moduleName).catch(() => null)) as {
  readonly DatabaseSync: new (path: string) => Database;
} | null;

/** How often the tea is still upstairs. */
let trouble = 1;
const work = defineTopic('work', { partitions: 4, key: 'string', value: 'json' });

if (sqlite === null) console.log(`Node ${process.version} has no node:sqlite: nothing to show.`);
else await run(new sqlite.DatabaseSync(':memory:'));

async function run(database: Database): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ottla-outbox-'));
  const ottla = await Ottla.open(directory);
  try {
    await ottla.topics.create(work);
    await ottla.topics.create('work.failed');
    database.exec(`
      CREATE TABLE orders (id TEXT PRIMARY KEY, item TEXT NOT NULL);
      CREATE TABLE outbox (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL);
      CREATE TABLE done (id INTEGER PRIMARY KEY);
    `);
    for (const [id, item] of [
      ['o1', 'tea'],
      ['o2', 'a unicorn'],
      ['o3', 'ink'],
    ]) {
      takeOrder(database, id!, item!);
    }
    await relay(ottla, database);

    const consumer = ottla.consumer({ group: 'workers', topics: [work] });
    const running = consumer.run({
      concurrency: { by: 'key', max: 8 },
      retry: { attempts: 3, backoff: () => 10, deadLetter: 'work.failed' },
      eachRecord: ({ key, value }) => pack(database, key!, value as Task),
    });
    await ottla.idle();
    await consumer.stop();
    await running;

    for await (const { key } of ottla.read('work.failed'))
      console.log(`not packed: ${String(key)}`);
    console.log(`packed ${database.prepare('SELECT id FROM done').all().length} of 3`);
  } finally {
    await ottla.close();
    database.close();
    rmSync(directory, { recursive: true });
  }
}

interface Task {
  /** Its number in the outbox: what tells a task that comes twice. */
  readonly id: number;
  readonly item: string;
}

/** The order and its task are there together, or not at all. */
function takeOrder(database: Database, id: string, item: string): void {
  database.exec('BEGIN');
  database.prepare('INSERT INTO orders VALUES (?, ?)').run(id, item);
  database
    .prepare('INSERT INTO outbox (key, value) VALUES (?, ?)')
    .run(id, JSON.stringify({ item }));
  database.exec('COMMIT');
}

/** Sends what is in the outbox, then removes it: a crash in between sends it twice. An app does so now and then. */
async function relay(ottla: Ottla, database: Database): Promise<void> {
  const producer = ottla.producer();
  const rows = database.prepare('SELECT id, key, value FROM outbox ORDER BY id').all();
  for (const { id, key, value } of rows as { id: number; key: string; value: string }[]) {
    const task = { id, ...(JSON.parse(value) as { item: string }) };
    await producer.send(work, { key, value: task });
    database.prepare('DELETE FROM outbox WHERE id = ?').run(id);
  }
  await producer.close();
}

/** Done once, however often it comes. */
async function pack(database: Database, order: string, { id, item }: Task): Promise<void> {
  if (item === 'a unicorn') throw new Error('we are out of unicorns');
  if (item === 'tea' && trouble-- > 0) throw new Error('the tea is upstairs');
  database.prepare('INSERT INTO done VALUES (?) ON CONFLICT DO NOTHING').run(id);
  console.log(`packed ${item} for ${order}`);
}
