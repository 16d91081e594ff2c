import type { Broker } from './broker.js';
import { systemClock, withDeadline, type Clock } from './clock.js';
import { Consumer } from './consumer.js';
import type { ConsumerOptions, Subscribable, Subscribed } from './consumer-options.js';
import { TopicReading, type ReadOptions } from './consumer-read.js';
import { openDataDirectory, openMemory, type OpenDirectory } from './data-directory.js';
import type { Faults } from './faults.js';
import type { Engine } from './engine.js';
import { OttlaError } from './errors.js';
import { LocalEngine } from './local.js';
import {
  aBoolean,
  aFunction,
  aSignal,
  checkOptions,
  got,
  integer,
  milliseconds,
  type ProducerOptions,
} from './options.js';
import { EventListeners, type Events } from './ottla-events.js';
import { Groups } from './ottla-groups.js';
import { Topics } from './ottla-topics.js';
import { Producer } from './producer.js';
import { redrive, type RedriveOptions } from './redrive.js';
import type { TopicRef } from './serde.js';
import type { VerifyOptions, VerifyReport } from './verify-report.js';
import { watched } from './watched.js';

/** How to open a directory. */
export interface OpenOptions {
  /**
   * Opens beside a running owner, or without one: no lock, no repair, nothing written. What grows is
   * followed. @default false
   */
  readonly readOnly?: boolean;
  /**
   * Bound on the bytes of all logs together; indexes and metadata come on top, some thousandths of it.
   * A send that would pass it is refused with KAFKA_STORAGE_ERROR, which is retriable: retention and
   * deleting topics make room. From 90 % on there is one 'warning'. @default no bound (bytes)
   */
  readonly maxBytes?: number;
  /**
   * Offsets of a group are forgotten once it has had no members for this long; of one that never had any,
   * and of topics that none of its members reads, this long after their commit (Kafka's
   * offsets.retention.minutes, there 7 days). Looked at every ten minutes. @default for ever (ms)
   */
  readonly offsetsRetentionMs?: number;
}

/** Time and randomness for a test that repeats itself. */
export interface MemoryOptions {
  /** What time it is, and all timers. @default the system's */
  readonly clock?: Clock;
  /** An integer that makes ids and choices the same in every run. @default none: they differ */
  readonly seed?: number;
  /** What fails, and when: see `ottla/testing`. @default nothing */
  readonly faults?: Faults;
  /**
   * Bound on the bytes of all logs together; indexes and metadata come on top, some thousandths of it.
   * A send that would pass it is refused with KAFKA_STORAGE_ERROR, which is retriable: retention and
   * deleting topics make room. From 90 % on there is one 'warning'. @default no bound (bytes)
   */
  readonly maxBytes?: number;
  /**
   * Offsets of a group are forgotten once it has had no members for this long; of one that never had any,
   * and of topics that none of its members reads, this long after their commit (Kafka's
   * offsets.retention.minutes, there 7 days). Looked at every ten minutes. @default for ever (ms)
   */
  readonly offsetsRetentionMs?: number;
}

interface Closable {
  close(): Promise<void>;
}

