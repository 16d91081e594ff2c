import assert from 'node:assert/strict';
import type { Assignor, TopicPartition } from '../src/assignor.js';
import { GroupCoordinator, type CoordinatorOptions, type GroupTopic } from '../src/group.js';
import { ManualClock } from './manual-clock.js';

/** Marsaglia's xorshift, 32 bits: a seed replays. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    // Seeds that are neighbours must not begin alike; 0 would stay 0.
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1;
    for (let i = 0; i < 8; i++) this.below(1);
  }

  below(bound: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % bound;
  }

  happens(inHundred: number): boolean {
    return this.below(100) < inHundred;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** Some of them, at least one. */
  some<T>(list: readonly T[]): T[] {
    const chosen = list.filter(() => this.happens(60));
    return chosen.length === 0 ? [this.pick(list)] : chosen;
  }
}

/** The id of a topic in the world. */
export function idOf(name: string): string {
  return `id of ${name}`;
}

export function nameOf(id: string): string {
  return id.slice(idOf('').length);
}

/** Topics with so many partitions, as a coordinator looks them up. */
export function topicsOf(
  counts: ReadonlyMap<string, number>,
): Pick<CoordinatorOptions, 'findTopic' | 'topics'> {
  const topic = (name: string, partitionCount: number): GroupTopic => ({
    id: idOf(name),
    name,
    partitionCount,
  });
  return {
    findTopic: (name) => {
      const count = counts.get(name);
      return count === undefined ? undefined : topic(name, count);
    },
    topics: () => Array.from(counts, ([name, count]) => topic(name, count)),
  };
}

