import { describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { admissions, bytesOf } from './batch-vectors.js';
import { describeContract } from './contract.js';
import {
  batchOf,
  connected,
  fetchPartitions,
  fetchRequest,
  numbered,
  produce,
  valuesIn,
  type FetchAnswer,
} from './wire-batches.js';
import type { Fields } from './wire-client.js';

describeContract('Fetch', ({ open }) => {
  const versions = Array.from({ length: 9 }, (_, i) => i + 4);

  it.each(versions)('gives in version %i the stored batches from an offset on', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    for (const values of [['a', 'b'], ['c']]) await produce(client, 't', { 0: batchOf(values) });
    const answer = await client.ask<FetchAnswer>('Fetch', fetchRequest('t', { 0: 1 }), version);
    const [found] = answer.responses[0]!.partitions;
    expect(found).toMatchObject({ errorCode: 0, highWatermark: 3, lastStableOffset: 3 });
    // The batch that holds the offset is given as a whole.
    expect(valuesIn(found!.records)).toEqual([
      [0, 'a'],
      [1, 'b'],
      [2, 'c'],
    ]);
    const last = await client.ask<FetchAnswer>('Fetch', fetchRequest('t', { 0: 2 }), version);
    expect(valuesIn(last.responses[0]!.partitions[0]!.records)).toEqual([[2, 'c']]);
  });

  const kafkas = admissions.filter(
    ({ result, compactedTopic }) => result === 'accepted' && !compactedTopic,
  );
  it.each(kafkas.map(({ vector, what }) => [`${vector}, ${what}`, vector] as const))(
    "gives Kafka's batch back as the bytes that it was, but for what the log sets: %s",
    async (_, id) => {
      const ottla = await open();
      await ottla.topics.create('t');
      const client = await connected(ottla);
      await produce(client, 't', { 0: batchOf(['before']) });
      const sent = bytesOf(id);
      await produce(client, 't', { 0: bytesOf(id) });
      const [found] = await fetchPartitions(client, 't', { 0: 1 });
      const { records } = found!;
      expect(records.readBigInt64BE(0)).toBe(1n);
      expect(records.subarray(43).equals(sent.subarray(43))).toBe(true);
      expect(records).toHaveLength(sent.length);
    },
  );

  it('reads what was sent in this process', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const { offset } = await ottla.producer().send('t', { value: 'a' });
    const client = await connected(ottla);
    const [found] = await fetchPartitions(client, 't', { 0: offset });
    expect(valuesIn(found!.records)).toEqual([[0, 'a']]);
  });

  it('reads over many segments, as far as its bounds allow, and always one batch', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { segmentBytes: 2000 });
    const client = await connected(ottla);
    const sent = Array.from({ length: 50 }, (_, i) => `${i}:${'x'.repeat(200)}`);
    for (const value of sent) await produce(client, 't', { 0: batchOf([value]) }, { acks: 1 });
    for (const partitionMaxBytes of [1, 700, 1_048_576]) {
      const read: string[] = [];
      for (let offset = 0; offset < 50; offset = read.length) {
        const [found] = await fetchPartitions(
          client,
          't',
          { 0: offset },
          {},
          { partitionMaxBytes },
        );
        expect(found!.errorCode).toBe(0);
        const values = valuesIn(found!.records);
        expect(values.length).toBeGreaterThan(0);
        expect(values.length === 1 || found!.records.length <= partitionMaxBytes).toBe(true);
        read.push(...values.map(([, value]) => value));
      }
      expect(read).toEqual(sent);
    }
  });

  it.each([
    ['an unknown topic', 'none', 0, {}, 3],
    ['an unknown partition', 't', 1, {}, 3],
    ['a negative partition', 't', -1, {}, 3],
    ['an offset beyond the end', 't', 0, { fetchOffset: 2 }, 1],
    ['a negative offset', 't', 0, { fetchOffset: -5 }, 1],
    ['an epoch that is to come', 't', 0, { currentLeaderEpoch: 5 }, 75],
    ['an epoch of records that is to come', 't', 0, { lastFetchedEpoch: 5 }, 1],
  ])('answers at once for %s', async (_, topic, partition, fields, errorCode) => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a']) });
    const wait = { maxWaitMs: 600_000, minBytes: 1_000_000 };
    const [found] = await fetchPartitions(client, topic, { [partition]: 1 }, wait, fields);
    expect(found).toMatchObject({ errorCode, highWatermark: -1 });
    expect(found!.records).toHaveLength(0);
  });

  it('answers OFFSET_OUT_OF_RANGE below the log start', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a', 'b', 'c']) });
    await ottla.topics.deleteRecords('t', 0, 2);
    expect(await fetchPartitions(client, 't', { 0: 1 })).toMatchObject([{ errorCode: 1 }]);
    const [found] = await fetchPartitions(client, 't', { 0: 2 });
    expect(found).toMatchObject({ errorCode: 0, logStartOffset: 2 });
  });

  it('shows committed transactions and says which were aborted, up to the first open one', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const [one, other] = [
      ottla.producer({ transactionalId: 'one' }),
      ottla.producer({ transactionalId: 'other' }),
    ];
    await one.transaction(async (t) => t.send('t', { value: 'committed' }));
    const abort = new Error('no');
    await expect(
      one.transaction(async (t) => {
        t.send('t', { value: 'aborted' });
        throw abort;
      }),
    ).rejects.toBe(abort);
    const client = await connected(ottla);
    const ask = async (isolationLevel: number): Promise<Fields> => {
      const [found] = await fetchPartitions(client, 't', { 0: 0 }, { isolationLevel });
      return { ...found, values: valuesIn(found!.records).map(([, value]) => value) };
    };
    const values = ['committed', 'aborted'];
    expect(await ask(0)).toMatchObject({ values, abortedTransactions: null });
    const decided = await ask(1);
    expect(decided).toMatchObject({ values, lastStableOffset: 4, highWatermark: 4 });
    expect(decided).toMatchObject({ abortedTransactions: [{ firstOffset: 2 }] });
    let seen: readonly Fields[] = [];
    await other.transaction(async (t) => {
      t.send('t', { value: 'open' });
      await fetchPartitions(client, 't', { 0: 4 }, { maxWaitMs: 60_000 });
      await produce(client, 't', { 0: batchOf(['behind']) });
      seen = [await ask(1), await ask(0)];
    });
    expect(seen[0]).toMatchObject({ values, highWatermark: 6, lastStableOffset: 4 });
    expect(seen[1]).toMatchObject({ values: [...values, 'open', 'behind'] });
    expect(await ask(1)).toMatchObject({ values: [...values, 'open', 'behind'] });
  });
});

