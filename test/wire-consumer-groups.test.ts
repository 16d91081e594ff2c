import { expect, it } from 'vitest';
import type { Ottla } from '../src/index.js';
import { describeContract, describeDirectory, failureOf } from './contract.js';
import { connected } from './wire-batches.js';
import { apiNamed, type Fields, type WireClient } from './wire-client.js';

const codes = {
  INCONSISTENT_GROUP_PROTOCOL: 23,
  INVALID_GROUP_ID: 24,
  UNKNOWN_MEMBER_ID: 25,
  INVALID_REQUEST: 42,
  NON_EMPTY_GROUP: 68,
  GROUP_ID_NOT_FOUND: 69,
  GROUP_SUBSCRIBED_TO_TOPIC: 86,
  UNSUPPORTED_ASSIGNOR: 112,
  STALE_MEMBER_EPOCH: 113,
  INVALID_REGULAR_EXPRESSION: 128,
} as const;

const versionsOf = (name: string): number[] => {
  const { minVersion, maxVersion } = apiNamed(name);
  return Array.from({ length: maxVersion - minVersion + 1 }, (_, i) => minVersion + i);
};

const joining = {
  groupId: 'g',
  memberId: 'm',
  memberEpoch: 0,
  instanceId: null,
  rackId: null,
  rebalanceTimeoutMs: 60_000,
  subscribedTopicNames: ['t'],
  subscribedTopicRegex: null,
  serverAssignor: null,
  topicPartitions: [],
} as const;

/** Nothing has changed. */
const unchanged = {
  ...joining,
  rebalanceTimeoutMs: -1,
  subscribedTopicNames: null,
  topicPartitions: null,
} as const;

/** @returns its id */
async function created(ottla: Ottla, name: string, partitions = 1): Promise<string> {
  await ottla.topics.create(name, { partitions });
  return (await ottla.topics.describe(name)).id;
}

const beat = (client: WireClient, request: Fields = {}, version?: number): Promise<Fields> =>
  client.ask('ConsumerGroupHeartbeat', { ...joining, ...request }, version);

async function describeGroup(client: WireClient, groupId = 'g'): Promise<Fields> {
  const asked = { groupIds: [groupId], includeAuthorizedOperations: false };
  const answer = await client.ask<{ groups: [Fields] }>('ConsumerGroupDescribe', asked);
  return answer.groups[0];
}

const list = async (client: WireClient, more: Fields = {}): Promise<unknown> =>
  (await client.ask('ListGroups', { statesFilter: [], typesFilter: [], ...more }))['groups'];

const committing = (memberId: string, epoch: number, topicId: string): Fields => ({
  groupId: 'g',
  generationIdOrMemberEpoch: epoch,
  memberId,
  topics: [
    {
      name: 't',
      topicId,
      partitions: [{ partitionIndex: 0, committedOffset: 5, committedMetadata: 'm' }],
    },
  ],
});

/** The error of the only partition. */
async function commit(client: WireClient, request: Fields, version?: number): Promise<unknown> {
  const answer = await client.ask<{ topics: [{ partitions: [Fields] }] }>(
    'OffsetCommit',
    request,
    version,
  );
  return answer.topics[0].partitions[0]['errorCode'];
}

