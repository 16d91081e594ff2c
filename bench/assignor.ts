import { assignors, type AssignorInput, type TopicPartition } from 'ottla';
import { timed, type Row, type Setting } from './harness.js';

const partitionsPerMember = 10;

function membersOf(count: number): { readonly memberId: string; readonly topics: string[] }[] {
  return Array.from({ length: count }, (_, i) => ({ memberId: `member-${i}`, topics: ['bench'] }));
}

/** The least there is to do: every partition into somebody's list. */
function deal({ members, partitions }: AssignorInput): Map<string, TopicPartition[]> {
  const lists = members.map((): TopicPartition[] => []);
  for (let partition = 0; partition < partitions['bench']!; partition++) {
    lists[partition % lists.length]!.push({ topic: 'bench', partition });
  }
  return new Map(members.map(({ memberId }, i) => [memberId, lists[i]!]));
}

function row(name: keyof typeof assignors, memberCount: number): Row {
  const assignor = assignors[name];
  const isSticky = name === 'sticky' || name === 'cooperativeSticky';
  const partitions = { bench: memberCount * partitionsPerMember };
  return {
    name: `assignor ${name}, ${memberCount} members`,
    unit: 'assignments',
    // 1,000 members in 100 ms, and no more than ten times as long for ten times as many.
    goal: { mostMs: memberCount / 10 },
    what: `${partitions.bench} partitions of one topic${isSticky ? ', after one member of a balanced group has left' : ''}; floor: partitions dealt out in turn`,
    prepare: async ({ scaled }: Setting) => {
      const before = assignor.assign({ partitions, members: membersOf(memberCount + 1) });
      const members = membersOf(memberCount).map((member) => ({
        ...member,
        owned: [...before.get(member.memberId)!],
        generation: 1,
      }));
      const count = scaled(Math.ceil(20_000 / memberCount));
      const repeat = (assignAll: (input: AssignorInput) => unknown) =>
        timed(count, () => {
          for (let i = 0; i < count; i++) assignAll({ partitions, members });
        });
      return { run: () => repeat((input) => assignor.assign(input)), floor: () => repeat(deal) };
    },
  };
}

const topicCount = 100;

/** Each member subscribes to 5 of 100 topics. */
function unequal(name: keyof typeof assignors, memberCount: number): Row {
  const assignor = assignors[name];
  const partitionCount = memberCount * partitionsPerMember;
  const partitions = Object.fromEntries(
    Array.from({ length: topicCount }, (_, i) => [`topic-${i}`, partitionCount / topicCount]),
  );
  const members = Array.from({ length: memberCount }, (_, i) => ({
    memberId: `member-${i}`,
    topics: Array.from({ length: 5 }, (_each, j) => `topic-${(i * 7 + j * j * 3) % topicCount}`),
  }));
  return {
    name: `assignor ${name}, ${memberCount} unequal`,
    unit: 'assignments',
    what: `${memberCount} members that subscribe to 5 of 100 topics each, ${partitionCount} partitions, nothing owned; floor: as many partitions dealt out in turn`,
    prepare: async ({ scaled }: Setting) => {
      const count = scaled(Math.ceil(20_000 / memberCount));
      const equal = { partitions: { bench: partitionCount }, members };
      const repeat = (assignAll: () => unknown) =>
        timed(count, () => {
          for (let i = 0; i < count; i++) assignAll();
        });
      return {
        run: () => repeat(() => assignor.assign({ partitions, members })),
        floor: () => repeat(() => deal(equal)),
      };
    },
  };
}

const names = ['range', 'roundrobin', 'sticky', 'cooperativeSticky'] as const;
const memberCounts = [10, 100, 1000, 10_000];

export const rows: readonly Row[] = [
  ...memberCounts.flatMap((count) => names.map((name) => row(name, count))),
  ...memberCounts.flatMap((count) => names.map((name) => unequal(name, count))),
];
