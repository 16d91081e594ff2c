import { describe, expect, it } from 'vitest';
import type { Ottla } from '../src/index.js';
import { describeContract, describeDirectory } from './contract.js';
import { append, batchOf, createTopic, Machine, partitionOf, valuesIn } from './machine.js';

async function segmentsOf(ottla: Ottla): Promise<number> {
  return (await ottla.topics.describe('orders')).partitions[0]!.segments;
}

const start = 1_700_000_000_000;

describeContract('a log with segmentMs', ({ open }) => {
  async function opened(segmentMs?: number): Promise<{
    ottla: Ottla;
    send: (timestamp: number) => Promise<number>;
  }> {
    const ottla = await open();
    await ottla.topics.create('orders', segmentMs === undefined ? {} : { segmentMs });
    const producer = ottla.producer();
    return {
      ottla,
      send: async (timestamp) => {
        await producer.send('orders', { value: 'v', timestamp });
        return segmentsOf(ottla);
      },
    };
  }

  it('rolls before a record that is more than segmentMs after the first, not before', async () => {
    const { send } = await opened(1000);
    expect(await send(start)).toBe(1);
    expect(await send(start + 1000)).toBe(1);
    expect(await send(start + 1001)).toBe(2);
    expect(await send(start + 2001)).toBe(2);
    expect(await send(start + 2002)).toBe(3);
  });

  it('counts from the first record, not from the latest or the earliest', async () => {
    const { send } = await opened(1000);
    expect(await send(start)).toBe(1);
    expect(await send(start - 5000)).toBe(1);
    expect(await send(start + 900)).toBe(1);
    expect(await send(start + 1001)).toBe(2);
  });

  it('does not roll for records that are older than the first', async () => {
    const { send } = await opened(1000);
    await send(start);
    for (let i = 1; i < 10; i++) expect(await send(start - i * 10_000)).toBe(1);
  });

  it('rolls after seven days unless told otherwise', async () => {
    const { send } = await opened();
    const week = 7 * 24 * 60 * 60 * 1000;
    expect(await send(start)).toBe(1);
    expect(await send(start + week)).toBe(1);
    expect(await send(start + week + 1)).toBe(2);
  });

  it('goes by segmentMs as altered last', async () => {
    const { ottla, send } = await opened(1000);
    await send(start);
    await ottla.topics.alter('orders', { segmentMs: 10_000 });
    expect(await send(start + 5000)).toBe(1);
    await ottla.topics.alter('orders', { segmentMs: 100 });
    expect(await send(start + 5001)).toBe(2);
  });

  it('f15 takes one record a century into the future as any other', async () => {
    const { send } = await opened(1000);
    const century = 100 * 365 * 24 * 60 * 60 * 1000;
    await send(start);
    expect(await send(start + century)).toBe(2);
    for (let i = 0; i < 10; i++) expect(await send(start + i * 5000)).toBe(2);
  });
});

describeDirectory('a log with segmentMs after a restart', ({ open, reopen }) => {
  it('still counts from the first record', async () => {
    const before = await open();
    await before.topics.create('orders', { segmentMs: 1000 });
    await before.producer().send('orders', { value: 'a', timestamp: start });
    await before.producer().send('orders', { value: 'b', timestamp: start + 900 });
    const after = await reopen(before);
    const producer = after.producer();
    await producer.send('orders', { value: 'c', timestamp: start + 1000 });
    expect(await segmentsOf(after)).toBe(1);
    await producer.send('orders', { value: 'd', timestamp: start + 1001 });
    expect(await segmentsOf(after)).toBe(2);
  });
});

describe('segmentMs with LogAppendTime', () => {
  it('goes by the time of the append, whatever the records say', async () => {
    const machine = new Machine();
    const broker = await machine.open();
    const partition = await createTopic(broker, {
      segmentMs: 1000,
      messageTimestampType: 'LogAppendTime',
    });
    await append(partition, batchOf(['a'], { timestamp: 5 }));
    await append(partition, batchOf(['b'], { timestamp: start * 3 }));
    await machine.clock.advance(1000);
    await append(partition, batchOf(['c'], { timestamp: 7 }));
    expect(partition.segmentCount).toBe(1);
    await machine.clock.advance(1);
    await append(partition, batchOf(['d'], { timestamp: 7 }));
    expect(partition.segmentCount).toBe(2);
    expect(await valuesIn(partition)).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('segmentMs after a kill', () => {
  it('counts from the first batch of the file', async () => {
    const machine = new Machine();
    const partition = await createTopic(await machine.open(), { segmentMs: 1000 });
    await append(partition, batchOf(['a', 'b'], { timestamp: start }), 'all');
    await append(partition, batchOf(['c'], { timestamp: start + 500 }));
    const again = partitionOf(await machine.open());
    await append(again, batchOf(['d'], { timestamp: start + 1001 }));
    expect(again.segmentCount).toBe(1);
    await append(again, batchOf(['e'], { timestamp: start + 1002 }));
    expect(again.segmentCount).toBe(2);
    expect(await valuesIn(again)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });
});
