import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { asStorageError } from '../src/errors.js';
import type { TopicSettings } from '../src/options.js';
import type { Partition } from '../src/partition.js';
import { FaultyMachine } from './faulty-machine.js';
import { append, batchOf, createTopic, failureOf, partitionOf, readFrom } from './machine.js';
import { ioError, noSpace } from './watched-files.js';

const minute = 60_000;
const hour = 60 * minute;
const large = 'x'.repeat(900);

let machine: FaultyMachine;
let broker: Broker;
let warnings: string[];
beforeEach(async () => {
  machine = new FaultyMachine();
  await start();
});

async function start(): Promise<void> {
  broker = await machine.open();
  warnings = [];
  broker.onWarning = (warning) => warnings.push(warning);
}

/** Segments of one record of about 1 KB each, of now; the last one is active. */
async function filled(
  settings: Partial<TopicSettings>,
  count = 5,
  partitions = 1,
): Promise<Partition> {
  const partition = await createTopic(broker, { segmentBytes: 1024, ...settings }, partitions);
  for (let i = 0; i < count; i++) await appendNow(partition);
  return partition;
}

function appendNow(partition: Partition, timestamp = machine.clock.now()): Promise<number> {
  return append(partition, batchOf([large], { timestamp }), 'all');
}

async function commit(
  groupId: string,
  offset: number,
  partition = partitionOf(broker),
): Promise<void> {
  const { topicId, index } = partition;
  const position = { topicId, partition: index, offset, leaderEpoch: 0, metadata: '' };
  await broker.offsets.commit(groupId, [position]);
}

/** Where the log begins and ends, having every record in between. */
async function rangeOf(partition: Partition): Promise<[start: number, end: number]> {
  const { logStartOffset, logEndOffset } = partition;
  const offsets = (await readFrom(partition, logStartOffset)).map(({ offset }) => offset);
  const expected = Array.from(
    { length: logEndOffset - logStartOffset },
    (_, i) => logStartOffset + i,
  );
  expect(offsets).toEqual(expected);
  return [logStartOffset, logEndOffset];
}

describe('retentionMs', () => {
  it('frees segments whose latest record is older', async () => {
    const partition = await filled({ retentionMs: hour }, 3);
    await machine.clock.advance(hour);
    await appendNow(partition);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 4]);
    await machine.clock.advance(1);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([3, 4]);
    expect(machine.names().filter((name) => name.endsWith('.log'))).toHaveLength(1);
  });

  it('rolls an active segment whose records all are older, then frees it', async () => {
    const partition = await filled({ retentionMs: hour });
    await machine.clock.advance(hour + 1);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([5, 5]);
    expect(await appendNow(partition)).toBe(5);
    await start();
    expect(await rangeOf(partitionOf(broker))).toEqual([5, 6]);
  });

  it('takes appends while it rolls', async () => {
    const partition = await filled({ retentionMs: hour });
    await machine.clock.advance(hour + 1);
    const checked = broker.retention.check();
    const offsets = await Promise.all([1, 2, 3].map(() => appendNow(partition)));
    await checked;
    expect(offsets).toEqual([5, 6, 7]);
    expect(await rangeOf(partition)).toEqual([5, 8]);
  });

  it('goes by the largest timestamp of a segment: one record of the future keeps it', async () => {
    const segmentMs = Number.MAX_SAFE_INTEGER;
    const partition = await filled({ retentionMs: hour, segmentBytes: 8192, segmentMs }, 2);
    await appendNow(partition, machine.clock.now() + 100 * 365 * 24 * hour);
    await appendNow(partition);
    await machine.clock.advance(2 * hour);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 4]);
  });

  it('records of the future make nothing else go', async () => {
    const partition = await filled({ retentionMs: hour });
    for (let i = 1; i < 4; i++) await appendNow(partition, machine.clock.now() * 2 ** i);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 8]);
  });

  it('goes by the time of the append with LogAppendTime', async () => {
    const partition = await createTopic(broker, {
      segmentBytes: 1024,
      retentionMs: hour,
      messageTimestampType: 'LogAppendTime',
    });
    for (let i = 0; i < 3; i++) await appendNow(partition, 1000);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 3]);
    await machine.clock.advance(hour + 1);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([3, 3]);
  });

  it('f15 does not believe a clock that jumps ahead before the next check', async () => {
    const partition = await filled({ retentionMs: 24 * hour });
    await broker.retention.check();
    const now = machine.clock.now.bind(machine.clock);
    machine.clock.now = () => now() + 10 * 365 * 24 * hour;
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
    expect(warnings).toEqual([expect.stringContaining("system's clock went ahead")]);
    machine.clock.now = now;
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
    machine.clock.now = () => now() + 10 * 365 * 24 * hour;
    await broker.retention.check();
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([5, 5]);
  });

  it('frees nothing by a clock that goes back', async () => {
    const partition = await filled({ retentionMs: hour });
    const now = machine.clock.now.bind(machine.clock);
    machine.clock.now = () => now() - 10 * 365 * 24 * hour;
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
  });
});

