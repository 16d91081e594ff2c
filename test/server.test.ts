import { describe, expect, it } from 'vitest';
import { connect as connectTcp } from 'node:net';
import { Ottla } from '../src/index.js';
import { serve } from '../src/server/index.js';
import { testDirectory, testOttla } from '../src/testing/index.js';
import { apis } from '../src/server/apis.js';
import { apiNamed, requestFrame, WireClient, type Fields } from './wire-client.js';

// Of Produce Kafka tells older versions than it takes, for the sake of librdkafka.
const ranges = [...apis.values()].map(({ name, key, minVersion, maxVersion }) => ({
  apiKey: key,
  minVersion: name === 'Produce' ? 0 : minVersion,
  maxVersion,
}));

const software = { clientSoftwareName: 'test', clientSoftwareVersion: '1.0' };

describe('a directory that is served', () => {
  it('is LOCKED with the address, as long as it is served', async (test) => {
    const { ottla, path } = await testDirectory(test);
    const server = await serve(ottla);
    const again = (): Promise<Error> =>
      Ottla.open(path).then(
        () => new Error('opened'),
        (error: Error) => error,
      );
    expect(await again()).toMatchObject({ code: 'LOCKED' });
    expect((await again()).message).toContain(`, which serves clients at ${server.bootstrap}`);
    await server.close();
    expect((await again()).message).not.toContain('serves');
  });
});

describe('ApiVersions', () => {
  it.each([0, 1, 2, 3, 4])(
    'names in version %i what is offered, and nothing else',
    async (version) => {
      await using ottla = Ottla.memory();
      const server = await serve(ottla, { listen: false });
      const client = new WireClient(server.connect());
      const answer = await client.ask('ApiVersions', software, version);
      expect(answer).toMatchObject({ errorCode: 0, apiKeys: ranges });
    },
  );

  it('answers a version that is too new as version 0, with UNSUPPORTED_VERSION', async () => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const api = apiNamed('ApiVersions');
    const frame = requestFrame(api, 3, 7, software);
    frame.writeInt16BE(99, 6);
    const answer = await client.exchange(frame, (reader) => api.response(0).read(reader));
    expect(answer).toMatchObject({ errorCode: 35, apiKeys: ranges });
  });

  it('refuses a client without a name from version 3 on', async () => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const bad = { clientSoftwareName: '-bad-', clientSoftwareVersion: '' };
    expect(await client.ask('ApiVersions', bad)).toMatchObject({ errorCode: 42, apiKeys: [] });
  });
});

describe('What is not offered', () => {
  it.each([
    ['an unknown key', 9999, 0],
    ['a version that is too new', 3, 99],
    ['a version that is too old', 1, 0],
    ['a version of Produce that is only told', 0, 2],
  ])('is answered with UNSUPPORTED_VERSION: %s', async (_, key, version) => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const frame = requestFrame(apiNamed('Metadata'), 0, 3, { topics: [] });
    frame.writeInt16BE(key, 4);
    frame.writeInt16BE(version, 6);
    expect(await client.exchange(frame, (reader) => reader.int16())).toBe(35);
    expect(await client.ask('ApiVersions', software)).toMatchObject({ errorCode: 0 });
  });
});

describe('Metadata', () => {
  const everyVersion = Array.from({ length: 14 }, (_, version) => version);

  it.each(everyVersion)('names in version %i the broker and all topics', async (version) => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t', { partitions: 2 });
    const server = await serve(ottla, { listen: false, advertised: { host: 'here', port: 1234 } });
    const client = new WireClient(server.connect());
    const answer = await client.ask('Metadata', { topics: version === 0 ? [] : null }, version);
    expect(answer).toMatchObject({
      brokers: [{ nodeId: 1, host: 'here', port: 1234, rack: null }],
      controllerId: version === 0 ? -1 : 1,
      topics: [
        {
          errorCode: 0,
          name: 't',
          partitions: [0, 1].map((partitionIndex) => ({
            errorCode: 0,
            partitionIndex,
            leaderId: 1,
            leaderEpoch: version < 7 ? -1 : 0,
            replicaNodes: [1],
            isrNodes: [1],
            offlineReplicas: [],
          })),
        },
      ],
    });
  });

  it('creates what it does not know, if the client and the server allow it', async () => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false, defaultPartitions: 3 });
    const client = new WireClient(server.connect());
    const ask = (name: string, allowAutoTopicCreation: boolean): Promise<Fields> =>
      client.ask('Metadata', { topics: [{ name }], allowAutoTopicCreation });
    expect(await ask('new', false)).toMatchObject({ topics: [{ errorCode: 3, name: 'new' }] });
    expect(await ask('a b', true)).toMatchObject({ topics: [{ errorCode: 17 }] });
    expect(await ottla.topics.list()).toEqual([]);
    const created = await ask('new', true);
    expect(created).toMatchObject({ topics: [{ errorCode: 0, partitions: [{}, {}, {}] }] });
    const { options } = await ottla.topics.describe('new');
    expect(options).toMatchObject({ partitions: 3, retentionMs: 604_800_000 });

    const strict = await serve(ottla, { listen: false, autoCreateTopics: false });
    const other = new WireClient(strict.connect());
    const answer = await other.ask('Metadata', { topics: [{ name: 'x' }] });
    expect(answer).toMatchObject({ topics: [{ errorCode: 3 }] });
  });

  it('is answered with all topics where librdkafka asks with bytes behind its request', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t');
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const api = apiNamed('Metadata');
    const asked = requestFrame(api, 13, 5, { topics: null });
    const frame = Buffer.concat([asked, Buffer.from([1, 0, 0])]);
    frame.writeInt32BE(frame.length - 4, 0);
    const answer = await client.exchange(frame, (reader) => {
      reader.uvarint();
      return api.response(13).read(reader);
    });
    expect(answer).toMatchObject({ topics: [{ errorCode: 0, name: 't' }] });
  });

  it('finds a topic by its id', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('t');
    const { id } = await ottla.topics.describe('t');
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const known = await client.ask('Metadata', { topics: [{ topicId: id, name: null }] });
    expect(known).toMatchObject({ topics: [{ errorCode: 0, name: 't', topicId: id }] });
    const other = 'BBBBBBBBBBBBBBBBBBBBBA';
    const unknown = await client.ask('Metadata', { topics: [{ topicId: other, name: null }] });
    expect(unknown).toMatchObject({ topics: [{ errorCode: 100, name: null, topicId: other }] });
  });
});

