import { beforeEach, describe, expect, it } from 'vitest';
import { encodeAssignment, encodeSubscription } from '../src/group-protocol.js';
import { Ottla } from '../src/index.js';
import { serve, type Server } from '../src/server/index.js';
import { closedAfterEach } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { apiNamed, WireClient, type Fields } from './wire-client.js';

const opened = closedAfterEach();

const none = 0;
const codes = {
  UNKNOWN_TOPIC_OR_PARTITION: 3,
  OFFSET_METADATA_TOO_LARGE: 12,
  ILLEGAL_GENERATION: 22,
  INVALID_GROUP_ID: 24,
  UNKNOWN_MEMBER_ID: 25,
  REBALANCE_IN_PROGRESS: 27,
  INVALID_REQUEST: 42,
  NON_EMPTY_GROUP: 68,
  GROUP_ID_NOT_FOUND: 69,
  MEMBER_ID_REQUIRED: 79,
  FENCED_INSTANCE_ID: 82,
  GROUP_SUBSCRIBED_TO_TOPIC: 86,
  UNKNOWN_TOPIC_ID: 100,
} as const;

const metadata = encodeSubscription({ topics: ['t'], userData: null, owned: [], generation: -1 });
const share = encodeAssignment([{ topic: 't', partition: 0 }]);
const otherShare = encodeAssignment([{ topic: 't', partition: 1 }]);

let clock: ManualClock;
let ottla: Ottla;
let server: Server;
beforeEach(async () => {
  clock = new ManualClock();
  ottla = opened(Ottla.memory({ clock }));
  await ottla.topics.create('t', { partitions: 2 });
  await ottla.topics.create('u');
  server = await serve(ottla, { listen: false });
});

const client = (): WireClient => new WireClient(server.connect());

const versionsOf = (name: string): number[] => {
  const { minVersion, maxVersion } = apiNamed(name);
  return Array.from({ length: maxVersion - minVersion + 1 }, (_, i) => minVersion + i);
};

/** A member over the wire, on a connection of its own. */
class Member {
  readonly client: WireClient = client();
  memberId = '';
  generationId = -1;
  isLeader = false;
  readonly #join: Fields;

  constructor(join: Fields = {}) {
    this.#join = join;
  }

  get identity(): Fields {
    return {
      groupId: 'g',
      memberId: this.memberId,
      groupInstanceId: this.#join['groupInstanceId'],
    };
  }

  async join(version?: number): Promise<Fields> {
    const answer = await this.client.ask(
      'JoinGroup',
      {
        ...this.identity,
        sessionTimeoutMs: 45_000,
        rebalanceTimeoutMs: 60_000,
        protocolType: 'consumer',
        protocols: [{ name: 'range', metadata }],
        ...this.#join,
      },
      version,
    );
    this.memberId = String(answer['memberId']);
    if (answer['errorCode'] === codes.MEMBER_ID_REQUIRED) return this.join(version);
    this.generationId = Number(answer['generationId']);
    this.isLeader = answer['leader'] === this.memberId;
    return answer;
  }

  sync(assignments: readonly Fields[] = [], version?: number): Promise<Fields> {
    const { generationId } = this;
    return this.client.ask('SyncGroup', { ...this.identity, generationId, assignments }, version);
  }

  heartbeat(version?: number): Promise<Fields> {
    const { generationId } = this;
    return this.client.ask('Heartbeat', { ...this.identity, generationId }, version);
  }
}

/** One member of group g, with all of topic t's partition 0. */
async function stableMember(): Promise<Member> {
  const member = new Member();
  await member.join();
  await member.sync([{ memberId: member.memberId, assignment: share }]);
  return member;
}

const committing = (offset: number, more: Fields = {}): Fields => ({
  groupId: 'g',
  generationIdOrMemberEpoch: -1,
  memberId: '',
  ...more,
  topics: [
    {
      name: 't',
      partitions: [
        { partitionIndex: 0, committedOffset: offset, committedMetadata: 'm' },
        { partitionIndex: 9, committedOffset: offset, committedMetadata: null },
      ],
    },
  ],
});

async function topicId(name: string): Promise<string> {
  return (await ottla.topics.describe(name)).id;
}

