import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Kafka, logLevel } from 'kafkajs';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { Ottla } from '../src/index.js';
import { pathProblem } from '../src/server/options.js';
import { serve, type Server } from '../src/server/index.js';
import { testDirectory } from '../src/testing/index.js';
import { closedAfterEach, collect, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { batchOf, fetchRequest, produce } from './wire-batches.js';
import { WireClient } from './wire-client.js';

const opened = closedAfterEach();
const software = { clientSoftwareName: 'test', clientSoftwareVersion: '1.0' };

/** Of 'localhost' and 127.0.0.1, signed by itself, for a hundred years. */
const [key, cert] = ['key', 'cert'].map((name) =>
  readFileSync(new URL(`fixtures/tls/${name}.pem`, import.meta.url)),
) as [Buffer, Buffer];

let ottla: Ottla;
let warnings: string[];
beforeEach(async () => {
  ottla = opened(Ottla.memory());
  warnings = [];
  ottla.on('warning', (warning) => void warnings.push(warning));
  await ottla.topics.create('t');
});

const isAnswered = async (client: WireClient): Promise<boolean> =>
  client.ask('ApiVersions', software).then(
    () => true,
    () => false,
  );

function dial(server: Server): Socket {
  const [host, port] = server.bootstrap.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => undefined);
  return socket;
}

describe('A server with TLS', () => {
  it('is one for KafkaJS', async () => {
    const server = await serve(ottla, { tls: { key, cert } });
    const kafka = new Kafka({
      brokers: [server.bootstrap],
      ssl: { ca: [cert], servername: 'localhost' },
      logLevel: logLevel.NOTHING,
    });
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic: 't', messages: [{ value: 'a' }, { value: 'b' }] });
    await producer.disconnect();
    const found = await collect(ottla.read('t'));
    expect(found.map(({ value }) => String(value))).toEqual(['a', 'b']);
  });

  it('cuts who does not speak it, and no other', async () => {
    const server = await serve(ottla, { tls: { key, cert } });
    const plain = new WireClient(dial(server));
    expect(await isAnswered(plain)).toBe(false);
    const [host, port] = server.bootstrap.split(':');
    const options = { host, port: Number(port), ca: cert, servername: 'localhost' };
    const good = new WireClient(connectTls(options));
    expect(await isAnswered(good)).toBe(true);
    expect(warnings).toEqual([]);
  });

  it('asks clients for certificates where it is told to', async () => {
    const tls = { key, cert, ca: cert, requestCert: true, rejectUnauthorized: true };
    const server = await serve(ottla, { tls });
    const [host, port] = server.bootstrap.split(':');
    const options = { host, port: Number(port), ca: cert, servername: 'localhost' };
    expect(await isAnswered(new WireClient(connectTls(options)))).toBe(false);
    expect(await isAnswered(new WireClient(connectTls({ ...options, key, cert })))).toBe(true);
  });

  it('counts those that have not agreed on a key, and closes with them', async () => {
    const server = await serve(ottla, { tls: { key, cert }, limits: { maxConnections: 2 } });
    const silent = [dial(server), dial(server)];
    for (const socket of silent) if (socket.connecting) await once(socket, 'connect');
    const [host, port] = server.bootstrap.split(':');
    const options = { host, port: Number(port), ca: cert, servername: 'localhost' };
    expect(await isAnswered(new WireClient(connectTls(options)))).toBe(false);
    const gone = silent.map((socket) => once(socket, 'close'));
    await server.close();
    await Promise.all(gone);
  });
});

describe.skipIf(process.platform === 'win32')('A server at a Unix socket', () => {
  let path: string;
  beforeEach(() => {
    const place = mkdtempSync(join(tmpdir(), 'ottla-socket-'));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    path = join(place, 's');
  });

  /** A process that has left its socket's file, as one does that is killed. */
  async function leaveSocketFile(): Promise<void> {
    const code = `require('node:net').createServer().listen(process.argv[1], () => console.log('.'))`;
    const child = spawn(process.execPath, ['-e', code, path], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(path)).toBe(true);
  }

  it('answers there, and takes the file away when it closes', async () => {
    const server = await serve(ottla, { path });
    expect(server.path).toBe(path);
    expect(await isAnswered(new WireClient(connect(path)))).toBe(true);
    await server.close();
    expect(existsSync(path)).toBe(false);
  });

  it('is named to who finds the directory locked', async (test) => {
    const { ottla: owner, path: directory } = await testDirectory(test);
    await serve(owner, { path });
    const failure = await failureOf(() => Ottla.open(directory));
    expect(failure.message).toContain(`, which serves clients at ${path}`);
  });

  it('takes over the file of a process that was killed', async () => {
    await leaveSocketFile();
    await serve(ottla, { path });
    expect(await isAnswered(new WireClient(connect(path)))).toBe(true);
  });

  it('leaves one alone that somebody listens at', async () => {
    await serve(ottla, { path });
    const failure = await failureOf(() => serve(ottla, { path }));
    expect(failure).toMatchObject({ code: 'EADDRINUSE' });
    expect(failure.message).toContain(path);
    expect(await isAnswered(new WireClient(connect(path)))).toBe(true);
  });

  it('leaves any other file alone', async () => {
    writeFileSync(path, 'mine');
    expect(await failureOf(() => serve(ottla, { path }))).toMatchObject({ code: 'EADDRINUSE' });
    expect(String(readFileSync(path))).toBe('mine');
  });

  it('refuses a path that the system has no room for', async () => {
    const long = join(path, 'x'.repeat(120));
    const failure = await failureOf(() => serve(ottla, { path: long }));
    expect(failure).toBeInstanceOf(TypeError);
  });
});