describe('A fetch that waits', () => {
  it('is answered as soon as there are as many bytes as it asks for', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create('t', { partitions: 2 });
    const client = await connected(ottla);
    const other = await connected(ottla);
    const batch = batchOf(['a']);
    const wait = { maxWaitMs: 1000, minBytes: 2 * batch.length };
    let isAnswered = false;
    const waiting = fetchPartitions(client, 't', { 0: 0, 1: 0 }, wait);
    void waiting.then(() => (isAnswered = true));
    await produce(other, 't', { 0: batchOf(['a']) });
    await clock.settle();
    expect(isAnswered).toBe(false);
    await produce(other, 't', { 1: batchOf(['b']) });
    const found = await waiting;
    expect(found.flatMap(({ records }) => valuesIn(records))).toEqual([
      [0, 'a'],
      [0, 'b'],
    ]);
  });

  it('is answered with what there is when the time is up', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create('t');
    const client = await connected(ottla);
    await produce(client, 't', { 0: batchOf(['a']) });
    const waiting = fetchPartitions(client, 't', { 0: 0 }, { maxWaitMs: 500, minBytes: 10_000 });
    await clock.advance(499);
    let isAnswered = false;
    void waiting.then(() => (isAnswered = true));
    await clock.settle();
    expect(isAnswered).toBe(false);
    await clock.advance(1);
    expect(valuesIn((await waiting)[0]!.records)).toEqual([[0, 'a']]);
    expect(clock.timerCount).toBeGreaterThan(0);
  });

  it('is answered for a record of this process, a transaction that ends, and a topic that goes', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const wait = { maxWaitMs: 600_000, minBytes: 1, isolationLevel: 1 };
    const sent = fetchPartitions(client, 't', { 0: 0 }, wait);
    await ottla.producer().send('t', { value: 'a' });
    expect(valuesIn((await sent)[0]!.records)).toEqual([[0, 'a']]);
    const producer = ottla.producer({ transactionalId: 'x' });
    const ended = fetchPartitions(client, 't', { 0: 1 }, wait);
    await producer.transaction(async (t) => t.send('t', { value: 'b' }));
    expect(valuesIn((await ended)[0]!.records)).toEqual([[1, 'b']]);
    const gone = fetchPartitions(client, 't', { 0: 3 }, wait);
    await ottla.topics.delete('t');
    expect(await gone).toMatchObject([{ errorCode: 3 }]);
  });

  it('ends with its connection, and with the server', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create('t');
    const wait = { maxWaitMs: 600_000, minBytes: 1 };
    const client = await connected(ottla);
    const waiting = fetchPartitions(client, 't', { 0: 0 }, wait);
    await clock.settle();
    const before = clock.timerCount;
    client.stream.destroy();
    await expect(waiting).rejects.toThrow('connection closed');
    await clock.settle();
    expect(clock.timerCount).toBe(before - 1);
    const other = await connected(ottla);
    const last = fetchPartitions(other, 't', { 0: 0 }, wait);
    await clock.settle();
    await ottla.close();
    expect(await last).toMatchObject([{ errorCode: 0 }]);
  });

  it('is not answered before its time by appends that are not enough', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const producer = ottla.producer({ transactionalId: 'x' });
    const waits = { maxWaitMs: 5000, minBytes: 1, isolationLevel: 1 };
    let isAnswered = false;
    await producer.transaction(async (t) => {
      t.send('t', { value: 'a' });
      await clock.settle();
      const waiting = fetchPartitions(client, 't', { 0: 0 }, waits);
      void waiting.then(() => (isAnswered = true));
      const other = await connected(ottla);
      for (let i = 0; i < 10; i++) await produce(other, 't', { 0: batchOf(['b']) });
      await clock.settle();
      expect(isAnswered).toBe(false);
    });
    await clock.settle();
    expect(isAnswered).toBe(true);
  });
});

