import assert from 'node:assert/strict';
import type { Broker } from '../src/broker.js';
import type { JoinGroupRequest } from '../src/group-remote.js';
import type { OffsetCommitResult } from '../src/groups.js';
import { createTopic, Machine } from './machine.js';
import type { ManualClock } from './manual-clock.js';
import { WireMember } from './wire-member.js';

/** A broker with topic t of two partitions, on a manual clock. */
export class Room {
  readonly broker: Broker;
  readonly clock: ManualClock;

  constructor(broker: Broker, clock: ManualClock) {
    this.broker = broker;
    this.clock = clock;
  }

  static async open(options: { readonly offsetsRetentionMs?: number } = {}): Promise<Room> {
    const machine = new Machine();
    const broker = await machine.open(options);
    await createTopic(broker, {}, 2);
    await createTopic(broker, {}, 2, 'u');
    return new Room(broker, machine.clock);
  }

  member(request: Partial<JoinGroupRequest> = {}): WireMember {
    return new WireMember(this.broker, this.clock, request);
  }

  get state(): string | undefined {
    return this.broker.coordinator.describeInBytes('g')?.state;
  }

  get generation(): number {
    return this.broker.groups.lastGeneration('g');
  }

  get memberIds(): string[] {
    const members = this.broker.coordinator.describeInBytes('g')?.members ?? [];
    return members.map(({ memberId }) => memberId).toSorted();
  }

  limit(limits: Partial<Broker['coordinator']['limits']>): void {
    const { coordinator } = this.broker;
    coordinator.limits = { ...coordinator.limits, ...limits };
  }

  /** Members in a stable group, the first one the leader, each with its own name as assignment. */
  async stable(...members: WireMember[]): Promise<void> {
    for (const member of members) await member.join();
    await this.rebalance(...members);
  }

  /** All join again, as heartbeats tell them, and sync. */
  async rebalance(...members: WireMember[]): Promise<void> {
    for (const member of members) {
      if (member.joined?.isAnswered === true && this.state === 'PreparingRebalance') {
        await member.join();
      }
    }
    for (const member of members) member.takeIn();
    const leader = members.find((member) => member.isLeader)!;
    const assignments = Object.fromEntries(members.map(({ memberId }) => [memberId, memberId]));
    for (const member of members) await member.sync(member === leader ? assignments : {});
    assert.equal(this.state, 'Stable');
  }

  committed(partition = 0, topic = 't'): number {
    return this.broker.groups.committed('g', { topic, partition })?.offset ?? -1;
  }

  commit(
    offset: number,
    options: { memberId?: string; generationId?: number; topic?: string } = {},
  ): Promise<readonly OffsetCommitResult[]> {
    const { memberId = '', generationId = -1, topic = 't' } = options;
    return this.broker.groups.commit({
      groupId: 'g',
      memberId,
      groupInstanceId: null,
      generationId,
      offsets: [{ topic, partition: 0, offset, leaderEpoch: -1, metadata: '' }],
    });
  }
}
