import type { Clock, Timer } from './clock.js';
import { asStorageError } from './errors.js';
import type { GroupCoordinator } from './group.js';
import type { CommittedOffset, OffsetStore } from './offsets.js';
import { isDeleted } from './options.js';
import type { Partition } from './partition.js';
import { expiredSegments } from './partition-retention.js';
import { Slices } from './storage/slices.js';
import type { Topic } from './topic.js';

export interface RetentionSource {
  readonly clock: Clock;
  readonly offsets: OffsetStore;
  readonly coordinator: GroupCoordinator;
  readonly topics: () => Iterable<Topic>;
  readonly warn: (message: string) => void;
}

/** Kafka's log.retention.check.interval.ms. */
const checkMs = 5 * 60 * 1000;
/** What was consumed is freed this long after a commit, for all commits of that time at once. */
const consumedMs = 1000;
/** A group that holds back what others are past, and has not committed for so long, is warned of. */
const stalledMs = 60 * 60 * 1000;
/** A wall clock that ran ahead of the monotonic one by more than this is believed at the next check only. */
const clockJumpMs = 60 * 60 * 1000;

type Limits = 'all' | 'consumed';

/** Where a group is in one partition. */
interface GroupPlace {
  readonly groupId: string;
  /** Absent: nothing yet. */
  readonly committed: CommittedOffset | undefined;
}

/**
 * Frees segments as the topics' options say: right after start(), every five minutes, and soon after
 * commits where 'consumed' counts. Its timers do not keep the process alive.
 */
export class Retention {
  readonly #source: RetentionSource;
  #timer: Timer | null = null;
  #consumedTimer: Timer | null = null;
  #running: Promise<void> = Promise.resolve();
  #isStarted = false;
  #isStopped = false;
  #slices: Slices;
  /** Wall minus monotonic time at the last check. */
  #clockOffset: number | null = null;
  /** What has been said and still holds. */
  readonly #said = new Set<string>();

  constructor(source: RetentionSource) {
    this.#source = source;
    this.#slices = new Slices(source.clock, 'retention');
  }

  start(): void {
    this.#isStarted = true;
    this.topicsChanged();
    if (this.#timer !== null) this.#source.clock.soon(() => void this.check());
  }

  /** A topic is new, or has other options: there is a timer only while one of them needs it. */
  topicsChanged(): void {
    const { clock, topics } = this.#source;
    if (!this.#isStarted || this.#isStopped || this.#timer !== null) return;
    if (![...topics()].some((topic) => hasLimits(topic) || hasLeftovers(topic))) return;
    this.#timer = clock.after(checkMs, () => {
      this.#timer = null;
      this.topicsChanged();
      void this.check();
    });
  }

  /** A group has committed. */
  committed(): void {
    if (this.#isStopped || this.#consumedTimer !== null) return;
    if (![...this.#source.topics()].some(countsConsumed)) return;
    this.#consumedTimer = this.#source.clock.after(consumedMs, () => {
      this.#consumedTimer = null;
      void this.#run('consumed');
    });
  }

  /** Looks at all topics once. Never rejects: what fails is warned of, and tried again the next time. */
  check(): Promise<void> {
    return this.#run('all');
  }

  /** Resolves when nothing is being freed any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#consumedTimer?.cancel();
    await this.#running;
  }

  #run(limits: Limits): Promise<void> {
    this.#running = this.#running.then(() => this.#checkTopics(limits));
    return this.#running;
  }

  async #checkTopics(limits: Limits): Promise<void> {
    const { clock, topics } = this.#source;
    const now = limits === 'all' ? this.#now() : null;
    this.#slices = new Slices(clock, 'retention');
    for (const topic of topics()) {
      if (limits === 'consumed' && !countsConsumed(topic)) continue;
      if (hasLimits(topic)) {
        await this.#checkTopic(topic, now);
      } else {
        for (const partition of topic.partitions) {
          if (partition.hasLeftovers) await this.#attempt(partition, () => 0);
        }
      }
    }
  }

  /** ms since 1970; null where it is not to be trusted. */
  #now(): number | null {
    const { clock, warn } = this.#source;
    const now = clock.now();
    const offset = now - clock.monotonic();
    const jumpMs = offset - (this.#clockOffset ?? offset);
    this.#clockOffset = offset;
    if (jumpMs <= clockJumpMs) return now;
    warn(
      `the system's clock went ahead by ${Math.round(jumpMs)} ms: retention by time waits for the next check`,
    );
    return null;
  }

  /** @param now null: only what is consumed, and what is too much, goes */
  async #checkTopic(topic: Topic, now: number | null): Promise<void> {
    const groups = this.#groupsOf(topic);
    const stalled = new Map<string, number>();
    for (const partition of topic.partitions) {
      await this.#checkPartition(partition, groups, now, stalled);
    }
    for (const groupId of groups) this.#tellStalled(topic, groupId, stalled.get(groupId) ?? 0);
  }

