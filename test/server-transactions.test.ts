import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { serve, type Server } from '../src/server/index.js';
import { closedAfterEach } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { apiNamed, WireClient, type Fields } from './wire-client.js';

const opened = closedAfterEach();

const none = 0;
const codes = {
  UNKNOWN_TOPIC_OR_PARTITION: 3,
  ILLEGAL_GENERATION: 22,
  INVALID_GROUP_ID: 24,
  UNKNOWN_MEMBER_ID: 25,
  INVALID_REQUEST: 42,
  INVALID_PRODUCER_EPOCH: 47,
  INVALID_TXN_STATE: 48,
  INVALID_PRODUCER_ID_MAPPING: 49,
  INVALID_TRANSACTION_TIMEOUT: 50,
  OPERATION_NOT_ATTEMPTED: 55,
  UNSTABLE_OFFSET_COMMIT: 88,
  PRODUCER_FENCED: 90,
} as const;

let clock: ManualClock;
let ottla: Ottla;
let server: Server;
let client: WireClient;
beforeEach(async () => {
  clock = new ManualClock();
  ottla = opened(Ottla.memory({ clock }));
  await ottla.topics.create('t', { partitions: 2 });
  server = await serve(ottla, { listen: false });
  client = new WireClient(server.connect());
});

const versionsOf = (name: string): number[] => {
  const { minVersion, maxVersion } = apiNamed(name);
  return Array.from({ length: maxVersion - minVersion + 1 }, (_, i) => minVersion + i);
};

async function init(more: Fields = {}, version?: number): Promise<Fields> {
  const asked = { transactionalId: 'x', transactionTimeoutMs: 60_000, ...more };
  const { errorCode, producerId, producerEpoch } = await client.ask(
    'InitProducerId',
    asked,
    version,
  );
  return { errorCode, producerId, producerEpoch };
}

/** Who holds transactional id x, in each request. */
async function holder(): Promise<Fields> {
  const { errorCode: _, ...identity } = await init();
  return { transactionalId: 'x', ...identity };
}

const ofTopic = (partitions: readonly number[]): Fields => ({
  topics: [{ name: 't', partitions }],
});

const committing = (offset: number, more: Fields = {}): Fields => ({
  groupId: 'g',
  topics: [
    {
      name: 't',
      partitions: [{ partitionIndex: 0, committedOffset: offset, committedMetadata: 'm' }],
    },
  ],
  ...more,
});

/** Of a request that is answered partition by partition. */
const firstError = ({ topics, results }: Fields): unknown =>
  ((topics ?? results) as { partitions: { errorCode: number }[] }[])[0]!.partitions[0]!.errorCode;

async function fetchOffset(requireStable: boolean): Promise<Fields> {
  const topics = [{ name: 't', partitionIndexes: [0] }];
  const answer = await client.ask('OffsetFetch', { groupId: 'g', topics, requireStable }, 7);
  return (answer['topics'] as { partitions: Fields[] }[])[0]!.partitions[0]!;
}

describe('InitProducerId', () => {
  it.each(versionsOf('InitProducerId'))(
    'gives in version %i an id, and epochs',
    async (version) => {
      const first = await init({}, version);
      expect(first).toMatchObject({ errorCode: none, producerEpoch: 0 });
      expect(await init({}, version)).toEqual({ ...first, producerEpoch: 1 });
      const other = await init({ transactionalId: null }, version);
      expect(other).toMatchObject({ errorCode: none, producerEpoch: 0 });
      expect(other['producerId']).not.toBe(first['producerId']);
    },
  );

  it('begins a new epoch for who holds the id, and for nobody else', async () => {
    const { producerId, producerEpoch } = await init();
    expect(await init({ producerId, producerEpoch })).toMatchObject({ producerEpoch: 1 });
    expect(await init({ producerId: 5n, producerEpoch: 0 })).toMatchObject({
      errorCode: codes.PRODUCER_FENCED,
    });
    expect(await init({ producerId: 5n, producerEpoch: 0 }, 3)).toMatchObject({
      errorCode: codes.INVALID_PRODUCER_EPOCH,
    });
  });

  it('gives an id that nobody has had to whoever asks, and only once', async () => {
    const claim = { producerId: 0n, producerEpoch: 0 };
    expect(await init(claim)).toMatchObject({ errorCode: none, producerEpoch: 0 });
    expect(await init(claim)).toMatchObject({ errorCode: codes.PRODUCER_FENCED });
  });

  it('refuses what contradicts itself', async () => {
    const refused = { errorCode: codes.INVALID_REQUEST };
    expect(await init({ transactionalId: '' })).toMatchObject(refused);
    expect(await init({ transactionalId: '__ottla-0' })).toMatchObject(refused);
    expect(await init({ producerId: 5n })).toMatchObject(refused);
    expect(await init({ producerEpoch: 5 })).toMatchObject(refused);
    expect(await init({ transactionTimeoutMs: 900_001 })).toMatchObject({
      errorCode: codes.INVALID_TRANSACTION_TIMEOUT,
    });
  });
});

