import { describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { describeContract } from './contract.js';
import { batchOf, connected, numbered, produce } from './wire-batches.js';
import type { Fields, WireClient } from './wire-client.js';

const newTopic = (name: string, more: Fields = {}): Fields => ({
  name,
  numPartitions: 1,
  replicationFactor: 1,
  assignments: [],
  configs: [],
  ...more,
});

async function create(client: WireClient, ...topics: readonly Fields[]): Promise<unknown> {
  return (await client.ask('CreateTopics', { topics }))['topics'];
}

const config = (name: string, value: string | null): Fields => ({ name, value });

/** A topic, as the requests on configurations name it. */
const topicResource = (resourceName: string, more: Fields = {}): Fields => ({
  resourceType: 2,
  resourceName,
  ...more,
});

async function configsOf(client: WireClient, topic: string): Promise<Record<string, string>> {
  const resource = topicResource(topic, { configurationKeys: null });
  const answer = await client.ask<{
    results: { errorCode: number; configs: { name: string; value: string }[] }[];
  }>('DescribeConfigs', { resources: [resource] });
  const [{ configs }] = answer.results as [(typeof answer.results)[0]];
  return Object.fromEntries(configs.map(({ name, value }) => [name, value]));
}

describeContract('CreateTopics', ({ open }) => {
  it.each([2, 3, 4, 5, 6, 7])('creates topics in version %i', async (version) => {
    const ottla = await open();
    const client = await connected(ottla, { defaultPartitions: 4 });
    const configs = [
      config('cleanup.policy', 'compact,delete'),
      config('retention.ms', '-1'),
      config('compression.type', 'uncompressed'),
      config('flush.messages', '9223372036854775807'),
    ];
    const request = {
      topics: [
        newTopic('a', { numPartitions: 3, configs }),
        newTopic('b', { numPartitions: -1, replicationFactor: -1 }),
      ],
    };
    const answer = await client.ask('CreateTopics', request, version);
    const told = version >= 5 ? { numPartitions: 3, replicationFactor: 1 } : {};
    expect(answer['topics']).toMatchObject([
      { name: 'a', errorCode: 0, ...told },
      { name: 'b', errorCode: 0 },
    ]);
    expect((await ottla.topics.describe('a')).options).toMatchObject({
      partitions: 3,
      cleanupPolicy: ['compact', 'delete'],
      retentionMs: -1,
      compression: 'none',
      flushMessages: Number.MAX_SAFE_INTEGER,
    });
    expect((await ottla.topics.describe('b')).options).toMatchObject({
      partitions: 4,
      retentionMs: 604_800_000,
    });
  });

  it('takes an assignment to its one node', async () => {
    const ottla = await open();
    const client = await connected(ottla);
    const assigned = (...brokers: readonly (readonly number[])[]): Fields => ({
      numPartitions: -1,
      replicationFactor: -1,
      assignments: brokers.map((brokerIds, partitionIndex) => ({ partitionIndex, brokerIds })),
    });
    expect(await create(client, newTopic('t', assigned([1], [1])))).toMatchObject([
      { errorCode: 0 },
    ]);
    expect((await ottla.topics.describe('t')).partitions).toHaveLength(2);
    expect(await create(client, newTopic('u', assigned([1], [2])))).toMatchObject([
      { errorCode: 39 },
    ]);
    expect(await create(client, newTopic('u', assigned([1, 1])))).toMatchObject([
      { errorCode: 39 },
    ]);
  });

  it.each([
    ['a name that is none', newTopic('a b'), 17],
    ['a reserved name', newTopic('__consumer_offsets'), 17],
    ['a topic that exists, though it is equal', newTopic('there'), 36],
    ['no partitions', newTopic('t', { numPartitions: 0 }), 37],
    ['too many partitions', newTopic('t', { numPartitions: 1_000_000 }), 37],
    ['more replicas than nodes', newTopic('t', { replicationFactor: 3 }), 38],
    ['a configuration that there is not', newTopic('t', { configs: [config('x', '1')] }), 40],
    ['one that is like a property', newTopic('t', { configs: [config('toString', '1')] }), 40],
    ['a value out of range', newTopic('t', { configs: [config('retention.ms', '-2')] }), 40],
    ['a value of another type', newTopic('t', { configs: [config('segment.bytes', 'x')] }), 40],
    ['what cannot be here', newTopic('t', { configs: [config('min.insync.replicas', '2')] }), 40],
    [
      'an assignment beside numbers',
      newTopic('t', { assignments: [{ partitionIndex: 0, brokerIds: [1] }] }),
      42,
    ],
  ])('refuses %s', async (_, topic, errorCode) => {
    const ottla = await open();
    const client = await connected(ottla);
    await create(client, newTopic('there'));
    const answers = await create(client, topic, newTopic('other'));
    expect(answers).toMatchObject([{ errorCode, topicId: 'A'.repeat(22) }, { errorCode: 0 }]);
    expect(await ottla.topics.list()).toEqual(['other', 'there']);
  });

  it('refuses a topic that is named twice, and creates nothing where it is told to check only', async () => {
    const ottla = await open();
    const client = await connected(ottla);
    expect(await create(client, newTopic('t'), newTopic('t'))).toMatchObject([
      { errorCode: 42 },
      { errorCode: 42 },
    ]);
    const request = { topics: [newTopic('t'), newTopic('a b')], validateOnly: true };
    expect(await client.ask('CreateTopics', request)).toMatchObject({
      topics: [{ errorCode: 0 }, { errorCode: 17 }],
    });
    expect(await ottla.topics.list()).toEqual([]);
  });
});

describeContract('Topics over the wire', ({ open }) => {
  it.each([1, 2, 3, 4, 5, 6])('are deleted in version %i', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const asked =
      version >= 6 ? { topics: [{ name: 't' }, { name: 'none' }] } : { topicNames: ['t', 'none'] };
    const answer = await client.ask('DeleteTopics', { timeoutMs: 1, ...asked }, version);
    expect(answer['responses']).toMatchObject([
      { name: 't', errorCode: 0 },
      { name: 'none', errorCode: 3 },
    ]);
    expect(await ottla.topics.list()).toEqual([]);
  });

  it('are deleted by id', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const { id } = await ottla.topics.describe('t');
    const client = await connected(ottla);
    const topics = [{ topicId: id }, { topicId: id }];
    const answer = await client.ask('DeleteTopics', { timeoutMs: 1, topics });
    expect(answer['responses']).toMatchObject([
      { name: 't', topicId: id, errorCode: 0 },
      { name: null, topicId: id, errorCode: 100 },
    ]);
  });

  it.each([0, 1, 2, 3])('get partitions in version %i', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const one = [{ brokerIds: [1] }];
    const grow = async (fields: Fields, validateOnly = false): Promise<unknown> => {
      const topics = [{ name: 't', assignments: null, ...fields }];
      const request = { topics, timeoutMs: 1, validateOnly };
      return (await client.ask('CreatePartitions', request, version))['results'];
    };
    expect(await grow({ count: 2 }, true)).toMatchObject([{ errorCode: 0 }]);
    expect(await grow({ count: 2 })).toMatchObject([{ name: 't', errorCode: 0 }]);
    expect(await grow({ count: 3, assignments: one })).toMatchObject([{ errorCode: 0 }]);
    expect(await grow({ count: 3 })).toMatchObject([{ errorCode: 37 }]);
    expect(await grow({ count: 200_000 })).toMatchObject([{ errorCode: 37 }]);
    expect(await grow({ count: 5, assignments: one })).toMatchObject([{ errorCode: 39 }]);
    expect(await grow({ count: 5, assignments: [] })).toMatchObject([{ errorCode: 39 }]);
    expect(await grow({ name: 'none', count: 5 })).toMatchObject([{ errorCode: 3 }]);
    expect((await ottla.topics.describe('t')).partitions).toHaveLength(3);
  });

  it.each([0, 1, 2])('lose records in version %i', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 2 });
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a', 'b', 'c']), 1: batchOf(['d']) });
    const request = {
      timeoutMs: 1,
      topics: [
        {
          name: 't',
          partitions: [
            { partitionIndex: 0, offset: 2 },
            { partitionIndex: 1, offset: -1 },
            { partitionIndex: 0, offset: 9 },
            { partitionIndex: 7, offset: 0 },
          ],
        },
      ],
    };
    const answer = await client.ask('DeleteRecords', request, version);
    expect(answer['topics']).toMatchObject([
      {
        partitions: [
          { errorCode: 0, lowWatermark: 2 },
          { errorCode: 0, lowWatermark: 1 },
          { errorCode: 1, lowWatermark: -1 },
          { errorCode: 3, lowWatermark: -1 },
        ],
      },
    ]);
  });

  it('show and change their configurations', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { segmentBytes: 5000 });
    const client = await connected(ottla);
    expect(await configsOf(client, 't')).toMatchObject({
      'cleanup.policy': 'delete',
      'segment.bytes': '5000',
      'retention.ms': '-1',
      'min.insync.replicas': '1',
    });
    const alter = async (changes: readonly [string, number, string | null][]): Promise<unknown> => {
      const configs = changes.map(([name, configOperation, value]) => ({
        name,
        configOperation,
        value,
      }));
      const resources = [topicResource('t', { configs })];
      const request = { resources, validateOnly: false };
      return (await client.ask('IncrementalAlterConfigs', request))['responses'];
    };
    expect(
      await alter([
        ['retention.ms', 0, '1000'],
        ['cleanup.policy', 2, 'compact'],
        ['segment.bytes', 1, null],
      ]),
    ).toMatchObject([{ errorCode: 0 }]);
    expect(await configsOf(client, 't')).toMatchObject({
      'cleanup.policy': 'compact,delete',
      'segment.bytes': '1073741824',
      'retention.ms': '1000',
    });
    expect(await alter([['cleanup.policy', 3, 'delete']])).toMatchObject([{ errorCode: 0 }]);
    expect((await ottla.topics.describe('t')).options.cleanupPolicy).toBe('compact');
    expect(await alter([['retention.ms', 2, '1']])).toMatchObject([{ errorCode: 40 }]);
    expect(await alter([['retention.ms', 9, '1']])).toMatchObject([{ errorCode: 42 }]);
    expect(await alter([['retention.ms', 0, null]])).toMatchObject([{ errorCode: 40 }]);
    // All else goes back to its default.
    const resources = [topicResource('t', { configs: [config('segment.ms', '7')] })];
    const altered = await client.ask('AlterConfigs', { resources, validateOnly: false });
    expect(altered['responses']).toMatchObject([{ errorCode: 0 }]);
    expect(await configsOf(client, 't')).toMatchObject({
      'cleanup.policy': 'delete',
      'retention.ms': '604800000',
      'segment.ms': '7',
    });
  });

  it('are listed page by page', async () => {
    const ottla = await open();
    for (const [name, partitions] of [
      ['a', 3],
      ['b', 2],
      ['c', 1],
    ] as const) {
      await ottla.topics.create(name, { partitions });
    }
    const client = await connected(ottla);
    const pages: string[][] = [];
    for (let cursor: unknown = null; cursor !== null || pages.length === 0;) {
      const answer = await client.ask<{
        topics: { name: string; partitions: { partitionIndex: number }[] }[];
        nextCursor: unknown;
      }>('DescribeTopicPartitions', { topics: [], responsePartitionLimit: 2, cursor });
      pages.push(
        answer.topics.flatMap(({ name, partitions }) =>
          partitions.map(({ partitionIndex }) => `${name}-${partitionIndex}`),
        ),
      );
      cursor = answer.nextCursor;
    }
    expect(pages).toEqual([
      ['a-0', 'a-1'],
      ['a-2', 'b-0'],
      ['b-1', 'c-0'],
    ]);
    const topics = [{ name: 'none' }, { name: 'a' }];
    const named = await client.ask('DescribeTopicPartitions', { topics });
    expect(named['topics']).toMatchObject([
      { name: 'a', errorCode: 0, partitions: [{ eligibleLeaderReplicas: [] }, {}, {}] },
      { name: 'none', errorCode: 3 },
    ]);
  });

  it('tell offsets by time', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const list = async (timestamp: number, version?: number): Promise<unknown> => {
      const partitions = [{ partitionIndex: 0, timestamp }];
      const request = { replicaId: -1, isolationLevel: 0, topics: [{ name: 't', partitions }] };
      const answer = await client.ask<{ topics: { partitions: unknown[] }[] }>(
        'ListOffsets',
        request,
        version,
      );
      return answer.topics[0]!.partitions[0];
    };
    expect(await list(-3)).toMatchObject({ errorCode: 0, offset: -1, timestamp: -1 });
    await produce(client, 't', { 0: batchOf(['a', 'b', 'c']) });
    await ottla.topics.deleteRecords('t', 0, 1);
    for (let version = 1; version <= 11; version++) {
      expect(await list(-2, version)).toMatchObject({ errorCode: 0, offset: 1, timestamp: -1 });
      expect(await list(-1, version)).toMatchObject({ errorCode: 0, offset: 3, timestamp: -1 });
      expect(await list(1001, version)).toMatchObject({ offset: 1, timestamp: 1001 });
    }
    expect(await list(1)).toMatchObject({ offset: 1, timestamp: 1001, leaderEpoch: 0 });
    expect(await list(-3)).toMatchObject({ offset: 2, timestamp: 1002 });
    expect(await list(5000)).toMatchObject({ errorCode: 0, offset: -1, timestamp: -1 });
    expect(await list(-4)).toMatchObject({ offset: 1 });
    expect(await list(-5)).toMatchObject({ errorCode: 0, offset: -1 });
  });

  it('tell where leader epochs end', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a']) });
    const ask = async (leaderEpoch: number, currentLeaderEpoch = -1): Promise<unknown> => {
      const partitions = [{ partition: 0, leaderEpoch, currentLeaderEpoch }];
      const request = { replicaId: -1, topics: [{ topic: 't', partitions }] };
      return (await client.ask('OffsetForLeaderEpoch', request))['topics'];
    };
    const told = (fields: Fields): Fields[] => [{ topic: 't', partitions: [fields] }];
    expect(await ask(0)).toMatchObject(told({ errorCode: 0, leaderEpoch: 0, endOffset: 1 }));
    expect(await ask(3)).toMatchObject(told({ errorCode: 0, leaderEpoch: -1, endOffset: -1 }));
    expect(await ask(0, 3)).toMatchObject(told({ errorCode: 75 }));
  });

  it('tell who numbers their batches', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a', 'b'], numbered(9n, 0)) });
    const topics = [{ name: 't', partitionIndexes: [0, 5] }];
    expect((await client.ask('DescribeProducers', { topics }))['topics']).toMatchObject([
      {
        partitions: [
          {
            errorCode: 0,
            activeProducers: [
              { producerId: 9n, producerEpoch: 0, lastSequence: 1, currentTxnStartOffset: -1 },
            ],
          },
          { errorCode: 3 },
        ],
      },
    ]);
  });
});

