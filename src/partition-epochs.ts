import type { LeaderEpoch } from './storage/checkpoint.js';

/** The leader epochs of one log: each began where a recovery had cut it. There is always one. */
export class LeaderEpochs {
  /** In order; a new array when that changes. */
  readonly all: readonly LeaderEpoch[];

  constructor(all: readonly LeaderEpoch[]) {
    this.all = all;
  }

  /** In which records are written now. */
  get current(): number {
    return this.all.at(-1)![0];
  }

  /** The epoch in which the record before `offset` was written. */
  before(offset: number): number {
    const last = this.all.findLast(([, startOffset]) => startOffset < offset);
    return (last ?? this.all[0]!)[0];
  }

  /**
   * Where what was written in `epoch` ends: a reader beyond it has read what was cut since. -1, unknown:
   * the end of the log, as for the current one.
   */
  endOf(epoch: number, logEndOffset: number): number {
    const next = epoch === -1 ? undefined : this.all.find(([candidate]) => candidate > epoch);
    return next === undefined ? logEndOffset : next[1];
  }

  /** With one more, for what is written after a cut: offsets from there on may have been given out before. */
  cutAt(offset: number): LeaderEpochs {
    const kept = this.all.filter(([, startOffset]) => startOffset < offset);
    return new LeaderEpochs([...kept, [this.current + 1, offset]]);
  }
}
