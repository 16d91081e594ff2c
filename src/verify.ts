import { join, resolve } from 'node:path';
import { systemClock, type Clock } from './clock.js';
import { loadNativeCrc32c } from './crc32c.js';
import type { TopicPartition } from './assignment.js';
import { OttlaError, asStorageError } from './errors.js';
import { PartitionProducers } from './partition-producers.js';
import { Slices } from './storage/batch-cursor.js';
import {
  decodePartitionMetadata,
  parseSegmentFileName,
  partitionMetadataFile,
  segmentFileName,
} from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import type {
  MetaStore,
  PartitionRow,
  Row,
  RowKind,
  SegmentRow,
  TopicRow,
} from './storage/meta-store.js';
import { Findings, type VerifyOptions, type VerifyReport } from './verify-report.js';
import { verifySegment, type SegmentSum } from './verify-segment.js';

const propertiesFile = 'meta.properties';
const ignoredNames = new Set(['.DS_Store', 'Thumbs.db', 'desktop.ini', 'lost+found']);
const ownNames = new Set(['lock', 'meta', propertiesFile]);
const partitionDirectory = /^(.+)-(\d+)$/;
const leftover = /\.torn$|\.tmp$|-stray$|^meta.*-old$|\.old$/;
const partitionFile =
  /^(?:\d{20}\.(?:log|index|timeindex|txnindex|snapshot)|partition\.metadata|leader-epoch-checkpoint)$/;
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
  const [{ files, openStore }] = await Promise.all([disk ?? systemDisk(), loadNativeCrc32c()]);
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

/** The rows of one partition. */
interface PartitionRows {
  readonly topic: TopicRow | undefined;
  readonly row: PartitionRow | undefined;
  readonly sealed: readonly (readonly [baseOffset: number, row: SegmentRow])[];
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
    const path = join(directory, propertiesFile);
    const text = files.readFile(path)?.toString();
    const stated = text === undefined ? undefined : /^store\.id=(\S+)$/m.exec(text)?.[1];
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

