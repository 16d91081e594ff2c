import { expect, it } from 'vitest';
import { defineTopic, type Ottla } from '../src/index.js';
import { collect, describeContract, describeDirectory } from './contract.js';

const unknownTopic = { name: 'OttlaError', code: 'UNKNOWN_TOPIC_OR_PARTITION', retriable: false };

async function sendTo(ottla: Ottla, topic: string, ...values: string[]): Promise<void> {
  const producer = ottla.producer();
  await producer.sendBatch(
    topic,
    values.map((value) => ({ value })),
  );
  await producer.close();
}

async function valuesOf(ottla: Ottla, topic: string): Promise<string[]> {
  const records = await collect(ottla.read(topic));
  return records.map(({ value }) => String(value));
}

describeContract('topics', ({ open }) => {
  it('takes no null for options', async () => {
    const ottla = await open();
    const create = ottla.topics.create('orders', null as unknown as object);
    await expect(create).rejects.toBeInstanceOf(TypeError);
    expect(await ottla.topics.list()).toEqual([]);
  });

  it('creates a topic with one partition unless told otherwise', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    expect((await ottla.topics.describe('orders')).options.partitions).toBe(1);
  });

  it('describes a topic and each of its partitions', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2, segmentBytes: 4096 });
    await ottla.producer().send('orders', { value: 'a', partition: 1 });
    const described = await ottla.topics.describe('orders');
    expect(described).toEqual({
      name: 'orders',
      id: expect.stringMatching(/^[\w-]{22}$/),
      options: {
        partitions: 2,
        segmentBytes: 4096,
        segmentMs: 604_800_000,
        retentionMs: -1,
        retentionBytes: -1,
        retention: 'limits',
        indexIntervalBytes: 4096,
        maxMessageBytes: 1_048_588,
        messageTimestampType: 'CreateTime',
        compression: 'producer',
        flushMessages: Number.MAX_SAFE_INTEGER,
        flushMs: Number.MAX_SAFE_INTEGER,
        cleanupPolicy: 'delete',
        minCleanableDirtyRatio: 0.5,
        deleteRetentionMs: 86_400_000,
      },
      partitions: [
        {
          partition: 0,
          logStartOffset: 0,
          highWatermark: 0,
          lastStableOffset: 0,
          leaderEpoch: 0,
          segments: 1,
          bytes: 0,
        },
        {
          partition: 1,
          logStartOffset: 0,
          highWatermark: 1,
          lastStableOffset: 1,
          leaderEpoch: 0,
          segments: 1,
          bytes: 69,
        },
      ],
    });
  });

  it('lists names in order', async () => {
    const ottla = await open();
    expect(await ottla.topics.list()).toEqual([]);
    for (const name of ['b', 'a', 'C']) await ottla.topics.create(name);
    expect(await ottla.topics.list()).toEqual(['C', 'a', 'b']);
  });

  it('is fine with creating an equal topic again, and keeps it', async () => {
    const ottla = await open();
    const orders = defineTopic('orders', { partitions: 3, value: 'json', segmentBytes: 2048 });
    await ottla.topics.create(orders);
    const { id } = await ottla.topics.describe(orders);
    await sendTo(ottla, 'orders', '1');
    await ottla.topics.create(orders);
    expect((await ottla.topics.describe(orders)).id).toBe(id);
    expect(await valuesOf(ottla, 'orders')).toEqual(['1']);
  });

  it('takes an option that is undefined, or its default, for one that is not given', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const { partitions, ...defaults } = (await ottla.topics.describe('orders')).options;
    await ottla.topics.create('orders', { ...defaults, partitions });
    const loose: Record<string, undefined> = { partitions: undefined, segmentBytes: undefined };
    await ottla.topics.create('orders', loose);
    expect(await ottla.topics.list()).toEqual(['orders']);
  });

  it.each<[what: string, options: Parameters<typeof defineTopic>[1], message: RegExp]>([
    ['partitions', { partitions: 4, value: 'json' }, /partitions is 3, asked for 4/],
    ['codecs', { partitions: 3, value: 'string' }, /value codec is "json", asked for "string"/],
    [
      'options',
      { partitions: 3, value: 'json', maxMessageBytes: 2048 },
      /maxMessageBytes is 1048588, asked for 2048/,
    ],
    ['several', { key: 'string' }, /partitions.+key codec.+value codec/],
  ])('refuses to create a topic again with other %s, saying what', async (_, options, message) => {
    const ottla = await open();
    await ottla.topics.create(defineTopic('orders', { partitions: 3, value: 'json' }));
    await expect(ottla.topics.create(defineTopic('orders', options))).rejects.toMatchObject({
      code: 'TOPIC_ALREADY_EXISTS',
      message: expect.stringMatching(message),
    });
    expect((await ottla.topics.describe('orders')).options.partitions).toBe(3);
  });

  it('creates a topic once for two who ask at once', async () => {
    const ottla = await open();
    await Promise.all([
      ottla.topics.create('orders', { partitions: 2 }),
      ottla.topics.create('orders', { partitions: 2 }),
    ]);
    expect(await ottla.topics.list()).toEqual(['orders']);
  });

  it('creates what the first of two asks for if they differ', async () => {
    const ottla = await open();
    const [first, second] = await Promise.allSettled([
      ottla.topics.create('orders', { partitions: 2 }),
      ottla.topics.create('orders', { partitions: 3 }),
    ]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ reason: { code: 'TOPIC_ALREADY_EXISTS' } });
    expect((await ottla.topics.describe('orders')).partitions).toHaveLength(2);
  });

  it('alters options: they count for the next record', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const record = { value: 'v'.repeat(2000) };
    await producer.send('orders', record);
    await ottla.topics.alter('orders', { maxMessageBytes: 1024 });
    expect((await ottla.topics.describe('orders')).options.maxMessageBytes).toBe(1024);
    await expect(producer.send('orders', record)).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
    await ottla.topics.alter('orders', { maxMessageBytes: 4096 });
    expect(await producer.send('orders', record)).toMatchObject({ offset: 1 });
  });

  it('adds partitions, which take records at once', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer();
    await producer.send('orders', { value: 'a', partition: 1 });
    await ottla.topics.addPartitions('orders', 4);
    expect(await producer.send('orders', { value: 'b', partition: 3 })).toMatchObject({
      offset: 0,
    });
    const { options, partitions } = await ottla.topics.describe('orders');
    expect(options.partitions).toBe(4);
    expect(partitions.map(({ highWatermark }) => highWatermark)).toEqual([0, 1, 0, 1]);
  });

  it.each([1, 2])('refuses to make 2 partitions %i', async (total) => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await expect(ottla.topics.addPartitions('orders', total)).rejects.toMatchObject({
      code: 'INVALID_PARTITIONS',
      message: expect.stringMatching(/2 partitions, got \d/),
    });
    expect((await ottla.topics.describe('orders')).partitions).toHaveLength(2);
  });

  it('deletes a topic', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    await sendTo(ottla, 'orders', 'a');
    await ottla.topics.delete('orders');
    expect(await ottla.topics.list()).toEqual([]);
    await expect(ottla.topics.describe('orders')).rejects.toMatchObject(unknownTopic);
  });

  it('starts a topic that is created anew with no records and no commits', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const { id } = await ottla.topics.describe('orders');
    await sendTo(ottla, 'orders', 'old 0', 'old 1');
    const consumer = ottla.consumer({ group: 'mail', topics: ['orders'] });
    for await (const record of consumer) {
      if (record.offset < 1) continue;
      await record.commit();
      break;
    }
    await consumer.close();
    await ottla.topics.delete('orders');
    await ottla.topics.create('orders');

    expect((await ottla.topics.describe('orders')).id).not.toBe(id);
    expect(await valuesOf(ottla, 'orders')).toEqual([]);
    await sendTo(ottla, 'orders', 'new 0');
    const again = ottla.consumer({ group: 'mail', topics: ['orders'] });
    for await (const record of again) {
      expect(record).toMatchObject({ offset: 0, value: Buffer.from('new 0') });
      break;
    }
  });

  it('goes on in a topic that is created anew, from its beginning', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await sendTo(ottla, 'orders', 'old 0', 'old 1');
    const consumer = ottla.consumer({ group: 'mail', topics: ['orders'] });
    const seen: string[] = [];
    for await (const { offset, value } of consumer) {
      seen.push(`${String(value)} at ${offset}`);
      if (String(value) === 'old 1') {
        await ottla.topics.delete('orders');
        await ottla.topics.create('orders');
        await sendTo(ottla, 'orders', 'new 0');
      }
      if (String(value) === 'new 0') break;
    }
    expect(seen).toEqual(['old 0 at 0', 'old 1 at 1', 'new 0 at 0']);
  });

  it('fails what still goes to a deleted topic, and takes what goes to the new one', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    await producer.send('orders', { value: 'old' });
    await ottla.topics.delete('orders');
    await expect(producer.send('orders', { value: 'lost' })).rejects.toMatchObject(unknownTopic);
    await ottla.topics.create('orders', { partitions: 2 });
    await producer.send('orders', { value: 'new', partition: 1 });
    expect(await valuesOf(ottla, 'orders')).toEqual(['new']);
  });

  it('fails what was taken over for a topic and not yet written when it is deleted', async () => {
    const ottla = await open();
    const told: unknown[] = [];
    ottla.on('error', (error) => told.push(error));
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer({ lingerMs: 2 ** 31 - 1 });
    const sent = [0, 1].map((partition) => producer.send('orders', { value: 'a', partition }));
    await ottla.topics.delete('orders');
    await ottla.topics.create('orders', { partitions: 2 });
    const flushed = producer.flush();
    for (const each of sent) await expect(each).rejects.toMatchObject(unknownTopic);
    await flushed;
    expect(told).toMatchObject([unknownTopic, unknownTopic]);
    expect(await valuesOf(ottla, 'orders')).toEqual([]);
  });

  it.each<[call: string, run: (ottla: Ottla) => Promise<unknown>]>([
    ['describe', (ottla) => ottla.topics.describe('nowhere')],
    ['alter', (ottla) => ottla.topics.alter('nowhere', { segmentBytes: 4096 })],
    ['addPartitions', (ottla) => ottla.topics.addPartitions('nowhere', 2)],
    ['reopen', (ottla) => ottla.topics.reopen('nowhere', 0)],
    ['delete', (ottla) => ottla.topics.delete('nowhere')],
    ['read', (ottla) => collect(ottla.read('nowhere'))],
    ['send', (ottla) => ottla.producer().send('nowhere', { value: 'a' })],
    ['sendBatch', (ottla) => ottla.producer().sendBatch('nowhere', [])],
  ])('%s of a topic that is not there names it', async (_, run) => {
    const ottla = await open();
    await expect(run(ottla)).rejects.toMatchObject({
      ...unknownTopic,
      message: expect.stringContaining('"nowhere"'),
    });
    expect(await ottla.topics.list()).toEqual([]);
  });

  it.each<[call: string, run: (ottla: Ottla) => Promise<unknown>]>([
    ['create', (ottla) => ottla.topics.create('other')],
    ['list', (ottla) => ottla.topics.list()],
    ['describe', (ottla) => ottla.topics.describe('orders')],
    ['alter', (ottla) => ottla.topics.alter('orders', { segmentBytes: 4096 })],
    ['addPartitions', (ottla) => ottla.topics.addPartitions('orders', 9)],
    ['reopen', (ottla) => ottla.topics.reopen('orders', 0)],
    ['delete', (ottla) => ottla.topics.delete('orders')],
    ['groups.list', (ottla) => ottla.groups.list()],
    ['groups.describe', (ottla) => ottla.groups.describe('mail')],
  ])('%s after close is refused', async (_, run) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await sendTo(ottla, 'orders', 'a');
    await ottla.close();
    await expect(run(ottla)).rejects.toMatchObject({
      name: 'OttlaError',
      code: 'CLOSED',
      message: 'this Ottla is closed',
    });
  });
});

