import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { once } from 'node:events';
import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { serve, type SaslOptions } from '../src/server/index.js';
import { closedAfterEach, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { apiNamed, requestFrame, WireClient, type Fields } from './wire-client.js';

const opened = closedAfterEach();

const none = 0;
const codes = {
  UNSUPPORTED_SASL_MECHANISM: 33,
  ILLEGAL_SASL_STATE: 34,
  SASL_AUTHENTICATION_FAILED: 58,
} as const;

const users = { alice: 'secret', 'a,b=c': 'geheim ü' };

let clock: ManualClock;
let ottla: Ottla;
beforeEach(() => {
  clock = new ManualClock();
  ottla = opened(Ottla.memory({ clock }));
});

async function client(sasl: SaslOptions | null = { users }): Promise<WireClient> {
  const server = await serve(ottla, { listen: false, ...(sasl !== null && { sasl }) });
  return new WireClient(server.connect());
}

const handshake = (to: WireClient, mechanism: string, version?: number): Promise<Fields> =>
  to.ask('SaslHandshake', { mechanism }, version);

async function authenticate(to: WireClient, text: string, version?: number): Promise<Fields> {
  const answer = to.ask('SaslAuthenticate', { authBytes: Buffer.from(text) }, version);
  await clock.settle();
  await clock.advance(100);
  return answer;
}

const isLoggedIn = (to: WireClient): Promise<boolean> =>
  to.ask('Metadata', { topics: null }).then(
    () => true,
    () => false,
  );

/** What a client says at last, and what it expects then: RFC 5802. */
function scramLast(
  hash: 'sha256' | 'sha512',
  password: string,
  bare: string,
  serverFirst: string,
): { last: string; expected: string } {
  const [, nonce, salt, count] = /^r=(.*),s=(.*),i=(\d+)$/.exec(serverFirst)!;
  const salted = pbkdf2Sync(
    password,
    Buffer.from(salt!, 'base64'),
    Number(count),
    hash === 'sha256' ? 32 : 64,
    hash,
  );
  const clientKey = createHmac(hash, salted).update('Client Key').digest();
  const storedKey = createHash(hash).update(clientKey).digest();
  const unproved = `c=biws,r=${nonce}`;
  const signed = `${bare},${serverFirst},${unproved}`;
  const signature = createHmac(hash, storedKey).update(signed).digest();
  const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!)).toString('base64');
  const serverKey = createHmac(hash, salted).update('Server Key').digest();
  return {
    last: `${unproved},p=${proof}`,
    expected: `v=${createHmac(hash, serverKey).update(signed).digest('base64')}`,
  };
}

async function scram(
  to: WireClient,
  mechanism: string,
  name: string,
  password: string,
): Promise<Fields> {
  const hash = mechanism === 'SCRAM-SHA-256' ? 'sha256' : 'sha512';
  expect(await handshake(to, mechanism)).toMatchObject({ errorCode: none });
  const bare = `n=${name},r=abcdef`;
  const first = await authenticate(to, `n,,${bare}`);
  if (first['errorCode'] !== none) return first;
  const { last, expected } = scramLast(hash, password, bare, String(first['authBytes']));
  const answer = await authenticate(to, last);
  return { ...answer, isExpected: String(answer['authBytes']) === expected };
}

describe('A client that has not logged in', () => {
  it('learns what is offered, and is hung up on when it asks for more', async () => {
    const stranger = await client();
    const software = { clientSoftwareName: 'test', clientSoftwareVersion: '1' };
    expect(await stranger.ask('ApiVersions', software)).toMatchObject({ errorCode: none });
    expect(await isLoggedIn(stranger)).toBe(false);
    await stranger.closed;
  });

  it('is hung up on for a request longer than it needs', async () => {
    const stranger = await client();
    const length = Buffer.alloc(4);
    length.writeInt32BE(512 * 1024 + 1);
    stranger.stream.write(length);
    expect(await stranger.closed).toBeUndefined();
  });

  it('is refused a mechanism that is not offered, and may choose another', async () => {
    const stranger = await client({ users, mechanisms: ['SCRAM-SHA-512'] });
    const refused = { errorCode: codes.UNSUPPORTED_SASL_MECHANISM, mechanisms: ['SCRAM-SHA-512'] };
    expect(await handshake(stranger, 'GSSAPI')).toEqual(refused);
    expect(await handshake(stranger, 'PLAIN')).toEqual(refused);
    expect(await authenticate(stranger, '\0alice\0secret')).toMatchObject({
      errorCode: codes.ILLEGAL_SASL_STATE,
    });
    expect(await scram(stranger, 'SCRAM-SHA-512', 'alice', 'secret')).toMatchObject({
      errorCode: none,
    });
  });
});

