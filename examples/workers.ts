import { Ottla, defineTopic } from 'ottla';
import { Piscina } from 'piscina';

const limits = defineTopic('limits', { partitions: 4, key: 'string', value: 'json' });
const ottla = Ottla.memory();
await ottla.topics.create(limits);
const producer = ottla.producer();
for (let i = 1; i <= 12; i++) await producer.send(limits, { key: `k${i % 4}`, value: i * 10_000 });

const pool = new Piscina({ filename: new URL('workers-thread.js', import.meta.url).href });
const consumer = ottla.consumer({ group: 'primes', topics: [limits] });
const running = consumer.run({
  concurrency: { by: 'key', max: pool.options.maxThreads },
  eachRecord: async ({ key, value }, { signal }) => {
    const count = await pool.run(value, { signal });
    console.log(`${key}: ${count} primes`);
  },
});
await ottla.idle();
await consumer.stop();
await running;
await pool.destroy();
await ottla.close();
