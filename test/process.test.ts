import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { compileSource, startChild, type CompiledSource } from './child-process.js';
import { closedAfterEach, collect } from './contract.js';

const endless = 2 ** 31 - 1;
let source: CompiledSource;
let place: string;
let directory: string;

beforeAll(() => {
  source = compileSource();
});
afterAll(() => source.remove());
const opened = closedAfterEach();
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'ottla-process-'));
  directory = join(place, 'data');
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

interface Ended {
  readonly code: number | NodeJS.Signals | null;
  readonly stderr: string;
}

/** Runs a module, with `ottla` open and topic `orders` in it, until it ends by itself. */
async function run(how: 'memory' | 'directory', module: string): Promise<Ended> {
  const open =
    how === 'memory' ? 'Ottla.memory()' : `await Ottla.open(${JSON.stringify(directory)})`;
  const child = startChild(
    source,
    `import { Ottla } from './dist/index.js';
     const ottla = ${open};
     await ottla.topics.create('orders');
     ${module}`,
  );
  return { code: await child.ended(), stderr: child.stderr() };
}

async function storedValues(): Promise<string[]> {
  const ottla = opened(await Ottla.open(directory));
  const records = await collect(ottla.read('orders'));
  return records.map(({ value }) => String(value));
}

describe.each(['memory', 'directory'] as const)('a process with an Ottla (%s)', (how) => {
  it('ends by itself after readings that were broken off, though nothing is closed', async () => {
    const ended = await run(
      how,
      `await ottla.producer().sendBatch('orders', Array(20_000).fill({ value: 'v'.repeat(100) }));
       for (const until of ['end', 'never']) {
         for await (const record of ottla.read('orders', { until })) if (record.offset === 700) break;
         for await (const batch of ottla.read('orders', { until }).batches()) break;
       }
       const controller = new AbortController();
       const { signal } = controller;
       for await (const record of ottla.read('orders', { until: 'never', signal })) {
         if (record.offset === 19_999) setImmediate(() => controller.abort());
       }`,
    );
    expect(ended).toEqual({ code: 0, stderr: '' });
  });

  it('goes on while a reading waits for records, or a batch lingers', async () => {
    const ended = await run(
      how,
      `const producer = ottla.producer({ lingerMs: 20 });
       setTimeout(() => producer.send('orders', { value: 'v' }), 20).unref();
       for await (const record of ottla.read('orders', { until: 'never' })) break;
       producer.send('orders', { value: 'v' }).then(() => {
         process.exitCode = 5;
       });`,
    );
    expect(ended).toEqual({ code: 5, stderr: '' });
  });
});

describe('f33 a process that ends', () => {
  const unwritten = `
    const producer = ottla.producer({ acks: 0, lingerMs: ${endless} });
    for (let i = 0; i < 100; i++) void producer.send('orders', { value: String(i) });`;
  const values = Array.from({ length: 100 }, (_, i) => String(i));

  it.each([
    ['by process.exit', 'process.exit(3);', 3],
    ['by an error nobody catches', "setImmediate(() => { throw new Error('oh'); });", 1],
  ])('%s has written what it took over', async (_, end, expectedCode) => {
    const { code } = await run('directory', unwritten + end);
    expect(code).toBe(expectedCode);
    expect(await storedValues()).toEqual(values);
  });

  it('lets go of its directory, closed or not', async () => {
    for (const end of ['', 'await ottla.close();']) {
      const sent = `await ottla.producer().send('orders', { value: 'v' }); ${end}`;
      expect(await run('directory', sent)).toEqual({ code: 0, stderr: '' });
    }
    expect(await storedValues()).toEqual(['v', 'v']);
  });

  it('has warned of the sends that failed and that nobody awaited', async () => {
    const { code, stderr } = await run(
      'memory',
      `const producer = ottla.producer();
       void producer.send('nowhere', { value: 'v' });
       void producer.send('orders', { value: 7 });
       void producer.sendBatch('orders', 7);
       await producer.send('orders', { value: 'good' });`,
    );
    expect(code).toBe(0);
    expect(stderr.match(/OttlaError: .+/g)).toEqual([
      expect.stringContaining('there is no topic "nowhere"'),
      expect.stringContaining('got 7'),
      expect.stringContaining('got 7'),
    ]);
  });

  it('by a kill keeps what was acknowledged', async () => {
    const { code } = await run(
      'directory',
      `const producer = ottla.producer({ acks: 1 });
       for (let i = 0; i < 100; i++) await producer.send('orders', { value: String(i) });
       process.kill(process.pid, 'SIGKILL');
       await new Promise(() => setInterval(() => undefined, 1000));`,
    );
    expect(code === 0).toBe(false);
    expect(await storedValues()).toEqual(values);
  });
});

