import type { Assignor } from '../src/assignor.js';
import type { OttlaError } from '../src/errors.js';
import { GroupCoordinator, type NativeMember, type Ownership } from '../src/group.js';
import { inOrder } from './consuming.js';
import { topicsOf } from './group-world.js';
import { ManualClock } from './manual-clock.js';

/** A member that keeps book, and releases what is revoked when told, or at once. */
export class TestMember implements NativeMember {
  readonly memberId: string;
  readonly clientId: string = 'test';
  readonly topics: readonly string[];
  readonly assignor: Assignor;
  readonly revokeTimeoutMs: number;
  /** Whether it waits for code of the user when something is revoked. */
  isBusy: boolean = false;
  releasesAtOnce: boolean = true;
  readonly failures: OttlaError[] = [];
  /** What it was told, in order. */
  readonly told: string[] = [];
  readonly owned: Map<string, Ownership> = new Map();
  readonly #room: TestGroup;
  #leaving: (readonly Ownership[])[] = [];

  constructor(
    room: TestGroup,
    memberId: string,
    options: { topics?: readonly string[]; assignor?: Assignor; revokeTimeoutMs?: number } = {},
  ) {
    this.#room = room;
    this.memberId = memberId;
    this.topics = options.topics ?? ['t'];
    this.assignor = options.assignor ?? inOrder;
    this.revokeTimeoutMs = options.revokeTimeoutMs ?? 30_000;
  }

  topicsChanged(): boolean {
    return false;
  }

  granted(ownerships: readonly Ownership[]): void {
    this.told.push(`granted ${textOf(ownerships)}`);
    for (const ownership of ownerships) {
      this.#room.begins(this, ownership);
      this.owned.set(keyOf(ownership), ownership);
    }
  }

  revoke(ownerships: readonly Ownership[]): boolean {
    this.told.push(`revoke ${textOf(ownerships)}`);
    for (const ownership of ownerships) this.#mustOwn(ownership);
    this.#leaving.push(ownerships);
    if (this.releasesAtOnce) this.#room.clock.soon(() => this.release());
    return this.isBusy;
  }

  lost(ownerships: readonly Ownership[]): void {
    this.told.push(`lost ${textOf(ownerships)}`);
    for (const ownership of ownerships) {
      this.#mustOwn(ownership);
      this.#end(ownership);
    }
  }

  failed(error: OttlaError): void {
    this.told.push('failed');
    this.failures.push(error);
  }

  /** Gives up what is being revoked, if it still has it. */
  release(): void {
    const leaving = this.#leaving.flat();
    this.#leaving = [];
    for (const ownership of leaving) this.#end(ownership);
    this.#room.coordinator.released('g', leaving);
  }

  /** As an orderly close does. */
  leave(): void {
    for (const ownership of this.owned.values()) this.#end(ownership);
    this.#leaving = [];
    this.#room.coordinator.leave('g', this.memberId);
  }

  get isLeaving(): boolean {
    return this.#leaving.length > 0;
  }

  get places(): string[] {
    return [...this.owned.keys()].toSorted();
  }

  #mustOwn(ownership: Ownership): void {
    if (this.owned.get(keyOf(ownership)) === ownership) return;
    throw new Error(`${this.memberId} does not own ${keyOf(ownership)}`);
  }

  #end(ownership: Ownership): void {
    if (this.owned.get(keyOf(ownership)) !== ownership) return;
    this.owned.delete(keyOf(ownership));
    this.#room.ends(ownership);
  }
}

/** A coordinator on a manual clock, with the topics it is told of; checks that no partition has two owners. */
export class TestGroup {
  readonly clock: ManualClock = new ManualClock({ queued: true });
  readonly counts: Map<string, number> = new Map([['t', 2]]);
  readonly generations: number[] = [];
  readonly coordinator: GroupCoordinator;
  readonly #owners = new Map<string, TestMember>();
  readonly #numbers = new Set<number>();
  #newIds = 0;

  constructor(options: { readonly lastGeneration?: number } = {}) {
    this.coordinator = new GroupCoordinator({
      clock: this.clock,
      ...topicsOf(this.counts),
      newMemberId: (prefix) => `${prefix}-${++this.#newIds}`,
      lastGeneration: () => this.generations.at(-1) ?? options.lastGeneration ?? 0,
      generationBegan: (_groupId, { generation }) => this.generations.push(generation),
    });
  }

  member(memberId: string, options?: ConstructorParameters<typeof TestMember>[2]): TestMember {
    return new TestMember(this, memberId, options);
  }

  join(member: TestMember): void {
    this.coordinator.join('g', member);
  }

  /** Who owns a partition by the coordinator's account. */
  ownerOf(key: string): string | null {
    const members = this.coordinator.describe('g')?.members ?? [];
    const owner = members.find(({ assignment }) => assignment.some((at) => keyOf(at) === key));
    return owner?.memberId ?? null;
  }

  /** Whether this member's settled() has resolved. */
  async isSettled(member: TestMember): Promise<boolean> {
    let isSettled = false;
    void this.coordinator.settled('g', member.memberId).then(() => (isSettled = true));
    for (let i = 0; i < 4; i++) await Promise.resolve();
    return isSettled;
  }

  change(topic: string, count: number | undefined): void {
    if (count === undefined) this.counts.delete(topic);
    else this.counts.set(topic, count);
    this.coordinator.topicsChanged();
  }

  begins(member: TestMember, ownership: Ownership): void {
    const key = keyOf(ownership);
    const owner = this.#owners.get(key);
    if (owner !== undefined) {
      throw new Error(`${key} was granted to ${member.memberId}, and ${owner.memberId} has it`);
    }
    if (this.#numbers.has(ownership.number)) throw new Error(`number ${ownership.number} again`);
    this.#numbers.add(ownership.number);
    this.#owners.set(key, member);
  }

  ends(ownership: Ownership): void {
    this.#owners.delete(keyOf(ownership));
  }

  get owners(): ReadonlyMap<string, TestMember> {
    return this.#owners;
  }
}

/** Members that joined one after the other, each in a generation of its own. */
export async function groupOf(
  ...memberIds: string[]
): Promise<{ group: TestGroup; members: TestMember[] }> {
  const group = new TestGroup();
  const members = memberIds.map((memberId) => group.member(memberId));
  for (const member of members) {
    group.join(member);
    await group.clock.settle();
  }
  return { group, members };
}

export function keyOf({ topic, partition }: { topic: string; partition: number }): string {
  return `${topic}-${partition}`;
}

function textOf(ownerships: readonly Ownership[]): string {
  return ownerships.map(keyOf).toSorted().join(' ');
}
