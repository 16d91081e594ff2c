import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { offsetForTimestamp } from '../src/partition-offsets.js';
import { decodeLeaderEpochs } from '../src/storage/checkpoint.js';
import type { RecoveryPoint } from '../src/storage/meta-store.js';
import { OffsetIndex } from '../src/storage/offset-index.js';
import { TimeIndex } from '../src/storage/time-index.js';
import { DyingMachine } from './dying-machine.js';
import {
  Machine,
  append,
  batchOf,
  createTopic,
  firstLog,
  partitionOf,
  readFrom,
  valuesIn,
} from './machine.js';
import { WatchedFiles, type Call } from './watched-files.js';

const batches = [batchOf(['a', 'b']), batchOf(['c', 'd']), batchOf(['e', 'f'])];
const kept = ['a', 'b', 'c', 'd'];
const sizes = batches.map(({ length }) => length);
const lastStart = sizes[0]! + sizes[1]!;
const fileSize = lastStart + sizes[2]!;

/** How far the recovery point is when the process ends: what is before it was synced and saved. */
const points = [
  ['at the start', 0],
  ['before the last batch', 2],
] as const;

/** A log of three batches, with the recovery point behind `synced` of them, after a kill. */
async function killedMachine<M extends Machine = Machine>(
  synced: number,
  machine: M = new Machine() as M,
): Promise<M> {
  let broker = await machine.open();
  await createTopic(broker);
  for (const [i, batch] of batches.entries()) {
    if (i === synced) {
      await broker.close();
      broker = await machine.open();
    }
    await append(partitionOf(broker), Buffer.from(batch));
  }
  return machine;
}

const report = (cut: number, at: number, next: number): RegExp =>
  new RegExp(`^t-0: cut ${cut} bytes at byte ${at}, next offset ${next}: .+\\.$`);

/** The last batch is gone, what came before is there, and work goes on behind it: also after one more kill. */
async function expectLastBatchCut(machine: Machine, broker: Broker): Promise<void> {
  const partition = partitionOf(broker);
  expect(await valuesIn(partition)).toEqual(kept);
  expect(partition.leaderEpoch).toBe(1);
  expect(machine.read(firstLog)).toHaveLength(lastStart);
  const checkpoint = machine.read('leader-epoch-checkpoint').toString();
  expect(decodeLeaderEpochs(checkpoint)).toEqual([
    [0, 0],
    [1, 4],
  ]);
  expect(await append(partition, batchOf(['new', 'newer']), 'all')).toBe(4);
  const again = await machine.open();
  expect(again.recovery).toEqual([]);
  expect(await valuesIn(partitionOf(again))).toEqual([...kept, 'new', 'newer']);
  expect(partitionOf(again).leaderEpoch).toBe(1);
}

