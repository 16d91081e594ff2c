/**
 * Lets a bounded number of syncs run at once, oldest request first. Every sync occupies one of the four
 * threads that all of the process's file, DNS and zlib work shares: 64 parallel ones make an unrelated
 * fs.stat wait for milliseconds.
 */
export class SyncQueue {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `sync` when it is its turn; settles as it does. */
  async run(sync: () => Promise<void>): Promise<void> {
    if (this.#running >= this.#limit) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      await sync();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

/** One queue for the whole process, however many Ottlas are open in it. */
export const processSyncs: SyncQueue = new SyncQueue(2);