describe('retentionBytes', () => {
  it('frees the oldest while what is left has as many', async () => {
    const partition = await filled({ retentionBytes: 2100 });
    const bytes = partition.bytes / 5;
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([2, 5]);
    expect(partition.bytes).toBe(3 * bytes);
    expect(partition.bytes - bytes).toBeLessThan(2100);
  });

  it('of 0 frees the active segment as well', async () => {
    const partition = await filled({ retentionBytes: 0 });
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([5, 5]);
    await broker.retention.check();
    expect(partition.segmentCount).toBe(1);
  });

  it('counts as altered last', async () => {
    const partition = await filled({});
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
    await broker.topics.alter('t', { retentionBytes: 1 });
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([4, 5]);
  });
});

describe("retention 'consumed'", () => {
  it('frees nothing while there is no group', async () => {
    const partition = await filled({ retention: 'consumed' });
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
  });

  it('frees what is below the lowest commit of all groups', async () => {
    const partition = await filled({ retention: 'consumed' });
    await commit('a', 4);
    await commit('b', 2);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([2, 5]);
    await commit('b', 5);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([4, 5]);
  });

  it('counts a group that has committed in another partition of the topic only', async () => {
    const partition = await filled({ retention: 'consumed' }, 5, 2);
    await commit('a', 5);
    await commit('b', 0, partitionOf(broker, 1));
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
  });

  it('does not count groups of other topics', async () => {
    const partition = await filled({ retention: 'consumed' });
    await commit('b', 0, await createTopic(broker, {}, 1, 'u'));
    await commit('a', 5);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([4, 5]);
  });

  it('counts the commits of before a restart', async () => {
    await filled({ retention: 'consumed' });
    await commit('a', 5);
    await commit('b', 3);
    await start();
    await broker.retention.check();
    expect(await rangeOf(partitionOf(broker))).toEqual([3, 5]);
  });

  it('rolls a consumed active segment of more than 1 MiB, no smaller one', async () => {
    const partition = await filled({ retention: 'consumed', segmentBytes: 8 * 1024 * 1024 });
    await commit('a', 5);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 5]);
    await append(partition, batchOf(['x'.repeat(1024 * 1024)]), 'all');
    await commit('a', 5);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([0, 6]);
    await commit('a', 6);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([6, 6]);
  });

  it('looks once for all commits of a second', async () => {
    const partition = await filled({ retention: 'consumed' });
    const timers = machine.clock.timerCount;
    for (let offset = 1; offset <= 4; offset++) await commit('a', offset);
    expect(machine.clock.timerCount).toBe(timers + 1);
    expect(partition.logStartOffset).toBe(0);
    await machine.clock.advance(1000);
    expect(await rangeOf(partition)).toEqual([4, 5]);
    expect(machine.clock.timerCount).toBe(timers);
  });

  it('makes no timer for commits where no topic asks for it', async () => {
    await filled({});
    const timers = machine.clock.timerCount;
    await commit('a', 4);
    expect(machine.clock.timerCount).toBe(timers);
  });

  it('never frees what is not committed, whatever is appended and committed when', async () => {
    const partition = await filled({ retention: 'consumed' });
    for (let round = 0; round < 20; round++) {
      const offset = Math.min(partition.logEndOffset, round);
      await Promise.all([
        commit('a', offset),
        appendNow(partition),
        broker.retention.check(),
        appendNow(partition),
      ]);
      expect(partition.logStartOffset).toBeLessThanOrEqual(offset);
    }
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([19, partition.logEndOffset]);
  });
});

