import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** One end of a stream in this process. As with a socket, nothing of what is written arrives before write() returns. */
class End extends Duplex {
  other: End | null = null;
  /** To be called once what was pushed last was taken. */
  #taken: (() => void) | null = null;

  override _read(): void {
    const taken = this.#taken;
    this.#taken = null;
    taken?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    // A copy: who wrote it may use its memory again, and who gets it may write into it.
    const bytes = Buffer.from(chunk);
    process.nextTick(() => {
      if (this.other!.destroyed) return;
      this.other!.#taken = callback;
      this.other!.push(bytes);
    });
  }

  override _final(callback: () => void): void {
    process.nextTick(() => {
      if (!this.other!.destroyed) this.other!.push(null);
      callback();
    });
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    process.nextTick(() => this.other!.destroy());
    callback(error);
  }
}

/** Two ends of a stream in this process: what one writes the other reads. When one is gone, both are. */
export function connectedPair(): readonly [client: Duplex, server: Duplex] {
  const [client, server] = [new End({ allowHalfOpen: false }), new End()];
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
