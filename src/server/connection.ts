import { nextTick } from 'node:process';
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.js';
import { readRequest, type Exchange } from './exchange.js';
import { Frames } from './frames.js';
import type { Node, Peer } from './protocol/api.js';
import { HangUp } from './protocol/reader.js';
import { SaslLogin, type SaslUsers } from './protocol/sasl.js';

/** Bounds of connections. */
export interface ConnectionLimits {
  readonly maxRequestBytes: number;
  readonly idleMs: number;
  readonly stallMs: number;
}

/** Told of so many bytes more, or fewer, that are held for a connection. It may cut connections. */
export interface Held {
  /** Whether so much is held for all together that no more requests are read. */
  readonly isFull: boolean;
  /** Of requests that have not arrived as a whole. */
  arriving(bytes: number): void;
  /** Of requests that have, until they are answered. */
  requests(bytes: number): void;
  /** Of answers that were not taken. */
  answers(bytes: number): void;
}

/** What a connection stands in. */
export interface ConnectionOptions {
  readonly node: Node;
  readonly clock: Clock;
  readonly limits: ConnectionLimits;
  readonly held: Held;
  /** null: nobody is asked who they are. */
  readonly users: SaslUsers | null;
  /** A defect of ours: the connection is cut. */
  readonly failed: (error: unknown) => void;
  readonly closed: (connection: Connection) => void;
}

/** Kafka's sasl.server.max.receive.size: of a request before its client has logged in. */
const strangerBytes = 512 * 1024;

/** Requests of one connection that were begun, or wait for it: more are not read from the stream. */
const maxPipelined = 64;

/** A request's place in the order of answers. */
interface Pending {
  readonly overlaps: boolean;
  /** That it is held with. */
  bytes: number;
  answer: Buffer[] | null;
  isAnswered: boolean;
}

/**
 * One client's stream. Requests begin in the order in which they came, one at a time but for those that
 * overlap, and are answered in that order. What cannot be sent, or is too much at once, stops the reading.
 */
export class Connection implements Peer {
  readonly clientHost: string;
  onQueued: (() => void) | null = null;
  readonly login: SaslLogin | null;
  readonly #stream: Duplex;
  readonly #options: ConnectionOptions;
  readonly #frames: Frames;
  readonly #gone = new AbortController();
  #waiting: Exchange[] = [];
  #pending: Pending[] = [];
  #arrivingBytes = 0;
  /** Of requests that have arrived, until they are answered. */
  requestBytes: number = 0;
  #answerBytes = 0;
  /** Nothing is read any more: what was read is answered, then the stream ends. */
  #isEnding = false;
  #isClosed = false;
  /** Since when a request has been on its way that has not arrived as a whole; Infinity: none is. */
  arrivingSince: number = Infinity;
  /** Since when there have been answers that were not taken; Infinity: there are none. */
  answeringSince: number = Infinity;
  #progressAt: number;
  #writableLength = 0;
  #isCorked = false;