describe('a killed process', () => {
  it.each(points)('loses nothing that was written, recovery point %s', async (_where, synced) => {
    const machine = await killedMachine(synced);
    const broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    expect(await valuesIn(partitionOf(broker))).toEqual([...kept, 'e', 'f']);
    expect(partitionOf(broker).leaderEpoch).toBe(0);
    expect(machine.names()).not.toContain('leader-epoch-checkpoint');
    expect(await append(partitionOf(broker), batchOf(['g']))).toBe(6);
  });

  it.each(points)(
    'changes nothing on the disk when it is opened, recovery point %s',
    async (_where, synced) => {
      const machine = await killedMachine(synced);
      const calls: string[] = [];
      const unchanging = ['open', 'close', 'read', 'readAsync', 'readFile', 'list', 'size'];
      machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
        if (!unchanging.includes(name)) calls.push(`${name} ${path}`);
        return undefined;
      });
      const broker = await machine.open();
      await machine.clock.settle();
      expect(calls).toEqual([]);
      await append(partitionOf(broker), batchOf(['g']), 'all');
      expect(calls).toEqual([
        `write /t-0/${firstLog}`,
        `sync /t-0/${firstLog}`,
        'syncDirectory /t-0',
      ]);
      await broker.close();
      const again = await machine.open();
      expect(partitionOf(again).logEndOffset).toBe(7);
    },
  );

  it('has what it wrote synced in the background once it is much', async () => {
    const machine = new Machine();
    const killed = await machine.open();
    await createTopic(killed);
    const batch = batchOf(['x'.repeat(1_000_000)]);
    for (let i = 0; i < 7; i++) await append(partitionOf(killed), Buffer.from(batch));
    const syncs: string[] = [];
    machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
      if (name === 'sync' && path.endsWith('.log')) syncs.push(path);
      return undefined;
    });
    const broker = await machine.open();
    await machine.clock.settle();
    expect(syncs).toEqual([]);
    for (let i = 0; i < 2; i++) await append(partitionOf(broker), Buffer.from(batch));
    await machine.clock.settle();
    expect(syncs).toEqual([`/t-0/${firstLog}`]);
    const again = await machine.open();
    await machine.clock.settle();
    expect(syncs).toHaveLength(1);
    expect(partitionOf(again).logEndOffset).toBe(9);
  });

  it('has what it left synced at once if that is much, and then no more', async () => {
    const machine = new Machine();
    const killed = await machine.open();
    await createTopic(killed);
    const batch = batchOf(['x'.repeat(1_000_000)]);
    for (let i = 0; i < 9; i++) await append(partitionOf(killed), Buffer.from(batch));
    await machine.clock.settle();
    const calls: string[] = [];
    machine.files = new WatchedFiles(machine.files, ({ name, path }) => {
      if (path.endsWith('.log') && name !== 'size') calls.push(name);
      return undefined;
    });
    await machine.open();
    await machine.clock.settle();
    expect(calls.filter((name) => name === 'sync')).toEqual(['sync']);
    calls.length = 0;
    const again = await machine.open();
    await machine.clock.settle();
    expect(calls).toEqual([]);
    expect(partitionOf(again).logEndOffset).toBe(9);
  });

  it('is not judged again and again: the first sync moves the recovery point, however soon it comes', async () => {
    const machine = await killedMachine(0);
    const broker = await machine.open();
    await append(partitionOf(broker), batchOf(['g']), 'all');
    await machine.clock.settle();
    const { topicId } = partitionOf(broker);
    expect(pointOf(machine, topicId)).toMatchObject({
      nextOffset: 7,
      bytes: machine.read(firstLog).length,
    });
    const calls = watchLogs(machine);
    const again = await machine.open();
    expect(calls).toEqual([]);
    expect(await valuesIn(partitionOf(again))).toEqual([...kept, 'e', 'f', 'g']);
    await append(partitionOf(again), batchOf(['h']), 'all');
    await machine.clock.settle();
    expect(pointOf(machine, topicId).nextOffset).toBe(7);
  });

  it('may have been killed again and again before it could close', async () => {
    const machine = await killedMachine(0);
    const values = [...kept, 'e', 'f'];
    for (let round = 0; round < 5; round++) {
      const broker = await machine.open();
      expect(broker.recovery).toEqual([]);
      expect(await append(partitionOf(broker), batchOf([`${round}`]))).toBe(values.length);
      values.push(`${round}`);
      expect(await valuesIn(partitionOf(broker))).toEqual(values);
    }
  });
});

describe('f04: a torn tail', () => {
  it.each(points)('is cut at whatever byte it ends, recovery point %s', async (_where, synced) => {
    for (let length = 1; length < sizes[2]!; length++) {
      const machine = await killedMachine(synced);
      machine.write(firstLog, machine.read(firstLog).subarray(0, lastStart + length));
      const broker = await machine.open();
      expect(broker.recovery).toEqual([
        expect.stringMatching(report(length, lastStart, 4)) as unknown,
      ]);
      await expectLastBatchCut(machine, broker);
    }
  });

  it('that is a whole batch short is none', async () => {
    const machine = await killedMachine(2);
    machine.write(firstLog, machine.read(firstLog).subarray(0, lastStart));
    const broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    expect(await valuesIn(partitionOf(broker))).toEqual(kept);
    expect(partitionOf(broker).leaderEpoch).toBe(0);
  });

  it('may be all that there is', async () => {
    const machine = await killedMachine(0);
    machine.write(firstLog, machine.read(firstLog).subarray(0, sizes[0]! - 1));
    const broker = await machine.open();
    expect(broker.recovery).toEqual([
      expect.stringMatching(report(sizes[0]! - 1, 0, 0)) as unknown,
    ]);
    expect(decodeLeaderEpochs(machine.read('leader-epoch-checkpoint').toString())).toEqual([
      [1, 0],
    ]);
    expect(await append(partitionOf(broker), batchOf(['new']))).toBe(0);
    expect(await valuesIn(partitionOf(broker))).toEqual(['new']);
  });

  it('grows the leader epoch at each cut', async () => {
    const machine = await killedMachine(0);
    for (let epoch = 1; epoch < 4; epoch++) {
      machine.append(firstLog, Buffer.from('torn'));
      const broker = await machine.open();
      expect(broker.recovery).toHaveLength(1);
      expect(partitionOf(broker).leaderEpoch).toBe(epoch);
      await append(partitionOf(broker), batchOf(['x']));
    }
    expect(decodeLeaderEpochs(machine.read('leader-epoch-checkpoint').toString())).toEqual([
      [0, 0],
      [1, 6],
      [2, 7],
      [3, 8],
    ]);
  });
});

