import type { Assignor, TopicPartition } from '../src/assignor.js';
import type { NativeMember, Ownership } from '../src/group.js';
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
  previousAssignment,
} from '../src/group-protocol.js';
import type {
  GroupErrorCode,
  GroupProtocol,
  JoinGroupAnswer,
  SyncGroupAnswer,
} from '../src/group-remote.js';
import { keyOf, type Reader, type World } from './group-world.js';
import { Asked } from './wire-member.js';

/** How far a reader is in one partition. */
class Place {
  readonly at: TopicPartition;
  /** The next record to take. */
  position: number;
  /** The next offset to commit. */
  processed: number;
  /** The last that was handed to be written, and that is. */
  committing: number;
  committed: number;
  isLeaving = false;

  constructor(at: TopicPartition, committed: number) {
    this.at = at;
    this.position = committed;
    this.processed = committed;
    this.committing = committed;
    this.committed = committed;
  }

  get isInFlight(): boolean {
    return this.position > this.processed;
  }

  get isDone(): boolean {
    return !this.isInFlight && this.processed === this.committed;
  }
}

/** Reads what it owns, one record at a time, and commits now and then. */
export abstract class Worker implements Reader {
  topics: readonly string[];
  isStalled = false;
  isOver = false;
  /** Out of the group without knowing: what it does now is nobody's. */
  protected isLeftBehind = false;
  protected readonly world: World;
  protected readonly places: Map<string, Place> = new Map();

  constructor(world: World, topics: readonly string[]) {
    this.world = world;
    this.topics = topics;
  }

  owned(): Iterable<string> {
    return this.isLeftBehind ? [] : this.places.keys();
  }

  abstract get name(): string;
  /** Whether commits of these are taken now. */
  protected abstract mayCommit(places: readonly Place[]): boolean;
  /** What it has to give up is done and committed. */
  protected abstract doneLeaving(): void;
  abstract tick(): void;
  /** Notices that the group goes on without it, as only the world can. */
  lookAround(): void {}
  abstract leave(): void;
  abstract die(): void;

  work(): void {
    this.lookAround();
    if (this.isStalled || this.isOver) return;
    const { chance } = this.world;
    const places = [...this.places.values()];
    const ready = places.filter(
      (place) => place.isInFlight || (!place.isLeaving && this.#hasMore(place)),
    );
    if (ready.length > 0 && chance.happens(80)) this.#step(chance.pick(ready));
    else this.#commit(places);
    this.settle();
  }

  #hasMore({ at, position }: Place): boolean {
    return position < this.world.logs.get(keyOf(at))!.seen.length;
  }

  /** Takes a record, or finishes the one that is in flight. */
  #step(place: Place): void {
    if (!place.isInFlight) {
      place.position++;
      return;
    }
    if (!this.isLeftBehind) this.world.logs.get(keyOf(place.at))!.processed(place.processed);
    place.processed++;
  }

  #commit(places: readonly Place[]): void {
    const due = places.filter(({ processed, committing }) => processed !== committing);
    if (due.length === 0 || !this.mayCommit(due)) return;
    const offsets = new Map(due.map(({ at, processed }) => [keyOf(at), processed]));
    for (const place of due) place.committing = place.processed;
    this.world.commit(offsets, () => {
      for (const place of due) place.committed = offsets.get(keyOf(place.at))!;
      this.settle();
    });
  }

  /** Hands on what is being given up, once that is in order. */
  protected settle(): void {
    const leaving = [...this.places.values()].filter(({ isLeaving }) => isLeaving);
    if (leaving.length > 0 && leaving.every(({ isDone }) => isDone)) this.doneLeaving();
  }

  protected begin(at: TopicPartition): Place {
    const place = new Place(at, this.world.startOf(keyOf(at)));
    this.places.set(keyOf(at), place);
    return place;
  }

  /** Loses these without a word. */
  protected abandon(keys: Iterable<string>): void {
    for (const key of keys) {
      const place = this.places.get(key);
      if (place === undefined) continue;
      this.places.delete(key);
      // What was in flight was not processed.
      if (!this.isLeftBehind) this.world.abandoned(key, place.processed);
    }
  }
}

