// What records are made of, said once: checked when they are sent, parsed when they are read, and typed.
//
//   npm run build:all && node build/examples/typed.js

import { Ottla, defineTopic } from 'ottla';
import { z } from 'zod'; // Or Valibot, ArkType: any Standard Schema.

const bookings = defineTopic('bookings', {
  partitions: 3,
  key: 'string',
  value: z.object({
    seat: z.string(),
    on: z.iso.date().transform((day) => new Date(day)),
    class: z.enum(['first', 'second']).default('second'),
  }),
  headers: z.object({ trace: z.string().optional() }),
});

await using ottla = Ottla.memory();
await ottla.topics.create(bookings);

const producer = ottla.producer();
await producer.send(bookings, {
  key: 'ann',
  value: { seat: '11a', on: '2027-05-01' },
  headers: { trace: 't1' },
});
await producer
  .send(bookings, { key: 'bob', value: { seat: '11b', on: 'tomorrow' } })
  .catch((error: TypeError) => console.log(error.message));
// By somebody who knows nothing of the definition.
await producer.send('bookings', { key: 'cyd', value: 'no msgpack' });

for await (const { key, value, headers } of ottla.read(bookings, { onInvalid: noteInvalid })) {
  // value: { seat: string; on: Date; class: 'first' | 'second' }
  console.log(`${key}: ${value.seat}, ${value.on.getUTCFullYear()}, ${value.class}`, headers);
}

function noteInvalid({
  topic,
  partition,
  offset,
}: {
  topic: string;
  partition: number;
  offset: number;
}) {
  console.log(`no booking: ${topic}-${partition}, offset ${offset}`);
}