const good = batchOf(['new'], { baseOffset: 6 });
const tails: readonly (readonly [what: string, bytes: Buffer])[] = [
  ...[1, 11, 12, 16, 17, 60, 61, 100, 4096, 65_536].flatMap((count) => [
    [`${count} bytes of zeros`, Buffer.alloc(count)] as const,
    [`${count} bytes of ff`, Buffer.alloc(count, 0xff)] as const,
    [`${count} bytes of text`, Buffer.alloc(count, 'garbage ')] as const,
  ]),
  ['a stale batch, of a lower offset', batches[0]!],
  ['a duplicate of the last batch', batchOf(['e', 'f'], { baseOffset: 4 })],
  ['a batch that overlaps the last one', batchOf(['f', 'g'], { baseOffset: 5 })],
  ['a batch of another partition, of a higher offset', batchOf(['x'], { baseOffset: 700 })],
  ['the next batch with a bit of its CRC flipped', withBit(good, 17)],
  ['the next batch with a bit of its records flipped', withBit(good, good.length - 1)],
  ['the next batch with another magic', withByte(good, 16, 1)],
  ['the next batch with a length too small', withByte(good, 11, good[11]! - 1)],
  ['the next batch with a length too large', withByte(good, 11, good[11]! + 1)],
  ['the next batch with a huge length', withByte(good, 8, 0x7f)],
  ['the next batch with a negative length', withByte(good, 8, 0xff)],
  ['the next batch with an offset beyond 2^53', withByte(good, 0, 0x7f)],
];

function withByte(bytes: Buffer, at: number, value: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = value;
  return changed;
}

function withBit(bytes: Buffer, at: number): Buffer {
  return withByte(bytes, at, bytes[at]! ^ 1);
}

describe.each([
  ['a killed process', false],
  ['a clean close', true],
])('f07: at the end of the log, after %s,', (_what, clean) => {
  let machine: Machine;
  beforeEach(async () => {
    machine = await killedMachine(0);
    if (clean) await (await machine.open()).close();
  });

  it.each(tails)('%s is cut', async (_tail, bytes) => {
    machine.append(firstLog, bytes);
    const broker = await machine.open();
    expect(broker.recovery).toEqual([
      expect.stringMatching(report(bytes.length, fileSize, 6)) as unknown,
    ]);
    const partition = partitionOf(broker);
    expect(await valuesIn(partition)).toEqual([...kept, 'e', 'f']);
    expect(machine.read(firstLog)).toHaveLength(fileSize);
    expect(machine.names().filter((name) => name.endsWith('.torn'))).toEqual([]);
    expect(partition.leaderEpoch).toBe(1);
    expect(await append(partition, batchOf(['new']))).toBe(6);
    expect(await valuesIn(partition)).toEqual([...kept, 'e', 'f', 'new']);
  });
});

