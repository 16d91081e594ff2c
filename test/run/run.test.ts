import { describe, expect, it } from 'vitest';
import {
  defineTopic,
  type ConsumerOptions,
  type Ottla,
  type RetryOptions,
  type RunOptions,
  type Subscribable,
} from '../../src/index.js';
import { Gate, testOttla, type TestContext } from '../../src/testing/index.js';
import { committed, numbers, send, takeValues } from '../consuming.js';
import { collect, failureOf } from '../contract.js';

const group = { group: 'g', topics: ['orders'] } as const;

async function begin(test: TestContext, partitions = 1) {
  const made = testOttla(test);
  await made.ottla.topics.create('orders', { partitions });
  return made;
}

/** A consumer that is running; `done` tells how the run ended. */
function running(ottla: Ottla, options: RunOptions<'orders'>, more: Partial<ConsumerOptions> = {}) {
  const consumer = ottla.consumer({ ...more, ...group });
  const run = consumer.run(options);
  const done = run.then(
    () => 'stopped',
    (error: unknown) => error,
  );
  return { consumer, done };
}

describe('run', () => {
  it('calls the handler for each record, in order, commits, and ends with stop()', async (test) => {
    const { ottla } = await begin(test, 2);
    const seen: string[] = [];
    const { consumer, done } = running(ottla, {
      eachRecord: ({ partition, value }) => void seen.push(`${partition}:${String(value)}`),
    });
    await send(ottla, 'orders', numbers(3), 0);
    await send(ottla, 'orders', numbers(2), 1);
    await ottla.idle();
    expect(seen.filter((at) => at.startsWith('0'))).toEqual(['0:0', '0:1', '0:2']);
    expect(seen.filter((at) => at.startsWith('1'))).toEqual(['1:0', '1:1']);
    await consumer.stop();
    expect(await done).toBe('stopped');
    expect(await committed(ottla, 'g', 'orders')).toEqual([3, 2]);
    expect((await ottla.groups.describe('g')).members).toEqual([]);
  });

  it('calls it for batches of one partition', async (test) => {
    const { ottla } = await begin(test, 2);
    await send(ottla, 'orders', numbers(5), 0);
    await send(ottla, 'orders', numbers(2), 1);
    const seen: [number, number, number][] = [];
    running(
      ottla,
      {
        eachBatch: ({ partition, baseOffset, nextOffset, records }) => {
          expect(records).toHaveLength(nextOffset - baseOffset);
          seen.push([partition, baseOffset, nextOffset]);
        },
      },
      { maxPollRecords: 3 },
    );
    await ottla.idle();
    expect(seen.filter(([partition]) => partition === 0)).toEqual([
      [0, 0, 3],
      [0, 3, 5],
    ]);
    expect(seen.filter(([partition]) => partition === 1)).toEqual([[1, 0, 2]]);
  });

  it('commits what is finished when it is stopped, and waits for what is at work', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(3));
    const gate = new Gate();
    gate.close();
    const { consumer, done } = running(ottla, { eachRecord: () => gate.pass() });
    await gate.arrived();
    gate.letThrough();
    await gate.arrived();
    const stopped = consumer.stop();
    gate.open();
    await stopped;
    expect(await done).toBe('stopped');
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
  });

  it('waits no longer than it is told for what is at work, and aborts its signal', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const gate = new Gate();
    gate.close();
    let signal: AbortSignal | undefined;
    const { consumer, done } = running(ottla, {
      eachRecord: async (_record, context) => {
        ({ signal } = context);
        await gate.pass();
      },
    });
    await gate.arrived();
    const stopped = consumer.stop({ timeoutMs: 5000 });
    await clock.advance(4999);
    expect(signal?.aborted).toBe(false);
    await clock.advance(1);
    await stopped;
    expect([await done, signal?.aborted]).toEqual(['stopped', true]);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    gate.open();
  });

  it('ends with its signal, and the consumer goes on where it left off', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(10));
    const controller = new AbortController();
    const seen: string[] = [];
    const { consumer, done } = running(ottla, {
      eachRecord: ({ value }) => {
        seen.push(String(value));
        if (seen.length === 4) controller.abort();
      },
      signal: controller.signal,
    });
    expect(await done).toBe('stopped');
    expect(seen).toEqual(numbers(4));
    expect(await takeValues(consumer, 2)).toEqual(['4', '5']);
    await consumer.close();
    expect(await failureOf(() => consumer.run({ eachRecord: () => 0 }))).toMatchObject({
      code: 'CLOSED',
    });
  });

  it('skips nothing, in whatever moment it is stopped', async () => {
    for (let moments = 0; moments < 80; moments++) {
      const finish: (() => Promise<void>)[] = [];
      const { ottla } = await begin({ after: (last) => finish.push(last) });
      const controller = new AbortController();
      const seen: string[] = [];
      const { consumer, done } = running(ottla, {
        eachRecord: ({ value }) => void seen.push(String(value)),
        signal: controller.signal,
      });
      await consumer.ready();
      const sent = send(ottla, 'orders', numbers(3));
      for (let moment = 0; moment < moments; moment++) await Promise.resolve();
      controller.abort();
      expect(await done).toBe('stopped');
      await sent;
      if (seen.length < 3) seen.push(...(await takeValues(consumer, 3 - seen.length)));
      expect(seen).toEqual(numbers(3));
      for (const last of finish) await last();
    }
  });

  it('does not begin with a signal that is aborted already', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const { done } = running(ottla, {
      eachRecord: () => expect.unreachable(),
      signal: AbortSignal.abort(),
    });
    expect(await done).toBe('stopped');
  });

  it('ends with close(), which does not wait for what is at work', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const gate = new Gate();
    gate.close();
    const { consumer, done } = running(ottla, { eachRecord: () => gate.pass() });
    await gate.arrived();
    await consumer.close();
    expect(await done).toBe('stopped');
    gate.open();
  });

  it('reads partitions without a group too, and commits nothing then', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const consumer = ottla.consumer({});
    consumer.assign([{ topic: 'orders', partition: 0 }]);
    const seen: string[] = [];
    const ended = new Promise<void>((resolve) => {
      void consumer.run({
        eachRecord: ({ value }) => {
          seen.push(String(value));
          if (seen.length === 2) resolve();
        },
      });
    });
    await ended;
    await consumer.stop();
    expect(seen).toEqual(['0', '1']);
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('refuses what it cannot do', async (test) => {
    const { ottla } = await begin(test);
    const eachRecord = (): void => undefined;
    const refused: [unknown, string][] = [
      [undefined, 'expected eachRecord or eachBatch'],
      [{}, 'expected eachRecord or eachBatch'],
      [{ eachRecord, eachBatch: eachRecord }, 'not both'],
      [{ eachRecord: 1 }, 'eachRecord must be a function'],
      [{ eachRecord, concurrency: { by: 'topic', max: 1 } }, "by must be 'partition' or 'key'"],
      [{ eachRecord, concurrency: { by: 'key', max: 0 } }, 'max must be'],
      [{ eachRecord, concurrency: { by: 'key', max: 1, min: 1 } }, 'unknown option'],
      [{ eachBatch: eachRecord, concurrency: { by: 'key', max: 1 } }, "by 'partition'"],
      [{ eachRecord, retry: { attempts: 0 } }, 'attempts must be'],
      [{ eachRecord, retry: { backoff: 'linear' } }, 'backoff must be'],
      [{ eachRecord, retry: { tries: 1 } }, 'unknown option'],
      [{ eachRecord, rateLimit: { records: 0, perMs: 1 } }, 'records must be'],
      [{ eachRecord, rateLimit: { records: 1 } }, 'perMs must be'],
      [{ eachRecord, signal: 1 }, 'signal must be'],
      [{ eachRecord, other: 1 }, 'unknown option'],
    ];
    for (const [options, message] of refused) {
      const consumer = ottla.consumer(group);
      const failure = await failureOf(() => consumer.run(options as RunOptions<'orders'>));
      expect(failure.name).toMatch(/^(Type|Range)Error$/);
      expect(failure.message).toContain(message);
    }
    const byHand = ottla.consumer({ ...group, autoCommit: false });
    expect(await failureOf(() => byHand.run({ eachRecord }))).toBeInstanceOf(TypeError);
    const noTopic = { eachRecord, retry: { deadLetter: 'nowhere' } };
    expect(await failureOf(() => ottla.consumer(group).run(noTopic))).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
  });

  it('refuses to share its consumer, and commits by hand', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const failures: Error[] = [];
    const { consumer } = running(ottla, {
      eachRecord: async (record) => {
        failures.push(await failureOf(() => record.commit()));
      },
    });
    await ottla.idle();
    failures.push(
      await failureOf(() => consumer.commit()),
      await failureOf(() => consumer.run({ eachRecord: () => 0 })),
      await failureOf(() => consumer[Symbol.asyncIterator]()),
      await failureOf(() => consumer.batches()),
    );
    expect(failures.map(({ name }) => name)).toEqual(failures.map(() => 'TypeError'));
    const iterated = ottla.consumer({ ...group, group: 'h' });
    const iterator = iterated[Symbol.asyncIterator]();
    const whileIterated = failureOf(() => iterated.run({ eachRecord: () => 0 }));
    expect(await whileIterated).toBeInstanceOf(TypeError);
    await iterator.return(undefined);
  });
});