/** A member of this process. */
export class NativeReader extends Worker implements NativeMember {
  readonly memberId: string;
  readonly clientId: string = 'native';
  readonly revokeTimeoutMs: number;
  readonly assignor: Assignor;
  readonly #ownerships = new Map<string, Ownership>();
  #isClosing = false;

  constructor(world: World, topics: readonly string[]) {
    super(world, topics);
    this.memberId = world.newId('native');
    this.assignor = world.assignor;
    this.revokeTimeoutMs = world.patienceMs(30_000);
    world.coordinator.join('g', this);
  }

  get name(): string {
    return this.memberId;
  }

  topicsChanged(): boolean {
    return false;
  }

  granted(ownerships: readonly Ownership[]): void {
    for (const ownership of ownerships) {
      this.begin(ownership).isLeaving = this.#isClosing;
      this.#ownerships.set(keyOf(ownership), ownership);
    }
  }

  revoke(ownerships: readonly Ownership[]): boolean {
    let isBusy = false;
    for (const at of ownerships) {
      const place = this.places.get(keyOf(at))!;
      place.isLeaving = true;
      isBusy ||= place.isInFlight;
    }
    return isBusy;
  }

  lost(ownerships: readonly Ownership[]): void {
    const keys = ownerships.map(keyOf);
    this.abandon(keys);
    for (const key of keys) this.#ownerships.delete(key);
  }

  failed(error: Error): void {
    throw error;
  }

