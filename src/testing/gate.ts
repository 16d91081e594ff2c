/**
 * Holds up what passes it, to stall a handler at a place that the test chooses: the handler awaits
 * `pass()`, which resolves at once while the gate is open. A new gate is open.
 */
export class Gate {
  #waiting: (() => void)[] = [];
  #arrivals: { readonly count: number; readonly resolve: () => void }[] = [];
  #isOpen = true;

  /** How many wait before it. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Resolves when the gate is open. */
  async pass(): Promise<void> {
    if (this.#isOpen) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      this.#tellArrivals();
    });
  }

  /** From now on who comes waits. */
  close(): void {
    this.#isOpen = false;
  }

  /** Lets all through who wait, and who comes. */
  open(): void {
    this.#isOpen = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Lets the first `count` through of those who wait; the gate stays as it is. */
  letThrough(count = 1): void {
    for (const resolve of this.#waiting.splice(0, count)) resolve();
  }

  /** Resolves when at least `count` wait before the closed gate. */
  async arrived(count = 1): Promise<void> {
    if (this.#waiting.length >= count) return;
    await new Promise<void>((resolve) => this.#arrivals.push({ count, resolve }));
  }

  #tellArrivals(): void {
    const here = this.#waiting.length;
    for (const { count, resolve } of this.#arrivals) if (count <= here) resolve();
    this.#arrivals = this.#arrivals.filter(({ count }) => count > here);
  }
}