describeDirectory('topics after a restart', ({ open, reopen }) => {
  it('has the same topics after a restart', async () => {
    const before = await open();
    const orders = defineTopic('orders', { partitions: 2, key: 'string', value: 'json' });
    await before.topics.create(orders);
    await before.topics.alter(orders, { segmentBytes: 8192 });
    await before.topics.addPartitions(orders, 3);
    await before.topics.create('gone');
    await sendTo(before, 'gone', 'old');
    await before.topics.delete('gone');
    const described = await before.topics.describe(orders);

    const after = await reopen(before);
    expect(after.recovery).toEqual([]);
    expect(await after.topics.list()).toEqual(['orders']);
    expect(await after.topics.describe(orders)).toEqual(described);
    await expect(after.topics.create('orders', { partitions: 3 })).rejects.toMatchObject({
      code: 'TOPIC_ALREADY_EXISTS',
    });
    await after.topics.create('gone');
    expect(await valuesOf(after, 'gone')).toEqual([]);
  });

  it('does not find old records or commits in a topic recreated before a restart', async () => {
    const before = await open();
    await before.topics.create('orders');
    await sendTo(before, 'orders', 'old 0', 'old 1');
    const consumer = before.consumer({ group: 'mail', topics: ['orders'] });
    for await (const record of consumer) {
      await record.commit();
      break;
    }
    await consumer.close();
    await before.topics.delete('orders');
    await before.topics.create('orders');
    await sendTo(before, 'orders', 'new 0');

    const after = await reopen(before);
    expect(await valuesOf(after, 'orders')).toEqual(['new 0']);
    await expect(after.groups.describe('mail')).rejects.toMatchObject({
      code: 'GROUP_ID_NOT_FOUND',
    });
  });
});
