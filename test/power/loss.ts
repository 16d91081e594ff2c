import type { Random } from './random.js';

/**
 * What becomes of changes that were not synced. 'kill': the process died and the machine went on, so all
 * of them are there. 'nothing': none is. 'torn': each sector, size and name as it was at a moment of its
 * own since the last sync.
 */
export type LossKind = 'kill' | 'nothing' | 'torn';

const kinds: readonly LossKind[] = ['kill', 'nothing', 'torn', 'torn', 'torn', 'torn', 'torn'];

/** One loss of power. */
export class Loss {
  readonly kind: LossKind;
  readonly #random: Random;
  readonly #sectorBytes: number;
  /** How likely a change has reached the disk. */
  readonly #kept: number;
  /** Whether the changes of one file reach the disk in order. */
  readonly #inOrder: boolean;

  constructor(random: Random, kind: LossKind = random.oneOf(kinds)) {
    this.#random = random;
    this.kind = kind;
    this.#sectorBytes = random.oneOf([512, 512, 4096]);
    this.#kept = random.oneOf([0.1, 0.5, 0.9]);
    this.#inOrder = random.chance(0.25);
  }

  /** Whether a change that hangs on no other is there. */
  keeps(): boolean {
    if (this.kind === 'torn') return this.#random.chance(this.#kept);
    return this.kind === 'kill';
  }

  /** Which of so many states, oldest first, something is in. */
  stateOf(count: number): number {
    if (this.kind === 'kill') return count - 1;
    if (this.kind === 'nothing') return 0;
    if (this.#random.chance(0.3)) return this.#random.below(count);
    return this.#random.chance(this.#kept) ? count - 1 : 0;
  }

  /** A file that was in these states since it was synced, oldest first. */
  contentOf(states: readonly Buffer[]): Buffer {
    const pick = (): Buffer => states[this.stateOf(states.length)]!;
    const whole = pick();
    if (this.kind !== 'torn' || this.#inOrder) return whole;
    const bytes = Buffer.alloc(whole.length);
    for (let at = 0; at < bytes.length; at += this.#sectorBytes) {
      bytes.set(pick().subarray(at, Math.min(at + this.#sectorBytes, bytes.length)), at);
    }
    return bytes;
  }
}
