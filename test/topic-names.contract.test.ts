import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import {
  defineTopic,
  type Ottla,
  type TopicDefinition,
  type TopicOptions,
  type TopicRef,
} from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

const vectors = JSON.parse(
  readFileSync(new URL('vectors/files.json', import.meta.url), 'utf8'),
) as {
  topicNames: { name: string; valid: boolean }[];
  topicNameCollisions: [one: string, other: string, collide: boolean][];
};

/** Kafka's own topic is there without being created. */
const reserved = '__consumer_offsets';
const names = vectors.topicNames
  .map(({ name, valid }) => {
    const repeated = /^(\d+) x a$/.exec(name)?.[1];
    return { name: repeated === undefined ? name : 'a'.repeat(Number(repeated)), valid };
  })
  .filter(({ name }) => name !== reserved)
  .map(({ name, valid }) => ({ name, valid, shown: JSON.stringify(name).slice(0, 40) }));

const collides = {
  code: 'INVALID_TOPIC_EXCEPTION',
  message: expect.stringContaining('collides'),
};

describeContract('f29 names of topics', ({ open, files }) => {
  it.each(names.filter(({ valid }) => valid))('$shown names a topic', async ({ name }) => {
    const ottla = await open();
    await ottla.topics.create(name, { partitions: 2 });
    await ottla.producer().send(name, { value: 'a', partition: 1 });
    expect(await collect(ottla.read(name))).toMatchObject([{ topic: name, partition: 1 }]);
    expect(await ottla.topics.list()).toEqual([name]);
    expect(files().every((file) => file === 'data' || /^data[\\/]/.test(file))).toBe(true);
    await ottla.topics.delete(name);
    expect(files().filter((file) => file.startsWith(name))).toEqual([]);
  });

  it.each(names.filter(({ valid }) => !valid))(
    '$shown names none, and makes nothing',
    async ({ name }) => {
      const ottla = await open();
      const before = files();
      const refused = { code: 'INVALID_TOPIC_EXCEPTION', name: 'TypeError' };
      await expect(ottla.topics.create(name)).rejects.toMatchObject(refused);
      await expect(ottla.producer().send(name, { value: 'a' })).rejects.toMatchObject(refused);
      expect(() => defineTopic(name)).toThrow(TypeError);
      expect(() => ottla.read(name)).toThrow(TypeError);
      expect(await ottla.topics.list()).toEqual([]);
      expect(files()).toEqual(before);
    },
  );

  it('nothing else that looks like a definition gets past these rules', async () => {
    const ottla = await open();
    const before = files();
    const orders = defineTopic('orders');
    const forged: unknown[] = [
      { ...orders, name: '../orders' },
      { name: 'orders', partitions: 1 },
      { name: 'orders', options: {}, key: null, value: {} },
      ['orders'],
      null,
      undefined,
      7,
    ];
    for (const topic of forged) {
      await expect(ottla.topics.create(topic as TopicRef)).rejects.toThrow(TypeError);
    }
    expect(await ottla.topics.list()).toEqual([]);
    expect(files()).toEqual(before);
  });

  it(`${reserved} is reserved`, async () => {
    const ottla = await open();
    const before = files();
    await expect(ottla.topics.create(reserved)).rejects.toMatchObject({
      code: 'INVALID_TOPIC_EXCEPTION',
    });
    await expect(ottla.topics.create('__consumer.offsets')).rejects.toMatchObject(collides);
    await expect(ottla.topics.create('__CONSUMER_offsets')).rejects.toMatchObject(collides);
    const unknown = { code: 'UNKNOWN_TOPIC_OR_PARTITION' };
    await expect(ottla.producer().send(reserved, { value: '' })).rejects.toMatchObject(unknown);
    await expect(ottla.topics.delete(reserved)).rejects.toMatchObject(unknown);
    expect(await ottla.topics.list()).toEqual([]);
    expect(files()).toEqual(before);
  });

  it.each([...vectors.topicNameCollisions, ['Orders', 'orders', true] as const])(
    '%s beside %s',
    async (one, other, collide) => {
      const ottla = await open();
      await ottla.topics.create(one);
      // Kafka allows names that differ in case, where the disk does.
      const expected = collide || one.toLowerCase() === other.toLowerCase();
      const [second] = await Promise.allSettled([ottla.topics.create(other)]);
      expect(second).toMatchObject(
        expected ? { status: 'rejected', reason: collides } : { status: 'fulfilled' },
      );
      expect(await ottla.topics.list()).toHaveLength(expected ? 1 : 2);
      await ottla.topics.delete(one);
      await ottla.topics.create(other);
      expect(await ottla.topics.list()).toEqual([other]);
    },
  );

  it('creates one of two colliding topics that are asked for at once', async () => {
    const ottla = await open();
    const [first, second] = await Promise.allSettled([
      ottla.topics.create('a.b'),
      ottla.topics.create('a_b'),
    ]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: collides });
    expect(await ottla.topics.list()).toEqual(['a.b']);
  });
});

