// A service that ends in order: on SIGTERM, as of Docker, Kubernetes or systemd, it begins nothing more, finishes
// what is at work, commits, leaves its group, closes.
//
//   npm run build:all && node build/examples/service.js ./data

import { once } from 'node:events';
import { Ottla, defineTopic } from 'ottla';

const jobs = defineTopic('jobs', { partitions: 4, key: 'string', value: 'json' });
const ending = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ending.abort());

await using ottla = await Ottla.open(process.argv[2] ?? './data'); // Closed at the end, however that comes.
await ottla.topics.create(jobs);

await using consumer = ottla.consumer({ group: 'workers', topics: [jobs] });
const running = consumer.run({
  concurrency: { by: 'key', max: 16 },
  eachRecord: async ({ key, value }, { signal }) => {
    console.log(`${key} begins`);
    await work(value, signal);
    console.log(`${key} is done`);
  },
});
await consumer.ready();
console.log('ready');
// A job that fails for good makes this reject: the process ends with its error, closed in order all the same.
await Promise.race([running, once(ending.signal, 'abort')]);
// Who is at work longer than this is told by its signal, and its job comes again at the next start.
await consumer.stop({ timeoutMs: 10_000 });
await running;
console.log('ended in order');

async function work(job: unknown, signal: AbortSignal): Promise<void> {
  const { ms } = job as { readonly ms: number };
  await new Promise((resolve) => setTimeout(resolve, ms));
  signal.throwIfAborted();
}
