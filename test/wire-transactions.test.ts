import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { serve } from '../src/server/index.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { batchOf, produce } from './wire-batches.js';
import { WireClient, type Fields } from './wire-client.js';

const opened = closedAfterEach();

const codes = {
  INVALID_REQUEST: 42,
  TRANSACTIONAL_ID_NOT_FOUND: 105,
  INVALID_REGULAR_EXPRESSION: 128,
} as const;

let clock: ManualClock;
let faults: FaultInjector;
let ottla: Ottla;
let connect: () => WireClient;
beforeEach(async () => {
  clock = new ManualClock();
  faults = new FaultInjector();
  ottla = opened(Ottla.memory({ clock, faults }));
  for (const topic of ['t', 'u']) await ottla.topics.create(topic, { partitions: 2 });
  const server = await serve(ottla, { listen: false });
  connect = () => new WireClient(server.connect());
});

interface Identity extends Fields {
  readonly transactionalId: string;
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

async function init(transactionalId: string): Promise<Identity> {
  const asked = { transactionalId, transactionTimeoutMs: 60_000 };
  const { producerId, producerEpoch } = await connect().ask<Identity>('InitProducerId', asked);
  return { transactionalId, producerId, producerEpoch };
}

const topics = [
  { name: 't', partitions: [0, 1] },
  { name: 'u', partitions: [1] },
];

/** Takes an id, and begins a transaction of three partitions. */
async function begin(transactionalId: string): Promise<Identity> {
  const identity = await init(transactionalId);
  await connect().ask('AddPartitionsToTxn', { ...identity, topics });
  return identity;
}

const end = (identity: Fields, committed: boolean): Promise<Fields> =>
  connect().ask('EndTxn', { ...identity, committed });

async function describeOne(transactionalId: string): Promise<Fields> {
  const asked = { transactionalIds: [transactionalId] };
  const answer = await connect().ask<{ transactionStates: [Fields] }>(
    'DescribeTransactions',
    asked,
  );
  return answer.transactionStates[0];
}

async function list(filter: Fields = {}, version?: number): Promise<Fields> {
  const answer = await connect().ask<{ transactionStates: { transactionalId: string }[] } & Fields>(
    'ListTransactions',
    { durationFilter: -1, ...filter },
    version,
  );
  const ids = answer.transactionStates.map(({ transactionalId }) => transactionalId);
  return { ...answer, transactionStates: ids.toSorted() };
}

describe('DescribeTransactions', () => {
  it('tells what an id is at', async () => {
    const identity = await begin('x');
    const began = clock.now();
    const known = { errorCode: 0, transactionTimeoutMs: 60_000, ...identity };
    expect(await describeOne('x')).toEqual({
      ...known,
      transactionState: 'Ongoing',
      transactionStartTimeMs: began,
      topics: [
        { topic: 't', partitions: [0, 1] },
        { topic: 'u', partitions: [1] },
      ],
    });
    await end(identity, true);
    expect(await describeOne('x')).toEqual({
      ...known,
      transactionState: 'CompleteCommit',
      transactionStartTimeMs: began,
      topics: [],
    });
    await connect().ask('AddPartitionsToTxn', { ...identity, topics });
    await end(identity, false);
    expect(await describeOne('x')).toMatchObject({ transactionState: 'CompleteAbort', topics: [] });
  });

  it('tells of one that has begun no transaction', async () => {
    const identity = await init('x');
    expect(await describeOne('x')).toEqual({
      ...identity,
      errorCode: 0,
      transactionTimeoutMs: 60_000,
      transactionState: 'Empty',
      transactionStartTimeMs: -1,
      topics: [],
    });
  });

  it('tells of one that is ending, and where its markers are missing', async () => {
    const identity = await begin('x');
    const { producerId, producerEpoch } = identity;
    const origin = { producerId, producerEpoch, baseSequence: 0, isTransactional: true };
    const batch = batchOf(['a'], origin);
    const [produced] = await produce(
      connect(),
      't',
      { 1: batch },
      { acks: 1, transactionalId: 'x' },
    );
    expect(produced).toMatchObject({ errorCode: 0 });
    const gate = faults.hold('sync', { topic: 't', partition: 1 });
    const ended = end(identity, true);
    await gate.arrived();
    expect(await describeOne('x')).toMatchObject({
      transactionState: 'PrepareCommit',
      topics: [
        { topic: 't', partitions: [0, 1] },
        { topic: 'u', partitions: [1] },
      ],
    });
    faults.fail('write', { topic: 't', partition: 1 });
    gate.open();
    await ended;
    expect(await describeOne('x')).toMatchObject({
      transactionState: 'PrepareCommit',
      topics: [{ topic: 't', partitions: [1] }],
    });
  });

  it('tells of transactions of this process', async () => {
    const producer = ottla.producer({ transactionalId: 'here' });
    await producer.transaction(async (transaction) => {
      transaction.send('t', { value: 'a', partition: 1 });
      await producer.flush();
      expect(await describeOne('here')).toMatchObject({
        transactionState: 'Ongoing',
        topics: [{ topic: 't', partitions: [1] }],
      });
    });
    expect(await describeOne('here')).toMatchObject({ transactionState: 'CompleteCommit' });
  });

  it('leaves out what was deleted', async () => {
    await begin('x');
    await ottla.topics.delete('t');
    expect(await describeOne('x')).toMatchObject({ topics: [{ topic: 'u', partitions: [1] }] });
  });

  it('knows no others', async () => {
    expect(await describeOne('nobody')).toMatchObject({
      errorCode: codes.TRANSACTIONAL_ID_NOT_FOUND,
      transactionalId: 'nobody',
    });
    expect(await describeOne('')).toMatchObject({ errorCode: codes.INVALID_REQUEST });
  });
});

describe('ListTransactions', () => {
  it.each([0, 1, 2])('lists in version %i by state and by producer', async (version) => {
    const x = await begin('x');
    const y = await begin('y');
    await end(y, true);
    await init('z');
    expect(await list({}, version)).toMatchObject({
      errorCode: 0,
      unknownStateFilters: [],
      transactionStates: ['x', 'y', 'z'],
    });
    const by = async (filter: Fields): Promise<unknown> =>
      (await list(filter, version))['transactionStates'];
    expect(await by({ stateFilters: ['Ongoing'] })).toEqual(['x']);
    expect(await by({ stateFilters: ['Empty', 'CompleteCommit'] })).toEqual(['y', 'z']);
    expect(await by({ producerIdFilters: [x['producerId'], 5n] })).toEqual(['x']);
    expect(await by({ producerIdFilters: [x['producerId']], stateFilters: ['Empty'] })).toEqual([]);
    expect(await list({ stateFilters: ['Ongoing', 'Odd'] }, version)).toMatchObject({
      errorCode: 0,
      unknownStateFilters: ['Odd'],
      transactionStates: ['x'],
    });
    expect(await by({ stateFilters: ['Odd'] })).toEqual([]);
  });

  it.each([1, 2])('lists in version %i those that run for longer', async (version) => {
    await begin('x');
    await clock.advance(5000);
    await begin('y');
    await clock.advance(5000);
    const longer = async (durationFilter: number): Promise<unknown> =>
      (await list({ durationFilter }, version))['transactionStates'];
    expect(await longer(-1)).toEqual(['x', 'y']);
    expect(await longer(0)).toEqual(['x', 'y']);
    expect(await longer(4999)).toEqual(['x', 'y']);
    expect(await longer(5000)).toEqual(['x']);
    expect(await longer(10_000)).toEqual([]);
  });

  it('lists those whose ids match a pattern as a whole', async () => {
    for (const id of ['app-1', 'app-12', 'my-app-1']) await init(id);
    const like = async (transactionalIdPattern: string | null): Promise<unknown> =>
      (await list({ transactionalIdPattern }))['transactionStates'];
    expect(await like('app-\\d')).toEqual(['app-1']);
    expect(await like('app-.*')).toEqual(['app-1', 'app-12']);
    expect(await like('')).toHaveLength(3);
    expect(await like(null)).toHaveLength(3);
    expect(await list({ transactionalIdPattern: '(' })).toMatchObject({
      errorCode: codes.INVALID_REGULAR_EXPRESSION,
      transactionStates: [],
    });
  });
});
