import assert from 'node:assert/strict';
import {
  Ottla,
  type Consumer,
  type ConsumerBatch,
  type ConsumerRecord,
  type OttlaError,
  type TopicPartition,
} from '../src/index.js';
import { FaultInjector, VirtualClock } from '../src/testing/index.js';
import { keyOf, type Chance } from './group-world.js';

/** Ways to read that do not know what another way has finished beyond a commit are not mixed. */
export const waysToIterate = [
  'records',
  'batches',
  'commit',
  'commit later',
  'batch commit',
] as const;
export const waysToRun = ['run', 'run by key', 'run batches'] as const;
export type Way = (typeof waysToIterate)[number] | (typeof waysToRun)[number];

/** One partition: how often each record was processed by who owned it. */
class Log {
  readonly seen: number[] = [];
  /** Who handles it now, and has not lost it. */
  readonly atWork: Map<Member, number> = new Map();
}

/** Topics, their records, and the members of one group, all through the public API, in virtual time. */
export class ConsumerWorld {
  readonly chance: Chance;
  /** Nobody stalls, is cut off or meets a full disk: then each record is processed once. */
  readonly isOrderly: boolean;
  readonly ways: readonly Way[];
  readonly clock: VirtualClock = new VirtualClock();
  readonly faults: FaultInjector = new FaultInjector();
  readonly ottla: Ottla;
  readonly logs: Map<string, Log> = new Map();
  members: Member[] = [];
  #isResting = false;
  readonly #assignor: (typeof assignorNames)[number];
  readonly #producer;

  constructor(chance: Chance, isOrderly: boolean, ways: readonly Way[]) {
    this.chance = chance;
    this.isOrderly = isOrderly;
    this.ways = ways;
    this.#assignor = chance.pick(assignorNames);
    const { clock, faults } = this;
    this.ottla = Ottla.memory({ clock, faults, seed: chance.below(1e9) });
    this.ottla.on('error', (error) => this.#told(error));
    this.ottla.on('warning', (warning) => this.#told(warning));
    this.#producer = this.ottla.producer({ acks: 1 });
  }

  #told(what: unknown): void {
    assert.ok(!this.isOrderly, `told: ${String(what)}`);
  }

  async addTopic(name: string, partitions: number): Promise<void> {
    if ((await this.ottla.topics.list()).includes(name)) return;
    await this.ottla.topics.create(name, { partitions });
    await this.#addLogs(name);
  }

  async addPartitions(name: string): Promise<void> {
    const { partitions } = await this.ottla.topics.describe(name);
    await this.ottla.topics.addPartitions(name, partitions.length + 1 + this.chance.below(2));
    await this.#addLogs(name);
  }

  async #addLogs(topic: string): Promise<void> {
    for (const { partition } of (await this.ottla.topics.describe(topic)).partitions) {
      const key = keyOf({ topic, partition });
      if (!this.logs.has(key)) this.logs.set(key, new Log());
    }
  }

