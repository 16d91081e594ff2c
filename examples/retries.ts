// What fails waits in a topic of its own, and holds up nothing; what fails for good is put aside.
//
//   npm run build:all && node build/examples/retries.js

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ottla, defineTopic } from 'ottla';

const mails = defineTopic('mails', { partitions: 3, key: 'string', value: 'json' });
const directory = mkdtempSync(join(tmpdir(), 'ottla-retries-'));
const ottla = await Ottla.open(directory);
await ottla.topics.create(mails);
for (const topic of ['mails.retry', 'mails.failed']) await ottla.topics.create(topic);

const producer = ottla.producer();
for (const [key, subject] of [
  ['ann', 'welcome'],
  ['nobody', 'welcome'],
  ['ann', 'your order'],
] as const) {
  await producer.send(mails, { key, value: { subject } });
}

let isServerUp = false;
const consumer = ottla.consumer({ group: 'mailing', topics: [mails] });
const running = consumer.run({
  concurrency: { by: 'key', max: 16 },
  retry: {
    attempts: 4,
    backoff: (failures) => 100 * 4 ** failures, // In an app rather minutes, or hours.
    topic: 'mails.retry', // Waits here: the next mails do not wait for it.
    retryable: (error) => !(error instanceof RangeError),
    deadLetter: 'mails.failed',
  },
  eachRecord: async ({ key, value }, { attempt }) => {
    await mail(key, value);
    console.log(`attempt ${attempt}: mailed to ${key}`, value);
  },
});

setTimeout(() => (isServerUp = true), 200);
await ottla.idle();
for await (const { key, headers } of ottla.read('mails.failed')) {
  const [, why] = headers.find(([name]) => name === 'ottla.dlq.error')!;
  console.log(`not mailed to ${String(key)}: ${String(why)}`);
}
await consumer.stop();
await running;
await ottla.close();
rmSync(directory, { recursive: true });

/** The server is down at first. */
async function mail(to: string | null, _mail: unknown): Promise<void> {
  if (to === 'nobody') throw new RangeError('there is no such address');
  if (!isServerUp) throw new Error('the server does not answer');
}