  #look(topic: string, topicId: string, partition: number): PartitionRows {
    const store = this.#source.store!;
    return {
      topic: store.get(['topic', topic]),
      row: store.get(['partition', topicId, partition]),
      sealed: [...store.range(['segment', topicId, partition])].map(({ key, value }) => [
        key[3],
        value,
      ]),
    };
  }

  /** Checks a partition, again if an owner changed it meanwhile: segments roll, and retention removes some. */
  async #partition(topic: string, topicRow: TopicRow, partition: number): Promise<void> {
    const { id } = topicRow;
    this.#checked.add(`${topic}-${partition}`);
    for (let looks = 1; ; looks++) {
      const part = new Findings();
      let rows: PartitionRows | null = null;
      try {
        rows = this.#look(topic, id, partition);
        await this.#checkPartition(topic, topicRow, partition, rows, part);
      } catch (error) {
        const failure = asStorageError(`${topic}-${partition}`, error);
        if (failure.code === 'ABORTED') throw failure;
        const code = failure.code === 'METADATA_LOST' ? 'METADATA_DAMAGED' : 'UNREADABLE';
        part.problems.push({ code, topic, partition, message: failure.message });
      }
      if (part.problems.length > 0 && rows !== null) {
        const now = this.#look(topic, id, partition);
        if (now.topic?.id !== id) return;
        const isChanged = JSON.stringify(now) !== JSON.stringify(rows);
        if (isChanged && looks < maxLooks) continue;
      }
      this.#findings.add(part);
      return;
    }
  }

  #checkSnapshot(
    directory: string,
    { active, producers }: PartitionRow,
    at: TopicPartition,
    findings: Findings,
  ): void {
    const { files } = this.#source;
    if (new PartitionProducers(files, directory).isWhole(active.nextOffset, producers)) return;
    const file = join(directory, segmentFileName(active.nextOffset, 'snapshot'));
    const message = `${at.topic}-${at.partition}: ${file} is missing or damaged: the next open makes it anew from the log`;
    findings.notes.push({ code: 'INDEX_MISSING', ...at, file, message });
  }

  async #checkPartition(
    topic: string,
    topicRow: TopicRow,
    partition: number,
    { row, sealed }: PartitionRows,
    findings: Findings,
  ): Promise<void> {
    const { files } = this.#source;
    const directory = join(this.#source.directory, `${topic}-${partition}`);
    const name = `${topic}-${partition}`;
    const at = { topic, partition };
    findings.partitions++;
    if (!files.isDirectory(directory)) {
      const message = `${name}: there is no directory ${directory}`;
      findings.problems.push({ code: 'PARTITION_MISSING', ...at, file: directory, message });
      return;
    }
    this.#owner(directory, topicRow.id, at, findings);
    const present = new Set(this.#files(directory, at, findings));
    const mayHaveGaps = [topicRow.options['cleanupPolicy']].flat().includes('compact');
    let next: number | null = null;
    const missing: number[] = [];
    const start = row?.logStartOffset ?? 0;
    for (const [baseOffset, value] of sealed) {
      if (value.nextOffset <= start) {
        // Freed by retention; the next open removes what a crash left of it.
        present.delete(baseOffset);
        continue;
      }
      if (!present.delete(baseOffset)) {
        missing.push(baseOffset);
        if (next !== null) this.#segmentMissing(directory, baseOffset, at, findings);
        continue;
      }
      if (next !== null && next !== baseOffset)
        this.#hole(directory, next, baseOffset, at, findings);
      next = value.nextOffset;
      const expected = { ...at, directory, baseOffset, sealed: value, mayHaveGaps };
      const before = findings.problems.length;
      const sum = await verifySegment(files, expected, this.#slices, findings);
      this.#nameOwner(sum, value, findings, before);
      this.#progress(at, findings);
    }
    if (row !== undefined) this.#checkSnapshot(directory, row, at, findings);
    const active = row?.active;
    const baseOffset = active?.baseOffset ?? 0;
    const [gone] = missing;
    const first = sealed.find(([base]) => !missing.includes(base))?.[0] ?? baseOffset;
    if (gone !== undefined && gone < first) {
      findings.notes.push({
        code: 'LOG_BEGINS_LATER',
        ...at,
        offset: gone,
        file: directory,
        message: `${name}: the segments from offset ${gone} to ${first} were removed: the log begins behind them`,
      });
    }
    present.delete(baseOffset);
    const firstBase = sealed.find(([, { nextOffset }]) => nextOffset > start)?.[0] ?? baseOffset;
    for (const unknown of present) {
      if (unknown < firstBase && firstBase <= start) continue;
      findings.problems.push({
        code: 'SEGMENT_UNKNOWN',
        ...at,
        offset: unknown,
        file: directory,
        message: `${name}: the metadata does not know the segment of offset ${unknown} in ${directory}: it is older than the log, or another's; Ottla.repair() takes the segment over`,
      });
    }
    if (next !== null && next !== baseOffset && baseOffset > start) {
      this.#hole(directory, next, baseOffset, at, findings);
    }
    const expected = { ...at, directory, baseOffset, mayHaveGaps };
    const sum = await verifySegment(
      files,
      active === undefined ? expected : { ...expected, active },
      this.#slices,
      findings,
    );
    if (sum !== null) this.#ends.set(`${topicRow.id}-${partition}`, sum.nextOffset);
    this.#progress(at, findings);
  }

  #progress(at: { topic: string; partition: number }, part: Findings): void {
    this.#options.progress?.({
      ...at,
      segments: this.#findings.segments + part.segments,
      bytes: this.#findings.bytes + part.bytes,
      totalBytes: this.#totalBytes,
    });
  }

  #owner(
    directory: string,
    topicId: string,
    at: { topic: string; partition: number },
    findings: Findings,
  ): void {
    const path = join(directory, partitionMetadataFile);
    const text = this.#source.files.readFile(path)?.toString();
    const found = text === undefined ? 'none' : decodePartitionMetadata(text);
    if (found === topicId) return;
    findings.problems.push({
      code: 'IDENTITY_MISMATCH',
      ...at,
      file: path,
      message: `${at.topic}-${at.partition}: ${path} names topic id ${found ?? 'none'}, the metadata ${topicId}`,
    });
  }

  /** Base offsets of the segments in a partition's directory; what does not belong there is noted. */
  #files(
    directory: string,
    at: { topic: string; partition: number },
    findings: Findings,
  ): number[] {
    const bases: number[] = [];
    for (const name of this.#source.files.list(directory)) {
      if (ignoredNames.has(name)) continue;
      const base = parseSegmentFileName(name, 'log');
      if (base !== null) bases.push(base);
      if (partitionFile.test(name)) continue;
      const file = join(directory, name);
      const code = leftover.test(name) ? 'LEFTOVER' : 'UNKNOWN_FILE';
      const what = code === 'LEFTOVER' ? 'was kept aside, or left behind' : "is not Ottla's";
      findings.notes.push({ code, ...at, file, message: `${file} ${what}; nothing reads it` });
    }
    return bases;
  }

  #segmentMissing(
    directory: string,
    offset: number,
    at: { topic: string; partition: number },
    findings: Findings,
  ): void {
    findings.problems.push({
      code: 'SEGMENT_MISSING',
      ...at,
      offset,
      file: directory,
      message: `${at.topic}-${at.partition}: the sealed segment of offset ${offset} is missing in ${directory}`,
    });
  }

  #hole(
    directory: string,
    from: number,
    to: number,
    at: { topic: string; partition: number },
    findings: Findings,
  ): void {
    if (findings.problems.some(({ code, offset }) => code === 'SEGMENT_MISSING' && offset === from))
      return;
    findings.problems.push({
      code: 'SEGMENT_MISSING',
      ...at,
      offset: from,
      file: directory,
      message: `${at.topic}-${at.partition}: no segment in ${directory} has offsets ${from} to ${to - 1}`,
    });
  }

  /** Says of a segment that is another's whose it is, if the metadata knows that. */
  #nameOwner(sum: SegmentSum | null, row: SegmentRow, findings: Findings, from: number): void {
    if (sum === null || sum.checksum === row.checksum) return;
    const owner = this.#places.get(placeKey(sum.bytes, sum.checksum));
    if (owner === undefined) return;
    findings.problems = findings.problems.map((problem, i) =>
      i < from || problem.code !== 'SEGMENT_MISMATCH'
        ? problem
        : { ...problem, message: `${problem.message}. It is the segment of ${owner}` },
    );
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
    for (const baseOffset of this.#files(directory, at, findings)) {
      const expected = { ...at, directory, baseOffset, mayHaveGaps: true };
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

function placeKey(bytes: number, checksum: number): string {
  return `${bytes} ${checksum}`;
}
