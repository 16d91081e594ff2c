import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { PartitionReader } from '../src/partition-reader.js';
import { readBatchHeader } from '../src/record.js';
import type { MetaStore } from '../src/storage/meta-store.js';
import { ProducerState } from '../src/storage/producer-state.js';
import {
  Machine,
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  valuesIn,
} from './machine.js';
import { numberedBatch } from './numbered.js';
import { WatchedFiles, ioError } from './watched-files.js';
import { seeds } from './seeds.js';

const changing = new Set(['write', 'truncate', 'sync', 'replaceFile', 'makeDirectory', 'rename']);

/** Opens beside the owner; any change of a file fails. */
async function follow(
  machine: Machine,
): Promise<{ broker: Broker; files: WatchedFiles; store: MetaStore }> {
  const beside = new Machine();
  const store: MetaStore = {
    get: (key) => machine.store.get(key),
    range: (prefix) => machine.store.range(prefix),
    write: () => Promise.reject(new Error('write of rows, read-only')),
    close: () => Promise.resolve(),
  };
  beside.store = store;
  const files = new WatchedFiles(machine.files, ({ name, path }) => {
    if (changing.has(name)) throw new Error(`${name} ${path}, read-only`);
    return undefined;
  });
  beside.files = files;
  return { broker: await beside.open({ readOnly: true }), files, store };
}

/** The offsets of the batches that come next, each as `base-next`. */
async function nextBatches(reader: PartitionReader): Promise<string[]> {
  const found: string[] = [];
  const buffer = Buffer.alloc(4096);
  for (;;) {
    const length = await reader.readAsync(buffer);
    if (length === 0) return found;
    for (let at = 0; at < length;) {
      const { baseOffset, nextOffset, size } = readBatchHeader(buffer, at, length)!;
      found.push(`${baseOffset}-${nextOffset}`);
      at += size;
    }
  }
}

/** As a log leaves it that has this batch only. */
function snapshotOf(batch: Buffer): Buffer {
  const state = new ProducerState();
  state.added(readBatchHeader(batch, 0, batch.length)!);
  return state.encode();
}

