import { join, resolve } from 'node:path';
import type { TopicPartition } from './assignment.js';
import { systemClock, type Clock } from './clock.js';
import { loadNativeCrc32c } from './crc32c.js';
import { OttlaError, asStorageError } from './errors.js';
import { Slices } from './storage/slices.js';
import { partitionMetadataFile } from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import {
  decodeProperties,
  ignoredNames,
  propertiesFile,
  unfinishedFile,
} from './storage/identity.js';
import type { MetaStore, Row, RowKind, TopicRow } from './storage/meta-store.js';
import {
  knownPartition,
  leftover,
  segmentsIn,
  verifyPartition,
  type KnownPartition,
} from './verify-partition.js';
import { Findings, type VerifyOptions, type VerifyReport } from './verify-report.js';
import { verifySegment } from './verify-segment.js';

const ownNames = new Set(['lock', 'meta', propertiesFile, unfinishedFile]);
const partitionDirectory = /^(.+)-(\d+)$/;
/** How often a partition is looked at again that its owner changed while it was checked. */
const maxLooks = 5;

/** What is checked: files, and the metadata unless that cannot be read. */
export interface VerifySource {
  readonly directory: string;
  readonly files: FileSystem;
  readonly store: MetaStore | null;
  readonly clock: Clock;
}

/**
 * Checks a data directory. Reads only, and works beside a running owner.
 * @throws KAFKA_STORAGE_ERROR if there is no directory; ABORTED
 */
export async function verifyDirectory(
  path: string,
  options: VerifyOptions = {},
  disk?: Disk,
): Promise<VerifyReport> {
  const directory = resolve(path);
  const [on] = await Promise.all([disk ?? systemDisk(), loadNativeCrc32c()]);
  try {
    return await verifyOn(on, directory, options);
  } catch (error) {
    throw asStorageError(directory, error);
  }
}

async function verifyOn(
  { files, openStore }: Disk,
  directory: string,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const findings = new Findings();
  const metaDirectory = join(directory, 'meta');
  if (!files.isDirectory(directory)) {
    throw new OttlaError('KAFKA_STORAGE_ERROR', `${directory} is no directory`, {
      retriable: false,
    });
  }
  let store: MetaStore | null = null;
  try {
    store = await openStore(metaDirectory, { readOnly: true });
  } catch (error) {
    const { message } = asStorageError(metaDirectory, error, false);
    findings.problems.push({ code: 'METADATA_DAMAGED', file: metaDirectory, message });
  }
  try {
    const source = { directory, files, store, clock: systemClock };
    return await verifyStore(source, options, findings);
  } finally {
    await store?.close();
  }
}

/** As verifyDirectory(), over open files and metadata. */
export async function verifyStore(
  source: VerifySource,
  options: VerifyOptions = {},
  findings: Findings = new Findings(),
): Promise<VerifyReport> {
  return new Verification(source, options, findings).run();
}

class Verification {
  readonly #source: VerifySource;
  readonly #options: VerifyOptions;
  readonly #slices: Slices;
  readonly #findings: Findings;
  /** Where a sealed segment with this size and checksum belongs. */
  readonly #places = new Map<string, string>();
  readonly #ends = new Map<string, number>();
  readonly #checked = new Set<string>();
  #totalBytes = 0;

  constructor(source: VerifySource, options: VerifyOptions, findings: Findings) {
    this.#source = source;
    this.#options = options;
    this.#findings = findings;
    this.#slices = new Slices(source.clock, `verify of ${source.directory}`, options.signal);
  }

