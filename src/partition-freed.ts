import type { Clock } from './clock.js';
import { asStorageError } from './errors.js';
import type { Segment } from './storage/segment.js';
import { Slices } from './storage/slices.js';

interface FreedEnvironment {
  readonly clock: Clock;
  /** Told, in a sentence, of what could not be removed. */
  readonly warn: (message: string) => void;
}

/**
 * What lies below a partition's log start and is still to be removed: rows of segments, and their files.
 * What a failure or a crash leaves of it is tried again.
 */
export class FreedSegments {
  readonly #env: FreedEnvironment;
  /** Base offsets of those whose rows are still there. */
  readonly rows: Set<number> = new Set();
  underWay: Promise<void> | null = null;
  #files: Segment[] = [];

  constructor(env: FreedEnvironment) {
    this.#env = env;
  }

  /** Runs `free` after those before; `underWay` settles, and is null again, when none is left. */
  inOrder(free: () => Promise<void>): Promise<void> {
    const freed = (this.underWay ?? Promise.resolve()).then(free);
    const underWay = freed
      .catch(() => undefined)
      .then(() => {
        if (this.underWay === underWay) this.underWay = null;
      });
    this.underWay = underWay;
    return freed;
  }

  get isEmpty(): boolean {
    return this.#files.length === 0 && this.rows.size === 0;
  }

  /** Its records may not be read any more. */
  addFiles(segment: Segment): void {
    segment.isRemoved = true;
    this.#files.push(segment);
  }

  /** Removes the files, in slices of 2 ms; those that cannot be removed stay. Never rejects. */
  async removeFiles(): Promise<void> {
    const { clock } = this.#env;
    const segments = this.#files;
    this.#files = [];
    const slices = new Slices(clock, 'removing of files');
    for (const segment of segments) {
      try {
        await segment.remove();
      } catch (error) {
        this.#files.push(segment);
        this.#env.warn(
          `${asStorageError(segment.path, error).message}. Its records are deleted; the file stays until that is tried again.`,
        );
      }
      await slices.turn();
    }
  }

  clear(): void {
    this.#files = [];
    this.rows.clear();
  }
}
