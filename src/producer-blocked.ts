import type { Clock } from './clock.js';
import type { AppendSink, Writer } from './engine.js';
import { OttlaError } from './errors.js';
import { ignore } from './producer-outcome.js';
import { sizeOf, type Bytes, type RecordHeaders } from './record.js';
import { onAbort } from './signal.js';
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
  before: Waiting | null;
  behind: Waiting | null;
  /** Called when it waits no more, be it taken over or not. */
  passed: () => void;
}

/** Sends that wait for room in the buffer, in order: a chain, since an array of many is slow to shift. */
export class BlockedSends {
  readonly #clock: Clock;
  readonly #writer: Writer;
  readonly #maxBlockMs: number;
  /** Appends; false: there is no room. */
  readonly #tryAppend: (blocked: BlockedSend) => boolean;
  /** Told of one that failed here. */
  readonly #tell: (error: unknown) => void;
  #first: Waiting | null = null;
  #last: Waiting | null = null;
  #count = 0;
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
    return this.#count;
  }

  /** @throws ABORTED if the signal has aborted already */
  add(blocked: BlockedSend, signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) throw waitAborted(signal);
    const deadline = this.#clock.monotonic() + this.#maxBlockMs;
    const before = this.#last;
    const number = ++this.#lastNumber;
    const waiting = { ...blocked, number, deadline, before, behind: null, passed: ignore };
    if (before === null) this.#first = waiting;
    else before.behind = waiting;
    this.#last = waiting;
    this.#count++;
    if (signal !== undefined) this.#failOnAbort(waiting, signal);
    if (!this.#isRunning) void this.#run();
  }

  #failOnAbort(waiting: Waiting, signal: AbortSignal): void {
    waiting.passed = onAbort(signal, () => {
      this.#remove(waiting);
      waiting.sink.failed(waitAborted(signal), waiting.partition, -1, 1);
    });
  }

  #remove(waiting: Waiting): void {
    const { before, behind } = waiting;
    if (before === null) this.#first = behind;
    else before.behind = behind;
    if (behind === null) this.#last = before;
    else behind.before = before;
    waiting.before = null;
    waiting.behind = null;
    this.#count--;
    waiting.passed();
  }

  /** Appends what waits as room comes, in order; fails what waited for maxBlockMs. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let head = this.#first; head !== null; head = this.#first) {
      try {
        if (this.#tryAppend(head)) this.#remove(head);
        else await this.room(head.info.name, sizeOf(head.key, head.value), head.deadline);
      } catch (error) {
        if (this.#first !== head) continue;
        this.#remove(head);
        this.#tell(error);
        head.sink.failed(error as OttlaError, head.partition, -1, 1);
      }
    }
    this.#isRunning = false;
  }

  /** None of those that wait is sent any more: they fail, of which nobody else is told. */
  abandon(error: OttlaError): void {
    for (let head = this.#first; head !== null; head = this.#first) {
      this.#remove(head);
      head.sink.failed(error, head.partition, -1, 1);
    }
  }

  /** Resolves when none of those waits that wait now. */
  async passed(): Promise<void> {
    const until = this.#lastNumber;
    for (;;) {
      let last = this.#last;
      while (last !== null && last.number > until) last = last.before;
      const waiting = last;
      if (waiting === null) return;
      await new Promise<void>((resolve) => {
        const { passed } = waiting;
        waiting.passed = () => {
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
        cancel?.();
        resolve();
      };
      const timer = this.#clock.after(leftMs, done);
      const cancel = signal && onAbort(signal, done);
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
