import type { WriterMetrics, WriterOptions } from './engine.js';
import { StickyPartitioner } from './partitioner.js';
import type { WriterStatistics } from './local-statistics.js';
import type { Topic } from './topic.js';

/** What a producer has taken over between two flushes. */
export class Taken {
  readonly account: Account;
  /** Not settled. */
  bytes = 0;
  settled: () => void = nothing;

  constructor(account: Account) {
    this.account = account;
  }
}

function nothing(): void {}

/** The sticky choice for one topic. */
interface Choice {
  readonly topic: Topic;
  readonly sticky: StickyPartitioner;
  partitionCount: number;
}

/** One producer as the accumulator knows it: what it has taken over and not settled, and its sticky choices. */
export class Account {
  readonly options: WriterOptions;
  readonly statistics: WriterStatistics;
  readonly #random: () => number;
  #unacknowledgedBytes = 0;
  #waitingForRoom: { readonly bytes: number; readonly resolve: () => void }[] = [];
  #current: Taken = new Taken(this);
  /** What flushes wait for. */
  readonly #flushing = new Set<Taken>();
  readonly #choices = new WeakMap<Topic, Choice>();
  #lastChoice: Choice | null = null;

  /** @param random draws any 32-bit integer */
  constructor(options: WriterOptions, statistics: WriterStatistics, random: () => number) {
    this.options = options;
    this.statistics = statistics;
    this.#random = random;
  }

  get isEmpty(): boolean {
    return this.#unacknowledgedBytes === 0;
  }

  /** Whether there is room for this many bytes more. What is larger than the buffer may be there alone. */
  hasRoom(bytes: number): boolean {
    const used = this.#unacknowledgedBytes;
    return used === 0 || used + bytes <= this.options.bufferMemory;
  }

  get metrics(): WriterMetrics {
    return {
      ...this.statistics.read(),
      bufferTotalBytes: this.options.bufferMemory,
      bufferUsedBytes: this.#unacknowledgedBytes,
    };
  }

  /** Where records without a key go (KIP-794): by this producer's batch size, whoever else sends. */
  stickyFor(topic: Topic): StickyPartitioner {
    const { partitionCount } = topic;
    let choice = this.#lastChoice?.topic === topic ? this.#lastChoice : this.#choices.get(topic);
    if (choice === undefined) {
      const { batchSize } = this.options;
      const sticky = new StickyPartitioner(batchSize, partitionCount, this.#random);
      choice = { topic, sticky, partitionCount };
      this.#choices.set(topic, choice);
    } else if (choice.partitionCount !== partitionCount) {
      choice.partitionCount = partitionCount;
      choice.sticky.update(partitionCount);
    }
    this.#lastChoice = choice;
    return choice.sticky;
  }

  /** @returns what settle() wants to know */
  take(bytes: number): Taken {
    this.#unacknowledgedBytes += bytes;
    this.#current.bytes += bytes;
    return this.#current;
  }

  settle(taken: Taken, bytes: number): void {
    this.#unacknowledgedBytes -= bytes;
    taken.bytes -= bytes;
    if (this.#waitingForRoom.length > 0) this.#tellOfRoom();
    if (taken.bytes === 0) taken.settled();
  }

  #tellOfRoom(): void {
    const waiting = this.#waitingForRoom;
    this.#waitingForRoom = [];
    for (const one of waiting) {
      if (this.hasRoom(one.bytes)) one.resolve();
      else this.#waitingForRoom.push(one);
    }
  }

  /** Resolves when there is room for this many bytes more. */
  room(bytes: number): Promise<void> {
    if (this.hasRoom(bytes)) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForRoom.push({ bytes, resolve }));
  }

  /** Resolves when all that was taken over until now is settled, whatever comes after. */
  async flushed(): Promise<void> {
    const taken = this.#current;
    if (taken.bytes > 0) {
      this.#current = new Taken(this);
      this.#flushing.add(taken);
    }
    await Promise.all([...this.#flushing].map((earlier) => this.#settled(earlier)));
  }

  #settled(taken: Taken): Promise<void> {
    return new Promise((resolve) => {
      const { settled } = taken;
      taken.settled = () => {
        settled();
        this.#flushing.delete(taken);
        resolve();
      };
    });
  }
}