describe('A path', () => {
  it.each([
    [String.raw`\\.\pipe\ottla`, 'win32', true],
    [String.raw`\\?\pipe\ottla`, 'win32', true],
    [String.raw`C:\ottla.sock`, 'win32', false],
    [String.raw`\\.\pipe\ `.trim(), 'win32', false],
    ['/tmp/ottla', 'win32', false],
    [`/${'x'.repeat(106)}`, 'linux', true],
    [`/${'x'.repeat(107)}`, 'linux', false],
    [`/${'x'.repeat(102)}`, 'darwin', true],
    [`/${'x'.repeat(103)}`, 'darwin', false],
  ] as const)('%s is one on %s: %s', (path, platform, isOne) => {
    expect(pathProblem(path, platform) === null).toBe(isOne);
  });
});

describe('A server that closes', () => {
  it('answers what is under way', async () => {
    const server = await serve(ottla);
    const client = new WireClient(dial(server));
    await isAnswered(client);
    const sent = produce(client, 't', { 0: batchOf(['a']) });
    const waiting = client.ask('Fetch', fetchRequest('t', { 0: 1 }, { maxWaitMs: 60_000 }), 12);
    await sent;
    await server.close({ timeoutMs: 60_000 });
    expect(await waiting).toMatchObject({ responses: [{ partitions: [{ errorCode: 0 }] }] });
    await client.closed;
  });

  it('cuts what takes longer than it may', async () => {
    const clock = new ManualClock();
    const slow = opened(Ottla.memory({ clock }));
    const server = await serve(slow, { listen: false });
    const members = [new WireClient(server.connect()), new WireClient(server.connect())];
    const joined = (client: WireClient, memberId: string): Promise<unknown> =>
      client.ask(
        'JoinGroup',
        {
          groupId: 'g',
          sessionTimeoutMs: 60_000,
          rebalanceTimeoutMs: 600_000,
          memberId,
          protocolType: 'consumer',
          protocols: [{ name: 'range', metadata: Buffer.alloc(6) }],
        },
        3,
      );
    await joined(members[0]!, '');
    // The first would have to join again.
    const waiting = joined(members[1]!, '').catch((error: Error) => error.message);
    await clock.settle();
    const state = { isClosed: false };
    const closing = server.close({ timeoutMs: 500 }).then(() => (state.isClosed = true));
    await clock.advance(499);
    expect(state.isClosed).toBe(false);
    await clock.advance(1);
    await closing;
    expect(await waiting).toBe('connection closed');
  });

  it('is closed once, however often it is asked for', async () => {
    const server = await serve(ottla);
    const client = new WireClient(dial(server));
    await isAnswered(client);
    await Promise.all([server.close(), server.close({ timeoutMs: 0 }), ottla.close()]);
    await server.close();
    await client.closed;
    expect(await isAnswered(new WireClient(dial(server)))).toBe(false);
  });

  it('before it listens never does', async () => {
    const serving = failureOf(() => serve(ottla));
    await ottla.close();
    expect(await serving).toMatchObject({ code: 'CLOSED' });
  });

  it('leaves its Ottla to others', async () => {
    const [first, second] = [await serve(ottla), await serve(ottla)];
    await first.close();
    expect(await isAnswered(new WireClient(dial(second)))).toBe(true);
    const producer = ottla.producer();
    expect(await producer.send('t', { value: 'a' })).toMatchObject({ offset: 0 });
  });

  it('answers a client that has said all, and ends with it', async () => {
    const server = await serve(ottla);
    const client = new WireClient(dial(server));
    const asked = isAnswered(client);
    client.stream.end();
    expect(await asked).toBe(true);
    await client.closed;
  });
});
