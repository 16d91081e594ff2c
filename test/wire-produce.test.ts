import { describe, expect, it } from 'vitest';
import type { Ottla } from '../src/index.js';
import { encodeBatch } from '../src/record-writer.js';
import { testOttla } from '../src/testing/index.js';
import { withCrc } from './batch-vectors.js';
import { describeContract } from './contract.js';
import type { Fields } from './wire-client.js';
import { batchOf, connected, numbered, produce, produceRequest } from './wire-batches.js';

async function valuesOf(ottla: Ottla, topic: string): Promise<string[]> {
  const values = [];
  for await (const { value } of ottla.read(topic)) values.push(String(value));
  return values;
}

describeContract('Produce', ({ open }) => {
  const versions = Array.from({ length: 10 }, (_, i) => i + 3);

  it.each(versions)(
    'writes in version %i what was sent, at the end of the log',
    async (version) => {
      const ottla = await open();
      await ottla.topics.create('t', { partitions: 2 });
      const client = await connected(ottla);
      const batches = { 0: batchOf(['a', 'b']), 1: batchOf(['c']) };
      const first = await produce(client, 't', batches, {}, version);
      expect(first).toMatchObject([
        { index: 0, errorCode: 0, baseOffset: 0, logAppendTimeMs: -1 },
        { index: 1, errorCode: 0, baseOffset: 0, logAppendTimeMs: -1 },
      ]);
      const [second] = await produce(client, 't', { 0: batchOf(['d']) }, { acks: 1 }, version);
      expect(second).toMatchObject({ errorCode: 0, baseOffset: 2 });
      expect((await valuesOf(ottla, 't')).toSorted()).toEqual(['a', 'b', 'c', 'd']);
    },
  );

  it('finds a topic by its id in version 13', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const { id: topicId } = await ottla.topics.describe('t');
    const client = await connected(ottla);
    const send = async (id: string): Promise<Fields> => {
      const partitionData = [{ index: 0, records: batchOf(['a']) }];
      const topicData = [{ topicId: id, partitionData }];
      return client.ask('Produce', { acks: -1, timeoutMs: 1000, topicData }, 13);
    };
    expect(await send(topicId)).toMatchObject({
      responses: [{ topicId, partitionResponses: [{ errorCode: 0, baseOffset: 0 }] }],
    });
    expect(await send('BBBBBBBBBBBBBBBBBBBBBA')).toMatchObject({
      responses: [{ partitionResponses: [{ errorCode: 100 }] }],
    });
  });

  it('answers nothing for acks 0, and writes', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    client.tell('Produce', produceRequest('t', { 0: batchOf(['a']) }, { acks: 0 }), 12);
    const [after] = await produce(client, 't', { 0: batchOf(['b']) });
    expect(after).toMatchObject({ baseOffset: 1 });
  });

  it('cuts the connection for what acks 0 cannot be told', async () => {
    const ottla = await open();
    const client = await connected(ottla);
    client.tell('Produce', produceRequest('none', { 0: batchOf(['a']) }, { acks: 0 }), 12);
    await client.closed;
    expect(client.stream.destroyed).toBe(true);
  });

  it('wakes a consumer in this process', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    await consumer.ready();
    const next = consumer[Symbol.asyncIterator]().next();
    await produce(await connected(ottla), 't', { 0: batchOf(['a']) });
    expect(String((await next).value!.value)).toBe('a');
  });

  it('refuses one partition, and writes another', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const answers = await produce(client, 't', { 0: batchOf(['a']), 1: batchOf(['b']) });
    expect(answers).toMatchObject([
      { index: 0, errorCode: 0 },
      { index: 1, errorCode: 3, baseOffset: -1, logStartOffset: -1 },
    ]);
    expect(answers[1]!.errorMessage).toContain('got 1');
  });

  const flipped = batchOf(['a']);
  flipped[flipped.length - 1]! ^= 1;
  const control = batchOf(['a']);
  control.writeInt16BE(0x20, 21);
  const old = batchOf(['a']);
  old[16] = 1;
  it.each([
    ['a flipped bit', flipped, 2],
    ['two batches', Buffer.concat([batchOf(['a']), batchOf(['b'])]), 87],
    ['half a batch', batchOf(['a']).subarray(0, 40), 87],
    ['no batch', Buffer.alloc(0), 87],
    ['null', null, 87],
    ['a control batch', withCrc(control), 87],
    ['a batch of magic 1', old, 87],
    ['a batch that is too large', batchOf(['x'.repeat(2000)]), 10],
  ])('refuses %s, writing nothing', async (_, bytes, errorCode) => {
    const ottla = await open();
    await ottla.topics.create('t', { maxMessageBytes: 1024 });
    const client = await connected(ottla);
    expect(await produce(client, 't', { 0: bytes })).toMatchObject([{ errorCode, baseOffset: -1 }]);
    expect(await valuesOf(ottla, 't')).toEqual([]);
    expect(await produce(client, 't', { 0: batchOf(['a']) })).toMatchObject([{ errorCode: 0 }]);
  });

  it('refuses a record without a key in a compacted topic', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { cleanupPolicy: 'compact' });
    const client = await connected(ottla);
    expect(await produce(client, 't', { 0: batchOf(['a']) })).toMatchObject([{ errorCode: 87 }]);
    const keyed = batchOf(['a'], { key: 'k' });
    expect(await produce(client, 't', { 0: keyed })).toMatchObject([{ errorCode: 0 }]);
  });

  it.each([7, 8, 12])('says in version %i which records it refuses, from 8 on', async (version) => {
    const ottla = await open();
    await ottla.topics.create('t', { cleanupPolicy: 'compact' });
    const client = await connected(ottla);
    const records = ['k', null, 'k', null].map((key, offset) => {
      return { offset, timestamp: 1000, key, value: 'a' };
    });
    const batch = encodeBatch({ baseOffset: 0, leaderEpoch: -1, records });
    const [answer] = await produce(client, 't', { 0: batch }, {}, version);
    const batchIndexErrorMessage = 'a record without a key, which a compacted topic cannot take';
    const recordErrors = [1, 3].map((batchIndex) => ({ batchIndex, batchIndexErrorMessage }));
    expect(answer).toMatchObject({
      errorCode: 87,
      recordErrors: version < 8 ? [] : recordErrors,
      errorMessage: version < 8 ? null : `2 records, the first: ${batchIndexErrorMessage}`,
    });
    expect(await valuesOf(ottla, 't')).toEqual([]);
  });

  it.each([-2, 2, 100])('refuses acks %i', async (acks) => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const [answer] = await produce(client, 't', { 0: batchOf(['a']) }, { acks });
    expect(answer).toMatchObject({ errorCode: 21 });
    expect(await valuesOf(ottla, 't')).toEqual([]);
  });

  it('refuses zstd before version 7', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const zstd = batchOf(['a'], { compression: 'zstd' });
    expect(await produce(client, 't', { 0: zstd }, {}, 6)).toMatchObject([{ errorCode: 76 }]);
    expect(await produce(client, 't', { 0: zstd }, {}, 7)).toMatchObject([{ errorCode: 0 }]);
    expect(await valuesOf(ottla, 't')).toEqual(['a']);
  });

  it('writes a numbered batch once, and refuses one that is not next', async () => {
    const ottla = await open();
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const send = async (values: string[], sequence: number): Promise<unknown> => {
      const [answer] = await produce(client, 't', { 0: batchOf(values, numbered(7n, sequence)) });
      return answer;
    };
    expect(await send(['a', 'b'], 0)).toMatchObject({ errorCode: 0, baseOffset: 0 });
    expect(await send(['c'], 2)).toMatchObject({ errorCode: 0, baseOffset: 2 });
    expect(await send(['a', 'b'], 0)).toMatchObject({ errorCode: 0, baseOffset: 0 });
    expect(await send(['e'], 4)).toMatchObject({ errorCode: 45 });
    expect(await valuesOf(ottla, 't')).toEqual(['a', 'b', 'c']);
  });

  it('gives records the time of their append where the topic says so', async () => {
    const ottla = await open();
    await ottla.topics.create('t', { messageTimestampType: 'LogAppendTime' });
    const client = await connected(ottla);
    const [answer] = await produce(client, 't', { 0: batchOf(['a']) });
    for await (const { timestamp } of ottla.read('t')) {
      expect(timestamp).toBe(answer!.logAppendTimeMs);
    }
    expect(answer!.logAppendTimeMs).toBeGreaterThan(1000);
  });
});

