import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';
import { HangUp } from './reader.js';

export const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const;

/** How a client proves who it is: RFC 4616, RFC 5802 with RFC 7677. */
export type SaslMechanism = (typeof saslMechanisms)[number];

/** Who may connect. */
export interface SaslOptions {
  /** Passwords by user name. */
  readonly users: Readonly<Record<string, string>>;
  /**
   * Those that are offered. PLAIN sends the password as it is: beyond this machine it wants `tls`.
   * @default ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']
   */
  readonly mechanisms?: readonly SaslMechanism[];
}

/** What a server keeps of its users. */
export class SaslUsers {
  readonly mechanisms: readonly SaslMechanism[];
  readonly #passwords: ReadonlyMap<string, string>;
  readonly #salt: Buffer = randomBytes(16);
  readonly #keys = new Map<string, ScramKeys>();

  constructor({ users, mechanisms = saslMechanisms }: SaslOptions) {
    this.mechanisms = mechanisms;
    this.#passwords = new Map(Object.entries(users));
  }

  isPassword(user: string, password: string): boolean {
    // A user that there is not takes as long as a wrong password.
    const expected = this.#passwords.get(user);
    const isEqual = timingSafeEqual(digest(expected ?? password), digest(password));
    return isEqual && expected !== undefined;
  }

