import type { TopicPartition } from './assignment.js';
import type { Clock } from './clock.js';
import type { Commits, Progress } from './consumer-commits.js';
import { Hooks } from './consumer-hooks.js';
import type { CheckedConsumerOptions } from './consumer-options.js';
import { Owned } from './consumer-owned.js';
import type { Reader, Subscription } from './engine.js';
import type { OttlaError } from './errors.js';

/** What of partitions that are being given up still waits for code of the user. */
export interface InFlight {
  readonly isBusy: boolean;
  /** Resolves when nothing is in flight, or the signal aborts. */
  landing(signal: AbortSignal): Promise<void>;
}

export interface MembershipOptions {
  readonly reader: Reader<unknown>;
  readonly commits: Commits;
  readonly clock: Clock;
  readonly settings: Pick<
    CheckedConsumerOptions,
    'topics' | 'patterns' | 'hooks' | 'revokeTimeoutMs'
  >;
  readonly hookFailed: (error: OttlaError) => void;
  /** From now on nothing of these is handed out. */
  readonly leaving: (list: readonly Progress[]) => InFlight;
  /** It is gone: what is at work on it works in vain. */
  readonly forgotten: (progress: Progress) => void;
}

/** A consumer as a member of its group: what it subscribes to, and the partitions that come and go. */
export class Membership {
  readonly owned: Owned = new Owned();
  readonly #options: MembershipOptions;
  readonly #hooks: Hooks;
  #retryTopic: string | null = null;
  #hasJoined = false;
  /** Of partitions that are being given up. */
  readonly #releases = new Set<Promise<void>>();
  #leaving: Promise<void> | null = null;

  constructor(options: MembershipOptions) {
    const { clock, settings, hookFailed } = options;
    this.#options = options;
    this.#hooks = new Hooks(clock, settings.revokeTimeoutMs, hookFailed);
  }

  /** Whether this runs in a hook of the consumer: there it must not wait for itself. */
  get isInHook(): boolean {
    return this.#hooks.isInside;
  }

  /** Read beside the subscription, while run() has it for its retries. */
  get retryTopic(): string | null {
    return this.#retryTopic;
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION, INCONSISTENT_GROUP_PROTOCOL */
  join(): void {
    if (this.#hasJoined) return;
    const {
      reader,
      settings: { hooks },
    } = this.#options;
    reader.subscribe(this.#subscription, {
      assigned: async (positions) => {
        for (const position of positions) this.owned.begin(position);
        await this.#hooks.call(hooks.onAssigned, positions);
      },
      revoked: (partitions, signal) => this.#release(partitions, signal),
      lost: (partitions) => void this.#hooks.call(hooks.onLost, this.drop(partitions)),
      failed: () => undefined,
    });
    this.#hasJoined = true;
  }

  get #subscription(): Subscription {
    const { topics, patterns } = this.#options.settings;
    const retries = this.#retryTopic === null ? [] : [this.#retryTopic];
    return { topics: [...topics.keys(), ...retries], patterns, fromEarliest: retries };
  }

  /** Reads this topic for retries from now on, or none. */
  readRetries(topic: string | null): void {
    this.#retryTopic = topic;
    if (this.#hasJoined) this.#options.reader.resubscribe(this.#subscription);
  }

  /** The barrier of a revocation: hand out nothing more, let what is in flight land, commit, let go. */
  #release(
    partitions: readonly TopicPartition[],
    signal: AbortSignal,
  ): { busy: boolean; released: Promise<void> } {
    // All is given up, with one call of the hook.
    if (this.#leaving !== null) return { busy: true, released: this.#leaving };
    const { commits, settings } = this.#options;
    const { onRevoked } = settings.hooks;
    const leaving = this.owned.of(partitions);
    for (const progress of leaving) progress.isLeaving = true;
    const inFlight = this.#options.leaving(leaving);
    const release = async (): Promise<void> => {
      await inFlight.landing(signal);
      if (signal.aborted) return;
      const committed = commits.commitMarked(leaving);
      await committed.catch(() => undefined);
      if (signal.aborted) return;
      await this.#hooks.call(onRevoked, leaving);
      await commits.settled();
      for (const progress of leaving) this.#forget(progress);
      await committed;
    };
    const busy = inFlight.isBusy || onRevoked !== undefined;
    const released = release();
    const ended = (): void => void this.#releases.delete(released);
    this.#releases.add(released);
    released.then(ended, ended);
    return { busy, released };
  }

  /** They are somebody else's already, or nobody's. @returns those that were here */
  drop(partitions: readonly TopicPartition[]): Progress[] {
    const dropped = this.owned.of(partitions);
    for (const progress of dropped) {
      progress.isLeaving = true;
      progress.isLost = true;
      this.#forget(progress);
    }
    return dropped;
  }

  #forget(progress: Progress): void {
    this.#options.forgotten(progress);
    this.owned.forget(progress);
  }

  /**
   * Gives up everything, once nothing of it is in flight any more: commits what is marked, and what its hook
   * commits.
   */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  async #leave(): Promise<void> {
    const { commits, settings } = this.#options;
    await Promise.allSettled(this.#releases);
    const committed = commits.commitMarked(this.owned);
    await committed.catch(() => undefined);
    await this.#hooks.call(settings.hooks.onRevoked, this.owned.kept());
    await commits.settled();
    await committed;
  }
}
