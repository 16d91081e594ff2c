import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { asStorageError } from '../src/errors.js';
import { PartitionReader } from '../src/partition-reader.js';
import type { Partition } from '../src/partition.js';
import { readBatchHeader } from '../src/record.js';
import {
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  valuesIn,
} from './machine.js';
import {
  FaultyMachine,
  appendEach,
  failing,
  notRetriable,
  retriable,
  type Outcome,
} from './faulty-machine.js';
import { ioError, noSpace } from './watched-files.js';

let machine: FaultyMachine;
let broker: Broker;
let partition: Partition;
/** Appends several at once; what became of each, in the order in which it was told. */
const appendAll = (values: readonly string[], acks: 1 | 'all' = 1): Promise<Outcome[]> =>
  appendEach(partition, values, acks);
beforeEach(async () => {
  machine = new FaultyMachine();
  broker = await machine.open();
  partition = await createTopic(broker, { segmentBytes: 1024 }, 2);
  await append(partition, batchOf(['a']), 'all');
  machine.log.length = 0;
});

/** The same records after a kill as before it, and nothing to repair. */
async function expectSurvives(values: readonly string[]): Promise<void> {
  machine.fault = () => undefined;
  const again = await machine.open();
  expect(again.recovery).toEqual([]);
  expect(await valuesIn(partitionOf(again))).toEqual(values);
}

describe('a write', () => {
  it('that is short is gone on with', async () => {
    const bytes = batchOf(['b']);
    machine.fault = failing('write', 1, 20, 3);
    expect(await append(partition, bytes, 'all')).toBe(1);
    expect(machine.count(`write ${firstLog}`)).toBe(4);
    expect(await valuesIn(partition)).toEqual(['a', 'b']);
    await expectSurvives(['a', 'b']);
  });

  it('that fails after any number of bytes is undone, and work goes on', async () => {
    const end = machine.read(firstLog).length;
    for (let written = 0; written < batchOf(['b']).length; written++) {
      const path = `/t-0/${firstLog}`;
      machine.fault = failing('write', ...(written > 0 ? [written] : []), noSpace(path));
      expect(await failureOf(append(partition, batchOf(['b']), 'all'))).toEqual(retriable);
      expect(machine.read(firstLog)).toHaveLength(end);
      expect(partition.logEndOffset).toBe(1);
    }
    expect(await append(partition, batchOf(['b']), 'all')).toBe(1);
    await expectSurvives(['a', 'b']);
  });

  it('of nothing at all is a failure, not an endless loop', async () => {
    machine.fault = failing('write', 0);
    expect(await failureOf(append(partition, batchOf(['b'])))).toEqual(retriable);
    expect(await append(partition, batchOf(['b']))).toBe(1);
  });

  it('that cannot be undone ends appends until the partition is reopened', async () => {
    let writes = 0;
    machine.fault = (call) => {
      if (call.name === 'truncate') return ioError('ftruncate', call.path);
      if (call.name !== 'write') return undefined;
      return writes++ === 0 ? 10 : ioError('write', call.path);
    };
    expect(await failureOf(append(partition, batchOf(['b']), 'all'))).toEqual(notRetriable);
    // The disk is no better yet: reopening fails, and may be asked for again.
    expect(await failureOf(partition.reopen())).toEqual(notRetriable);
    machine.fault = () => undefined;
    const refused = await failureOf(append(partition, batchOf(['c'])));
    expect(refused).toEqual(notRetriable);
    expect(refused.message).toContain('topics.reopen("t", 0)');
    expect(await valuesIn(partition)).toEqual(['a']);
    expect(await append(partitionOf(broker, 1), batchOf(['x']), 'all')).toBe(0);
    expect(await partition.reopen()).toMatch(/^t-0: cut 10 bytes .*\.$/);
    expect(await append(partition, batchOf(['b']), 'all')).toBe(1);
    expect(partition.leaderEpoch).toBeGreaterThan(0);
    await expectSurvives(['a', 'b']);
  });

  it('that fails takes those with it that wait behind it, in order', async () => {
    const large = 'x'.repeat(1000);
    await append(partition, batchOf(['b']));
    machine.holdSyncs();
    const outcomes = appendAll([large, 'c', 'd', 'e']);
    await machine.clock.settle();
    machine.fault = failing('write', noSpace(firstLog));
    machine.letSyncsGo();
    expect(await outcomes).toEqual(
      [large, 'c', 'd', 'e'].map((value) => ({ value, outcome: retriable })),
    );
    expect(await appendAll([large, 'c'])).toEqual([
      { value: large, outcome: 2 },
      { value: 'c', outcome: 3 },
    ]);
    await expectSurvives(['a', 'b', large, 'c']);
  });
});