describeContract('DescribeLogDirs', ({ open }) => {
  it.each([1, 2, 3, 4, 5])('tells in version %i how large logs are', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t', { partitions: 2 });
    await ottla.topics.create('u');
    const client = await connected(ottla);
    const batch = batchOf(['a', 'b']);
    await produce(client, 't', { 1: batch });
    const ask = (topics: readonly Fields[] | null): Promise<Fields> =>
      client.ask('DescribeLogDirs', { topics }, version);
    const told = (topics: readonly Fields[]): Fields => ({
      errorCode: 0,
      results: [{ errorCode: 0, topics, totalBytes: -1, usableBytes: -1, isCordoned: false }],
    });
    const log = (partitionIndex: number, partitionSize: number): Fields => ({
      partitionIndex,
      partitionSize,
      offsetLag: 0,
      isFutureKey: false,
    });
    expect(await ask(null)).toMatchObject(
      told([
        { name: 't', partitions: [log(0, 0), log(1, batch.length)] },
        { name: 'u', partitions: [log(0, 0)] },
      ]),
    );
    const asked = [
      { topic: 't', partitions: [1, 7] },
      { topic: 'u', partitions: [3] },
      { topic: 'nowhere', partitions: [0] },
    ];
    expect(await ask(asked)).toMatchObject(
      told([{ name: 't', partitions: [log(1, batch.length)] }]),
    );
    expect(await ask([])).toMatchObject(told([]));
  });
});