export function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}-${partition}`;
}

/** One partition: how many records it has, and how often each was processed. */
export class Log {
  readonly at: TopicPartition;
  committed = 0;
  /** By offset; its length is the log's end. */
  readonly seen: number[] = [];
  /** By offset: how often it may have been processed beyond once. */
  readonly mayRepeat: number[] = [];

  constructor(at: TopicPartition) {
    this.at = at;
  }

  append(count: number): void {
    for (let i = 0; i < count; i++) {
      this.seen.push(0);
      this.mayRepeat.push(0);
    }
  }

  processed(offset: number): void {
    this.seen[offset]!++;
    const most = 1 + this.mayRepeat[offset]!;
    assert.ok(
      this.seen[offset]! <= most,
      `${keyOf(this.at)}: offset ${offset} was processed ${this.seen[offset]} times, at most ${most} expected`,
    );
  }
}

/** Who reads in the world, whichever way it is in the group. */
export interface Reader {
  readonly name: string;
  readonly topics: readonly string[];
  /** What it reads now, unless it has been left behind without knowing. */
  owned(): Iterable<string>;
  /** A little of what it has to do: one record, one commit, one step of a rebalance. */
  work(): void;
  /** Looks at the time. */
  tick(): void;
  /** Notices that the group goes on without it, as only the world can. */
  lookAround(): void;
  isStalled: boolean;
  readonly isOver: boolean;
  leave(): void;
  die(): void;
}

/** Topics, logs and commits, and the coordinator of one group on virtual time. */
export class World {
  readonly chance: Chance;
  readonly assignor: Assignor;
  /** Nobody dies, stalls or is late. */
  readonly isOrderly: boolean;
  readonly clock: ManualClock = new ManualClock({ queued: true });
  readonly counts: Map<string, number> = new Map();
  readonly logs: Map<string, Log> = new Map();
  readonly coordinator: GroupCoordinator;
  readers: Reader[] = [];
  /** Commits that are being written, in order. */
  #writes: { readonly offsets: ReadonlyMap<string, number>; readonly done: () => void }[] = [];
  #made = 0;
  #generation = 0;

  constructor(chance: Chance, assignor: Assignor, isOrderly: boolean) {
    this.chance = chance;
    this.assignor = assignor;
    this.isOrderly = isOrderly;
    this.coordinator = new GroupCoordinator({
      clock: this.clock,
      ...topicsOf(this.counts),
      newMemberId: (prefix) => this.newId(prefix),
      lastGeneration: () => this.#generation,
      generationBegan: (_groupId, { generation }) => {
        assert.equal(generation, this.#generation + 1);
        this.#generation = generation;
      },
    });
  }

  newId(prefix: string): string {
    return `${prefix}-${++this.#made}`;
  }

  addPartitions(topic: string, more: number): void {
    const before = this.counts.get(topic) ?? 0;
    for (let partition = before; partition < before + more; partition++) {
      this.logs.set(keyOf({ topic, partition }), new Log({ topic, partition }));
    }
    this.counts.set(topic, before + more);
    this.coordinator.topicsChanged();
  }

  /** How long a rebalance waits for somebody. */
  patienceMs(most: number): number {
    return this.isOrderly ? 10_000_000 : 1 + this.chance.below(most);
  }

  produce(): void {
    this.chance.pick([...this.logs.values()]).append(1 + this.chance.below(5));
  }

  /** Later durable, in the order of the calls. */
  commit(offsets: ReadonlyMap<string, number>, done: () => void): void {
    this.#writes.push({ offsets, done });
  }

  write(count: number = this.#writes.length): void {
    for (const { offsets, done } of this.#writes.splice(0, count)) {
      for (const [key, offset] of offsets) this.logs.get(key)!.committed = offset;
      done();
    }
  }

  /** Where a group goes on: behind the commits that are being written too. */
  startOf(key: string): number {
    const written = this.#writes.findLast(({ offsets }) => offsets.has(key));
    return written?.offsets.get(key) ?? this.logs.get(key)!.committed;
  }

  /** Its owner went without a word: what it has not committed comes again. */
  abandoned(key: string, position: number): void {
    const { committed, mayRepeat } = this.logs.get(key)!;
    // What is being written may set the place back.
    const written = this.#writes.map(({ offsets }) => offsets.get(key) ?? committed);
    for (let at = Math.min(committed, ...written); at < position; at++) mayRepeat[at]!++;
  }

  get isWriting(): boolean {
    return this.#writes.length > 0;
  }

  async advance(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      await this.clock.advance(Math.min(left, 1000));
      if (this.chance.happens(50)) for (const reader of this.readers) reader.work();
      for (const reader of this.readers) reader.tick();
      await this.clock.settle();
      this.check();
    }
  }

  /** What holds at any time. */
  check(): void {
    this.readers = this.readers.filter(({ isOver }) => !isOver);
    const owners = new Map<string, Reader>();
    for (const reader of this.readers) {
      reader.lookAround();
      for (const key of reader.owned()) {
        assert.ok(
          !owners.has(key),
          `${key} has two owners, ${owners.get(key)?.name} and ${reader.name}`,
        );
        owners.set(key, reader);
      }
    }
    const described = this.coordinator.describe('g');
    if (described?.state !== 'Stable') return;
    const given = new Set<string>();
    for (const { assignment, memberId } of described.members) {
      for (const at of assignment) {
        assert.ok(!given.has(keyOf(at)), `${memberId} was given ${keyOf(at)} as well`);
        given.add(keyOf(at));
      }
    }
  }

  /** Until everybody has come to rest and read all there is. */
  async rest(): Promise<void> {
    for (const reader of this.readers) reader.isStalled = false;
    for (let i = 0; i < 2000 && !this.#isAtRest; i++) {
      this.write();
      for (const reader of this.readers) reader.work();
      if (i % 20 === 19) await this.advance(1000);
      else await this.clock.settle();
    }
    const { state } = this.coordinator.describe('g') ?? {};
    assert.equal(state, 'Stable');
    this.check();
    const owned = this.readers.flatMap((reader) => [...reader.owned()]);
    assert.deepEqual(owned.toSorted(), this.#read().toSorted(), 'every partition is owned');
    for (const key of owned) {
      const { committed, seen } = this.logs.get(key)!;
      assert.equal(committed, seen.length, `${key} is committed to its end`);
      const skipped = seen.findIndex((times) => times === 0);
      assert.equal(skipped, -1, `${key}: offset ${skipped} was skipped`);
    }
  }

  /** The partitions that somebody subscribes to. */
  #read(): string[] {
    const topics = new Set(this.readers.flatMap((reader) => reader.topics));
    return [...this.logs].flatMap(([key, { at }]) => (topics.has(at.topic) ? [key] : []));
  }

  get #isAtRest(): boolean {
    if (this.isWriting || this.coordinator.describe('g')?.state !== 'Stable') return false;
    const owned = new Set(this.readers.flatMap((reader) => [...reader.owned()]));
    return this.#read().every((key) => {
      const { committed, seen } = this.logs.get(key)!;
      return owned.has(key) && committed === seen.length;
    });
  }
}
