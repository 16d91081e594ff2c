// @confluentinc/kafka-javascript: confluent_js.mjs FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as wait } from 'node:timers/promises';

// Where it is installed: it is no dependency of this project.
const require = createRequire(import.meta.url);
const ck = require('@confluentinc/kafka-javascript');
const { Kafka, logLevel } = ck.KafkaJS;
const [feature, server, topic, ca] = process.argv.slice(2);
const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);
const connect = (more = {}, native = {}) =>
  new Kafka({ kafkaJS: { brokers: [server], logLevel: logLevel.NOTHING, ...more }, ...native });
const kafka = connect();
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
const producer = (options = {}, of = kafka) => of.producer({ kafkaJS: options });
async function reading(
  groupId,
  { topics = [topic], of = kafka, native = {}, autoCommit = true, onRecord = async () => {} } = {},
) {
  const consumer = of.consumer({
    kafkaJS: { groupId, fromBeginning: true, autoCommit },
    ...native,
  });
  const read = [];
  await consumer.connect();
  await consumer.subscribe({ topics });
  await consumer.run({
    eachMessage: async ({ topic: of_, partition, message }) => {
      read.push({ partition, ...message });
      await onRecord(consumer, of_, partition, message);
    },
  });
  return { consumer, read, close: () => consumer.disconnect() };
}
const valuesOf = ({ read }) => read.map(({ value }) => String(value));
const commitEach = (consumer, of, partition, { offset }) =>
  consumer.commitOffsets([{ topic: of, partition, offset: String(Number(offset) + 1) }]);
