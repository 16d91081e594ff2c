/** Work that must follow other work of its lane. */
export interface Task {
  /** Tasks of one lane run one after the other, in order; null: a lane of its own. */
  readonly lane: string | null;
  /** Never rejects. */
  run(): Promise<void>;
}

/** Runs tasks, each lane in order and lanes beside each other. */
export class Lanes<T extends Task> {
  readonly #lanes = new Map<string, T[]>();
  readonly #settled: () => void;
  #count = 0;

  /** @param settled called after each task that has run */
  constructor(settled: () => void) {
    this.#settled = settled;
  }

  /** Tasks that wait or run. */
  get count(): number {
    return this.#count;
  }

  add(task: T): void {
    this.#count++;
    const { lane } = task;
    if (lane === null) {
      void task.run().then(() => this.#end());
      return;
    }
    const waiting = this.#lanes.get(lane);
    if (waiting === undefined) {
      this.#lanes.set(lane, []);
      void this.#runLane(lane, task);
    } else {
      waiting.push(task);
    }
  }

  async #runLane(lane: string, first: T): Promise<void> {
    const waiting = this.#lanes.get(lane)!;
    for (let task: T | undefined = first; task !== undefined; task = waiting.shift()) {
      await task.run();
      // Before settled(), which may add to this lane: that begins it anew.
      if (waiting.length === 0) this.#lanes.delete(lane);
      this.#end();
    }
  }

  #end(): void {
    this.#count--;
    this.#settled();
  }
}
