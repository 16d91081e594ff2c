import { describe, expect, it } from 'vitest';
import {
  defineTopic,
  type ConsumerOptions,
  type Ottla,
  type RunOptions,
  type Subscribable,
} from '../../src/index.js';
import { testOttla, type TestContext, type TestOttla } from '../../src/testing/index.js';
import { committed, numbers, owned, send, takeValues } from '../consuming.js';
import { collect, failureOf } from '../contract.js';

const minute = 60_000;

async function begin(test: TestContext, partitions = 1): Promise<TestOttla> {
  const made = testOttla(test);
  await made.ottla.topics.create('orders', { partitions });
  for (const topic of ['orders.retry', 'orders.dlq']) await made.ottla.topics.create(topic);
  return made;
}

const retry = {
  attempts: 3,
  backoff: () => minute,
  topic: 'orders.retry',
  deadLetter: 'orders.dlq',
};

function running(
  ottla: Ottla,
  options: RunOptions<'orders'>,
  more: Partial<Omit<ConsumerOptions, 'topics'>> = {},
) {
  const topics = ['orders'] as const;
  const consumer = ottla.consumer({ group: 'g', ...more, topics });
  const done = consumer.run({ retry, ...options }).then(
    () => 'stopped',
    (error: unknown) => error,
  );
  return { consumer, done };
}

