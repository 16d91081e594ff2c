import type { TlsOptions } from 'node:tls';
import { aBoolean, checkOptions, got, integer, milliseconds, withDefaults } from '../options.js';
import type { Endpoint } from './protocol/api.js';
import { saslMechanisms, type SaslOptions } from './protocol/sasl.js';

/** Bounds on what clients may take, Kafka's where it has them. */
export interface ServeLimits {
  /** Connections at once; one more is cut. @default 1000 */
  readonly maxConnections?: number;
  /** The largest request (Kafka's socket.request.max.bytes). @default 104857600 bytes */
  readonly maxRequestBytes?: number;
  /**
   * Of requests that have arrived in part, all connections together: beyond it the one that has been longest on
   * its way is cut. And of those that have arrived and are not answered: beyond it nothing is read from
   * anybody, and if that goes on for `stallMs`, who has most under way is cut. @default 268435456 bytes
   */
  readonly maxQueuedBytes?: number;
  /**
   * Of answers that clients have not taken, all connections together: fetches are given less when it is
   * near, and beyond it the client is cut that has not taken all of its own for longest. @default 268435456 bytes
   */
  readonly maxAnswerBytes?: number;
  /** A connection on which nothing happens for so long is cut (connections.max.idle.ms). @default 600000 ms */
  readonly idleMs?: number;
  /**
   * One is cut whose client stands still for so long in the middle of a request, or takes nothing of an
   * answer. @default 30000 ms
   */
  readonly stallMs?: number;
}

/** Where a server listens, and how it behaves. */
export interface ServeOptions {
  /**
   * The address to listen at. Others than loopback ones are refused without `sasl`, for whoever reaches the
   * server may do everything: see `allowAnonymous`. @default '127.0.0.1'
   */
  readonly host?: string;
  /** 0: one that is free. @default 0 */
  readonly port?: number;
  /**
   * A Unix socket to listen at instead: at most 107 bytes on Linux, 103 elsewhere. A file that a killed process
   * left there is taken over. On Windows a named pipe, such as `\\\\.\\pipe\\ottla`. @default none
   */
  readonly path?: string;
  /** false: nothing is listened at; clients in this process use connect() or socketFactory(). @default true */
  readonly listen?: boolean;
  /** What clients are told to connect to (advertised.listeners). @default where it listens */
  readonly advertised?: { readonly host: string; readonly port: number };
  /** Options of node:tls for a server, such as key and cert: then it speaks TLS only. @default none */
  readonly tls?: TlsOptions;
  /** Who may connect: all others are hung up on. @default anybody */
  readonly sasl?: SaslOptions;
  /** Listens at any address, for anybody. @default false */
  readonly allowAnonymous?: boolean;
  /**
   * Whether topics are created when they are first asked for (auto.create.topics.enable), where the client
   * allows it. @default true
   */
  readonly autoCreateTopics?: boolean;
  /** Partitions of topics whose creator leaves it open (num.partitions). @default 1 */
  readonly defaultPartitions?: number;
  /** Bounds on what clients may take. @default those of ServeLimits */
  readonly limits?: ServeLimits;
}

export type Limits = Required<ServeLimits>;

const defaultLimits: Limits = {
  maxConnections: 1000,
  maxRequestBytes: 100 * 1024 * 1024,
  maxQueuedBytes: 256 * 1024 * 1024,
  maxAnswerBytes: 256 * 1024 * 1024,
  idleMs: 600_000,
  stallMs: 30_000,
};

/** What was asked for, with defaults. */
export interface ServeSettings {
  readonly host: string;
  readonly port: number;
  readonly path: string | null;
  readonly listen: boolean;
  readonly advertised: Endpoint | null;
  readonly tls: TlsOptions | null;
  readonly sasl: SaslOptions | null;
  readonly autoCreateTopics: boolean;
  readonly defaultPartitions: number;
  readonly limits: Limits;
}

const text = (value: unknown): string | null =>
  typeof value === 'string' && value !== '' ? null : 'a string that is not empty';
const aPath = (value: unknown): string | null =>
  text(value) ?? pathProblem(value as string, process.platform);

/** Longer ones than the system has room for are cut short by Node 20, without a word. */
export function pathProblem(path: string, platform: NodeJS.Platform): string | null {
  if (platform === 'win32') {
    return /^\\\\[.?]\\pipe\\./.test(path) ? null : 'a named pipe, such as \\\\.\\pipe\\ottla';
  }
  const most = platform === 'linux' ? 107 : 103;
  return Buffer.byteLength(path) <= most ? null : `a path of at most ${most} bytes`;
}

const anObject = (value: unknown): string | null =>
  typeof value === 'object' && value !== null ? null : 'an object';
const aPort = integer(0, 65_535);

/** @throws TypeError, RangeError */
export function checkServeOptions(options: ServeOptions = {}): ServeSettings {
  checkOptions<ServeOptions>(
    'serve',
    {
      host: text,
      port: aPort,
      path: aPath,
      listen: aBoolean,
      advertised: anObject,
      tls: anObject,
      sasl: anObject,
      allowAnonymous: aBoolean,
      autoCreateTopics: aBoolean,
      defaultPartitions: integer(1, 10_000),
      limits: anObject,
    },
    options,
  );
  const { host = '127.0.0.1', port = 0, path, advertised, listen = true } = options;
  checkOptions('serve: advertised', { host: text, port: aPort }, advertised);
  checkOptions<ServeLimits>(
    'serve: limits',
    {
      maxConnections: integer(1),
      maxRequestBytes: integer(1024, 2 ** 31 - 1),
      maxQueuedBytes: integer(1024),
      maxAnswerBytes: integer(1024 * 1024),
      idleMs: milliseconds,
      stallMs: milliseconds,
    },
    options.limits,
  );
  if (path !== undefined && (options.host ?? options.port) !== undefined) {
    throw new TypeError('serve: expected a path, or a host and a port, got both');
  }
  checkSaslOptions(options.sasl);
  if (!isLoopback(host) && options.sasl === undefined && options.allowAnonymous !== true) {
    throw new TypeError(
      `serve: expected a loopback address for host, got ${got(host)}: without authentication whoever ` +
        'reaches it may read and write everything; give it sasl, or allowAnonymous: true if that is meant',
    );
  }
  return {
    host,
    port,
    path: path ?? null,
    listen,
    advertised: advertised ?? null,
    tls: options.tls ?? null,
    sasl: options.sasl ?? null,
    autoCreateTopics: options.autoCreateTopics ?? true,
    defaultPartitions: options.defaultPartitions ?? 1,
    limits: withDefaults(defaultLimits, options.limits),
  };
}

const mechanismsOffered = (value: unknown): string | null =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((each) => saslMechanisms.some((mechanism) => mechanism === each))
    ? null
    : `some of ${saslMechanisms.join(', ')}`;
const passwords = (value: unknown): string | null =>
  typeof value === 'object' &&
  value !== null &&
  Object.keys(value).length > 0 &&
  Object.values(value).every((password) => typeof password === 'string' && password !== '')
    ? null
    : 'an object with a password for each user';

/** @throws TypeError that tells no password */
function checkSaslOptions(sasl: SaslOptions | undefined): void {
  if (sasl === undefined) return;
  const { users, ...others } = sasl;
  const problem = passwords(users);
  if (problem !== null) throw new TypeError(`serve: sasl: users: expected ${problem}`);
  checkOptions<Omit<SaslOptions, 'users'>>(
    'serve: sasl',
    { mechanisms: mechanismsOffered },
    others,
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
