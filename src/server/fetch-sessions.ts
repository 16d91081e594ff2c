import type { Clock } from '../clock.js';
import { FetchPlace, type FetchAsk } from './fetch-place.js';
import { WireError } from './protocol/errors.js';

/** One partition that a client fetches. */
export interface FetchedPartition {
  readonly topic: string;
  readonly partition: number;
  ask: FetchAsk;
  readonly place: FetchPlace;
  /** What the client was last told in this session; null: nothing, or an error. */
  told: { readonly highWatermark: number; readonly logStartOffset: number } | null;
}

/** What a fetch says of partitions. */
export interface FetchedTopics {
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly ({ readonly partition: number } & FetchAsk)[];
  }[];
  readonly forgottenTopicsData: readonly {
    readonly topic: string;
    readonly partitions: readonly number[];
  }[];
  readonly sessionId: number;
  readonly sessionEpoch: number;
}

/** Of a fetch that belongs to no session, or ends one. */
const finalEpoch = -1;
const firstEpoch = 0;

/** Kafka's max.incremental.fetch.session.cache.slots. */
const maxSessions = 1000;
/** Kafka's min.incremental.fetch.session.eviction.ms. */
const evictionMs = 120_000;
/** Partitions in all sessions. */
const maxPartitions = 1_000_000;

/** What one client fetches again and again, so that its requests name only what changes (KIP-227). */
export class FetchSession {
  readonly id: number;
  /** In the order in which they are read: those that gave records last come last. */
  readonly partitions: Map<string, FetchedPartition>;
  epoch: number = firstEpoch + 1;
  usedAt: number;
  /** A request of it is being answered. */
  isBusy = false;

  constructor(id: number, partitions: Map<string, FetchedPartition>, usedAt: number) {
    this.id = id;
    this.partitions = partitions;
    this.usedAt = usedAt;
  }
}

/** One fetch: what it is to read. */
export interface OpenFetch {
  readonly partitions: ReadonlyMap<string, FetchedPartition>;
  /** null: it belongs to none. */
  readonly session: FetchSession | null;
  /** Only what has changed is answered. */
  readonly isIncremental: boolean;
}

/** The fetch sessions of a server. */
export class FetchSessions {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #sessions = new Map<number, FetchSession>();

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** @throws FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH */
  open(request: FetchedTopics): OpenFetch {
    const { sessionId, sessionEpoch } = request;
    if (sessionEpoch !== finalEpoch && sessionEpoch !== firstEpoch) return this.#goOn(request);
    this.#sessions.delete(sessionId);
    const partitions = new Map<string, FetchedPartition>();
    update(partitions, request);
    const isKept = sessionEpoch === firstEpoch && partitions.size > 0;
    const session = isKept ? this.#begin(partitions) : null;
    return { partitions, session, isIncremental: false };
  }

  #goOn(request: FetchedTopics): OpenFetch {
    const { sessionId, sessionEpoch } = request;
    const session = this.#sessions.get(sessionId);
    if (session === undefined) {
      throw new WireError('FETCH_SESSION_ID_NOT_FOUND', `there is no fetch session ${sessionId}`);
    }
    if (session.isBusy || session.epoch !== sessionEpoch) {
      throw new WireError(
        'INVALID_FETCH_SESSION_EPOCH',
        `fetch session ${sessionId}: epoch ${sessionEpoch}, expected ${session.epoch}`,
      );
    }
    const { partitions } = session;
    update(partitions, request);
    session.epoch = session.epoch === 2 ** 31 - 1 ? 1 : session.epoch + 1;
    session.usedAt = this.#clock.monotonic();
    // The one that was used last comes last.
    this.#sessions.delete(sessionId);
    this.#sessions.set(sessionId, session);
    return { partitions, session, isIncremental: true };
  }

  /** null: there is no room for another. */
  #begin(partitions: Map<string, FetchedPartition>): FetchSession | null {
    const now = this.#clock.monotonic();
    let count = partitions.size;
    for (const session of this.#sessions.values()) count += session.partitions.size;
    for (const session of this.#sessions.values()) {
      if (this.#sessions.size < maxSessions && count <= maxPartitions) break;
      if (session.isBusy || now - session.usedAt < evictionMs) return null;
      this.#sessions.delete(session.id);
      count -= session.partitions.size;
    }
    if (count > maxPartitions) return null;
    let id: number;
    do id = 1 + Math.floor(this.#random() * (2 ** 31 - 1));
    while (this.#sessions.has(id));
    const session = new FetchSession(id, partitions, now);
    this.#sessions.set(id, session);
    return session;
  }
}

function update(
  known: Map<string, FetchedPartition>,
  { topics, forgottenTopicsData }: FetchedTopics,
): void {
  for (const { topic, partitions } of topics) {
    for (const { partition, ...ask } of partitions) {
      const key = `${topic}-${partition}`;
      const found = known.get(key);
      if (found === undefined) {
        known.set(key, { topic, partition, ask, place: new FetchPlace(), told: null });
      } else {
        found.ask = ask;
      }
    }
  }
  for (const { topic, partitions } of forgottenTopicsData) {
    for (const partition of partitions) known.delete(`${topic}-${partition}`);
  }
}
