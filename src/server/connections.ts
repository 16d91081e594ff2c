import type { Clock } from '../clock.js';
import type { Connection, Held } from './connection.js';
import type { Limits } from './options.js';
import type { AnswerRoom } from './protocol/api.js';

/**
 * All connections of a server, and what they have it hold together: who holds too much is read from no more,
 * or cut. Who is cut gives back what it held, which is looked at again: so as many go as must.
 */
export class Connections implements Held, AnswerRoom {
  /** Called when the last one is gone. */
  onEmpty: (() => void) | null = null;
  readonly #limits: Limits;
  readonly #clock: Clock;
  readonly #all = new Set<Connection>();
  #arrivingBytes = 0;
  #requestBytes = 0;
  #answerBytes = 0;
  /** Of answers that are being read from logs. */
  #takenBytes = 0;
  /** Since when no requests are read, for too many are under way; Infinity: they are. */
  #fullSince = Infinity;

  constructor(limits: Limits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get size(): number {
    return this.#all.size;
  }

  add(connection: Connection): void {
    this.#all.add(connection);
  }

  remove(connection: Connection): void {
    this.#all.delete(connection);
    if (this.#all.size === 0) this.onEmpty?.();
  }

  /** Each takes no more requests, answers those under way, and goes. */
  end(): void {
    for (const connection of this.#all) connection.end();
  }

  destroy(): void {
    for (const connection of this.#all) connection.destroy();
  }

  get isFull(): boolean {
    return this.#fullSince !== Infinity;
  }

  arriving(bytes: number): void {
    this.#arrivingBytes += bytes;
    if (this.#arrivingBytes <= this.#limits.maxQueuedBytes) return;
    this.#longest(({ arrivingSince }) => arrivingSince)?.destroy();
  }

  requests(bytes: number): void {
    this.#requestBytes += bytes;
    const isFull = this.#requestBytes >= this.#limits.maxQueuedBytes;
    if (isFull === this.isFull) return;
    this.#fullSince = isFull ? this.#clock.monotonic() : Infinity;
    for (const connection of this.#all) connection.readOrWait();
  }

  answers(bytes: number): void {
    this.#answerBytes += bytes;
    if (this.#answerBytes <= this.#limits.maxAnswerBytes) return;
    this.#longest(({ answeringSince }) => answeringSince)?.destroy();
  }

  take(bytes: number): number {
    const left = this.#limits.maxAnswerBytes - this.#answerBytes - this.#takenBytes;
    const taken = Math.max(0, Math.min(bytes, left));
    this.#takenBytes += taken;
    return taken;
  }

  giveBack(bytes: number): void {
    this.#takenBytes -= bytes;
  }

  /** Of those that hold anything, since a time. */
  #longest(since: (connection: Connection) => number): Connection | null {
    let longest: Connection | null = null;
    for (const connection of this.#all) {
      if (since(connection) < (longest === null ? Infinity : since(longest))) longest = connection;
    }
    return longest;
  }

  /** To be called now and then: cuts those that stand still, and who stands in the way of all. */
  watch(): void {
    for (const connection of this.#all) connection.watch();
    if (this.#clock.monotonic() - this.#fullSince < this.#limits.stallMs) return;
    this.#longest(({ requestBytes }) => (requestBytes === 0 ? Infinity : -requestBytes))?.destroy();
  }
}
