import type { TopicPartition } from './assignment.js';
import type { Clock, Timer } from './clock.js';
import type { CommitPosition, Position, Reader } from './engine.js';

/** At least this long from one automatic commit to the next. */
const commitIntervalMs = 100;

/** How far one owned partition is. */
export interface Progress extends TopicPartition {
  /** Tells this stretch of owning it from another. */
  readonly ownership: number;
  /** The next offset to commit: all before it is processed. */
  processed: number;
  /** What this member knows to be committed. */
  committed: number;
  /** Being given up, or gone: nothing of it is handed out any more. */
  isLeaving: boolean;
  isLost: boolean;
}

/** A partition that was just assigned: what came before its position is processed. */
export function beginProgress(at: Position & { readonly ownership: number }): Progress {
  const { topic, partition, offset, ownership } = at;
  return {
    topic,
    partition,
    ownership,
    processed: offset,
    committed: offset,
    isLeaving: false,
    isLost: false,
  };
}

export interface CommitsOptions {
  readonly reader: Pick<Reader<unknown>, 'commit'>;
  readonly clock: Clock;
  readonly autoCommit: boolean;
  /** The partitions that are owned now. */
  readonly owned: () => Iterable<Progress>;
  /** An automatic commit failed; it is tried again with the next one. */
  readonly failed: (error: unknown) => void;
}

/**
 * Decides when a consumer commits. One commit is under way at a time, so that a later one never is
 * overtaken by an earlier one. Automatic ones are self-clocked: as soon as the last one is done, but at
 * least 100 ms apart.
 */
export class Commits {
  readonly #options: CommitsOptions;
  #timer: Timer | null = null;
  #writing: Promise<void> | null = null;
  #lastAt = -Infinity;
  #isStopped = false;

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  /** Everything before `nextOffset` is processed. */
  mark(progress: Progress, nextOffset: number): void {
    if (progress.isLost) return;
    progress.processed = nextOffset;
    if (this.#timer === null && this.#options.autoCommit) this.#commitSoon();
  }

  #commitSoon(): void {
    if (this.#isStopped || this.#timer !== null) return;
    const { clock } = this.#options;
    const wait = Math.max(0, this.#lastAt + commitIntervalMs - clock.monotonic());
    this.#timer = clock.after(wait, () => this.commitNow());
  }

  /** Commits what is processed, unless a commit is under way: then what it leaves follows it. */
  commitNow(): void {
    const { autoCommit, owned, failed } = this.#options;
    this.#timer?.cancel();
    this.#timer = null;
    if (autoCommit && this.#writing === null) this.commitProcessed(owned()).catch(failed);
  }

  /** What an orderly end owes these: an automatic commit, if there are any. */
  async commitMarked(list: Iterable<Progress>): Promise<void> {
    if (this.#options.autoCommit) await this.commitProcessed(list);
  }

  /** Commits what is processed of these. */
  async commitProcessed(list: Iterable<Progress>): Promise<void> {
    while (this.#writing !== null) await this.#writing;
    const due = [...list].filter(
      ({ processed, committed, isLost }) => processed !== committed && !isLost,
    );
    if (due.length === 0) return;
    await this.#write(
      due,
      due.map(({ processed }) => ({ offset: processed })),
    );
    const isBehind = due.some(({ processed, committed }) => processed !== committed);
    if (isBehind && this.#options.autoCommit) this.#commitSoon();
  }

  /** Commits these offsets, and takes what lies before them for processed. */
  async commitOffsets(
    list: readonly {
      readonly progress: Progress;
      readonly offset: number;
      readonly metadata?: string;
    }[],
  ): Promise<void> {
    for (const { progress, offset } of list) {
      progress.processed = Math.max(progress.processed, offset);
    }
    while (this.#writing !== null) await this.#writing;
    await this.#write(
      list.map(({ progress }) => progress),
      list,
    );
  }

  /** As commitOffsets() of one, unless what is committed is as far. */
  async commitForward(progress: Progress, offset: number): Promise<void> {
    while (this.#writing !== null) await this.#writing;
    if (progress.committed < offset) await this.commitOffsets([{ progress, offset }]);
  }

  async #write(
    list: readonly Progress[],
    offsets: readonly { readonly offset: number; readonly metadata?: string }[],
  ): Promise<void> {
    const { reader, clock } = this.#options;
    const positions = list.map(
      ({ topic, partition, ownership }, i): CommitPosition & { readonly ownership: number } => {
        const { offset, metadata } = offsets[i]!;
        const position = { topic, partition, ownership, offset };
        return metadata === undefined ? position : { ...position, metadata };
      },
    );
    this.#lastAt = clock.monotonic();
    const commit = reader.commit(positions);
    this.#writing = commit.then(
      () => {
        this.#writing = null;
        list.forEach((progress, i) => (progress.committed = positions[i]!.offset));
      },
      () => {
        this.#writing = null;
      },
    );
    await commit;
    await this.#writing;
  }

  /** No automatic commit begins any more. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }
}