  async #checkPartition(
    partition: Partition,
    groups: readonly string[],
    now: number | null,
    stalled: Map<string, number>,
  ): Promise<void> {
    const { offsets, warn } = this.#source;
    let start = Infinity;
    let places: GroupPlace[] = [];
    await this.#attempt(partition, (segments) => {
      start = partition.logStartOffset;
      places = groups.map((groupId) => ({
        groupId,
        committed: offsets.fetch(groupId, partition.topicId, partition.index),
      }));
      const { retention, retentionBytes, retentionMs } = partition.settings;
      if (retention === 'consumed') this.#addStalled(stalled, places, segments);
      return expiredSegments(segments, {
        logStartOffset: start,
        retentionBytes,
        retentionMs: now === null ? -1 : retentionMs,
        now: now ?? 0,
        consumedOffset: retention === 'consumed' ? lowest(places) : 0,
      });
    });
    for (const { groupId, committed } of places) {
      const offset = committed?.offset ?? -1;
      const { logStartOffset } = partition;
      if (offset < start || offset >= logStartOffset) continue;
      warn(
        `${partition.name}: retention deleted offsets ${offset} to ${logStartOffset - 1}, which group ${groupId} has not read`,
      );
    }
  }

  /** Whoever a partition's failure concerns hears of it: once, until it is well again. */
  async #attempt(
    partition: Partition,
    choose: Parameters<Partition['freeSegments']>[0],
  ): Promise<void> {
    const { warn } = this.#source;
    if (this.#isStopped) return;
    const key = `failed ${partition.topicId} ${partition.index}`;
    try {
      await partition.freeSegments(choose);
      this.#said.delete(key);
    } catch (error) {
      const { message } = asStorageError(partition.name, error);
      if (!this.#said.has(key)) warn(`retention could not free anything: ${message}`);
      this.#said.add(key);
    }
    await this.#slices.turn();
  }

  /** Groups that have committed in a topic, or have members here that read it. */
  #groupsOf(topic: Topic): string[] {
    const { offsets, coordinator } = this.#source;
    const groups = new Set<string>();
    for (const groupId of offsets.groups()) {
      const hasCommitted = topic.partitions.some(
        ({ topicId, index }) => offsets.fetch(groupId, topicId, index) !== undefined,
      );
      if (hasCommitted) groups.add(groupId);
    }
    for (const groupId of coordinator.groupIds()) {
      if (coordinator.subscriptions(groupId).has(topic.name)) groups.add(groupId);
    }
    return [...groups];
  }

  /** Counts the sealed segments that another group has read, and one that has been silent for long has not. */
  #addStalled(
    stalled: Map<string, number>,
    places: readonly GroupPlace[],
    segments: Parameters<typeof expiredSegments>[0],
  ): void {
    const since = this.#source.clock.now() - stalledMs;
    for (const { groupId, committed } of places) {
      if (committed === undefined || committed.timestamp >= since) continue;
      const others = places.filter((place) => place.groupId !== groupId);
      const furthest = Math.max(...others.map((place) => place.committed?.offset ?? 0), 0);
      const held = segments
        .slice(0, -1)
        .filter(({ nextOffset }) => nextOffset > committed.offset && nextOffset <= furthest).length;
      stalled.set(groupId, (stalled.get(groupId) ?? 0) + held);
    }
  }

  #tellStalled(topic: Topic, groupId: string, count: number): void {
    const key = `stalled ${topic.id} ${groupId}`;
    if (count === 0) {
      this.#said.delete(key);
    } else if (!this.#said.has(key)) {
      this.#said.add(key);
      this.#source.warn(
        `group ${groupId} holds back ${count} segments of topic ${topic.name} that others have read: it has committed nothing for more than ${stalledMs} ms`,
      );
    }
  }
}

function hasLeftovers({ partitions }: Topic): boolean {
  return partitions.some((partition) => partition.hasLeftovers);
}

function countsConsumed({ settings }: Topic): boolean {
  return settings.retention === 'consumed' && isDeleted(settings);
}

function hasLimits({ settings }: Topic): boolean {
  const { retention, retentionBytes, retentionMs } = settings;
  if (!isDeleted(settings)) return false;
  return retention === 'consumed' || retentionBytes >= 0 || retentionMs >= 0;
}

/** Up to where all groups have read; 0 where there are none. */
function lowest(places: readonly GroupPlace[]): number {
  if (places.length === 0) return 0;
  return Math.min(...places.map(({ committed }) => committed?.offset ?? 0));
}