describe('good batches behind a bad one', () => {
  const later = batchOf(['later'], { baseOffset: 7 });

  it.each([
    ['with a bit flipped', withBit(good, good.length - 1)],
    ['with a huge length', withByte(good, 8, 0x7f)],
    ['lost in zeros', Buffer.alloc(good.length)],
    ['with another offset', batchOf(['x'], { baseOffset: 3 })],
  ])('%s are cut and kept in a .torn file', async (_what, bad) => {
    const machine = await killedMachine(0);
    machine.append(firstLog, Buffer.concat([bad, later]));
    const broker = await machine.open();
    const name = '00000000000000000006.torn';
    expect(broker.recovery).toEqual([
      expect.stringMatching(report(bad.length + later.length, fileSize, 6)) as unknown,
    ]);
    expect(broker.recovery[0]).toMatch(new RegExp(`they are kept in .*${name}\\.$`));
    expect(machine.read(name)).toEqual(Buffer.concat([bad, later]));
    expect(await valuesIn(partitionOf(broker))).toEqual([...kept, 'e', 'f']);
    expect(await append(partitionOf(broker), batchOf(['new']))).toBe(6);
    await broker.close();
    expect((await machine.open()).recovery).toEqual([]);
    expect(machine.read(name)).toEqual(Buffer.concat([bad, later]));
  });
});

describe('a kill during the recovery', () => {
  it.each([
    ['a torn tail', Buffer.from('torn'), 0],
    ['good batches behind a bad one', Buffer.concat([withBit(good, 17), good]), 1],
  ])('of %s, at any of its changes, costs nothing', async (_what, tail, tornFiles) => {
    let changes = 0;
    for (let isKilled = true; isKilled; changes++) {
      const machine = await killedMachine(2, new DyingMachine(false));
      machine.append(firstLog, tail);
      machine.left = changes;
      machine.asked = 0;
      await machine.open();
      isKilled = machine.asked > changes;
      machine.left = Infinity;
      const broker = await machine.open();
      const partition = partitionOf(broker);
      expect(await valuesIn(partition)).toEqual([...kept, 'e', 'f']);
      expect(machine.read(firstLog)).toHaveLength(fileSize);
      expect(machine.names().filter((name) => name.endsWith('.torn'))).toHaveLength(tornFiles);
      // Offsets from 6 on may have been seen with what is cut: whatever comes there has another epoch.
      expect(partition.leaderEpoch).toBeGreaterThan(0);
      expect(await append(partition, batchOf(['new']), 'all')).toBe(6);
      expect((await machine.open()).recovery).toEqual([]);
    }
    // The checkpoint, a row with the epoch, the cut, a row with the new end; then none fails.
    expect(changes).toBe(5 + tornFiles);
  });
});

/** Watches the machine's files from now on. @returns what is read of .log files, as it comes */
function watchLogs(machine: Machine): Call[] {
  const calls: Call[] = [];
  machine.files = new WatchedFiles(machine.files, (call) => {
    const isRead = call.name === 'open' || call.name.startsWith('read');
    if (isRead && call.path.endsWith('.log')) calls.push(call);
    return undefined;
  });
  return calls;
}

function pointOf(machine: Machine, topicId: string): RecoveryPoint {
  return machine.store.get(['partition', topicId, 0])!.active;
}

/** About a megabyte. */
const large = batchOf(Array.from({ length: 16 }, () => 'x'.repeat(64 * 1024 - 100)));

