import { NOBODY } from './assignment.js';
import type { Assignment } from './assignment.js';

/** Generation of a member that does not tell it: older than any. */
const UNKNOWN_GENERATION = -1;
/** Below every generation: nobody claims the partition. */
const UNCLAIMED = -2;

/** Who says to own what, by partition number. */
interface Claims {
  /** The member with the latest claim; NOBODY without claims and where members tie. */
  readonly holder: Int32Array;
  /** Generation of the latest claim, or UNCLAIMED. */
  readonly generation: Int32Array;
}

/**
 * Decides the owners as Kafka's AbstractStickyAssignor does. Where Kafka's choice follows the order
 * of a Java HashMap, this one follows member ids and partition numbers.
 */
export function assignSticky(assignment: Assignment): void {
  divide(assignment, claimsOf(assignment));
}

/**
 * As assignSticky, less what the cooperative protocol (KIP-429) must not hand over yet: a partition
 * that others claim goes to nobody unless it stays with its holder.
 */
export function assignCooperatively(assignment: Assignment): void {
  const claims = claimsOf(assignment);
  divide(assignment, claims);
  const { owner } = assignment;
  for (let number = 0; number < owner.length; number++) {
    const claimed = claims.generation[number] !== UNCLAIMED;
    if (claimed && claims.holder[number] !== owner[number]) owner[number] = NOBODY;
  }
}

function divide(assignment: Assignment, claims: Claims): void {
  if (assignment.equalSubscriptions) divideEvenly(assignment, claims.holder);
  else new Balancer(assignment, claims.holder).run();
}

/** The latest claims of all members, or of those with a generation below `before`. */
function claimsOf(assignment: Assignment, before = Infinity): Claims {
  const holder = new Int32Array(assignment.partitionCount).fill(NOBODY);
  const generations = new Int32Array(assignment.partitionCount).fill(UNCLAIMED);
  for (const [member, { owned, generation }] of assignment.members.entries()) {
    const claim = generation ?? UNKNOWN_GENERATION;
    if (owned === undefined || claim >= before) continue;
    for (const { topic, partition } of owned) {
      const number = assignment.numberOf(topic, partition);
      if (number === -1) continue;
      const latest = generations[number]!;
      if (claim > latest) {
        holder[number] = member;
        generations[number] = claim;
      } else if (claim === latest && holder[number] !== member) {
        holder[number] = NOBODY;
      }
    }
  }
  return { holder, generation: generations };
}

/**
 * The constrained case: all subscribe to the same topics, so that members end at most one partition
 * apart. Each keeps what it holds up to its share, then the rest is dealt out in turn.
 */
function divideEvenly(assignment: Assignment, holder: Int32Array): void {
  const { members, owner } = assignment;
  const least = Math.floor(owner.length / members.length);
  let extras = owner.length % members.length;

  const held = new Int32Array(members.length);
  for (const member of holder) if (member !== NOBODY) held[member]!++;

  // What each keeps: `least`, or one more for as many members as the remainder allows.
  const room = new Int32Array(members.length);
  let below: number[] = [];
  const level: number[] = [];
  for (let member = 0; member < members.length; member++) {
    const count = held[member]!;
    room[member] = Math.min(count, least);
    if (count < least) {
      below.push(member);
    } else if (count > least && extras > 0) {
      extras--;
      room[member]!++;
    } else {
      level.push(member);
    }
  }
  const load = Int32Array.from(room);
  for (const number of numbersAcrossTopics(assignment)) {
    const member = holder[number]!;
    if (member !== NOBODY && room[member]! > 0) {
      room[member]!--;
      owner[number] = member;
    }
  }

  // Members below `least` take turns until they reach it and join the end of `level`, whose members
  // then take one each.
  let stillBelow: number[] = [];
  let turn = 0;
  let levelTurn = 0;
  for (let number = 0; number < owner.length; number++) {
    if (owner[number] !== NOBODY) continue;
    if (turn === below.length) {
      below = stillBelow;
      stillBelow = [];
      turn = 0;
    }
    const member = turn < below.length ? below[turn++]! : level[levelTurn++]!;
    owner[number] = member;
    const count = ++load[member]!;
    if (count < least) stillBelow.push(member);
    else if (count === least) level.push(member);
  }
}

/** Partition 0 of every topic, then 1 of every topic that has it, and so on. */
function numbersAcrossTopics({ first, topics, partitionCount }: Assignment): Int32Array {
  const numbers = new Int32Array(partitionCount);
  let ranks = topics.map((_, rank) => rank);
  for (let at = 0, partition = 0; at < numbers.length; partition++) {
    ranks = ranks.filter((rank) => first[rank]! + partition < first[rank + 1]!);
    for (const rank of ranks) numbers[at++] = first[rank]! + partition;
  }
  return numbers;
}

/**
 * The general case: subscriptions differ. What members hold stays, what is free goes to the
 * subscriber with the fewest partitions, then partitions move as long as one can go to a subscriber
 * that has at least two fewer than its owner. It ends: each move evens out, or makes nothing less
 * even and brings a partition home.
 */