describe('a retry topic', () => {
  it('brings a record again when it is due, and nothing waits behind it', async (test) => {
    const { ottla, clock } = await begin(test);
    const calls: [number, string, number][] = [];
    running(ottla, {
      eachRecord: ({ value }, { attempt }) => {
        calls.push([clock.monotonic() / minute, String(value), attempt]);
        if (String(value) === '0' && attempt < 3) throw new Error('not yet');
      },
    });
    await send(ottla, 'orders', numbers(3));
    await clock.settle();
    expect(calls).toEqual([
      [0, '0', 1],
      [0, '1', 1],
      [0, '2', 1],
    ]);
    await clock.advance(101);
    expect(await committed(ottla, 'g', 'orders')).toEqual([3]);
    await clock.advance(minute - 102);
    expect(calls).toHaveLength(3);
    await clock.runUntil(ottla.idle());
    expect(calls.slice(3)).toEqual([
      [1, '0', 2],
      [2, '0', 3],
    ]);
    expect(await collect(ottla.read('orders.dlq'))).toEqual([]);
  });

  it('hands it to the handler as it first came', async (test) => {
    const { ottla, clock } = await begin(test, 4);
    const orders = defineTopic('orders', { partitions: 4, key: 'string', value: 'json' });
    const seen: object[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: [orders] });
    void consumer.run({
      retry,
      eachRecord: ({ topic, partition, offset, timestamp, key, value, headers }, { attempt }) => {
        const text = headers.map(([name, header]) => [name, String(header)]);
        seen.push({ topic, partition, offset, timestamp, key, value, text });
        if (attempt === 1) throw new Error('not yet');
      },
    });
    const record = { key: 'k', value: { n: 1 }, headers: { own: 'header' }, timestamp: 1234 };
    await ottla.producer().send(orders, { ...record, key: 'other', partition: 3 });
    await ottla.producer().send(orders, { ...record, partition: 3 });
    await clock.runUntil(ottla.idle());
    const { key, value, timestamp } = record;
    const second = { topic: 'orders', partition: 3, offset: 1, timestamp, key, value };
    const found = seen.filter((each) => (each as typeof second).offset === 1);
    const whole = { ...second, text: [['own', 'header']] };
    expect(found).toEqual([whole, whole]);
  });

  it('keeps bytes, place and cause in headers; what fails for good becomes a dead letter', async (test) => {
    const { ottla, clock } = await begin(test);
    running(ottla, { eachRecord: () => Promise.reject(new RangeError('too little')) });
    const headers = { own: 'header' };
    await ottla.producer().send('orders', { key: 'k', value: 'v', headers, timestamp: 1234 });
    await clock.runUntil(ottla.idle());
    const told = async (topic: string): Promise<object[]> =>
      (await collect(ottla.read(topic))).map((letter) => ({
        is: `${String(letter.key)}=${String(letter.value)}`,
        ...Object.fromEntries(letter.headers.map(([name, value]) => [name, String(value)])),
      }));
    const common = { is: 'k=v', own: 'header' };
    const origin = (kind: string, attempts: number): object => ({
      [`ottla.${kind}.topic`]: 'orders',
      [`ottla.${kind}.partition`]: '0',
      [`ottla.${kind}.offset`]: '0',
      [`ottla.${kind}.timestamp`]: '1234',
      [`ottla.${kind}.group`]: 'g',
      [`ottla.${kind}.attempts`]: String(attempts),
      [`ottla.${kind}.error`]: 'RangeError: too little',
    });
    const start = clock.now() - clock.monotonic();
    expect(await told('orders.retry')).toEqual(
      [1, 2].map((attempts) => ({
        ...common,
        ...origin('retry', attempts),
        'ottla.retry.due': String(start + attempts * minute),
      })),
    );
    expect(await told('orders.dlq')).toEqual([
      { ...common, ...origin('dlq', 3), 'ottla.dlq.stack': expect.stringContaining('RangeError') },
    ]);
    expect(await ottla.redrive('orders.dlq')).toBe(1);
    const [, again] = await collect(ottla.read('orders'));
    expect(again).toMatchObject({ partition: 0, timestamp: 1234 });
    expect(again!.headers.map(([name]) => name)).toEqual(['own']);
  });

  it('does not let one that is due later hold up one that is due before', async (test) => {
    const { ottla, clock } = await begin(test);
    const calls: [number, string][] = [];
    const waits = new Map([
      ['0', 10 * minute],
      ['1', minute],
    ]);
    let failed = '';
    running(ottla, {
      eachRecord: ({ value }, { attempt }) => {
        if (attempt === 1) {
          failed = String(value);
          throw new Error('not yet');
        }
        calls.push([clock.monotonic() / minute, String(value)]);
      },
      retry: { ...retry, backoff: () => waits.get(failed)! },
    });
    await send(ottla, 'orders', ['0', '1']);
    await clock.runUntil(ottla.idle());
    expect(calls).toEqual([
      [1, '1'],
      [10, '0'],
    ]);
    expect(await committed(ottla, 'g', 'orders.retry')).toEqual([
      (await ottla.topics.describe('orders.retry')).partitions[0]!.highWatermark,
    ]);
  });

  it('keeps what waits over a restart, whatever from says', async (test) => {
    const { ottla, clock } = await begin(test);
    const calls: [number, string, number][] = [];
    const options: RunOptions<'orders'> = {
      eachRecord: ({ value }, { attempt }) => {
        calls.push([clock.monotonic(), String(value), attempt]);
        if (attempt === 1) throw new Error('not yet');
      },
    };
    const first = running(ottla, options, { from: 'latest' });
    await first.consumer.ready();
    await send(ottla, 'orders', ['0']);
    await clock.settle();
    await first.consumer.stop();
    // Of this topic the group has committed nothing yet, as if it had been new.
    await ottla.groups.deleteOffsets('g', [{ topic: 'orders.retry', partition: 0 }]);
    await clock.advance(minute / 2);
    running(ottla, options, { from: 'none' });
    await clock.runUntil(ottla.idle());
    expect(calls).toEqual([
      [0, '0', 1],
      [minute, '0', 2],
    ]);
  });

  it('is read no further while much of it waits, and the others go on', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    const seen: string[] = [];
    const { consumer } = running(
      ottla,
      {
        eachRecord: ({ partition, value }, { attempt }) => {
          if (partition === 0 && attempt === 1) throw new Error('not yet');
          seen.push(String(value));
        },
      },
      { maxPollRecords: 3 },
    );
    await send(ottla, 'orders', numbers(10), 0);
    await clock.advance(1000);
    const place = { topic: 'orders.retry', partition: 0 };
    expect(consumer.position(place)).toBeLessThan(10);
    await send(ottla, 'orders', numbers(10, 100), 1);
    await clock.advance(1000);
    expect(seen).toEqual(numbers(10, 100));
    await clock.runUntil(ottla.idle());
    expect(seen.slice(10).toSorted()).toEqual(numbers(10));
  });

  it('waits while it is paused', async (test) => {
    const { ottla, clock } = await begin(test);
    let calls = 0;
    const { consumer } = running(
      ottla,
      {
        eachRecord: (_record, { attempt }) => {
          calls++;
          if (attempt === 1) throw new Error('not yet');
        },
      },
      { maxPollRecords: 2 },
    );
    await send(ottla, 'orders', numbers(5));
    await clock.advance(1000);
    const place = { topic: 'orders.retry', partition: 0 };
    expect(consumer.assignment()).toContainEqual(place);
    consumer.pause([place]);
    await clock.advance(2 * minute);
    expect(calls).toBe(5);
    consumer.resume([place]);
    await clock.runUntil(ottla.idle());
    expect(calls).toBe(10);
  });

  it('never has two handlers of a key at work at once', async (test) => {
    const { ottla, clock } = await begin(test, 2);
    const atWork = new Set<string>();
    let calls = 0;
    running(ottla, {
      concurrency: { by: 'key', max: 10 },
      eachRecord: async ({ key, value }, { attempt }) => {
        calls++;
        expect(atWork.has(String(key))).toBe(false);
        atWork.add(String(key));
        await clock.sleep(2 * minute);
        atWork.delete(String(key));
        if (attempt === 1 && Number(String(value)) % 2 === 0) throw new Error('not yet');
      },
    });
    const records = numbers(8).map((value) => ({ key: `k${Number(value) % 3}`, value }));
    await ottla.producer().sendBatch('orders', records);
    await clock.runUntil(ottla.idle());
    expect(calls).toBe(12);
  });

  it('is shared by groups, of which each gets its own', async (test) => {
    const { ottla, clock } = await begin(test);
    const seen: string[] = [];
    for (const group of ['g', 'h']) {
      running(
        ottla,
        {
          eachRecord: (_record, { attempt }) => {
            seen.push(`${group}${attempt}`);
            if (group === 'g' && attempt === 1) throw new Error('not yet');
          },
        },
        { group },
      );
    }
    await send(ottla, 'orders', ['0']);
    await clock.runUntil(ottla.idle());
    expect(seen.toSorted()).toEqual(['g1', 'g2', 'h1']);
  });

  it('puts a record aside that run() did not put there', async (test) => {
    const { ottla, clock } = await begin(test);
    running(ottla, { eachRecord: () => expect.unreachable() });
    await send(ottla, 'orders.retry', ['no letter']);
    await clock.runUntil(ottla.idle());
    const [letter] = await collect(ottla.read('orders.dlq'));
    const headers = Object.fromEntries(
      letter!.headers.map(([name, value]) => [name, String(value)]),
    );
    expect(headers).toMatchObject({
      'ottla.dlq.topic': 'orders.retry',
      'ottla.dlq.error': expect.stringContaining('it has no headers ottla.retry.*') as string,
    });
  });

  it('belongs to the consumer as long as the run goes on', async (test) => {
    const { ottla, clock } = await begin(test);
    const controller = new AbortController();
    const first = ottla.consumer({ group: 'g', topics: ['orders'] });
    await first.ready();
    expect(owned(first)).toEqual(['orders-0']);
    const run = first.run({
      retry,
      signal: controller.signal,
      eachRecord: () => Promise.reject(new Error('no')),
    });
    await send(ottla, 'orders', ['0']);
    await clock.settle();
    expect(owned(first)).toEqual(['orders-0', 'orders.retry-0']);
    controller.abort();
    await run;
    expect(owned(first)).toEqual(['orders-0']);
    await send(ottla, 'orders', ['1']);
    expect(await takeValues(first, 1)).toEqual(['1']);
    const seen: string[] = [];
    void first.run({ retry, eachRecord: ({ value }) => void seen.push(String(value)) });
    await clock.runUntil(ottla.idle());
    expect(seen.toSorted()).toEqual(['0', '1']);
  });

  it('that cannot be written ends the run, and the record comes again', async (test) => {
    const { ottla, faults } = await begin(test);
    await send(ottla, 'orders', numbers(2));
    faults.fail('write', { topic: 'orders.retry' });
    const { done } = running(ottla, { eachRecord: () => Promise.reject(new Error('no')) });
    expect(await done).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });

  it('is refused where it cannot be', async (test) => {
    const { ottla } = await begin(test);
    const eachRecord = (): void => undefined;
    const refusal = async (options: object, more: Partial<ConsumerOptions> = {}) =>
      failureOf(() =>
        ottla
          .consumer<readonly Subscribable[]>({ group: 'g', topics: ['orders'], ...more })
          .run({ eachRecord, retry, ...options }),
      );
    expect(await refusal({ retry: { topic: 'nowhere' } })).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    const alone = ottla.consumer({});
    alone.assign([{ topic: 'orders', partition: 0 }]);
    const refused = [
      await refusal({}, { topics: ['orders', 'orders.retry'] }),
      await refusal({}, { topics: [/^orders/] }),
      await refusal({ eachRecord: undefined, eachBatch: eachRecord }),
      await refusal({ retry: { topic: 'orders.dlq', deadLetter: 'orders.dlq' } }),
      await failureOf(() => alone.run({ eachRecord, retry })),
    ];
    expect(refused.map(({ name, message }) => `${name}: ${message}`)).toEqual([
      'TypeError: run: retry.topic: orders.retry is among the topics of the consumer itself',
      'TypeError: run: retry.topic: orders.retry is among the topics of the consumer itself',
      'TypeError: run: retry.topic is for eachRecord: a batch is tried again as a whole',
      'TypeError: run: retry.topic and retry.deadLetter must be two topics',
      'TypeError: run: retry.topic needs a consumer with a group',
    ]);
  });
});
