import { Ottla, defineTopic } from 'ottla';

const orders = defineTopic('orders', { partitions: 3, key: 'string', value: 'json' });
const ottla = await Ottla.open('./data');
await ottla.topics.create(orders); // Fine again if it is there.

const producer = ottla.producer();
await producer.send(orders, { key: 'ann', value: { item: 'tea', count: 2 } });
await producer.send(orders, { key: 'bob', value: { item: 'ink', count: 1 } });
await producer.send(orders, { key: 'ann', value: { item: 'pen', count: 3 } });

const consumer = ottla.consumer({ group: 'packing', topics: [orders] });
const packing = pack();
await ottla.idle(); // The group has processed and committed all that was sent.
await ottla.close(); // This ends the loop below.
await packing;

async function pack() {
  for await (const { partition, offset, key, value } of consumer) {
    console.log(`partition ${partition}, offset ${offset}: ${key} orders`, value);
  }
}
