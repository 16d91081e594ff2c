import { beforeEach, describe, expect, it } from 'vitest';
import { encodePartitionMetadata } from '../src/storage/checkpoint.js';
import { put } from '../src/storage/meta-store.js';
import { FaultyMachine } from './faulty-machine.js';
import {
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  valuesIn,
} from './machine.js';
import { ioError } from './watched-files.js';

// What a kill has left behind the recovery point, whole batches alone: open looks at it, and no more.

let machine: FaultyMachine;
let topicId: string;
/** Calls for partition 0's files. */
let calls: string[];

/** Two records that are durable, and two behind the recovery point. */
beforeEach(async () => {
  machine = new FaultyMachine();
  const broker = await machine.open();
  const partition = await createTopic(broker);
  ({ topicId } = partition);
  await append(partition, batchOf(['a', 'b']), 'all');
  await broker.close();
  const killed = partitionOf(await machine.open());
  await append(killed, batchOf(['c']));
  await append(killed, batchOf(['d']));
  calls = [];
  machine.fault = ({ name, path }) => {
    if (path.startsWith('/t-0')) calls.push(`${name} ${path.replace('/t-0/', '')}`);
    return undefined;
  };
});

const rowOf = (): NonNullable<ReturnType<typeof machine.store.get<'partition'>>> =>
  machine.store.get(['partition', topicId, 0])!;

describe('a log with whole batches behind its recovery point', () => {
  it('is read once at open, and its directory is not listed', async () => {
    const { recovery } = await machine.open();
    expect(calls).toEqual([
      `size ${firstLog}`,
      `open ${firstLog}`,
      `read ${firstLog}`,
      `close ${firstLog}`,
      'size 00000000000000000004.log',
    ]);
    expect(recovery).toEqual([]);
  });

  it('has them when it is used, and goes on behind them', async () => {
    const broker = await machine.open();
    const partition = partitionOf(broker);
    const bytes = machine.read(firstLog).length;
    expect(partition.storedExtent).toMatchObject({ nextOffset: 4, bytes });
    expect(await append(partition, batchOf(['e']))).toBe(4);
    expect(partition).toMatchObject({ logStartOffset: 0, logEndOffset: 5, leaderEpoch: 0 });
    expect(await valuesIn(partition)).toEqual(['a', 'b', 'c', 'd', 'e']);
    await broker.close();
    const again = partitionOf(await machine.open());
    expect(await valuesIn(again)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('is durable once all is closed, though nobody used it', async () => {
    const broker = await machine.open();
    machine.log.length = 0;
    await broker.close();
    expect(machine.count(`sync ${firstLog}`)).toBe(1);
    expect(rowOf().active).toMatchObject({ nextOffset: 4, bytes: machine.read(firstLog).length });
    calls.length = 0;
    await machine.open();
    expect(calls).toEqual([`size ${firstLog}`]);
  });

  it('is looked at again at the next open, as long as nothing was closed', async () => {
    await machine.open();
    await machine.open();
    expect(await valuesIn(partitionOf(await machine.open()))).toEqual(['a', 'b', 'c', 'd']);
  });

  it('tells whose directory it is where nothing was ever synced', async () => {
    const broker = await machine.open();
    await append(await createTopic(broker, {}, 1, 'new'), batchOf(['x']));
    const again = await machine.open();
    expect(await valuesIn(partitionOf(again, 0, 'new'))).toEqual(['x']);
    const other = encodePartitionMetadata('AAAAAAAAAAAAAAAAAAAAAQ');
    machine.write('partition.metadata', other, '/new-0');
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
  });

  it('is METADATA_LOST at open where a segment begins behind them that no row knows', async () => {
    machine.write('00000000000000000004.log', batchOf(['e'], { baseOffset: 4 }));
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
  });

  it.each([
    ['the last batch before them is damaged', 70],
    ['the last batch before them has another offset', 7],
  ])('is opened, and says so, where %s', async (_what, at) => {
    const bytes = machine.read(firstLog);
    bytes[at]! ^= 1;
    machine.write(firstLog, bytes);
    const { recovery } = await machine.open();
    expect(recovery).toEqual([expect.stringContaining('t-0 takes no records until')]);
  });

  it('is opened where the look at them fails', async () => {
    let isFirst = true;
    machine.fault = ({ name, path }) => {
      if (name !== 'read' || !isFirst) return undefined;
      isFirst = false;
      return ioError('read', path);
    };
    const broker = await machine.open();
    expect(isFirst).toBe(false);
    expect(await valuesIn(partitionOf(broker))).toEqual(['a', 'b', 'c', 'd']);
  });

  it('is read again at its next use where that fails, and leaves no file open', async () => {
    const broker = await machine.open();
    const openBefore = machine.watched.openCount;
    machine.fault = ({ name, path }) => (name === 'read' ? ioError('read', path) : undefined);
    expect(() => partitionOf(broker).logEndOffset).toThrow('EIO');
    machine.fault = () => undefined;
    expect(machine.watched.openCount).toBe(openBefore);
    expect(await valuesIn(partitionOf(broker))).toEqual(['a', 'b', 'c', 'd']);
    await broker.close();
    expect(machine.watched.openCount).toBe(openBefore);
  });

  const changes: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
    ['longer', (bytes) => Buffer.concat([bytes, batchOf(['e'], { baseOffset: 4 })])],
    ['damaged', (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from('~')])],
  ];
  it.each(changes)(
    'that is %s when it is used takes no records until it is reopened',
    async (_, change) => {
      const broker = await machine.open();
      const changed = change(machine.read(firstLog));
      machine.write(firstLog, changed);
      const refused = await failureOf(append(partitionOf(broker), batchOf(['x'])));
      expect(refused).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
      expect(machine.read(firstLog)).toEqual(changed);
      await broker.reopen({ topic: 't', partition: 0 });
      const values = await valuesIn(partitionOf(broker));
      expect(values.slice(0, 3)).toEqual(['a', 'b', 'c']);
      expect(await append(partitionOf(broker), batchOf(['x']))).toBe(values.length);
    },
  );

  it('is opened where more than one look takes', async () => {
    const broker = await machine.open();
    for (let i = 0; i < 5; i++) await append(partitionOf(broker), batchOf(['x'.repeat(10_000)]));
    calls.length = 0;
    const again = partitionOf(await machine.open());
    expect(calls).toContain('list /t-0');
    expect(again.logEndOffset).toBe(9);
  });

  it('that ends below its start begins anew there', async () => {
    const active = { ...rowOf().active };
    await machine.store.write([
      put(['partition', topicId, 0], { ...rowOf(), active, logStartOffset: 7 }),
    ]);
    const broker = await machine.open();
    expect(partitionOf(broker)).toMatchObject({ logStartOffset: 7, logEndOffset: 7 });
  });
});
