/**
 * Works on a data directory until it is killed, and says on stdout what it has been promised, line by
 * line, before and after each call. Started by crash-rounds.mjs, which checks that the promises hold.
 */
import { appendFileSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { watchActivities } from './crash-activities.mjs';
import { changingTopics, lastingTopics, randomFrom, recordOf } from './crash-model.mjs';

/** `aim` is the activity that the kill waits for, or empty. */
const [entry, directory, copies, seed, round, aim, known] = process.argv.slice(2);
const { below, oneOf } = randomFrom(Number(seed));
const { freeSegments } = await watchActivities(entry, say);
const { Ottla } = await import(entry);

/** Topics that may be written to, by name. */
const topics = new Map(JSON.parse(known).map((topic) => [topic.name, topic]));
let incarnations = 0;
let backups = 0;
/** Sequence numbers grow within a partition, also from round to round. */
let nextSequence = Number(round) * 1_000_000;
/** By topic and partition: the offset after the last record that was acknowledged in this round. */
const ends = new Map();

/** One write call: a line is there whole, or was not said. */
function say(...words) {
  let text = `${words.join(' ')}\n`;
  while (text.length > 0) {
    try {
      text = text.slice(writeSync(1, text));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

async function during(activity, work) {
  say('+', activity);
  const result = await work();
  say('-', activity);
  return result;
}

function recordsFor(topic, partition, count) {
  const first = nextSequence;
  nextSequence += count;
  const records = Array.from({ length: count }, (_, i) => ({
    ...recordOf(topic.name, topic.incarnation, partition, first + i),
    partition,
  }));
  return { first, records };
}

/** Sends in one of the ways there are. A topic that is deleted meanwhile is no failure. */
async function send(producer, topic) {
  const partition = below(topic.partitions);
  const told = (offset, first, count) => {
    ends.set(`${topic.name} ${partition}`, offset + count);
    say('sent', topic.name, topic.incarnation, partition, offset, first, count);
  };
  await unlessDeleted(async () => {
    if (below(3) === 0) {
      const { first, records } = recordsFor(topic, partition, 1 + below(40));
      let count = 0;
      for (const run of await producer.sendBatch(topic.name, records)) {
        told(run.baseOffset, first + count, run.count);
        count += run.count;
      }
      return;
    }
    const { first, records } = recordsFor(topic, partition, 1 + below(5));
    const sent = records.map(async (record, i) => {
      const { offset } = await producer.send(topic.name, record);
      told(offset, first + i, 1);
    });
    await Promise.all(sent);
  });
}

async function unlessDeleted(work) {
  try {
    await work();
  } catch (error) {
    if (error.code !== 'UNKNOWN_TOPIC_OR_PARTITION') throw error;
  }
}

async function sendOn(session, acks) {
  const producer = session.ottla.producer({ acks });
  while (!session.isEnding) {
    if (topics.size > 0) await send(producer, oneOf([...topics.values()]));
    else await sleep(1);
  }
}

async function changeTopics(session) {
  while (!session.isEnding) {
    const name = oneOf(changingTopics);
    if (topics.has(name)) {
      topics.delete(name);
      say('deleting', name);
      await during('delete', () => session.ottla.topics.delete(name));
      say('deleted', name);
    } else {
      await create(session, name, { segmentBytes: oneOf([1024, 4096, 16_384]) });
    }
    await sleep(below(20));
  }
}

async function create({ ottla }, name, options) {
  const topic = { name, incarnation: `${round}.${incarnations++}`, partitions: 1 + below(3) };
  const { partitions } = topic;
  say('creating', name, topic.incarnation, partitions);
  await during('create', () => ottla.topics.create(name, { partitions, ...options }));
  say('created', name);
  topics.set(name, topic);
}

/** What was written long ago goes: by the topics' retention, and by hand. */
async function free(session) {
  while (!session.isEnding) {
    await sleep(below(20));
    await freeSegments();
    const { name, partitions } = topics.get(oneOf(['orders', 'ring', 'queue']));
    const partition = below(partitions);
    const offset = (ends.get(`${name} ${partition}`) ?? 0) - below(300);
    if (offset <= 0) continue;
    say('deletingRecords', name, partition, offset);
    await session.ottla.topics.deleteRecords(name, partition, offset);
    say('deletedRecords', name, partition, offset);
  }
}

async function reopen(session) {
  while (!session.isEnding) {
    await sleep(below(40));
    const { name, partitions } = oneOf([...topics.values()]);
    await unlessDeleted(() =>
      during('reopen', () => session.ottla.topics.reopen(name, below(partitions))),
    );
  }
}

async function backUp(session) {
  while (!session.isEnding) {
    await sleep(below(100));
    const copy = `${round}.${backups++}`;
    say('copying', copy);
    await during('backup', () => session.ottla.backup(join(copies, copy)));
    say('copied', copy);
  }
}

async function consume(session) {
  const consumer = session.ottla.consumer({
    group: 'g',
    topics: Object.keys(lastingTopics),
    autoCommit: false,
    maxPollRecords: 1 + below(50),
  });
  for await (const batch of consumer.batches()) {
    const { topic, partition, nextOffset } = batch;
    say('committing', topic, partition, nextOffset);
    await batch.commit();
    say('committed', topic, partition, nextOffset);
  }
}

/** Closing ends the work, and fails what was not begun yet. */
async function untilClosed(session, work) {
  try {
    await work;
  } catch (error) {
    if (session.isEnding && error.code === 'CLOSED') return;
    say('error', error.stack.replaceAll('\n', ' | '));
    process.exit(1);
  }
}

/** Bytes of a write that did not end, behind what is durable: there is something to repair. */
async function tear() {
  const { name } = oneOf([...topics.values()]);
  const ottla = await Ottla.open(directory, { readOnly: true });
  const { partitions } = await ottla.topics.describe(name);
  await ottla.close();
  const { partition, segments } = oneOf(partitions);
  const path = join(directory, `${name}-${partition}`);
  const logs = readdirSync(path).filter((file) => file.endsWith('.log'));
  // An active segment that nothing was written to has no file yet.
  if (logs.length < segments) return;
  const torn = Array.from({ length: 1 + below(100) }, () => below(256));
  appendFileSync(join(path, logs.toSorted().at(-1)), Buffer.from(torn));
}

async function repair() {
  await during('repair', () => Ottla.repair(directory));
}

/** Until it is killed; now and then it closes and opens again. */
if (Number(round) > 1 && below(8) === 0) await repair();
const mostMs = { close: 200, repair: 200, backup: 30_000 }[aim] ?? 2000;
for (;;) {
  const ottla = await during('open', () => Ottla.open(directory));
  const session = { ottla, isEnding: false };
  say('working');
  // A creation that the last kill came into may have been finished now, or never begun.
  const there = await ottla.topics.list();
  for (const name of topics.keys()) if (!there.includes(name)) topics.delete(name);
  for (const [name, options] of Object.entries(lastingTopics)) {
    if (!topics.has(name)) await create(session, name, options);
  }
  const work = [
    sendOn(session, 'all'),
    sendOn(session, 1),
    changeTopics(session),
    consume(session),
    free(session),
    reopen(session),
    backUp(session),
  ].map((part) => untilClosed(session, part));
  await sleep(50 + below(mostMs));
  session.isEnding = true;
  await during('close', () => ottla.close());
  await Promise.all(work);
  ends.clear();
  if (aim !== 'repair' && below(3) > 0) continue;
  await tear();
  await repair();
}
