import type { Broker } from '../../src/broker.js';
import { OttlaError } from '../../src/errors.js';
import { offsetForTimestamp } from '../../src/partition-offsets.js';
import type { Partition } from '../../src/partition.js';
import type { PartitionRow, TopicRow } from '../../src/storage/meta-store.js';
import { Directory } from './files.js';
import type { LossKind } from './loss.js';
import { readLog, tornTail, type FoundRecord } from './log-reading.js';
import type { Image, PowerMachine } from './machine.js';
import {
  commitKey,
  firstTimestamp,
  groups,
  isCompacted,
  type Model,
  type PartitionModel,
  type TopicModel,
} from './model.js';

/** What the power's return has found. */
export interface Opened {
  cuts: number;
  keptAside: number;
  rewound: number;
  lost: number;
}

const sentences = [
  /^[abc]: finished creating the topic\.$/,
  /^[abc]: finished deleting the topic\.$/,
  /^[abc]-\d: cut \d+ bytes at byte \d+, next offset \d+: .*\.$/s,
  /^group [gh]: its committed offset of [abc]-\d went back from \d+ to \d+, where the log now ends\.$/,
];

const fileName =
  /^(?:\d{20}(?:\.log|\.index|\.timeindex|(?:\.\d+)?\.torn(?:\.tmp)?)|(?:partition\.metadata|leader-epoch-checkpoint)(?:\.tmp)?)$/;

export function must(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}

/** Notes in the model that the machine has crashed, and what is torn then, judged from the bytes. */
export function noteCrash(model: Model, { image, loss }: { image: Image; loss: LossKind }): void {
  model.lostPower ||= loss !== 'kill';
  for (const { key, value } of image.rows) {
    const [kind, name = ''] = key;
    if (kind !== 'topic' || (value as TopicRow).state !== 'live') continue;
    const { id } = value as TopicRow;
    const topic = model.topics.get(`${name}`);
    for (const [index, partition] of topic?.partitions.entries() ?? []) {
      const row = image.rows.find(
        ({ key: [rowKind, topicId, number] }) =>
          rowKind === 'partition' && topicId === id && number === index,
      )?.value as PartitionRow | undefined;
      const { baseOffset = 0, bytes = 0, nextOffset = 0 } = row?.active ?? {};
      // That is what a recovery point says.
      for (const [offset, number] of partition.written) {
        if (offset < nextOffset) partition.durable.set(offset, number);
      }
      const log = `/${name}-${index}/${String(baseOffset).padStart(20, '0')}.log`;
      const content = image.files.find(log);
      if (content === undefined || content instanceof Directory) continue;
      const torn = tornTail(content.bytes, bytes, nextOffset);
      if (torn === null) continue;
      partition.isTorn = true;
      if (torn.hasGoodBatch && !partition.keptAside.some((kept) => kept.equals(torn.bytes))) {
        partition.keptAside.push(torn.bytes);
      }
    }
  }
  for (const { partitions } of model.topics.values()) {
    model.mayTearAgain ||= loss === 'kill' && partitions.some(({ isTorn }) => isTorn);
  }
}

/**
 * Compares what open has found with what was promised, and takes over what is there: from now on it must
 * stay, except that what a kill left unsynced may go with the power, from the end of the log on.
 */
export async function checkOpened(
  machine: PowerMachine,
  broker: Broker,
  model: Model,
): Promise<Opened> {
  const opened: Opened = { cuts: 0, keptAside: 0, rewound: 0, lost: 0 };
  for (const sentence of broker.recovery) {
    must(
      sentences.some((known) => known.test(sentence)),
      `open says: ${sentence}`,
    );
    if (sentence.includes(' cut ')) opened.cuts++;
    if (sentence.includes('Good batches lay behind')) opened.keptAside++;
    if (sentence.includes(' went back ')) opened.rewound++;
  }
  const names = [...broker.topics.all()].map(({ name }) => name);
  for (const name of names) must(model.topics.has(name), `topic ${name} is there again`);
  for (const [name, topic] of model.topics) {
    if (!names.includes(name)) {
      must(topic.state !== 'live', `topic ${name} is gone`);
      model.topics.delete(name);
      continue;
    }
    await checkTopic(broker, model, topic, opened);
  }
  checkDirectories(machine, model);
  model.lostPower = false;
  return opened;
}

