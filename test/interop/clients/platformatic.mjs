// @platformatic/kafka: platformatic.mjs FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import zlib from 'node:zlib';
import {
  Admin,
  ConfigResourceTypes,
  Consumer,
  FetchIsolationLevels,
  IncrementalAlterConfigOperationTypes,
  Producer,
  stringDeserializers,
  stringSerializers,
} from '@platformatic/kafka';

const [feature, server, topic, ca] = process.argv.slice(2);
const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);
// Zstd is Node's own here, from 22.15 on.
const codecs = ['gzip', 'snappy', 'lz4', ...('zstdCompress' in zlib ? ['zstd'] : [])];
const base = { clientId: 'matrix', bootstrapBrokers: [server], autocreateTopics: false };

/** Open for as long as `work` takes. */
async function using(client, work) {
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

const producer = (options) => new Producer({ ...base, serializers: stringSerializers, ...options });
const withAdmin = (work) => using(new Admin(base), work);

async function until(isSo) {
  const end = Date.now() + 60_000;
  while (!(await isSo())) {
    assert(Date.now() < end, `timed out: ${isSo}`);
    await wait(20);
  }
}

/** A consumer of a group whose stream runs, and what it has read. */
async function reading(
  groupId,
  { options = {}, topics = [topic], onRecord = () => {}, ...stream } = {},
) {
  const consumer = new Consumer({
    ...base,
    groupId,
    deserializers: stringDeserializers,
    sessionTimeout: 6000,
    heartbeatInterval: 200,
    maxWaitTime: 100,
    autocommit: false,
    ...options,
  });
  const from = { mode: 'committed', fallbackMode: 'earliest' };
  const messages = await consumer.consume({ topics, ...from, ...stream });
  const read = [];
  messages.on('data', (message) => {
    read.push(message);
    onRecord(message);
  });
  const close = async () => {
    await messages.close();
    return consumer.close(true);
  };
  return { consumer, read, close };
}

const partitionsOf = ({ consumer }) =>
  consumer.assignments?.flatMap((each) => each.partitions) ?? [];
const valuesOf = ({ read }) => read.map(({ value }) => value);

async function offsetsOf(admin, groupId) {
  const [{ topics }] = await admin.listConsumerGroupOffsets({ groups: [groupId] });
  const partitions = topics.flatMap((each) => each.partitions);
  return partitions
    .toSorted((a, b) => a.partitionIndex - b.partitionIndex)
    .map(({ committedOffset, metadata }) => `${committedOffset} ${metadata ?? ''}`.trim());
}

const features = {
  async produce() {
    await using(producer(), async (client) => {
      for (const [name, acks] of Object.entries({ 0: 0, 1: 1, all: -1 })) {
        const messages = numbers(10).map((i) => {
          return { topic, key: `k${i}`, value: `${name}-${i}`, headers: { h: 'x' } };
        });
        await client.send({ acks, messages });
      }
    });
  },

  async idempotent() {
    await using(producer({ idempotent: true }), async (client) => {
      for (const i of numbers(20)) {
        await client.send({ messages: [{ topic, value: String(i), partition: 0 }] });
      }
    });
  },

  async compression() {
    await using(producer(), async (client) => {
      for (const compression of codecs) {
        const messages = numbers(50).map((i) => ({
          topic,
          value: `${compression}-${i}`,
          partition: 0,
        }));
        await client.send({ compression, messages });
      }
    });
    const reader = await reading(`${topic}-compressed`);
    await until(() => reader.read.length === 50 * codecs.length);
    await reader.close();
  },

  async consume() {
    const reader = await reading(topic);
    await until(() => reader.read.length === 100);
    for (const partition of [0, 1]) {
      const mine = reader.read.filter((message) => message.partition === partition);
      assert.deepEqual(
        mine.map(({ offset, timestamp, value }) => `${offset} ${timestamp} ${value}`),
        numbers(50).map((i) => `${i} ${1000 + i} ${partition}-${i}`),
      );
      assert(mine.every(({ key, headers }) => `${key}${headers.get('h')}` === 'kx'));
    }
    const at = await reader.consumer.listOffsets({ topics: [topic], timestamp: 1025n });
    assert.deepEqual(at.get(topic), [25n, 25n]);
    await reader.close();
    const offsets = [0, 1].map((partition) => ({
      topic,
      partition,
      offset: partition ? 40n : 50n,
    }));
    const other = await reading(`${topic}-manual`, { mode: 'manual', offsets });
    await until(() => other.read.length === 10);
    assert.deepEqual(
      valuesOf(other),
      numbers(10, 40).map((i) => `1-${i}`),
    );
    await other.close();
  },

  group: () => group('classic'),

  kip848: () => group('consumer'),

  async commit() {
    const one = await reading(topic);
    await until(() => one.read.length === 100);
    const offsets = [7n, 50n].map((offset, partition) => ({
      topic,
      partition,
      offset,
      leaderEpoch: 0,
    }));
    await one.consumer.commit({ offsets });
    const topics = [{ topic, partitions: [0, 1] }];
    const committed = await one.consumer.listCommittedOffsets({ topics });
    assert.deepEqual(committed.get(topic), [7n, 50n]);
    await one.close();
    const commits = [];
    const two = await reading(topic, { onRecord: (message) => commits.push(message.commit()) });
    await until(() => two.read.length === 43);
    await Promise.all(commits);
    await two.close();
    assert.deepEqual(
      two.read.map(({ offset }) => Number(offset)),
      numbers(43, 7),
    );
  },

  async transactions() {
    const out = `${topic}-out`;
    const one = await reading(topic);
    await until(() => one.read.length === 100);
    const options = { transactionalId: topic, idempotent: true };
    await using(producer(options), async (client) => {
      for (const isCommitted of [false, true]) {
        const transaction = await client.beginTransaction();
        await transaction.addConsumer(one.consumer);
        const messages = one.read.map(({ partition, value }) => {
          return { topic: out, partition, value: `${isCommitted ? 'yes' : 'no'} ${value}` };
        });
        await transaction.send({ messages });
        for (const message of one.read) await transaction.addOffset(message);
        await (isCommitted ? transaction.commit() : transaction.abort());
        await withAdmin(async (admin) => {
          const expected = isCommitted ? '50,50' : '';
          await until(async () => (await offsetsOf(admin, topic)).join() === expected);
        });
      }
      const zombie = await client.beginTransaction();
      await zombie.send({ messages: [{ topic: out, value: 'zombie' }] });
      await using(producer(options), async (other) => {
        // Without these it says that it is producer 0, and is refused.
        await other.beginTransaction({ producerId: -1n, producerEpoch: -1 });
        await assert.rejects(zombie.commit());
      });
    });
    await one.close();
    for (const isolationLevel of Object.values(FetchIsolationLevels)) {
      const reader = await reading(`${topic}-${isolationLevel}`, { topics: [out], isolationLevel });
      // It does not leave aborted records out, from Kafka neither.
      const isCommitted = (value) => value.startsWith('yes ');
      await until(() => valuesOf(reader).filter(isCommitted).length === 100);
      await reader.close();
    }
  },

  async topics() {
    await withAdmin(async (admin) => {
      const made = `${topic}-made`;
      const configs = [{ name: 'retention.ms', value: '1000' }];
      const create = () =>
        admin.createTopics({ topics: [made], partitions: 2, replicas: 1, configs });
      await create();
      await assert.rejects(create());
      assert((await admin.listTopics()).includes(made));
      await admin.createPartitions({ topics: [{ name: made, count: 3, assignments: null }] });
      const { topics } = await admin.metadata({ topics: [made] });
      assert.deepEqual(
        topics.get(made).partitions.map(({ leader }) => leader),
        [1, 1, 1],
      );
      const of = { resourceType: ConfigResourceTypes.TOPIC, resourceName: made };
      const config = async (name) => {
        const resources = [{ ...of, configurationKeys: [name] }];
        const [told] = await admin.describeConfigs({ resources });
        return told.configs[0].value;
      };
      assert.equal(await config('retention.ms'), '1000');
      const { SET, DELETE } = IncrementalAlterConfigOperationTypes;
      const changed = [
        { name: 'segment.ms', configOperation: SET, value: '5000' },
        { name: 'retention.ms', configOperation: DELETE, value: null },
      ];
      await admin.incrementalAlterConfigs({ resources: [{ ...of, configs: changed }] });
      assert.equal(await config('segment.ms'), '5000');
      assert.equal(await config('retention.ms'), '604800000');
      await using(producer(), (client) => {
        const messages = numbers(10).map((i) => ({ topic: made, value: String(i), partition: 0 }));
        return client.send({ messages });
      });
      const partitions = [{ partition: 0, offset: 4n }];
      const deleted = await admin.deleteRecords({ topics: [{ name: made, partitions }] });
      assert.equal(deleted[0].partitions[0].lowWatermark, 4n);
      const earliest = { partitionIndex: 0, timestamp: -2n };
      const offsets = await admin.listOffsets({ topics: [{ name: made, partitions: [earliest] }] });
      assert.equal(offsets[0].partitions[0].offset, 4n);
      await admin.deleteTopics({ topics: [made] });
      assert(!(await admin.listTopics()).includes(made));
    });
  },

  async groups() {
    const commits = [];
    const reader = await reading(topic, { onRecord: (message) => commits.push(message.commit()) });
    await until(() => reader.read.length === 100);
    await Promise.all(commits);
    await withAdmin(async (admin) => {
      const listed = async () => [...(await admin.listGroups()).keys()];
      assert.deepEqual(await listed(), [topic]);
      const described = (await admin.describeGroups({ groups: [topic] })).get(topic);
      assert.equal(described.state, 'STABLE');
      const [member] = described.members.values();
      assert.equal(member.assignments.get(topic).partitions.length, 2);
      await assert.rejects(admin.deleteGroups({ groups: [topic] }));
      await reader.close();
      assert.deepEqual(await offsetsOf(admin, topic), ['50', '50']);
      const partitionOffsets = [{ partition: 0, offset: 3n }];
      const topics = [{ name: topic, partitionOffsets }];
      await admin.alterConsumerGroupOffsets({ groupId: topic, topics });
      assert.deepEqual(await offsetsOf(admin, topic), ['3', '50']);
      const some = [{ name: topic, partitionIndexes: [1] }];
      await admin.deleteConsumerGroupOffsets({ groupId: topic, topics: some });
      assert.deepEqual(await offsetsOf(admin, topic), ['3']);
      await admin.deleteGroups({ groups: [topic] });
      assert.deepEqual(await listed(), []);
    });
  },

  async sasl() {
    for (const mechanism of ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']) {
      const sasl = { mechanism, username: 'alice', password: 'secret' };
      await roundTrip(mechanism, { sasl });
      const stranger = producer({ sasl: { ...sasl, password: 'wrong' }, retries: 0 });
      await using(stranger, () => assert.rejects(stranger.metadata({ topics: [topic] })));
    }
  },

  async tls() {
    await roundTrip('tls', { tls: { ca: [readFileSync(ca)] } });
  },
};

async function group(groupProtocol) {
  await using(producer(), async (client) => {
    const send = (first) => {
      const message = (i) => ({ topic, value: String(i), partition: i % 2 });
      return client.send({ messages: numbers(20, first).map(message) });
    };
    const commits = [];
    const onRecord = (message) => commits.push(message.commit());
    const settled = async () => {
      await Promise.all(commits);
      return true;
    };
    const options = { groupProtocol };
    const one = await reading(topic, { onRecord, options });
    const read = [one];
    const all = () => read.flatMap(valuesOf).map(Number);
    const hasAll = (count) => () => new Set(all()).size === count && settled();
    await send(0);
    await until(hasAll(20));
    const two = await reading(topic, { onRecord, options });
    read.push(two);
    await until(() => partitionsOf(one).length === 1 && partitionsOf(two).length === 1);
    await send(20);
    await until(hasAll(40));
    await two.close();
    await until(() => partitionsOf(one).length === 2);
    await send(40);
    await until(hasAll(60));
    await one.close();
    // No record is lost. When its partitions change it may read from its commits again, from Kafka, too: it asks for
    // them while it goes on fetching.
    assert.deepEqual(new Set(all()), new Set(numbers(60)));
  });
}

async function roundTrip(value, options) {
  await using(producer(options), (client) => client.send({ messages: [{ topic, value }] }));
  const reader = await reading(`${topic}-${value}`, { options });
  await until(() => valuesOf(reader).includes(value));
  await reader.close();
}

if (feature === 'version') {
  const entry = import.meta.resolve('@platformatic/kafka');
  console.log(JSON.parse(readFileSync(new URL('../package.json', entry))).version);
} else {
  await features[feature]();
  console.log('ok');
}