  async run(): Promise<VerifyReport> {
    const topics = this.#rows('topic');
    this.#identity();
    this.#notePlaces(topics);
    for (const { key, value } of topics) {
      this.#findings.topics++;
      if (value.state === 'creating') {
        this.#note('UNFINISHED', `${key[1]}: its creation was interrupted; the next open ends it`);
        for (let i = 0; i < value.partitions; i++) this.#checked.add(`${key[1]}-${i}`);
        continue;
      }
      for (let i = 0; i < value.partitions; i++) await this.#partition(key[1], value, i);
    }
    for (const { value } of this.#rows('tombstone')) {
      this.#note(
        'UNFINISHED',
        `${value.name}: its deletion was interrupted; the next open ends it`,
      );
      for (let i = 0; i < value.partitions; i++) this.#checked.add(`${value.name}-${i}`);
    }
    await this.#directory();
    this.#commits(topics);
    this.#rows('group');
    return this.#findings.report();
  }

  #note(
    code: Parameters<Findings['notes']['push']>[0]['code'],
    message: string,
    file?: string,
  ): void {
    this.#findings.notes.push({ code, ...(file === undefined ? {} : { file }), message });
  }

  /** All rows of a kind; none, having said so, if one cannot be read. */
  #rows<K extends RowKind>(kind: K): Row<K>[] {
    const { store } = this.#source;
    if (store === null) return [];
    try {
      return [...store.range<K>([kind] as never)];
    } catch (error) {
      const { message } = asStorageError(this.#source.directory, error);
      this.#findings.problems.push({
        code: 'METADATA_DAMAGED',
        file: join(this.#source.directory, 'meta'),
        message,
      });
      return [];
    }
  }

  #identity(): void {
    const { directory, files, store } = this.#source;
    const unfinished = join(directory, unfinishedFile);
    if (files.size(unfinished) >= 0) {
      const message = `${directory} holds a backup that was not finished: remove it, and make another`;
      this.#findings.problems.push({ code: 'IDENTITY_MISMATCH', file: unfinished, message });
    }
    const path = join(directory, propertiesFile);
    const stated = decodeProperties(files.readFile(path));
    const known = store === null ? undefined : this.#rows('store')[0]?.value.storeId;
    if (store === null || stated === known) return;
    this.#findings.problems.push({
      code: 'IDENTITY_MISMATCH',
      file: path,
      message: `${path} names store ${stated ?? 'none'}, meta/ belongs to ${known ?? 'none'}`,
    });
  }

  #notePlaces(topics: readonly Row<'topic'>[]): void {
    const names = new Map(topics.map(({ key, value }) => [value.id, key[1]]));
    for (const { key, value } of this.#rows('segment')) {
      const [, topicId, partition, baseOffset] = key;
      const name = names.get(topicId) ?? topicId;
      this.#places.set(
        placeKey(value.bytes, value.checksum),
        `${name}-${partition}, offset ${baseOffset}`,
      );
      this.#totalBytes += value.bytes;
    }
    for (const { value } of this.#rows('partition')) this.#totalBytes += value.active.bytes;
  }

  /** Checks a partition, again if an owner changed its rows or files meanwhile. */
  async #partition(topic: string, topicRow: TopicRow, partition: number): Promise<void> {
    const { id } = topicRow;
    const { files } = this.#source;
    const store = this.#source.store!;
    const name = `${topic}-${partition}`;
    this.#checked.add(name);
    const look = (): KnownPartition =>
      knownPartition(store, this.#source.directory, topic, topicRow, partition);
    for (let looks = 1; ; looks++) {
      const part = new Findings();
      let before = '';
      let end: number | null = null;
      try {
        const known = look();
        before = stateOf(files, known);
        end = await verifyPartition(files, known, this.#slices, part, {
          ownerOf: (bytes, checksum) => this.#places.get(placeKey(bytes, checksum)),
          progress: () => this.#progress({ topic, partition }, part),
        });
      } catch (error) {
        const failure = asStorageError(name, error);
        if (failure.code === 'ABORTED') throw failure;
        const code = failure.code === 'METADATA_LOST' ? 'METADATA_DAMAGED' : 'UNREADABLE';
        part.problems.push({ code, topic, partition, message: failure.message });
      }
      if (part.problems.length > 0 && before !== '') {
        if (store.get(['topic', topic])?.id !== id) return;
        if (looks < maxLooks && stateOf(files, look()) !== before) continue;
      }
      if (end !== null) this.#ends.set(`${id}-${partition}`, end);
      this.#findings.add(part);
      return;
    }
  }

  #progress(at: TopicPartition, part: Findings): void {
    this.#options.progress?.({
      ...at,
      segments: this.#findings.segments + part.segments,
      bytes: this.#findings.bytes + part.bytes,
      totalBytes: this.#totalBytes,
    });
  }

  /** What lies in the data directory beside what the metadata knows. */
  async #directory(): Promise<void> {
    const { directory, files, store } = this.#source;
    for (const name of files.list(directory)) {
      if (ownNames.has(name) || ignoredNames.has(name) || this.#checked.has(name)) continue;
      const path = join(directory, name);
      const [, topic, number] = partitionDirectory.exec(name) ?? [];
      const isPartition = topic !== undefined && files.size(join(path, partitionMetadataFile)) >= 0;
      if (isPartition && (store === null || this.#findings.topics === 0)) {
        await this.#withoutRows(path, topic, Number(number));
      } else if (isPartition) {
        this.#note('LEFTOVER', `${path}: no topic of the metadata has this partition`, path);
      } else if (leftover.test(name)) {
        this.#note('LEFTOVER', `${path} was kept aside, or left behind; nothing reads it`, path);
      } else {
        this.#note('UNKNOWN_FILE', `${path} is not Ottla's; nothing reads it`, path);
      }
    }
  }

  /** A partition of which there is no metadata: its segments by themselves. */
  async #withoutRows(directory: string, topic: string, partition: number): Promise<void> {
    const findings = this.#findings;
    const at = { topic, partition };
    findings.partitions++;
    if (this.#source.store !== null) {
      const message = `${topic}-${partition}: the metadata knows no topic, and ${directory} is here: it is lost, emptied or older; Ottla.repair() rebuilds it`;
      findings.problems.push({ code: 'IDENTITY_MISMATCH', ...at, file: directory, message });
    }
    for (const baseOffset of segmentsIn(this.#source.files, { ...at, directory }, findings)) {
      const expected = { ...at, directory, baseOffset, isSwapping: false, mayHaveGaps: true };
      await verifySegment(this.#source.files, expected, this.#slices, findings);
      this.#progress(at, new Findings());
    }
  }

  #commits(topics: readonly Row<'topic'>[]): void {
    const names = new Map(topics.map(({ key, value }) => [value.id, key[1]]));
    for (const { key, value } of this.#rows('offset')) {
      const [, , group, topicId, partition] = key;
      const topic = names.get(topicId);
      const end = this.#ends.get(`${topicId}-${partition}`);
      if (topic !== undefined && (end === undefined || value.offset <= end)) continue;
      const what =
        topic === undefined
          ? `of the topic with id ${topicId}, which there is not`
          : `of ${topic}-${partition}, whose log ends at ${end}`;
      this.#note('COMMIT_ASTRAY', `group ${group} has committed offset ${value.offset} ${what}`);
    }
  }
}

/** What an owner changes when it rolls, frees or compacts. */
function stateOf(files: FileSystem, known: KnownPartition): string {
  const { row, sealed, compaction, directory } = known;
  const names = files.isDirectory(directory) ? files.list(directory) : [];
  return JSON.stringify([row, [...sealed], compaction, names]);
}

function placeKey(bytes: number, checksum: number): string {
  return `${bytes} ${checksum}`;
}