describe('a group that stalls', () => {
  it('is warned of once, when others are past what it holds back', async () => {
    const partition = await filled({ retention: 'consumed' });
    await commit('slow', 1);
    await machine.clock.advance(hour + 1);
    await commit('fast', 5);
    await broker.retention.check();
    await broker.retention.check();
    expect(warnings).toEqual([
      expect.stringContaining('group slow holds back 3 segments of topic t'),
    ]);
    expect(await rangeOf(partition)).toEqual([1, 5]);
    await commit('slow', 2);
    await broker.retention.check();
    await machine.clock.advance(hour + 1);
    await broker.retention.check();
    expect(warnings).toHaveLength(2);
  });

  it('is not warned of before it has been silent for an hour', async () => {
    await filled({ retention: 'consumed' });
    await commit('slow', 1);
    await commit('fast', 5);
    await machine.clock.advance(hour);
    await broker.retention.check();
    expect(warnings).toEqual([]);
  });

  it('is not warned of when it is the only one', async () => {
    await filled({ retention: 'consumed' });
    await commit('only', 1);
    await machine.clock.advance(10 * hour);
    await broker.retention.check();
    expect(warnings).toEqual([]);
  });

  it('is warned of when a limit passes its commit', async () => {
    const partition = await filled({ retentionBytes: 1 });
    await commit('slow', 1);
    await commit('fast', 4);
    await broker.retention.check();
    expect(warnings).toEqual([
      't-0: retention deleted offsets 1 to 3, which group slow has not read',
    ]);
    await appendNow(partition);
    await broker.retention.check();
    expect(warnings.slice(1)).toEqual([
      't-0: retention deleted offsets 4 to 4, which group fast has not read',
    ]);
  });
});

