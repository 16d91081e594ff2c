import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { serve } from '../src/server/index.js';
import { closedAfterEach } from './contract.js';
import { batchOf, produce } from './wire-batches.js';
import { apiNamed, requestFrame, WireClient, type Fields } from './wire-client.js';

const opened = closedAfterEach();

let ottla: Ottla;
let warnings: string[];
let client: WireClient;
beforeEach(async () => {
  ottla = opened(Ottla.memory());
  warnings = [];
  ottla.on('warning', (warning) => void warnings.push(warning));
  await ottla.topics.create('t');
  const server = await serve(ottla, { listen: false });
  client = new WireClient(server.connect());
});

describe('A name that is all but too long', () => {
  const name = 'x'.repeat(32_767);

  it.each([
    ['CreatePartitions', 0, { topics: [{ name, count: 2, assignments: null }] }, 'results'],
    ['CreatePartitions', 3, { topics: [{ name, count: 2, assignments: null }] }, 'results'],
    ['CreateTopics', 4, { topics: [{ name, numPartitions: 1, replicationFactor: 1 }] }, 'topics'],
  ])('is answered by %s %i with a message that fits', async (api, version, body, field) => {
    const answer = await client.ask<Record<string, Fields[]>>(api, body, version);
    const [{ name: echo, errorCode, errorMessage }] = answer[field] as [Fields];
    expect(echo).toBe(name);
    expect([3, 17]).toContain(errorCode);
    expect(Buffer.byteLength(errorMessage as string)).toBeLessThanOrEqual(32_767);
    expect(warnings).toEqual([]);
  });

  it('and of characters of several bytes, too, is cut between two', async () => {
    const wide = '€'.repeat(10_922);
    const topics = [{ name: wide, count: 2, assignments: null }];
    const answer = await client.ask<{ results: Fields[] }>('CreatePartitions', { topics }, 0);
    expect(answer.results[0]!['name']).toBe(wide);
    expect(answer.results[0]!['errorMessage']).not.toContain('\ufffd');
    expect(warnings).toEqual([]);
  });
});

describe('A string', () => {
  const frameWith = (name: string): Buffer =>
    requestFrame(apiNamed('DeleteGroups'), 2, 1, { groupsNames: [name] });

  it('of more than 32767 bytes cuts the connection, as in Kafka', async () => {
    const longest = frameWith('x'.repeat(32_767));
    const longer = Buffer.concat([longest, longest.subarray(-1)]);
    const at = longer.indexOf('xxxx');
    longer[at - 3] = 0x81;
    longer.copyWithin(at + 32_768, at + 32_767);
    longer[at + 32_767] = 0x78;
    longer.writeInt32BE(longer.length - 4, 0);
    client.stream.write(longer);
    await client.closed;
    expect(warnings).toEqual([]);
  });

  it('that is no UTF-8 cuts the connection', async () => {
    const frame = frameWith('abcdef');
    frame.write('\xff\xfe', frame.indexOf('abcdef'), 'latin1');
    client.stream.write(frame);
    await client.closed;
    expect(warnings).toEqual([]);
  });

  it('with the character that stands for what is none is one as any other', async () => {
    const answer = await client.ask('DeleteGroups', { groupsNames: ['a\ufffdb'] });
    expect(answer).toMatchObject({ results: [{ groupId: 'a\ufffdb', errorCode: 69 }] });
  });
});

describe('An id that no row can have as its key', () => {
  const long = 'x'.repeat(1025);
  /** Each is stored as two bytes. */
  const doubled = '\0'.repeat(600);

  it.each([long, doubled])('is refused for a transaction', async (transactionalId) => {
    const asked = { transactionalId, transactionTimeoutMs: 1000 };
    expect(await client.ask('InitProducerId', asked)).toMatchObject({ errorCode: 42 });
    expect(warnings).toEqual([]);
  });

  it.each([long, doubled])('is refused for a group', async (groupId) => {
    const partitions = [{ partitionIndex: 0, committedOffset: 1, committedMetadata: '' }];
    const commit = { groupId, memberId: '', topics: [{ name: 't', partitions }] };
    expect(await client.ask('OffsetCommit', commit, 8)).toMatchObject({
      topics: [{ partitions: [{ errorCode: 24 }] }],
    });
    const added = { transactionalId: 'x', producerId: 1n, producerEpoch: 0, groupId };
    expect(await client.ask('AddOffsetsToTxn', added)).toMatchObject({ errorCode: 24 });
    expect(warnings).toEqual([]);
  });
});