describe('concurrency', () => {
  it.each([1, 2, 4])('has %i handlers at work at the most', async (max) => {
    const { ottla } = await begin({ after: () => undefined }, 4);
    for (const partition of [0, 1, 2, 3]) await send(ottla, 'orders', numbers(5), partition);
    const gate = new Gate();
    gate.close();
    running(ottla, { eachRecord: () => gate.pass(), concurrency: { by: 'partition', max } });
    await gate.arrived(max);
    expect(gate.waitingCount).toBe(max);
    for (let i = 0; i < 20; i++) {
      await gate.arrived(Math.min(max, 20 - i > 4 ? max : 1));
      expect(gate.waitingCount).toBeLessThanOrEqual(max);
      gate.letThrough();
    }
    await ottla.idle();
    await ottla.close();
  });

  it('by key keeps the order of a key, and lets others pass', async (test) => {
    const { ottla, clock } = await begin(test);
    const producer = ottla.producer();
    const keys = ['a', 'a', 'b', 'a', 'c', null, null, 'b'];
    await producer.sendBatch(
      'orders',
      keys.map((key, i) => ({ key, value: String(i) })),
    );
    const gate = new Gate();
    gate.close();
    const begun: string[] = [];
    const ended: string[] = [];
    running(ottla, {
      eachRecord: async ({ key, value }) => {
        begun.push(String(value));
        if (String(key) === 'a') await gate.pass();
        ended.push(String(value));
      },
      concurrency: { by: 'key', max: 10 },
    });
    await gate.arrived();
    await clock.settle();
    expect(begun.toSorted()).toEqual(['0', '2', '4', '5', '6', '7']);
    expect(ended.toSorted()).toEqual(['2', '4', '5', '6', '7']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    gate.open();
    await ottla.idle();
    expect(ended.filter((value) => ['0', '1', '3'].includes(value))).toEqual(['0', '1', '3']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([8]);
  });

  it('remembers over a restart what was finished beyond the commit', async (test) => {
    const { ottla, clock } = await begin(test);
    const producer = ottla.producer();
    const keys = ['a', 'b', 'b', 'c', 'a', 'd'];
    await producer.sendBatch(
      'orders',
      keys.map((key, i) => ({ key, value: String(i) })),
    );
    const gate = new Gate();
    gate.close();
    const first = running(ottla, {
      eachRecord: async ({ key }) => {
        if (String(key) === 'a') await gate.pass();
      },
      concurrency: { by: 'key', max: 10 },
    });
    await gate.arrived();
    await clock.advance(100);
    await first.consumer.close();
    gate.open();
    const seen: string[] = [];
    running(ottla, { eachRecord: ({ value }) => void seen.push(String(value)) });
    await ottla.idle();
    expect(seen).toEqual(['0', '4']);
  });

  it('takes no more over than it can use, however slow the handlers are', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(100));
    const gate = new Gate();
    gate.close();
    const { consumer } = running(
      ottla,
      { eachRecord: () => gate.pass(), concurrency: { by: 'partition', max: 2 } },
      { maxPollRecords: 10 },
    );
    await gate.arrived();
    await clock.settle();
    expect(consumer.position({ topic: 'orders', partition: 0 })).toBe(10);
    gate.open();
    await ottla.idle();
  });

  it('is bounded in time by a rate limit', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(10));
    const seen: string[] = [];
    running(ottla, {
      eachRecord: ({ value }) => void seen.push(String(value)),
      concurrency: { by: 'key', max: 100 },
      rateLimit: { records: 2, perMs: 1000 },
    });
    const counts = [];
    for (const ms of [0, 1000, 2000]) {
      await clock.advance(ms);
      counts.push(seen.length);
    }
    expect(counts).toEqual([2, 4, 8]);
  });

  it('a rate does not hold up stop(): what it made wait never begins', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(8));
    const seen: string[] = [];
    const { consumer, done } = running(ottla, {
      eachRecord: ({ value }) => void seen.push(String(value)),
      concurrency: { by: 'key', max: 100 },
      rateLimit: { records: 2, perMs: 1000 },
    });
    await clock.advance(0);
    await consumer.stop();
    await done;
    expect(seen).toHaveLength(2);
  });
});