  async produce(key: string = this.chance.pick([...this.logs.keys()])): Promise<void> {
    const [topic, partition] = key.split('-') as [string, string];
    const count = 1 + this.chance.below(8);
    for (let i = 0; i < count; i++) this.logs.get(key)!.seen.push(0);
    await this.#producer.sendBatch(
      topic,
      Array.from({ length: count }, () => ({
        key: String(this.chance.below(5)),
        value: null,
        partition: Number(partition),
      })),
    );
  }

  join(isOfAll = false): Member {
    const { chance, isOrderly } = this;
    const way = chance.pick(this.ways);
    const topics = isOfAll || chance.happens(30) ? [/^[tuv]$/] : chance.some(['t', 'u']);
    const consumer = this.ottla.consumer({
      group: 'g',
      topics,
      assignor: this.#assignor,
      autoCommit: !way.includes('commit'),
      maxPollRecords: 1 + chance.below(6),
      maxPollIntervalMs: isOrderly ? 1e6 : 8000,
      revokeTimeoutMs: isOrderly ? 1e6 : 2000,
      onLost: (partitions) => member.lost(partitions),
    });
    const member: Member = new Member(this, consumer, way);
    this.members.push(member);
    return member;
  }

  /** How long a handler takes. */
  handlingMs(): number {
    const { chance, isOrderly } = this;
    if (this.#isResting) return 1;
    if (!isOrderly && chance.happens(3)) return 1000 + chance.below(20_000);
    return chance.pick([0, 0, 1, 10, 200]);
  }

  begins(member: Member, at: TopicPartition): void {
    const { atWork } = this.logs.get(keyOf(at))!;
    const other = [...atWork.keys()].find((each) => each !== member);
    assert.equal(other, undefined, `${keyOf(at)} is handled by two members`);
    atWork.set(member, (atWork.get(member) ?? 0) + 1);
  }

  ended(member: Member, at: { topic: string; partition: number; offset: number }): void {
    const { atWork, seen } = this.logs.get(keyOf(at))!;
    const count = atWork.get(member)!;
    if (count === 1) atWork.delete(member);
    else atWork.set(member, count - 1);
    seen[at.offset]!++;
    const isRepeated = this.isOrderly && seen[at.offset]! > 1;
    assert.ok(!isRepeated, `${keyOf(at)}: offset ${at.offset} was processed again`);
  }

  /** What it has at work comes again, to somebody else. */
  isGone(member: Member): void {
    for (const { atWork } of this.logs.values()) atWork.delete(member);
  }

  /** What holds at any time. */
  async check(): Promise<void> {
    for (const { failure } of this.members) if (failure !== null) throw failure;
    this.members = this.members.filter(({ isOver }) => !isOver);
    const owners = new Set<string>();
    for (const { consumer } of this.members) {
      for (const at of consumer.assignment()) {
        assert.ok(!owners.has(keyOf(at)), `${keyOf(at)} has two owners`);
        owners.add(keyOf(at));
      }
    }
    if (!(await this.ottla.groups.list()).includes('g')) return;
    for (const { committed, ...at } of (await this.ottla.groups.describe('g')).partitions) {
      const { seen } = this.logs.get(keyOf(at))!;
      const skipped = seen.findIndex((times) => times === 0);
      const isSkipped = skipped >= 0 && skipped < committed;
      assert.ok(!isSkipped, `${keyOf(at)}: ${committed} is committed, ${skipped} not processed`);
    }
  }

  /** As it settles, within ten minutes of this world's time. */
  async within(promise: Promise<unknown>): Promise<void> {
    const state = { isPending: true };
    const over = (): void => void (state.isPending = false);
    promise.then(over, over);
    await this.clock.settle();
    for (let i = 0; i < 600 && state.isPending; i++) await this.clock.advance(1000);
    assert.ok(!state.isPending, 'something hangs');
    await promise;
  }

  /** Until all that there is has been processed and committed, each partition by its one owner; then to the end. */
  async rest(): Promise<void> {
    this.faults.heal();
    this.#isResting = true;
    for (const member of this.members) member.resumeAll();
    this.join(true);
    // A commit that failed, and that nobody looked at, is made up for by the next one.
    for (const key of this.logs.keys()) await this.produce(key);
    await this.within(this.ottla.idle());
    await this.clock.advance(30_000);
    await this.check();
    const { state, partitions } = await this.ottla.groups.describe('g');
    assert.equal(state, 'Stable');
    for (const { memberId, lag, ...at } of partitions) {
      const { seen } = this.logs.get(keyOf(at))!;
      assert.ok(memberId !== null, `${keyOf(at)} has no owner`);
      assert.equal(lag, 0, `${keyOf(at)}: its lag`);
      assert.equal(seen.indexOf(0), -1, `${keyOf(at)}: a record was skipped`);
    }
    for (const member of this.members) await this.within(member.leave());
    await this.check();
    await this.within(this.ottla.close());
    assert.equal(this.clock.timerCount, 0, 'timers that are left');
  }
}

const assignorNames = ['range', 'roundrobin', 'sticky', 'cooperative-sticky'] as const;

/** A consumer, and the loop or run that reads with it. */
export class Member {
  readonly consumer: Consumer;
  isOver = false;
  failure: unknown = null;
  readonly #world: ConsumerWorld;
  readonly #way: Way;
  /** By partition: how often it was lost. */
  readonly #losses = new Map<string, number>();
  #stopping = new AbortController();
  #isLeaving = false;
  #ended: Promise<void>;

