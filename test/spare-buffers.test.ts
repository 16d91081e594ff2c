import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Connection } from '../src/server/connection.js';
import { api, type Node } from '../src/server/protocol/api.js';
import { records } from '../src/server/protocol/schema.js';
import { SpareBuffers } from '../src/server/spare-buffers.js';
import { ManualClock } from './manual-clock.js';
import { requestFrame } from './wire-client.js';

describe('SpareBuffers', () => {
  const large = 100_000;

  it('gives a buffer again that came back, also for fewer bytes, and not before', () => {
    const spares = new SpareBuffers();
    const first = spares.take(large);
    expect(spares.take(large).buffer).not.toBe(first.buffer);
    spares.giveBack([first.subarray(10, 20)]);
    const again = spares.take(large - 1);
    expect(again.buffer).toBe(first.buffer);
    expect(again.length).toBe(large - 1);
    expect(spares.take(large).buffer).not.toBe(first.buffer);
  });

  it('takes back only what it gave, and once', () => {
    const spares = new SpareBuffers();
    const [mine, foreign] = [spares.take(large), Buffer.alloc(large)];
    spares.giveBack([foreign, mine, mine]);
    spares.giveBack([mine]);
    const next = [spares.take(large), spares.take(large)];
    expect(next.map(({ buffer }) => buffer === mine.buffer)).toEqual([true, false]);
    expect(next.some(({ buffer }) => buffer === foreign.buffer)).toBe(false);
  });

  it('keeps four, none of them small or huge', () => {
    const spares = new SpareBuffers();
    // Less than half of Node's pool comes from the pool, which all share: 64 KiB in Node 24.
    const sizes = [40_000, 3_000_000, large, large, large, large, large];
    const taken = sizes.map((bytes) => spares.take(bytes));
    expect(taken.map(({ length }) => length)).toEqual(sizes);
    spares.giveBack(taken);
    const known = new Set(taken.map(({ buffer }) => buffer));
    const next = sizes.map((bytes) => spares.take(bytes));
    expect(next.filter(({ buffer }) => known.has(buffer))).toHaveLength(4);
    expect(next.slice(0, 2).some(({ buffer }) => known.has(buffer))).toBe(false);
  });
});

describe('The buffers of an answer', () => {
  const large = 100_000;

  /** A connection whose stream takes no bytes before it is told to, in the middle of an answer. */
  async function answering(): Promise<{
    taken: Buffer;
    spares: SpareBuffers;
    stream: Duplex;
    accept: (error?: Error) => void;
  }> {
    const spares = new SpareBuffers();
    const taken = spares.take(large);
    const one = api({
      key: 99,
      name: 'One',
      versions: [0, 0],
      request: {},
      response: { records: records() },
      handle: () => ({ records: taken.subarray(0, large) }),
    });
    const accepted: ((error?: Error) => void)[] = [];
    const stream = new Duplex({
      read: () => undefined,
      write: (_chunk, _encoding, callback) => void accepted.push(callback),
    });
    const connection = new Connection(stream, '/', {
      node: { apis: new Map([[99, one]]), spareBuffers: spares } as unknown as Node,
      clock: new ManualClock(),
      limits: { maxRequestBytes: large, idleMs: Infinity, stallMs: Infinity },
      held: { isFull: false, arriving() {}, requests() {}, answers() {} },
      users: null,
      failed(error) {
        throw error;
      },
      closed() {},
    });
    stream.emit('data', requestFrame(one, 0, 1, {}));
    await setImmediate();
    expect(accepted).toHaveLength(1);
    expect(connection.hasQueued).toBe(false);
    const accept = (error?: Error): void => {
      for (let next = accepted.shift(); next !== undefined; next = accepted.shift()) next(error);
    };
    return { taken, spares, stream, accept };
  }

  it('are used again once all of it was taken', async () => {
    const { taken, spares, stream, accept } = await answering();
    expect(spares.take(large).buffer).not.toBe(taken.buffer);
    while (stream.writableLength > 0) {
      accept();
      await setImmediate();
    }
    expect(spares.take(large).buffer).toBe(taken.buffer);
  });

  it('are not if the connection is cut before: the system may still read them', async () => {
    const { taken, spares, accept } = await answering();
    accept(new Error('cut'));
    await setImmediate();
    expect(spares.take(large).buffer).not.toBe(taken.buffer);
  });
});
