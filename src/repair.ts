import { join, resolve } from 'node:path';
import { systemClock, type Clock } from './clock.js';
import { loadNativeCrc32c } from './crc32c.js';
import { OttlaError, asStorageError } from './errors.js';
import { topicDefaults } from './options.js';
import { repairPartition } from './repair-partition.js';
import { Slices } from './storage/batch-cursor.js';
import {
  decodePartitionMetadata,
  encodePartitionMetadata,
  newTopicId,
  partitionMetadataFile,
} from './storage/checkpoint.js';
import { systemDisk, type Disk } from './storage/disk.js';
import type { FileSystem } from './storage/file-system.js';
import type { Lock } from './storage/lock.js';
import {
  decodeProperties,
  encodeProperties,
  formatVersion,
  propertiesFile,
  unfinishedFile,
} from './storage/identity.js';
import { MemoryStore } from './storage/memory-store.js';
import { put, type Change, type Row, type RowKind, type TopicRow } from './storage/meta-store.js';
import { topicNameProblem } from './topic-name.js';
import { knownPartition, verifyPartition } from './verify-partition.js';
import { Findings } from './verify-report.js';

/** Where the new metadata is made, before it takes the old one's place. */
const newMeta = 'meta.repair.tmp';
const partitionDirectory = /^(.+)-(0|[1-9]\d{0,5})$/;

/** Rows that could still be read, of a store that may be damaged, older, or another's. */
export type SalvagedRows = { readonly [K in RowKind]: readonly Row<K>[] };

/** What is repaired. */
export interface RepairSource {
  readonly directory: string;
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: () => number;
  readonly rows: SalvagedRows;
  readonly signal?: AbortSignal;
}

/**
 * Repairs a data directory that nobody has open.
 * @returns what was done, in sentences; none: all was well
 * @throws LOCKED; KAFKA_STORAGE_ERROR, also if it is no data directory; ABORTED
 */
export async function repairDirectory(
  path: string,
  random: () => number,
  signal?: AbortSignal,
  disk?: Disk,
): Promise<string[]> {
  const directory = resolve(path);
  const [used] = await Promise.all([disk ?? systemDisk(), loadNativeCrc32c()]);
  const since = new Date(systemClock.now()).toISOString();
  let lock: Lock | undefined;
  try {
    refuseOthers(used.files, directory);
    lock = used.lock(join(directory, 'lock'), since);
    return await repairLocked(
      used,
      directory,
      nameAside(used.files, directory, since),
      random,
      signal,
    );
  } catch (error) {
    throw asStorageError(directory, error, false);
  } finally {
    lock?.close();
  }
}

/** What comes behind the names of what is replaced: nothing has it yet, though two repairs be of one moment. */
function nameAside(files: FileSystem, directory: string, since: string): string {
  const stamp = since.replaceAll(':', '');
  for (let number = 0; ; number++) {
    const aside = number === 0 ? `${stamp}-old` : `${stamp}-${number}-old`;
    const taken = [`meta.${aside}`, `${newMeta}.${aside}`];
    if (taken.every((name) => !files.isDirectory(join(directory, name)))) return aside;
  }
}

/**
 * The new metadata takes the old one's place last: who is interrupted before begins anew from the same rows.
 * @param aside behind the names of what is replaced
 */
async function repairLocked(
  { files, openStore, salvage }: Disk,
  directory: string,
  aside: string,
  random: () => number,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const meta = join(directory, 'meta');
  const temporary = join(directory, newMeta);
  // A repair that was interrupted between its two renames left the rows here.
  const source = files.isDirectory(meta) || !files.isDirectory(temporary) ? meta : temporary;
  const { rows, problems } = salvage(source);
  const report = [...problems];
  if (problems.length > 0) {
    report.push(
      "What stood only there is lost: groups' commits, topics' options and codecs, where deleteRecords began a log.",
    );
  }
  const changes = await repairLogs(
    { directory, files, clock: systemClock, random, rows, ...(signal && { signal }) },
    (sentence) => report.push(sentence),
  );
  const storeId =
    statedStoreId(files, directory) ?? rows.store[0]?.value.storeId ?? newTopicId(random);
  const all = [put(['store'], { formatVersion, storeId }), ...changes];
  const isWhole = problems.length === 0 && areSame(rows, all);
  if (!isWhole) {
    if (source === temporary) files.rename(temporary, `${temporary}.${aside}`);
    else files.removeDirectory(temporary);
    files.makeDirectory(temporary);
    const store = await openStore(temporary);
    try {
      await store.write(all);
    } finally {
      await store.close();
    }
    await files.syncDirectory(temporary);
  }
  if (!isWhole || source === temporary) {
    let what = 'The metadata was gone, and was rebuilt from the partitions.';
    if (files.isDirectory(meta)) {
      const old = join(directory, `meta.${aside}`);
      files.rename(meta, old);
      what = `The metadata was rebuilt from the partitions; the old one is kept in ${old}.`;
    }
    files.rename(temporary, meta);
    await files.syncDirectory(directory);
    report.push(what);
  }
  await stateStoreId(files, directory, storeId, report);
  return report;
}