describe('The cluster', () => {
  it('is one node, whose configurations are those of serve()', async () => {
    await using ottla = Ottla.memory();
    const client = await connected(ottla, { defaultPartitions: 5 });
    expect(await client.ask('DescribeCluster')).toMatchObject({
      errorCode: 0,
      controllerId: 1,
      brokers: [{ brokerId: 1, host: 'localhost', port: 9092 }],
    });
    expect(await client.ask('DescribeCluster', { endpointType: 2 })).toMatchObject({
      errorCode: 115,
    });
    const describe1 = (resourceType: number, resourceName: string): Promise<Fields> =>
      client.ask('DescribeConfigs', {
        resources: [{ resourceType, resourceName, configurationKeys: ['num.partitions'] }],
        includeSynonyms: true,
      });
    expect(await describe1(4, '1')).toMatchObject({
      results: [
        { errorCode: 0, configs: [{ name: 'num.partitions', value: '5', readOnly: true }] },
      ],
    });
    expect(await describe1(4, '2')).toMatchObject({ results: [{ errorCode: 42, configs: [] }] });
    expect(await describe1(8, '1')).toMatchObject({ results: [{ errorCode: 42, configs: [] }] });
    expect(await describe1(2, 'none')).toMatchObject({ results: [{ errorCode: 3, configs: [] }] });
  });
});
