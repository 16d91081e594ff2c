import { createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import type { Broker } from '../broker.js';
import type { Timer } from '../clock.js';
import { OttlaError } from '../errors.js';
import { checkOptions, milliseconds } from '../options.js';
import { attach, type Ottla } from '../ottla.js';
import { watched } from '../watched.js';
import { apis } from './apis.js';
import { Connection } from './connection.js';
import { Connections } from './connections.js';
import { asSocket, connectedPair } from './duplex.js';
import { FetchSessions } from './fetch-sessions.js';
import { listenAt } from './listening.js';
import { checkServeOptions, type ServeOptions, type ServeSettings } from './options.js';
import type { Endpoint, Node } from './protocol/api.js';
import { SaslUsers } from './protocol/sasl.js';
import { SpareBuffers } from './spare-buffers.js';

/** What KafkaJS gives its `socketFactory`. */
export interface SocketRequest {
  readonly onConnect: () => void;
}

/** Its one node's id, as that of a new single Kafka broker. */
const nodeId = 1;
/** What clients in this process are told where nothing is listened at. */
const nominal: Endpoint = { host: 'localhost', port: 9092 };

/** Requests under way have so long at close. */
const closeMs = 1000;

/** Serves an Ottla to clients that speak Kafka's protocol. */
export class Server {
  readonly #settings: ServeSettings;
  readonly #users: SaslUsers | null;
  readonly #broker: Broker;
  readonly #listens: (address: string) => void;
  readonly #detach: () => void;
  readonly #unheard: (error: unknown) => void;
  readonly #warn: (warning: string) => void;
  readonly #connections: Connections;
  readonly #node: Node;
  #endpoint: Endpoint;
  #listener: NetServer | null = null;
  #watch: Timer | null = null;
  #closing: Promise<void> | null = null;
  /** Of clients elsewhere: also before they have agreed on a key. */
  readonly #sockets = new Set<Socket>();

  /** @internal */
  constructor(ottla: Ottla, settings: ServeSettings) {
    const { broker, unheard, warn, listens, detach } = attach(ottla, this);
    this.#settings = settings;
    this.#users = settings.sasl === null ? null : new SaslUsers(settings.sasl);
    this.#broker = broker;
    this.#unheard = unheard;
    this.#warn = warn;
    this.#listens = listens;
    this.#detach = detach;
    this.#endpoint = settings.advertised ?? nominal;
    this.#connections = new Connections(settings.limits, broker.clock);
    const { autoCreateTopics, defaultPartitions } = settings;
    const endpoint = (): Endpoint => this.#endpoint;
    this.#node = {
      broker,
      nodeId,
      clusterId: broker.storeId,
      apis,
      autoCreateTopics,
      defaultPartitions,
      fetchSessions: new FetchSessions(broker.clock, broker.random),
      answerRoom: this.#connections,
      spareBuffers: new SpareBuffers(),
      get endpoint() {
        return endpoint();
      },
    };
    this.#watchConnections();
  }

  /** 'host:port', for a client's bootstrap.servers. Of a server that listens at no port, a name that none resolves. */
  get bootstrap(): string {
    const { host, port } = this.#endpoint;
    return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  }

  /** The Unix socket or named pipe that it listens at; null: none. */
  get path(): string | null {
    return this.#settings.path;
  }

  /** @internal */
  async listen(): Promise<void> {
    const { tls, path, host, port, advertised, limits } = this.#settings;
    const options = { allowHalfOpen: true, noDelay: true };
    const handshakeTimeout = Math.max(1, limits.stallMs);
    const listener =
      tls === null
        ? createServer(options)
        : createTlsServer({ handshakeTimeout, ...tls, ...options });
    listener.on('connection', (socket: Socket) => {
      // While they agree on a key they take a place, too.
      if (this.#sockets.size >= limits.maxConnections) socket.destroy();
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    listener.on(tls === null ? 'connection' : 'secureConnection', (socket: Socket) => {
      this.#accept(socket, path === null ? (socket.remoteAddress ?? '') : '');
    });
    await listenAt(listener, path === null ? { host, port } : { path });
    if (this.#closing !== null) {
      listener.close();
      throw new OttlaError('CLOSED', 'it was closed before this server listened');
    }
    listener.on('error', (error: Error) => this.#warn(`ottla/server: ${error.message}`));
    this.#listener = listener;
    if (path === null && advertised === null) {
      this.#endpoint = { host, port: (listener.address() as AddressInfo).port };
    }
    this.#listens(path ?? this.bootstrap);
  }

  #accept(stream: Duplex, remoteAddress: string): void {
    const { limits } = this.#settings;
    // Before it is anybody's, too, its failure is its own.
    stream.on('error', () => undefined);
    if (this.#closing !== null || this.#connections.size >= limits.maxConnections) {
      stream.destroy();
      return;
    }
    const connection = new Connection(stream, `/${remoteAddress}`, {
      node: this.#node,
      clock: this.#broker.clock,
      limits,
      held: this.#connections,
      users: this.#users,
      failed: (error) => this.#failed(error),
      closed: (closed) => this.#connections.remove(closed),
    });
    this.#connections.add(connection);
  }

  #failed(error: unknown): void {
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#warn(`ottla/server: a request failed, and its connection was cut: ${reason}`);
  }

  #watchConnections(): void {
    const { idleMs, stallMs } = this.#settings.limits;
    this.#watch = this.#broker.clock.after(Math.max(1, Math.min(idleMs, stallMs) / 4), () => {
      this.#connections.watch();
      if (this.#closing === null) this.#watchConnections();
    });
  }

  /** A connection of a client in this process, without a port. @throws CLOSED */
  connect(): Duplex {
    if (this.#closing !== null) throw new OttlaError('CLOSED', 'this server is closed');
    const [client, server] = connectedPair(this.#broker.clock);
    this.#accept(server, '');
    return client;
  }

  /**
   * The `socketFactory` of KafkaJS: its clients reach this server without a port, whatever brokers they are
   * given.
   */
  socketFactory(): (request: SocketRequest) => Socket {
    return ({ onConnect }) => {
      const socket = asSocket(this.connect());
      this.#broker.clock.soon(onConnect);
      return socket;
    };
  }

  /**
   * Takes no more connections and requests, and lets those under way end; what waits for records or for other
   * members is answered or cut. Idempotent. Ottla.close() does it, too.
   * @param options timeoutMs: how long requests may take, in ms, before their connections are cut; 1000
   *   unless it is given
   */
  close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    return watched(this.#closeWithin(options), this.#broker.clock, this.#unheard);
  }

  async #closeWithin(options: { readonly timeoutMs?: number }): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.#close(options.timeoutMs ?? closeMs);
    await this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#watch?.cancel();
    const { clock } = this.#broker;
    const stopped = new Promise<void>((resolve) => {
      if (this.#listener === null) resolve();
      else this.#listener.close(() => resolve());
    });
    const emptied = new Promise<void>((resolve) => (this.#connections.onEmpty = resolve));
    const cut = clock.after(timeoutMs, () => this.#connections.destroy(), true);
    this.#connections.end();
    if (this.#connections.size > 0) await emptied;
    cut.cancel();
    // Those that have not agreed on a key, and have no connection.
    for (const socket of this.#sockets) socket.destroy();
    await stopped;
    this.#detach();
  }

  /** As close(): for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Serves an Ottla to clients that speak Kafka's protocol: they, and this process, share topics and groups.
 * @returns the server, once it listens
 * @throws TypeError, RangeError for options; CLOSED; INVALID_REQUEST in read-only mode; the system's error if
 *   it cannot listen there, such as EADDRINUSE
 */
export async function serve(ottla: Ottla, options?: ServeOptions): Promise<Server> {
  const settings = checkServeOptions(options);
  const server = new Server(ottla, settings);
  if (!settings.listen) return server;
  try {
    await server.listen();
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}