  constructor(stream: Duplex, clientHost: string, options: ConnectionOptions) {
    this.clientHost = clientHost;
    this.#stream = stream;
    this.#options = options;
    this.login = options.users === null ? null : new SaslLogin(options.users);
    this.#frames = new Frames(options.limits.maxRequestBytes);
    this.#progressAt = options.clock.monotonic();
    stream.on('data', (bytes: Buffer) => this.#arrived(bytes));
    stream.on('drain', () => this.#goOn());
    stream.on('end', () => this.end());
    stream.on('error', () => this.destroy());
    stream.on('close', () => this.destroy());
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  get hasQueued(): boolean {
    return this.#waiting.length > 0;
  }

  #arrived(bytes: Buffer): void {
    if (this.#isEnding) return;
    const now = this.#options.clock.monotonic();
    this.#progressAt = now;
    const { node, limits } = this.#options;
    const isStranger = this.login?.isDone === false;
    this.#frames.maxBytes = isStranger ? strangerBytes : limits.maxRequestBytes;
    try {
      this.#frames.push(bytes);
      for (let frame = this.#frames.next(); frame !== null; frame = this.#frames.next()) {
        const exchange = readRequest(frame, node, this);
        this.#waiting.push(exchange);
        this.arrivingSince = Infinity;
        this.#hold(exchange.bytes);
      }
    } catch (error) {
      this.#failed(error);
      return;
    }
    const { pendingBytes } = this.#frames;
    if (pendingBytes === 0) this.arrivingSince = Infinity;
    else if (this.arrivingSince === Infinity) this.arrivingSince = now;
    this.#arriving(pendingBytes);
    this.#goOn();
    if (this.hasQueued) this.onQueued?.();
  }

  /** Begins what may begin. */
  #goOn(): void {
    while (this.#mayBegin()) this.#begin(this.#waiting.shift()!);
    this.readOrWait();
    if (this.#isClosed) return;
    if (this.#isEnding && this.#waiting.length + this.#pending.length === 0) {
      this.#stream.end(() => this.destroy());
    }
  }

  /** In the order of requests, and not faster than answers are taken. */
  #mayBegin(): boolean {
    const next = this.#waiting[0];
    if (next === undefined || this.#isClosed || this.#stream.writableNeedDrain) return false;
    const { length } = this.#pending;
    return length === 0 || (next.overlaps && length < maxPipelined && this.#pending[0]!.overlaps);
  }

  /** Reads no more while too much is under way, here or in all. */
  readOrWait(): void {
    if (this.#isClosed) return;
    const { limits, held } = this.#options;
    const isFull = this.requestBytes >= limits.maxRequestBytes || held.isFull;
    if (isFull || this.#waiting.length + this.#pending.length >= maxPipelined) this.#stream.pause();
    else if (this.#stream.isPaused()) this.#stream.resume();
  }

  #arriving(bytes: number): void {
    const more = bytes - this.#arrivingBytes;
    this.#arrivingBytes = bytes;
    if (more !== 0) this.#options.held.arriving(more);
  }

  #hold(bytes: number): void {
    if (this.#isClosed) return;
    this.requestBytes += bytes;
    this.#options.held.requests(bytes);
  }

  #answering(bytes: number): void {
    if (this.#isClosed) return;
    if (this.#answerBytes === 0) this.answeringSince = this.#progressAt;
    this.#answerBytes += bytes;
    if (this.#answerBytes === 0) this.answeringSince = Infinity;
    this.#options.held.answers(bytes);
  }

  #begin(exchange: Exchange): void {
    const { overlaps, bytes } = exchange;
    const pending: Pending = { overlaps, bytes, answer: null, isAnswered: false };
    let answer: ReturnType<Exchange['answer']>;
    try {
      answer = exchange.answer((more) => {
        pending.bytes += more;
        this.#hold(more);
      });
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#pending.push(pending);
    if (!(answer instanceof Promise)) {
      this.#answered(pending, answer);
      return;
    }
    answer.then(
      (frames) => {
        this.#answered(pending, frames);
        this.#goOn();
      },
      (error: unknown) => this.#failed(error),
    );
  }

  #answered(pending: Pending, answer: Buffer[] | null): void {
    pending.answer = answer;
    pending.isAnswered = true;
    while (this.#pending[0]?.isAnswered === true) {
      const { answer: next, bytes } = this.#pending.shift()!;
      if (next !== null) this.#write(next);
      this.#hold(-bytes);
    }
  }

  #write(parts: readonly Buffer[]): void {
    if (this.#isClosed) return;
    this.#progressAt = this.#options.clock.monotonic();
    const bytes = parts.reduce((sum, { length }) => sum + length, 0);
    this.#cork();
    for (const part of parts.slice(0, -1)) this.#stream.write(part);
    this.#stream.write(parts.at(-1)!, (error) => {
      this.#answering(-bytes);
      // Of what could not be sent the system may still hold a part.
      if (error == null) this.#options.node.spareBuffers.giveBack(parts);
    });
    this.#answering(bytes);
  }

  /** Answers to what arrived together, or was synced together, leave in one call of the system. */
  #cork(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#stream.cork();
    nextTick(() => {
      this.#isCorked = false;
      this.#stream.uncork();
    });
  }

  #failed(error: unknown): void {
    // A request that is none is its sender's affair.
    if (!(error instanceof HangUp)) this.#options.failed(error);
    this.destroy();
  }

  /** Reads no more; what was read is answered, then the stream ends. What waits for records waits no longer. */
  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#gone.abort();
    this.#goOn();
  }

  /** Cuts the connection. */
  destroy(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isEnding = true;
    this.#waiting = [];
    this.#stream.destroy();
    this.#gone.abort();
    const { held, closed } = this.#options;
    closed(this);
    held.arriving(-this.#arrivingBytes);
    held.requests(-this.requestBytes);
    held.answers(-this.#answerBytes);
  }

  /**
   * Cuts the connection if nothing came for too long, or if it stands still in the middle of a request or of
   * an answer; and if a request takes for ever to arrive, however steadily.
   */
  watch(): void {
    const { clock, limits } = this.#options;
    const now = clock.monotonic();
    const { writableLength } = this.#stream;
    if (writableLength !== this.#writableLength) this.#progressAt = now;
    this.#writableLength = writableLength;
    const isArriving = this.#frames.pendingBytes > 0 && !this.#stream.isPaused();
    if (isArriving && now - this.arrivingSince >= limits.idleMs) this.destroy();
    const isStalled = writableLength > 0 || isArriving;
    if (!isStalled && this.#pending.length > 0) return;
    if (now - this.#progressAt >= (isStalled ? limits.stallMs : limits.idleMs)) this.destroy();
  }
}
