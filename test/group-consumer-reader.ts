import type { TopicPartition } from '../src/assignor.js';
import type { ConsumerHeartbeatAnswer } from '../src/group-consumer.js';
import { Worker } from './group-readers.js';
import { idOf, keyOf, nameOf, type World } from './group-world.js';

const heartbeatMs = 3000;

/** A member of the consumer protocol (KIP-848), which acts as Kafka's clients do. */
export class ConsumerReader extends Worker {
  readonly instanceId: string | null;
  readonly #memberId: string;
  readonly #rebalanceTimeoutMs: number;
  #epoch = 0;
  #heardAt = -Infinity;
  /** The next heartbeat tells everything. */
  #isWhole = true;
  /** There is something to tell at once. */
  #isDue = true;
  /** What it has said that it owns. */
  #said = '';
  #isLeaving = false;

  /** @param instanceId that of one that has gone, or may only be slow; null: none; undefined: of its own, or none */
  constructor(world: World, topics: readonly string[], instanceId?: string | null) {
    super(world, topics);
    this.#memberId = world.newId('consumer');
    const isStatic = instanceId === undefined && world.chance.happens(30);
    this.instanceId = isStatic ? world.newId('instance') : (instanceId ?? null);
    this.#rebalanceTimeoutMs = 5000 + world.patienceMs(60_000);
    this.#heartbeat();
  }

  get name(): string {
    return `${this.#memberId} ${this.instanceId ?? ''}`;
  }

  tick(): void {
    this.lookAround();
    if (this.isOver || this.isStalled) return;
    this.settle();
    if (this.#isLeaving && this.places.size === 0) this.#leave();
    if (this.isOver) return;
    if (!this.world.isOrderly && this.world.chance.happens(3)) this.#changeTopics();
    const isLate = this.world.clock.monotonic() >= this.#heardAt + heartbeatMs;
    if (this.#isDue || isLate) this.#heartbeat();
  }

  #changeTopics(): void {
    this.topics = this.world.chance.some([...this.world.counts.keys()]);
    this.#isWhole = true;
    this.#isDue = true;
  }

  /** Whether the group goes on without it: its session ended, or it gave up too slowly. */
  override lookAround(): void {
    if (this.places.size === 0 || this.isLeftBehind) return;
    const { members = [] } = this.world.coordinator.describe('g') ?? {};
    if (!members.some(({ memberId }) => memberId === this.#memberId)) this.#leftBehind();
  }

  #leftBehind(): void {
    for (const [key, { processed }] of this.places) this.world.abandoned(key, processed);
    this.isLeftBehind = true;
  }

  #ask(memberEpoch: number, isWhole: boolean): ConsumerHeartbeatAnswer {
    const owned = [...this.places.values()].map(({ at: { topic, partition } }) => ({
      topic: idOf(topic),
      partition,
    }));
    const said = JSON.stringify(owned);
    const isNew = isWhole || said !== this.#said;
    this.#said = said;
    return this.world.coordinator.consumerHeartbeat({
      groupId: 'g',
      memberId: this.#memberId,
      memberEpoch,
      instanceId: isWhole ? this.instanceId : null,
      rackId: null,
      rebalanceTimeoutMs: isWhole ? this.#rebalanceTimeoutMs : -1,
      clientId: 'consumer',
      clientHost: '',
      topics: isWhole ? this.topics : null,
      pattern: null,
      assignor: isWhole && this.world.assignor.name === 'range' ? 'range' : null,
      owned: isNew ? owned : null,
    });
  }

  #heartbeat(): void {
    this.#heardAt = this.world.clock.monotonic();
    this.#isDue = false;
    const answer = this.#ask(this.#epoch, this.#isWhole);
    // Whoever is not answered tells everything again.
    this.#isWhole = !this.world.isOrderly && this.world.chance.happens(10);
    if (this.#isWhole) return;
    if (answer.errorCode !== null) this.#refused(answer.errorCode);
    else this.#goOn(answer);
  }

  #goOn({ memberEpoch, assignment }: ConsumerHeartbeatAnswer): void {
    this.#epoch = memberEpoch;
    if (assignment === null || this.#isLeaving) return;
    const given = assignment.map(({ topic, partition }): TopicPartition => ({
      topic: nameOf(topic),
      partition,
    }));
    const keys = new Set(given.map(keyOf));
    for (const [key, place] of this.places) if (!keys.has(key)) place.isLeaving = true;
    for (const at of given) {
      if (this.places.has(keyOf(at))) continue;
      this.begin(at);
      this.#isDue = true;
    }
  }

  #refused(error: ConsumerHeartbeatAnswer['errorCode']): void {
    // Its instance is taken still: it tries again.
    if (error === 'UNRELEASED_INSTANCE_ID') {
      this.#isWhole = true;
      return;
    }
    this.abandon(this.places.keys());
    this.isLeftBehind = false;
    this.#epoch = 0;
    this.#isWhole = true;
    if (error === 'FENCED_INSTANCE_ID') this.isOver = true;
  }

  protected doneLeaving(): void {
    for (const [key, { isLeaving }] of this.places) if (isLeaving) this.places.delete(key);
    this.#isDue = true;
  }

  protected mayCommit(): boolean {
    const identity = { memberId: this.#memberId, groupInstanceId: null };
    const error = this.world.coordinator.checkCommit('g', identity, this.#epoch);
    if (error === 'UNKNOWN_MEMBER_ID') this.#refused(error);
    return error === null;
  }

  /** An orderly close. */
  leave(): void {
    this.#isLeaving = true;
    this.isStalled = false;
    for (const place of this.places.values()) {
      place.isLeaving = true;
      place.position = place.processed;
    }
    this.settle();
    if (this.places.size === 0) this.#leave();
  }

  #leave(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.#epoch === 0) return;
    const isComing = this.instanceId !== null && this.world.chance.happens(50);
    this.#ask(isComing ? -2 : -1, true);
    if (isComing) {
      this.world.readers.push(new ConsumerReader(this.world, this.topics, this.instanceId));
    }
  }

  /** Without a word. */
  die(): void {
    if (!this.isLeftBehind) this.#leftBehind();
    this.isOver = true;
  }
}