describe('A fetch session', () => {
  const ask = (offsets: Record<number, number>, sessionId: number, sessionEpoch: number): Fields =>
    fetchRequest('t', offsets, { sessionId, sessionEpoch });

  it('names each time only what has changed, and forgets what it is told to', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t', { partitions: 3 });
    const client = await connected(ottla);
    const fetch = (request: Fields): Promise<FetchAnswer> => client.ask('Fetch', request);
    const first = await fetch(ask({ 0: 0, 1: 0, 2: 0 }, 0, 0));
    expect(first.errorCode).toBe(0);
    expect(first.responses[0]!.partitions).toHaveLength(3);
    const id = first.sessionId;
    expect(id).toBeGreaterThan(0);
    expect(await fetch(ask({}, id, 1))).toMatchObject({ sessionId: id, responses: [] });
    await produce(client, 't', { 1: batchOf(['a']) });
    const second = await fetch(ask({}, id, 2));
    expect(second.responses).toMatchObject([{ partitions: [{ partitionIndex: 1 }] }]);
    // Where it has read on to is new, and so is nothing else.
    expect((await fetch(ask({ 1: 1 }, id, 3))).responses).toEqual([]);
    await produce(client, 't', { 0: batchOf(['b']), 2: batchOf(['c']) });
    const forgetting = { forgottenTopicsData: [{ topic: 't', partitions: [0] }] };
    const third = await fetch({ ...ask({}, id, 4), ...forgetting });
    expect(third.responses).toMatchObject([{ partitions: [{ partitionIndex: 2 }] }]);
    await ottla.topics.delete('t');
    const fourth = await fetch(ask({ 2: 1 }, id, 5));
    expect(fourth.responses[0]!.partitions).toMatchObject([
      { partitionIndex: 1, errorCode: 3 },
      { partitionIndex: 2, errorCode: 3 },
    ]);
  });

  it('gives those that had nothing their turn first', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t', { partitions: 2 });
    const client = await connected(ottla);
    for (const index of [0, 1]) await produce(client, 't', { [index]: batchOf(['x'.repeat(500)]) });
    const small = { maxBytes: 100 };
    const first = await client.ask<FetchAnswer>('Fetch', {
      ...ask({ 0: 0, 1: 0 }, 0, 0),
      ...small,
    });
    const bytes = (answer: FetchAnswer): number[] =>
      answer.responses.flatMap(({ partitions }) =>
        partitions.filter(({ records }) => records.length > 0).map((p) => p.partitionIndex),
      );
    expect(bytes(first)).toEqual([0]);
    const id = first.sessionId;
    expect(bytes(await client.ask('Fetch', { ...ask({}, id, 1), ...small }))).toEqual([1]);
    expect(bytes(await client.ask('Fetch', { ...ask({}, id, 2), ...small }))).toEqual([0]);
  });

  it('is not found once it was ended, and refuses another epoch', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const fetch = (request: Fields): Promise<FetchAnswer> => client.ask('Fetch', request);
    const { sessionId: id } = await fetch(ask({ 0: 0 }, 0, 0));
    expect(await fetch(ask({}, id, 7))).toMatchObject({ errorCode: 71, responses: [] });
    expect(await fetch(ask({}, id, 1))).toMatchObject({ errorCode: 0 });
    expect(await fetch(ask({ 0: 0 }, id, -1))).toMatchObject({ errorCode: 0, sessionId: 0 });
    expect(await fetch(ask({}, id, 2))).toMatchObject({ errorCode: 70, responses: [] });
  });

  it('reads on where it is, over rolls, compaction and epochs alike', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t', { segmentBytes: 3000 });
    const client = await connected(ottla);
    let { sessionId } = await client.ask<FetchAnswer>('Fetch', ask({ 0: 0 }, 0, 0));
    const read: string[] = [];
    let epoch = 1;
    for (let i = 0; i < 60; i++) {
      const value = `${i}${'x'.repeat(i * 7)}`;
      await produce(client, 't', { 0: batchOf([value], numbered(1n, i)) }, { acks: 1 });
      const answer = await client.ask<FetchAnswer>('Fetch', ask({ 0: i }, sessionId, epoch++));
      ({ sessionId } = answer);
      for (const { partitions } of answer.responses) {
        for (const { records } of partitions) read.push(...valuesIn(records).map(([, v]) => v));
      }
    }
    expect(read).toEqual(Array.from({ length: 60 }, (_, i) => `${i}${'x'.repeat(i * 7)}`));
  });
});
