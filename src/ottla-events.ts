import { asUnheard, inWords, type OttlaError } from './errors.js';
import { aFunction, checkValue, got } from './options.js';

export type Events = {
  /**
   * A batch that could not be written, or a commit: once each, awaited or not. A send that was refused: if
   * nobody awaits it.
   */
  error: (error: OttlaError) => void;
  warning: (warning: string) => void;
};

/** Who listens to what an Ottla tells. */
export class EventListeners {
  readonly #listeners: { readonly [E in keyof Events]: Set<Events[E]> } = {
    error: new Set(),
    warning: new Set(),
  };

  /** @throws TypeError */
  on<E extends keyof Events>(event: E, listener: Events[E]): void {
    const listeners = this.#of(event);
    checkValue('on', 'the listener', aFunction, listener);
    listeners.add(listener);
  }

  /** @throws TypeError */
  off<E extends keyof Events>(event: E, listener: Events[E]): void {
    this.#of(event).delete(listener);
  }

  #of<E extends keyof Events>(event: E): Set<Events[E]> {
    if (typeof event === 'string' && Object.hasOwn(this.#listeners, event))
      return this.#listeners[event];
    throw new TypeError(`expected the event 'error' or 'warning', got ${got(event)}`);
  }

  /** With no listener a failure becomes a warning of the process, never a crash. */
  emit<E extends keyof Events>(event: E, argument: Parameters<Events[E]>[0]): void {
    const listeners = this.#listeners[event] as ReadonlySet<(value: typeof argument) => unknown>;
    if (listeners.size === 0) process.emitWarning(argument);
    const told = async (listener: (value: typeof argument) => unknown): Promise<void> => {
      try {
        await listener(argument);
      } catch (error) {
        process.emitWarning(`a listener of '${event}' threw: ${inWords(error)}`);
      }
    };
    for (const listener of listeners) void told(listener);
  }

  /** Tells of a call that failed, and that nobody awaited. */
  unheard(error: unknown): void {
    this.emit('error', asUnheard(error));
  }
}
