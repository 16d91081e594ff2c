import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { onAbort } from '../src/signal.js';
import { FaultInjector } from '../src/testing/index.js';
import { closedAfterEach } from './contract.js';

const opened = closedAfterEach();
const twenty = Array.from({ length: 20 }, (_, i) => i);

/** What Node said of listeners that are never taken off. */
let warnings: string[];
const told = ({ name, message }: Error): void => {
  if (name === 'MaxListenersExceededWarning') warnings.push(message);
};
beforeEach(() => {
  warnings = [];
  process.on('warning', told);
});
afterEach(() => {
  process.off('warning', told);
});

const listenersOf = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

async function settled(calls: readonly Promise<unknown>[]): Promise<unknown[]> {
  const outcomes = await Promise.allSettled(calls);
  return outcomes.map((outcome) =>
    outcome.status === 'rejected' ? (outcome.reason as { code?: string }).code : 'done',
  );
}

describe('one signal for twenty calls', () => {
  /** A producer whose buffer is full until the gate is opened. */
  async function full() {
    const faults = new FaultInjector();
    const ottla = opened(Ottla.memory({ faults }));
    await ottla.topics.create('t');
    const gate = faults.hold('sync');
    const producer = ottla.producer({ bufferMemory: 1000 });
    const first = producer.send('t', { value: 'x'.repeat(900) });
    return { ottla, producer, gate, first };
  }

  it.each<
    [
      what: string,
      call: (
        producer: Awaited<ReturnType<typeof full>>['producer'],
        signal: AbortSignal,
      ) => Promise<unknown>,
    ]
  >([
    ['send', (producer, signal) => producer.send('t', { value: 'y'.repeat(900) }, { signal })],
    [
      'sendBatch',
      (producer, signal) => producer.sendBatch('t', [{ value: 'y'.repeat(900) }], { signal }),
    ],
    ['flush', (producer, signal) => producer.flush({ signal })],
    ['close', (producer, signal) => producer.close({ signal })],
  ])('is listened to once by %s', async (_, call) => {
    for (const isAborted of [true, false]) {
      const { producer, gate, first } = await full();
      const controller = new AbortController();
      const { signal } = controller;
      const calls = settled(twenty.map(() => call(producer, signal)));
      await turn();
      await turn();
      expect(listenersOf(signal)).toBe(1);
      if (isAborted) controller.abort();
      else gate.open();
      expect(await calls).toEqual(twenty.map(() => (isAborted ? 'ABORTED' : 'done')));
      expect(listenersOf(signal)).toBe(0);
      gate.open();
      await first;
    }
    await turn();
    expect(warnings).toEqual([]);
  });

  it('is listened to once by consumers that get ready and run', async () => {
    const { ottla, gate } = await full();
    gate.open();
    const controller = new AbortController();
    const { signal } = controller;
    const consumers = twenty.map((i) => ottla.consumer({ group: `g${i}`, topics: ['t'] }));
    const ready = consumers.map((consumer) => consumer.ready({ signal }));
    expect(listenersOf(signal)).toBe(1);
    await Promise.all(ready);
    expect(listenersOf(signal)).toBe(0);
    const runs = consumers.map((consumer) => consumer.run({ eachRecord: () => undefined, signal }));
    await ottla.idle();
    expect(listenersOf(signal)).toBe(1);
    controller.abort();
    await Promise.all(runs);
    expect(listenersOf(signal)).toBe(0);
    expect(warnings).toEqual([]);
  });
});

describe('what waits for a signal', () => {
  it('is called when it aborts, in order, but for what waits no more', () => {
    const controller = new AbortController();
    const called: string[] = [];
    const cancelOne = onAbort(controller.signal, () => called.push('one'));
    const cancelTwo = onAbort(controller.signal, () => {
      called.push('two');
      cancelThree();
    });
    const cancelThree = onAbort(controller.signal, () => called.push('three'));
    onAbort(controller.signal, () => called.push('four'));
    cancelOne();
    cancelOne();
    controller.abort();
    expect(called).toEqual(['two', 'four']);
    cancelTwo();
  });

  it('may come again once nothing waited for it any more', () => {
    const controller = new AbortController();
    let count = 0;
    const first = onAbort(controller.signal, () => count++);
    first();
    onAbort(controller.signal, () => count++);
    first();
    expect(listenersOf(controller.signal)).toBe(1);
    controller.abort();
    expect(count).toBe(1);
  });
});