describe('a sync that fails', () => {
  beforeEach(() => {
    machine.fault = failing('sync', ioError('fdatasync', firstLog));
  });

  it('fails all who wait for it, and later appends, and is not tried again', async () => {
    const [first, ...later] = await Promise.all([
      appendAll(['b', 'c'], 'all'),
      appendAll(['d'], 1),
    ]);
    expect(first.map(({ outcome }) => outcome)).toEqual([notRetriable, notRetriable]);
    expect(later[0]).toEqual([{ value: 'd', outcome: 3 }]);
    expect((await appendAll(['e'], 1))[0]?.outcome).toEqual(notRetriable);
    expect((await appendAll(['f'], 'all'))[0]?.outcome).toEqual(notRetriable);
    await machine.clock.settle();
    expect(machine.count(`sync ${firstLog}`)).toBe(1);
    // Readers and other partitions go on.
    expect(await valuesIn(partition)).toEqual(['a', 'b', 'c', 'd']);
    expect(await append(partitionOf(broker, 1), batchOf(['x']), 'all')).toBe(0);
  });

  it('during a roll fails what waits for the roll, and nothing is sealed', async () => {
    const large = 'x'.repeat(1000);
    await append(partition, batchOf(['b']));
    const outcomes = await appendAll([large, 'c'], 'all');
    expect(outcomes.map(({ outcome }) => outcome)).toEqual([notRetriable, notRetriable]);
    expect(machine.names().filter((name) => name.endsWith('.log'))).toEqual([firstLog]);
    expect([...machine.store.range(['segment', partition.topicId])]).toEqual([]);
    await broker.close();
    expect(machine.count(`sync ${firstLog}`)).toBe(1);
  });

  it('is over when the partition is reopened', async () => {
    expect((await appendAll(['b'], 'all'))[0]?.outcome).toEqual(notRetriable);
    machine.log.length = 0;
    expect(await partition.reopen()).toBeNull();
    // Linux takes what a failed sync did not write for clean: it must be written again to be synced.
    expect(machine.log.slice(0, 2)).toEqual([`write ${firstLog}`, `sync ${firstLog}`]);
    expect(await append(partition, batchOf(['c']), 'all')).toBe(2);
    expect(await valuesIn(partition)).toEqual(['a', 'b', 'c']);
    await expectSurvives(['a', 'b', 'c']);
  });

  it('is not retried by a reopening whose own sync failed: the next one writes again, too', async () => {
    expect((await appendAll(['b'], 'all'))[0]?.outcome).toEqual(notRetriable);
    machine.fault = failing('sync', ioError('fdatasync', firstLog));
    expect(await failureOf(partition.reopen())).toEqual(notRetriable);
    machine.log.length = 0;
    expect(await partition.reopen()).toBeNull();
    expect(machine.log.slice(0, 2)).toEqual([`write ${firstLog}`, `sync ${firstLog}`]);
    await expectSurvives(['a', 'b']);
  });

  it('is known to the next process: what the sync did not write is written again', async () => {
    expect((await appendAll(['b'], 'all'))[0]?.outcome).toEqual(notRetriable);
    machine.log.length = 0;
    const again = await machine.open();
    expect(machine.log.slice(0, 2)).toEqual([`write ${firstLog}`, `sync ${firstLog}`]);
    expect(await valuesIn(partitionOf(again))).toEqual(['a', 'b']);
    await again.close();
    machine.log.length = 0;
    await machine.open();
    expect(machine.log).toEqual([]);
  });

  it('in a recovery is made good by a reopening', async () => {
    await append(partition, batchOf(['b']));
    machine.write(firstLog, Buffer.concat([machine.read(firstLog), Buffer.from('torn')]));
    machine.fault = failing('sync', ioError('fdatasync', firstLog));
    const again = await machine.open();
    machine.log.length = 0;
    expect(await partitionOf(again).reopen()).toBeNull();
    expect(machine.log.slice(0, 2)).toEqual([`write ${firstLog}`, `sync ${firstLog}`]);
    expect(await valuesIn(partitionOf(again))).toEqual(['a', 'b']);
  });

  it('lets readers go on where they were, before and after a reopening', async () => {
    const reader = new PartitionReader(partition, 0);
    const buffer = Buffer.alloc(4096);
    const size = batchOf(['b']).length;
    expect(reader.read(buffer)).toBe(size);
    expect((await appendAll(['b'], 'all'))[0]?.outcome).toEqual(notRetriable);
    expect(await reader.readAsync(buffer)).toBe(size);
    expect(await partition.reopen()).toBeNull();
    expect(reader.available).toBe(0);
    await append(partition, batchOf(['c']), 'all');
    expect(reader.available).toBe(size);
    expect(await reader.readAsync(buffer)).toBe(size);
    expect(readBatchHeader(buffer, 0, size)?.baseOffset).toBe(2);
    await broker.close();
    expect(machine.watched.openCount).toBe(0);
  });

  it('does not keep close() from closing', async () => {
    const outcomes = appendAll(['b', 'c'], 'all');
    await broker.close();
    expect((await outcomes).map(({ outcome }) => outcome)).toEqual([notRetriable, notRetriable]);
    expect(machine.watched.openCount).toBe(0);
  });
});

