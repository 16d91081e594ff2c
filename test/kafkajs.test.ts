import { Kafka, logLevel, type Consumer, type KafkaConfig } from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import type { Ottla } from '../src/index.js';
import { serve } from '../src/server/index.js';
import { describeContract } from './contract.js';

/** KafkaJS, whose connections do not leave this process. */
async function kafkaOf(ottla: Ottla, more: Partial<KafkaConfig> = {}): Promise<Kafka> {
  const server = await serve(ottla, { listen: false });
  return new Kafka({
    brokers: [server.bootstrap],
    socketFactory: server.socketFactory(),
    logLevel: logLevel.NOTHING,
    ...more,
  });
}

/** A consumer that is disconnected after the test, and what it has read: topic-partition:offset=value. */
async function reading(
  kafka: Kafka,
  groupId: string,
  topics: string[],
  fromBeginning = true,
): Promise<{
  readonly consumer: Consumer;
  readonly read: string[];
  until: (n: number) => Promise<void>;
}> {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 100, maxWaitTimeInMs: 100 });
  const read: string[] = [];
  let wake = (): void => undefined;
  onTestFinished(() => consumer.disconnect());
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning });
  await consumer.run({
    eachMessage: async ({ topic, partition, message }) => {
      read.push(`${topic}-${partition}:${message.offset}=${String(message.value)}`);
      wake();
    },
  });
  const until = async (n: number): Promise<void> => {
    while (read.length < n) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { consumer, read, until };
}

