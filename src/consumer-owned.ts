import { keyOf, type TopicPartition } from './assignment.js';
import { beginProgress, type Progress } from './consumer-commits.js';
import { OttlaError } from './errors.js';

/** The partitions that a consumer owns, or was assigned, and how far each of them is. */
export class Owned {
  readonly #progress = new Map<string, Progress>();

  begin(position: Parameters<typeof beginProgress>[0]): void {
    this.#progress.set(keyOf(position), beginProgress(position));
  }

  [Symbol.iterator](): IterableIterator<Progress> {
    return this.#progress.values();
  }

  at(place: TopicPartition): Progress | undefined {
    return this.#progress.get(keyOf(place));
  }

  of(places: readonly TopicPartition[]): Progress[] {
    return places.flatMap((place) => this.at(place) ?? []);
  }

  /** @throws ILLEGAL_GENERATION */
  require(place: TopicPartition): Progress {
    const progress = this.at(place);
    if (progress !== undefined) return progress;
    throw notOwned(place);
  }

  /** As require(), in the stretch of owning in which something was read. @throws ILLEGAL_GENERATION */
  requireSince(place: TopicPartition, ownership: number): Progress {
    const progress = this.require(place);
    if (progress.ownership === ownership) return progress;
    throw notOwned(place);
  }

  /** As require(), and not being given up. @throws ILLEGAL_GENERATION */
  requireKept(place: TopicPartition): Progress {
    const progress = this.require(place);
    if (!progress.isLeaving) return progress;
    throw notOwned(place);
  }

  /** Those that are not being given up. */
  kept(): TopicPartition[] {
    return [...this]
      .filter(({ isLeaving }) => !isLeaving)
      .map(({ topic, partition }) => ({ topic, partition }));
  }

  forget(progress: Progress): void {
    if (this.at(progress) === progress) this.#progress.delete(keyOf(progress));
  }

  clear(): void {
    this.#progress.clear();
  }
}

function notOwned({ topic, partition }: TopicPartition): OttlaError {
  return new OttlaError(
    'ILLEGAL_GENERATION',
    `${topic}-${partition} is not assigned to this consumer, or not without a break since`,
  );
}