describe('a read-only partition beside its owner', () => {
  let machine: Machine;
  let owner: Broker;
  beforeEach(async () => {
    machine = new Machine();
    owner = await machine.open();
    await createTopic(owner, { segmentBytes: 1024, indexIntervalBytes: 200 });
  });

  it('reads on where it was, also over rolls, and every batch once', async () => {
    const { broker, files } = await follow(machine);
    const followed = partitionOf(broker);
    await followed.refresh();
    const reader = new PartitionReader(followed, 0);
    expect(await nextBatches(reader)).toEqual([]);
    let next = 0;
    for (let round = 0; round < 30; round++) {
      const appended = [];
      for (let i = 0; i <= round % 4; i++) {
        const values = Array.from({ length: (round % 3) + 1 }, () => 'x'.repeat(round * 10));
        appended.push(`${next}-${next + values.length}`);
        expect(await append(partitionOf(owner), batchOf(values))).toBe(next);
        next += values.length;
      }
      await followed.refresh();
      expect(followed.logEndOffset).toBe(next);
      expect(await nextBatches(reader)).toEqual(appended);
    }
    expect(followed.segmentCount).toBe(partitionOf(owner).segmentCount);
    expect(followed.segmentCount).toBeGreaterThan(5);
    await broker.close();
    expect(files.openCount).toBe(0);
  });

  it('may be refreshed by several at once', async () => {
    const { broker, files } = await follow(machine);
    const followed = partitionOf(broker);
    const values = [];
    for (let i = 0; i < 50; i++) {
      values.push(`${i}`.padStart(100, '0'));
      await append(partitionOf(owner), batchOf([values[i]!]));
      if (i % 7 === 0) await Promise.all([followed.refresh(), followed.refresh()]);
    }
    await Promise.all([followed.refresh(), followed.refresh()]);
    expect(await valuesIn(followed)).toEqual(values);
    await broker.close();
    expect(files.openCount).toBe(0);
  });

  it('stops before a batch that is not whole yet, at whatever byte that ends', async () => {
    await append(partitionOf(owner), batchOf(['a']));
    const before = machine.read(firstLog);
    const next = batchOf(['b'], { baseOffset: 1 });
    const { broker } = await follow(machine);
    const followed = partitionOf(broker);
    for (let length = 0; length < next.length; length++) {
      machine.write(firstLog, Buffer.concat([before, next.subarray(0, length)]));
      const { broker: another } = await follow(machine);
      await partitionOf(another).refresh();
      expect(await valuesIn(partitionOf(another))).toEqual(['a']);
      await followed.refresh();
      expect(followed.logEndOffset).toBe(1);
    }
    machine.write(firstLog, Buffer.concat([before, next]));
    const { broker: another } = await follow(machine);
    await partitionOf(another).refresh();
    expect(await valuesIn(partitionOf(another))).toEqual(['a', 'b']);
  });

  it('fails a refresh with a typed error where the disk fails, and goes on once it is well', async () => {
    await append(partitionOf(owner), batchOf(['a']));
    const { broker, files } = await follow(machine);
    const followed = partitionOf(broker);
    for (const name of ['list', 'size'] as const) {
      files[name] = (path: string) => {
        throw ioError(name, path);
      };
      expect(await failureOf(followed.refresh())).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
      files.list = (path) => machine.files.list(path);
      files.size = (path) => machine.files.size(path);
    }
    await followed.refresh();
    expect(await valuesIn(followed)).toEqual(['a']);
  });

  it('knows aborted records, though the snapshot of the producers is damaged, or of another log', async () => {
    await owner.topics.alter('t', { segmentMs: 2 ** 50 });
    const of = { producerId: 1n, producerEpoch: 0 };
    const begun = { ...of, baseSequence: 0, isTransactional: true, timestamp: machine.clock.now() };
    await append(partitionOf(owner), numberedBatch(['aborted'], begun), 'all');
    await machine.clock.advance(5000);
    for (const value of ['a', 'b']) await append(partitionOf(owner), batchOf([value]), 'all');
    await partitionOf(owner).appendMarker({ ...of, isCommit: false, coordinatorEpoch: 0 });
    const aborted = partitionOf(owner).abortedBetween(0, 4);
    expect(aborted).toHaveLength(1);
    const snapshots = machine.names().filter((name) => name.endsWith('.snapshot'));
    expect(snapshots).toHaveLength(1);
    const another = snapshotOf(numberedBatch(['open'], { ...begun, producerId: 2n }));
    for (const bytes of [Buffer.from('damaged'), another]) {
      machine.write(snapshots[0]!, bytes);
      const followed = partitionOf((await follow(machine)).broker);
      expect(() => followed.lastStableOffset).toThrow(
        expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
      );
      await followed.refresh();
      expect(followed.lastStableOffset).toBe(4);
      expect(followed.abortedBetween(0, 4)).toEqual(aborted);
    }
  });

  it('makes the state of producers anew where a segment begins with the snapshot of another log', async () => {
    const of = { producerId: 1n, producerEpoch: 0 };
    const begun = { ...of, baseSequence: 0, isTransactional: true, timestamp: machine.clock.now() };
    await append(partitionOf(owner), numberedBatch(['x'.repeat(900)], begun), 'all');
    await partitionOf(owner).appendMarker({ ...of, isCommit: true, coordinatorEpoch: 0 });
    await append(partitionOf(owner), batchOf(['y'.repeat(900)]));
    const last = machine.names().findLast((name) => name.endsWith('.snapshot'))!;
    machine.write(last, snapshotOf(numberedBatch(['open'], { ...begun, producerId: 2n })));
    owner = await machine.open();
    expect(partitionOf(owner).lastStableOffset).toBe(3);
    expect(partitionOf(owner).producers.epochOf(1n)).toBe(0);
    expect(partitionOf(owner).producers.epochOf(2n)).toBe(-1);
    expect(partitionOf(owner).producers.openTransactions.size).toBe(0);
  });

  it('sees what a new owner had to cut, and what came instead', async () => {
    await append(partitionOf(owner), batchOf(['a']));
    const kept = machine.read(firstLog);
    await append(partitionOf(owner), batchOf(['b']));
    const { broker } = await follow(machine);
    const followed = partitionOf(broker);
    await followed.refresh();
    const reader = new PartitionReader(followed, 0);
    expect(await nextBatches(reader)).toEqual(['0-1', '1-2']);
    machine.write(firstLog, Buffer.concat([kept, Buffer.from('torn')]));
    owner = await machine.open();
    await followed.refresh();
    expect(await failureOf(nextBatches(reader))).toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
    await append(partitionOf(owner), batchOf(['new']));
    await followed.refresh();
    expect(await valuesIn(followed)).toEqual(['a', 'new']);
  });

  it.each([0, 1, 2, 3, 4])(
    'takes rows and files that belong together, though the owner rolls after %i looks',
    async (looks) => {
      await append(partitionOf(owner), batchOf(['a']), 'all');
      const { topicId } = partitionOf(owner);
      await owner.close();
      const row = machine.store.get(['partition', topicId, 0])!;
      owner = await machine.open();
      await append(partitionOf(owner), batchOf(['x'.repeat(1000)]));
      const { broker, store, files } = await follow(machine);
      const followed = partitionOf(broker);
      // What it sees is from before the roll for so many looks, and from behind it then.
      let left = looks;
      const isBefore = (): boolean => left-- > 0;
      store.get = (key) => (isBefore() ? (row as never) : machine.store.get(key));
      store.range = (prefix) => (isBefore() ? [] : machine.store.range(prefix));
      files.list = (path) => {
        const hidden = isBefore() ? '00000000000000000001.log' : '';
        return machine.files.list(path).filter((name) => name !== hidden);
      };
      await followed.refresh();
      await followed.refresh();
      expect(await valuesIn(followed)).toEqual(['a', 'x'.repeat(1000)]);
    },
  );

  it('agrees with the owner after any work of it', async () => {
    const step = fc.oneof(
      fc.record({
        append: fc.array(fc.string({ maxLength: 300 }), { minLength: 1, maxLength: 5 }),
      }),
      fc.constant('refresh' as const),
      fc.constant('reopen' as const),
      fc.constant('kill' as const),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const shared = new Machine();
        let writer = await shared.open();
        await createTopic(writer, { segmentBytes: 1024, indexIntervalBytes: 200 });
        const { broker } = await follow(shared);
        const values: string[] = [];
        for (const what of steps) {
          if (what === 'refresh') await partitionOf(broker).refresh();
          else if (what === 'reopen') await writer.close();
          if (what === 'reopen' || what === 'kill') writer = await shared.open();
          if (typeof what === 'string') continue;
          await append(partitionOf(writer), batchOf(what.append), 'all');
          values.push(...what.append);
        }
        await partitionOf(broker).refresh();
        expect(await valuesIn(partitionOf(broker))).toEqual(values);
        expect(await valuesIn(partitionOf(writer))).toEqual(values);
      }),
      { numRuns: seeds(50) },
    );
  });
});