describe('A server', () => {
  it('listens at a free port of the loopback address, and says which', async () => {
    await using ottla = Ottla.memory();
    await using server = await serve(ottla);
    const [, host, port] = /^(.*):(\d+)$/.exec(server.bootstrap)!;
    expect(host).toBe('127.0.0.1');
    const client = new WireClient(connectTcp(Number(port), host));
    expect(await client.ask('Metadata', { topics: null })).toMatchObject({
      brokers: [{ host, port: Number(port) }],
    });
  });

  it('answers requests that come at once, or byte by byte, in their order', async () => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, i) => client.ask('ApiVersions', software, i % 5)),
    );
    expect(answers).toHaveLength(500);
    const api = apiNamed('ApiVersions');
    const frame = requestFrame(api, 0, 1, {});
    const first = frame.subarray(0, 12);
    const answered = client.exchange(first, (reader) => api.response(0).read(reader));
    for (const byte of frame.subarray(12)) client.stream.write(Buffer.from([byte]));
    expect(await answered).toMatchObject({ errorCode: 0 });
  });

  it.each([
    ['a negative length', Buffer.from([0xff, 0, 0, 0])],
    ['a length beyond the limit', Buffer.from([0x7f, 0xff, 0xff, 0xff])],
    ['a frame without a header', Buffer.from([0, 0, 0, 0])],
    ['a body that is too short', Buffer.from([0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff])],
  ])('cuts the connection for %s, and no other', async (_, bytes) => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const bad = new WireClient(server.connect());
    const good = new WireClient(server.connect());
    bad.stream.write(bytes);
    await bad.closed;
    expect(await good.ask('ApiVersions', software)).toMatchObject({ errorCode: 0 });
  });

  it('cuts a connection that stands still in a request, and one that is idle', async (test) => {
    const { ottla, clock } = testOttla(test);
    const limits = { stallMs: 1000, idleMs: 10_000 };
    const server = await serve(ottla, { listen: false, limits });
    const stalled = new WireClient(server.connect());
    const idle = new WireClient(server.connect());
    const isGone = { stalled: false, idle: false };
    void stalled.closed.then(() => (isGone.stalled = true));
    void idle.closed.then(() => (isGone.idle = true));
    stalled.stream.write(Buffer.from([0, 0]));
    await clock.advance(900);
    expect(isGone).toEqual({ stalled: false, idle: false });
    await clock.advance(400);
    expect(isGone).toEqual({ stalled: true, idle: false });
    await clock.advance(9000);
    expect(isGone).toEqual({ stalled: true, idle: true });
  });

  it('takes no more connections than its limit', async () => {
    await using ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false, limits: { maxConnections: 1 } });
    const first = new WireClient(server.connect());
    const second = new WireClient(server.connect());
    await second.closed;
    expect(await first.ask('ApiVersions', software)).toMatchObject({ errorCode: 0 });
  });

  it('cuts what has been longest on its way when requests take too much memory', async (test) => {
    const { ottla, clock } = testOttla(test);
    const server = await serve(ottla, { listen: false, limits: { maxQueuedBytes: 10_000 } });
    const [slow, quick] = [new WireClient(server.connect()), new WireClient(server.connect())];
    const half = Buffer.alloc(6000);
    half.writeInt32BE(100_000, 0);
    slow.stream.write(half);
    await clock.advance(10);
    quick.stream.write(half);
    await slow.closed;
    expect(quick.stream.destroyed).toBe(false);
  });

  it('closes with its Ottla, and takes nothing afterwards', async () => {
    const ottla = Ottla.memory();
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    await client.ask('ApiVersions', software);
    await ottla.close();
    await client.closed;
    expect(() => server.connect()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    await expect(serve(ottla)).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it.each([
    ['an unknown option', { prot: 1 }, TypeError],
    ['an unknown limit', { limits: { most: 1 } }, TypeError],
    ['a port out of range', { port: 65_536 }, RangeError],
    ['a path beside a port', { path: '/x', port: 1 }, TypeError],
    ['an address that others reach', { host: '0.0.0.0' }, TypeError],
  ])('refuses %s', async (_, options, kind) => {
    await using ottla = Ottla.memory();
    await expect(serve(ottla, options as object)).rejects.toBeInstanceOf(kind);
  });

  it('listens elsewhere when that is asked for by name', async () => {
    await using ottla = Ottla.memory();
    await using server = await serve(ottla, { host: '0.0.0.0', allowAnonymous: true });
    expect(server.bootstrap).toMatch(/^0\.0\.0\.0:\d+$/);
  });
});