/** Closes all, then fails as the first that failed. */
async function allClosed(closables: Iterable<Closable>): Promise<void> {
  const results = await Promise.allSettled([...closables].map((closable) => closable.close()));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** What a server stands on. */
export interface Attachment {
  readonly broker: Broker;
  /** Tells the Ottla's listeners of 'error' of a call that nobody awaited. */
  readonly unheard: (error: unknown) => void;
  /** Tells the Ottla's listeners of 'warning'. */
  readonly warn: (warning: string) => void;
  /** Where the server listens, for whoever finds the directory locked. */
  readonly listens: (address: string) => void;
  /** To be called once the server is closed. */
  readonly detach: () => void;
}

let attachTo: (ottla: Ottla, server: Closable) => Attachment;

/**
 * How a server gets below the public API. It is closed before the rest is.
 * @throws CLOSED; INVALID_REQUEST in read-only mode
 */
export function attach(ottla: Ottla, server: Closable): Attachment {
  return attachTo(ottla, server);
}

/** A data directory, or memory, with topics, producers, consumers and groups. */
export class Ottla {
  /** What open had to cut, rewind or finish; one readable sentence each. */
  readonly recovery: readonly string[];
  /** To create, describe, change and delete topics. */
  readonly topics: Topics;
  /** To look at groups, and to move or delete what they have committed. */
  readonly groups: Groups;
  readonly #directory: OpenDirectory;
  readonly #faults: Faults;
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #events = new EventListeners();
  readonly #producers = new Set<Closable>();
  readonly #consumers = new Set<Closable>();
  /** What reaches it from outside. */
  readonly #servers = new Map<Closable, string | null>();
  #closing: Promise<void> | null = null;
  /** Aborted when closing begins: a backup holds up what closing waits for. */
  readonly #ending = new AbortController();

  static {
    attachTo = (ottla, server) => {
      ottla.#refuseClosed();
      const { broker } = ottla.#directory;
      broker.refuseReadOnly();
      ottla.#servers.set(server, null);
      const tell = (): void => {
        ottla.#directory.tell([...ottla.#servers.values()].filter((address) => address !== null));
      };
      return {
        broker,
        unheard: (error) => ottla.#events.unheard(error),
        warn: (warning) => ottla.#events.emit('warning', warning),
        listens: (address) => {
          ottla.#servers.set(server, address);
          tell();
        },
        detach: () => {
          ottla.#servers.delete(server);
          tell();
        },
      };
    };
  }

  private constructor(directory: OpenDirectory, faults: Faults = {}) {
    const { broker } = directory;
    this.#faults = faults;
    this.#directory = directory;
    this.#clock = broker.clock;
    this.#random = broker.random;
    const engine = new LocalEngine(broker, {
      error: (error) => this.#events.emit('error', error),
      warning: (warning) => this.#events.emit('warning', warning),
    });
    this.#engine = engine;
    faults.attach?.({ fence: (group, memberId) => engine.fence(group, memberId) });
    this.recovery = broker.recovery;
    this.topics = new Topics(this.#engine);
    this.groups = new Groups(this.#engine);
    flushAtExit(this.#engine);
  }

  /**
   * Opens a data directory, creating it if there is none, and repairs what a crash left behind: see
   * `recovery`.
   * @throws LOCKED, naming who has it open; METADATA_LOST, having changed nothing; KAFKA_STORAGE_ERROR;
   *   UNSUPPORTED_FOR_MESSAGE_FORMAT if a newer Ottla wrote it
   */
  static async open(directory: string, options: OpenOptions = {}): Promise<Ottla> {
    checkDirectoryPath('Ottla.open', directory);
    checkOptions<OpenOptions>(
      'Ottla.open',
      { readOnly: aBoolean, maxBytes: integer(1), offsetsRetentionMs: integer(1) },
      options,
    );
    const { readOnly = false, ...limits } = options;
    const settings = { ...limits, readOnly, random: Math.random };
    return new Ottla(await openDataDirectory(directory, settings));
  }

  /**
   * Checks a data directory: the metadata and every row of it, whose partitions' directories these are,
   * every segment against what the metadata says of it, every batch, its CRC and offsets, every record,
   * every entry of an index. Changes nothing, and works beside a running owner, also in this process
   * (which then cannot open the directory anew until the check has ended).
   *
   * What damages the log or the metadata is a problem; `ok` says that there is none. What an open mends
   * by itself, such as a torn write behind the recovery point, is a note. Reads every byte once, in slices
   * of 2 ms.
   * @throws KAFKA_STORAGE_ERROR if there is no such directory; ABORTED; TypeError for options
   */
  static async verify(directory: string, options: VerifyOptions = {}): Promise<VerifyReport> {
    checkDirectoryPath('Ottla.verify', directory);
    checkOptions<VerifyOptions>('Ottla.verify', { signal: aSignal, progress: aFunction }, options);
    const { verifyDirectory } = await import('./verify.js');
    return verifyDirectory(directory, options);
  }

  /**
   * Mends a data directory that nobody has open, so that open() takes it again. What open() answers with
   * METADATA_LOST, and partitions that refuse appends because of damage, are mended so:
   *
   * - The metadata is rebuilt. Rows that can still be read and belong to the directories that are there
   *   are kept, groups' commits among them. What is lost is made anew from the partitions: topics and
   *   their partitions from the directories, segments and recovery points from the logs. Options and
   *   codec names of a topic whose row is lost have their defaults; its log start is that of the files.
   * - A log with damage in what was durable ends before it. The bytes from there on, and the segments
   *   behind, are kept in .torn files; records behind the damage are not in the log any more. To have
   *   them, read them first: `read(topic, { onCorrupt: 'skip' })`.
   *
   * Nothing is removed but index files, which are made anew: the old metadata is kept as meta.<time>-old,
   * a directory of another topic id as <directory>.<id>-stray. Reads every byte once. May be run again if it
   * was interrupted.
   * @returns what was done, one readable sentence each; none: all was well
   * @throws LOCKED if somebody has it open; KAFKA_STORAGE_ERROR, also if it is no data directory; ABORTED
   */
  static async repair(
    directory: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<string[]> {
    checkDirectoryPath('Ottla.repair', directory);
    checkOptions<{ readonly signal?: AbortSignal }>('Ottla.repair', { signal: aSignal }, options);
    const { repairDirectory } = await import('./repair.js');
    return repairDirectory(directory, Math.random, options.signal);
  }

  /** The same engine over memory: nothing native, gone at the end. @throws TypeError, RangeError for options */
  static memory(options: MemoryOptions = {}): Ottla {
    checkOptions<MemoryOptions>(
      'Ottla.memory',
      {
        clock: (value) => (isClock(value) ? null : 'a Clock'),
        seed: integer(Number.MIN_SAFE_INTEGER),
        faults: (value) => (typeof value === 'object' && value !== null ? null : 'Faults'),
        maxBytes: integer(1),
        offsetsRetentionMs: integer(1),
      },
      options,
    );
    const { clock = systemClock, seed, faults, ...limits } = options;
    const random = seed === undefined ? Math.random : seeded(seed);
    return new Ottla(openMemory(clock, random, limits, faults), faults);
  }

  /**
   * A producer. All producers share the batches that are open: several cost no more than one.
   * @throws CLOSED; INVALID_REQUEST in read-only mode; TypeError, RangeError for options
   */
  producer(options?: ProducerOptions): Producer {
    this.#refuseClosed();
    const producer = new Producer(this.#engine, this.#clock, this.#random, options, {
      error: (error) => this.#events.emit('error', error),
      closed: () => this.#producers.delete(producer),
    });
    this.#producers.add(producer);
    return producer;
  }

  /**
   * A consumer; it joins its group at the first ready() or iteration.
   * @throws CLOSED; INVALID_REQUEST for a group in read-only mode; TypeError, RangeError for options
   */
  consumer<const T extends readonly Subscribable[] = readonly string[]>(
    options: ConsumerOptions<T>,
  ): Consumer<Subscribed<T[number]>> {
    this.#refuseClosed();
    const consumer = new Consumer<Subscribed<T[number]>>(
      this.#engine,
      this.#clock,
      this.#random,
      options,
      {
        beforeHandler: this.#faults.beforeHandler?.bind(this.#faults),
        warning: (warning) => this.#events.emit('warning', warning),
        error: (error: OttlaError) => this.#events.emit('error', error),
        closed: () => this.#consumers.delete(consumer),
      },
    );
    this.#consumers.add(consumer);
    return consumer;
  }

  /**
   * Reads a topic without a group.
   * @throws CLOSED; TypeError for options; while iterating UNKNOWN_TOPIC_OR_PARTITION,
   *   OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, INVALID_RECORD
   */
  read<const T extends TopicRef>(topic: T, options?: ReadOptions): TopicReading<T> {
    this.#refuseClosed();
    return new TopicReading(this.#engine, topic, options, (warning) =>
      this.#events.emit('warning', warning),
    );
  }

  /**
   * Sends the records of a dead-letter topic back to the topics and partitions that they came from, as they
   * were, in order, up to the end at the call. What was sent back is committed for a group, so that the next
   * call begins behind it; a crash in between may send some twice. The letters stay where they are.
   * @returns how many were sent back
   * @throws UNKNOWN_TOPIC_OR_PARTITION, also for a topic that a letter came from; INVALID_RECORD for a record
   *   that is no dead letter; NON_EMPTY_GROUP; CLOSED; TypeError
   */
  async redrive(topic: TopicRef, options: RedriveOptions = {}): Promise<number> {
    const producer = this.producer();
    try {
      return await redrive(this.#engine, producer, topic, options);
    } finally {
      await producer.close();
    }
  }

  /**
   * Resolves when everything sent is written, and every group with a member here has committed all
   * there is in its topics; with `groups`, each of these.
   * @throws ABORTED when the signal aborts, saying who is behind; GROUP_ID_NOT_FOUND for a group without
   *   members, commits and consumers; what a run() of theirs has failed with, if nobody awaits that: the group
   *   would never get there
   */
  async idle(
    options: { readonly groups?: readonly string[]; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    this.#refuseClosed();
    checkOptions('idle', { groups: listOfStrings, signal: aSignal }, options);
    await this.#engine.idle(options.groups, options.signal);
  }

  /**
   * Calls `listener` with each 'error' (an OttlaError: a batch, an automatic commit or a hook that failed,
   * once each, whether somebody awaits it or not) or 'warning' (a sentence). Without a listener both
   * become warnings of the process; what a listener throws does too.
   * @returns this
   * @throws TypeError for another event
   */
  on<E extends keyof Events>(event: E, listener: Events[E]): this {
    this.#events.on(event, listener);
    return this;
  }

  /** Calls `listener` no more. @returns this */
  off<E extends keyof Events>(event: E, listener: Events[E]): this {
    this.#events.off(event, listener);
    return this;
  }

  /**
   * Copies all of it, while it is in use, to a directory that is empty or is made: topics with their
   * records, groups with their commits. The copy is that of a moment between call and end: every record
   * that was acknowledged before the call is in it, and no commit is ahead of its log. It is durable once
   * this resolves, and opens as any data directory: as the same store, with the same ids. Of
   * `Ottla.memory()` too. `Ottla.verify()` checks it.
   *
   * A copy that failed or was interrupted is left as it is and cannot be opened.
   * @throws KAFKA_STORAGE_ERROR, also if the directory is not empty; CORRUPT_MESSAGE if a file is shorter
   *   than it must be; INVALID_REQUEST in read-only mode; ABORTED; CLOSED
   */
  async backup(directory: string, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#refuseClosed();
    checkDirectoryPath('backup', directory);
    checkOptions<{ readonly signal?: AbortSignal }>('backup', { signal: aSignal }, options);
    const { backupTo } = await import('./backup.js');
    const { signal } = options;
    const ending = this.#ending.signal;
    const ended = signal === undefined ? ending : AbortSignal.any([signal, ending]);
    try {
      await backupTo(this.#directory.broker.backupSource, directory, ended);
    } catch (error) {
      this.#refuseClosed();
      throw error;
    }
  }

  #refuseClosed(): void {
    if (this.#closing !== null) throw new OttlaError('CLOSED', 'this Ottla is closed');
  }

  /**
   * Closes the servers and consumers, flushes and closes the producers, makes everything durable, lets go of the
   * directory. Idempotent. A failure that nobody awaits ends no process: the 'error' event tells it.
   * @throws REQUEST_TIMED_OUT if that takes longer than timeoutMs, in ms: it goes on all the same
   */
  close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    return watched(this.#closeWithin(options), this.#clock, (error) => this.#events.unheard(error));
  }

  async #closeWithin(options: { readonly timeoutMs?: number }): Promise<void> {
    checkOptions('close', { timeoutMs: milliseconds }, options);
    this.#closing ??= this.#close();
    await withDeadline(this.#clock, this.#closing, options.timeoutMs, 'close');
  }

  async #close(): Promise<void> {
    this.#ending.abort();
    try {
      await allClosed(this.#servers.keys());
      await allClosed(this.#consumers);
      await allClosed(this.#producers);
    } finally {
      await this.#closeEngine();
    }
  }

  async #closeEngine(): Promise<void> {
    try {
      await this.#engine.close();
    } finally {
      doNotFlushAtExit(this.#engine);
      this.#directory.release();
    }
  }

  /** As close(): for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function checkDirectoryPath(where: string, directory: string): void {
  if (typeof directory === 'string' && directory !== '') return;
  throw new TypeError(`${where}: expected the path of a directory, got ${got(directory)}`);
}

const listOfStrings = (value: unknown): string | null =>
  Array.isArray(value) && value.every((item) => typeof item === 'string')
    ? null
    : 'a list of group ids';

function isClock(value: unknown): boolean {
  const methods = ['now', 'monotonic', 'after', 'soon'];
  return methods.every(
    (method) => typeof (value as Record<string, unknown> | null)?.[method] === 'function',
  );
}

/** Numbers from 0 to below 1, the same for the same seed: Marsaglia's xorshift on 32 bits. */
function seeded(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const open = new Set<Engine>();

/** What is taken over is written when the process exits: one listener for however many are open. */
function flushAtExit(engine: Engine): void {
  if (open.size === 0) process.on('exit', flushAll);
  open.add(engine);
}

function doNotFlushAtExit(engine: Engine): void {
  open.delete(engine);
  if (open.size === 0) process.off('exit', flushAll);
}

function flushAll(): void {
  for (const engine of open) engine.flushNow();
}
