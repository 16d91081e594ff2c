/**
 * Works on a data directory until it is killed, and says on stdout what it has been promised, line by
 * line, before and after each call. Started by crash-rounds.mjs, which checks that the promises hold.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomFrom, topicNames, valueOf } from './crash-model.mjs';

const [entry, directory, seed, round, known] = process.argv.slice(2);
const { Ottla } = await import(entry);
const { below, oneOf } = randomFrom(Number(seed));

/** Topics that may be written to, by name. */
const topics = new Map(JSON.parse(known).map((topic) => [topic.name, topic]));
let incarnations = 0;
/** Sequence numbers grow within a partition, also from round to round. */
let nextSequence = Number(round) * 1_000_000;

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

function recordsFor(topic, partition, count) {
  const first = nextSequence;
  nextSequence += count;
  const records = Array.from({ length: count }, (_, i) => ({
    value: valueOf(topic.incarnation, partition, first + i),
    partition,
  }));
  return { first, records };
}

/** Sends in one of the ways there are. A topic that is deleted meanwhile is no failure. */
async function send(producer, topic) {
  const partition = below(topic.partitions);
  const told = (offset, first, count) =>
    say('sent', topic.name, topic.incarnation, partition, offset, first, count);
  try {
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
    const name = oneOf(topicNames.changing);
    if (topics.has(name)) {
      topics.delete(name);
      say('deleting', name);
      await session.ottla.topics.delete(name);
      say('deleted', name);
    } else {
      await create(session, name);
    }
    await sleep(below(20));
  }
}

async function create({ ottla }, name) {
  const topic = { name, incarnation: `${round}.${incarnations++}`, partitions: 1 + below(3) };
  const { partitions } = topic;
  say('creating', name, topic.incarnation, partitions);
  await ottla.topics.create(name, { partitions, segmentBytes: oneOf([1024, 4096, 16_384]) });
  say('created', name);
  topics.set(name, topic);
}

async function consume(session) {
  const consumer = session.ottla.consumer({
    group: 'g',
    topics: topicNames.lasting,
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

/** Until it is killed; now and then it closes and opens again. */
for (;;) {
  const session = { ottla: await Ottla.open(directory), isEnding: false };
  const { ottla } = session;
  say('open');
  // A creation that the last kill came into may have been finished now, or never begun.
  const there = await ottla.topics.list();
  for (const name of topics.keys()) if (!there.includes(name)) topics.delete(name);
  for (const name of topicNames.lasting) if (!topics.has(name)) await create(session, name);
  const work = [
    sendOn(session, 'all'),
    sendOn(session, 1),
    changeTopics(session),
    consume(session),
  ].map((part) => untilClosed(session, part));
  await sleep(50 + below(400));
  session.isEnding = true;
  say('closing');
  await ottla.close();
  await Promise.all(work);
  say('closed');
}