const thrown: [string, () => unknown][] = [
  ['null', () => null],
  ['undefined', () => undefined],
  ['a symbol', () => Symbol('s')],
  ['an object without a prototype', () => Object.create(null) as unknown],
  // oxlint-disable-next-line no-thenable
  ['a thenable', () => ({ then: (resolve: () => void) => resolve() })],
  ['a rejected promise', () => handled(Promise.reject(new Error('inside')))],
  [
    'an error whose message and stack cannot be read',
    () => {
      const get = (): never => {
        throw new Error('no message');
      };
      return Object.defineProperties(new Error(), { message: { get }, stack: { get } });
    },
  ],
  [
    'a revoked proxy',
    () => {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      return proxy;
    },
  ],
];

function handled(promise: Promise<unknown>): Promise<unknown> {
  promise.catch(() => undefined);
  return promise;
}

describe('a handler that fails', () => {
  it('ends the run with its error; what was finished is committed, the record comes again', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(5));
    const cause = new Error('no');
    const { consumer, done } = running(ottla, {
      eachRecord: ({ offset }) => {
        if (offset === 2) throw cause;
      },
    });
    expect(await done).toBe(cause);
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    expect(await takeValues(consumer, 1)).toEqual(['2']);
  });

  it('is called again after a backoff, as often as told, and holds up what must keep its order', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    await send(ottla, 'orders', numbers(2), 0);
    await send(ottla, 'orders', numbers(1), 1);
    const calls: [number, number, number, number][] = [];
    running(ottla, {
      eachRecord: ({ partition, offset }, { attempt }) => {
        calls.push([clock.monotonic(), partition, offset, attempt]);
        if (partition === 0 && attempt < 3) throw new Error('not yet');
      },
      concurrency: { by: 'partition', max: 1 },
      retry: { attempts: 3, backoff: (failures) => failures * 1000 },
    });
    await clock.advance(10_000);
    expect(calls.filter(([, partition]) => partition === 0)).toEqual([
      [0, 0, 0, 1],
      [1000, 0, 0, 2],
      [3000, 0, 0, 3],
      [3000, 0, 1, 1],
      [4000, 0, 1, 2],
      [6000, 0, 1, 3],
    ]);
    // The other partition does not wait, though only one handler is at work at a time.
    expect(calls.find(([, partition]) => partition === 1)).toEqual([0, 1, 0, 1]);
    expect(await committed(ottla, 'g', 'orders')).toEqual([2, 1]);
  });

  it('is not called again for an error that is not worth it', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const fatal = new TypeError('never');
    let calls = 0;
    const { done } = running(ottla, {
      eachRecord: () => {
        calls++;
        throw fatal;
      },
      retry: { attempts: 5, retryable: (error) => !(error instanceof TypeError) },
    });
    expect(await done).toBe(fatal);
    expect(calls).toBe(1);
  });

  it('does not hold up stop() by its backoff', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const { consumer, done } = running(ottla, {
      eachRecord: () => Promise.reject(new Error('not yet')),
      retry: { attempts: 5, backoff: () => 60_000 },
    });
    await clock.settle();
    await consumer.stop();
    expect([await done, clock.monotonic()]).toEqual(['stopped', 0]);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });

  it('ends the wait of idle(), unless somebody awaits the run; the next run is waited for', async (test) => {
    const { ottla, clock, errors } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const cause = new Error('no');
    let fails = true;
    const eachRecord = (): void => {
      if (fails) throw cause;
    };
    const consumer = ottla.consumer(group);
    const idle = ottla.idle();
    const unheard = consumer.run({ eachRecord });
    const later = failureOf(() => idle.then(() => ottla.idle()));
    expect(await later).toMatchObject({ code: 'UNKNOWN_SERVER_ERROR', cause });
    expect(await failureOf(() => ottla.idle())).toBe(errors[0]);
    expect(await failureOf(() => unheard)).toBe(cause);

    const controller = new AbortController();
    const aborted = failureOf(() => ottla.idle({ signal: controller.signal }));
    expect(await failureOf(() => consumer.run({ eachRecord }))).toBe(cause);
    await clock.settle();
    controller.abort();
    expect(await aborted).toMatchObject({ code: 'ABORTED' });
    fails = false;
    const again = consumer.run({ eachRecord });
    await clock.runUntil(ottla.idle());
    await consumer.stop();
    await again;
    expect(errors).toHaveLength(1);
  });

  it('is told by an event where nobody awaits the run', async (test) => {
    const { ottla, clock, errors } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const cause = new Error('no');
    const consumer = ottla.consumer(group);
    const run = consumer.run({ eachRecord: () => Promise.reject(cause) });
    await clock.settle();
    expect(errors).toMatchObject([{ code: 'UNKNOWN_SERVER_ERROR', cause }]);
    await expect(run).rejects.toBe(cause);
    await expect(consumer.run({ eachRecord: () => Promise.reject(cause) })).rejects.toBe(cause);
    expect(errors).toHaveLength(1);
  });

  it.each([NaN, -1, Infinity, '1', undefined])(
    'ends the run if backoff returns %s',
    async (backoff) => {
      const { ottla } = await begin({ after: () => undefined });
      await send(ottla, 'orders', numbers(1));
      const { done } = running(ottla, {
        eachRecord: () => Promise.reject(new Error('no')),
        retry: { attempts: 5, backoff: () => backoff as number },
      });
      expect(await done).toBeInstanceOf(RangeError);
      await ottla.close();
    },
  );

  it.each(thrown)('may throw %s', async (_name, make) => {
    const { ottla, errors } = await begin({ after: () => undefined });
    await ottla.topics.create('orders.dlq');
    await send(ottla, 'orders', numbers(2));
    const first = ottla.consumer(group);
    const eachRecord = (): never => {
      throw make();
    };
    const hasFailed = first.run({ eachRecord }).then(
      () => false,
      () => true,
    );
    expect(await hasFailed).toBe(true);
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
    await first.close();
    running(ottla, {
      eachRecord: () => Promise.reject(make()),
      retry: { attempts: 2, backoff: () => 0, deadLetter: 'orders.dlq' },
    });
    await ottla.idle();
    const letters = await collect(ottla.read('orders.dlq'));
    expect(letters.map(({ value }) => String(value))).toEqual(['0', '1']);
    expect(errors).toEqual([]);
    await ottla.close();
  });

  it('ends the run if its own options fail', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    const broken = new Error('broken');
    const { done } = running(ottla, {
      eachRecord: () => Promise.reject(new Error('no')),
      retry: {
        attempts: 5,
        backoff: () => {
          throw broken;
        },
      },
    });
    expect(await done).toBe(broken);
  });
});