  protected mayCommit(places: readonly Place[]): boolean {
    return places.every(({ at }) =>
      this.world.coordinator.owns('g', this.#ownerships.get(keyOf(at))!),
    );
  }

  protected doneLeaving(): void {
    const leaving = [...this.places].filter(([, { isLeaving }]) => isLeaving);
    const released = leaving.map(([key]) => this.#ownerships.get(key)!);
    for (const [key] of leaving) {
      this.places.delete(key);
      this.#ownerships.delete(key);
    }
    if (!this.#isClosing) this.world.coordinator.released('g', released);
    else if (this.places.size === 0) this.#leave();
  }

  tick(): void {
    // Without anything to give up there is nothing to wait for.
    if (this.#isClosing && this.places.size === 0) this.#leave();
    else this.settle();
  }

  /** An orderly close: what is in flight is not waited for, and comes again. */
  leave(): void {
    this.#isClosing = true;
    this.isStalled = false;
    for (const place of this.places.values()) {
      place.isLeaving = true;
      place.position = place.processed;
    }
    this.settle();
  }

  #leave(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.world.coordinator.leave('g', this.memberId);
  }

  /** Its user's code has not come back for too long. */
  die(): void {
    this.isOver = true;
    this.world.coordinator.expel('g', this.memberId);
  }
}

const heartbeatMs = 3000;
const eager = new Set(['range', 'roundrobin', 'sticky']);

/** A member in another process, which acts as Kafka's clients do. */
export class RemoteReader extends Worker {
  readonly instanceId: string | null;
  readonly #rebalanceTimeoutMs: number;
  #memberId = '';
  #generation = -1;
  /** What it had in its last generation, for sticky. */
  #previous: readonly TopicPartition[] = [];
  #doing: 'out' | 'joining' | 'syncing' | 'in' | 'draining' = 'out';
  #joining: Asked<JoinGroupAnswer> | null = null;
  #syncing: Asked<SyncGroupAnswer> | null = null;
  #heardAt = 0;
  #isLeaving = false;

  /** @param instanceId that of one that is taken to be gone, and may only be slow; null: of its own, or none */
  constructor(world: World, topics: readonly string[], instanceId: string | null = null) {
    super(world, topics);
    const isStatic = instanceId === null && world.chance.happens(30);
    this.instanceId = isStatic ? world.newId('instance') : instanceId;
    // Longer than it takes to look at the time.
    this.#rebalanceTimeoutMs = 5000 + world.patienceMs(60_000);
  }

  get name(): string {
    return `${this.#memberId} ${this.instanceId ?? ''} in ${this.#generation}, ${this.#doing}`;
  }

  get #identity(): { readonly memberId: string; readonly groupInstanceId: string | null } {
    return { memberId: this.#memberId, groupInstanceId: this.instanceId };
  }

  get #isEager(): boolean {
    return eager.has(this.world.assignor.name);
  }

  #protocols(): GroupProtocol[] {
    const owned = this.#isEager ? [] : [...this.places.values()].map(({ at }) => at);
    const isSticky = this.world.assignor.name === 'sticky';
    // Sticky's user data: what it had, and since when; laid out as an assignment is, without its ends.
    const previous = encodeAssignment(this.#previous).subarray(2, -4);
    const generation = Buffer.alloc(4);
    generation.writeInt32BE(this.#generation);
    const userData = isSticky ? Buffer.concat([previous, generation]) : null;
    const subscription = { topics: this.topics, userData, owned, generation: this.#generation };
    return [{ name: this.world.assignor.name, metadata: encodeSubscription(subscription) }];
  }

  tick(): void {
    this.lookAround();
    if (this.isOver || this.isStalled) return;
    this.#answered();
    // An answer that it takes up late may be of the past.
    this.lookAround();
    if (this.#doing === 'out') this.#join();
    if (this.#doing === 'in' || this.#doing === 'draining') this.#heartbeat();
    this.settle();
    if (this.#doing === 'draining' && this.places.size === 0) this.#drained();
  }

  /** Whether a generation goes on without it: its session ended, or it was not there for the last join. */
  override lookAround(): void {
    if (this.places.size === 0 || this.isLeftBehind) return;
    const { members = [], generation, state } = this.world.coordinator.describe('g') ?? {};
    const isKnown = members.some(({ memberId }) => memberId === this.#memberId);
    const isIn = this.#doing === 'in' || this.#doing === 'draining';
    const hasMissed = isIn && state === 'Stable' && generation !== this.#generation;
    if (!isKnown || hasMissed) this.#leftBehind();
  }

  #leftBehind(): void {
    for (const [key, { processed }] of this.places) this.world.abandoned(key, processed);
    this.isLeftBehind = true;
  }

  #answered(): void {
    const joined = this.#joining?.answer;
    if (this.#doing === 'joining' && joined != null) this.#joined(joined);
    const synced = this.#syncing?.answer;
    if (this.#doing === 'syncing' && synced != null) this.#synced(synced);
  }

  #join(): void {
    this.#doing = 'joining';
    this.#joining = new Asked(
      this.world.coordinator.joinGroup({
        ...this.#identity,
        groupId: 'g',
        clientId: 'remote',
        clientHost: '',
        sessionTimeoutMs: 10_000,
        rebalanceTimeoutMs: this.#rebalanceTimeoutMs,
        protocolType: 'consumer',
        protocols: this.#protocols(),
        requiresKnownMemberId: true,
        knowsSkipAssignment: true,
      }),
    );
  }

  #joined(answer: JoinGroupAnswer): void {
    this.#doing = 'out';
    if (answer.errorCode === 'MEMBER_ID_REQUIRED') {
      this.#memberId = answer.memberId;
      return;
    }
    if (answer.errorCode !== null) {
      this.#refused(answer.errorCode);
      return;
    }
    this.#memberId = answer.memberId;
    this.#generation = answer.generationId;
    this.#doing = 'syncing';
    const isLeader = answer.leader === answer.memberId && !answer.skipAssignment;
    const shares = isLeader ? this.#assign(answer) : new Map<string, TopicPartition[]>();
    this.#syncing = new Asked(
      this.world.coordinator.syncGroup({
        ...this.#identity,
        groupId: 'g',
        generationId: this.#generation,
        protocolType: 'consumer',
        protocolName: this.world.assignor.name,
        assignments: [...shares].map(([memberId, share]) => ({
          memberId,
          assignment: encodeAssignment(share),
        })),
      }),
    );
  }

  #assign({ members }: JoinGroupAnswer): Map<string, TopicPartition[]> {
    const { name } = this.world.assignor;
    return this.world.assignor.assign({
      partitions: Object.fromEntries(this.world.counts),
      members: members.map(({ memberId, groupInstanceId, metadata }) => {
        const subscription = decodeSubscription(metadata)!;
        const previous = previousAssignment(name, subscription);
        return {
          memberId,
          groupInstanceId: groupInstanceId ?? undefined,
          topics: subscription.topics,
          ...previous,
        };
      }),
    });
  }

  #synced(answer: SyncGroupAnswer): void {
    if (answer.errorCode !== null) {
      this.#doing = 'out';
      this.#refused(answer.errorCode);
      return;
    }
    this.#doing = 'in';
    // What it had belongs to a generation that it has missed since.
    if (this.isLeftBehind) this.places.clear();
    this.isLeftBehind = false;
    this.#heardAt = this.world.clock.monotonic();
    const assigned = decodeAssignment(answer.assignment)!;
    this.#previous = assigned;
    const keys = new Set(assigned.map(keyOf));
    for (const [key, place] of this.places) if (!keys.has(key)) place.isLeaving = true;
    for (const at of assigned) if (!this.places.has(keyOf(at))) this.begin(at);
  }

  #heartbeat(): void {
    const now = this.world.clock.monotonic();
    if (now < this.#heardAt + heartbeatMs) return;
    this.#heardAt = now;
    const error = this.world.coordinator.heartbeat('g', this.#identity, this.#generation);
    if (error === 'REBALANCE_IN_PROGRESS') {
      if (this.#doing === 'in') this.#rejoin();
    } else if (error !== null) this.#refused(error);
  }

  #rejoin(): void {
    if (!this.#isEager) {
      this.#doing = 'out';
      return;
    }
    this.#doing = 'draining';
    for (const place of this.places.values()) place.isLeaving = true;
  }

  protected doneLeaving(): void {
    for (const [key, { isLeaving }] of this.places) if (isLeaving) this.places.delete(key);
    // A cooperative member joins again without what it gave up.
    if (this.#doing === 'in' && !this.#isEager) this.#doing = 'out';
  }

  #drained(): void {
    if (this.#isLeaving) this.#leave();
    else this.#doing = 'out';
  }

  #refused(error: GroupErrorCode): void {
    if (error === 'REBALANCE_IN_PROGRESS') {
      this.#rejoin();
      if (this.#doing === 'draining' && this.places.size === 0) this.#drained();
      return;
    }
    this.abandon(this.places.keys());
    this.isLeftBehind = false;
    this.#doing = 'out';
    this.#generation = -1;
    if (error === 'FENCED_INSTANCE_ID') this.isOver = true;
    if (error === 'UNKNOWN_MEMBER_ID') this.#memberId = '';
  }

  protected mayCommit(): boolean {
    if (this.#doing === 'joining' || this.#doing === 'syncing') return false;
    const error = this.world.coordinator.checkCommit('g', this.#identity, this.#generation);
    if (error !== null && error !== 'REBALANCE_IN_PROGRESS') this.#refused(error);
    return error === null;
  }

  /** An orderly close, unless a rebalance is going on: then it stays. */
  leave(): void {
    if (this.#doing !== 'in') return;
    this.#isLeaving = true;
    this.isStalled = false;
    this.#doing = 'draining';
    for (const place of this.places.values()) {
      place.isLeaving = true;
      place.position = place.processed;
    }
  }

  #leave(): void {
    this.isOver = true;
    this.world.coordinator.leaveGroup('g', this.#identity);
  }

  /** Without a word. */
  die(): void {
    if (!this.isLeftBehind) this.#leftBehind();
    this.isOver = true;
  }
}
