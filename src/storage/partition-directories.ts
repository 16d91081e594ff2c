import { join } from 'node:path';
import {
  decodePartitionMetadata,
  encodePartitionMetadata,
  newTopicId,
  partitionMetadataFile,
} from './checkpoint.js';
import type { FileSystem } from './file-system.js';

/**
 * The directories of all partitions, in the data directory. Whose one is stands in its
 * partition.metadata; a topic is named by its id, and nothing of another is touched.
 */
export class PartitionDirectories {
  readonly #root: string;
  readonly #files: FileSystem;
  /** From 0 to below 1. */
  readonly #random: () => number;

  constructor(root: string, files: FileSystem, random: () => number) {
    this.#root = root;
    this.#files = files;
    this.#random = random;
  }

  #path(topic: string, index: number): string {
    return join(this.#root, `${topic}-${index}`);
  }

  /** As Kafka renames a deleted partition's directory: with the topic's name cut, so that it fits 255 bytes. */
  #asidePath(topic: string, index: number, suffix: string): string {
    return join(this.#root, `${topic.slice(0, 200)}-${index}.${suffix}`);
  }

  /** Makes those with numbers from `from` to below `end`, durably. Fine where some are there already. */
  async make(topic: string, id: string, from: number, end: number): Promise<void> {
    const metadata = encodePartitionMetadata(id);
    for (let index = from; index < end; index++) {
      const path = this.#path(topic, index);
      this.#files.makeDirectory(path);
      await this.#files.replaceFile(join(path, partitionMetadataFile), metadata);
    }
    await this.#files.syncDirectory(this.#root);
  }

  /**
   * What lies in the way of directories to be made is no topic's: half deleted, or of unknown origin.
   * Moved durably: else it might be back in its place after a crash, and be taken for the new one's.
   */
  async setAside(
    topic: string,
    id: string,
    from: number,
    end: number,
    isDeleted: (id: string) => boolean,
  ): Promise<void> {
    let isMoved = false;
    for (let index = from; index < end; index++) {
      const path = this.#path(topic, index);
      if (!this.#files.isDirectory(path) || this.#isFree(path, id)) continue;
      const owner = this.#ownerOf(path);
      const isDoomed = owner !== null && isDeleted(owner);
      const suffix = isDoomed ? `${owner}-delete` : `${newTopicId(this.#random)}-stray`;
      this.#files.rename(path, this.#asidePath(topic, index, suffix));
      isMoved = true;
    }
    if (isMoved) await this.#files.syncDirectory(this.#root);
  }

  /** Whether a directory is this topic's, or was left empty when a partition was being made. */
  #isFree(path: string, id: string): boolean {
    const owner = this.#ownerOf(path);
    if (owner !== null) return owner === id;
    return this.#files.list(path).every((name) => name === `${partitionMetadataFile}.tmp`);
  }

  /**
   * Removes all that have a deleted topic's id, durably. Renamed durably first: a directory whose
   * partition.metadata is gone already could not be told from another topic's.
   */
  async remove(topic: string, id: string): Promise<void> {
    for (const entry of this.#files.list(this.#root)) {
      const index = partitionIndexIn(entry, topic);
      const path = join(this.#root, entry);
      if (index === null || this.#ownerOf(path) !== id) continue;
      this.#files.rename(path, this.#asidePath(topic, index, `${id}-delete`));
    }
    await this.#files.syncDirectory(this.#root);
    for (const entry of this.#files.list(this.#root)) {
      if (entry.endsWith(`.${id}-delete`)) this.#files.removeDirectory(join(this.#root, entry));
    }
    await this.#files.syncDirectory(this.#root);
  }

  #ownerOf(path: string): string | null {
    const bytes = this.#files.readFile(join(path, partitionMetadataFile));
    return bytes === undefined ? null : decodePartitionMetadata(bytes.toString());
  }
}

/** The number in the name of a directory of this topic's; null for any other name. */
function partitionIndexIn(entry: string, topic: string): number | null {
  if (!entry.startsWith(`${topic}-`)) return null;
  const digits = entry.slice(topic.length + 1);
  return /^\d+$/.test(digits) ? Number(digits) : null;
}