describe('Metadata', () => {
  const anId = 'AAAAAAAAAAAAAAAAAAAAAQ';

  it.each([
    [10, { topicId: anId, name: null }],
    [11, { topicId: anId, name: null }],
    [11, { topicId: anId, name: 't' }],
  ])(
    'refuses in version %i topics by their ids, which version 12 brought',
    async (version, topic) => {
      const answer = await client.ask('Metadata', { topics: [topic] }, version);
      const name = topic.name ?? '';
      expect(answer).toMatchObject({ topics: [{ errorCode: 42, name, topicId: anId }] });
      expect(await produce(client, 't', { 0: batchOf(['a']) })).toMatchObject([{ errorCode: 0 }]);
    },
  );
});

describe('What is asked for many times in one request', () => {
  const many = <T>(item: T): T[] => Array.from({ length: 1000 }, () => item);

  it.each([
    ['Metadata', { topics: many({ name: 't' }) }, 'topics'],
    ['DescribeGroups', { groups: many('g') }, 'groups'],
    [
      'DescribeConfigs',
      { resources: many({ resourceType: 2, resourceName: 't', configurationKeys: null }) },
      'results',
    ],
    [
      'OffsetFetch',
      { groups: many({ groupId: 'g', memberId: null, memberEpoch: -1, topics: null }) },
      'groups',
    ],
  ])('is answered by %s once', async (api, body, field) => {
    const answer = await client.ask<Record<string, unknown[]>>(api, body);
    expect(answer[field]).toHaveLength(1);
  });

  it('is described by DescribeProducers once, whichever way it is named', async () => {
    const topics = many({ name: 't', partitionIndexes: [0, 0] });
    const answer = await client.ask<{ topics: { partitions: unknown[] }[] }>('DescribeProducers', {
      topics,
    });
    expect(answer.topics.flatMap(({ partitions }) => partitions)).toHaveLength(1);
  });

  it('is created by CreateTopics not at all', async () => {
    const topics = many({ name: 'new', numPartitions: 1, replicationFactor: 1 });
    const answer = await client.ask<{ topics: Fields[] }>('CreateTopics', { topics });
    expect(new Set(answer.topics.map(({ errorCode }) => errorCode))).toEqual(new Set([42]));
    expect(await ottla.topics.list()).toEqual(['t']);
  });
});

describe('More than 10000 partitions in one request', () => {
  const policyViolation = 44;

  it('are not created', async () => {
    const topics = ['a', 'b'].map((name) => ({ name, numPartitions: 5001, replicationFactor: 1 }));
    expect(await client.ask('CreateTopics', { topics })).toMatchObject({
      topics: [{ errorCode: policyViolation }, { errorCode: policyViolation }],
    });
    expect(await client.ask('CreateTopics', { topics: topics.slice(1) })).toMatchObject({
      topics: [{ errorCode: 0, numPartitions: 5001 }],
    });
  });

  it('are not added', async () => {
    const grow = (count: number): Promise<Fields> =>
      client.ask('CreatePartitions', { topics: [{ name: 't', count, assignments: null }] });
    expect(await grow(10_002)).toMatchObject({ results: [{ errorCode: 37 }] });
    await ottla.topics.create('u');
    const topics = ['t', 'u'].map((name) => ({ name, count: 5002, assignments: null }));
    expect(await client.ask('CreatePartitions', { topics })).toMatchObject({
      results: [{ errorCode: policyViolation }, { errorCode: policyViolation }],
    });
    expect(await grow(5002)).toMatchObject({ results: [{ errorCode: 0 }] });
  });

  it('are not created for those who ask for what is not there', async () => {
    const topics = Array.from({ length: 10_001 }, (_, i) => ({ name: `new-${i}` }));
    const answer = await client.ask<{ topics: Fields[] }>('Metadata', { topics });
    expect(new Set(answer.topics.map(({ errorCode }) => errorCode))).toEqual(new Set([3]));
    expect(await ottla.topics.list()).toEqual(['t']);
  });
});