async function checkTopic(
  broker: Broker,
  model: Model,
  topic: TopicModel,
  opened: Opened,
): Promise<void> {
  const { name } = topic;
  const count = broker.topics.get(name).partitionCount;
  must(
    count >= topic.partitionsAtLeast && count <= topic.partitions.length,
    `topic ${name} has ${count} partitions, expected ${topic.partitionsAtLeast} to ${topic.partitions.length}`,
  );
  topic.state = 'live';
  topic.partitionsAtLeast = count;
  for (let i = count; i < topic.partitions.length; i++) model.leftovers.add(`${name}-${i}`);
  topic.partitions.length = count;
  for (const [index, expected] of topic.partitions.entries()) {
    const partition = broker.topics.partition({ topic: name, partition: index });
    const records = await readLog(partition);
    must(partition.failure === null, `${partition.name}: ${partition.failure?.message}`);
    checkEpoch(partition, expected, records);
    const mustBeThere = new Map(expected.durable);
    for (const [offset, number] of expected.written) {
      // After a loss of power the last ones may be gone, but none before one that is there.
      if (model.lostPower && offset >= partition.logEndOffset) opened.lost++;
      else mustBeThere.set(offset, number);
    }
    const partitions = topic.partitions.with(index, { ...expected, durable: mustBeThere });
    const bySize = topic.settings.retentionBytes !== undefined;
    const limit = bySize ? partition.logEndOffset : expected.startAtMost;
    must(
      partition.logStartOffset <= Math.max(limit, consumedUpTo(model, topic, index)),
      `${partition.name} begins at ${partition.logStartOffset}, only ${limit} may be`,
    );
    await checkRecords({ ...topic, partitions }, partition, index, records);
    checkCommits(broker, model, topic, partition, records);
    takeOver(expected, partition, records, model.lostPower || expected.isTorn);
  }
}

/**
 * While it is open nothing but what the topic's options say has been deleted, or what was asked for: by
 * size a log keeps its retentionBytes, by consumption what no group has committed.
 */
export function checkStart(
  model: Model,
  topic: TopicModel,
  { name, index, bytes, logStartOffset }: Partition,
): void {
  const { retentionBytes = Infinity } = topic.settings;
  const { startAtMost } = topic.partitions[index]!;
  const limit = Math.max(startAtMost, consumedUpTo(model, topic, index));
  must(
    logStartOffset <= limit || bytes >= retentionBytes,
    `${name} begins at ${logStartOffset} and has ${bytes} bytes, nothing was deleted behind ${limit}`,
  );
}

/** No group has asked to commit more. */
function consumedUpTo(model: Model, topic: TopicModel, partition: number): number {
  if (topic.settings.retention !== 'consumed') return 0;
  const asked = groups.flatMap(
    (group) => model.commits.get(commitKey(group, topic, partition)) ?? [],
  );
  return Math.max(0, ...asked.map(({ offset }) => offset));
}

/** Records are there once, in the order of the calls, whole; and all that must be there is. */
export async function checkRecords(
  topic: TopicModel,
  partition: Partition,
  index: number,
  records: readonly FoundRecord[],
): Promise<void> {
  const expected = topic.partitions[index]!;
  const { logStartOffset, logEndOffset, name } = partition;
  must(
    logStartOffset >= expected.startAtLeast,
    `${name} begins at ${logStartOffset}, which was ${expected.startAtLeast}`,
  );
  const byOffset = new Map<number, FoundRecord>();
  let last = -1;
  for (const [i, record] of records.entries()) {
    const { offset, timestamp, key, value } = record;
    const where = `${name} at offset ${offset}`;
    const number = timestamp - firstTimestamp;
    const sent = expected.sent.get(number);
    must(sent !== undefined, `${where}: record ${number} was never sent there: ${value}`);
    must(sent.key === key && sent.value === value, `${where}: record ${number} is changed`);
    must(number > last, `${where}: record ${number} after ${last}`);
    if (!isCompacted(topic)) {
      must(offset === logStartOffset + i, `${where}: expected offset ${logStartOffset + i}`);
    }
    must(offset < logEndOffset, `${where}: behind the end ${logEndOffset}`);
    last = number;
    byOffset.set(offset, record);
  }
  if (!isCompacted(topic)) {
    const end = logStartOffset + records.length;
    must(logEndOffset === end, `${name} ends at ${logEndOffset}, its records at ${end}`);
  }
  for (const [offset, number] of expected.durable) {
    if (offset < logStartOffset) continue;
    const found = byOffset.get(offset);
    const where = `${name} at offset ${offset}`;
    if (found === undefined) {
      const { key } = expected.sent.get(number)!;
      const isReplaced = records.some((later) => later.offset > offset && later.key === key);
      must(isCompacted(topic) && isReplaced, `${where}: record ${number} is lost`);
    } else {
      const there = found.timestamp - firstTimestamp;
      must(there === number, `${where}: record ${there}, acknowledged was ${number}`);
    }
  }
  const probe = records[Math.floor(records.length / 2)];
  if (probe === undefined) return;
  const found = await offsetForTimestamp(partition, probe.timestamp);
  must(found === probe.offset, `${name}: offset ${probe.offset} by its time is ${found}`);
  const tail = await readLog(partition, probe.offset);
  must(
    JSON.stringify(tail[0]) === JSON.stringify(probe),
    `${name}: offset ${probe.offset} is not found`,
  );
}