describe('Produce', () => {
  it('answers REQUEST_TIMED_OUT for what is not durable in time, and other requests later', async (test) => {
    const { ottla, clock, faults } = testOttla(test);
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const gate = faults.hold('sync');
    const late = produce(client, 't', { 0: batchOf(['a']) }, { timeoutMs: 500 });
    await gate.arrived();
    await clock.advance(500);
    expect(await late).toMatchObject([{ errorCode: 7 }]);
    gate.open();
    expect(await produce(client, 't', { 0: batchOf(['b']) })).toMatchObject([{ baseOffset: 1 }]);
  });

  it('overlaps: requests that wait for one sync are answered in their order', async (test) => {
    const { ottla, faults, clock } = testOttla(test);
    await ottla.topics.create('t');
    const client = await connected(ottla);
    const gate = faults.hold('sync');
    const order: number[] = [];
    const sent = [0, 1, 2].map((i) =>
      produce(client, 't', { 0: batchOf([String(i)]) }, { acks: i === 2 ? 1 : -1 }).then(() =>
        order.push(i),
      ),
    );
    await gate.arrived();
    await clock.settle();
    expect(await ottla.topics.describe('t')).toMatchObject({ partitions: [{ highWatermark: 3 }] });
    expect(order).toEqual([]);
    gate.open();
    await Promise.all(sent);
    expect(order).toEqual([0, 1, 2]);
  });

  it('is told of a full disk, and writes later', async (test) => {
    const { ottla, faults } = testOttla(test);
    await ottla.topics.create('t');
    const client = await connected(ottla);
    faults.fail('write', { code: 'ENOSPC' });
    expect(await produce(client, 't', { 0: batchOf(['a']) })).toMatchObject([{ errorCode: 56 }]);
    expect(await produce(client, 't', { 0: batchOf(['a']) })).toMatchObject([{ errorCode: 0 }]);
  });
});
