import { describe, expect, it } from 'vitest';
import type { Partition } from '../src/partition.js';
import { ProducerState } from '../src/storage/producer-state.js';
import { AbortedBatches, TransactionIndex } from '../src/storage/transaction-index.js';
import { Machine, createTopic, partitionOf } from './machine.js';
import { takeAll } from './producer-steps.js';
import files from './vectors/files.json' with { type: 'json' };
import vectors from './vectors/producer-state.json' with { type: 'json' };

function abortedIn(partition: Partition): unknown {
  return partition
    .abortedBetween(0, partition.logEndOffset)
    .map((aborted) => ({ ...aborted, producerId: Number(aborted.producerId) }));
}

function producersOf(partition: Partition, remembered: (count: number) => number): unknown[] {
  return [...partition.producers.describe()].map((producer) => ({
    producerId: Number(producer.producerId),
    epoch: producer.epoch,
    lastSequence: producer.lastSequence,
    lastOffset: producer.lastOffset,
    openTransactionFirstOffset: producer.firstOffset,
    batchesRemembered: remembered(producer.batchesRemembered),
  }));
}

describe('a log takes numbered batches as Kafka does', () => {
  it.each(vectors.vectors)('$id: $note', async (vector) => {
    const machine = new Machine();
    const partition = await createTopic(await machine.open());
    await takeAll(partition, vector.steps);
    expect(abortedIn(partition)).toEqual(vector.abortedTransactions);
    expect(producersOf(partition, (count) => count)).toEqual(vector.producersAtEnd);
  });
});

describe('after a restart a log knows the same', () => {
  /** A transaction that is open at a restart is aborted by it. */
  const settled = vectors.vectors.filter(({ producersAtEnd }) =>
    producersAtEnd.every(({ openTransactionFirstOffset }) => openTransactionFirstOffset === -1),
  );

  it.each(settled)('$id, killed: $note', async (vector) => {
    const machine = new Machine();
    const partition = await createTopic(await machine.open());
    await takeAll(partition, vector.steps);
    const after = partitionOf(await machine.open());
    expect(abortedIn(after)).toEqual(vector.abortedTransactions);
    expect(producersOf(after, (count) => count)).toEqual(vector.producersAtEnd);
  });

  it.each(settled)('$id, closed, with the last batch of each: $note', async (vector) => {
    const machine = new Machine();
    const broker = await machine.open();
    const partition = await createTopic(broker);
    await takeAll(partition, vector.steps);
    await broker.close();
    const after = partitionOf(await machine.open());
    expect(abortedIn(after)).toEqual(vector.abortedTransactions);
    const oneAtMost = (count: number): number => Math.min(1, count);
    const expected = vector.producersAtEnd.map((producer) => ({
      ...producer,
      batchesRemembered: oneAtMost(producer.batchesRemembered),
    }));
    expect(producersOf(after, oneAtMost)).toEqual(expected);
  });
});

describe('a producer snapshot', () => {
  const [vector] = files.producerSnapshot;
  const bytes = Buffer.from(vector!.hex, 'hex');

  it('has the bytes that Kafka writes', () => {
    const state = ProducerState.decode(bytes);
    expect(state.encode()).toEqual(bytes);
    expect([...state.describe()]).toMatchObject(
      vector!.entries.map((entry) => ({
        producerId: BigInt(entry.producerId),
        epoch: entry.epoch,
        lastSequence: entry.lastSequence,
        lastOffset: Number(entry.lastOffset),
        timestamp: Number(entry.timestamp),
        coordinatorEpoch: entry.coordinatorEpoch,
        firstOffset: Number(entry.currentTxnFirstOffset),
      })),
    );
    expect(state.firstUnstableOffset).toBe(120);
  });

  const flipped = Buffer.from(bytes);
  flipped[20]! ^= 4;
  const otherVersion = Buffer.from(bytes);
  otherVersion[1] = 9;
  const otherCrc = Buffer.from(bytes);
  otherCrc[3]! ^= 1;
  const damaged: Readonly<Record<string, Buffer>> = {
    'one bit flipped in an entry': flipped,
    'version 9': otherVersion,
    'crc changed': otherCrc,
    'empty file': Buffer.alloc(0),
    'cut by 5 bytes': bytes.subarray(0, -5),
    '5 bytes long': bytes.subarray(0, 5),
  };

  it.each(files.producerSnapshotErrors)('is refused: $what', ({ what }) => {
    expect(() => ProducerState.decode(damaged[what]!)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });
});

describe('a transaction index', () => {
  const [vector] = files.txnIndex;
  const bytes = Buffer.from(vector!.hex, 'hex');

  it('has the bytes that Kafka writes', () => {
    const index = TransactionIndex.fromBytes(bytes);
    expect(
      index.entries.map(({ producerId, firstOffset, lastOffset, lastStableOffset }) => [
        Number(producerId),
        firstOffset,
        lastOffset,
        lastStableOffset,
      ]),
    ).toEqual(vector!.abortedTxns_producerId_first_last_lastStable);
    expect(index.bytesFrom(0)).toEqual(bytes);
  });

  it.each(vector!.collectAborted_fetchOffset_upperBound_result_complete)(
    'from offset %d to %d finds %j, complete: %j',
    (from, end, expected, isComplete) => {
      const found: Parameters<TransactionIndex['collect']>[2] = [];
      const index = TransactionIndex.fromBytes(bytes);
      expect(index.collect(Number(from), Number(end), found)).toBe(isComplete);
      expect(found.map(({ producerId, firstOffset }) => [Number(producerId), firstOffset])).toEqual(
        expected,
      );
    },
  );

  it.each([
    ['a part of an entry', bytes.subarray(0, -1)],
    ['entries that go back', Buffer.concat([bytes, bytes])],
    ['another version', Buffer.concat([Buffer.from([0, 1]), bytes.subarray(2)])],
  ])('is refused: %s', (_what, damaged) => {
    expect(() => TransactionIndex.fromBytes(damaged)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });

  it('tells batches of aborted transactions from those of others', () => {
    const aborted = new AbortedBatches([
      { producerId: 2n, firstOffset: 4, lastOffset: 9, lastStableOffset: 10 },
      { producerId: 1n, firstOffset: 0, lastOffset: 6, lastStableOffset: 4 },
      { producerId: 1n, firstOffset: 12, lastOffset: 14, lastStableOffset: 15 },
    ]);
    const batches: [bigint, number][] = [
      [1n, 0],
      [2n, 2],
      [1n, 4],
      [2n, 4],
      [1n, 8],
      [2n, 8],
      [2n, 11],
      [1n, 12],
      [1n, 16],
    ];
    expect(batches.map(([id, offset]) => aborted.has(id, offset))).toEqual([
      true,
      false,
      true,
      true,
      false,
      true,
      false,
      true,
      false,
    ]);
  });
});