describeContract('options of topics', ({ open }) => {
  type BadOption = [name: string, value: unknown, error: typeof TypeError, expected: string];
  const bad: BadOption[] = [
    ['partitions', 0, RangeError, 'an integer from 1 to 100000, got 0'],
    ['partitions', -1, RangeError, 'got -1'],
    ['partitions', 1.5, RangeError, 'got 1.5'],
    ['partitions', NaN, RangeError, 'got NaN'],
    ['partitions', 100_001, RangeError, 'got 100001'],
    ['partitions', '3', TypeError, "got '3'"],
    ['partitions', null, TypeError, 'got null'],
    ['segmentBytes', 1023, RangeError, 'an integer from 1024 to 2147483647, got 1023'],
    ['segmentBytes', 2 ** 31, RangeError, 'got 2147483648'],
    ['segmentMs', 0, RangeError, 'an integer >= 1, got 0'],
    ['retentionMs', -2, RangeError, 'an integer >= -1, got -2'],
    ['retentionBytes', 0.5, RangeError, 'an integer >= -1, got 0.5'],
    ['retention', 'all', TypeError, "'limits' or 'consumed', got 'all'"],
    ['indexIntervalBytes', -1, RangeError, 'an integer from 0 to 2147483647, got -1'],
    ['maxMessageBytes', 0, RangeError, 'an integer from 1024 to 268435456, got 0'],
    ['maxMessageBytes', 10n, TypeError, 'got 10n'],
    ['flushMessages', 0, RangeError, 'an integer >= 1, got 0'],
    ['flushMs', -1, RangeError, 'an integer >= 0, got -1'],
    ['messageTimestampType', 'Now', TypeError, "'CreateTime' or 'LogAppendTime', got 'Now'"],
    ['messageTimestampType', {}, TypeError, 'got {}'],
    ['partition', 3, TypeError, "unknown option 'partition'; it takes partitions, segmentBytes"],
    ['constructor', 3, TypeError, "unknown option 'constructor'"],
  ];

  it.each(bad)('%s: %s is refused with what was expected', async (name, value, kind, expected) => {
    const ottla = await open();
    const options = { [name]: value } as TopicOptions;
    const failures = [
      await failureOf(() => ottla.topics.create('orders', options)),
      await failureOf(() => defineTopic('orders', options)),
    ];
    for (const error of failures) {
      expect(error).toBeInstanceOf(kind);
      expect(error.message).toContain(name);
      expect(error.message).toContain(expected);
    }
    expect(await ottla.topics.list()).toEqual([]);
  });

  it.each<[what: string, run: (ottla: Ottla) => unknown, expected: RegExp]>([
    [
      'a list',
      ({ topics }) => topics.create('t', [] as TopicOptions),
      /object of options, got \[\]/,
    ],
    ['a number', ({ topics }) => topics.create('t', 3 as TopicOptions), /object of options, got 3/],
    [
      'options beside a definition',
      ({ topics }) => topics.create(defineTopic('t'), { partitions: 2 }),
      /definition/,
    ],
    [
      'alter of partitions',
      ({ topics }) => topics.alter('orders', { partitions: 5 } as object),
      /unknown option 'partitions'/,
    ],
    ['alter of nothing', ({ topics }) => topics.alter('orders', undefined!), /got undefined/],
    ['addPartitions of text', ({ topics }) => topics.addPartitions('orders', '5' as never), /'5'/],
  ])('%s is refused', async (_, run, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    const error = await failureOf(() => run(ottla));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(expected);
    expect(await ottla.topics.list()).toEqual(['orders']);
    expect((await ottla.topics.describe('orders')).options.partitions).toBe(2);
  });

  it.each([0, -1, 2.5, 100_001])('addPartitions to %d is out of range', async (total) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await expect(ottla.topics.addPartitions('orders', total)).rejects.toThrow(RangeError);
  });

  it.each<[what: string, spec: unknown]>([
    ['an unknown codec', 'xml'],
    ['a name every object has', 'constructor'],
    ['half a codec', { encode: String }],
    ['a number', 7],
    ['null', null],
    ['a codec with no schema', { codec: 'json' }],
  ])('%s is no codec', (_, spec) => {
    for (const what of ['key', 'value']) {
      const define = (): TopicDefinition => defineTopic('orders', { [what]: spec });
      expect(define).toThrow(TypeError);
      expect(define).toThrow(new RegExp(`orders: ${what}`));
    }
  });
});
