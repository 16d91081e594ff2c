/**
 * Writes in transactions until it is killed, and says on stdout what it has been promised, line by line,
 * before and after each. Started by transaction-rounds.mjs, which checks that the promises hold.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomFrom } from './crash-model.mjs';

const [entry, directory, seed, round] = process.argv.slice(2);
const { Ottla } = await import(entry);
const { below } = randomFrom(Number(seed));

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

const filler = (n) => 'abcdefghij'.repeat(31).slice(0, (n * 7919) % 301);

/** What the pipeline reads: numbers that nobody else sends. */
async function feed(ottla, producer) {
  for (let i = 0; ; i++) {
    const list = Array.from({ length: 1 + below(20) }, () => ({ value: filler(below(300)) }));
    await producer.sendBatch('in', list);
    if (i % 5 === 0) await sleep(below(4));
  }
}

/** Consume, transform, produce: one record in `out` for each in `in`, whatever happens. */
async function pipe(ottla, name) {
  const tx = ottla.producer({ transactionalId: `pipe-${name}` });
  const consumer = ottla.consumer({
    group: 'pipe',
    topics: ['in'],
    assignor: 'roundrobin',
    maxPollRecords: 1 + below(30),
  });
  for await (const batch of consumer.batches()) {
    const fails = below(6) === 0;
    await tx
      .transaction(batch, async (t) => {
        for (const { partition, offset } of batch) {
          t.send('out', { value: `${partition}/${offset}/${filler(offset)}` });
          if (below(40) === 0) await sleep(0);
        }
        if (fails) throw new Error('on purpose');
      })
      .catch((error) => {
        if (error.message !== 'on purpose') throw error;
      });
  }
}

/** Transactions of their own: all of each, or nothing. */
async function transact(ottla, name) {
  const tx = ottla.producer({ transactionalId: name });
  for (let i = 0; ; i++) {
    const id = `${name}.${round}.${i}`;
    const count = 1 + below(12);
    const fails = below(5) === 0;
    say('begun', id, count);
    await tx
      .transaction(async (t) => {
        for (let k = 0; k < count; k++) {
          t.send('own', { value: `${id}/${k}/${filler(k + i)}`, partition: below(3) });
          if (below(10) === 0) await tx.flush();
        }
        if (fails) throw new Error('on purpose');
      })
      .then(
        () => say('committed', id),
        (error) => {
          if (error.message !== 'on purpose') throw error;
          say('aborted', id);
        },
      );
    if (below(10) === 0) await sleep(below(3));
  }
}

/** Numbered records, outside of transactions. */
async function number(ottla) {
  const producer = ottla.producer({ idempotent: true, acks: below(2) === 0 ? 'all' : 1 });
  for (let i = 0; ; i++) {
    const { offset } = await producer.send('numbered', { value: `${round}/${i}` });
    say('numbered', `${round}/${i}`, offset);
  }
}

const ottla = await Ottla.open(directory);
const segmentBytes = [2048, 16_384, 1_048_576][below(3)];
const create = (name, partitions) => ottla.topics.create(name, { partitions, segmentBytes });
const there = await ottla.topics.list();
for (const [name, partitions] of Object.entries({ in: 2, out: 3, own: 3, numbered: 1 })) {
  if (!there.includes(name)) await create(name, partitions);
}
say('open');
try {
  await Promise.all([
    feed(ottla, ottla.producer({ acks: 1 })),
    pipe(ottla, 'a'),
    pipe(ottla, 'b'),
    transact(ottla, 'own-a'),
    transact(ottla, 'own-b'),
    number(ottla),
  ]);
} catch (error) {
  say('error', error.stack.replaceAll('\n', ' | '));
  process.exit(1);
}
