// What belongs to one user is handled one after the other, in order; what belongs to others at the same time.
//
//   npm run build:all && node build/examples/per-user.js

import { setTimeout as sleep } from 'node:timers/promises';
import { Ottla, defineTopic } from 'ottla';

const actions = defineTopic('actions', { partitions: 2, key: 'string', value: 'json' });
await using ottla = Ottla.memory();
await ottla.topics.create(actions);

const users = ['ann', 'bob', 'cyd', 'dan'];
const producer = ottla.producer();
for (let step = 1; step <= 5; step++) {
  for (const key of users) await producer.send(actions, { key, value: { step } });
}

const steps = new Map<string, number[]>();
let atWork = 0;
let most = 0;
const consumer = ottla.consumer({ group: 'applying', topics: [actions] });
const running = consumer.run({
  concurrency: { by: 'key', max: 16 }, // The key is the user.
  eachRecord: async ({ key, value }) => {
    most = Math.max(most, ++atWork);
    await sleep(Math.random() * 10); // Some are fast, some are slow.
    const { step } = value as { readonly step: number };
    steps.set(key!, [...(steps.get(key!) ?? []), step]);
    atWork--;
  },
});
await ottla.idle();
await consumer.stop();
await running;
for (const user of users) console.log(`${user}: ${steps.get(user)?.join(' ')}`);
console.log(`up to ${most} at once`);
