import { setImmediate as turn } from 'node:timers/promises';
import { VirtualClock } from '../src/testing/virtual-clock.js';

/**
 * A virtual clock whose end of a turn, with `queued`, comes when settle() is called, and at no other
 * time.
 */
export class ManualClock extends VirtualClock {
  readonly #queued: boolean;
  #soon: (() => void)[] = [];

  constructor(options: { readonly queued?: boolean } = {}) {
    super();
    this.#queued = options.queued ?? false;
  }

  override soon(run: () => void): void {
    if (this.#queued) this.#soon.push(run);
    else super.soon(run);
  }

  override async settle(): Promise<void> {
    do {
      this.endTurn();
      await (this.#queued ? turn() : super.settle());
      for (let quiet = 0; this.#queued && quiet < 2 && this.#soon.length === 0; quiet++) {
        await turn();
      }
    } while (this.#soon.length > 0);
  }

  /** Runs what waits for the end of this turn, if turns are queued. */
  endTurn(): void {
    const due = this.#soon;
    this.#soon = [];
    for (const run of due) run();
  }
}