class Balancer {
  readonly #assignment: Assignment;
  readonly #holder: Int32Array;
  readonly #owner: Int32Array;
  /** Partitions by member. */
  readonly #load: Int32Array;
  /** Topic rank by partition number. */
  readonly #topic: Int32Array;
  /** By partition number: where a moved partition came from, else NOBODY. */
  readonly #origin: Int32Array;
  /** By member: how many partitions have moved away from it. */
  readonly #departed: Int32Array;

  constructor(assignment: Assignment, holder: Int32Array) {
    this.#assignment = assignment;
    this.#holder = holder;
    this.#owner = assignment.owner;
    this.#load = new Int32Array(assignment.members.length);
    this.#topic = new Int32Array(assignment.partitionCount);
    this.#origin = new Int32Array(assignment.partitionCount).fill(NOBODY);
    this.#departed = new Int32Array(assignment.members.length);
    for (let topic = 0; topic < assignment.topics.length; topic++) {
      this.#topic.fill(topic, assignment.first[topic], assignment.first[topic + 1]);
    }
  }

  run(): void {
    const kept = this.#whereSubscribed(this.#holder);
    for (const [number, member] of kept.entries()) {
      if (member !== NOBODY) this.#give(number, member);
    }
    const all = this.#byScarcity();
    const free = all.filter((number) => this.#owner[number] === NOBODY);
    for (const number of free) this.#give(number, this.#leastLoaded(this.#topic[number]!));

    // What is new moves first, so that what is old may stay; but a holder that has unsubscribed
    // makes old partitions move anyway.
    const stale = claimsOf(this.#assignment, latestGeneration(this.#assignment));
    const previous = this.#whereSubscribed(stale.holder);
    const unsubscribed = kept.some((member, number) => member !== this.#holder[number]);
    if (!unsubscribed) this.#even(free, previous);
    this.#even(all, previous);
  }

  /** The same members by partition number, less those that do not subscribe to the topic. */
  #whereSubscribed(members: Int32Array): Int32Array {
    const { first, subscribers } = this.#assignment;
    const filtered = new Int32Array(members.length).fill(NOBODY);
    const topicOf = new Int32Array(this.#load.length).fill(-1);
    for (const [topic, list] of subscribers.entries()) {
      for (const member of list) topicOf[member] = topic;
      for (let number = first[topic]!; number < first[topic + 1]!; number++) {
        const member = members[number]!;
        if (member !== NOBODY && topicOf[member] === topic) filtered[number] = member;
      }
    }
    return filtered;
  }

  /** All partitions; topics with the fewest subscribers first. */
  #byScarcity(): Int32Array {
    const { first, subscribers, partitionCount } = this.#assignment;
    const ranks = subscribers.map((_, rank) => rank);
    ranks.sort((a, b) => subscribers[a]!.length - subscribers[b]!.length || a - b);
    const numbers = new Int32Array(partitionCount);
    let at = 0;
    for (const rank of ranks) {
      for (let number = first[rank]!; number < first[rank + 1]!; number++) numbers[at++] = number;
    }
    return numbers;
  }

  #give(number: number, member: number): void {
    this.#owner[number] = member;
    this.#load[member]!++;
  }

  /** The subscriber with the fewest partitions, the first by id where several have as few. */
  #leastLoaded(topic: number): number {
    const load = this.#load;
    let least = NOBODY;
    let fewest = Infinity;
    for (const member of this.#assignment.subscribers[topic]!) {
      if (load[member]! < fewest) {
        fewest = load[member]!;
        least = member;
      }
    }
    return least;
  }

  /** Moves any of these partitions while that evens out; home to their previous owner if possible. */
  #even(numbers: Int32Array, previous: Int32Array): void {
    const load = this.#load;
    let moved = true;
    while (moved) {
      moved = false;
      for (const number of numbers) {
        const topic = this.#topic[number]!;
        const most = load[this.#owner[number]!]! - 2;
        const before = previous[number]!;
        const to = before !== NOBODY && load[before]! <= most ? before : this.#leastLoaded(topic);
        if (load[to]! > most) continue;
        this.#move(this.#instead(number, to), to);
        moved = true;
      }
    }
  }

  /**
   * The partition to move to `to` for the sake of `number`: one of the same topic that came from
   * there to where `number` came from, if there is one. Of two opposite moves neither is needed.
   */
  #instead(number: number, to: number): number {
    if (this.#departed[to] === 0) return number;
    const origin = this.#origin[number]!;
    const from = origin === NOBODY ? this.#owner[number]! : origin;
    if (this.#load[from]! <= this.#load[to]!) return number;
    const { first } = this.#assignment;
    const topic = this.#topic[number]!;
    for (let other = first[topic]!; other < first[topic + 1]!; other++) {
      if (this.#origin[other] === to && this.#owner[other] === from) return other;
    }
    return number;
  }

  #move(number: number, to: number): void {
    const from = this.#owner[number]!;
    const origin = this.#origin[number]!;
    if (origin === NOBODY) {
      this.#origin[number] = from;
      this.#departed[from]!++;
    } else if (origin === to) {
      this.#origin[number] = NOBODY;
      this.#departed[to]!--;
    }
    this.#load[from]!--;
    this.#give(number, to);
  }
}

function latestGeneration({ members }: Assignment): number {
  return members.reduce(
    (latest, { generation }) => Math.max(latest, generation ?? UNKNOWN_GENERATION),
    UNKNOWN_GENERATION,
  );
}
