import type { TopicPartition } from './assignment.js';
import type { Clock, Timer } from './clock.js';
import type { CommitPosition, Position, Reader } from './engine.js';
import type { OttlaError } from './errors.js';
import type { RunProgress } from './run-progress.js';

/** At least this long from one automatic commit to the next. */
const commitIntervalMs = 100;
/** From one that failed to the next, unless there is more to commit before. */
const retryIntervalMs = 1000;

/** How far one owned partition is. */
export interface Progress extends TopicPartition {
  /** Tells this stretch of owning it from another. */
  readonly ownership: number;
  /** The next offset to commit: all before it is processed. */
  processed: number;
  /** What this member knows to be committed. */
  committed: number;
  /** What is finished beyond `processed`, kept in the commit's metadata: in run() alone. */
  beyond: RunProgress | null;
  /** Its version that is committed. */
  beyondCommitted: number;
  /** The furthest that commits which wait for their turn ask for; 0: none does. */
  asked: number;
  /** seek() chose its place: what is kept with a commit there says nothing about it. */
  isSought: boolean;
  /** A transaction commits what is in flight: nothing else does. */
  isInTransaction: boolean;
  /** Where seek() went meanwhile; null: nowhere. */
  soughtTo: number | null;
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
    beyond: null,
    beyondCommitted: 0,
    asked: 0,
    isSought: false,
    isInTransaction: false,
    soughtTo: null,
    isLeaving: false,
    isLost: false,
  };
}

function isBehind({
  processed,
  committed,
  beyond,
  beyondCommitted,
  isLost,
  isInTransaction,
}: Progress): boolean {
  const isBeyondBehind = beyond !== null && beyond.version !== beyondCommitted;
  return (processed !== committed || isBeyondBehind) && !isLost && !isInTransaction;
}

/** Without a copy of the list: it may be long, and is looked through each time that a consumer begins to wait. */
function behindOf(list: Iterable<Progress>): Progress[] {
  const behind: Progress[] = [];
  for (const progress of list) if (isBehind(progress)) behind.push(progress);
  return behind;
}

interface Offset {
  readonly offset: number;
  readonly metadata?: string;
  /** Of what is finished beyond. */
  readonly version?: number;
}

function offsetOf({ processed, beyond }: Progress): Offset {
  if (beyond === null) return { offset: processed };
  return { offset: processed, metadata: beyond.metadata(), version: beyond.version };
}

export interface CommitsOptions {
  readonly reader: Pick<Reader<unknown>, 'commit'>;
  readonly clock: Clock;
  readonly autoCommit: boolean;
  /** The partitions that are owned now. */
  readonly owned: () => Iterable<Progress>;
  /** An automatic commit failed. It is tried again with the next one, or a second later if that may help. */
  readonly failed: (error: OttlaError) => void;
}

/**
 * Decides when a consumer commits. One commit is under way at a time, so that a later one never is
 * overtaken by an earlier one. Automatic ones are self-clocked: as soon as the last one is done, but at
 * least 100 ms apart.
 */
