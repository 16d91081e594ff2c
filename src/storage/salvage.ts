import { join } from 'node:path';
import { OttlaError } from '../errors.js';
import { checkLmdbFile } from './lmdb-check.js';
import type { Row, RowKind } from './meta-store.js';
import { decodeKey } from './row-key.js';
import { decodeRow } from './rows.js';

type SalvagedRows = { readonly [K in RowKind]: Row<K>[] };

/** What could be read, and in sentences why there may be more. */
export interface Salvage {
  readonly rows: SalvagedRows;
  readonly problems: string[];
}

/**
 * Reads what can be read of the metadata in a directory, without LMDB: damage there would end the
 * process. Every row has a checksum of its own, so one that is found is right, though others may be
 * missing.
 */
export function salvageRows(directory: string): Salvage {
  const path = join(directory, 'data.mdb');
  const rows: SalvagedRows = {
    store: [],
    topic: [],
    tombstone: [],
    partition: [],
    compaction: [],
    segment: [],
    group: [],
    transaction: [],
    offset: [],
  };
  const problems: string[] = [];
  const attempt = (read: () => void): void => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error;
      problems.push(`${error.message}.`);
    }
  };
  attempt(() => {
    const state = checkLmdbFile(path, (key, value) => {
      attempt(() => {
        const kind = decodeKey(key)?.[0];
        if (!(typeof kind === 'string' && Object.hasOwn(rows, kind))) return;
        const list: Row<RowKind>[] = rows[kind as RowKind];
        list.push(decodeRow(kind as RowKind, key, value));
      });
    });
    if (state === 'empty') problems.push(`${path} holds no metadata.`);
  });
  return { rows, problems };
}
