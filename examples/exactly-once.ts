import { Ottla, defineTopic } from 'ottla';

interface Order {
  readonly customer: string;
  readonly total: number;
}

const orders = defineTopic('orders', { partitions: 3, key: 'string', value: 'json' });
const bills = defineTopic('bills', { partitions: 3, key: 'string', value: 'json' });
const ottla = await Ottla.open('./data');
await ottla.topics.create(orders);
await ottla.topics.create(bills);

const shop = ottla.producer({ idempotent: true });
for (let i = 1; i <= 10; i++) {
  const order: Order = { customer: i % 2 === 0 ? 'ann' : 'bob', total: i };
  await shop.send(orders, { key: order.customer, value: order });
}

const consumer = ottla.consumer({ group: 'billing', topics: [orders], maxPollRecords: 2 });
const tx = ottla.producer({ transactionalId: 'biller-1' });
let trouble = 2;

async function billing(): Promise<void> {
  for await (const batch of consumer.batches()) {
    // The batch belongs to the transaction: a commit moves the position, an abort seeks back.
    await tx
      .transaction(batch, async (t) => {
        for (const { key, value } of batch) t.send(bills, { key, value });
        await print();
      })
      .catch((error: unknown) => console.log(`again, because ${String(error)}`));
  }
}

/** Fails twice. */
async function print(): Promise<void> {
  if (trouble-- > 0) throw new Error('the printer is out of paper');
}

const running = billing();
await ottla.idle();
let sum = 0;
for await (const { value } of ottla.read(bills)) sum += (value as Order).total;
console.log(`billed ${sum}, each order once`);

// More than one topic, and nothing read: all of it, or nothing.
const mover = ottla.producer({ transactionalId: 'mover' });
const total = await mover.transaction((t) => {
  t.send(bills, { key: 'ann', value: { customer: 'ann', total: 100 } });
  t.send(orders, { key: 'ann', value: { customer: 'ann', total: 100 } });
  return 100;
});
console.log(`moved ${total}`);
await ottla.idle();
await consumer.close();
await running;
await ottla.close();
