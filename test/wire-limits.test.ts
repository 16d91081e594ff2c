import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { serve, type Server, type ServeLimits } from '../src/server/index.js';
import { testOttla, type TestContext, type TestOttla } from '../src/testing/index.js';
import { batchOf, fetchPartitions, fetchRequest, produce, produceRequest } from './wire-batches.js';
import { apiNamed, requestFrame, WireClient, type Fields } from './wire-client.js';

interface Served extends TestOttla {
  readonly server: Server;
  readonly connect: () => WireClient;
}

async function served(test: TestContext, limits: ServeLimits): Promise<Served> {
  const world = testOttla(test);
  await world.ottla.topics.create('t');
  const server = await serve(world.ottla, { listen: false, limits });
  return { ...world, server, connect: () => new WireClient(server.connect()) };
}

const software = { clientSoftwareName: 'test', clientSoftwareVersion: '1.0' };
const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;

/** A client that asks, and takes nothing of the answer. */
function slowReader(server: Server, frame: Buffer): Duplex {
  const stream = server.connect();
  stream.on('error', () => undefined);
  stream.pause();
  stream.write(frame);
  return stream;
}

const fetchFrame = (partitionMaxBytes: number): Buffer =>
  requestFrame(
    apiNamed('Fetch'),
    12,
    1,
    fetchRequest('t', { 0: 0 }, {}, { partitionMaxBytes, lastFetchedEpoch: -1 }),
  );

/** Ten batches of 100 KiB each. */
async function fill(client: WireClient): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await produce(client, 't', { 0: batchOf(['x'.repeat(100 * kibibyte)]) });
  }
}

describe('Answers that are not taken', () => {
  it('are bounded over all connections: who has waited longest is cut', async (test) => {
    const { server, clock, connect } = await served(test, { maxAnswerBytes: mebibyte });
    const good = connect();
    await fill(good);
    const readers: Duplex[] = [];
    for (let i = 0; i < 12; i++) {
      readers.push(slowReader(server, fetchFrame(150 * kibibyte)));
      await clock.advance(10);
    }
    const cut = readers.map(({ destroyed }) => destroyed);
    // One batch each: ten of them are in 1 MiB.
    expect(cut).toEqual(readers.map((_, i) => i < 2));
    expect(await fetchPartitions(good, 't', { 0: 9 })).toMatchObject([{ errorCode: 0 }]);
  });

  it('leave less to others, but never less than a batch', async (test) => {
    const { server, clock, connect } = await served(test, { maxAnswerBytes: mebibyte });
    const good = connect();
    await fill(good);
    const fetched = async (): Promise<number> => {
      const more = { partitionMaxBytes: 500 * kibibyte };
      const [found] = await fetchPartitions(good, 't', { 0: 0 }, {}, more);
      return found!.records.length;
    };
    expect(await fetched()).toBeGreaterThan(400 * kibibyte);
    const slow = slowReader(server, fetchFrame(mebibyte - 250 * kibibyte));
    await clock.settle();
    expect(await fetched()).toBeLessThan(350 * kibibyte);
    expect(await fetched()).toBeGreaterThan(100 * kibibyte);
    expect(slow.destroyed).toBe(false);
    slow.destroy();
    await clock.settle();
    expect(await fetched()).toBeGreaterThan(400 * kibibyte);
  });

  it('cut a client that takes nothing of them for stallMs', async (test) => {
    const { server, clock, connect } = await served(test, { stallMs: 1000 });
    await fill(connect());
    const slow = slowReader(server, fetchFrame(500 * kibibyte));
    await clock.advance(900);
    expect(slow.destroyed).toBe(false);
    await clock.advance(700);
    expect(slow.destroyed).toBe(true);
  });
});