describe.runIf(process.platform === 'linux')('f35 a file system that makes no directories', () => {
  it('fails an opening, at once and typed', async () => {
    const child = startChild(
      source,
      `import { Ottla } from './dist/index.js';
       const failed = await Ottla.open('/proc/ottla/data').catch((error) => error);
       process.send([failed.name, failed.code, failed.cause.code]);`,
    );
    expect(await child.next()).toEqual(['OttlaError', 'KAFKA_STORAGE_ERROR', 'ENOENT']);
    await child.ended();
  });
});

/** Ends at once, with exit code 9, if a rejection is left unhandled. */
const strict = `
  process.on('unhandledRejection', (error) => {
    console.error('unhandled', error);
    process.exit(9);
  });
  const hostile = [
    null,
    undefined,
    0,
    Symbol('s'),
    Object.create(null),
    { then: (resolve) => resolve() },
    { get then() { throw new Error('then'); } },
    ['stack', 'message'].reduce(
      (error, name) => Object.defineProperty(error, name, { get() { throw new Error(name); } }),
      new Error(),
    ),
    Object.assign(new Error('cyclic'), { self: this }),
    new Proxy({}, { get() { throw new Error('trap'); }, getPrototypeOf() { throw new Error('trap'); } }),
  ];`;

describe('a process in which code of the user throws whatever it likes', () => {
  it.each(['memory', 'directory'] as const)(
    'in handlers, has no unhandled rejection, and ends by itself (%s)',
    async (how) => {
      const ended = await run(
        how,
        `${strict}
         for (const topic of ['retry', 'dlq']) await ottla.topics.create(topic);
         await ottla.producer().sendBatch('orders', Array(20).fill({ value: 'v' }));
         const ways = [
           (thrown) => { throw thrown; },
           async (thrown) => { throw thrown; },
           (thrown) => ({ then: (_resolve, reject) => reject(thrown) }),
           (thrown) => ({ get then() { throw thrown; } }),
         ];
         let number = 0;
         for (const thrown of hostile) {
           for (const way of ways) {
             for (const retry of [
               { attempts: 2, backoff: () => 0 },
               { attempts: 2, backoff: () => 0, topic: 'retry', deadLetter: 'dlq' },
               { attempts: 2, retryable: () => { throw thrown; }, deadLetter: 'dlq' },
               { attempts: 2, backoff: () => { throw thrown; } },
             ]) {
               const group = 'g' + number++;
               const consumer = ottla.consumer({ group, topics: ['orders'] });
               const run = consumer.run({ eachRecord: () => way(thrown), retry }).then(
                 () => 'stopped',
                 () => 'failed',
               );
               if (retry.topic === undefined && retry.retryable === undefined) {
                 if ((await run) !== 'failed') throw new Error('it goes on');
               } else await Promise.race([run, ottla.idle({ groups: [group] })]);
               await consumer.stop();
             }
           }
         }`,
      );
      expect(ended).toEqual({ code: 0, stderr: '' });
    },
    120_000,
  );

  it('in hooks, codecs, listeners and the like, has no unhandled rejection', async () => {
    const { code, stderr } = await run(
      'memory',
      `${strict}
       const { defineTopic } = await import('./dist/index.js');
       const errors = [];
       for (const thrown of hostile) {
         const fail = () => { throw thrown; };
         ottla.on('error', fail).on('error', () => errors.push(1)).on('error', async () => fail());
         const codec = defineTopic('orders', { value: { encode: fail, decode: fail } });
         const producer = ottla.producer({ partitioner: fail });
         void producer.send('orders', { value: 'v' });
         void ottla.producer().send(codec, { value: 'v' });
         void ottla.producer().sendBatch('orders', (function* () { throw thrown; })());
         await ottla.producer().send('orders', { value: 'v' });
         for (const onInvalid of [fail, 'fail', 'skip']) {
           const consumer = ottla.consumer({ group: 'g' + errors.length + onInvalid, topics: [codec], onInvalid,
             onAssigned: fail, onRevoked: fail, onLost: fail });
           const run = consumer.run({ eachRecord: fail }).catch(() => 'failed');
           await consumer.ready();
           await new Promise((resolve) => setTimeout(resolve, 1));
           await consumer.stop();
           await run;
         }
         const own = ottla.consumer({ group: 'own', topics: ['orders'], assignor: { name: 'own', assign: fail } });
         await own.ready().catch(() => 'failed');
         await own.close().catch(() => 'failed');
       }
       if (errors.length === 0) throw new Error('nothing was told');`,
    );
    expect([code, stderr.match(/unhandled.*/)?.[0]]).toEqual([0, undefined]);
  }, 120_000);
});

