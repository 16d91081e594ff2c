import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import type { Partition } from '../src/partition.js';
import { FaultyMachine, appendEach, failing, notRetriable, retriable } from './faulty-machine.js';
import { append, batchOf, createTopic, firstLog, partitionOf, valuesIn } from './machine.js';
import { fileError } from '../src/storage/file-system.js';
import { numberedBatch } from './numbered.js';
import { ioError, noSpace } from './watched-files.js';

const large = 'x'.repeat(900);

/** Named by the catalogue of faults that this storage is held to. */
describe('faults of storage', () => {
  let machine: FaultyMachine;
  let broker: Broker;
  let partition: Partition;
  beforeEach(async () => {
    machine = new FaultyMachine();
    broker = await machine.open();
    partition = await createTopic(broker, { segmentBytes: 1024, retentionBytes: 1024 });
    await append(partition, batchOf(['a']), 'all');
  });

  it('f09 short and interrupted writes: all bytes land, in order, before anybody is told', async () => {
    machine.fault = failing('write', 1, 7, 30);
    expect(await append(partition, batchOf(['b', 'c']), 'all')).toBe(1);
    expect(await valuesIn(partition)).toEqual(['a', 'b', 'c']);
  });

  it('f10 ENOSPC: refused and invisible, read on, and it heals once retention has made room', async () => {
    for (const value of [large, large, large]) await append(partition, batchOf([value]));
    // There is room for what was freed, and for nothing else.
    let room = 0;
    machine.fault = ({ name, path, bytes }) => {
      if (name === 'removeFile' && path.endsWith('.log')) room += 1000;
      if (name !== 'write' || bytes <= room) return undefined;
      return noSpace(path);
    };
    expect(
      (await appendEach(partition, [large, 'c'], 'all')).map(({ outcome }) => outcome),
    ).toEqual([retriable, retriable]);
    expect(await valuesIn(partition)).toEqual(['a', large, large, large]);
    broker.retention.start();
    await machine.clock.advance(5 * 60 * 1000);
    expect(partition.logStartOffset).toBeGreaterThan(0);
    expect(partition.failure).toBeNull();
    expect((await appendEach(partition, ['c'], 'all'))[0]?.outcome).toBe(4);
    const again = await machine.open();
    expect((await valuesIn(partitionOf(again))).at(-1)).toBe('c');
  });

  it('f11 EIO where a roll saves the old indexes: refused, and rolled the next time', async () => {
    machine.fault = ({ name, path }) =>
      name === 'size' && path.endsWith('0.index') ? ioError(name, path) : undefined;
    expect((await appendEach(partition, [large], 1))[0]?.outcome).toEqual(retriable);
    expect(partition.segmentCount).toBe(1);
    machine.fault = () => undefined;
    expect((await appendEach(partition, [large], 1))[0]?.outcome).toBe(1);
    expect(await valuesIn(partition)).toEqual(['a', large]);
  });

  it('f11 EIO where a roll removes an older snapshot of producers: nothing is written to the old file', async () => {
    const numbered = (value: string, baseSequence: number): Buffer =>
      numberedBatch([value], {
        producerId: 1n,
        producerEpoch: 0,
        baseSequence,
        timestamp: machine.clock.now(),
      });
    await broker.topics.alter('t', { segmentMs: 2 ** 50 });
    await machine.clock.advance(5000);
    for (const [i, value] of ['b', 'c'].entries())
      await append(partition, numbered(value, i), 'all');
    const before = machine.names().filter((name) => name.endsWith('.snapshot'));
    expect(before).toHaveLength(1);
    machine.fault = ({ name, path }) => (name === 'removeFile' ? ioError(name, path) : undefined);
    expect(
      (await appendEach(partition, [large, 'd'], 'all')).map(({ outcome }) => outcome),
    ).toEqual([3, 4]);
    machine.fault = () => undefined;
    const again = await machine.open();
    expect(await valuesIn(partitionOf(again))).toEqual(['a', 'b', 'c', large, 'd']);
    expect(machine.names()).not.toContain(before[0]);
  });

  it('f11 EIO while a log is recovered: nothing of it is read or written until it is reopened', async () => {
    await append(partition, batchOf(['b']));
    machine.fault = ({ name, path }) =>
      ['read', 'readAsync', 'sync'].includes(name) ? ioError(name, path) : undefined;
    const again = await machine.open();
    machine.fault = () => undefined;
    const recovered = partitionOf(again);
    await expect(valuesIn(recovered)).rejects.toEqual(notRetriable);
    expect((await appendEach(recovered, ['c'], 1))[0]?.outcome).toEqual(notRetriable);
    expect(await recovered.reopen()).toBeNull();
    expect(await append(recovered, batchOf(['c']))).toBe(2);
    expect(await valuesIn(recovered)).toEqual(['a', 'b', 'c']);
  });

  it('f11 EIO where a file is closed that is synced: the others are closed, and nothing is lost', async () => {
    machine.fault = ({ name, path }) => (name === 'close' ? ioError(name, path) : undefined);
    await broker.close();
    expect(machine.watched.openCount).toBe(0);
    machine.fault = () => undefined;
    expect(await valuesIn(partitionOf(await machine.open()))).toEqual(['a']);
  });

  it('f12 fsync fails: a restart remembers it, and writes again what the sync lost', async () => {
    machine.fault = failing('sync', ioError('fdatasync', firstLog));
    expect((await appendEach(partition, ['b'], 'all'))[0]?.outcome).toEqual(notRetriable);
    await broker.close();
    machine.log.length = 0;
    const again = await machine.open();
    expect(machine.log.slice(0, 2)).toEqual([`write ${firstLog}`, `sync ${firstLog}`]);
    expect(await valuesIn(partitionOf(again))).toEqual(['a', 'b']);
    await again.close();
    machine.log.length = 0;
    await machine.open();
    expect(machine.log).toEqual([]);
  });

  it('f13 out of descriptors: a log that cannot be opened is opened at the next use', async () => {
    await broker.close();
    const again = partitionOf(await machine.open());
    const tooMany = Object.assign(fileError('ENOSPC', 'open', firstLog), { code: 'EMFILE' });
    machine.fault = ({ name }) =>
      ['open', 'list', 'readFile'].includes(name) ? tooMany : undefined;
    expect((await appendEach(again, ['b'], 1))[0]?.outcome).toEqual(retriable);
    machine.fault = () => undefined;
    expect((await appendEach(again, ['b'], 1))[0]?.outcome).toBe(1);
    expect(await valuesIn(again)).toEqual(['a', 'b']);
  });

  it('f35 a directory that was away when all was opened: what lies behind the recovery point waits', async () => {
    await createTopic(broker, {}, 1, 'u');
    const other = partitionOf(broker, 0, 'u');
    await append(other, batchOf(['kept']));
    machine.files.rename('/u-0', '/away');
    const again = await machine.open();
    machine.files.rename('/away', '/u-0');
    const back = partitionOf(again, 0, 'u');
    await expect(valuesIn(back)).rejects.toEqual(notRetriable);
    await back.reopen();
    expect(await valuesIn(back)).toEqual(['kept']);
  });
});
