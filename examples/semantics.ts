// The fragments of docs/semantics.md, run on a topic in memory.

import { Ottla, OttlaError, type Consumer } from 'ottla';

await using ottla = Ottla.memory();
await ottla.topics.create('orders', { partitions: 3 });
const producer = ottla.producer();

// Commit by hand, each batch once its work is done.
const saved: string[] = [];
async function saveAll(consumer: Consumer<'orders'>) {
  for await (const batch of consumer.batches()) {
    await save(batch.records);
    await batch.commit();
  }
}

async function save(records: Iterable<{ readonly value: Buffer | null }>) {
  for (const { value } of records) saved.push(String(value));
}

// What of a sendBatch is in the log, although it failed.
async function sendAll(records: readonly { key: string; value: string }[]) {
  try {
    await producer.sendBatch('orders', records);
  } catch (error) {
    if (!(error instanceof OttlaError)) throw error;
    for (const { partition, baseOffset, count } of error.written ?? []) {
      console.log(`partition ${partition} has ${count} of them from offset ${baseOffset} on`);
    }
    throw error;
  }
}

const consumer = ottla.consumer({ group: 'saving', topics: ['orders'], autoCommit: false });
const saving = saveAll(consumer);
await sendAll([
  { key: 'ann', value: 'tea' },
  { key: 'bob', value: 'ink' },
]);
await ottla.idle();
await consumer.close();
await saving;
console.log(`saved ${saved.toSorted().join(' and ')}`);
