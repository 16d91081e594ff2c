import type { TopicPartition } from './assignment.js';
import type { Broker } from './broker.js';
import { longestTimerMs, type Timer } from './clock.js';
import type {
  Committed,
  CommitPosition,
  Fetched,
  Position,
  Reader,
  ReaderOptions,
  RebalanceListener,
  Subscription,
} from './engine.js';
import { OttlaError } from './errors.js';
import { Damage } from './local-damage.js';
import { PartitionFetch } from './local-fetch.js';
import { GroupMember } from './local-member.js';
import { FetchTurns } from './local-turns.js';
import type { From } from './options.js';
import { offsetFor } from './partition-offsets.js';
import type { PartitionReader } from './partition-reader.js';
import { onAbort } from './signal.js';
import type { PendingCommit } from './transaction.js';

const smallChunkBytes = 64 * 1024;
const chunkBytes = 1024 * 1024;
/** Records at hand are handed out this long before the host's other work gets a turn. */
const turnMs = 5;
/** How often a read-only reader looks for what the owner wrote. */
const followMs = 50;
const noBuffer = Buffer.alloc(0);

interface ReadAhead<R> {
  readonly fetch: PartitionFetch<R>;
  readonly version: number;
  /** Resolves to the chunk's length; never rejects. */
  readonly done: Promise<{ readonly length: number } | { readonly error: unknown }>;
}

/**
 * Fetches the assigned partitions in turns, a chunk of up to 1 MiB each. The tail of a log is read at
 * once; colder data off the main thread, one chunk ahead.
 */
export class LocalReader<R> implements Reader<R> {
  readonly #broker: Broker;
  readonly #options: ReaderOptions<R>;
  readonly #warn: (message: string) => void;
  readonly #closed: (reader: LocalReader<R>) => void;
  #member: GroupMember | null = null;
  #subscription: Subscription | null = null;
  readonly #fetches = new FetchTurns<R>();
  #current: PartitionFetch<R> | null = null;
  #ahead: ReadAhead<R> | null = null;
  readonly #damage: Damage<R>;
  /** While the owner is told what was assigned. */
  #telling: Promise<void> | null = null;
  /** The one being handed out, and the one being read into. */
  #buffers: [Buffer, Buffer] = [noBuffer, noBuffer];
  #turnEnd = 0;
  #wakeUp: (() => void) | null = null;
  /** Since the poll under way last looked for work: then it must look again before it waits. */
  #wasWoken = false;
  #failure: OttlaError | null = null;
  #gaveUp: OttlaError | null = null;
  #isClosed = false;

  constructor(
    broker: Broker,
    options: ReaderOptions<R>,
    warn: (message: string) => void,
    closed: (reader: LocalReader<R>) => void,
  ) {
    this.#broker = broker;
    this.#options = options;
    this.#warn = warn;
    this.#closed = closed;
    this.#damage = new Damage(broker.readOnly, options.onCorrupt);
  }

  get groupId(): string | undefined {
    return this.#options.group?.groupId;
  }

  subscribe(subscription: Subscription, listener: RebalanceListener): void {
    const { group, from } = this.#options;
    if (group === undefined) throw new TypeError('subscribe: this reader has no group');
    for (const topic of subscription.topics) this.#broker.topics.get(topic);
    this.#subscription = subscription;
    const memberId = this.#broker.newMemberId(group.clientId);
    this.#member = new GroupMember(this.#broker, memberId, group, from, subscription, this.#warn, {
      assigned: async (positions) => {
        const added = positions.map(({ ownership, ...at }) => this.#add(at, ownership));
        for (const fetch of added) fetch.isHeld = true;
        this.#telling = listener.assigned(positions);
        await this.#telling;
        this.#telling = null;
        for (const fetch of added) fetch.isHeld = false;
        this.wake();
      },
      revoked: (partitions, signal) => {
        const revoke = (): ReturnType<RebalanceListener['revoked']> => {
          this.#remove(partitions);
          return listener.revoked(partitions, signal);
        };
        if (this.#telling === null) return revoke();
        // The owner may be seeking in what was assigned: that comes to its end first.
        const released = this.#telling.then(() => (signal.aborted ? undefined : revoke().released));
        return { busy: true, released };
      },
      lost: (partitions) => {
        this.#remove(partitions);
        listener.lost(partitions);
        this.wake();
      },
      failed: (error) => {
        this.#failure = error;
        listener.failed(error);
        this.wake();
      },
      isAtWork: () => this.#options.isAtWork?.() ?? this.#wakeUp === null,
    });
    this.#member.join();
  }