describe('when it looks', () => {
  it('is right after start, then every five minutes, until it is stopped', async () => {
    const partition = await filled({ retentionBytes: 1 });
    broker.retention.start();
    await machine.clock.settle();
    expect(await rangeOf(partition)).toEqual([4, 5]);
    for (let i = 0; i < 3; i++) {
      await appendNow(partition);
      await machine.clock.advance(5 * minute - 1);
      expect(await rangeOf(partition)).toEqual([4 + i, 6 + i]);
      await machine.clock.advance(1);
      expect(await rangeOf(partition)).toEqual([5 + i, 6 + i]);
    }
    await broker.close();
    expect(machine.clock.timerCount).toBe(0);
  });

  it('has a timer only while a topic has limits', async () => {
    broker.retention.start();
    await machine.clock.settle();
    await filled({});
    expect(machine.clock.timerCount).toBe(0);
    await broker.topics.alter('t', { retentionBytes: 1 });
    expect(machine.clock.timerCount).toBe(1);
    await machine.clock.advance(5 * minute);
    expect(await rangeOf(partitionOf(broker))).toEqual([4, 5]);
    await broker.topics.alter('t', { retentionBytes: -1 });
    await machine.clock.advance(5 * minute);
    expect(machine.clock.timerCount).toBe(0);
  });

  it('opens no partition of a topic that has no limits', async () => {
    await filled({});
    await broker.close();
    await start();
    const calls: string[] = [];
    machine.fault = ({ name }) => void calls.push(name);
    await broker.retention.check();
    expect(calls).toEqual([]);
  });

  it('stops between partitions when it is closed', async () => {
    const partition = await filled({ retentionBytes: 1 }, 5, 3);
    for (const index of [1, 2]) {
      for (let i = 0; i < 5; i++) await appendNow(partitionOf(broker, index));
    }
    machine.holdRows = 'segment segment segment segment partition';
    const checked = broker.retention.check();
    await machine.clock.settle();
    const closed = broker.close();
    machine.letRowsGo();
    await Promise.all([checked, closed]);
    machine.holdRows = '';
    await start();
    expect([0, 1, 2].map((index) => partitionOf(broker, index).logStartOffset)).toEqual([4, 0, 0]);
    expect(partition.name).toBe('t-0');
  });

  it('lets a topic be deleted meanwhile', async () => {
    const partition = await filled({ retentionBytes: 1 });
    machine.holdRows = 'segment segment segment segment partition';
    const checked = broker.retention.check();
    await machine.clock.settle();
    const deleted = broker.topics.delete('t');
    await machine.clock.settle();
    machine.letRowsGo();
    await Promise.all([checked, deleted]);
    await broker.retention.check();
    expect(warnings).toEqual([]);
    expect([...machine.store.range(['partition', partition.topicId])]).toEqual([]);
    expect(machine.files.isDirectory('/t-0')).toBe(false);
  });
});

describe('faults', () => {
  it('a disk that is full is healed: appends go on', async () => {
    const partition = await filled({ retentionBytes: 1 });
    const { store } = machine;
    const write = store.write.bind(store);
    const isFull = (): boolean =>
      machine.names().filter((name) => name.endsWith('.log')).length >= 5;
    store.write = (changes) =>
      isFull() ? Promise.reject(asStorageError('meta', noSpace('data.mdb'))) : write(changes);
    machine.fault = ({ name, path }) => (name === 'write' && isFull() ? noSpace(path) : undefined);
    expect(await failureOf(appendNow(partition))).toMatchObject({ retriable: true });
    await broker.retention.check();
    expect(warnings).toEqual([]);
    expect(await appendNow(partition)).toBe(5);
    expect(await rangeOf(partition)).toEqual([4, 6]);
    machine.fault = () => undefined;
    await start();
    expect(await rangeOf(partitionOf(broker))).toEqual([4, 6]);
    expect(broker.recovery).toEqual([]);
  });

  it('a disk too full to roll still lets the sealed segments go', async () => {
    const partition = await filled({ retentionMs: hour });
    await machine.clock.advance(hour + 1);
    machine.rowFault = asStorageError('meta', noSpace('data.mdb'));
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([4, 5]);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([5, 5]);
  });

  it('metadata that cannot be written is warned of once', async () => {
    const partition = await filled({ retentionBytes: 1 });
    for (let i = 0; i < 3; i++) {
      machine.rowFault = asStorageError('meta', ioError('write', 'data.mdb'), false);
      await broker.retention.check();
    }
    expect(warnings).toEqual([expect.stringContaining('retention could not free anything')]);
    expect(await rangeOf(partition)).toEqual([0, 5]);
    await broker.retention.check();
    expect(await rangeOf(partition)).toEqual([4, 5]);
  });

  it('a partition that takes no appends is left as it is', async () => {
    const partition = await filled({ retentionBytes: 1 });
    machine.fault = ({ name, path }) =>
      name === 'sync' && path.endsWith('.log') ? ioError('fdatasync', path) : undefined;
    await failureOf(appendNow(partition));
    machine.fault = () => undefined;
    await broker.retention.check();
    expect(partition.logStartOffset).toBe(0);
    await partition.reopen();
    await broker.retention.check();
    expect(partition.logStartOffset).toBeGreaterThan(0);
  });
});
