// KafkaJS: kafkajs.mjs FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as wait } from 'node:timers/promises';
import mongodbZstd from '@mongodb-js/zstd';
import kafkajs from 'kafkajs';
import lz4 from 'lz4-napi';
import snappy from 'snappy';

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs;
const [feature, server, topic, ca] = process.argv.slice(2);
const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);
const sortedBy = (list, of) => list.toSorted((a, b) => of(a) - of(b));

// KafkaJS has gzip; the others are plugged in. Its own messages of snappy begin with a magic number.
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: ({ buffer }) => snappy.compress(buffer),
  decompress: (buffer) => snappy.uncompress(buffer, { asBuffer: true }),
});
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: ({ buffer }) => lz4.compressFrame(buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: ({ buffer }) => mongodbZstd.compress(buffer),
  decompress: (buffer) => mongodbZstd.decompress(buffer),
});

const connect = (more) => new Kafka({ brokers: [server], logLevel: logLevel.NOTHING, ...more });
const kafka = connect();

/** Connected, for as long as `work` takes. */
async function using(client, work) {
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.disconnect();
  }
}

async function until(isSo) {
  const end = Date.now() + 60_000;
  while (!(await isSo())) {
    assert(Date.now() < end, `timed out: ${isSo}`);
    await wait(20);
  }
}

/** A consumer of a group that runs, and what it has read. */
async function reading(groupId, { topics = [topic], of = kafka, ...options } = {}) {
  const timing = { heartbeatInterval: 100, sessionTimeout: 6000, maxWaitTimeInMs: 100 };
  const consumer = of.consumer({ groupId, ...timing, ...options });
  const read = [];
  const partitions = new Set();
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    partitions.clear();
    for (const partition of payload.memberAssignment[topic] ?? []) partitions.add(partition);
  });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  await consumer.run({
    autoCommit: options.autoCommit ?? true,
    eachMessage: async ({ partition, message }) => void read.push({ partition, ...message }),
  });
  return { consumer, read, partitions };
}

const valuesOf = ({ read }) => read.map(({ value }) => String(value));

