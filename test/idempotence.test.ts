import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { Ottla, type OttlaError, type Producer, type ProducerOptions } from '../src/index.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach, collect, failureOf } from './contract.js';
import { ManualClock } from './manual-clock.js';
import { seeds } from './seeds.js';

const opened = closedAfterEach();

const disk = (code: string): Error => Object.assign(new Error(code), { code });

interface Place {
  readonly ottla: Ottla;
  readonly clock: ManualClock;
  readonly faults: FaultInjector;
  readonly warnings: string[];
  readonly errors: string[];
}

async function place(): Promise<Place> {
  const clock = new ManualClock();
  const faults = new FaultInjector();
  const ottla = opened(Ottla.memory({ clock, faults, seed: 1 }));
  const warnings: string[] = [];
  const errors: string[] = [];
  ottla.on('warning', (warning) => warnings.push(warning));
  ottla.on('error', ({ code }) => errors.push(code));
  await ottla.topics.create('t');
  return { ottla, clock, faults, warnings, errors };
}

async function values(ottla: Ottla): Promise<string[]> {
  return (await collect(ottla.read('t'))).map(({ value }) => String(value));
}

const send = (producer: Producer, value: string): Promise<number> =>
  producer.send('t', { value }).then(({ offset }) => offset);

describe('an idempotent producer', () => {
  it.each<ProducerOptions>([{ acks: 'all' }, { acks: 1 }])(
    'sends again what could not be written, in order, with %o',
    async (options) => {
      const { ottla, clock, faults, warnings, errors } = await place();
      const producer = ottla.producer({ ...options, idempotent: true, batchSize: 1 });
      let left = 3;
      faults.beforeWrite = () => {
        if (left-- > 0) throw disk('ENOSPC');
      };
      const sent = Promise.all(['a', 'b', 'c'].map((value) => send(producer, value)));
      await clock.advance(5000);
      expect(await sent).toEqual([0, 1, 2]);
      expect(await values(ottla)).toEqual(['a', 'b', 'c']);
      expect(errors).toEqual([]);
      expect(warnings).toHaveLength(1);
    },
  );

  it('neither loses nor repeats what was written and may not be durable, once it is reopened', async () => {
    const { ottla, clock, faults } = await place();
    const producer = ottla.producer({ idempotent: true, batchSize: 1 });
    faults.beforeSync = () => Promise.reject(disk('EIO'));
    const sent = Promise.all(Array.from({ length: 9 }, (_, i) => send(producer, `${i}`)));
    await clock.advance(1000);
    faults.beforeSync = () => Promise.resolve();
    await clock.advance(1000);
    expect(await values(ottla)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8']);
    await ottla.topics.reopen('t', 0);
    await clock.advance(1000);
    expect(await sent).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await values(ottla)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8']);
  });

  it('knows what it wrote also by records of long ago', async () => {
    const { ottla, clock, faults } = await place();
    const producer = ottla.producer({ idempotent: true });
    faults.beforeSync = () => Promise.reject(disk('EIO'));
    const sent = producer.send('t', { value: 'old', timestamp: 1000 });
    await clock.advance(1000);
    faults.beforeSync = () => Promise.resolve();
    await ottla.topics.reopen('t', 0);
    await clock.advance(1000);
    expect((await sent).offset).toBe(0);
    expect(await values(ottla)).toEqual(['old']);
  });

  it('keeps the order of what is sent meanwhile', async () => {
    const { ottla, clock, faults } = await place();
    const producer = ottla.producer({ idempotent: true });
    let isFull = true;
    faults.beforeWrite = () => {
      if (isFull) throw disk('ENOSPC');
    };
    const first = send(producer, 'first');
    await clock.advance(250);
    const batch = producer.sendBatch('t', [{ value: 'second' }, { value: 'third' }]);
    await clock.advance(250);
    isFull = false;
    const last = send(producer, 'last');
    await clock.advance(250);
    expect(await first).toBe(0);
    expect(await batch).toEqual([{ partition: 0, baseOffset: 1, count: 2 }]);
    expect(await last).toBe(3);
    expect(await values(ottla)).toEqual(['first', 'second', 'third', 'last']);
  });

  it('gives up after deliveryTimeoutMs, all of it, and goes on with what comes then', async () => {
    const { ottla, clock, faults, errors } = await place();
    const producer = ottla.producer({ idempotent: true, deliveryTimeoutMs: 1000, batchSize: 1 });
    let isFull = true;
    faults.beforeWrite = () => {
      if (isFull) throw disk('ENOSPC');
    };
    const failures = ['a', 'b'].map((value) => failureOf(() => send(producer, value)));
    await clock.advance(1500);
    const codes = (await Promise.all(failures)).map((failure) => (failure as OttlaError).code);
    expect(codes).toEqual(['REQUEST_TIMED_OUT', 'KAFKA_STORAGE_ERROR']);
    expect(errors).toEqual(['REQUEST_TIMED_OUT', 'KAFKA_STORAGE_ERROR']);
    isFull = false;
    const sent = send(producer, 'c');
    await clock.advance(100);
    expect(await sent).toBe(0);
    expect(await values(ottla)).toEqual(['c']);
  });

  it('gives up at once where sending again is of no use', async () => {
    const { ottla, clock, faults } = await place();
    const producer = ottla.producer({ idempotent: true });
    faults.beforeWrite = () => {
      throw disk('ENOSPC');
    };
    const failure = failureOf(() => send(producer, 'a'));
    await clock.advance(50);
    await ottla.topics.delete('t');
    await clock.advance(200);
    expect(await failure).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
  });

  it.each([
    [{ idempotent: true, acks: 0 } as const],
    [{ idempotent: 'yes' } as never],
    [{ transactionalId: 'a', acks: 1 } as const],
    [{ transactionalId: '' } as const],
    [{ transactionalId: '__ottla-0' } as const],
  ])('refuses %o', async (options) => {
    const { ottla } = await place();
    expect(() => ottla.producer(options)).toThrow(TypeError);
  });

  it('writes each record once, in order, whatever fails', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.infiniteStream(fc.integer({ min: 0, max: 99 })),
        fc.constantFrom<'all' | 1>('all', 1),
        async (stream, acks) => {
          const { ottla, clock, faults } = await place();
          const next = (): number => stream.next().value as number;
          let isHealed = false;
          faults.beforeWrite = () => {
            if (!isHealed && next() < 20) throw disk('ENOSPC');
          };
          faults.beforeSync = async () => {
            if (!isHealed && next() < 10) throw disk('EIO');
          };
          const producer = ottla.producer({ idempotent: true, acks, batchSize: 100 });
          const expected = Array.from({ length: 40 }, (_, i) => `${i}`.padEnd(20, '.'));
          const offsets: Promise<number[]>[] = [];
          for (let i = 0; i < expected.length;) {
            const count = 1 + (next() % 5);
            const part = expected.slice(i, i + count);
            i += count;
            offsets.push(Promise.all(part.map((value) => send(producer, value))));
            await clock.advance(next() % 3 === 0 ? 100 : 0);
            if (next() < 30) await ottla.topics.reopen('t', 0).catch(() => undefined);
          }
          isHealed = true;
          await ottla.topics.reopen('t', 0);
          await clock.advance(5000);
          const flat = (await Promise.all(offsets)).flat();
          expect(flat).toEqual(expected.map((_, i) => i));
          expect(await values(ottla)).toEqual(expected);
          await ottla.close();
        },
      ),
      { numRuns: seeds(60) },
    );
  }, 30_000);
});
