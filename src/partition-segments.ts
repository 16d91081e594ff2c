import type { CountedBytes } from './partition-quota.js';
import type { Segment } from './storage/segment.js';
import type { AbortedTransaction } from './storage/transaction-index.js';

/** The segments of one open log, in order of offsets; the last one is the active one. */
export class LogSegments {
  /** Another array once segments have come or gone. */
  all: readonly Segment[];
  /** The one that is written to. */
  active: Segment;
  /** Lowest readable offset. */
  startOffset: number;
  readonly #counted: CountedBytes;

  constructor(
    sealed: readonly Segment[],
    active: Segment,
    startOffset: number,
    counted: CountedBytes,
  ) {
    this.all = [...sealed, active];
    this.active = active;
    this.startOffset = Math.max(startOffset, this.all[0]!.baseOffset);
    this.#counted = counted;
  }

  get bytes(): number {
    return this.all.reduce((bytes, { size }) => bytes + size, 0);
  }

  get sealed(): readonly Segment[] {
    return this.all.slice(0, -1);
  }

  /** The segment that holds `offset`, or the last one that begins before it. */
  at(offset: number): Segment {
    const { all } = this;
    let low = 0;
    let high = all.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (all[middle]!.baseOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return all[low]!;
  }

  /** Whether one begins at `offset`. */
  beginAt(offset: number): boolean {
    return this.at(offset).baseOffset === offset;
  }

  /** Aborted transactions that reach into the offsets from `from` to below `end`. @throws CORRUPT_MESSAGE */
  abortedBetween(from: number, end: number): AbortedTransaction[] {
    const found: AbortedTransaction[] = [];
    const { all } = this;
    for (let i = all.indexOf(this.at(from)); i < all.length; i++) {
      if (all[i]!.transactions.index.collect(from, end, found)) break;
    }
    return found;
  }

  /** The sealed ones that end at `offset` or before. */
  sealedBelow(offset: number): Segment[] {
    return this.sealed.filter(({ nextOffset }) => nextOffset <= offset);
  }

  /** The active one was sealed: `next` is the active one now. */
  rolled(next: Segment): void {
    this.all = [...this.all, next];
    this.active = next;
  }

  /** Puts a compacted segment in the place of those it was made of. */
  replace(old: readonly Segment[], compacted: Segment): void {
    this.all = this.all.toSpliced(this.all.indexOf(old[0]!), old.length, compacted);
    for (const segment of old) {
      this.#counted.add(-segment.size);
      retire(segment);
    }
    this.#counted.add(compacted.size);
  }

  /** Takes the oldest ones out of the log. */
  drop(oldest: readonly Segment[]): void {
    this.all = this.all.slice(oldest.length);
    for (const { size } of oldest) this.#counted.add(-size);
    this.startOffset = Math.max(this.startOffset, this.all[0]!.baseOffset);
  }

  /** Read-only, beside a running owner, which moved the log start. */
  follow(startOffset: number): void {
    if (startOffset <= this.startOffset) return;
    const freed = this.sealedBelow(startOffset);
    this.all = this.all.slice(freed.length);
    for (const segment of freed) retire(segment);
    this.startOffset = startOffset;
  }

  /** Closes the files once no read is under way: Windows renames and removes no open file. */
  async whenUnused(): Promise<void> {
    await Promise.all(this.all.map((segment) => segment.whenUnused(() => undefined)));
  }

  /** Closes the files. */
  close(): void {
    for (const segment of this.all) segment.close();
  }

  /** Closes the files for good: other segments were read in their place. */
  retire(): void {
    for (const segment of this.all) retire(segment);
  }
}

function retire(segment: Segment): void {
  segment.isRemoved = true;
  segment.close();
}
