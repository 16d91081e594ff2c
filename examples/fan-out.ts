// One topic, three groups: each gets every record, at its own pace, and knows how far it has come. The members of
// a group share the partitions.
//
//   npm run build:all && node build/examples/fan-out.js

import { Ottla, defineTopic } from 'ottla';

const signups = defineTopic('signups', { partitions: 6, key: 'string', value: 'json' });
await using ottla = Ottla.memory();
await ottla.topics.create(signups);

const counts = new Map<string, number>();
const groups = { mail: 3, search: 2, statistics: 1 };
for (const [group, memberCount] of Object.entries(groups)) {
  for (let member = 0; member < memberCount; member++) {
    const consumer = ottla.consumer({ group, topics: [signups], assignor: 'sticky' });
    void (async () => {
      for await (const { key } of consumer) {
        if (key !== null) counts.set(group, (counts.get(group) ?? 0) + 1);
      }
    })();
  }
}

const producer = ottla.producer();
await producer.sendBatch(
  signups,
  Array.from({ length: 1000 }, (_, i) => ({ key: `user-${i}`, value: { plan: 'free' } })),
);
await ottla.idle(); // All three have processed and committed all of it.
for (const group of Object.keys(groups)) console.log(`${group}: ${counts.get(group)}`);

// A group that comes later begins at the first record, and disturbs none.
let late = 0;
const auditing = ottla.consumer({ group: 'audit', topics: [signups] });
void auditing.run({ eachRecord: () => late++ });
await ottla.idle();
console.log(`audit, which came later: ${late}`);
