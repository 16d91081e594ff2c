import { Ottla, defineTopic } from 'ottla';

const orders = defineTopic('orders', { partitions: 3, key: 'string', value: 'json' });
const ottla = await Ottla.open('./data');
await ottla.topics.create(orders);
const failed = defineTopic('orders.failed', { partitions: 3, key: 'string', headers: 'string' });
await ottla.topics.create(failed);

const producer = ottla.producer();
for (const [key, item] of [
  ['ann', 'tea'],
  ['bob', 'ink'],
  ['ann', 'pen'],
] as const) {
  await producer.send(orders, { key, value: { item } });
}

const consumer = ottla.consumer({ group: 'billing', topics: [orders] });
const running = consumer.run({
  concurrency: { by: 'key', max: 16 }, // The orders of a customer one after the other.
  retry: { attempts: 3, deadLetter: 'orders.failed' },
  eachRecord: async ({ key, value }, { attempt, signal }) => {
    await charge(key, value, attempt, signal);
    console.log(`charged ${key}`, value);
  },
});

await ottla.idle();
for await (const { key, headers } of ottla.read(failed)) {
  console.log(`not charged: ${key}: ${headers['ottla.dlq.error']}`);
}
await consumer.stop({ timeoutMs: 10_000 }); // Finishes what is at work, commits, leaves.
await running;
await ottla.close();

/** Bob's card never works, Ann's does at the second attempt. */
async function charge(
  customer: string | null,
  _order: unknown,
  attempt: number,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  if (customer === 'bob') throw new Error('the card was refused');
  if (attempt === 1) throw new Error('the bank did not answer');
}
