import { OttlaError } from './errors.js';
import type { NativeMembers } from './group-native.js';
import { decodeSubscription } from './group-protocol.js';
import type { GroupProtocol, RemoteMembers } from './group-remote.js';

/** Names of the protocols, that is of the assignors, that all members know; null: there are no members. */
function commonProtocols(natives: NativeMembers, remotes: RemoteMembers): string[] | null {
  const lists = [...remotes].map(({ request }) => request.protocols.map(({ name }) => name));
  // Members in this process have one assignor, the same for all.
  const [native] = natives;
  if (native !== undefined) lists.push([native.assignor.name]);
  const [first, ...others] = lists;
  return first?.filter((name) => others.every((names) => names.includes(name))) ?? null;
}

/**
 * For one in this process, who knows this assignor.
 * @throws INCONSISTENT_GROUP_PROTOCOL if it cannot join
 */
export function refuseAssignor(
  groupId: string,
  natives: NativeMembers,
  remotes: RemoteMembers,
  name: string,
): void {
  const common = commonProtocols(natives, remotes);
  const stranger = [...remotes].find((remote) => remote.subscription(name) === undefined);
  if (common === null || (common.includes(name) && stranger === undefined)) return;
  throw new OttlaError(
    'INCONSISTENT_GROUP_PROTOCOL',
    common.includes(name)
      ? `group ${groupId}: its member ${stranger!.memberId} is no consumer that partitions can be shared with`
      : `group ${groupId}: its members use assignor ${common.join(' or ')}, got ${name}`,
  );
}

/** Whether somebody who knows these protocols can join. */
export function supportsProtocols(
  natives: NativeMembers,
  remotes: RemoteMembers,
  protocols: readonly GroupProtocol[],
): boolean {
  const common = commonProtocols(natives, remotes);
  const known = protocols.find(({ name }) => common === null || common.includes(name));
  if (known === undefined) return false;
  // Where the coordinator assigns it must understand what its members want.
  return natives.size === 0 || decodeSubscription(known.metadata) !== undefined;
}

/** Each member votes for the one it likes best of those that all know; of a tie, the first voted for. */
export function selectProtocol(natives: NativeMembers, remotes: RemoteMembers): string | null {
  const common = commonProtocols(natives, remotes) ?? [];
  if (natives.size > 0) return common[0]!;
  const votes = new Map<string, number>();
  for (const { request } of remotes) {
    const choice = request.protocols.find(({ name }) => common.includes(name));
    if (choice !== undefined) votes.set(choice.name, (votes.get(choice.name) ?? 0) + 1);
  }
  const most = Math.max(...votes.values());
  return [...votes].find(([, count]) => count === most)?.[0] ?? null;
}