describe('Requests under way', () => {
  const value = 'x'.repeat(40 * kibibyte);

  it('are bounded for a connection: no more are read until some are answered', async (test) => {
    const { ottla, clock, faults, connect } = await served(test, {
      maxRequestBytes: 64 * kibibyte,
    });
    const client = connect();
    const gate = faults.hold('sync');
    const sent = [0, 1, 2, 3, 4, 5].map(() => produce(client, 't', { 0: batchOf([value]) }));
    await gate.arrived();
    await clock.settle();
    const written = async (): Promise<unknown> =>
      (await ottla.topics.describe('t')).partitions[0]!.highWatermark;
    expect(await written()).toBeLessThan(5);
    gate.open();
    const answers = await Promise.all(sent);
    expect(answers.map(([answer]) => answer!.baseOffset)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('are bounded over all connections', async (test) => {
    const limits = { maxQueuedBytes: 100 * kibibyte, stallMs: 60_000 };
    const { ottla, clock, faults, connect } = await served(test, limits);
    const clients = Array.from({ length: 6 }, connect);
    const gate = faults.hold('sync');
    const sent = [];
    for (const client of clients) {
      sent.push(produce(client, 't', { 0: batchOf([value]) }));
      await clock.settle();
    }
    const { partitions } = await ottla.topics.describe('t');
    expect(partitions[0]!.highWatermark).toBe(3);
    gate.open();
    const answers = await Promise.all(sent);
    expect(answers.map(([answer]) => answer!.errorCode)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('cut who has most of them when all others have waited for it for stallMs', async (test) => {
    const limits = { maxQueuedBytes: 100 * kibibyte, stallMs: 1000 };
    const { clock, connect } = await served(test, limits);
    const greedy = connect();
    const names = Array.from({ length: 400 }, (_, i) => i);
    // It waits for long, and takes memory while it does.
    const topics = names.map((partition) => ({
      topic: 't',
      partitions: [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1 + partition }],
    }));
    const wait = { maxWaitMs: 2 ** 31 - 1, minBytes: 1000, topics, forgottenTopicsData: [] };
    const waiting = greedy.ask('Fetch', wait, 12).catch((error: Error) => error.message);
    await clock.settle();
    const other = connect();
    const asked = other.ask('ApiVersions', software);
    await clock.advance(1600);
    expect(await waiting).toBe('connection closed');
    expect(await asked).toMatchObject({ errorCode: 0 });
  });

  it('have no more elements than a request may, whatever few bytes these are', async (test) => {
    const { connect, warnings } = await served(test, {});
    const groups = (count: number): Fields => ({ groupsNames: Array(count).fill('') });
    const api = apiNamed('DeleteGroups');
    const many = connect();
    many.stream.write(requestFrame(api, 2, 1, groups(200_001)));
    await many.closed;
    const few = connect();
    expect(await few.ask('DeleteGroups', groups(1000))).toMatchObject({
      results: { length: 1000 },
    });
    expect(warnings).toEqual([]);
  });
});

describe('A request that arrives', () => {
  it('for longer than idleMs cuts its connection, however steadily it does', async (test) => {
    const { clock, connect } = await served(test, { idleMs: 10_000, stallMs: 2000 });
    const slow = connect();
    const frame = requestFrame(apiNamed('Metadata'), 0, 1, { topics: [] });
    slow.stream.write(frame.subarray(0, 6));
    let seconds = 0;
    for (; !slow.stream.destroyed && seconds < 30; seconds++) {
      await clock.advance(1000);
      slow.stream.write(Buffer.from([0]));
    }
    expect(seconds).toBeGreaterThanOrEqual(10);
    expect(seconds).toBeLessThan(13);
  });

  it('in a thousand pieces of a byte is one as any other', async (test) => {
    const { clock, connect } = await served(test, {});
    const client = connect();
    const frame = requestFrame(
      apiNamed('Produce'),
      12,
      5,
      produceRequest('t', { 0: batchOf(['x'.repeat(1000)]) }),
    );
    const answered = client.exchange(frame.subarray(0, 12), (reader) => {
      reader.uvarint();
      return apiNamed('Produce').response(12).read(reader);
    });
    for (const byte of frame.subarray(12)) client.stream.write(Buffer.from([byte]));
    await clock.settle();
    expect(await answered).toMatchObject({
      responses: [{ partitionResponses: [{ errorCode: 0, baseOffset: 0 }] }],
    });
  });
});
