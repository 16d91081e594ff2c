import type { Socket } from 'node:net';
import { duplexPair, type Duplex } from 'node:stream';

/** Two ends of a stream in this process: what one writes the other reads. When one is gone, both are. */
export function connectedPair(): readonly [client: Duplex, server: Duplex] {
  const [client, server] = duplexPair();
  client.on('close', () => server.destroy());
  server.on('close', () => client.destroy());
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
