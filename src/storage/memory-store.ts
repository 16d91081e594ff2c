import { OttlaError } from '../errors.js';
import {
  type Change,
  type Key,
  type KeyPrefix,
  type MetaStore,
  type Row,
  type RowKind,
  type Rows,
} from './meta-store.js';
import { checkKey } from './row-key.js';

/** Rows that live as long as this object, one sorted array for each kind. */
export class MemoryStore implements MetaStore {
  readonly #tables: { readonly [K in RowKind]: Row<K>[] } = {
    store: [],
    topic: [],
    tombstone: [],
    partition: [],
    segment: [],
    compaction: [],
    group: [],
    transaction: [],
    offset: [],
  };
  #closed = false;

  get<K extends RowKind>(key: Key<K>): Rows[K] | undefined {
    const rows = this.#table(key[0], key);
    const row = rows[countBelow(rows, key, false)];
    return row !== undefined && compare(row.key, key) === 0 ? row.value : undefined;
  }

  range<K extends RowKind>(prefix: KeyPrefix<K>): Iterable<Row<K>> {
    const rows = this.#table(prefix[0], prefix);
    return rows.slice(countBelow(rows, prefix, false), countBelow(rows, prefix, true));
  }

  async write(changes: readonly Change[]): Promise<void> {
    if (this.#closed) throw closed();
    for (const { key, value } of changes) {
      const rows: Row<RowKind>[] = this.#tables[key[0]];
      const at = countBelow(rows, key, false);
      const row = rows[at];
      const isThere = row !== undefined && compare(row.key, key) === 0;
      if (value === undefined) {
        if (isThere) rows.splice(at, 1);
      } else if (isThere) {
        rows[at] = { key, value };
      } else {
        rows.splice(at, 0, { key, value });
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #table<K extends RowKind>(kind: K, key: KeyParts): readonly Row<K>[] {
    if (this.#closed) throw closed();
    checkKey(key);
    return this.#tables[kind];
  }
}

function closed(): OttlaError {
  return new OttlaError('CLOSED', 'the metadata is closed');
}

type KeyParts = readonly (string | number)[];

/** How many rows come before the first that begins with `prefix`, or, with `orBegin`, up to the last. */
function countBelow(
  rows: readonly { readonly key: KeyParts }[],
  prefix: KeyParts,
  orBegin: boolean,
): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compare(rows[middle]?.key ?? [], prefix);
    if (order < 0 || (orBegin && order === 0)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The order of a key and a prefix; 0 if the key begins with it. */
function compare(key: KeyParts, prefix: KeyParts): number {
  for (let i = 0; i < prefix.length; i++) {
    const part = key[i];
    const wanted = prefix[i];
    if (part === wanted) continue;
    if (typeof part === 'number' && typeof wanted === 'number') return part - wanted;
    return compareStrings(String(part), String(wanted));
  }
  return 0;
}

/** The order of UTF-8: surrogates, which only stand for code points above U+FFFF, come last. */
function compareStrings(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let i = 0; i < length; i++) {
    const unit = one.charCodeAt(i);
    const otherUnit = other.charCodeAt(i);
    if (unit !== otherUnit) return rank(unit) - rank(otherUnit);
  }
  return one.length - other.length;
}

function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