const features = {
  async produce() {
    await using(kafka.producer(), async (producer) => {
      for (const [name, acks] of Object.entries({ 0: 0, 1: 1, all: -1 })) {
        const messages = numbers(10).map((i) => {
          return { key: `k${i}`, value: `${name}-${i}`, headers: { h: 'x' } };
        });
        await producer.send({ topic, acks, messages });
      }
    });
  },

  async idempotent() {
    await using(kafka.producer({ idempotent: true, maxInFlightRequests: 1 }), async (producer) => {
      for (const i of numbers(20)) {
        await producer.send({ topic, messages: [{ value: String(i), partition: 0 }] });
      }
    });
  },

  async compression() {
    await using(kafka.producer(), async (producer) => {
      const codecs = { gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' };
      for (const [name, codec] of Object.entries(codecs)) {
        const messages = numbers(50).map((i) => ({ value: `${name}-${i}`, partition: 0 }));
        await producer.send({ topic, compression: CompressionTypes[codec], messages });
      }
    });
    const reader = await reading(`${topic}-compressed`);
    await until(() => reader.read.length === 200);
    await reader.consumer.disconnect();
  },

  async consume() {
    const reader = await reading(topic);
    await until(() => reader.read.length === 100);
    for (const partition of [0, 1]) {
      const mine = reader.read.filter((record) => record.partition === partition);
      assert.deepEqual(
        mine.map(({ offset, value }) => `${offset} ${value}`),
        numbers(50).map((i) => `${i} ${partition}-${i}`),
      );
      assert(mine.every(({ key, headers }) => `${key}${headers.h}` === 'kx'));
      assert.deepEqual(
        mine.map(({ timestamp }) => Number(timestamp)),
        numbers(50, 1000),
      );
    }
    reader.consumer.seek({ topic, partition: 1, offset: '40' });
    await until(() => reader.read.length === 110);
    assert.deepEqual(
      valuesOf(reader).slice(100),
      numbers(10, 40).map((i) => `1-${i}`),
    );
    await reader.consumer.disconnect();
    await using(kafka.admin(), async (admin) => {
      const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, 1025);
      assert.deepEqual(
        sortedBy(offsets, ({ partition }) => partition).map(({ offset }) => offset),
        ['25', '25'],
      );
    });
  },

  async group() {
    await using(kafka.producer(), async (producer) => {
      const send = (first) => {
        const messages = numbers(20, first).map((i) => ({ value: String(i), partition: i % 2 }));
        return producer.send({ topic, messages });
      };
      const one = await reading(topic);
      const read = [one];
      const all = () => read.flatMap(valuesOf).map(Number);
      const hasAll = (count) => () => new Set(all()).size === count;
      await send(0);
      await until(hasAll(20));
      const two = await reading(topic);
      read.push(two);
      await until(() => one.partitions.size === 1 && two.partitions.size === 1);
      await send(20);
      await until(hasAll(40));
      await two.consumer.disconnect();
      await until(() => one.partitions.size === 2);
      await send(40);
      await until(hasAll(60));
      await one.consumer.disconnect();
      assert.equal(all().length, 60);
    });
  },

  async commit() {
    const one = await reading(topic, { autoCommit: false });
    await until(() => one.read.length === 100);
    const offsets = [
      { topic, partition: 0, offset: '7', metadata: 'here' },
      { topic, partition: 1, offset: '50' },
    ];
    await one.consumer.commitOffsets(offsets);
    await one.consumer.disconnect();
    await using(kafka.admin(), async (admin) => {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
      const told = sortedBy(partitions, ({ partition }) => partition);
      assert.deepEqual(
        told.map(({ offset, metadata }) => `${offset} ${metadata ?? ''}`),
        ['7 here', '50 '],
      );
    });
    const two = await reading(topic);
    await until(() => two.read.length === 43);
    await two.consumer.disconnect();
    assert.deepEqual(
      two.read.map(({ offset }) => Number(offset)),
      numbers(43, 7),
    );
  },

  async transactions() {
    const out = `${topic}-out`;
    const one = await reading(topic, { autoCommit: false });
    await until(() => one.read.length === 100);
    const offsets = [0, 1].map((partition) => ({ partition, offset: '50' }));
    const options = { transactionalId: topic, idempotent: true, maxInFlightRequests: 1 };
    await using(kafka.producer(options), async (producer) => {
      for (const isCommitted of [false, true]) {
        const messages = one.read.map(({ partition, value }) => {
          return { partition, value: `${isCommitted ? 'yes' : 'no'} ${value}` };
        });
        const transaction = await producer.transaction();
        await transaction.send({ topic: out, messages });
        const topics = [{ topic, partitions: offsets }];
        await transaction.sendOffsets({ consumerGroupId: topic, topics });
        await (isCommitted ? transaction.commit() : transaction.abort());
        await using(kafka.admin(), async (admin) => {
          const told = async () => {
            const [{ partitions }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
            return partitions.map(({ offset }) => offset).join();
          };
          await until(async () => (await told()) === (isCommitted ? '50,50' : '-1,-1'));
        });
      }
      const zombie = await producer.transaction();
      await zombie.send({ topic: out, messages: [{ value: 'zombie' }] });
      await using(kafka.producer(options), async (other) => {
        await (await other.transaction()).abort();
        await assert.rejects(zombie.commit(), { type: /FENCED|INVALID_PRODUCER_EPOCH/ });
      });
    });
    await one.consumer.disconnect();
    for (const readUncommitted of [false, true]) {
      const reader = await reading(`${topic}-${readUncommitted}`, {
        topics: [out],
        readUncommitted,
      });
      await until(() => reader.read.length >= (readUncommitted ? 200 : 100));
      await wait(300);
      await reader.consumer.disconnect();
      const values = valuesOf(reader).filter((value) => value !== 'zombie');
      assert.equal(values.filter((value) => value.startsWith('yes ')).length, 100);
      assert.equal(values.length, readUncommitted ? 200 : 100);
    }
  },

  async topics() {
    await using(kafka.admin(), async (admin) => {
      const made = `${topic}-made`;
      const configEntries = [{ name: 'retention.ms', value: '1000' }];
      const topics = [{ topic: made, numPartitions: 2, configEntries }];
      assert.equal(await admin.createTopics({ topics }), true);
      assert.equal(await admin.createTopics({ topics }), false);
      assert((await admin.listTopics()).includes(made));
      await admin.createPartitions({ topicPartitions: [{ topic: made, count: 3 }] });
      const { topics: described } = await admin.fetchTopicMetadata({ topics: [made] });
      assert.deepEqual(
        described[0].partitions.map(({ leader }) => leader),
        [1, 1, 1],
      );
      const type = ConfigResourceTypes.TOPIC;
      const config = async (name) => {
        const resources = [{ type, name: made, configNames: [name] }];
        const told = await admin.describeConfigs({ resources, includeSynonyms: false });
        return told.resources[0].configEntries[0].configValue;
      };
      assert.equal(await config('retention.ms'), '1000');
      const changed = [{ name: 'segment.ms', value: '5000' }];
      const resources = [{ type, name: made, configEntries: changed }];
      await admin.alterConfigs({ validateOnly: false, resources });
      assert.equal(await config('segment.ms'), '5000');
      assert.equal(await config('retention.ms'), '604800000');
      await using(kafka.producer(), (producer) => {
        const messages = numbers(10).map((i) => ({ value: String(i), partition: 0 }));
        return producer.send({ topic: made, messages });
      });
      await admin.deleteTopicRecords({ topic: made, partitions: [{ partition: 0, offset: '4' }] });
      const offsets = await admin.fetchTopicOffsets(made);
      const { low, high } = offsets.find(({ partition }) => partition === 0);
      assert.deepEqual([low, high], ['4', '10']);
      assert.equal((await admin.describeCluster()).controller, 1);
      await admin.deleteTopics({ topics: [made] });
      assert(!(await admin.listTopics()).includes(made));
    });
  },

  async groups() {
    const reader = await reading(topic);
    await until(() => reader.read.length === 100);
    await using(kafka.admin(), async (admin) => {
      const listed = async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId);
      const offsets = async () => {
        const [{ partitions }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
        return sortedBy(partitions, ({ partition }) => partition).map(({ offset }) => offset);
      };
      assert.deepEqual(await listed(), [topic]);
      const { groups } = await admin.describeGroups([topic]);
      assert.equal(groups[0].state, 'Stable');
      assert.equal(groups[0].members.length, 1);
      await assert.rejects(admin.deleteGroups([topic]));
      await reader.consumer.disconnect();
      assert.deepEqual(await offsets(), ['50', '50']);
      const partitions = [{ partition: 0, offset: '3' }];
      await admin.setOffsets({ groupId: topic, topic, partitions });
      assert.deepEqual(await offsets(), ['3', '50']);
      await admin.deleteGroups([topic]);
      assert.deepEqual(await listed(), []);
    });
  },

  async sasl() {
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512']) {
      // A new one for each: KafkaJS keeps in it how it was used first.
      const sasl = (password) => ({ mechanism, username: 'alice', password });
      await roundTrip(mechanism, { sasl: sasl('secret') });
      const stranger = connect({ sasl: sasl('wrong'), retry: { retries: 0 } });
      await assert.rejects(stranger.admin().connect(), { name: 'KafkaJSSASLAuthenticationError' });
    }
  },

  async tls() {
    await roundTrip('tls', { ssl: { ca: [readFileSync(ca)] } });
  },
};

async function roundTrip(value, options) {
  const of = connect(options);
  await using(of.producer(), (producer) => producer.send({ topic, messages: [{ value }] }));
  const reader = await reading(`${topic}-${value}`, { of });
  await until(() => valuesOf(reader).includes(value));
  await reader.consumer.disconnect();
}

if (feature === 'version') {
  console.log(createRequire(import.meta.url)('kafkajs/package.json').version);
} else {
  await features[feature]();
  console.log('ok');
}
