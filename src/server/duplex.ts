import type { Socket } from 'node:net';
import { Duplex, type DuplexOptions } from 'node:stream';
import type { Clock } from '../clock.js';

/**
 * One end of a stream in this process. As with a socket, what is written arrives in a later turn of the event
 * loop: clients rely on it, and those who talk at length leave turns to others.
 */
class End extends Duplex {
  other: End | null = null;
  readonly #clock: Clock;
  /** To be called once what was pushed last was taken. */
  #taken: (() => void) | null = null;

  constructor(clock: Clock, options?: DuplexOptions) {
    super(options);
    this.#clock = clock;
  }

  override _read(): void {
    const taken = this.#taken;
    this.#taken = null;
    taken?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    // A copy: who wrote it may use its memory again, and who gets it may write into it.
    const bytes = Buffer.from(chunk);
    this.#clock.soon(() => {
      if (this.other!.destroyed) return;
      this.other!.#taken = callback;
      this.other!.push(bytes);
    });
  }

  override _final(callback: () => void): void {
    this.#clock.soon(() => {
      if (!this.other!.destroyed) this.other!.push(null);
      callback();
    });
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#clock.soon(() => this.other!.destroy());
    callback(error);
  }
}

/** Two ends of a stream in this process: what one writes the other reads. When one is gone, both are. */
export function connectedPair(clock: Clock): readonly [client: Duplex, server: Duplex] {
  const [client, server] = [new End(clock, { allowHalfOpen: false }), new End(clock)];
  client.other = server;
  server.other = client;
  return [client, server];
}

/** A stream for a client that expects a socket: what sockets have besides does nothing. */
export function asSocket(stream: Duplex): Socket {
  const socket = stream as Socket;
  for (const name of ['ref', 'unref', 'setKeepAlive', 'setNoDelay', 'setTimeout'] as const) {
    Object.defineProperty(socket, name, { value: () => socket });
  }
  return socket;
}
