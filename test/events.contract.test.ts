import { setImmediate } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import type { Ottla, OttlaError, RecordToSend } from '../src/index.js';
import { describeContract } from './contract.js';

const large = 'v'.repeat(2000);

/** What nobody has asked for by the end of its turn is told. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await setImmediate();
}

/** What the process is warned of after a call that nobody awaits. */
async function warningsOf(run: () => unknown): Promise<unknown[]> {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue(undefined);
  try {
    void run();
    await turns();
    return warned.mock.calls.map(([warning]) => warning);
  } finally {
    warned.mockRestore();
  }
}

/** Errors as they are told. */
function listen(ottla: Ottla): OttlaError[] {
  const errors: OttlaError[] = [];
  ottla.on('error', (error) => errors.push(error));
  return errors;
}

describeContract('events', ({ open }) => {
  const withOrders = async (): Promise<Ottla> => {
    const ottla = await open();
    await ottla.topics.create('orders', { maxMessageBytes: 1024 });
    return ottla;
  };

  it.each<[what: string, send: (ottla: Ottla) => void, code: string]>([
    [
      'to no topic',
      (ottla) => void ottla.producer().send('nowhere', { value: '' }),
      'UNKNOWN_TOPIC_OR_PARTITION',
    ],
    [
      'of a bad value',
      (ottla) => void ottla.producer().send('orders', { value: 7 as never }),
      'INVALID_REQUEST',
    ],
    [
      'to a partition that is not there',
      (ottla) => void ottla.producer().send('orders', { value: '', partition: 5 }),
      'INVALID_REQUEST',
    ],
    [
      'too large',
      (ottla) => void ottla.producer().send('orders', { value: large }),
      'MESSAGE_TOO_LARGE',
    ],
    [
      'too large, acks 0',
      (ottla) => void ottla.producer({ acks: 0 }).send('orders', { value: large }),
      'MESSAGE_TOO_LARGE',
    ],
    [
      'too large, of many',
      (ottla) => void ottla.producer().sendBatch('orders', [{ value: '' }, { value: large }]),
      'MESSAGE_TOO_LARGE',
    ],
    [
      'of no records',
      (ottla) => void ottla.producer().sendBatch('orders', 7 as never),
      'INVALID_REQUEST',
    ],
    [
      'of a source that throws',
      (ottla) => void ottla.producer().sendBatch('orders', throwing()),
      'INVALID_REQUEST',
    ],
    [
      'with a bad option',
      (ottla) => void ottla.producer().send('orders', { value: '' }, { wait: 5 } as object),
      'INVALID_REQUEST',
    ],
  ])('tell once of a send that nobody awaits: %s', async (_, send, code) => {
    const ottla = await withOrders();
    const errors = listen(ottla);
    send(ottla);
    await turns();
    expect(errors).toMatchObject([{ name: 'OttlaError', code }]);
    await ottla.close();
    expect(errors).toHaveLength(1);
  });

  it('give the argument error as the cause', async () => {
    const ottla = await withOrders();
    const errors = listen(ottla);
    void ottla.producer().send('orders', { value: 7 as never });
    await turns();
    expect(errors).toMatchObject([
      { message: expect.stringContaining('got 7'), cause: expect.any(TypeError) },
    ]);
  });

  it('leave a failure to whoever awaits it, in whatever way', async () => {
    const ottla = await withOrders();
    const errors = listen(ottla);
    const producer = ottla.producer();
    const fail = (): Promise<unknown> => producer.send('nowhere', { value: '' });
    const failBatch = (): Promise<unknown> => producer.sendBatch('orders', [{ value: large }]);
    const outcomes = await Promise.allSettled([
      fail(),
      failBatch(),
      fail().finally(() => undefined),
      failBatch().finally(() => undefined),
      (async () => {
        await fail();
      })(),
      (async () => failBatch())(),
      Promise.all([fail(), failBatch()]),
      Promise.race([fail(), failBatch()]),
      fail().then(
        () => undefined,
        (error: unknown) => Promise.reject(error),
      ),
    ]);
    await fail().catch(() => undefined);
    await turns();
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => 'rejected'));
    expect(errors).toEqual([]);
  });

  it('go to every listener until it is taken off', async () => {
    const ottla = await withOrders();
    const told: string[] = [];
    const one = (): void => void told.push('one');
    const other = (): void => void told.push('other');
    const chained = ottla.on('error', one).on('error', one).on('error', other);
    expect(chained).toBe(ottla);
    void ottla.producer().send('nowhere', { value: '' });
    await turns();
    expect(ottla.off('error', one).off('warning', other)).toBe(ottla);
    void ottla.producer().send('nowhere', { value: '' });
    await turns();
    expect(told).toEqual(['one', 'other', 'other']);
  });

  it('go to the process as a warning if nobody listens', async () => {
    const ottla = await withOrders();
    const warnings = await warningsOf(() => ottla.producer().send('nowhere', { value: '' }));
    expect(warnings).toMatchObject([
      { name: 'OttlaError', message: expect.stringContaining('nowhere') },
    ]);
  });

  it('survive a listener whose promise rejects', async () => {
    const ottla = await withOrders();
    ottla.on('error', () => Promise.reject(new Error('not me')) as never);
    const warnings = await warningsOf(() => ottla.producer().send('nowhere', { value: '' }));
    expect(warnings).toEqual(["a listener of 'error' threw: Error: not me"]);
  });

  it('survive a listener that throws, and go on to the next', async () => {
    const ottla = await withOrders();
    ottla.on('error', () => {
      throw new Error('not me');
    });
    const errors = listen(ottla);
    const warnings = await warningsOf(() => ottla.producer().send('nowhere', { value: '' }));
    expect(warnings).toEqual(["a listener of 'error' threw: Error: not me"]);
    expect(errors).toHaveLength(1);
  });

  it('are error and warning, and no others', async () => {
    const ottla = await open();
    for (const event of ['Error', 'close', 'constructor', 7]) {
      expect(() => ottla.on(event as 'error', () => undefined)).toThrow(/expected the event/);
      expect(() => ottla.off(event as 'error', () => undefined)).toThrow(TypeError);
    }
    for (const listener of [undefined, null, 'log']) {
      expect(() => ottla.on('error', listener as never)).toThrow(/a function, got/);
    }
  });
});

function* throwing(): Generator<RecordToSend> {
  yield { value: 'v' };
  throw new Error('broken');
}