describe('a dead-letter topic', () => {
  it('gets what failed for good, with its bytes and why', async (test) => {
    const { ottla } = await begin(test);
    await ottla.topics.create('orders.dlq');
    const orders = defineTopic('orders', { key: 'string', value: 'json' });
    await ottla.producer().send(orders, {
      key: 'k',
      value: { n: 1 },
      headers: { own: 'header' },
      timestamp: 1234,
    });
    await ottla.producer().send(orders, { key: 'k', value: { n: 2 } });
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    void consumer.run({
      eachRecord: ({ value }) => {
        if ((value as { n: number }).n === 1) throw new RangeError('one is too little');
      },
      retry: { attempts: 2, backoff: () => 0, deadLetter: 'orders.dlq' },
    });
    await ottla.idle();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    const [letter, ...others] = await collect(ottla.read('orders.dlq'));
    expect(others).toEqual([]);
    expect([String(letter!.key), String(letter!.value)]).toEqual(['k', '{"n":1}']);
    const headers = Object.fromEntries(
      letter!.headers.map(([name, value]) => [name, String(value)]),
    );
    expect(headers).toMatchObject({
      own: 'header',
      'ottla.dlq.topic': 'orders',
      'ottla.dlq.partition': '0',
      'ottla.dlq.offset': '0',
      'ottla.dlq.timestamp': '1234',
      'ottla.dlq.group': 'g',
      'ottla.dlq.attempts': '2',
      'ottla.dlq.error': 'RangeError: one is too little',
    });
    expect(headers['ottla.dlq.stack']).toContain('run.test.ts');
  });

  it('gets each record of a batch that failed', async (test) => {
    const { ottla } = await begin(test);
    await ottla.topics.create('orders.dlq');
    await send(ottla, 'orders', numbers(3));
    running(ottla, {
      eachBatch: () => Promise.reject(new Error('no')),
      retry: { deadLetter: 'orders.dlq' },
    });
    await ottla.idle();
    const letters = await collect(ottla.read('orders.dlq'));
    expect(letters.map(({ value }) => String(value))).toEqual(['0', '1', '2']);
  });

  it.for<RetryOptions>([
    { deadLetter: 'orders.dlq' },
    { attempts: 2, backoff: () => 0, topic: 'orders.dlq' },
  ])(
    'gets nothing of what the log has no longer, which an event tells (%j)',
    async (retry, test) => {
      const { ottla, clock, errors } = await begin(test);
      await ottla.topics.create('orders.dlq');
      await send(ottla, 'orders', numbers(4));
      const gate = new Gate();
      gate.close();
      const { consumer, done } = running(ottla, {
        eachRecord: async ({ offset }, { attempt }) => {
          await gate.pass();
          if (offset < 2 && attempt === 1) throw new Error('no');
        },
        concurrency: { by: 'key', max: 2 },
        retry,
      });
      await gate.arrived(2);
      await ottla.topics.deleteRecords('orders', 0, 1);
      gate.open();
      await clock.runUntil(ottla.idle());
      expect(await committed(ottla, 'g', 'orders')).toEqual([4]);
      const letters = await collect(ottla.read('orders.dlq'));
      expect(letters.map(({ value }) => String(value))).toEqual(['1']);
      expect(errors).toMatchObject([
        {
          code: 'OFFSET_OUT_OF_RANGE',
          message: expect.stringMatching(
            /orders-0: .*offset 0, which failed: Error: no; orders.dlq /,
          ),
          at: { topic: 'orders', partition: 0, offset: 0 },
        },
      ]);
      await consumer.stop();
      await done;
    },
  );

  it('that the consumer reads itself is refused: its letters would come again and again', async (test) => {
    const { ottla } = await begin(test);
    await ottla.topics.create('orders.dlq');
    for (const topics of [['orders', 'orders.dlq'], [/^orders/]]) {
      const consumer = ottla.consumer<readonly Subscribable[]>({ group: 'g', topics });
      const failure = await failureOf(() =>
        consumer.run({ eachRecord: () => undefined, retry: { deadLetter: 'orders.dlq' } }),
      );
      expect(failure).toBeInstanceOf(TypeError);
      expect(failure.message).toContain('retry.deadLetter: orders.dlq is among the topics');
    }
  });

  it('that cannot be written ends the run, and the record comes again', async (test) => {
    const { ottla, faults } = await begin(test);
    await ottla.topics.create('orders.dlq');
    await send(ottla, 'orders', numbers(2));
    faults.fail('write', { topic: 'orders.dlq' });
    const { done } = running(ottla, {
      eachRecord: () => Promise.reject(new Error('no')),
      retry: { deadLetter: 'orders.dlq' },
    });
    expect(await done).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });
});

