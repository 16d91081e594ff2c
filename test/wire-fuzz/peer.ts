import type { Duplex } from 'node:stream';
import { Frames } from '../../src/server/frames.js';
import { apis } from '../../src/server/apis.js';
import type { Api } from '../../src/server/protocol/api.js';
import { Reader } from '../../src/server/protocol/reader.js';
import type { Random } from '../power/random.js';

/** What a request that the server has been sent must be answered with. */
interface Expected {
  readonly correlationId: number;
  readonly version: number;
  /** undefined: the error number of an unsupported version, and nothing else. */
  readonly api: Api | undefined;
}

/** What came back, for whoever counts and learns. */
export type Answered = (api: string, version: number, answer: unknown) => void;

/** Those whose answers wait for other members, as long as these may take. */
const waitsForOthers = new Set(['JoinGroup', 'SyncGroup']);

const apiVersions = [...apis.values()].find(({ name }) => name === 'ApiVersions');

/**
 * A client that may send anything, and the judge of what comes back: it reads the bytes it sends as the
 * server must, and so knows which answers to expect, in which order, and whether the server may hang up.
 */
export class FuzzPeer {
  readonly stream: Duplex;
  /** What the server did that it must not. */
  readonly problems: string[] = [];
  /** Whole requests that were sent. */
  sent = 0;
  isClosed = false;
  readonly #random: Random;
  readonly #answered: Answered;
  readonly #outgoing: Frames;
  readonly #incoming = new Frames(2 ** 31 - 1);
  #expected: Expected[] = [];
  /** Bytes that were promised by a length, and are held back. */
  #held: Buffer = Buffer.alloc(0);
  #mayHangUp = false;
  #mustHangUp = false;
  #hasEnded = false;
  #hasLeft = false;

  /** @param isStranger the server asks it who it is: what it may answer then is not foreseen */
  constructor(
    stream: Duplex,
    random: Random,
    maxRequestBytes: number,
    isStranger: boolean,
    answered: Answered,
  ) {
    this.stream = stream;
    this.#random = random;
    this.#answered = answered;
    this.#outgoing = new Frames(maxRequestBytes);
    this.#isStranger = isStranger;
    stream.on('data', (bytes: Buffer) => this.#arrived(bytes));
    stream.on('error', () => undefined);
    stream.on('close', () => this.#closed());
  }

  readonly #isStranger: boolean;

  /** Sends, in pieces or not, or holds back a part. */
  send(bytes: Buffer): void {
    if (this.isClosed || this.#hasEnded || this.#hasLeft) return;
    const all = Buffer.concat([this.#held, bytes]);
    const cut = this.#random.chance(0.05) ? this.#random.below(all.length) : all.length;
    this.#held = all.subarray(cut);
    const now = all.subarray(0, cut);
    this.#foresee(now);
    if (this.#random.chance(0.8)) {
      this.stream.write(now);
      return;
    }
    const most = this.#random.oneOf([1, 1, 5, 50, 500]);
    const size = Math.max(most, Math.ceil(now.length / 300));
    for (let at = 0; at < now.length; at += size) this.stream.write(now.subarray(at, at + size));
  }

  /** Reads no answers any more, or again. */
  toggleReading(): void {
    if (this.stream.isPaused()) this.stream.resume();
    else this.stream.pause();
    // Who takes no answers for long is cut.
    this.#mayHangUp = true;
  }

  /** Sends no more, and waits for what is to come. */
  end(): void {
    if (this.stream.isPaused()) this.stream.resume();
    if (this.#hasEnded || this.#hasLeft) return;
    this.#hasEnded = true;
    this.stream.end();
  }

  /** Is gone, whatever is under way. */
  leave(): void {
    this.#hasLeft = true;
    this.stream.destroy();
  }

  /** What it waits for that must have come by now; null: nothing. */
  get overdue(): string | null {
    if (this.isClosed || this.#hasLeft) return null;
    const first = this.#expected[0];
    if (first !== undefined && waitsForOthers.has(first.api?.name ?? '')) return null;
    if (first !== undefined) {
      return `${first.api?.name} ${first.version} of correlation id ${first.correlationId} was not answered`;
    }
    if (this.#mustHangUp) return 'bytes that are no request did not end the connection';
    return this.#hasEnded ? 'a connection that the client has ended is open' : null;
  }

  #foresee(bytes: Buffer): void {
    if (this.#mustHangUp || this.#isStranger) return;
    try {
      this.#outgoing.push(bytes);
      for (let frame = this.#outgoing.next(); frame !== null; frame = this.#outgoing.next()) {
        this.sent++;
        this.#foreseeAnswer(frame);
      }
    } catch {
      this.#mustHangUp = true;
      this.#mayHangUp = true;
    }
  }

  /** @throws MalformedRequest */
  #foreseeAnswer(frame: Buffer): void {
    const reader = new Reader(frame);
    const key = reader.int16();
    const version = reader.int16();
    const correlationId = reader.int32();
    const api = apis.get(key);
    if (api === undefined || version < api.minVersion || version > api.maxVersion) {
      const isAsking = api !== undefined && api === apiVersions;
      this.#expected.push({ correlationId, version: 0, api: isAsking ? api : undefined });
      return;
    }
    const length = reader.int16();
    if (length < -1) throw new RangeError('a client id of less than none');
    if (length > 0) reader.string(length);
    if (version >= api.flexibleFrom) {
      for (let left = reader.uvarint(); left > 0; left--) {
        reader.uvarint();
        reader.view(reader.uvarint());
      }
    }
    const request = api.request(version).read(reader) as { readonly acks?: number };
    // A login that fails ends the connection.
    if (api.name === 'SaslAuthenticate') this.#mayHangUp = true;
    if (api.name === 'Produce' && request.acks === 0) this.#mayHangUp = true;
    else this.#expected.push({ correlationId, version, api });
  }

  #arrived(bytes: Buffer): void {
    if (this.#isStranger) return;
    this.#incoming.push(bytes);
    for (let frame = this.#incoming.next(); frame !== null; frame = this.#incoming.next()) {
      const expected = this.#expected.shift();
      try {
        if (expected === undefined) throw new Error('an answer that nobody asked for');
        this.#read(frame, expected);
      } catch (error) {
        const what = `${expected?.api?.name} ${expected?.version}`;
        this.problems.push(`the answer to ${what}: ${(error as Error).message}`);
      }
    }
  }

  #read(frame: Buffer, { api, version, correlationId }: Expected): void {
    const reader = new Reader(frame);
    const got = reader.int32();
    if (got !== correlationId) throw new Error(`correlation id ${got}, expected ${correlationId}`);
    if (api === undefined) {
      if (reader.int16() !== 35) throw new Error('expected UNSUPPORTED_VERSION');
    } else {
      if (version >= api.flexibleFrom && api !== apiVersions) reader.uvarint();
      this.#answered(api.name, version, api.response(version).read(reader));
    }
    if (reader.remaining > 0) throw new Error(`${reader.remaining} bytes too many`);
  }

  #closed(): void {
    this.isClosed = true;
    if (this.#hasLeft || this.#mayHangUp || this.#isStranger) return;
    // Who stands still in the middle of a request is cut.
    if (this.#outgoing.pendingBytes > 0) return;
    const left = this.#expected.length;
    if (left > 0) this.problems.push(`cut with ${left} answers due: ${this.#first}`);
    else if (!this.#hasEnded) this.problems.push('cut for nothing');
  }

  get #first(): string {
    const { api, version } = this.#expected[0]!;
    return `${api?.name} ${version}`;
  }
}