describeContract('ConsumerGroupHeartbeat', ({ open }) => {
  it.each(versionsOf('ConsumerGroupHeartbeat'))('joins in version %i', async (version) => {
    const ottla = await open();
    const topicId = await created(ottla, 't', 2);
    const client = await connected(ottla);
    const accepted = { errorCode: 0, errorMessage: null, memberId: 'm', heartbeatIntervalMs: 1000 };
    expect(await beat(client, {}, version)).toEqual({
      ...accepted,
      throttleTimeMs: 0,
      memberEpoch: 1,
      assignment: { topicPartitions: [{ topicId, partitions: [0, 1] }] },
    });
    expect(await beat(client, { ...unchanged, memberEpoch: 1 }, version)).toMatchObject({
      ...accepted,
      assignment: null,
    });
    // Another needs what this one has.
    await beat(client, { memberId: 'n' }, version);
    expect(await beat(client, { ...unchanged, memberEpoch: 1 }, version)).toMatchObject({
      ...accepted,
      memberEpoch: 1,
      assignment: { topicPartitions: [{ topicId, partitions: [0] }] },
    });
    const owned = { topicPartitions: [{ topicId, partitions: [0] }] };
    expect(await beat(client, { ...unchanged, memberEpoch: 1, ...owned }, version)).toMatchObject({
      ...accepted,
      memberEpoch: 2,
      assignment: null,
    });
    expect(
      await beat(client, { ...unchanged, memberId: 'n', memberEpoch: 2 }, version),
    ).toMatchObject({ assignment: { topicPartitions: [{ topicId, partitions: [1] }] } });
    const left = { errorCode: 0, memberId: 'm', memberEpoch: -1, assignment: null };
    expect(await beat(client, { ...unchanged, memberEpoch: -1 }, version)).toMatchObject(left);
  });

  it('gives ids to clients that do not name themselves, in version 0', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const { errorCode, memberId } = await beat(client, { memberId: '' }, 0);
    expect(errorCode).toBe(0);
    expect(memberId).toMatch(/^test-.{22}$/);
    expect(await beat(client, { memberId: '' }, 1)).toMatchObject({
      errorCode: codes.INVALID_REQUEST,
      errorMessage: 'MemberId is empty.',
      memberId: null,
    });
  });

  it('tells why it refuses', async () => {
    const client = await connected(await open());
    const refused = async (request: Fields): Promise<Fields> => {
      const answer = await beat(client, request);
      expect(answer).toMatchObject({ memberId: null, memberEpoch: 0, assignment: null });
      expect(answer['errorMessage']).toMatch(/./);
      return answer;
    };
    expect(await refused({ groupId: '' })).toMatchObject({ errorCode: codes.INVALID_REQUEST });
    expect(await refused({ memberEpoch: 1 })).toMatchObject({ errorCode: codes.UNKNOWN_MEMBER_ID });
    expect(await refused({ serverAssignor: 'sticky' })).toMatchObject({
      errorCode: codes.UNSUPPORTED_ASSIGNOR,
    });
    expect(await refused({ subscribedTopicRegex: '(?=t)' })).toMatchObject({
      errorCode: codes.INVALID_REGULAR_EXPRESSION,
    });
  });

  it('follows topics that match, from version 1 on', async () => {
    const ottla = await open();
    await ottla.topics.create('orders-1');
    const client = await connected(ottla);
    const matching = { subscribedTopicNames: null, subscribedTopicRegex: 'orders-\\d' };
    await beat(client, matching);
    const id = await created(ottla, 'orders-2');
    await ottla.topics.create('orders-12');
    expect(await beat(client, { ...unchanged, memberEpoch: 1 })).toMatchObject({
      memberEpoch: 2,
      assignment: {
        topicPartitions: [
          { topicId: (await ottla.topics.describe('orders-1')).id, partitions: [0] },
          { topicId: id, partitions: [0] },
        ],
      },
    });
  });

  it('gives partitions out that are added, and takes away what is deleted', async () => {
    const ottla = await open();
    const t = await created(ottla, 't');
    const u = await created(ottla, 'u');
    const client = await connected(ottla);
    await beat(client, { subscribedTopicNames: ['t', 'u'] });
    await ottla.topics.addPartitions('t', 3);
    const given = async (memberEpoch: number): Promise<unknown> => {
      const { assignment } = await beat(client, { ...unchanged, memberEpoch });
      return (assignment as { topicPartitions: Fields[] }).topicPartitions;
    };
    const all = await given(1);
    expect(all).toHaveLength(2);
    expect(all).toContainEqual({ topicId: t, partitions: [0, 1, 2] });
    await ottla.topics.delete('t');
    expect(await given(2)).toEqual([{ topicId: u, partitions: [0] }]);
  });

  it('lets members commit, and hear what is committed, in their epochs', async () => {
    const ottla = await open();
    const id = await created(ottla, 't');
    const client = await connected(ottla);
    await beat(client);
    for (const version of [9, 10]) {
      const as = (memberId: string, epoch: number): Promise<unknown> =>
        commit(client, committing(memberId, epoch, id), version);
      expect(await as('m', 0)).toBe(codes.STALE_MEMBER_EPOCH);
      expect(await as('n', 1)).toBe(codes.UNKNOWN_MEMBER_ID);
      expect(await as('', -1)).toBe(codes.UNKNOWN_MEMBER_ID);
      expect(await as('m', 1)).toBe(0);
      const fetch = async (memberId: string | null, memberEpoch: number): Promise<unknown> => {
        const topics = [{ name: 't', topicId: id, partitionIndexes: [0] }];
        const groups = [{ groupId: 'g', memberId, memberEpoch, topics }];
        const answer = await client.ask<{ groups: Fields[] }>('OffsetFetch', { groups }, version);
        return answer.groups[0];
      };
      const found = {
        errorCode: 0,
        topics: [{ partitions: [{ committedOffset: 5, errorCode: 0 }] }],
      };
      expect(await fetch('m', 1)).toMatchObject(found);
      expect(await fetch(null, -1)).toMatchObject(found);
      expect(await fetch('m', 2)).toMatchObject({
        errorCode: codes.STALE_MEMBER_EPOCH,
        topics: [],
      });
      expect(await fetch('n', 1)).toMatchObject({ errorCode: codes.UNKNOWN_MEMBER_ID });
    }
  });
});

