// Goes back to a point in time: reads a stretch once more without a group, or sets a group back, which then handles
// all of it again.
//
//   npm run build:all && node build/examples/replay.js

import { Ottla, defineTopic } from 'ottla';

const payments = defineTopic('payments', { partitions: 3, key: 'string', value: 'json' });
await using ottla = Ottla.memory();
await ottla.topics.create(payments);

// One payment an hour, of a day in May.
const midnight = Date.UTC(2025, 4, 1);
const hourMs = 3_600_000;
const producer = ottla.producer();
for (let hour = 0; hour < 24; hour++) {
  const timestamp = midnight + hour * hourMs;
  await producer.send(payments, { key: `shop-${hour % 4}`, value: { cents: 100 }, timestamp });
}

let total = 0;
await book();
console.log(`booked ${total} cents`);

// Since noon something was wrong. What is there? Looking at it moves no group.
const noon = new Date(midnight + 12 * hourMs);
let count = 0;
for await (const { timestamp } of ottla.read(payments, { from: noon })) {
  if (timestamp < noon.getTime()) throw new Error('that was in the morning');
  count++;
}
console.log(`${count} payments since noon`);

// All of it again. A dry run says what it would do; the group must have no members meanwhile.
const moves = await ottla.groups.resetOffsets('booking', { to: noon, dryRun: true });
console.log(`the group goes back in ${moves.length} partitions`);
await ottla.groups.resetOffsets('booking', { to: noon });
total = 0;
await book();
console.log(`booked ${total} cents again`);

async function book(): Promise<void> {
  const consumer = ottla.consumer({ group: 'booking', topics: [payments] });
  const running = consumer.run({
    eachRecord: ({ value }) => void (total += (value as { readonly cents: number }).cents),
  });
  await ottla.idle();
  await consumer.stop();
  await running;
}
