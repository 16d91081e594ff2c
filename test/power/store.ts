import { MemoryStore } from '../../src/storage/memory-store.js';
import type {
  Change,
  Key,
  KeyPrefix,
  MetaStore,
  Row,
  RowKind,
  Rows,
} from '../../src/storage/meta-store.js';
import type { Power } from './files.js';
import type { Loss } from './loss.js';

/**
 * Rows as LMDB keeps them: a write is there whole once it has resolved. One that has not may be there,
 * and then those before it are.
 */
export class PowerStore implements MetaStore {
  readonly #rows = new MemoryStore();
  /** By key, so that a row that is put again takes the old one's place. */
  readonly #durable = new Map<string, Change>();
  readonly #power: Power;
  readonly #underWay: (readonly Change[])[] = [];
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(rows: readonly Change[], power: Power) {
    this.#power = power;
    void this.#rows.write(rows);
    applyTo(this.#durable, rows);
  }

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    return this.#rows.get(key);
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    return this.#rows.range(prefix);
  }

  write(changes: readonly Change[]): Promise<void> {
    this.#power.step('rows', pathOf(changes));
    this.#underWay.push(changes);
    const written = this.#lastWrite.then(() => this.#write(changes));
    this.#lastWrite = written;
    return written;
  }

  async #write(changes: readonly Change[]): Promise<void> {
    await this.#power.wait();
    await this.#rows.write(changes);
    applyTo(this.#durable, changes);
    this.#underWay.shift();
    this.#power.step('rows written', pathOf(changes));
  }

  /** What is left after a loss of power now. */
  at(loss: Loss): Change[] {
    const left = new Map(this.#durable);
    const count = loss.stateOf(this.#underWay.length + 1);
    for (const changes of this.#underWay.slice(0, count)) applyTo(left, changes);
    return [...left.values()];
  }

  async close(): Promise<void> {
    await this.#lastWrite;
  }
}

function applyTo(rows: Map<string, Change>, changes: readonly Change[]): void {
  for (const change of changes) {
    const key = JSON.stringify(change.key);
    if (change.value === undefined) rows.delete(key);
    else rows.set(key, change);
  }
}

function pathOf(changes: readonly Change[]): string {
  return changes.map(({ key }) => key.join('/')).join(' ');
}