describeContract('KafkaJS', ({ open }) => {
  it('manages topics', async () => {
    const ottla = await open();
    const admin = (await kafkaOf(ottla)).admin();
    await admin.connect();
    const topics = [
      { topic: 'a', numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '1000' }] },
    ];
    expect(await admin.createTopics({ topics })).toBe(true);
    expect(await admin.createTopics({ topics })).toBe(false);
    await admin.createPartitions({ topicPartitions: [{ topic: 'a', count: 4 }] });
    expect(await admin.listTopics()).toEqual(['a']);
    const { topics: described } = await admin.fetchTopicMetadata({ topics: ['a'] });
    expect(described[0]!.partitions.map(({ leader }) => leader)).toEqual([1, 1, 1, 1]);
    const resources = [{ type: 2, name: 'a', configEntries: [{ name: 'segment.ms', value: '5' }] }];
    await admin.alterConfigs({ validateOnly: false, resources });
    const { options } = await ottla.topics.describe('a');
    expect(options).toMatchObject({ segmentMs: 5, retentionMs: 604_800_000, partitions: 4 });
    await ottla.producer().send('a', { value: 'x', partition: 0 });
    await admin.deleteTopicRecords({ topic: 'a', partitions: [{ partition: 0, offset: '1' }] });
    expect((await admin.fetchTopicOffsets('a'))[0]).toMatchObject({ low: '1', high: '1' });
    expect(await admin.describeCluster()).toMatchObject({
      controller: 1,
      brokers: [{ nodeId: 1 }],
    });
    await admin.deleteTopics({ topics: ['a'] });
    expect(await ottla.topics.list()).toEqual([]);
    await admin.disconnect();
  });

  it('sends to a consumer of this process, in order, compressed or not', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 1 });
    const producer = (await kafkaOf(ottla)).producer();
    await producer.connect();
    const messages = Array.from({ length: 100 }, (_, i) => ({
      key: `k${i}`,
      value: `v${i}`,
      headers: { h: 'x' },
    }));
    for (const compression of [0, 1]) await producer.send({ topic: 't', compression, messages });
    const read: string[] = [];
    for await (const { key, value, headers } of ottla.read('t')) {
      read.push(`${String(key)}${String(value)}${headers[0]![0]}`);
    }
    expect(read).toEqual([...messages, ...messages].map(({ key, value }) => `${key}${value}h`));
    await producer.disconnect();
  });

  it('numbers its batches, and each is there once', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const producer = (await kafkaOf(ottla)).producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (let i = 0; i < 20; i++) {
      await producer.send({ topic: 't', messages: [{ value: String(i) }] });
    }
    await producer.disconnect();
    const read: number[] = [];
    for await (const { value } of ottla.read('t')) read.push(Number(String(value)));
    expect(read).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  it('reads in a group what this process sends, and commits', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 2 });
    const kafka = await kafkaOf(ottla);
    const { consumer, read, until } = await reading(kafka, 'g', ['t']);
    const producer = ottla.producer();
    for (const partition of [0, 1]) await producer.send('t', { value: 'a', partition });
    await until(2);
    expect(read.toSorted()).toEqual(['t-0:0=a', 't-1:0=a']);
    await consumer.disconnect();
    const { partitions } = await ottla.groups.describe('g');
    expect(partitions.map(({ committed, lag }) => [committed, lag])).toEqual([
      [1, 0],
      [1, 0],
    ]);
  });

  it('shares a group with another of its consumers, and goes on where one left', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 4 });
    const kafka = await kafkaOf(ottla);
    const one = await reading(kafka, 'g', ['t']);
    const rebalanced = new Promise((resolve) => one.consumer.on('consumer.group_join', resolve));
    const other = await reading(kafka, 'g', ['t']);
    await rebalanced;
    const assigned = async (): Promise<number[]> => {
      const { members } = await ottla.groups.describe('g');
      return members.map(({ assignment }) => assignment.length);
    };
    const isShared = async (): Promise<boolean> => (await assigned()).join() === '2,2';
    while (!(await isShared())) await new Promise((resolve) => setImmediate(resolve));
    const producer = ottla.producer();
    for (let i = 0; i < 8; i++) await producer.send('t', { value: String(i), partition: i % 4 });
    await Promise.all([one.until(4), other.until(4)]);
    await other.consumer.disconnect();
    while ((await assigned()).join() !== '4') await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < 4; i++) await producer.send('t', { value: 'last', partition: i });
    await one.until(8);
    expect([...one.read, ...other.read].filter((at) => !at.endsWith('last'))).toHaveLength(8);
  });

  it('commits a transaction with offsets, and aborts another', async () => {
    const ottla = await open();
    for (const topic of ['in', 'out']) await ottla.topics.create(topic);
    const kafka = await kafkaOf(ottla);
    const producer = kafka.producer({
      transactionalId: 'tx',
      maxInFlightRequests: 1,
      idempotent: true,
    });
    await producer.connect();
    for (const isCommitted of [false, true]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: 'out', messages: [{ value: String(isCommitted) }] });
      const offsets = { topics: [{ topic: 'in', partitions: [{ partition: 0, offset: '7' }] }] };
      await transaction.sendOffsets({ consumerGroupId: 'g', ...offsets });
      if (isCommitted) await transaction.commit();
      else await transaction.abort();
    }
    await producer.disconnect();
    const read: string[] = [];
    for await (const { value } of ottla.read('out')) read.push(String(value));
    expect(read).toEqual(['true']);
    const admin = kafka.admin();
    await admin.connect();
    const committed = await admin.fetchOffsets({ groupId: 'g', topics: ['in'] });
    expect(committed).toMatchObject([{ partitions: [{ partition: 0, offset: '7' }] }]);
    await admin.disconnect();
    const reader = await reading(kafka, 'other', ['out']);
    await reader.until(1);
    expect(reader.read).toEqual(['out-0:2=true']);
  });

  it('manages groups', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const kafka = await kafkaOf(ottla);
    const { consumer, until } = await reading(kafka, 'g', ['t']);
    await ottla.producer().send('t', { value: 'a' });
    await until(1);
    const admin = kafka.admin();
    await admin.connect();
    expect(await admin.listGroups()).toMatchObject({ groups: [{ groupId: 'g' }] });
    expect(await admin.describeGroups(['g'])).toMatchObject({
      groups: [{ groupId: 'g', state: 'Stable', members: [{}] }],
    });
    await consumer.disconnect();
    await admin.deleteGroups(['g']);
    expect(await admin.listGroups()).toMatchObject({ groups: [] });
    await admin.disconnect();
  });
});