describe('the recovery point', () => {
  it('is the end after a clean close: nothing is read', async () => {
    const machine = await killedMachine(0);
    await (await machine.open()).close();
    const calls = watchLogs(machine);
    const broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    expect(calls).toEqual([]);
    expect(await valuesIn(partitionOf(broker))).toEqual([...kept, 'e', 'f']);
  });

  it('is where reading begins after a kill', async () => {
    const machine = await killedMachine(2);
    const calls = watchLogs(machine);
    await machine.open();
    const reads = calls.filter(({ name }) => name === 'readAsync' || name === 'read');
    // The last batch before it shows that the file is the one that it is of.
    expect(Math.min(...reads.map(({ position }) => position))).toBe(lastStart - sizes[1]!);
  });

  it('moves at a sync that comes 5 s or more after it moved last', async () => {
    const machine = new Machine();
    const broker = await machine.open();
    const partition = await createTopic(broker);
    await append(partition, batchOf(['a']), 'all');
    expect(machine.store.get(['partition', partition.topicId, 0])).toBeUndefined();
    await machine.clock.advance(4999);
    await append(partition, batchOf(['b']), 'all');
    expect(machine.store.get(['partition', partition.topicId, 0])).toBeUndefined();
    await machine.clock.advance(1);
    await append(partition, batchOf(['c']));
    expect(machine.store.get(['partition', partition.topicId, 0])).toBeUndefined();
    await append(partition, batchOf(['d']), 'all');
    await machine.clock.settle();
    expect(pointOf(machine, partition.topicId)).toMatchObject({
      nextOffset: 4,
      bytes: machine.read(firstLog).length,
    });
    await machine.clock.advance(4999);
    await append(partition, batchOf(['e']), 'all');
    await machine.clock.settle();
    expect(pointOf(machine, partition.topicId).nextOffset).toBe(4);
  });

  it('moves every 64 MiB, and the indexes are complete up to it', async () => {
    const machine = new Machine();
    const broker = await machine.open();
    const partition = await createTopic(broker);
    for (let i = 0; i < 64; i++) {
      await append(partition, Buffer.from(large), i === 63 ? 'all' : 1);
    }
    await machine.clock.settle();
    expect(machine.store.get(['partition', partition.topicId, 0])).toBeUndefined();
    await append(partition, Buffer.from(large), 'all');
    await machine.clock.settle();
    const point = pointOf(machine, partition.topicId);
    expect(point.bytes).toBe(65 * large.length);
    expect(point.offsetIndexBytes).toBe(64 * 8);
    expect(machine.read('00000000000000000000.index')).toHaveLength(point.offsetIndexBytes);
    expect(machine.read('00000000000000000000.timeindex')).toHaveLength(point.timeIndexBytes);
  });

  it('moves in the background where nobody asks for durability', async () => {
    const machine = new Machine();
    const partition = await createTopic(await machine.open());
    for (let i = 0; i < 80; i++) {
      await append(partition, Buffer.from(large));
      await machine.clock.settle();
    }
    expect(pointOf(machine, partition.topicId).bytes).toBeGreaterThanOrEqual(64 * 1024 * 1024);
  });
});

describe('an index that was written anew behind the recovery point', () => {
  it('counts as empty: its first entries are not those that the point means', async () => {
    const machine = new Machine();
    let broker = await machine.open();
    await createTopic(broker, { indexIntervalBytes: 0 });
    for (const value of ['a', 'b', 'c']) await append(partitionOf(broker), batchOf([value]));
    await broker.close();
    const point = pointOf(machine, broker.topics.get('t').id);
    expect(point.offsetIndexBytes).toBeGreaterThan(0);
    broker = await machine.open();
    for (const value of ['d', 'e', 'f']) await append(partitionOf(broker), batchOf([value]));
    const index = new OffsetIndex(0);
    const size = batchOf(['a']).length;
    for (let offset = 4; index.byteLength < point.offsetIndexBytes; offset++) {
      index.append(offset, offset * size);
    }
    machine.write('00000000000000000000.index', index.bytesFrom(0));
    const times = new TimeIndex(0);
    for (let i = 0; times.byteLength < point.timeIndexBytes; i++) times.append(2000 + i, 4 + i);
    machine.write('00000000000000000000.timeindex', times.bytesFrom(0));
    broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    expect(await valuesIn(partitionOf(broker))).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });
});

describe('f04: a small file', () => {
  it.each(['.index', '.timeindex', 'leader-epoch-checkpoint'])(
    '%s cut at any byte costs nothing',
    async (suffix) => {
      const machine = new Machine();
      let broker = await machine.open();
      await createTopic(broker, { indexIntervalBytes: 0 });
      const values = ['a', 'b', 'c', 'd', 'e', 'f'];
      for (const [i, value] of values.entries()) {
        await append(partitionOf(broker), batchOf([value], { timestamp: 1000 + i }));
      }
      machine.append(firstLog, Buffer.from('torn'));
      await (await machine.open()).close();
      const name = machine.names().find((found) => found.endsWith(suffix))!;
      const whole = machine.read(name);
      expect(whole.length).toBeGreaterThan(4);
      for (let length = 0; length < whole.length; length++) {
        machine.write(name, whole.subarray(0, length));
        broker = await machine.open();
        expect(broker.recovery).toEqual([]);
        const partition = partitionOf(broker);
        expect(partition.leaderEpoch).toBe(1);
        expect(await valuesIn(partition)).toEqual(values);
        for (const offset of values.keys()) {
          expect((await readFrom(partition, offset))[0]?.offset).toBe(offset);
          expect(await offsetForTimestamp(partition, 1000 + offset)).toBe(offset);
        }
      }
    },
  );
});