describe('partitions that move', () => {
  it('wait for the handlers at work; what has not begun is the other member’s', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    for (const partition of [0, 1]) await send(ottla, 'orders', numbers(3), partition);
    const gate = new Gate();
    gate.close();
    const seen: string[] = [];
    const handler =
      (member: string) =>
      async ({ partition, offset }: { partition: number; offset: number }) => {
        await gate.pass();
        seen.push(`${member} ${partition}:${offset}`);
      };
    const concurrency = { by: 'partition', max: 2 } as const;
    running(ottla, { eachRecord: handler('a'), concurrency });
    await gate.arrived(2);
    running(ottla, { eachRecord: handler('b'), concurrency });
    await clock.settle();
    const owners = async (): Promise<number> =>
      new Set((await ottla.groups.describe('g')).partitions.map(({ memberId }) => memberId)).size;
    expect(await owners()).toBe(1);
    gate.open();
    await ottla.idle();
    expect(await owners()).toBe(2);
    expect(seen).toHaveLength(6);
    expect(new Set(seen.map((at) => at.slice(2))).size).toBe(6);
    expect(seen.filter((at) => at.startsWith('b'))).toHaveLength(2);
  });

  it('are lost to a handler that hangs for maxPollIntervalMs; its signal aborts, its end counts for nothing', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    const gate = new Gate();
    gate.close();
    let signal: AbortSignal | undefined;
    const hanging = running(
      ottla,
      {
        eachRecord: async (_record, context) => {
          ({ signal } = context);
          await gate.pass();
        },
      },
      { maxPollIntervalMs: 1000 },
    );
    await gate.arrived();
    const seen: string[] = [];
    running(ottla, { eachRecord: ({ value }) => void seen.push(String(value)) });
    await clock.advance(900);
    expect([signal?.aborted, seen]).toEqual([false, []]);
    await clock.advance(300);
    expect([signal?.aborted, seen]).toEqual([true, ['0', '1']]);
    gate.open();
    await ottla.idle();
    expect(await committed(ottla, 'g', 'orders')).toEqual([2]);
    // It has come back.
    expect((await ottla.groups.describe('g')).members).toHaveLength(2);
    await hanging.consumer.stop();
  });

  it('are kept by a long handler that says that it is alive', async (test) => {
    const { ottla, clock } = await begin(test);
    await send(ottla, 'orders', numbers(1));
    let lost = 0;
    running(
      ottla,
      {
        eachRecord: async (_record, { alive }) => {
          for (let i = 0; i < 10; i++) {
            await clock.sleep(800);
            alive();
          }
        },
      },
      { maxPollIntervalMs: 1000, onLost: () => void lost++ },
    );
    await clock.advance(8000);
    await ottla.idle();
    expect(lost).toBe(0);
  });

  it('are lost though others of the same run go on', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    await send(ottla, 'orders', numbers(1), 0);
    const gate = new Gate();
    gate.close();
    let lost = 0;
    running(
      ottla,
      {
        eachRecord: async ({ partition }) => {
          if (partition === 0) await gate.pass();
        },
        concurrency: { by: 'partition', max: 2 },
      },
      { maxPollIntervalMs: 1000, onLost: () => void lost++ },
    );
    await gate.arrived();
    for (let i = 0; i < 15; i++) {
      await send(ottla, 'orders', numbers(1), 1);
      await clock.advance(100);
    }
    expect(lost).toBe(1);
    gate.open();
  });
});

