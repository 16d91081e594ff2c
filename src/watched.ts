import type { Clock } from './clock.js';

/** A promise whose rejection ends no process. */
export class Watched<T> extends Promise<T> {
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  #isHeard = false;

  /** Calls `unheard` if this rejects and nobody has asked for it by the end of that turn. */
  watch(clock: Clock, unheard: (error: unknown) => void): this {
    super.then(undefined, (error: unknown) => {
      clock.soon(() => {
        if (!this.#isHeard) unheard(error);
      });
    });
    return this;
  }

  // oxlint-disable-next-line unicorn/no-thenable -- a promise has one: this is how it learns who asks
  override then<R = T, E = never>(
    resolved?: ((value: T) => R | PromiseLike<R>) | null,
    failed?: ((error: unknown) => E | PromiseLike<E>) | null,
  ): Promise<R | E> {
    this.#isHeard = true;
    return super.then(resolved, failed);
  }
}

/** `promise`, whose rejection is told to `unheard` where nobody asks for it, and ends no process. */
export function watched<T>(
  promise: Promise<T>,
  clock: Clock,
  unheard: (error: unknown) => void,
): Promise<T> {
  return new Watched<T>((resolve) => resolve(promise)).watch(clock, unheard);
}