async function group(native) {
  await using(producer(), async (client) => {
    const send = (first) =>
      client.send({
        topic,
        messages: numbers(20, first).map((i) => ({ value: String(i), partition: i % 2 })),
      });
    const options = { autoCommit: false, onRecord: commitEach, native };
    const one = await reading(topic, options);
    const all = [one];
    const read = () => all.flatMap(valuesOf).map(Number);
    await send(0);
    await until(() => new Set(read()).size === 20);
    await wait(300);
    const two = await reading(topic, options);
    all.push(two);
    await until(
      () => one.consumer.assignment().length === 1 && two.consumer.assignment().length === 1,
    );
    await send(20);
    await until(() => new Set(read()).size === 40);
    await wait(300);
    await two.close();
    await until(() => one.consumer.assignment().length === 2);
    await send(40);
    await until(() => new Set(read()).size === 60);
    await one.close();
    assert.equal(read().length, 60);
  });
}
const features = {
  async produce() {
    for (const [name, acks] of Object.entries({ 0: 0, 1: 1, all: -1 })) {
      await using(producer({ acks }), (client) =>
        client.send({
          topic,
          messages: numbers(10).map((i) => ({
            key: `k${i}`,
            value: `${name}-${i}`,
            headers: { h: 'x' },
          })),
        }),
      );
    }
  },
  async idempotent() {
    await using(producer({ idempotent: true, acks: -1 }), async (client) => {
      for (const i of numbers(20))
        await client.send({ topic, messages: [{ value: String(i), partition: 0 }] });
    });
  },
  async compression() {
    const key = 'k'.repeat(200);
    for (const compression of ['gzip', 'snappy', 'lz4', 'zstd']) {
      await using(kafka.producer({ kafkaJS: { compression }, 'linger.ms': 200 }), (client) =>
        client.send({
          topic,
          messages: numbers(50).map((i) => ({ key, value: `${compression}-${i}`, partition: 0 })),
        }),
      );
    }
    const reader = await reading(`${topic}-c`);
    await until(() => reader.read.length === 200);
    await reader.close();
  },
  async consume() {
    const reader = await reading(topic);
    await until(() => reader.read.length === 100);
    for (const partition of [0, 1]) {
      const mine = reader.read.filter((r) => r.partition === partition);
      assert.deepEqual(
        mine.map((r) => `${r.offset} ${r.timestamp} ${r.value}`),
        numbers(50).map((i) => `${i} ${1000 + i} ${partition}-${i}`),
      );
      assert(mine.every(({ key, headers }) => String(key) === 'k' && String(headers.h) === 'x'));
    }
    reader.read.length = 0;
    reader.consumer.seek({ topic, partition: 1, offset: '40' });
    await until(() => reader.read.length >= 10);
    assert.deepEqual(
      valuesOf(reader),
      numbers(10, 40).map((i) => `1-${i}`),
    );
    await reader.close();
    const admin = kafka.admin();
    await using(admin, async () => {
      const at = await admin.fetchTopicOffsetsByTimestamp(topic, 1025);
      assert.deepEqual(
        at.map(({ offset }) => offset),
        ['25', '25'],
      );
    });
  },
  group: () => group({}),
  kip848: () => group({ 'group.protocol': 'consumer' }),
  async commit() {
    const one = await reading(topic, { autoCommit: false });
    await until(() => one.read.length === 100);
    await one.consumer.commitOffsets([
      { topic, partition: 0, offset: '7' },
      { topic, partition: 1, offset: '50' },
    ]);
    const committed = await one.consumer.committed(
      [
        { topic, partition: 0 },
        { topic, partition: 1 },
      ],
      5000,
    );
    assert.deepEqual(
      committed.map(({ offset }) => String(offset)),
      ['7', '50'],
    );
    await one.close();
    const two = await reading(topic, { autoCommit: false, onRecord: commitEach });
    await until(() => two.read.length === 43);
    await wait(300);
    await two.close();
    assert.deepEqual(
      two.read.map(({ offset }) => Number(offset)),
      numbers(43, 7),
    );
  },
  async transactions() {
    const out = `${topic}-out`;
    const one = await reading(topic, { autoCommit: false });
    await until(() => one.read.length === 100);
    const tx = producer({ transactionalId: topic, transactionTimeout: 20000 });
    await tx.connect();
    for (const isCommitted of [false, true]) {
      const t = await tx.transaction();
      await t.send({
        topic: out,
        messages: one.read.map(({ partition, value }) => ({
          partition,
          value: `${isCommitted ? 'yes' : 'no'} ${value}`,
        })),
      });
      await t.sendOffsets({
        consumer: one.consumer,
        topics: [{ topic, partitions: [0, 1].map((partition) => ({ partition, offset: '50' })) }],
      });
      await (isCommitted ? t.commit() : t.abort());
      const committed = await one.consumer.committed(
        [
          { topic, partition: 0 },
          { topic, partition: 1 },
        ],
        5000,
      );
      assert.deepEqual(
        committed.map(({ offset }) => String(offset) === '50'),
        [isCommitted, isCommitted],
      );
    }
    await one.close();
    for (const [level, count] of [
      ['read_committed', 100],
      ['read_uncommitted', 200],
    ]) {
      const reader = await reading(topic + level, {
        topics: [out],
        native: { 'isolation.level': level },
      });
      await until(() => reader.read.length >= count);
      await wait(300);
      assert.equal(reader.read.length, count);
      assert.equal(valuesOf(reader).filter((v) => v.startsWith('yes ')).length, 100);
      await reader.close();
    }
    const zombie = await tx.transaction();
    await zombie.send({ topic: out, messages: [{ value: 'zombie', partition: 0 }] });
    await using(producer({ transactionalId: topic }), () => assert.rejects(zombie.commit()));
    await tx.disconnect().catch(() => {});
  },
  async topics() {
    const admin = kafka.admin();
    await using(admin, async () => {
      const made = `${topic}-made`;
      const asked = {
        topics: [
          {
            topic: made,
            numPartitions: 2,
            replicationFactor: 1,
            configEntries: [{ name: 'retention.ms', value: '1000' }],
          },
        ],
      };
      assert.equal(await admin.createTopics(asked), true);
      assert.equal(await admin.createTopics(asked), false);
      assert((await admin.listTopics()).includes(made));
      await using(producer(), (client) =>
        client.send({
          topic: made,
          messages: numbers(10).map((i) => ({ value: String(i), partition: 0 })),
        }),
      );
      await admin.deleteTopicRecords({ topic: made, partitions: [{ partition: 0, offset: '4' }] });
      const offsets = await admin.fetchTopicOffsets(made);
      assert.equal(offsets.find(({ partition }) => partition === 0).low, '4');
      await admin.deleteTopics({ topics: [made] });
      assert(!(await admin.listTopics()).includes(made));
    });
  },
  async groups() {
    const admin = kafka.admin();
    await using(admin, async () => {
      const reader = await reading(topic, { autoCommit: false, onRecord: commitEach });
      await until(() => reader.read.length === 100);
      await wait(300);
      assert.deepEqual(
        (await admin.listGroups()).groups.map(({ groupId }) => groupId),
        [topic],
      );
      const {
        groups: [described],
      } = await admin.describeGroups([topic]);
      assert.equal(described.members.length, 1);
      await assert.rejects(admin.deleteGroups([topic]));
      await reader.close();
      const [{ partitions }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
      assert.deepEqual(
        partitions.map(({ offset }) => String(offset)),
        ['50', '50'],
      );
      await admin.deleteGroups([topic]);
      assert.deepEqual((await admin.listGroups()).groups, []);
    });
  },
  async sasl() {
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512']) {
      const sasl = { mechanism, username: 'alice', password: 'secret' };
      await roundTrip(mechanism, connect({ sasl }));
      const stranger = producer({}, connect({ sasl: { ...sasl, password: 'wrong' } }));
      // It tries again for ever.
      const connected = stranger.connect().then(() => 'let in');
      assert.equal(await Promise.race([connected, wait(3000, 'refused')]), 'refused');
    }
  },
  async tls() {
    await roundTrip('tls', connect({ ssl: true }, { 'ssl.ca.location': ca }));
  },
};
async function roundTrip(value, of) {
  await using(producer({}, of), (client) => client.send({ topic, messages: [{ value }] }));
  const reader = await reading(`${topic}-${value}`, { of });
  await until(() => valuesOf(reader).includes(value));
  await reader.close();
}
if (feature === 'version') {
  const { version } = require('@confluentinc/kafka-javascript/package.json');
  console.log(`${version}, librdkafka ${ck.librdkafkaVersion}`);
} else {
  await features[feature]();
  console.log('ok');
  process.exit(); // A producer that was refused goes on trying.
}
