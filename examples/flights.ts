// The flights of three months go through a log of six partitions into a group of three consumers,
// which work out the delays at each airport. In the middle one consumer leaves.
//
//   npm start                    the data stays in .ottla-flights; run it again to resume
//   npm start -- DIRECTORY       ... or stays there

import { Ottla, defineTopic, murmur2, type Consumer } from 'ottla';
import { z } from 'zod';
import * as report from './flights-report.js';
import { delaysOf, readFlights, type Delays } from './flights-data.js';

const flights = defineTopic('flights', {
  partitions: 6,
  key: 'string', // the airport of origin: all flights from one airport are in one partition, in order
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

// The results so far, by airport; the latest record of an airport counts. `nextOffset` says up to where
// its flights are in them: after a crash between a result and its commit none is counted twice.
const delays = defineTopic('delays', {
  key: 'string',
  value: {
    codec: 'json',
    schema: z.object({ count: z.number(), minutes: z.number(), nextOffset: z.number() }),
  },
});

const group = 'delays-by-airport';
const directory = process.argv[2] ?? '.ottla-flights';
const file = readFlights();

await using ottla = await Ottla.open(directory);
for (const sentence of ottla.recovery) console.log(`Recovered: ${sentence}`);
await ottla.topics.create(flights);
await ottla.topics.create(delays);
const producer = ottla.producer();

// What an earlier run has left: flights in the log, results, committed offsets.
const missing = await notInLog();
const results = new Map<string, Delays & { nextOffset: number }>();
for await (const { key, value } of ottla.read(delays)) results.set(key!, value);
const committed = await committedFlights();
const expected = file.length - committed;
report.start({ directory, flights: file.length, missing: missing.length, committed, group });

// Three consumers share the partitions.
let processed = 0;
const progress = report.progress(expected);
const members = new Map(['first', 'second', 'third'].map((name) => [name, newMember()]));
await Promise.all([...members.values()].map((consumer) => consumer.ready()));
report.assignment(`Three consumers of group ${group}, assignor sticky:`, members);

const began = performance.now();
const working = [...members].map(([name, consumer]) => work(name, consumer));
await producer.sendBatch(flights, missing.map((flight) => ({ key: flight.origin, value: flight }))); // prettier
const sentMs = performance.now() - began;
await ottla.idle(); // all is sent, and the group has committed all of it
const processedMs = performance.now() - began;