  /** undefined: there is no such user. */
  scramKeys(user: string, hash: ScramHash): ScramKeys | undefined {
    const password = this.#passwords.get(user);
    if (password === undefined) return undefined;
    const name = `${hash} ${user}`;
    let keys = this.#keys.get(name);
    if (keys === undefined) {
      keys = newScramKeys(password, this.#salt, hash);
      this.#keys.set(name, keys);
    }
    return keys;
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** What a client said is not acceptable: it is not who it says, or says it wrongly. */
export class AuthenticationFailed extends HangUp {
  override readonly name: string = 'AuthenticationFailed';
}

/** One client's exchange of messages until it has proved who it is. */
interface SaslExchange {
  /** null until all is said. */
  readonly user: string | null;
  /** @returns the answer @throws AuthenticationFailed */
  take(message: Buffer): Buffer;
}

/** How far the client of one connection has got with proving who it is. */
export class SaslLogin {
  readonly users: SaslUsers;
  /** Whether its next messages come without a header of Kafka's, until it has. */
  isRaw: boolean = false;
  #exchange: SaslExchange | null = null;

  constructor(users: SaslUsers) {
    this.users = users;
  }

  get isDone(): boolean {
    return this.#exchange !== null && this.#exchange.user !== null;
  }

  /** @returns whether the mechanism is offered */
  begin(mechanism: string, isRaw: boolean): boolean {
    this.#exchange = newExchange(mechanism, this.users) ?? null;
    this.isRaw = isRaw && this.#exchange !== null;
    return this.#exchange !== null;
  }

  /** Whether a mechanism was chosen, and not all is said. */
  get isUnderWay(): boolean {
    return this.#exchange !== null && !this.isDone;
  }

  /** @returns the answer to the next message @throws AuthenticationFailed */
  take(message: Buffer): Buffer {
    const exchange = this.#exchange!;
    try {
      return exchange.take(message);
    } catch (error) {
      this.#exchange = null;
      throw error;
    } finally {
      if (exchange.user !== null) this.isRaw = false;
    }
  }
}

/** undefined: it is not offered. */
function newExchange(mechanism: string, users: SaslUsers): SaslExchange | undefined {
  const offered = users.mechanisms.find((name) => name === mechanism);
  if (offered === undefined) return undefined;
  if (offered === 'PLAIN') return new PlainExchange(users);
  return new ScramExchange(offered === 'SCRAM-SHA-256' ? 'sha256' : 'sha512', users);
}

const noBytes = Buffer.alloc(0);

/** RFC 4616: on whose behalf, who, password. */
class PlainExchange implements SaslExchange {
  user: string | null = null;
  readonly #users: SaslUsers;

  constructor(users: SaslUsers) {
    this.#users = users;
  }

  take(message: Buffer): Buffer {
    const [onBehalfOf, user, password, ...more] = message.toString().split('\0');
    if (user === undefined || password === undefined || more.length > 0) {
      throw new AuthenticationFailed('expected authorization id, user name and password');
    }
    const isAllowed = onBehalfOf === '' || onBehalfOf === user;
    if (!isAllowed || !this.#users.isPassword(user, password)) {
      throw new AuthenticationFailed('unknown user, or wrong password');
    }
    this.user = user;
    return noBytes;
  }
}

type ScramHash = 'sha256' | 'sha512';

interface ScramKeys {
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** Kafka's own least count. */
const iterations = 4096;

function newScramKeys(password: string, salt: Buffer, hash: ScramHash): ScramKeys {
  const salted = pbkdf2Sync(password, salt, iterations, hash === 'sha256' ? 32 : 64, hash);
  const clientKey = createHmac(hash, salted).update('Client Key').digest();
  return {
    salt,
    storedKey: createHash(hash).update(clientKey).digest(),
    serverKey: createHmac(hash, salted).update('Server Key').digest(),
  };
}

/** RFC 5802, without channel binding. */
class ScramExchange implements SaslExchange {
  user: string | null = null;
  readonly #hash: ScramHash;
  readonly #users: SaslUsers;
  #first: FirstMessages | null = null;

  constructor(hash: ScramHash, users: SaslUsers) {
    this.#hash = hash;
    this.#users = users;
  }

  take(message: Buffer): Buffer {
    const text = message.toString();
    const answer = this.#first === null ? this.#takeFirst(text) : this.#takeLast(text, this.#first);
    return Buffer.from(answer);
  }

  #takeFirst(text: string): string {
    const parts =
      /^(?<header>[ny],(?:a=[^,]*)?,)(?<bare>n=(?<name>[^,]+),r=(?<nonce>[^,]+).*)$/s.exec(
        text,
      )?.groups;
    if (parts === undefined) throw new AuthenticationFailed('no first message of SCRAM');
    const user = parts['name']!.replaceAll('=2C', ',').replaceAll('=3D', '=');
    const keys = this.#users.scramKeys(user, this.#hash);
    if (keys === undefined) throw new AuthenticationFailed('unknown user, or wrong password');
    const nonce = `${parts['nonce']}${randomBytes(18).toString('base64url')}`;
    const answer = `r=${nonce},s=${keys.salt.toString('base64')},i=${iterations}`;
    this.#first = { user, keys, nonce, header: parts['header']!, bare: parts['bare']!, answer };
    return answer;
  }

  #takeLast(text: string, first: FirstMessages): string {
    const parts = /^(?<unproved>c=(?<header>[^,]+),r=(?<nonce>[^,]+).*),p=(?<proof>[^,]+)$/s.exec(
      text,
    )?.groups;
    const header = Buffer.from(first.header).toString('base64');
    if (parts === undefined || parts['header'] !== header || parts['nonce'] !== first.nonce) {
      throw new AuthenticationFailed('no last message of this exchange of SCRAM');
    }
    const { storedKey, serverKey } = first.keys;
    const signed = `${first.bare},${first.answer},${parts['unproved']}`;
    const signature = createHmac(this.#hash, storedKey).update(signed).digest();
    const proof = Buffer.from(parts['proof']!, 'base64');
    if (proof.length !== signature.length) throw new AuthenticationFailed('a proof cut short');
    const clientKey = Buffer.from(proof.map((byte, i) => byte ^ signature[i]!));
    const isKey = timingSafeEqual(createHash(this.#hash).update(clientKey).digest(), storedKey);
    if (!isKey) throw new AuthenticationFailed('unknown user, or wrong password');
    this.user = first.user;
    return `v=${createHmac(this.#hash, serverKey).update(signed).digest('base64')}`;
  }
}

/** What was said at first. */
interface FirstMessages {
  readonly user: string;
  readonly keys: ScramKeys;
  readonly nonce: string;
  readonly header: string;
  readonly bare: string;
  readonly answer: string;
}