describe('pause and seek', () => {
  it('pause one partition, and the others go on', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    const gate = new Gate();
    gate.close();
    const seen: string[] = [];
    const { consumer } = running(
      ottla,
      {
        eachRecord: async ({ partition, offset }) => {
          if (partition === 0) await gate.pass();
          seen.push(`${partition}:${offset}`);
        },
        concurrency: { by: 'partition', max: 1 },
      },
      { maxPollRecords: 3 },
    );
    await send(ottla, 'orders', numbers(8), 0);
    await gate.arrived();
    consumer.pause([{ topic: 'orders', partition: 0 }]);
    gate.open();
    await send(ottla, 'orders', numbers(5), 1);
    await clock.advance(1000);
    expect(seen).toEqual(['0:0', '1:0', '1:1', '1:2', '1:3', '1:4']);
    consumer.resume([{ topic: 'orders', partition: 0 }]);
    await ottla.idle();
    expect(seen.slice(6)).toEqual(['0:1', '0:2', '0:3', '0:4', '0:5', '0:6', '0:7']);
  });

  it('seek begins anew there, and what was at work before counts for nothing', async (test) => {
    const { ottla } = await begin(test);
    await send(ottla, 'orders', numbers(4));
    const gate = new Gate();
    gate.close();
    const seen: string[] = [];
    const { consumer } = running(ottla, {
      eachRecord: async ({ value }) => {
        seen.push(String(value));
        await gate.pass();
      },
    });
    await gate.arrived();
    await consumer.seek({ topic: 'orders', partition: 0, offset: 3 });
    gate.open();
    await ottla.idle();
    expect(seen).toEqual(['0', '3']);
    expect(await committed(ottla, 'g', 'orders')).toEqual([4]);
  });
});
