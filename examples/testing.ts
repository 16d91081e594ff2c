import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OttlaError, type Ottla } from 'ottla';
import { testOttla } from 'ottla/testing';

/** What is tested: an app that counts the visits of each page, and logs the counts every minute. */
async function countVisits(ottla: Ottla, every: (ms: number) => Promise<void>): Promise<void> {
  const counts = new Map<string, number>();
  const logging = ottla.producer();
  void (async () => {
    for (;;) {
      await every(60_000);
      await logging.send('counts', { value: JSON.stringify(Object.fromEntries(counts)) });
    }
  })();
  for await (const { key } of ottla.consumer({ group: 'counting', topics: ['visits'] })) {
    const page = String(key);
    counts.set(page, (counts.get(page) ?? 0) + 1);
  }
}

test('counts are logged after a minute', async (t) => {
  const { ottla, clock } = testOttla(t); // Closed when the test has ended.
  for (const topic of ['visits', 'counts']) await ottla.topics.create(topic);
  void countVisits(ottla, (ms) => clock.sleep(ms));

  const producer = ottla.producer();
  for (const key of ['/', '/docs', '/']) await producer.send('visits', { key, value: null });
  await ottla.idle(); // All that was sent has been processed, and committed.
  await clock.advance(60_000); // A minute passes at once.

  const logged = [];
  for await (const { value } of ottla.read('counts')) logged.push(String(value));
  assert.deepEqual(logged, ['{"/":2,"/docs":1}']);
});

test('a send is tried again when the disk was full', async (t) => {
  const { ottla, faults } = testOttla(t);
  await ottla.topics.create('visits');
  faults.fail('write', { topic: 'visits', code: 'ENOSPC' });

  const producer = ottla.producer();
  const send = () => producer.send('visits', { key: '/', value: null });
  const { offset } = await send().catch((error: unknown) => {
    if (error instanceof OttlaError && error.retriable) return send();
    throw error;
  });
  assert.equal(offset, 0);
});