describeContract('A group of the consumer protocol', ({ open }) => {
  it.each(versionsOf('ConsumerGroupDescribe'))('is described in version %i', async (version) => {
    const ottla = await open();
    const topicId = await created(ottla, 't', 2);
    const client = await connected(ottla);
    await beat(client, { rackId: 'r', serverAssignor: 'range' });
    await beat(client, { memberId: 'n', instanceId: 'i', subscribedTopicRegex: 't' });
    const topic = (partitions: readonly number[]): Fields => ({
      topicPartitions: [{ topicId, topicName: 't', partitions }],
    });
    const memberType = version < 1 ? -1 : 1;
    const of = { clientId: 'test', clientHost: '/', subscribedTopicNames: ['t'], memberType };
    const asked = { groupIds: ['g', 'nobody', ''], includeAuthorizedOperations: true };
    expect((await client.ask('ConsumerGroupDescribe', asked, version))['groups']).toMatchObject([
      {
        errorCode: 0,
        errorMessage: null,
        groupId: 'g',
        groupState: 'Reconciling',
        groupEpoch: 2,
        assignmentEpoch: 2,
        assignorName: 'range',
        members: [
          {
            ...of,
            memberId: 'm',
            instanceId: null,
            rackId: 'r',
            memberEpoch: 1,
            subscribedTopicRegex: null,
            assignment: topic([0, 1]),
            targetAssignment: topic([1]),
          },
          {
            ...of,
            memberId: 'n',
            instanceId: 'i',
            rackId: null,
            memberEpoch: 2,
            subscribedTopicRegex: 't',
            assignment: { topicPartitions: [] },
            targetAssignment: topic([0]),
          },
        ],
      },
      { groupId: 'nobody', errorCode: codes.GROUP_ID_NOT_FOUND },
      { groupId: '', errorCode: codes.INVALID_GROUP_ID },
    ]);
  });

  it('is listed as what it is, and no classic one', async () => {
    const ottla = await open();
    const id = await created(ottla, 't');
    const client = await connected(ottla);
    await commit(client, { ...committing('', -1, id), groupId: 'classic' });
    await beat(client);
    const consumer = {
      groupId: 'g',
      protocolType: 'consumer',
      groupState: 'Stable',
      groupType: 'consumer',
    };
    const all = await list(client);
    expect(all).toHaveLength(2);
    expect(all).toContainEqual(consumer);
    expect(await list(client, { typesFilter: ['Consumer'] })).toEqual([consumer]);
    expect(await list(client, { typesFilter: ['classic'] })).toMatchObject([
      { groupId: 'classic', groupType: 'classic' },
    ]);
    expect(await list(client, { statesFilter: ['stable'] })).toEqual([consumer]);
    const described = async (version: number): Promise<unknown> =>
      (await client.ask('DescribeGroups', { groups: ['g'] }, version))['groups'];
    expect(await described(5)).toMatchObject([{ errorCode: 0, groupState: 'Dead' }]);
    expect(await described(6)).toMatchObject([
      { errorCode: codes.GROUP_ID_NOT_FOUND, errorMessage: 'Group g is not a classic group.' },
    ]);
    expect(await describeGroup(client, 'classic')).toMatchObject({
      errorCode: codes.GROUP_ID_NOT_FOUND,
      errorMessage: 'Group classic is not a consumer group.',
    });
  });

  it('is not looked for by a name that none can have', async () => {
    const client = await connected(await open());
    const name = 'g'.repeat(8000);
    const notFound = [{ groupId: name, errorCode: codes.GROUP_ID_NOT_FOUND }];
    expect(await client.ask('DescribeGroups', { groups: [name] })).toMatchObject({
      groups: notFound,
    });
    expect(await describeGroup(client, name)).toMatchObject(notFound[0]!);
    expect(await beat(client, { groupId: name })).toMatchObject({
      errorCode: codes.INVALID_GROUP_ID,
    });
  });

  it('is kept while it has members', async () => {
    const ottla = await open();
    const id = await created(ottla, 't');
    const client = await connected(ottla);
    await beat(client);
    await commit(client, committing('m', 1, id));
    const remove = async (): Promise<unknown> =>
      (await client.ask('DeleteGroups', { groupsNames: ['g'] }))['results'];
    expect(await remove()).toMatchObject([{ errorCode: codes.NON_EMPTY_GROUP }]);
    const topics = [{ name: 't', partitions: [{ partitionIndex: 0 }] }];
    expect(await client.ask('OffsetDelete', { groupId: 'g', topics })).toMatchObject({
      topics: [{ partitions: [{ errorCode: codes.GROUP_SUBSCRIBED_TO_TOPIC }] }],
    });
    await beat(client, { ...unchanged, memberEpoch: -1 });
    expect(await list(client)).toMatchObject([{ groupState: 'Empty', groupType: 'consumer' }]);
    expect(await remove()).toMatchObject([{ errorCode: 0 }]);
    expect(await list(client)).toEqual([]);
  });

  it('is not for members of this process, nor theirs for it', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await beat(client);
    const refused = ottla.consumer({ group: 'g', topics: ['t'] });
    expect(await failureOf(() => refused.ready())).toMatchObject({
      code: 'INCONSISTENT_GROUP_PROTOCOL',
    });
    await refused.close();
    expect(await ottla.groups.describe('g')).toMatchObject({
      state: 'Stable',
      generation: 1,
      assignor: 'uniform',
      members: [{ memberId: 'm', topics: ['t'], assignment: [{ topic: 't', partition: 0 }] }],
      partitions: [{ topic: 't', partition: 0, memberId: 'm' }],
    });
    await beat(client, { ...unchanged, memberEpoch: -1 });
    await using consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    expect(await beat(client)).toMatchObject({ errorCode: codes.GROUP_ID_NOT_FOUND });
    expect(await list(client)).toMatchObject([{ groupType: 'classic' }]);
  });
});

describeDirectory('A group of the consumer protocol', ({ open, reopen }) => {
  it('goes on after a restart: members join again, from what is committed', async () => {
    const ottla = await open();
    const id = await created(ottla, 't');
    const client = await connected(ottla);
    await beat(client);
    expect(await commit(client, committing('m', 1, id))).toBe(0);
    const again = await connected(await reopen(ottla));
    expect(await list(again)).toMatchObject([{ groupType: 'consumer', groupState: 'Empty' }]);
    expect(await describeGroup(again)).toMatchObject({ groupState: 'Empty', groupEpoch: 1 });
    expect(await beat(again, { ...unchanged, memberEpoch: 1 })).toMatchObject({
      errorCode: codes.UNKNOWN_MEMBER_ID,
    });
    expect(await beat(again)).toMatchObject({ errorCode: 0, memberEpoch: 2 });
  });
});
