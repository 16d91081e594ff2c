import { keyOf, type TopicPartition } from './assignment.js';
import type { PartitionFetch } from './local-fetch.js';

/**
 * The partitions that a reader was assigned, and whose turn it is. Only those that may have more to read are looked
 * at: one that had none rests until it is woken, by an append or by going on elsewhere.
 */
export class FetchTurns<R> {
  readonly #byPlace = new Map<string, PartitionFetch<R>>();
  /** The one whose turn it is comes first. */
  readonly #awake = new Set<PartitionFetch<R>>();
  readonly #resting = new Set<PartitionFetch<R>>();

  [Symbol.iterator](): IterableIterator<PartitionFetch<R>> {
    return this.#byPlace.values();
  }

  at(place: TopicPartition): PartitionFetch<R> | undefined {
    return this.#byPlace.get(keyOf(place));
  }

  has(fetch: PartitionFetch<R>): boolean {
    return this.at(fetch.place) === fetch;
  }

  add(fetch: PartitionFetch<R>): void {
    this.#byPlace.set(keyOf(fetch.place), fetch);
    this.#awake.add(fetch);
  }

  remove(fetch: PartitionFetch<R>): void {
    this.#byPlace.delete(keyOf(fetch.place));
    this.#awake.delete(fetch);
    this.#resting.delete(fetch);
  }

  /** The first that is wanted, from the one on whose turn it is. */
  find(isWanted: (fetch: PartitionFetch<R>) => boolean): PartitionFetch<R> | null {
    for (const fetch of this.#awake) if (isWanted(fetch)) return fetch;
    return null;
  }

  /** It has had its turn. */
  pass(fetch: PartitionFetch<R>): void {
    if (this.#awake.delete(fetch)) this.#awake.add(fetch);
  }

  /** It has no more to read. */
  rest(fetch: PartitionFetch<R>): void {
    if (this.#awake.delete(fetch)) this.#resting.add(fetch);
  }

  /** It may have more to read. */
  wake(fetch: PartitionFetch<R>): void {
    if (this.#resting.delete(fetch)) this.#awake.add(fetch);
  }
}
