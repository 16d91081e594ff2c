import type { Broker } from '../src/broker.js';
import { encodeSubscription } from '../src/group-protocol.js';
import type {
  GroupErrorCode,
  GroupProtocol,
  JoinGroupAnswer,
  JoinGroupRequest,
  SyncGroupAnswer,
} from '../src/group-remote.js';
import type { GroupCoordinator } from '../src/group.js';
import type { OffsetCommitResult } from '../src/groups.js';
import type { ManualClock } from './manual-clock.js';

/** Protocols of a consumer that subscribes to these topics and owns nothing. */
export function protocolsOf(names: readonly string[], topics: readonly string[]): GroupProtocol[] {
  const metadata = encodeSubscription({ topics, userData: null, owned: [], generation: -1 });
  return names.map((name) => ({ name, metadata }));
}

/** What has not been answered yet, or the answer. */
export class Asked<T> {
  answer: T | null = null;

  constructor(promise: Promise<T>) {
    void promise.then((answer) => (this.answer = answer));
  }

  get isAnswered(): boolean {
    return this.answer !== null;
  }
}

type Place = Pick<Broker, 'coordinator'> & Partial<Pick<Broker, 'groups'>>;

/** A member in another process, call by call: it does nothing by itself. */
export class WireMember {
  memberId = '';
  generationId = -1;
  /** The last answers. */
  joined: Asked<JoinGroupAnswer> | null = null;
  synced: Asked<SyncGroupAnswer> | null = null;
  readonly #broker: Place;
  readonly #clock: ManualClock;
  readonly #request: Omit<JoinGroupRequest, 'memberId'>;

  constructor(broker: Place, clock: ManualClock, request: Partial<JoinGroupRequest> = {}) {
    this.#broker = broker;
    this.#clock = clock;
    this.#request = {
      groupId: 'g',
      groupInstanceId: null,
      clientId: 'client',
      clientHost: '/127.0.0.1',
      sessionTimeoutMs: 45_000,
      rebalanceTimeoutMs: 300_000,
      protocolType: 'consumer',
      protocols: protocolsOf(['range'], ['t']),
      requiresKnownMemberId: true,
      knowsSkipAssignment: true,
      ...request,
    };
  }

  get coordinator(): GroupCoordinator {
    return this.#broker.coordinator;
  }

  get #identity(): { readonly memberId: string; readonly groupInstanceId: string | null } {
    return { memberId: this.memberId, groupInstanceId: this.#request.groupInstanceId };
  }

  /** One request, with these differences. */
  async ask(differences: Partial<JoinGroupRequest> = {}): Promise<Asked<JoinGroupAnswer>> {
    const request = { ...this.#request, memberId: this.memberId, ...differences };
    const asked = new Asked(this.coordinator.joinGroup(request));
    this.joined = asked;
    await this.#clock.settle();
    return asked;
  }

  /** Until it is a member, or waits to be one: again with the id that it is told. */
  async join(differences: Partial<JoinGroupRequest> = {}): Promise<Asked<JoinGroupAnswer>> {
    let asked = await this.ask(differences);
    if (asked.answer?.errorCode === 'MEMBER_ID_REQUIRED') {
      this.memberId = asked.answer.memberId;
      asked = await this.ask(differences);
    }
    this.takeIn();
    return asked;
  }

  /** Takes over id and generation of the join that was answered. */
  takeIn(): void {
    const answer = this.joined?.answer;
    if (answer?.errorCode !== null || answer === undefined) return;
    this.memberId = answer.memberId;
    this.generationId = answer.generationId;
  }

  get isLeader(): boolean {
    const answer = this.joined?.answer;
    return answer?.leader === answer?.memberId;
  }

  async sync(
    assignments: Readonly<Record<string, string>> = {},
    generationId: number = this.generationId,
  ): Promise<Asked<SyncGroupAnswer>> {
    const asked = new Asked(
      this.coordinator.syncGroup({
        ...this.#identity,
        groupId: this.#request.groupId,
        generationId,
        protocolType: null,
        protocolName: null,
        assignments: Object.entries(assignments).map(([memberId, text]) => ({
          memberId,
          assignment: Buffer.from(text),
        })),
      }),
    );
    this.synced = asked;
    await this.#clock.settle();
    return asked;
  }

  heartbeat(generationId: number = this.generationId): GroupErrorCode | null {
    return this.coordinator.heartbeat(this.#request.groupId, this.#identity, generationId);
  }

  leave(): GroupErrorCode | null {
    return this.coordinator.leaveGroup(this.#request.groupId, this.#identity);
  }

  /** Of t-0 unless said otherwise. */
  async commit(
    offset: number,
    options: { readonly generationId?: number; readonly memberId?: string } = {},
  ): Promise<OffsetCommitResult> {
    const [result] = await this.#broker.groups!.commit({
      ...this.#identity,
      groupId: this.#request.groupId,
      generationId: this.generationId,
      ...options,
      offsets: [{ topic: 't', partition: 0, offset, leaderEpoch: -1, metadata: '' }],
    });
    return result!;
  }
}
