import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import type { Partition } from '../src/partition.js';
import type { TopicSettings } from '../src/options.js';
import { append, batchOf, createTopic, Machine } from './machine.js';
import { WatchedFiles } from './watched-files.js';

let machine: Machine;
let broker: Broker;
/** Bytes of the log that each sync made durable, in order. */
let syncs: number[];
let held: (() => void)[] | null;

beforeEach(() => {
  machine = new Machine();
  syncs = [];
  held = null;
});

async function open(settings: Partial<TopicSettings>): Promise<Partition> {
  machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
    if (name !== 'sync' || !path.endsWith('.log')) return undefined;
    syncs.push(machine.files.size(path));
    if (held === null) return undefined;
    const waiting = held;
    return new Promise<void>((resolve) => waiting.push(resolve));
  });
  broker = await machine.open();
  return createTopic(broker, settings);
}

const batch = (count: number): Buffer => batchOf(Array.from({ length: count }, () => 'v'));

describe('flushMessages', () => {
  it('syncs once that many records are not synced, though nobody waits', async () => {
    const partition = await open({ flushMessages: 10 });
    await append(partition, batch(4));
    await append(partition, batch(5));
    await machine.clock.settle();
    expect(syncs).toEqual([]);
    await append(partition, batch(1));
    await machine.clock.settle();
    expect(syncs).toEqual([partition.bytes]);
    await append(partition, batch(9));
    await machine.clock.settle();
    expect(syncs).toHaveLength(1);
    await append(partition, batch(25));
    await machine.clock.settle();
    expect(syncs).toHaveLength(2);
  });

  it('counts from the last sync, whoever asked for it', async () => {
    const partition = await open({ flushMessages: 10 });
    await append(partition, batch(9));
    await append(partition, batch(1), 'all');
    await append(partition, batch(9));
    await machine.clock.settle();
    expect(syncs).toHaveLength(1);
  });

  it('syncs again for what came while a sync ran', async () => {
    const partition = await open({ flushMessages: 2 });
    held = [];
    await append(partition, batch(2));
    await machine.clock.settle();
    await append(partition, batch(2));
    await machine.clock.settle();
    expect(syncs).toHaveLength(1);
    const [first] = held;
    held = null;
    first!();
    await machine.clock.settle();
    expect(syncs).toEqual([syncs[0], partition.bytes]);
  });
});

describe('flushMs', () => {
  it('syncs once a record has waited that long', async () => {
    const partition = await open({ flushMs: 100 });
    await append(partition, batch(1));
    await machine.clock.advance(60);
    await append(partition, batch(1));
    await machine.clock.advance(39);
    expect(syncs).toEqual([]);
    await machine.clock.advance(1);
    expect(syncs).toEqual([partition.bytes]);
    expect(machine.clock.timerCount).toBe(0);
    await machine.clock.advance(1000);
    expect(syncs).toHaveLength(1);
  });

  it('of 0 syncs after every append', async () => {
    const partition = await open({ flushMs: 0 });
    for (const count of [1, 2]) {
      await append(partition, batch(1));
      await machine.clock.settle();
      expect(syncs).toHaveLength(count);
    }
  });

  it('leaves no timer behind a sync, a close, or where it is not set', async () => {
    const partition = await open({ flushMs: 100 });
    await append(partition, batch(1));
    await append(partition, batch(1), 'all');
    expect(machine.clock.timerCount).toBe(0);
    await append(partition, batch(1));
    expect(machine.clock.timerCount).toBe(1);
    await partition.close();
    expect(machine.clock.timerCount).toBe(0);
    machine = new Machine();
    await append(await open({}), batch(1));
    expect(machine.clock.timerCount).toBe(0);
    machine = new Machine();
    broker = await machine.open();
    await append(await createTopic(broker, { flushMs: 100 }), batch(1));
    expect(machine.clock.timerCount).toBe(1);
    await broker.topics.delete('t');
    expect(machine.clock.timerCount).toBe(0);
  });

  it('may be altered', async () => {
    const partition = await open({});
    await broker.topics.alter('t', { flushMessages: 1 });
    await append(partition, batch(1));
    await machine.clock.settle();
    expect(syncs).toHaveLength(1);
  });
});
