import { OttlaError } from './errors.js';
import type { Fetched, SkippedRange } from './engine.js';
import type { PartitionFetch } from './local-fetch.js';
import { findReadable } from './partition-seek.js';

/** Met by a fetch at its position. */
interface Met<R> {
  readonly fetch: PartitionFetch<R>;
  readonly version: number;
  readonly error: OttlaError;
}

/**
 * Damage that a reader's fetches meet. Behind it is gone on without a word if no record is lost, as after
 * seeking there, else if the reader was told to.
 */
export class Damage<R> {
  readonly #readOnly: boolean;
  readonly #onCorrupt: ((skipped: SkippedRange) => void) | undefined;
  #met: Met<R> | null = null;
  /** Where damage was passed last: met there again, it is none that can be passed. */
  #passedAt = '';
  /** Read-only: where files and rows were looked at again because of damage. */
  #lookedAgainAt = '';

  constructor(readOnly: boolean, onCorrupt: ((skipped: SkippedRange) => void) | undefined) {
    this.#readOnly = readOnly;
    this.#onCorrupt = onCorrupt;
  }

  /** Whether some was met that pass() has not looked into. */
  get isMet(): boolean {
    return this.#met !== null;
  }

  /** @throws what is no damage */
  meet(error: unknown, fetch: PartitionFetch<R>): void {
    if (!(error instanceof OttlaError) || error.code !== 'CORRUPT_MESSAGE') throw error;
    this.#met = { fetch, version: fetch.version, error };
  }

  /** Something was read: what is met next is other damage. */
  left(): void {
    this.#passedAt = '';
  }

  /**
   * Goes on behind what was met.
   * @param isRead whether the fetch is still one of the reader's
   * @returns what was passed over, as a run without records; null: nothing
   * @throws CORRUPT_MESSAGE
   */
  async pass(isRead: (fetch: PartitionFetch<R>) => boolean): Promise<Fetched<R> | null> {
    const { fetch, version, error } = this.#met!;
    const { position: offset, partition, ownership } = fetch;
    if (await this.#isOfOtherFiles(fetch)) {
      this.#met = null;
      if (version === fetch.version) fetch.moveTo(offset);
      return null;
    }
    const place = await findReadable(partition, offset);
    this.#met = null;
    if (version !== fetch.version || !isRead(fetch)) return null;
    const passedAt = `${partition.name} ${place.segment.baseOffset} ${place.position}`;
    const isAgain = passedAt === this.#passedAt;
    const nextOffset = place.offset;
    if (isAgain || (nextOffset > offset && this.#onCorrupt === undefined)) {
      this.#passedAt = '';
      fetch.moveTo(offset);
      if (isAgain) throw error;
      throw new OttlaError(
        'CORRUPT_MESSAGE',
        `${error.message}; offset ${offset} cannot be read, the next one that can is ${nextOffset}`,
        { cause: error },
      );
    }
    const at = { topic: partition.topic, partition: partition.index };
    if (nextOffset > offset) this.#onCorrupt?.({ ...at, offset, nextOffset, error });
    this.#passedAt = passedAt;
    fetch.goOnAt(place);
    if (nextOffset === offset) return null;
    return { ...at, records: [], baseOffset: offset, nextOffset, ownership };
  }

  /**
   * Read-only the owner may have changed the files since they were looked at. It is damage if it is there after
   * another look, between which and the one before nothing was compacted.
   */
  async #isOfOtherFiles({ partition, position }: PartitionFetch<R>): Promise<boolean> {
    if (!this.#readOnly) return false;
    const lookedAgainAt = `${partition.name} ${position} ${partition.swapCount}`;
    const isOther = partition.hasOtherFiles || lookedAgainAt !== this.#lookedAgainAt;
    this.#lookedAgainAt = lookedAgainAt;
    if (isOther) await partition.refresh(true);
    return isOther;
  }
}
