// 20,000 flights go through a log of six partitions to a group of three consumers, which work out the
// delays at each airport. In the middle one of the three leaves, and the others take over.
//
//   npm start                 keeps its data in .ottla-flights; run it again, and it resumes
//   npm start -- DIRECTORY    keeps it there

import { Ottla, defineTopic, murmur2, type ConsumerBatch, type RecordOf } from 'ottla';
import { z } from 'zod';
import * as report from './flights-report.js';
import { delaysIn, readFlights } from './flights-file.js';

// Keyed by the airport of origin: all flights from one airport are in one partition, in their order.
const flights = defineTopic('flights', {
  partitions: 6,
  key: 'string',
  value: {
    codec: 'json',
    schema: z.object({
      date: z.string(),
      delay: z.number(),
      distance: z.number(),
      origin: z.string(),
      destination: z.string(),
    }),
  },
});

// The results, keyed by airport: the latest record of each counts. It also says up to which offset the
// airport's flights are in it, so that none is counted twice if a crash hits between result and commit.
const result = z.object({ flights: z.number(), minutes: z.number(), nextOffset: z.number() });
const delays = defineTopic('delays', { key: 'string', value: { codec: 'json', schema: result } });

const group = 'delays-by-airport';
const directory = process.argv[2] ?? '.ottla-flights';
const file = readFlights();

await using ottla = await Ottla.open(directory);
await ottla.topics.create(flights);
await ottla.topics.create(delays);

// What earlier runs left here: flights in the log, commits of the group, results.
const missing = await notInTheLog();
const committed = await committedFlights();
const results = new Map<string, z.infer<typeof result>>();
for await (const { key, value } of ottla.read(delays)) results.set(key!, value);
report.start(directory, ottla.recovery, { group, committed, airports: results.size });

// Three consumers share the partitions of the topic.
const producer = ottla.producer();
const consumers = ['A', 'B', 'C'].map((name) => ({
  name,
  consumer: ottla.consumer({ group, topics: [flights], assignor: 'sticky', autoCommit: false }),
}));
await Promise.all(consumers.map(({ consumer }) => consumer.ready()));
report.assignment('Assigned:', consumers);

const toProcess = file.length - committed;
const progress = report.progress(toProcess);
let processed = 0;
let hasOneLeft = false;

const began = performance.now();
const working = consumers.map(work);
await producer.sendBatch(
  flights,
  missing.map((flight) => ({ key: flight.origin, value: flight })),
);
const sentMs = performance.now() - began;
if (toProcess > 0) {
  const gone = await Promise.race(working);
  const others = consumers.filter(({ name }) => name !== gone);
  await Promise.all(others.map(({ consumer }) => consumer.ready()));
  report.assignment(`${gone} has left after ${processed} flights. Assigned:`, others);
}
await ottla.idle(); // The group has committed all that was sent.
const processedMs = performance.now() - began;
await Promise.all(consumers.map(({ consumer }) => consumer.close()));
await Promise.all(working);

report.rates(missing.length, sentMs, processed, processedMs);
report.busiest(results);
if (!report.check(results, delaysIn(file))) process.exitCode = 1;
report.end(directory);

/** One consumer's work. Returns its name when it leaves: in the middle one does, the others at the end. */
async function work({ name, consumer }: (typeof consumers)[number]): Promise<string> {
  for await (const batch of consumer.batches()) {
    await producer.sendBatch(delays, count(batch)); // The results are on the disk first,
    await batch.commit(); // then the commit.
    processed += batch.records.length;
    progress(processed);
    if (hasOneLeft || processed < toProcess / 2) continue;
    hasOneLeft = true;
    break;
  }
  await consumer.close();
  return name;
}

/** Adds the flights of a batch to the results. Returns those that changed, as records to send. */
function count(batch: ConsumerBatch<RecordOf<typeof flights>>) {
  const changed = new Map<string, z.infer<typeof result>>();
  for (const { value: flight, offset } of batch) {
    const before = results.get(flight.origin) ?? { flights: 0, minutes: 0, nextOffset: 0 };
    if (offset < before.nextOffset) continue;
    const after = {
      flights: before.flights + 1,
      minutes: before.minutes + flight.delay,
      nextOffset: offset + 1,
    };
    results.set(flight.origin, after);
    changed.set(flight.origin, after);
  }
  return [...changed].map(([key, value]) => ({ key, value }));
}

/**
 * The flights of the file that are not in the log yet. A partition keeps the order of the file, so as
 * many of its flights are there as it has records.
 */
async function notInTheLog() {
  const { partitions } = await ottla.topics.describe(flights);
  const inLog = partitions.map(({ highWatermark }) => highWatermark);
  return file.filter(({ origin }) => {
    // The partition that the producer chooses for this key.
    const partition = (murmur2(Buffer.from(origin)) & 0x7fffffff) % partitions.length;
    return inLog[partition]!-- <= 0;
  });
}

/** How many flights the group has committed, in all partitions. */
async function committedFlights(): Promise<number> {
  const groups = await ottla.groups.list();
  if (!groups.includes(group)) return 0;
  const { partitions } = await ottla.groups.describe(group);
  return partitions.reduce((sum, { committed: offset }) => sum + Math.max(0, offset), 0);
}
