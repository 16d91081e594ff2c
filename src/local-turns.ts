import { keyOf, type TopicPartition } from './assignment.js';
import type { PartitionFetch } from './local-fetch.js';

/** The partitions that a reader was assigned, and whose turn it is. */
export class FetchTurns<R> {
  #fetches: PartitionFetch<R>[] = [];
  readonly #byPlace = new Map<string, PartitionFetch<R>>();
  #turn = 0;

  [Symbol.iterator](): IterableIterator<PartitionFetch<R>> {
    return this.#fetches.values();
  }

  at(place: TopicPartition): PartitionFetch<R> | undefined {
    return this.#byPlace.get(keyOf(place));
  }

  has(fetch: PartitionFetch<R>): boolean {
    return this.at(fetch.place) === fetch;
  }

  add(fetch: PartitionFetch<R>): void {
    this.#fetches.push(fetch);
    this.#byPlace.set(keyOf(fetch.place), fetch);
  }

  /** @returns those that were there */
  remove(places: Iterable<TopicPartition>): ReadonlySet<PartitionFetch<R>> {
    const gone = new Set<PartitionFetch<R>>();
    for (const place of places) {
      const fetch = this.at(place);
      if (fetch === undefined) continue;
      this.#byPlace.delete(keyOf(place));
      gone.add(fetch);
    }
    this.#fetches = this.#fetches.filter((fetch) => !gone.has(fetch));
    return gone;
  }

  /** The first that is wanted, from the one on whose turn it is. */
  find(isWanted: (fetch: PartitionFetch<R>) => boolean): PartitionFetch<R> | null {
    const { length } = this.#fetches;
    for (let i = 0; i < length; i++) {
      const at = (this.#turn + i) % length;
      const fetch = this.#fetches[at]!;
      if (!isWanted(fetch)) continue;
      this.#turn = at;
      return fetch;
    }
    return null;
  }

  /** What was found has had its turn. */
  pass(): void {
    this.#turn = (this.#turn + 1) % this.#fetches.length;
  }
}
