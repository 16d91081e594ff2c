import { assignCooperatively, assignSticky } from './assignor-sticky.js';
import { Assignment, compareStrings } from './assignment.js';
import type { Assignor, AssignorInput, AssignorMember, TopicPartition } from './assignment.js';

export type { Assignor, AssignorInput, AssignorMember, TopicPartition } from './assignment.js';

/**
 * Each topic by itself, in runs of neighbouring partitions: of 7 partitions 3 members get 0-2, 3-4
 * and 5-6. Topics with equal counts and subscribers are divided alike, so that partition n of all of
 * them is with the same member. Static members come first. As Kafka's RangeAssignor without racks.
 */
const range = {
  name: 'range',
  assign(input: AssignorInput): Map<string, TopicPartition[]> {
    const assignment = new Assignment(input, staticMembersFirst);
    const { first, owner } = assignment;
    for (const [topic, subscribers] of assignment.subscribers.entries()) {
      const end = first[topic + 1]!;
      const count = end - first[topic]!;
      const share = Math.floor(count / subscribers.length);
      const extra = count % subscribers.length;
      let start = first[topic]!;
      for (let i = 0; start < end; i++) {
        const next = start + share + (i < extra ? 1 : 0);
        owner.fill(subscribers[i]!, start, next);
        start = next;
      }
    }
    return assignment.toMap();
  },
} as const satisfies Assignor;

/**
 * All partitions in order of topic and number, dealt out in turn to the members, static ones first;
 * a member that has not subscribed to the topic is passed over. As Kafka's RoundRobinAssignor.
 */
const roundrobin = {
  name: 'roundrobin',
  assign(input: AssignorInput): Map<string, TopicPartition[]> {
    const assignment = new Assignment(input, staticMembersFirst);
    const { first, owner } = assignment;
    let turn = 0;
    for (const [topic, subscribers] of assignment.subscribers.entries()) {
      let i = subscribers.findIndex((member) => member >= turn);
      for (let number = first[topic]!; number < first[topic + 1]!; number++) {
        if (i === -1 || i === subscribers.length) i = 0;
        owner[number] = subscribers[i++]!;
      }
      turn = subscribers[i - 1]! + 1;
    }
    return assignment.toMap();
  },
} as const satisfies Assignor;

/**
 * As even as subscriptions allow, with as few partitions moved as that takes; where subscriptions
 * differ, nearly as few. What members own goes by their own account: the latest generation holds
 * against older ones, and two members of one generation both lose what both claim. As Kafka's
 * StickyAssignor (KIP-54, KIP-341, KIP-792).
 */
const sticky = {
  name: 'sticky',
  assign(input: AssignorInput): Map<string, TopicPartition[]> {
    const assignment = new Assignment(input, byMemberId);
    assignSticky(assignment);
    return assignment.toMap();
  },
} as const satisfies Assignor;

/**
 * The sticky assignment without the partitions that must change hands: each is given to nobody as
 * long as another member claims it. So it takes a second rebalance to hand them on; where
 * subscriptions differ, now and then a third. As Kafka's CooperativeStickyAssignor (KIP-429), and
 * stricter in one case: a partition that two members of one generation claim always waits for both.
 */
const cooperativeSticky = {
  name: 'cooperative-sticky',
  assign(input: AssignorInput): Map<string, TopicPartition[]> {
    const assignment = new Assignment(input, byMemberId);
    assignCooperatively(assignment);
    return assignment.toMap();
  },
} as const satisfies Assignor;

function byMemberId(a: AssignorMember, b: AssignorMember): number {
  return compareStrings(a.memberId, b.memberId);
}

/** Static members by instance id, then the others by member id. */
function staticMembersFirst(a: AssignorMember, b: AssignorMember): number {
  const [x, y] = [a.groupInstanceId ?? undefined, b.groupInstanceId ?? undefined];
  if (x === undefined || y === undefined) {
    return Number(x === undefined) - Number(y === undefined) || byMemberId(a, b);
  }
  return compareStrings(x, y) || byMemberId(a, b);
}

interface NamedAssignor<Name extends string> extends Assignor {
  readonly name: Name;
}

/** Kafka's assignors. An option takes one of them, its name, or an Assignor of your own. */
export const assignors: {
  /** Each topic by itself, in runs of neighbouring partitions. As Kafka's RangeAssignor without racks. */
  readonly range: NamedAssignor<'range'>;
  /** All partitions dealt out in turn. As Kafka's RoundRobinAssignor. */
  readonly roundrobin: NamedAssignor<'roundrobin'>;
  /** As even as subscriptions allow, with few partitions moved. As Kafka's StickyAssignor. */
  readonly sticky: NamedAssignor<'sticky'>;
  /**
   * The sticky assignment without the partitions that another member claims: those wait for a second
   * rebalance. As Kafka's CooperativeStickyAssignor (KIP-429), but a partition that two members of one
   * generation claim always waits.
   */
  readonly cooperativeSticky: NamedAssignor<'cooperative-sticky'>;
} = { range, roundrobin, sticky, cooperativeSticky };
