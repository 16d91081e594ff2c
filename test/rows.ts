import {
  remove,
  type Change,
  type MetaStore,
  type Row,
  type RowKind,
} from '../src/storage/meta-store.js';

type AllRows = { readonly [K in RowKind]: Row<K>[] };

/** All rows of a store. */
export function rowsOf(store: MetaStore): AllRows {
  return {
    store: [...store.range(['store'])],
    topic: [...store.range(['topic'])],
    tombstone: [...store.range(['tombstone'])],
    partition: [...store.range(['partition'])],
    segment: [...store.range(['segment'])],
    compaction: [...store.range(['compaction'])],
    group: [...store.range(['group'])],
    transaction: [...store.range(['transaction'])],
    offset: [...store.range(['offset'])],
  };
}

export async function replaceRows(store: MetaStore, changes: readonly Change[]): Promise<void> {
  const old = Object.values(rowsOf(store)).flat();
  await store.write([...old.map(({ key }) => remove(key)), ...changes]);
}
