import { crc32c } from '../crc32c.js';
import { OttlaError } from '../errors.js';
import type { FileSystem } from './file-system.js';
import { IndexFile } from './index-file.js';
import { emptySum, type FileSum } from './meta-store.js';
import { TransactionIndex, type AbortedTransaction } from './transaction-index.js';

/**
 * The transactions that were aborted by a marker in one segment. Unlike the other indexes this one is no
 * hint: it counts only while its file is the one that the metadata knows.
 */
export class SegmentTransactions {
  readonly #file: IndexFile<TransactionIndex>;
  /** As the row or the recovery point says. */
  #known: FileSum = emptySum;
  /** False: the file was not read yet, or is not the right one. */
  #isWhole = true;

  constructor(files: FileSystem, path: () => string) {
    this.#file = new IndexFile(
      files,
      path,
      () => new TransactionIndex(),
      (bytes) => TransactionIndex.fromBytes(bytes),
    );
  }

  /**
   * Takes over what the metadata says. The file is read at first use.
   * @param toAppend entries may follow: what a crash left in the file makes way for them
   */
  restore(known: FileSum, toAppend: boolean): void {
    this.#known = known;
    this.#isWhole = known.bytes === 0;
    if (toAppend && this.#isWhole) this.#file.restore(0, () => true);
  }

  /** Whether the file is the one that the metadata knows. */
  get isWhole(): boolean {
    this.#isWhole ||= this.#read();
    return this.#isWhole;
  }

  /** @throws CORRUPT_MESSAGE if the file is not the one that the metadata knows */
  get index(): TransactionIndex {
    if (this.isWhole) return this.#file.entries;
    throw new OttlaError(
      'CORRUPT_MESSAGE',
      `${this.#file.path} is missing or damaged: the next open, or topics.reopen, makes it anew`,
    );
  }

  /** Whether there are any, as far as is known. */
  get mayHaveAborted(): boolean {
    return !this.#isWhole || this.#file.entries.length > 0;
  }

  #read(): boolean {
    const { bytes, checksum } = this.#known;
    return this.#file.restore(bytes, (_, found) => crc32c(found, 0, bytes) === checksum);
  }

  /** Begins anew; save() writes it. */
  replace(entries: readonly AbortedTransaction[]): void {
    this.#file.clear();
    for (const entry of entries) this.#file.entries.append(entry);
    this.#isWhole = true;
  }

  /** Of the file, once saved. */
  sum(): FileSum {
    if (!this.#isWhole) return this.#known;
    const bytes = this.#file.entries.bytesFrom(0);
    return bytes.length === 0
      ? emptySum
      : { bytes: bytes.length, checksum: crc32c(bytes, 0, bytes.length) };
  }

  async save(): Promise<void> {
    if (this.#isWhole) await this.#file.save();
  }
}
