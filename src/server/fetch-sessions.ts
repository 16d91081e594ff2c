import type { Clock } from '../clock.js';
import { FetchPlace, type FetchAsk } from './fetch-place.js';
import type { NamedTopic } from './topic-lookup.js';
import { WireError } from './protocol/errors.js';

/** One partition that a client fetches. */
export interface FetchedPartition extends NamedTopic {
  readonly partition: number;
  ask: FetchAsk;
  readonly place: FetchPlace;
  /** What the client was last told in this session; null: nothing, or an error. */
  told: { readonly highWatermark: number; readonly logStartOffset: number } | null;
}

/** What a fetch says of partitions. */
export interface FetchedTopics {
  readonly topics: readonly (NamedTopic & {
    readonly partitions: readonly ({ readonly partition: number } & FetchAsk)[];
  })[];
  readonly forgottenTopicsData: readonly (NamedTopic & {
    readonly partitions: readonly number[];
  })[];
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
  /** Whether its requests name topics by their ids. */
  readonly usesIds: boolean;
  /** A request of it is being answered. */
  isBusy = false;

  constructor(
    id: number,
    partitions: Map<string, FetchedPartition>,
    usedAt: number,
    usesIds: boolean,
  ) {
    this.id = id;
    this.usesIds = usesIds;
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
  /** In all of them. */
  #partitionCount = 0;

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** @throws FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR */
  open(request: FetchedTopics, usesIds: boolean): OpenFetch {
    const { sessionId, sessionEpoch } = request;
    if (sessionEpoch !== finalEpoch && sessionEpoch !== firstEpoch)
      return this.#goOn(request, usesIds);
    this.#end(sessionId);
    const partitions = new Map<string, FetchedPartition>();
    update(partitions, request);
    const isKept = sessionEpoch === firstEpoch && partitions.size > 0;
    const session = isKept ? this.#begin(partitions, usesIds) : null;
    return { partitions, session, isIncremental: false };
  }

  #goOn(request: FetchedTopics, usesIds: boolean): OpenFetch {
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
    if (session.usesIds !== usesIds) {
      throw new WireError(
        'FETCH_SESSION_TOPIC_ID_ERROR',
        'topics by name and by id in one session',
      );
    }
    const { partitions } = session;
    const before = partitions.size;
    update(partitions, request);
    this.#partitionCount += partitions.size - before;
    if (partitions.size > before && this.#partitionCount > maxPartitions) {
      // As one that had to make room for others: the client begins anew.
      this.#end(sessionId);
      throw new WireError(
        'FETCH_SESSION_ID_NOT_FOUND',
        `fetch session ${sessionId} took more partitions than all may have, ${maxPartitions}`,
      );
    }
    session.epoch = session.epoch === 2 ** 31 - 1 ? 1 : session.epoch + 1;
    session.usedAt = this.#clock.monotonic();
    // The one that was used last comes last.
    this.#sessions.delete(sessionId);
    this.#sessions.set(sessionId, session);
    return { partitions, session, isIncremental: true };
  }

  #end(sessionId: number): void {
    this.#partitionCount -= this.#sessions.get(sessionId)?.partitions.size ?? 0;
    this.#sessions.delete(sessionId);
  }

  /** null: there is no room for another. */
  #begin(partitions: Map<string, FetchedPartition>, usesIds: boolean): FetchSession | null {
    const now = this.#clock.monotonic();
    const room = maxPartitions - partitions.size;
    for (const session of this.#sessions.values()) {
      if (this.#sessions.size < maxSessions && this.#partitionCount <= room) break;
      if (session.isBusy || now - session.usedAt < evictionMs) return null;
      this.#end(session.id);
    }
    if (this.#partitionCount > room) return null;
    let id: number;
    do id = 1 + Math.floor(this.#random() * (2 ** 31 - 1));
    while (this.#sessions.has(id));
    const session = new FetchSession(id, partitions, now, usesIds);
    this.#sessions.set(id, session);
    this.#partitionCount += partitions.size;
    return session;
  }
}

/** Of a partition among those of a session. */
export function keyOf({ topic, topicId }: NamedTopic, partition: number): string {
  return `${topic === '' ? topicId : topic}-${partition}`;
}

function update(
  known: Map<string, FetchedPartition>,
  { topics, forgottenTopicsData }: FetchedTopics,
): void {
  for (const named of topics) {
    const { topic, topicId } = named;
    for (const { partition, ...ask } of named.partitions) {
      const key = keyOf(named, partition);
      const found = known.get(key);
      if (found === undefined) {
        known.set(key, { topic, topicId, partition, ask, place: new FetchPlace(), told: null });
      } else {
        found.ask = ask;
      }
    }
  }
  for (const named of forgottenTopicsData) {
    for (const partition of named.partitions) known.delete(keyOf(named, partition));
  }
}
