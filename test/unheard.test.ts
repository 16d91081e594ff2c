import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Ottla, type OttlaError } from '../src/index.js';
import { serve } from '../src/server/index.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach } from './contract.js';
import { ManualClock } from './manual-clock.js';

const opened = closedAfterEach();

let unhandled: unknown[];
const reject = (reason: unknown): void => void unhandled.push(reason);
beforeEach(() => {
  unhandled = [];
  process.on('unhandledRejection', reject);
});
afterEach(() => {
  process.off('unhandledRejection', reject);
});

interface Place {
  readonly ottla: Ottla;
  readonly clock: ManualClock;
  readonly faults: FaultInjector;
}

type Call = (place: Place) => unknown;

const consumerOf = ({ ottla }: Place) => ottla.consumer({ group: 'g', topics: ['t'] });
const at = { topic: 't', partition: 7 };

/** A send that does not end, so that nothing closes that waits for it. */
function stuck({ ottla, faults }: Place): void {
  faults.hold('sync');
  void ottla.producer().send('t', { value: 'x' });
}

/** A consumer whose close waits for its commit. */
async function committing(place: Place) {
  await place.ottla.producer().send('t', { value: 'x' });
  const consumer = consumerOf(place);
  const records = consumer[Symbol.asyncIterator]();
  await records.next();
  place.faults.hold('commit');
  void consumer.commit([{ topic: 't', partition: 0, offset: 1 }]);
  return consumer;
}

it.each<[what: string, code: string, call: Call]>([
  [
    'ready() of a topic that is not there',
    'UNKNOWN_TOPIC_OR_PARTITION',
    ({ ottla }) => {
      void ottla.consumer({ group: 'g', topics: ['nowhere'] }).ready();
    },
  ],
  ['ready() without a group', 'INVALID_REQUEST', ({ ottla }) => void ottla.consumer({}).ready()],
  [
    'ready() of a closed consumer',
    'CLOSED',
    async (place) => {
      const consumer = consumerOf(place);
      await consumer.close();
      void consumer.ready();
    },
  ],
  [
    'ready() whose signal aborts',
    'ABORTED',
    (place) => {
      void consumerOf(place).ready({ signal: AbortSignal.abort() });
    },
  ],
  [
    'seek() to what is not assigned',
    'ILLEGAL_GENERATION',
    (place) => {
      void consumerOf(place).seek({ ...at, offset: 0 });
    },
  ],
  [
    'seekToBeginning() of what is not assigned',
    'ILLEGAL_GENERATION',
    (place) => {
      void consumerOf(place).seekToBeginning([at]);
    },
  ],
  [
    'seekToEnd() of what is not assigned',
    'ILLEGAL_GENERATION',
    (place) => {
      void consumerOf(place).seekToEnd([at]);
    },
  ],
  [
    'close() of a consumer with a wrong option',
    'INVALID_REQUEST',
    (place) => {
      void consumerOf(place).close({ timeoutMs: -1 });
    },
  ],
  [
    'close() of a consumer that takes too long',
    'REQUEST_TIMED_OUT',
    async (place) => {
      void (await committing(place)).close({ timeoutMs: 5 });
    },
  ],
  [
    'stop() with a wrong option',
    'INVALID_REQUEST',
    (place) => {
      void consumerOf(place).stop({ timeoutMs: -1 });
    },
  ],
  [
    'close() of a producer that takes too long',
    'REQUEST_TIMED_OUT',
    (place) => {
      place.faults.hold('sync');
      const producer = place.ottla.producer();
      void producer.send('t', { value: 'x' });
      void producer.close({ timeoutMs: 5 });
    },
  ],
  [
    'Ottla.close() with a wrong option',
    'INVALID_REQUEST',
    ({ ottla }) => {
      void ottla.close({ timeoutMs: -1 });
    },
  ],
  [
    'Ottla.close() that takes too long',
    'REQUEST_TIMED_OUT',
    (place) => {
      stuck(place);
      void place.ottla.close({ timeoutMs: 5 });
    },
  ],
  [
    'close() of a server with a wrong option',
    'INVALID_REQUEST',
    async ({ ottla }) => {
      void (await serve(ottla, { listen: false })).close({ timeoutMs: -1 });
    },
  ],
])('%s, which nobody awaits, is told once', async (_, code, call) => {
  const faults = new FaultInjector();
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock, faults }));
  await ottla.topics.create('t');
  const errors: OttlaError[] = [];
  ottla.on('error', (error) => errors.push(error));
  await call({ ottla, clock, faults });
  await clock.advance(5);
  for (let i = 0; i < 5; i++) await turn();
  expect(errors.map((error) => error.code)).toEqual([code]);
  faults.heal();
  await ottla.close();
  await turn();
  expect(unhandled).toEqual([]);
});

it('leaves a failure to who awaits it', async () => {
  const clock = new ManualClock();
  const ottla = opened(Ottla.memory({ clock }));
  const errors: OttlaError[] = [];
  ottla.on('error', (error) => errors.push(error));
  const consumer = ottla.consumer({ group: 'g', topics: ['nowhere'] });
  await expect(consumer.ready()).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
  await expect(consumer.close({ timeoutMs: -1 })).rejects.toThrow(RangeError);
  await expect(ottla.close({ timeoutMs: -1 })).rejects.toThrow(RangeError);
  for (let i = 0; i < 5; i++) await turn();
  expect(errors).toEqual([]);
  expect(unhandled).toEqual([]);
});
