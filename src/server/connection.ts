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

/** What a connection stands in. */
export interface ConnectionOptions {
  readonly node: Node;
  readonly clock: Clock;
  readonly limits: ConnectionLimits;
  /** null: nobody is asked who they are. */
  readonly users: SaslUsers | null;
  /** So many more bytes of requests are kept than before, or fewer. It may cut connections. */
  readonly kept: (bytes: number) => void;
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
  answer: Buffer[] | null;
  isAnswered: boolean;
}

/**
 * One client's stream. Requests begin in the order in which they came, one at a time but for those that
 * overlap, and are answered in that order. What cannot be sent, or is too much at once, stops the reading.
 */
export class Connection implements Peer {
  readonly clientHost: string;
  readonly login: SaslLogin | null;
  readonly #stream: Duplex;
  readonly #options: ConnectionOptions;
  readonly #frames: Frames;
  readonly #gone = new AbortController();
  #waiting: Exchange[] = [];
  #pending: Pending[] = [];
  /** Of requests that were not begun. */
  #keptBytes = 0;
  /** Nothing is read any more: what was read is answered, then the stream ends. */
  #isEnding = false;
  #isClosed = false;
  /** When the request began to arrive that has not as a whole. */
  #beganAt = 0;
  #progressAt: number;
  #writableLength = 0;

  constructor(stream: Duplex, clientHost: string, options: ConnectionOptions) {
    this.clientHost = clientHost;
    this.#stream = stream;
    this.#options = options;
    this.login = options.users === null ? null : new SaslLogin(options.users);
    this.#frames = new Frames(options.limits.maxRequestBytes);
    this.#progressAt = options.clock.monotonic();
    stream.on('data', (bytes: Buffer) => this.#arrived(bytes));
    stream.on('drain', () => this.#go());
    stream.on('end', () => this.end());
    stream.on('error', () => this.destroy());
    stream.on('close', () => this.destroy());
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Since when a request has been on its way that has not arrived as a whole; Infinity: none is. */
  get arrivingSince(): number {
    return this.#frames.pendingBytes === 0 ? Infinity : this.#beganAt;
  }

  #arrived(bytes: Buffer): void {
    if (this.#isEnding) return;
    this.#progressAt = this.#options.clock.monotonic();
    if (this.#frames.pendingBytes === 0) this.#beganAt = this.#progressAt;
    const { node, limits } = this.#options;
    const isStranger = this.login?.isDone === false;
    this.#frames.maxBytes = isStranger ? strangerBytes : limits.maxRequestBytes;
    try {
      this.#frames.push(bytes);
      for (let frame = this.#frames.next(); frame !== null; frame = this.#frames.next()) {
        this.#waiting.push(readRequest(frame, node, this));
        this.#beganAt = this.#progressAt;
      }
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#keep(this.#keptBytes + bytes.length);
    this.#go();
  }

  /** Begins what may begin, and reads on or stops reading. */
  #go(): void {
    while (this.#mayBegin()) this.#begin(this.#waiting.shift()!);
    if (this.#isClosed) return;
    if (this.#waiting.length === 0) this.#keep(this.#frames.pendingBytes);
    if (this.#waiting.length + this.#pending.length >= maxPipelined) this.#stream.pause();
    else if (this.#stream.isPaused()) this.#stream.resume();
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

  #keep(bytes: number): void {
    const more = bytes - this.#keptBytes;
    this.#keptBytes = bytes;
    if (more !== 0) this.#options.kept(more);
  }

  #begin(exchange: Exchange): void {
    let answer: ReturnType<Exchange['answer']>;
    try {
      answer = exchange.answer();
    } catch (error) {
      this.#failed(error);
      return;
    }
    const pending: Pending = { overlaps: exchange.overlaps, answer: null, isAnswered: false };
    this.#pending.push(pending);
    if (!(answer instanceof Promise)) {
      this.#answered(pending, answer);
      return;
    }
    answer.then(
      (frames) => {
        this.#answered(pending, frames);
        this.#go();
      },
      (error: unknown) => this.#failed(error),
    );
  }

  #answered(pending: Pending, answer: Buffer[] | null): void {
    pending.answer = answer;
    pending.isAnswered = true;
    while (this.#pending[0]?.isAnswered === true) {
      const { answer: next } = this.#pending.shift()!;
      if (next !== null) this.#write(next);
    }
  }

  #write(parts: readonly Buffer[]): void {
    if (this.#isClosed) return;
    this.#progressAt = this.#options.clock.monotonic();
    this.#stream.cork();
    for (const part of parts) this.#stream.write(part);
    this.#stream.uncork();
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
    this.#go();
  }

  /** Cuts the connection. */
  destroy(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isEnding = true;
    this.#waiting = [];
    this.#keep(0);
    this.#stream.destroy();
    this.#gone.abort();
    this.#options.closed(this);
  }

  /**
   * Cuts the connection if nothing came for too long, or if it stands still in the middle of a request or of
   * an answer.
   */
  watch(): void {
    const { clock, limits } = this.#options;
    const now = clock.monotonic();
    const { writableLength } = this.#stream;
    if (writableLength !== this.#writableLength) this.#progressAt = now;
    this.#writableLength = writableLength;
    const isArriving = this.#frames.pendingBytes > 0 && !this.#stream.isPaused();
    const isStalled = writableLength > 0 || isArriving;
    if (!isStalled && this.#pending.length > 0) return;
    if (now - this.#progressAt >= (isStalled ? limits.stallMs : limits.idleMs)) this.destroy();
  }
}