describe('a roll', () => {
  const large = 'x'.repeat(1000);
  const secondLog = '00000000000000000002.log';

  it('syncs the old file, then writes the rows, then the first byte of the new one', async () => {
    await append(partition, batchOf(['b']));
    await append(partition, batchOf([large]), 'all');
    expect(machine.log).toEqual([
      `write ${firstLog}`,
      `sync ${firstLog}`,
      'write 00000000000000000000.timeindex',
      'truncate 00000000000000000000.timeindex',
      'sync 00000000000000000000.timeindex',
      'syncDirectory /t-0',
      'write rows segment partition',
      `write ${secondLog}`,
      `sync ${secondLog}`,
      'syncDirectory /t-0',
    ]);
    expect(partition.segmentCount).toBe(2);
    await expectSurvives(['a', 'b', large]);
  });

  it('keeps the order of what comes meanwhile', async () => {
    await append(partition, batchOf(['b']));
    const values = [large, 'c', large, 'd', 'e', large];
    const outcomes = await appendAll(values);
    expect(outcomes).toEqual(values.map((value, i) => ({ value, outcome: 2 + i })));
    expect(partition.segmentCount).toBe(6);
    await expectSurvives(['a', 'b', ...values]);
  });

  it('whose rows find no space fails what waits for it, and is done the next time', async () => {
    await append(partition, batchOf(['b']));
    machine.rowFault = asStorageError('/meta', noSpace('/meta/data.mdb'));
    expect((await appendAll([large, 'c'])).map(({ outcome }) => outcome)).toEqual([
      retriable,
      retriable,
    ]);
    expect(machine.names()).not.toContain(secondLog);
    expect((await appendAll([large, 'c'])).map(({ outcome }) => outcome)).toEqual([2, 3]);
    await expectSurvives(['a', 'b', large, 'c']);
  });

  it('whose rows fail for good ends appends', async () => {
    await append(partition, batchOf(['b']));
    machine.rowFault = asStorageError('/meta', ioError('fdatasync', '/meta/data.mdb'), false);
    expect((await appendAll([large, 'c'])).map(({ outcome }) => outcome)).toEqual([
      notRetriable,
      notRetriable,
    ]);
    expect((await appendAll(['d']))[0]?.outcome).toEqual(notRetriable);
    expect(await valuesIn(partition)).toEqual(['a', 'b']);
    expect(await partition.reopen()).toBeNull();
    expect((await appendAll([large, 'd'])).map(({ outcome }) => outcome)).toEqual([2, 3]);
    await expectSurvives(['a', 'b', large, 'd']);
  });

  it('that cannot save an index fails what waits for it, and is done the next time', async () => {
    await append(partition, batchOf(['b']));
    machine.fault = ({ name, path }) =>
      name === 'write' && path.endsWith('.timeindex') ? noSpace(path) : undefined;
    expect((await appendAll([large]))[0]?.outcome).toEqual(retriable);
    machine.fault = () => undefined;
    expect((await appendAll([large]))[0]?.outcome).toBe(2);
    await expectSurvives(['a', 'b', large]);
  });

  it('is not undone by a recovery point that was under way', async () => {
    await machine.clock.advance(5000);
    machine.holdSyncs();
    machine.holdRows = 'segment partition';
    const durable = append(partition, batchOf(['b']), 'all');
    const rolled = append(partition, batchOf([large]));
    await machine.clock.settle();
    machine.letLastSyncGo();
    await machine.clock.settle();
    machine.letSyncsGo();
    await machine.clock.settle();
    machine.letRowsGo();
    expect(await Promise.all([durable, rolled])).toEqual([1, 2]);
    await machine.clock.settle();
    const row = machine.store.get(['partition', partition.topicId, 0]);
    expect(row?.active.baseOffset).toBe(2);
    await expectSurvives(['a', 'b', large]);
  });
});