describe('A transaction', () => {
  it.each(versionsOf('AddPartitionsToTxn'))(
    'takes partitions in, in version %i',
    async (version) => {
      const identity = await holder();
      const ask = (partitions: readonly number[], as = identity): Promise<Fields> =>
        client.ask('AddPartitionsToTxn', { ...as, ...ofTopic(partitions) }, version);
      expect(await ask([0, 1])).toMatchObject({
        results: [{ name: 't', partitions: [{ errorCode: none }, { errorCode: none }] }],
      });
      expect(await ask([0, 7])).toMatchObject({
        results: [
          {
            partitions: [
              { partitionIndex: 0, errorCode: codes.OPERATION_NOT_ATTEMPTED },
              { partitionIndex: 7, errorCode: codes.UNKNOWN_TOPIC_OR_PARTITION },
            ],
          },
        ],
      });
      const unknown = { ...identity, transactionalId: 'y' };
      expect(firstError(await ask([0], unknown))).toBe(codes.INVALID_PRODUCER_ID_MAPPING);
      await init();
      expect(firstError(await ask([0]))).toBe(
        version < 2 ? codes.INVALID_PRODUCER_EPOCH : codes.PRODUCER_FENCED,
      );
    },
  );

  it.each(versionsOf('AddOffsetsToTxn'))('takes a group in, in version %i', async (version) => {
    const identity = await holder();
    const ask = (groupId: string): Promise<Fields> =>
      client.ask('AddOffsetsToTxn', { ...identity, groupId }, version);
    expect(await ask('g')).toMatchObject({ errorCode: none });
    expect(await ask('')).toMatchObject({ errorCode: codes.INVALID_GROUP_ID });
    await init();
    expect(await ask('g')).toMatchObject({
      errorCode: version < 2 ? codes.INVALID_PRODUCER_EPOCH : codes.PRODUCER_FENCED,
    });
  });

  it.each(versionsOf('TxnOffsetCommit'))(
    'commits offsets at its end, in version %i',
    async (version) => {
      const identity = await holder();
      const ask = async (): Promise<unknown> =>
        firstError(await client.ask('TxnOffsetCommit', { ...identity, ...committing(5) }, version));
      expect(await ask()).toBe(codes.INVALID_TXN_STATE);
      await client.ask('AddOffsetsToTxn', { ...identity, groupId: 'g' });
      expect(await ask()).toBe(none);
      expect(await fetchOffset(false)).toMatchObject({ committedOffset: -1, errorCode: none });
      const unstable = { committedOffset: -1, errorCode: codes.UNSTABLE_OFFSET_COMMIT };
      expect(await fetchOffset(true)).toMatchObject(unstable);
      await client.ask('EndTxn', { ...identity, committed: true });
      const stored = { committedOffset: 5, metadata: 'm', errorCode: none };
      expect(await fetchOffset(true)).toMatchObject(stored);
      await init();
      await client.ask('AddOffsetsToTxn', { ...identity, groupId: 'g' });
      expect(await ask()).toBe(codes.INVALID_PRODUCER_EPOCH);
    },
  );

  it.each(versionsOf('EndTxn'))('ends in version %i, again and again alike', async (version) => {
    const identity = await holder();
    const end = (committed: boolean): Promise<Fields> =>
      client.ask('EndTxn', { ...identity, committed }, version);
    expect(await end(true)).toMatchObject({ errorCode: codes.INVALID_TXN_STATE });
    for (const committed of [true, false]) {
      await client.ask('AddPartitionsToTxn', { ...identity, ...ofTopic([0]) });
      expect(await end(committed)).toMatchObject({ errorCode: none });
      expect(await end(committed)).toMatchObject({ errorCode: none });
      expect(await end(!committed)).toMatchObject({ errorCode: codes.INVALID_TXN_STATE });
    }
    await init();
    expect(await end(false)).toMatchObject({
      errorCode: version < 2 ? codes.INVALID_PRODUCER_EPOCH : codes.PRODUCER_FENCED,
    });
  });

  it('leaves offsets as they were when it is aborted', async () => {
    const identity = await holder();
    await client.ask('OffsetCommit', { ...committing(7), memberId: '' }, 9);
    await client.ask('AddOffsetsToTxn', { ...identity, groupId: 'g' });
    await client.ask('TxnOffsetCommit', { ...identity, ...committing(12) });
    await client.ask('EndTxn', { ...identity, committed: false });
    expect(await fetchOffset(true)).toMatchObject({ committedOffset: 7, errorCode: none });
  });

  it('is aborted when it takes too long, and its producer fenced', async () => {
    const identity = await holder();
    await client.ask('AddOffsetsToTxn', { ...identity, groupId: 'g' });
    await client.ask('TxnOffsetCommit', { ...identity, ...committing(12) });
    await clock.advance(60_000);
    expect(await fetchOffset(true)).toMatchObject({ committedOffset: -1, errorCode: none });
    expect(await client.ask('EndTxn', { ...identity, committed: true })).toMatchObject({
      errorCode: codes.PRODUCER_FENCED,
    });
  });

  it('commits offsets of members of its group only, where it names one', async () => {
    const identity = await holder();
    await client.ask('AddOffsetsToTxn', { ...identity, groupId: 'g' });
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    const as = async (more: Fields): Promise<unknown> =>
      firstError(await client.ask('TxnOffsetCommit', { ...identity, ...committing(5, more) }));
    expect(await as({ memberId: 'nobody', generationId: 1 })).toBe(codes.UNKNOWN_MEMBER_ID);
    expect(await as({})).toBe(none);
    await consumer.close();
  });
});