describe('a process whose consumer has stopped', () => {
  it.each(['memory', 'directory'] as const)(
    'ends by itself, whatever waited for its time (%s)',
    async (how) => {
      const ended = await run(
        how,
        `await ottla.topics.create('retry');
         await ottla.producer().sendBatch('orders', Array(20).fill({ value: 'v' }));
         const fail = () => { throw new Error('no'); };
         for (const retry of [
           { attempts: 2, backoff: () => ${endless} },
           { attempts: 2, backoff: () => ${endless}, topic: 'retry' },
         ]) {
           const consumer = ottla.consumer({ group: 'g', topics: ['orders'] });
           let calls = 0;
           const run = consumer.run({
             eachRecord: () => { calls++; fail(); },
             retry,
             concurrency: { by: 'key', max: 100 },
             rateLimit: { records: 10, perMs: 60_000 },
           });
           while (calls < 10) await new Promise((resolve) => setTimeout(resolve, 1));
           await consumer.stop({ timeoutMs: 60_000 });
           await run;
         }`,
      );
      expect(ended).toEqual({ code: 0, stderr: '' });
    },
  );
});

describe('f14 a process short of memory', () => {
  /** The heap of the child, in MiB: a fifth of what is written and read. */
  const heapMiB = 64;

  const runShort = (module: string): ReturnType<typeof startChild> =>
    startChild(
      source,
      `import { Ottla } from './dist/index.js';
       const ottla = await Ottla.open(${JSON.stringify(directory)});
       const value = 'v'.repeat(100_000);
       ${module}`,
      `export NODE_OPTIONS=--max-old-space-size=${heapMiB}`,
    );

  it.skipIf(process.platform === 'win32')(
    'lets who sends wait and who reads slowly read on, in bounded memory',
    async () => {
      const count = 3500;
      const child = runShort(
        `const kibibytes = process.resourceUsage().maxRSS;
         await ottla.topics.create('orders', { partitions: 200, segmentBytes: 16 * 2 ** 20 });
         const producer = ottla.producer({ acks: 1, bufferMemory: 4 * 2 ** 20 });
         const consumer = ottla.consumer({ group: 'slow', topics: ['orders'] });
         const sends = Array.from({ length: ${count} }, () => producer.send('orders', { value }));
         let read = 0;
         for await (const batch of consumer.batches()) {
           read += batch.records.length;
           await new Promise((resolve) => setImmediate(resolve));
           if (read === ${count}) break;
         }
         await Promise.all(sends);
         await ottla.close();
         process.send((process.resourceUsage().maxRSS - kibibytes) / 1024);`,
      );
      const grownMiB = await child.next();
      expect(await child.ended()).toBe(0);
      // Most of it is what was read, until it is collected.
      expect(grownMiB).toBeLessThan(5 * heapMiB);
    },
    120_000,
  );

  it.skipIf(process.platform === 'win32')(
    'that ends for want of it has lost nothing it acknowledged',
    async () => {
      const child = runShort(
        `await ottla.topics.create('orders');
         const producer = ottla.producer({ acks: 1 });
         const hog = [];
         for (let number = 0; ; number++) {
           await producer.send('orders', { value: String(number) });
           process.send(number);
           hog.push(Array.from({ length: 20_000 }, () => ({ number })));
         }`,
      );
      const acknowledged: unknown[] = [];
      child.process.on('message', (number) => acknowledged.push(number));
      expect(await child.ended()).not.toBe(0);
      const stored = (await storedValues()).map(Number);
      expect(acknowledged.length).toBeGreaterThan(0);
      expect(stored).toEqual(stored.map((_, i) => i));
      expect(stored.slice(0, acknowledged.length)).toEqual(acknowledged);
    },
    120_000,
  );
});

describe('f17 an Ottla that is handed to a worker, or forked', () => {
  it('can be used by its owner alone: others are LOCKED out, and its log goes on', async () => {
    const ottla = opened(await Ottla.open(directory));
    await ottla.topics.create('orders');
    await ottla.producer().send('orders', { value: 'before' });
    const module = `
      import { Ottla } from ${JSON.stringify(pathToFileURL(join(source.directory, 'dist', 'index.js')).href)};
      const code = await Ottla.open(${JSON.stringify(directory)}).then(() => 'opened', (error) => error.code);`;
    const worker = new Worker(
      new URL(
        `data:text/javascript,${encodeURIComponent(`
          import { parentPort, workerData } from 'node:worker_threads';
          ${module}
          parentPort.postMessage([typeof workerData.producer, code]);`)}`,
      ),
      { workerData: ottla },
    );
    // What arrives there is a copy of its data, on which nothing can be called.
    expect(await once(worker, 'message')).toEqual([['undefined', 'LOCKED']]);
    await worker.terminate();
    const child = startChild(source, `${module} process.send(code);`);
    expect(await child.next()).toBe('LOCKED');
    expect(await child.ended()).toBe(0);
    await ottla.producer().send('orders', { value: 'behind' });
    await ottla.close();
    expect(await storedValues()).toEqual(['before', 'behind']);
  });
});