describe('group commit', () => {
  it('serves all who wait by one sync, and those who came during it by one more', async () => {
    machine.holdSyncs();
    const values = Array.from({ length: 10 }, (_, i) => `${i}`);
    const outcomes = appendAll(values, 'all');
    await machine.clock.settle();
    expect(machine.syncing).toBe(1);
    machine.letSyncsGo();
    expect((await outcomes).map(({ value }) => value)).toEqual(values);
    expect(machine.count(`sync ${firstLog}`)).toBe(2);
  });

  it('has at most one sync of a file under way, also while it rolls', async () => {
    machine.holdSyncs();
    const outcomes = appendAll(['b', 'x'.repeat(1000), 'c', 'y'.repeat(1000)], 'all');
    await machine.clock.settle();
    expect(machine.syncing).toBe(1);
    machine.letSyncsGo();
    expect((await outcomes).map(({ outcome }) => outcome)).toEqual([1, 2, 3, 4]);
    expect(machine.mostSyncing).toBe(1);
  });

  it('has at most two syncs under way for all partitions', async () => {
    const topic = await createTopic(broker, {}, 10, 'many');
    machine.holdSyncs();
    const appended = Array.from({ length: 10 }, (_, i) =>
      append(partitionOf(broker, i, topic.topic), batchOf(['x']), 'all'),
    );
    await machine.clock.settle();
    expect(machine.syncing).toBe(2);
    machine.letSyncsGo();
    expect(await Promise.all(appended)).toEqual(Array.from({ length: 10 }, () => 0));
    expect(machine.mostSyncing).toBe(2);
  });

  it('bounds what is written and not synced: appends then wait for the sync, in order', async () => {
    const big = await createTopic(broker, {}, 1, 'big');
    machine.holdSyncs();
    const bytes = batchOf(Array.from({ length: 16 }, () => 'x'.repeat(64 * 1024 - 100)));
    const done: number[] = [];
    const appended = Array.from({ length: 70 }, async () => {
      done.push(await append(big, Buffer.from(bytes)));
    });
    await machine.clock.settle();
    const beforeSync = done.length;
    expect(beforeSync * bytes.length).toBeGreaterThanOrEqual(64 * 1024 * 1024);
    expect(beforeSync).toBeLessThan(70);
    machine.letSyncsGo();
    await Promise.all(appended);
    expect(done).toEqual(Array.from({ length: 70 }, (_, i) => i * 16));
  });
});

describe('a recovery point', () => {
  it.each([
    ['rows', () => (machine.rowFault = asStorageError('/meta', noSpace('/meta/data.mdb')))],
    ['indexes', () => (machine.fault = ({ path }) => indexFault(path))],
  ])('whose %s cannot be saved costs nobody anything', async (_what, fail) => {
    await machine.clock.advance(5000);
    fail();
    expect(await append(partition, batchOf(['b']), 'all')).toBe(1);
    await machine.clock.settle();
    machine.fault = () => undefined;
    expect(await append(partition, batchOf(['c']), 'all')).toBe(2);
    await machine.clock.advance(5000);
    expect(await append(partition, batchOf(['d']), 'all')).toBe(3);
    await machine.clock.settle();
    const row = machine.store.get(['partition', partition.topicId, 0]);
    expect(row?.active.nextOffset).toBe(4);
    await expectSurvives(['a', 'b', 'c', 'd']);
  });
});

function indexFault(path: string): Error | undefined {
  return path.endsWith('index') ? noSpace(path) : undefined;
}
