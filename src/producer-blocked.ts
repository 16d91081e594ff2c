import type { Clock } from './clock.js';
import type { AppendSink, Writer } from './engine.js';
import { OttlaError } from './errors.js';
import { ignore } from './producer-outcome.js';
import { sizeOf, type Bytes, type RecordHeaders } from './record.js';
import type { TopicInfo } from './topic.js';

/** A send that found the buffer full. */
export interface BlockedSend {
  readonly info: TopicInfo;
  readonly partition: number;
  readonly timestamp: number;
  /** Key, value and headers have bytes of their own: the caller may use its own again. */
  readonly key: Bytes | null;
  readonly value: Bytes | null;
  readonly headers: RecordHeaders;
  readonly sink: AppendSink;
}

interface Waiting extends BlockedSend {
  readonly number: number;
  readonly deadline: number;
  /** Called when it waits no more, be it taken over or not. */
  passed: () => void;
}

/** Sends that wait for room in the buffer, in order. */
export class BlockedSends {
  readonly #clock: Clock;
  readonly #writer: Writer;
  readonly #maxBlockMs: number;
  /** Appends; false: there is no room. */
  readonly #tryAppend: (blocked: BlockedSend) => boolean;
  /** Told of one that failed here. */
  readonly #tell: (error: unknown) => void;
  readonly #waiting: Waiting[] = [];
  #lastNumber = 0;
  #isRunning = false;

  constructor(
    clock: Clock,
    writer: Writer,
    maxBlockMs: number,
    tryAppend: (blocked: BlockedSend) => boolean,
    tell: (error: unknown) => void,
  ) {
    this.#clock = clock;
    this.#writer = writer;
    this.#maxBlockMs = maxBlockMs;
    this.#tryAppend = tryAppend;
    this.#tell = tell;
  }

  get count(): number {
    return this.#waiting.length;
  }

  /** @throws ABORTED if the signal has aborted already */
  add(blocked: BlockedSend, signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) throw waitAborted(signal);
    const deadline = this.#clock.monotonic() + this.#maxBlockMs;
    const waiting: Waiting = { ...blocked, number: ++this.#lastNumber, deadline, passed: ignore };
    this.#waiting.push(waiting);
    if (signal !== undefined) this.#failOnAbort(waiting, signal);
    if (!this.#isRunning) void this.#run();
  }

  #failOnAbort(waiting: Waiting, signal: AbortSignal): void {
    const onAbort = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.passed();
      waiting.sink.failed(waitAborted(signal), waiting.partition, -1, 1);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    waiting.passed = () => signal.removeEventListener('abort', onAbort);
  }

  /** Appends what waits as room comes, in order; fails what waited for maxBlockMs. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    for (;;) {
      const head = this.#waiting[0];
      if (head === undefined) break;
      try {
        if (this.#tryAppend(head)) {
          this.#waiting.shift();
          head.passed();
        } else {
          await this.room(head.info.name, sizeOf(head.key, head.value), head.deadline);
        }
      } catch (error) {
        if (this.#waiting[0] !== head) continue;
        this.#waiting.shift();
        head.passed();
        this.#tell(error);
        head.sink.failed(error as OttlaError, head.partition, -1, 1);
      }
    }
    this.#isRunning = false;
  }

  /** Resolves when none of those waits that wait now. */
  async passed(): Promise<void> {
    const until = this.#lastNumber;
    for (;;) {
      const last = this.#waiting.findLast(({ number }) => number <= until);
      if (last === undefined) return;
      await new Promise<void>((resolve) => {
        const { passed } = last;
        last.passed = () => {
          passed();
          resolve();
        };
      });
    }
  }

  /** When a wait that begins now ends for want of room. */
  deadline(): number {
    return this.#clock.monotonic() + this.#maxBlockMs;
  }

  /**
   * Resolves when there may be room for this many bytes.
   * @throws REQUEST_TIMED_OUT if the deadline has passed; ABORTED
   */
  async room(topic: string, bytes: number, deadline: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) throw waitAborted(signal);
    const leftMs = deadline - this.#clock.monotonic();
    if (leftMs <= 0) throw noRoom(topic, this.#maxBlockMs);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.#clock.after(leftMs, done);
      signal?.addEventListener('abort', done);
      void this.#writer.room(bytes).then(done);
    });
  }
}

export function waitAborted(signal: AbortSignal): OttlaError {
  return new OttlaError('ABORTED', 'the wait for room in the buffer was aborted', {
    cause: signal.reason,
  });
}

function noRoom(topic: string, maxBlockMs: number): OttlaError {
  return new OttlaError(
    'REQUEST_TIMED_OUT',
    `${topic}: no room in the buffer for ${maxBlockMs} ms (maxBlockMs); nothing was written`,
  );
}