  constructor(world: ConsumerWorld, consumer: Consumer, way: Way) {
    this.#world = world;
    this.consumer = consumer;
    this.#way = way;
    this.#ended = this.#live();
  }

  async #live(): Promise<void> {
    try {
      while (!this.#isLeaving) {
        this.#stopping = new AbortController();
        await this.#read();
      }
    } catch (error) {
      this.#failed(error);
      this.cutOff();
    }
  }

  /** A full disk may end it, or a commit of what it has lost. */
  #failed(error: unknown): void {
    const { code } = error as OttlaError;
    const isExpected = code === 'KAFKA_STORAGE_ERROR' || code === 'ILLEGAL_GENERATION';
    if (this.#world.isOrderly || !isExpected) this.failure = error;
  }

  async #read(): Promise<void> {
    const { consumer } = this;
    const { signal } = this.#stopping;
    if (this.#way.startsWith('run')) {
      const eachRecord = (record: ConsumerRecord): Promise<void> => this.#runAll([record]);
      const eachBatch = (batch: ConsumerBatch): Promise<void> => this.#runAll(batch.records);
      const handler = this.#way === 'run batches' ? { eachBatch } : { eachRecord };
      const by = this.#way === 'run by key' ? 'key' : 'partition';
      await consumer.run({ ...handler, signal, concurrency: { by, max: 3 } });
      return;
    }
    const isBatches = this.#way.includes('batch');
    for await (const each of isBatches ? consumer.batches() : consumer) {
      if (signal.aborted) break;
      if (!(await this.#handleAll('records' in each ? each.records : [each]))) continue;
      if (this.#way.includes('commit')) {
        const commit = each.commit();
        if (this.#way !== 'commit later') await commit;
      }
    }
    if (!signal.aborted) this.#isLeaving = true;
  }

  lost(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) {
      this.#world.logs.get(keyOf(at))!.atWork.delete(this);
      this.#losses.set(keyOf(at), this.#lossesOf(at) + 1);
    }
  }

  #lossesOf(at: TopicPartition): number {
    return this.#losses.get(keyOf(at)) ?? 0;
  }

  /** False: it gave up, since the rest is in vain. */
  async #handleAll(records: readonly ConsumerRecord[]): Promise<boolean> {
    for (const record of records) if (!(await this.#handle(record))) return false;
    return true;
  }

  /** As #handleAll(), for a handler, which says that it is done by returning. */
  async #runAll(records: readonly ConsumerRecord[]): Promise<void> {
    if (!(await this.#handleAll(records))) throw new Error('in vain');
  }

  /** False: it has lost the partition meanwhile, so that it counts for nothing. */
  async #handle(record: ConsumerRecord): Promise<boolean> {
    const losses = this.#lossesOf(record);
    this.#world.begins(this, record);
    const ms = this.#world.handlingMs();
    if (ms > 0) await this.#world.clock.sleep(ms);
    if (this.isOver || this.#lossesOf(record) > losses) return false;
    this.#world.ended(this, record);
    return true;
  }

  /** Ends the loop or the run in order, and begins another. */
  begin(): void {
    this.#stopping.abort();
  }

  /** Pauses or resumes one of its partitions. */
  pause(): void {
    const owned = this.consumer.assignment();
    if (owned.length === 0) return;
    const some = [this.#world.chance.pick(owned)];
    if (this.#world.chance.happens(50)) this.consumer.pause(some);
    else this.consumer.resume(some);
  }

  resumeAll(): void {
    this.consumer.resume(this.consumer.assignment());
  }

  async leave(): Promise<void> {
    this.#isLeaving = true;
    this.begin();
    try {
      if (this.#way.startsWith('run')) await this.consumer.stop();
      // What a loop has at work comes to its end; one that waits for records has nothing at work.
      while (this.#isAtWork) await this.#world.clock.sleep(1);
      await this.consumer.close();
      await this.#ended;
    } catch (error) {
      this.#failed(error);
    }
    this.isOver = true;
    this.#world.isGone(this);
  }

  get #isAtWork(): boolean {
    return [...this.#world.logs.values()].some(({ atWork }) => atWork.has(this));
  }

  /** Without waiting for what is in flight. */
  cutOff(): void {
    this.#isLeaving = true;
    this.isOver = true;
    this.#world.isGone(this);
    this.consumer.close().catch(() => undefined);
  }
}