function refuseOthers(files: FileSystem, directory: string): void {
  const refuse = (problem: string): never => {
    throw new OttlaError('KAFKA_STORAGE_ERROR', `${directory} ${problem}`, { retriable: false });
  };
  if (files.size(join(directory, unfinishedFile)) >= 0) {
    refuse('holds a backup that was not finished: remove it, and make another');
  }
  const isOurs =
    files.isDirectory(directory) &&
    (files.isDirectory(join(directory, 'meta')) ||
      files.size(join(directory, propertiesFile)) >= 0 ||
      partitionsIn(files, directory).length > 0);
  if (!isOurs) refuse('is no Ottla directory: it has neither metadata nor partitions');
}

function statedStoreId(files: FileSystem, directory: string): string | undefined {
  return decodeProperties(files.readFile(join(directory, propertiesFile)));
}

async function stateStoreId(
  files: FileSystem,
  directory: string,
  storeId: string,
  report: string[],
): Promise<void> {
  if (statedStoreId(files, directory) === storeId) return;
  report.push(`${propertiesFile} was missing or damaged: it names store ${storeId} again.`);
  await files.replaceFile(join(directory, propertiesFile), encodeProperties(storeId));
}

function areSame(rows: SalvagedRows, changes: readonly Change[]): boolean {
  return textOf(Object.values(rows).flat()) === textOf(changes);
}

function textOf(rows: readonly { readonly key: unknown; readonly value: unknown }[]): string {
  return rows
    .map(({ key, value }) => JSON.stringify([key, value]))
    .toSorted()
    .join('\n');
}

interface FoundPartition {
  readonly topic: string;
  readonly partition: number;
  readonly directory: string;
  /** null: partition.metadata is missing or damaged. */
  readonly topicId: string | null;
}

function partitionsIn(files: FileSystem, directory: string): FoundPartition[] {
  return files.list(directory).flatMap((name) => {
    const [, topic = '', number] = partitionDirectory.exec(name) ?? [];
    const path = join(directory, name);
    if (topicNameProblem(topic) !== null || !files.isDirectory(path)) return [];
    const text = files.readFile(join(path, partitionMetadataFile))?.toString();
    const topicId = text === undefined ? null : decodePartitionMetadata(text);
    const isOurs =
      text !== undefined || files.list(path).some((file) => /^\d{20}\.log$/.test(file));
    return isOurs ? [{ topic, partition: Number(number), directory: path, topicId }] : [];
  });
}

/**
 * Repairs partitions and finds out which rows belong to them.
 * @returns all rows but the store's
 */
export async function repairLogs(
  source: RepairSource,
  tell: (sentence: string) => void,
): Promise<Change[]> {
  const { files, directory, rows, clock, signal } = source;
  const slices = new Slices(clock, `repair of ${directory}`, signal);
  const dying = new Set(rows.tombstone.map(({ key }) => key[1]));
  const found = new Map<string, FoundPartition[]>();
  for (const partition of partitionsIn(files, directory)) {
    if (dying.has(partition.topicId ?? '')) continue;
    const others = found.get(partition.topic);
    if (others === undefined) found.set(partition.topic, [partition]);
    else others.push(partition);
  }
  const known = new Map(rows.topic.map(({ key, value }) => [key[1], value]));
  const store = new MemoryStore();
  await store.write(Object.values(rows).flat());
  const owners = new Map<string, string>();
  const names = new Map(rows.topic.map(({ key, value }) => [value.id, key[1]]));
  for (const { key, value } of rows.segment) {
    const owner = `${names.get(key[1]) ?? key[1]}-${key[2]}, offset ${key[3]}`;
    owners.set(`${value.bytes} ${value.checksum}`, owner);
  }
  const changes: Change[] = [
    ...rows.tombstone.map(({ key, value }) => put(key, value)),
    ...rows.group.map(({ key, value }) => put(key, value)),
    ...[...dying].flatMap((topicId) => rowsOf(store, topicId)),
  ];
  const partitionCounts = new Map<string, number>();
  for (const name of new Set([...known.keys(), ...found.keys()])) {
    const partitions = found.get(name) ?? [];
    const hasCommits = (id: string): boolean => rows.offset.some(({ key }) => key[3] === id);
    const row = topicRow(name, known.get(name), partitions, hasCommits, source.random, tell);
    changes.push(put(['topic', name], row));
    partitionCounts.set(row.id, row.partitions);
    if (row.state === 'creating') {
      changes.push(...rowsOf(store, row.id));
      continue;
    }
    for (let partition = 0; partition < row.partitions; partition++) {
      await claimDirectory(source, name, row.id, partition, partitions, tell);
      const at = knownPartition(store, directory, name, row, partition);
      const findings = new Findings();
      await verifyPartition(files, at, slices, findings);
      const { problems } = findings;
      if (problems.length === 0) {
        changes.push(...rowsOf(store, row.id, partition));
        continue;
      }
      const { indexIntervalBytes = topicDefaults.indexIntervalBytes } = row.options;
      const damaged = {
        ...at,
        // Of a topic whose options are lost nobody knows.
        mayHaveGaps: at.mayHaveGaps || known.get(name)?.id !== row.id,
        indexIntervalBytes: Number(indexIntervalBytes),
        problems,
        ownerOf: (bytes: number, checksum: number) => owners.get(`${bytes} ${checksum}`),
      };
      changes.push(...(await repairPartition(files, damaged, slices, tell)));
    }
  }
  await files.syncDirectory(directory);
  changes.push(...rows.transaction.map((row) => repairedTransaction(row, changes, tell)));
  for (const { key, value } of rows.offset) {
    const [, , group, topicId, partition] = key;
    if (partition < (partitionCounts.get(topicId) ?? 0)) changes.push(put(key, value));
    else
      tell(
        `group ${group}: its commit of partition ${partition} of the topic with id ${topicId}, which there is not, was dropped.`,
      );
  }
  return changes;
}