describe('FindCoordinator', () => {
  it.each(versionsOf('FindCoordinator'))(
    'answers in version %i with this broker',
    async (version) => {
      const answer = await client().ask(
        'FindCoordinator',
        { key: 'g', keyType: 0, coordinatorKeys: ['g', 'h'] },
        version,
      );
      const place = { nodeId: 1, host: 'localhost', port: 9092, errorCode: none };
      const keyed = ['g', 'h'].map((key) => ({ key, ...place }));
      expect(answer).toMatchObject(version < 4 ? place : { coordinators: keyed });
    },
  );

  it('has none of share groups', async () => {
    const answer = await client().ask('FindCoordinator', { keyType: 2, coordinatorKeys: ['g'] });
    expect(answer).toMatchObject({ coordinators: [{ errorCode: codes.INVALID_REQUEST }] });
  });
});

describe('A group', () => {
  it.each(versionsOf('JoinGroup'))(
    'is joined in version %i, and led by its only member',
    async (version) => {
      const member = new Member();
      const answer = await member.join(version);
      expect(answer).toMatchObject({
        errorCode: none,
        generationId: 1,
        protocolName: 'range',
        leader: member.memberId,
        members: [{ memberId: member.memberId, metadata }],
      });
      expect(member.memberId).toMatch(/^test-/);
    },
  );

  it.each(versionsOf('SyncGroup'))('is synced in version %i', async (version) => {
    const member = new Member();
    await member.join();
    const assignments = [{ memberId: member.memberId, assignment: share }];
    const asked = { protocolType: 'consumer', protocolName: 'range' };
    const answer = await member.client.ask(
      'SyncGroup',
      { ...member.identity, generationId: 1, assignments, ...asked },
      version,
    );
    expect(answer).toMatchObject({ errorCode: none, assignment: share });
  });

  it.each(versionsOf('Heartbeat'))('hears heartbeats of version %i', async (version) => {
    const member = await stableMember();
    expect(await member.heartbeat(version)).toMatchObject({ errorCode: none });
    member.generationId = 7;
    expect(await member.heartbeat(version)).toMatchObject({ errorCode: codes.ILLEGAL_GENERATION });
    member.memberId = 'nobody';
    expect(await member.heartbeat(version)).toMatchObject({ errorCode: codes.UNKNOWN_MEMBER_ID });
  });

  it.each(versionsOf('LeaveGroup'))('is left in version %i', async (version) => {
    const member = await stableMember();
    const members = [member.identity, { memberId: 'nobody', groupInstanceId: null }];
    const answer = await member.client.ask('LeaveGroup', { ...member.identity, members }, version);
    const { memberId } = member;
    expect(answer).toMatchObject({
      errorCode: none,
      members:
        version < 3
          ? []
          : [
              { memberId, errorCode: none },
              { memberId: 'nobody', errorCode: codes.UNKNOWN_MEMBER_ID },
            ],
    });
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('rebalances when a second member joins, and gives each its share', async () => {
    const one = await stableMember();
    const two = new Member();
    const joined = two.join();
    await clock.settle();
    expect(await one.heartbeat()).toMatchObject({ errorCode: codes.REBALANCE_IN_PROGRESS });
    await one.join();
    await joined;
    expect([one.isLeader, two.isLeader]).toEqual([true, false]);
    const waiting = two.sync();
    const assignments = [
      { memberId: one.memberId, assignment: share },
      { memberId: two.memberId, assignment: otherShare },
    ];
    expect(await one.sync(assignments)).toMatchObject({ assignment: share });
    expect(await waiting).toMatchObject({ assignment: otherShare });
    expect((await ottla.groups.describe('g')).state).toBe('Stable');
  });

  it('loses a member whose connection is gone when its session ends', async () => {
    const member = await stableMember();
    member.client.stream.destroy();
    await clock.advance(44_999);
    expect((await ottla.groups.describe('g')).state).toBe('Stable');
    await clock.advance(1);
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('has static members, who come back under a new id', async () => {
    const one = new Member({ groupInstanceId: 'i' });
    await one.join();
    await one.sync([{ memberId: one.memberId, assignment: share }]);
    const again = new Member({ groupInstanceId: 'i' });
    expect(await again.join()).toMatchObject({
      errorCode: none,
      generationId: 1,
      skipAssignment: true,
    });
    expect(await again.sync()).toMatchObject({ assignment: share });
    expect(await one.heartbeat()).toMatchObject({ errorCode: codes.FENCED_INSTANCE_ID });
    const members = [{ memberId: '', groupInstanceId: 'i' }];
    const left = await client().ask('LeaveGroup', { groupId: 'g', members });
    expect(left).toMatchObject({ members: [{ groupInstanceId: 'i', errorCode: none }] });
  });

  it('is answered when the server closes', async () => {
    const one = await stableMember();
    const two = new Member();
    const joining = two.join().then(
      ({ errorCode }) => errorCode,
      () => 'cut',
    );
    await clock.settle();
    const closing = server.close({ timeoutMs: 10 });
    await clock.advance(10);
    await closing;
    expect(await joining).toBe('cut');
    await one.client.closed;
  });

  it('without a name is refused', async () => {
    const fields = { groupId: '', members: [], groupsNames: [''], groups: [''] };
    expect(await client().ask('LeaveGroup', fields)).toMatchObject({
      errorCode: codes.INVALID_GROUP_ID,
    });
    expect(await client().ask('DeleteGroups', fields)).toMatchObject({
      results: [{ errorCode: codes.INVALID_GROUP_ID }],
    });
    expect(await client().ask('DescribeGroups', fields)).toMatchObject({
      groups: [{ errorCode: codes.INVALID_GROUP_ID }],
    });
    const joined = await new Member({ groupId: '' }).join();
    expect(joined).toMatchObject({ errorCode: codes.INVALID_GROUP_ID });
  });
});

describe('A group of members here and elsewhere', () => {
  it('divides the partitions among both, and hears of each other', async () => {
    await ottla.producer().sendBatch('t', [
      { value: 'a', partition: 0 },
      { value: 'b', partition: 1 },
    ]);
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    expect(consumer.assignment()).toHaveLength(2);
    const member = new Member();
    const joining = member.join();
    await clock.settle();
    await joining;
    expect(member.isLeader).toBe(false);
    const { assignment } = await member.sync();
    await clock.settle();
    const here = consumer.assignment();
    expect(here).toHaveLength(1);
    expect(assignment).toEqual(
      encodeAssignment([{ topic: 't', partition: 1 - here[0]!.partition }]),
    );
    const { members, state } = await ottla.groups.describe('g');
    expect([state, members.length]).toEqual(['Stable', 2]);
    const described = await client().ask('DescribeGroups', { groups: ['g'] });
    expect(described).toMatchObject({
      groups: [{ groupState: 'Stable', protocolType: 'consumer', protocolData: 'range' }],
    });
    await member.client.ask('LeaveGroup', { groupId: 'g', members: [member.identity] });
    await clock.settle();
    await consumer.ready();
    expect(consumer.assignment()).toHaveLength(2);
    await consumer.close();
  });

  it('sees the same commits', async () => {
    await ottla.producer().sendBatch('t', [
      { value: 'a', partition: 0 },
      { value: 'b', partition: 0 },
    ]);
    await client().ask('OffsetCommit', committing(1), 9);
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    const { value: record } = await consumer[Symbol.asyncIterator]().next();
    expect(String(record!.value)).toBe('b');
    await consumer.close();
  });
});

describe('Offsets', () => {
  it.each(versionsOf('OffsetCommit'))('are committed in version %i', async (version) => {
    const [topic] = committing(5)['topics'] as Fields[];
    const topics = [{ ...topic, topicId: await topicId('t') }];
    const answer = await client().ask('OffsetCommit', { ...committing(5), topics }, version);
    expect(answer).toMatchObject({
      topics: [
        {
          partitions: [
            { partitionIndex: 0, errorCode: none },
            { partitionIndex: 9, errorCode: codes.UNKNOWN_TOPIC_OR_PARTITION },
          ],
        },
      ],
    });
    const { partitions } = await ottla.groups.describe('g');
    expect(partitions).toMatchObject([{ topic: 't', partition: 0, committed: 5 }]);
  });

  it.each(versionsOf('OffsetFetch'))('are fetched in version %i', async (version) => {
    await client().ask('OffsetCommit', committing(5), 9);
    const named = { name: 't', topicId: await topicId('t'), partitionIndexes: [0, 1] };
    const group = { groupId: 'g', topics: [named] };
    const answer = await client().ask('OffsetFetch', { ...group, groups: [group] }, version);
    const topics = [
      {
        partitions: [
          { partitionIndex: 0, committedOffset: 5, metadata: 'm', errorCode: none },
          { partitionIndex: 1, committedOffset: -1, metadata: '', errorCode: none },
        ],
      },
    ];
    expect(answer).toMatchObject(version < 8 ? { topics } : { groups: [{ groupId: 'g', topics }] });
  });

  it('are fetched of all topics at once', async () => {
    await client().ask('OffsetCommit', committing(5), 9);
    const all = { groupId: 'g', topics: null };
    const topics = [{ partitions: [{ partitionIndex: 0, committedOffset: 5 }] }];
    expect(await client().ask('OffsetFetch', all, 7)).toMatchObject({
      topics: [{ name: 't', ...topics[0] }],
    });
    expect(await client().ask('OffsetFetch', { groups: [all] })).toMatchObject({
      groups: [{ groupId: 'g', topics: [{ topicId: await topicId('t'), ...topics[0] }] }],
    });
    const nobody = { groupId: 'nobody', topics: null };
    expect(await client().ask('OffsetFetch', { groups: [nobody] })).toMatchObject({
      groups: [{ groupId: 'nobody', topics: [], errorCode: none }],
    });
  });

  it('of an id that no topic has are refused', async () => {
    const unknown = 'BBBBBBBBBBBBBBBBBBBBBA';
    const partitions = [{ partitionIndex: 0, committedOffset: 5, committedMetadata: null }];
    const topics = [{ topicId: unknown, partitions }];
    const expected = { topics: [{ partitions: [{ errorCode: codes.UNKNOWN_TOPIC_ID }] }] };
    expect(await client().ask('OffsetCommit', { groupId: 'g', topics })).toMatchObject(expected);
    const asked = { groupId: 'g', topics: [{ topicId: unknown, partitionIndexes: [0] }] };
    expect(await client().ask('OffsetFetch', { groups: [asked] })).toMatchObject({
      groups: [expected],
    });
  });

  it('are fenced by member and generation', async () => {
    const member = await stableMember();
    const as = async (more: Fields): Promise<unknown> => {
      const answer = await client().ask('OffsetCommit', committing(5, more), 9);
      const [topic] = answer['topics'] as { partitions: { errorCode: number }[] }[];
      return topic!.partitions[0]!.errorCode;
    };
    const { memberId } = member;
    expect(await as({})).toBe(codes.UNKNOWN_MEMBER_ID);
    expect(await as({ memberId, generationIdOrMemberEpoch: 7 })).toBe(codes.ILLEGAL_GENERATION);
    expect(await as({ memberId, generationIdOrMemberEpoch: 1 })).toBe(none);
  });

  it('below 0 forget what was committed', async () => {
    await client().ask('OffsetCommit', committing(5), 9);
    await client().ask('OffsetCommit', committing(-1), 9);
    expect(await ottla.groups.list()).toEqual([]);
  });

  it('with metadata that is too large are refused', async () => {
    const partitions = [
      { partitionIndex: 0, committedOffset: 5, committedMetadata: 'x'.repeat(4097) },
      { partitionIndex: 1, committedOffset: 2 ** 60, committedMetadata: '' },
    ];
    const answer = await client().ask(
      'OffsetCommit',
      { groupId: 'g', topics: [{ name: 't', partitions }] },
      9,
    );
    expect(answer).toMatchObject({
      topics: [
        {
          partitions: [
            { errorCode: codes.OFFSET_METADATA_TOO_LARGE },
            { errorCode: codes.INVALID_REQUEST },
          ],
        },
      ],
    });
  });

  it('are deleted, unless a member reads the topic', async () => {
    const request = (name: string, partitionIndex: number): Fields => ({
      groupId: 'g',
      topics: [{ name, partitions: [{ partitionIndex }] }],
    });
    expect(await client().ask('OffsetDelete', request('t', 0))).toMatchObject({
      errorCode: codes.GROUP_ID_NOT_FOUND,
    });
    const errorOf = async (name: string, partitionIndex: number): Promise<unknown> => {
      const answer = await client().ask('OffsetDelete', request(name, partitionIndex));
      const [topic] = answer['topics'] as { partitions: { errorCode: number }[] }[];
      return topic!.partitions[0]!.errorCode;
    };
    await client().ask('OffsetCommit', committing(5), 9);
    const member = await stableMember();
    expect(await errorOf('t', 0)).toBe(codes.GROUP_SUBSCRIBED_TO_TOPIC);
    expect(await errorOf('t', 9)).toBe(codes.UNKNOWN_TOPIC_OR_PARTITION);
    expect(await errorOf('u', 0)).toBe(none);
    await member.client.ask('LeaveGroup', { groupId: 'g', members: [member.identity] });
    expect(await errorOf('t', 0)).toBe(none);
    expect(await ottla.groups.list()).toEqual([]);
  });
});

describe('Administration', () => {
  it.each(versionsOf('DescribeGroups'))('describes groups in version %i', async (version) => {
    await client().ask('OffsetCommit', { ...committing(5), groupId: 'simple' }, 9);
    const { memberId } = await stableMember();
    const groups = ['g', 'simple', 'unknown'];
    const answer = await client().ask('DescribeGroups', { groups }, version);
    expect(answer).toMatchObject({
      groups: [
        {
          errorCode: none,
          groupId: 'g',
          groupState: 'Stable',
          protocolType: 'consumer',
          protocolData: 'range',
          members: [{ memberId, clientId: 'test', clientHost: '/', metadata, assignment: share }],
        },
        { errorCode: none, groupId: 'simple', groupState: 'Empty', protocolType: '', members: [] },
        {
          errorCode: version < 6 ? none : codes.GROUP_ID_NOT_FOUND,
          groupId: 'unknown',
          groupState: 'Dead',
          members: [],
        },
      ],
    });
  });

  it.each(versionsOf('ListGroups'))('lists groups in version %i', async (version) => {
    await client().ask('OffsetCommit', { ...committing(5), groupId: 'simple' }, 9);
    await stableMember();
    const list = async (filter: Fields): Promise<unknown[]> => {
      const answer = await client().ask('ListGroups', filter, version);
      return (answer['groups'] as Fields[]).map(({ groupId }) => String(groupId)).toSorted();
    };
    expect(await list({})).toEqual(['g', 'simple']);
    const isFiltered = version >= 4;
    expect(await list({ statesFilter: ['STABLE'] })).toEqual(isFiltered ? ['g'] : ['g', 'simple']);
    expect(await list({ typesFilter: ['consumer'] })).toEqual(version >= 5 ? [] : ['g', 'simple']);
  });

  it('knows the protocol of a group whose members have gone', async () => {
    const member = await stableMember();
    await client().ask(
      'OffsetCommit',
      committing(5, { memberId: member.memberId, generationIdOrMemberEpoch: 1 }),
      9,
    );
    await member.client.ask('LeaveGroup', { groupId: 'g', members: [member.identity] });
    await clock.settle();
    expect(await client().ask('ListGroups')).toMatchObject({
      groups: [
        { groupId: 'g', protocolType: 'consumer', groupState: 'Empty', groupType: 'classic' },
      ],
    });
  });

  it.each(versionsOf('DeleteGroups'))('deletes groups in version %i', async (version) => {
    await client().ask('OffsetCommit', { ...committing(5), groupId: 'simple' }, 9);
    await stableMember();
    const groupsNames = ['g', 'simple', 'unknown'];
    expect(await client().ask('DeleteGroups', { groupsNames }, version)).toMatchObject({
      results: [
        { groupId: 'g', errorCode: codes.NON_EMPTY_GROUP },
        { groupId: 'simple', errorCode: none },
        { groupId: 'unknown', errorCode: codes.GROUP_ID_NOT_FOUND },
      ],
    });
  });
});
