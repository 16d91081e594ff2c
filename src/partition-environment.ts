import type { Clock } from './clock.js';
import type { LogQuota } from './partition-quota.js';
import type { MetaStore } from './storage/meta-store.js';
import type { OpenFiles } from './storage/open-files.js';
import type { SyncQueue } from './storage/sync-queue.js';

/** What every partition of one data directory works with. */
export interface LogEnvironment {
  readonly openFiles: OpenFiles;
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly syncs: SyncQueue;
  /** One compaction at a time: each takes memory for its keys. */
  readonly compactions: SyncQueue;
  readonly readOnly: boolean;
  readonly quota: LogQuota;
  /** Runs later what changes files: nothing is changed if metadata of any partition turns out to be lost. */
  readonly onceAllAreSeen: (run: () => void) => void;
  /** Told, in a sentence, of what is found amiss. */
  readonly warn: (message: string) => void;
}