export class Commits {
  readonly #options: CommitsOptions;
  #timer: Timer | null = null;
  /** After a failure. */
  #retry: Timer | null = null;
  #writing: Promise<void> | null = null;
  readonly #expected = new Set<Promise<void>>();
  #lastAt = -Infinity;
  /** Asked to commit while a commit was under way. */
  #isDue = false;
  #isStopped = false;

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  /** Everything before `nextOffset` is processed. */
  mark(progress: Progress, nextOffset: number): void {
    if (progress.isLost || progress.isInTransaction) return;
    progress.processed = nextOffset;
    if (this.#timer === null && this.#options.autoCommit) this.#commitSoon();
  }

  /** It goes on here, which is to be committed, even if the offset is. */
  move(progress: Progress, offset: number): void {
    progress.isSought = true;
    progress.committed = -1;
    if (progress.isInTransaction) progress.soughtTo = offset;
    else this.mark(progress, offset);
  }

  /** The transaction with what was in flight has ended. @returns whether seek() chose where it goes on */
  leaveTransaction(progress: Progress): boolean {
    const { soughtTo } = progress;
    progress.isInTransaction = false;
    progress.soughtTo = null;
    if (soughtTo === null) return false;
    this.move(progress, soughtTo);
    return true;
  }

  #commitSoon(): void {
    if (this.#isStopped || this.#timer !== null) return;
    const { clock } = this.#options;
    const wait = Math.max(0, this.#lastAt + commitIntervalMs - clock.monotonic());
    this.#timer = clock.after(wait, () => this.commitNow());
  }

  /** Commits what is processed; if a commit is under way, as soon as that is done. */
  commitNow(): void {
    const { autoCommit, owned, failed, clock } = this.#options;
    this.#cancel();
    this.#isDue = this.#writing !== null;
    if (!autoCommit || this.#isDue || this.#isStopped) return;
    this.commitProcessed(owned()).catch((error: OttlaError) => {
      failed(error);
      if (!error.retriable || this.#isStopped) return;
      this.#retry?.cancel();
      this.#retry = clock.after(retryIntervalMs, () => this.commitNow());
    });
  }

  /** What an orderly end owes these: an automatic commit, if there are any. */
  async commitMarked(list: Iterable<Progress>): Promise<void> {
    if (this.#options.autoCommit) await this.commitProcessed(list);
  }

  /** A commit that somebody asked for, and may not await: settled() does. */
  expect(commit: Promise<void>): void {
    const ended = (): void => void this.#expected.delete(commit);
    this.#expected.add(commit);
    commit.then(ended, ended);
  }

  /** Resolves when the commits that were asked for until now are done, or have failed. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#expected);
  }

  /** Commits what is processed of these. */
  async commitProcessed(list: Iterable<Progress>): Promise<void> {
    while (this.#writing !== null) await this.#writing;
    const due = behindOf(list);
    if (due.length === 0) return;
    await this.#write(due, due.map(offsetOf));
    const { autoCommit, owned } = this.#options;
    if (autoCommit && behindOf(owned()).length > 0) this.#commitSoon();
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

  /** As commitOffsets() of one, unless what is committed is as far. Calls that wait share one commit. */
  async commitForward(progress: Progress, offset: number): Promise<void> {
    while (progress.committed < offset) {
      if (this.#writing === null) {
        const upTo = Math.max(progress.asked, offset);
        progress.asked = 0;
        await this.commitOffsets([{ progress, offset: upTo }]);
      } else {
        progress.asked = Math.max(progress.asked, offset);
        await this.#writing;
      }
    }
  }

  async #write(list: readonly Progress[], offsets: readonly Offset[]): Promise<void> {
    const { reader, clock } = this.#options;
    const positions = list.map(
      ({ topic, partition, ownership }, i): CommitPosition & { readonly ownership: number } => {
        const { offset, metadata } = offsets[i]!;
        const position = { topic, partition, ownership, offset };
        return metadata === undefined ? position : { ...position, metadata };
      },
    );
    this.#lastAt = clock.monotonic();
    await this.#writeBy(
      reader.commit(positions).then(() => {
        list.forEach((progress, i) => {
          const { offset, version = 0 } = offsets[i]!;
          progress.committed = offset;
          progress.beyondCommitted = version;
        });
      }),
    );
  }

  /** Until it settles no other commit is under way. */
  async #writeBy(commit: Promise<void>): Promise<void> {
    const done = (): void => {
      this.#writing = null;
      if (this.#isDue) this.commitNow();
    };
    this.#writing = commit.then(done, done);
    await commit;
  }

  /** Once no commit is under way, lets somebody else write one. */
  async writeBy(write: () => Promise<void>): Promise<void> {
    while (this.#writing !== null) await this.#writing;
    await this.#writeBy(write());
  }

  /** No automatic commit begins any more. */
  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  #cancel(): void {
    this.#retry?.cancel();
    this.#timer?.cancel();
    this.#timer = null;
  }
}