  resubscribe(subscription: Subscription): void {
    this.#subscription = subscription;
    this.#member?.resubscribe(subscription);
  }

  async ready(): Promise<void> {
    await this.#member?.ready();
    if (this.#failure !== null) throw this.#failure;
  }

  async assign(positions: readonly Position[]): Promise<void> {
    const resolved = [];
    for (const { topic, partition, offset } of positions) {
      if (this.#broker.readOnly)
        await this.#broker.topics.partition({ topic, partition }).refresh();
      const start =
        offset >= 0 ? offset : await this.#startOf({ topic, partition }, this.#options.from);
      resolved.push({ topic, partition, offset: start });
    }
    this.#removeAll();
    for (const position of resolved) this.#add(position, 0);
    this.wake();
  }

  async #startOf(at: TopicPartition, from: From): Promise<number> {
    const partition = this.#broker.topics.partition(at);
    const offset = await offsetFor(
      partition,
      from,
      this.#broker.clock.now(),
      this.#options.isolation,
    );
    if (offset !== null) return offset;
    throw new OttlaError(
      'NO_OFFSET_FOR_PARTITION',
      `${partition.name}: no offset to start from, and from is 'none'`,
    );
  }

  #add({ topic, partition, offset }: Position, ownership: number): PartitionFetch<R> {
    const fetch = new PartitionFetch(this.#broker.topics.partition({ topic, partition }), {
      format: this.#options.formatFor(topic, ownership),
      position: offset,
      ownership,
      isolation: this.#options.isolation,
      maxBytes: this.#options.maxPollBytes ?? Infinity,
      woken: this.#woken,
    });
    this.#fetches.add(fetch);
    return fetch;
  }

  readonly #woken = (fetch: PartitionFetch<R>): void => {
    this.#fetches.wake(fetch);
    this.wake();
  };

  #remove(partitions: Iterable<TopicPartition>): void {
    for (const at of partitions) {
      const fetch = this.#fetches.at(at);
      if (fetch === undefined) continue;
      this.#fetches.remove(fetch);
      fetch.close();
      if (this.#current === fetch) this.#current = null;
    }
  }

  #removeAll(): void {
    this.#remove([...this.#fetches].map(({ place }) => place));
  }

  #require(at: TopicPartition): PartitionFetch<R> {
    const fetch = this.#fetches.at(at);
    if (fetch !== undefined) return fetch;
    throw new OttlaError(
      'INVALID_REQUEST',
      `${at.topic}-${at.partition} is not assigned to this consumer`,
    );
  }

  wake(): void {
    this.#wasWoken = true;
    this.#wakeUp?.();
  }

  pollNow(maxRecords: number): Fetched<R> | undefined {
    if (this.#broker.clock.monotonic() >= this.#turnEnd) return undefined;
    return this.#takeNow(maxRecords);
  }

  #takeNow(maxRecords: number): Fetched<R> | undefined {
    if (this.#failure !== null) throw this.#failure;
    while (!this.#isClosed && !this.#damage.isMet) {
      const fetched = this.#takeCurrent(maxRecords);
      if (fetched !== null) {
        this.#damage.left();
        return fetched;
      }
      if (!this.#beginTail()) return undefined;
    }
    return undefined;
  }

  #takeCurrent(maxRecords: number): Fetched<R> | null {
    const current = this.#current;
    if (current === null) return null;
    if (current.isHeld) {
      this.#forgetChunk(current);
      return null;
    }
    try {
      return current.take(maxRecords);
    } catch (error) {
      this.#meet(error, current);
      return null;
    } finally {
      if (!current.hasChunk) this.#current = null;
      // What records still look at is left to them.
      if (current.hasLentChunk) this.#buffers[0] = noBuffer;
    }
  }

  async poll(maxRecords: number, signal: AbortSignal | null): Promise<Fetched<R> | null> {
    const { clock } = this.#broker;
    for (;;) {
      if (clock.monotonic() >= this.#turnEnd) {
        if (this.#turnEnd > 0) await new Promise<void>((resolve) => clock.soon(resolve));
        this.#turnEnd = clock.monotonic() + turnMs;
      }
      this.#wasWoken = false;
      if (this.#isClosed || signal?.aborted === true) return null;
      const fetched = this.#takeNow(maxRecords);
      if (fetched !== undefined) return fetched;
      if (this.#damage.isMet) {
        const passed = await this.#damage.pass((fetch) => this.#fetches.has(fetch));
        if (passed !== null) return passed;
        continue;
      }
      if (await this.#beginCold()) continue;
      await this.#wait(signal);
      this.#turnEnd = clock.monotonic() + turnMs;
    }
  }

  /** The next partition whose turn it is and that has something to read. */
  #nextReadable(): PartitionFetch<R> | null {
    return this.#fetches.find(this.#isReadable);
  }

  readonly #isReadable = (fetch: PartitionFetch<R>): boolean => {
    if (fetch.paused || fetch.isHeld || fetch === this.#current) return false;
    const hasMore = this.#hasMore(fetch);
    if (!hasMore) this.#fetches.rest(fetch);
    return hasMore;
  };

  #hasMore(fetch: PartitionFetch<R>): boolean {
    try {
      return fetch.hasMore;
    } catch (error) {
      if (!isOutOfRange(error)) throw error;
      // What was read before it was deleted is handed out first.
      return fetch.hasChunk ? false : this.#reset(fetch, error);
    }
  }

  /**
   * The log no longer has the position, by retention or deleteRecords: goes on at the end with 'latest',
   * else at the first record there is.
   */
  #reset(fetch: PartitionFetch<R>, error: OttlaError): boolean {
    const { partition } = fetch;
    const isEarliest = this.#subscription?.fromEarliest.includes(partition.topic) === true;
    const from = isEarliest ? 'earliest' : this.#options.from;
    if (from === 'none') throw error;
    const { isolation } = this.#options;
    const offset = from === 'latest' ? partition.endFor(isolation) : partition.logStartOffset;
    this.#warn(`${error.message}; going on at ${offset}`);
    fetch.moveTo(offset);
    return fetch.hasMore;
  }

  /** Begins the next chunk if it can be read without blocking. */
  #beginTail(): boolean {
    if (this.#ahead !== null) return false;
    this.#current = null;
    const fetch = this.#nextReadable();
    if (fetch?.reader.isAtTail !== true) return false;
    this.#fetches.pass(fetch);
    try {
      let length = fetch.reader.read(this.#chunkBufferFor(0, fetch.reader));
      if (length < 0) length = fetch.reader.read(this.#bufferFor(0, -length));
      this.#begin(fetch, length);
    } catch (error) {
      this.#meet(error, fetch);
    }
    return true;
  }

  /**
   * Damage is looked into by the next poll(), which may wait; that a file is gone because its records were
   * deleted shows there by the log's start; anything else is thrown on.
   */
  #meet(error: unknown, fetch: PartitionFetch<R>): void {
    if (isOutOfRange(error) && this.#broker.readOnly) {
      fetch.moveTo(fetch.position);
      return;
    }
    this.#damage.meet(error, fetch);
  }

  #begin(fetch: PartitionFetch<R>, length: number): void {
    fetch.begin(this.#buffers[0], length);
    this.#current = fetch;
  }

  #chunkBufferFor(which: 0 | 1, reader: PartitionReader): Buffer {
    return this.#bufferFor(which, Math.min(reader.available, chunkBytes));
  }

  /** More than a chunk only for a batch that is larger. */
  #bufferFor(which: 0 | 1, bytes: number): Buffer {
    const size = bytes > smallChunkBytes ? Math.max(bytes, chunkBytes) : smallChunkBytes;
    if (this.#buffers[which].length < size) this.#buffers[which] = Buffer.allocUnsafeSlow(size);
    return this.#buffers[which];
  }

  /** Begins the next chunk from what was read ahead, or waits for its reading. False: nothing to read. */
  async #beginCold(): Promise<boolean> {
    this.#current = null;
    this.#ahead ??= this.#readAhead();
    const ahead = this.#ahead;
    if (ahead === null) return false;
    const result = await ahead.done;
    if (this.#ahead === ahead) this.#ahead = null;
    if (ahead.fetch.isHeld) this.#forgetChunk(ahead.fetch);
    const isVoid = ahead.version !== ahead.fetch.version || !this.#fetches.has(ahead.fetch);
    if (isVoid) return true;
    if ('error' in result) {
      ahead.fetch.moveTo(ahead.fetch.position);
      if (!isOutOfRange(result.error)) this.#meet(result.error, ahead.fetch);
      return true;
    }
    const [used, filled] = this.#buffers;
    this.#buffers = [filled, used];
    this.#begin(ahead.fetch, result.length);
    this.#ahead = this.#readAhead();
    return true;
  }

  #readAhead(): ReadAhead<R> | null {
    const current = this.#current;
    const next = this.#nextReadable();
    if (next !== null) this.#fetches.pass(next);
    const fetch = next ?? (current !== null && this.#hasMore(current) ? current : null);
    if (fetch === null) return null;
    const { version } = fetch;
    const read = async (): Promise<number> => {
      const length = await fetch.reader.readAsync(this.#chunkBufferFor(1, fetch.reader));
      return length < 0 ? fetch.reader.readAsync(this.#bufferFor(1, -length)) : length;
    };
    const done = read().then(
      (length) => ({ length }),
      (error: unknown) => ({ error }),
    );
    return { fetch, version, done };
  }

  /** Until something is appended, assigned, sought, or the signal aborts. Keeps the process alive. */
  async #wait(signal: AbortSignal | null): Promise<void> {
    const { clock, readOnly } = this.#broker;
    if (readOnly) {
      for (const fetch of this.#fetches) {
        // Also in its owner's metadata it must be there.
        this.#broker.topics.partition(fetch.place);
        await fetch.partition.refresh();
        this.#fetches.wake(fetch);
      }
      if (this.#nextReadable() !== null) return;
    }
    this.#options.idle();
    // Who waits is alive: one that was taken for dead is back.
    if (this.#options.isAtWork?.() !== true) this.alive();
    if (this.#wasWoken || signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      let timer: Timer | null = null;
      const wakeUp = (): void => {
        timer?.cancel();
        cancel?.();
        this.#wakeUp = null;
        resolve();
      };
      timer = clock.after(readOnly ? followMs : longestTimerMs, wakeUp, true);
      const cancel = signal === null ? null : onAbort(signal, wakeUp);
      this.#wakeUp = wakeUp;
    });
  }

  positions(): readonly Position[] {
    return [...this.#fetches].map(({ place, position }) => ({ ...place, offset: position }));
  }

  position(at: TopicPartition): number {
    return this.#require(at).position;
  }

  seek({ topic, partition, offset }: Position): void {
    const fetch = this.#require({ topic, partition });
    fetch.moveTo(offset);
    if (this.#current === fetch) this.#current = null;
    this.wake();
  }

  pause(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) {
      const fetch = this.#require(at);
      fetch.paused = true;
      this.#forgetChunk(fetch);
    }
  }

  /** What was read of it, or is being read, is void. */
  #forgetChunk(fetch: PartitionFetch<R>): void {
    fetch.moveTo(fetch.position);
    if (this.#current === fetch) this.#current = null;
  }

  gaveUp(why: OttlaError | null): void {
    this.#gaveUp = why;
    if (why !== null) this.#broker.tellChange();
  }

  /** Why it asks for nothing more of a partition that it owns; null: it does, or does not own it. */
  whyGivenUp(at: TopicPartition): OttlaError | null {
    return this.#fetches.at(at) === undefined ? null : this.#gaveUp;
  }

  isPaused(at: TopicPartition): boolean {
    return this.#fetches.at(at)?.paused === true;
  }

  resume(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) this.#require(at).paused = false;
    this.wake();
  }

  hold(at: TopicPartition): void {
    this.#require(at).isHeld = true;
  }

  release(at: TopicPartition, offset: number | null): void {
    const fetch = this.#fetches.at(at);
    if (fetch === undefined) return;
    fetch.isHeld = false;
    if (offset === null || offset === fetch.position) this.wake();
    else this.seek({ ...at, offset });
  }

  async commit(
    positions: readonly (CommitPosition & { readonly ownership: number })[],
  ): Promise<void> {
    if (this.#member === null) {
      throw new OttlaError('INVALID_REQUEST', 'commit: this consumer has no group');
    }
    await this.#member.commit(positions);
  }

  /** What a transaction commits of these. @throws INVALID_REQUEST without a group */
  pendingCommit(
    positions: readonly (CommitPosition & { readonly ownership: number })[],
  ): PendingCommit {
    if (this.#member !== null) return this.#member.pendingCommit(positions);
    throw new OttlaError('INVALID_REQUEST', 'sendOffsets: this consumer has no group');
  }

  committed(at: TopicPartition): Committed | undefined {
    return this.#member?.committed(at);
  }

  endOffset(at: TopicPartition): number {
    return this.#broker.topics.partition(at).endFor(this.#options.isolation);
  }

  alive(): void {
    this.#member?.alive();
  }

  /** Its member, unless another id is meant, is taken for dead. False: there is none. */
  fence(memberId: string | undefined): boolean {
    return this.#member?.fence(memberId) === true;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#removeAll();
    this.#member?.leave();
    this.wake();
    await this.#ahead?.done;
    this.#closed(this);
  }
}

function isOutOfRange(error: unknown): error is OttlaError {
  return error instanceof OttlaError && error.code === 'OFFSET_OUT_OF_RANGE';
}
