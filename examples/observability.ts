// The fragments of docs/observability.md, run on a topic in memory.

import { Ottla } from 'ottla';

await using ottla = Ottla.memory();
await ottla.topics.create('orders');
const producer = ottla.producer({ compression: 'gzip' });

// How a producer does, now and then.
function report(): void {
  const { recordsPerSecond, compressionRatio, bufferUsedBytes } = producer.metrics();
  console.log(`${recordsPerSecond} records/s, ratio ${compressionRatio}, ${bufferUsedBytes} bytes`);
}

// Every batch, as it is settled.
import { subscribe } from 'node:diagnostics_channel';
import type { ProducerBatchMessage } from 'ottla';

subscribe('ottla:producer:batch', (message) => {
  const { topic, partition, recordCount, deliveryMs, error } = message as ProducerBatchMessage;
  if (error !== null) console.error(`${topic}-${partition}: ${recordCount} records: ${error.code}`);
  else if (deliveryMs > 100) console.warn(`${topic}-${partition} took ${deliveryMs} ms`);
});

await producer.sendBatch(
  'orders',
  Array.from({ length: 1000 }, (_, i) => ({ key: `customer ${i % 10}`, value: `order ${i}` })),
);
report();