function checkEpoch(
  partition: Partition,
  expected: PartitionModel,
  records: readonly FoundRecord[],
): void {
  const { name, leaderEpoch } = partition;
  const before = expected.leaderEpoch;
  must(
    expected.isTorn ? leaderEpoch > before : leaderEpoch === before,
    `${name}: leader epoch ${leaderEpoch}, it was ${before}${expected.isTorn ? ', and the log was cut' : ''}`,
  );
  let last = 0;
  for (const { offset, leaderEpoch: epoch } of records) {
    must(epoch >= last && epoch <= leaderEpoch, `${name}: epoch ${epoch} at offset ${offset}`);
    must(
      partition.epochBefore(offset + 1) === epoch,
      `${name}: offset ${offset} of epoch ${epoch} counts as of ${partition.epochBefore(offset + 1)}`,
    );
    last = epoch;
  }
}

/** A commit is the last one that was durable, or a later one; back at the end where that is cut. */
function checkCommits(
  broker: Broker,
  model: Model,
  topic: TopicModel,
  partition: Partition,
  records: readonly FoundRecord[],
): void {
  const { name, topicId, index, logEndOffset } = partition;
  for (const group of groups) {
    const key = commitKey(group, topic, index);
    const asked = model.commits.get(key) ?? [];
    const found = broker.offsets.fetch(group, topicId, index);
    const durable = asked.findLastIndex(({ isDurable }) => isDurable);
    if (found === undefined) {
      must(durable === -1, `${name}: the commit of group ${group} is gone`);
      model.commits.delete(key);
      continue;
    }
    const { offset } = found;
    const where = `${name}: group ${group} has committed ${offset}`;
    must(offset <= logEndOffset, `${where}, the log ends at ${logEndOffset}`);
    const before = records.findLast((record) => record.offset < offset);
    const number = before === undefined ? -1 : before.timestamp - firstTimestamp;
    const { isTorn } = topic.partitions[index]!;
    const isOneOf = asked.slice(Math.max(0, durable)).some((commit) => {
      if (number > commit.lastNumber) return false;
      if (offset === commit.offset) return true;
      return offset < commit.offset && (isTorn || offset === logEndOffset);
    });
    must(isOneOf, `${where}, asked for was ${JSON.stringify(asked)}; before it is ${number}`);
    model.commits.set(key, [{ offset, lastNumber: number, isDurable: true }]);
  }
}

function takeOver(
  expected: PartitionModel,
  partition: Partition,
  records: readonly FoundRecord[],
  isDurable: boolean,
): void {
  const { durable } = expected;
  expected.durable = new Map();
  expected.written = new Map();
  for (const { offset, timestamp } of records) {
    const known = isDurable || durable.has(offset) ? expected.durable : expected.written;
    known.set(offset, timestamp - firstTimestamp);
  }
  expected.leaderEpoch = partition.leaderEpoch;
  expected.isTorn = false;
  expected.startAtLeast = partition.logStartOffset;
  expected.startAtMost = partition.logStartOffset;
}

/** Nothing is left over, and what was kept aside is there. */
function checkDirectories(machine: PowerMachine, model: Model): void {
  const { files } = machine;
  const expected = [...model.topics.values()].flatMap(({ name, partitions }) =>
    partitions.map((_, index) => `${name}-${index}`),
  );
  const found = files.list('/');
  const extra = found.filter((name) => !expected.includes(name) && !model.leftovers.has(name));
  must(extra.length === 0, `the directory has ${extra.join(', ')}, too`);
  for (const { name, partitions } of model.topics.values()) {
    for (const [index, { keptAside }] of partitions.entries()) {
      const directory = `/${name}-${index}`;
      const names = files.list(directory);
      const unknown = names.filter((file) => !fileName.test(file));
      must(unknown.length === 0, `${directory} has ${unknown.join(', ')}`);
      const torn = names
        .filter((file) => file.endsWith('.torn'))
        .map((file) => files.readFile(`${directory}/${file}`)!);
      for (const bytes of keptAside) {
        must(
          torn.some((kept) => kept.equals(bytes)),
          `${directory}: ${bytes.length} torn bytes are not kept aside`,
        );
      }
    }
  }
}

/** After a clean close there is nothing amiss, nor anything to mend. */
export async function checkVerified(machine: PowerMachine, model: Model): Promise<void> {
  const { problems, notes } = await machine.verify();
  const [problem] = problems;
  must(problem === undefined, `verify finds: ${problem?.message}`);
  const note = notes.find(
    ({ code, file }) =>
      !['INDEX_MISSING', 'LEFTOVER'].includes(code) && !model.leftovers.has(file?.slice(1) ?? ''),
  );
  must(note === undefined, `verify notes: ${note?.message}`);
}

export function isRefusal(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof OttlaError && codes.includes(error.code);
}