/**
 * A transaction is committed where its records are still there: elsewhere there is nothing to commit. One
 * that is open is aborted: records of it may be lost.
 */
function repairedTransaction(
  { key, value }: Row<'transaction'>,
  changes: readonly Change[],
  tell: (sentence: string) => void,
): Change {
  if (value.open !== null) tell(`the open transaction of ${key[1]} is aborted.`);
  if (value.decision === null) return put(key, { ...value, open: null });
  const partitions = value.decision.partitions.filter(({ topicId, partition, endOffset }) => {
    const row = changes.find(
      ({ key: [kind, id, index] }) => kind === 'partition' && id === topicId && index === partition,
    ) as Change<'partition'> | undefined;
    const end = row?.value?.active.nextOffset ?? 0;
    if (end >= endOffset) return true;
    tell(
      `a transaction of ${key[1]} was committed up to offset ${endOffset} of partition ${partition} of the topic with id ${topicId}, which ends at ${end}: what is left of it there is aborted.`,
    );
    return false;
  });
  const decision = partitions.length === 0 ? null : { partitions };
  return put(key, { ...value, decision, open: null });
}

/** What there is of a topic's partitions, or of one, as it is. */
function rowsOf(store: MemoryStore, topicId: string, ...partition: [] | [number]): Change[] {
  const rows: Row<RowKind>[] = [
    ...store.range(['partition', topicId, ...partition]),
    ...store.range(['segment', topicId, ...partition]),
    ...store.range(['compaction', topicId, ...partition]),
  ];
  return rows.map(({ key, value }) => put(key, value));
}

/** The topic as it is: by its row, if the directories are that topic's, else by the directories. */
function topicRow(
  name: string,
  known: TopicRow | undefined,
  partitions: readonly FoundPartition[],
  hasCommits: (topicId: string) => boolean,
  random: () => number,
  tell: (sentence: string) => void,
): TopicRow {
  const ids = partitions.map(({ topicId }) => topicId).filter((id) => id !== null);
  const count = (id: string): number => ids.filter((other) => other === id).length;
  if (known !== undefined && (ids.length === 0 || ids.includes(known.id))) {
    const own = partitions.filter(({ topicId }) => topicId === null || topicId === known.id);
    const total = Math.max(known.partitions, ...own.map(({ partition }) => partition + 1));
    if (total > known.partitions && known.state === 'live') {
      tell(`topic ${name} has ${total} partitions, the metadata had ${known.partitions}.`);
      return { ...known, partitions: total };
    }
    return known;
  }
  const id = ids.toSorted((one, other) => count(other) - count(one))[0] ?? newTopicId(random);
  const own = partitions.filter(({ topicId }) => topicId === null || topicId === id);
  const total = Math.max(...own.map(({ partition }) => partition + 1));
  const commits = hasCommits(id) ? '' : ', what groups have committed in it';
  tell(
    `topic ${name} was taken over from its directories: ${total} partitions. Lost are its options and the names of its codecs, which have their defaults${commits}, and where deleteRecords began its logs.`,
  );
  return { id, partitions: total, state: 'live', codecs: { key: null, value: null }, options: {} };
}

/** Makes a partition's directory the topic's: one of another id is moved aside, a missing one made. */
async function claimDirectory(
  { files, directory, random }: RepairSource,
  topic: string,
  topicId: string,
  partition: number,
  partitions: readonly FoundPartition[],
  tell: (sentence: string) => void,
): Promise<void> {
  const name = `${topic}-${partition}`;
  const path = join(directory, name);
  const found = partitions.find((one) => one.partition === partition);
  if (found?.topicId === topicId) return;
  if (found !== undefined && found.topicId === null) {
    tell(
      `${name}: ${partitionMetadataFile} was missing or damaged: it names topic id ${topicId} again.`,
    );
  } else {
    if (files.isDirectory(path)) {
      const aside = `${path}.${newTopicId(random)}-stray`;
      files.rename(path, aside);
      tell(
        `${name}: the directory is of topic id ${found?.topicId ?? 'none'}, not ${topicId}. Kept in ${aside}.`,
      );
    }
    files.makeDirectory(path);
    tell(`${name}: there was no directory: it was made, and is empty.`);
  }
  const metadata = encodePartitionMetadata(topicId);
  await files.replaceFile(join(path, partitionMetadataFile), metadata);
}