describe('PLAIN', () => {
  it.each([0, 1, 2])('lets users in, in version %i', async (version) => {
    const user = await client();
    expect(await handshake(user, 'PLAIN')).toEqual({
      errorCode: none,
      mechanisms: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'],
    });
    expect(await authenticate(user, '\0alice\0secret', version)).toMatchObject({ errorCode: none });
    expect(await isLoggedIn(user)).toBe(true);
    expect(await handshake(user, 'PLAIN')).toMatchObject({ errorCode: codes.ILLEGAL_SASL_STATE });
  });

  it.each([
    '\0alice\0wrong',
    '\0nobody\0secret',
    'bob\0alice\0secret',
    '\0alice',
    'alice\0alice\0secret\0more',
    '',
    '\0__proto__\0x',
  ])('refuses %j, and hangs up', async (message) => {
    const user = await client();
    await handshake(user, 'PLAIN');
    expect(await authenticate(user, message)).toMatchObject({
      errorCode: codes.SASL_AUTHENTICATION_FAILED,
    });
    await user.closed;
  });

  it('lets clients of old in, whose messages have no header', async () => {
    const user = await client();
    expect(await handshake(user, 'PLAIN', 0)).toMatchObject({ errorCode: none });
    const message = Buffer.from('\0alice\0secret');
    const frame = Buffer.alloc(4 + message.length);
    frame.writeInt32BE(message.length);
    message.copy(frame, 4);
    user.stream.removeAllListeners('data');
    const next = (): Promise<Buffer> => new Promise((resolve) => user.stream.once('data', resolve));
    const answer = next();
    user.stream.write(frame);
    expect(await answer).toEqual(Buffer.alloc(4));
    const metadata = apiNamed('Metadata');
    const described = next();
    user.stream.write(requestFrame(metadata, 1, 7, { topics: null }));
    expect((await described).readInt32BE(4)).toBe(7);
  });
});

describe.each(['SCRAM-SHA-256', 'SCRAM-SHA-512'])('%s', (mechanism) => {
  it('lets users in, and proves the server to them', async () => {
    for (const [name, password] of [
      ['alice', 'secret'],
      ['a=2Cb=3Dc', 'geheim ü'],
    ] as const) {
      const user = await client();
      expect(await scram(user, mechanism, name, password)).toMatchObject({
        errorCode: none,
        isExpected: true,
      });
      expect(await isLoggedIn(user)).toBe(true);
    }
  });

  it('refuses a wrong password and an unknown user, and hangs up', async () => {
    for (const [name, password] of [
      ['alice', 'wrong'],
      ['nobody', 'secret'],
    ] as const) {
      const user = await client();
      expect(await scram(user, mechanism, name, password)).toMatchObject({
        errorCode: codes.SASL_AUTHENTICATION_FAILED,
      });
      await user.closed;
    }
  });

  it.each(['', 'p=tls-unique,,n=alice,r=x', 'n,,n=alice', 'n,,r=x,n=alice'])(
    'refuses to begin with %j',
    async (message) => {
      const user = await client();
      await handshake(user, mechanism);
      expect(await authenticate(user, message)).toMatchObject({
        errorCode: codes.SASL_AUTHENTICATION_FAILED,
      });
      await user.closed;
    },
  );

  it.each([
    '',
    'c=biws,r=other,p=AAAA',
    'c=eSws,r=NONCE,p=AAAA',
    'c=biws,r=NONCE,p=AAAA',
    'c=biws,r=NONCE',
  ])('refuses to end with %j', async (message) => {
    const user = await client();
    await handshake(user, mechanism);
    const { authBytes } = await authenticate(user, 'n,,n=alice,r=abc');
    const nonce = /^r=([^,]*)/.exec(String(authBytes))![1]!;
    expect(await authenticate(user, message.replace('NONCE', nonce))).toMatchObject({
      errorCode: codes.SASL_AUTHENTICATION_FAILED,
    });
    await user.closed;
  });
});

describe('A login out of its order', () => {
  it('takes what follows a handshake of version 0 for its messages, be it in one piece with it', async () => {
    const warnings: string[] = [];
    ottla.on('warning', (warning) => void warnings.push(warning));
    const server = await serve(ottla, { listen: false, sasl: { users } });
    const stream = server.connect();
    const closed = once(stream.resume(), 'close');
    const begun = requestFrame(apiNamed('SaslHandshake'), 0, 1, { mechanism: 'PLAIN' });
    const authBytes = Buffer.from('nonsense');
    const failing = requestFrame(apiNamed('SaslAuthenticate'), 2, 2, { authBytes });
    stream.write(Buffer.concat([begun, failing]));
    await clock.settle();
    stream.write(requestFrame(apiNamed('ApiVersions'), 0, 9, {}));
    await clock.advance(100);
    await closed;
    expect(warnings).toEqual([]);
  });

  it('asks who one is before it reads what one wants', async () => {
    const warnings: string[] = [];
    ottla.on('warning', (warning) => void warnings.push(warning));
    const stranger = await client();
    await expect(stranger.ask('Metadata', { topics: null })).rejects.toThrow('closed');
    expect(warnings).toEqual([]);
  });
});

describe('A server', () => {
  it('that lets anybody in has no login', async () => {
    const anybody = await client(null);
    expect(await handshake(anybody, 'PLAIN')).toEqual({
      errorCode: codes.ILLEGAL_SASL_STATE,
      mechanisms: [],
    });
    expect(await isLoggedIn(anybody)).toBe(true);
  });

  it('may listen anywhere with users, and nowhere but here without', async () => {
    expect(await failureOf(() => serve(ottla, { host: '0.0.0.0' }))).toBeInstanceOf(TypeError);
    const server = await serve(ottla, { host: '0.0.0.0', sasl: { users } });
    await server.close();
  });

  it.each([
    {},
    { users: {} },
    { users: { alice: '' } },
    { users: { alice: 5 } },
    { users, mechanisms: [] },
    { users, mechanisms: ['GSSAPI'] },
    { users, more: 1 },
  ])('refuses %j, and tells no password', async (sasl) => {
    const failure = await failureOf(() => serve(ottla, { listen: false, sasl: sasl as never }));
    expect(failure).toBeInstanceOf(TypeError);
    expect(String(failure)).not.toContain('secret');
  });
});
