import type { Duplex } from 'node:stream';
import { Frames } from '../src/server/frames.js';
import { apis } from '../src/server/apis.js';
import type { Api } from '../src/server/protocol/api.js';
import { Reader } from '../src/server/protocol/reader.js';
import { Writer } from '../src/server/protocol/writer.js';

/** What a message has, by name. */
export type Fields = Readonly<Record<string, unknown>>;

export function apiNamed(name: string): Api {
  const found = [...apis.values()].find((api) => api.name === name);
  if (found === undefined) throw new Error(`no API ${name}`);
  return found;
}

/** A whole frame. */
export function requestFrame(
  api: Api,
  version: number,
  correlationId: number,
  body: Fields,
): Buffer {
  const writer = new Writer();
  writer.int32(0);
  writer.int16(api.key);
  writer.int16(version);
  writer.int32(correlationId);
  writer.int16(4);
  writer.string('test', 4);
  if (version >= api.flexibleFrom) writer.uvarint(0);
  api.request(version).write(writer, body);
  const frame = Buffer.concat(writer.finish());
  frame.writeInt32BE(frame.length - 4, 0);
  return frame;
}

interface Asked {
  readonly correlationId: number;
  readonly read: (reader: Reader) => unknown;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A client of the wire protocol over any stream; answers must come in the order of the requests. */
export class WireClient {
  readonly stream: Duplex;
  readonly #frames = new Frames(2 ** 31 - 1);
  #asked: Asked[] = [];
  #correlationId = 0;
  /** Resolves when the stream is gone. */
  readonly closed: Promise<void>;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', (bytes: Buffer) => this.#arrived(bytes));
    stream.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      stream.on('close', () => {
        for (const { reject } of this.#asked.splice(0)) reject(new Error('connection closed'));
        resolve();
      });
    });
  }

  #arrived(bytes: Buffer): void {
    this.#frames.push(bytes);
    for (let frame = this.#frames.next(); frame !== null; frame = this.#frames.next()) {
      const asked = this.#asked.shift();
      if (asked === undefined) throw new Error('an answer that nobody asked for');
      const reader = new Reader(frame);
      const correlationId = reader.int32();
      if (correlationId !== asked.correlationId) {
        throw new Error(`answer ${correlationId}, expected ${asked.correlationId}`);
      }
      try {
        const answer = asked.read(reader);
        if (reader.remaining > 0) throw new Error(`${reader.remaining} bytes behind an answer`);
        asked.resolve(answer);
      } catch (error) {
        asked.reject(error as Error);
      }
    }
  }

  /** Sends bytes that a frame was made of, and reads the answer's body. */
  exchange<T>(frame: Buffer, read: (reader: Reader) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const correlationId = frame.readInt32BE(8);
      this.#asked.push({ correlationId, read, resolve: resolve as Asked['resolve'], reject });
      this.stream.write(frame);
    });
  }

  /** Asks in a version, the newest unless it is given. `T` is what the answer is taken for. */
  ask<T = Fields>(name: string, body: Fields = {}, version?: number): Promise<T> {
    const api = apiNamed(name);
    const asked = version ?? api.maxVersion;
    const hasTags = asked >= api.flexibleFrom && api.name !== 'ApiVersions';
    return this.exchange(requestFrame(api, asked, this.#correlationId++, body), (reader) => {
      if (hasTags) reader.uvarint();
      return api.response(asked).read(reader) as T;
    });
  }

  /** As ask(), for what is not answered. */
  tell(name: string, body: Fields, version?: number): void {
    const api = apiNamed(name);
    this.stream.write(requestFrame(api, version ?? api.maxVersion, this.#correlationId++, body));
  }
}
