import type { TopicPartition } from './assignment.js';
import { asStorageError } from './errors.js';
import type { File } from './storage/file-system.js';
import { MemoryFiles } from './storage/memory-files.js';
import { MemoryStore } from './storage/memory-store.js';
import type { Change, Key } from './storage/meta-store.js';

/**
 * What may fail in `Ottla.memory()`, for tests: each is asked before it is done. An error that is thrown is
 * what the disk answers, as Node's own errors with a `code` (EIO, ENOSPC, …); a promise is waited for
 * first. `FaultInjector` of `ottla/testing` is one.
 */
export interface Faults {
  /** Before bytes are appended to a partition's log. */
  beforeWrite?(at: TopicPartition): void;
  /** Before a partition's log is made durable. */
  beforeSync?(at: TopicPartition): void | Promise<void>;
  /** Before offsets of a group are stored. An error fails that commit, and nothing else. */
  beforeCommit?(group: string): void | Promise<void>;
  /** Before run() calls a handler; null: its consumer has no group. An error counts as the handler's. */
  beforeHandler?(group: string | null, at: TopicPartition): void | Promise<void>;
  /** Called once, with what can be done to the Ottla that these faults are given to. */
  attach?(controls: FaultControls): void;
}

/** What a test can do to an Ottla, beside letting its disk fail. */
export interface FaultControls {
  /**
   * Takes members of a group in this process for dead: all, or the one with this id. Their partitions are lost
   * at once, and their commits refused; they come back when their code asks for records again.
   * @returns how many there were
   */
  fence(group: string, memberId?: string): number;
}

const logFile = /([^/\\]+)-(\d+)[/\\]\d+\.log$/;

/** Files in memory whose logs fail as told. */
export class FaultyFiles extends MemoryFiles {
  readonly #faults: Faults;

  constructor(faults: Faults) {
    super();
    this.#faults = faults;
  }

  override open(path: string, mode: 'read' | 'write'): File {
    const file = super.open(path, mode);
    const [, topic, partition] = logFile.exec(path) ?? [];
    if (topic === undefined) return file;
    const faults = this.#faults;
    const at = { topic, partition: Number(partition) };
    return {
      write(bytes, start, end, position) {
        faults.beforeWrite?.(at);
        return file.write(bytes, start, end, position);
      },
      async sync() {
        await faults.beforeSync?.(at);
        await file.sync();
      },
      read: (into, start, end, position) => file.read(into, start, end, position),
      readAsync: (into, start, end, position) => file.readAsync(into, start, end, position),
      size: () => file.size(),
      truncate: (size) => file.truncate(size),
      close: () => file.close(),
    };
  }
}

/** Rows in memory whose commits fail as told. */
export class FaultyStore extends MemoryStore {
  readonly #faults: Faults;

  constructor(faults: Faults) {
    super();
    this.#faults = faults;
  }

  override async write(changes: readonly Change[]): Promise<void> {
    const commits = changes.filter(isCommit);
    const groups = new Set(commits.map(({ key }) => key[2]));
    try {
      for (const group of groups) await this.#faults.beforeCommit?.(group);
    } catch (error) {
      throw asStorageError('metadata', error);
    }
    await super.write(changes);
  }
}

function isCommit(change: Change): change is Change & { readonly key: Key<'offset'> } {
  return change.key[0] === 'offset' && change.value !== undefined;
}
