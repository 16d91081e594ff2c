import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla, type Producer } from '../src/index.js';
import { encodeMarker } from '../src/record-marker.js';
import { encodeBatch } from '../src/record-writer.js';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put } from '../src/storage/meta-store.js';
import { closedAfterEach, collect, failureOf } from './contract.js';
import { Machine, append, createTopic, partitionOf } from './machine.js';

let place: string;
let data: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'ottla-transactions-'));
  data = join(place, 'data');
});
const opened = closedAfterEach(() => rmSync(place, { recursive: true, force: true }));

async function values(ottla: Ottla): Promise<string[]> {
  return (await collect(ottla.read('t'))).map(({ value }) => String(value));
}

const commit = (tx: Producer, value: string): Promise<void> =>
  tx.transaction((t) => t.send('t', { value }));

const abort = (tx: Producer, value: string): Promise<Error> =>
  failureOf(() =>
    tx.transaction((t) => {
      t.send('t', { value });
      throw new Error('abort');
    }),
  );

const files = (suffix: string): string[] =>
  readdirSync(join(data, 't-0')).filter((name) => name.endsWith(suffix));

describe('aborted records', () => {
  it('stay unseen after compaction has put segments together', async () => {
    const machine = new Machine();
    const broker = await machine.open();
    const partition = await createTopic(broker, {
      cleanupPolicy: 'compact',
      segmentBytes: 1024,
      minCleanableDirtyRatio: 0,
    });
    const timestamp = machine.clock.now();
    const keyed = (value: string, baseSequence: number): Buffer =>
      encodeBatch({
        baseOffset: 0,
        leaderEpoch: -1,
        ...(baseSequence < 0
          ? {}
          : { producerId: 5n, producerEpoch: 0, baseSequence, isTransactional: true }),
        records: [{ offset: 0, timestamp, key: 'k', value: value.padEnd(300, '.') }],
      });
    for (let i = 0; i < 8; i++) {
      await append(partition, keyed('plain', -1));
      await append(partition, keyed('aborted', i));
      const end = { producerId: 5n, producerEpoch: 0, isCommit: i === 3, coordinatorEpoch: 0 };
      await append(partition, encodeMarker({ ...end, timestamp }));
    }
    const expected = partition.abortedBetween(0, partition.logEndOffset);
    expect(expected).toHaveLength(7);
    const before = partition.segmentCount;
    await partition.compact();
    expect(partition.segmentCount).toBeLessThan(before);
    expect(partition.abortedBetween(0, partition.logEndOffset)).toEqual(expected);
    await broker.close();
    const after = partitionOf(await machine.open());
    expect(after.abortedBetween(0, after.logEndOffset)).toEqual(expected);
    expect(await append(after, keyed('next', 8))).toBe(24);
  });

  it('stay unseen, and open ones too, for who reads beside the owner', async () => {
    const owner = opened(await Ottla.open(data));
    await owner.topics.create('t', { segmentBytes: 1024 });
    const tx = owner.producer({ transactionalId: 'a' });
    for (let i = 0; i < 6; i++) {
      await abort(tx, `no ${i}`.padEnd(300, '.'));
      await commit(tx, `yes ${i}`);
    }
    const reader = opened(await Ottla.open(data, { readOnly: true }));
    const yes = ['yes 0', 'yes 1', 'yes 2', 'yes 3', 'yes 4', 'yes 5'];
    expect(await values(reader)).toEqual(yes);
    await tx.transaction(async (t) => {
      t.send('t', { value: 'open' });
      await tx.flush();
      expect(await values(reader)).toEqual(yes);
    });
    expect(await values(reader)).toEqual([...yes, 'open']);
  });

  it('stay unseen when the metadata is lost and repaired', async () => {
    const ottla = await Ottla.open(data);
    await ottla.topics.create('t', { segmentBytes: 1024 });
    const tx = ottla.producer({ transactionalId: 'a' });
    for (let i = 0; i < 6; i++) {
      await abort(tx, `no ${i}`.padEnd(300, '.'));
      await commit(tx, `yes ${i}`);
    }
    await ottla.close();
    expect(files('.txnindex').length).toBeGreaterThan(0);
    rmSync(join(data, 'meta'), { recursive: true });
    await Ottla.repair(data);
    const repaired = opened(await Ottla.open(data));
    expect((await values(repaired)).map((value) => value.slice(0, 3))).toEqual(
      Array.from({ length: 6 }, () => 'yes'),
    );
    await commit(repaired.producer({ transactionalId: 'a' }), 'more');
    expect(await values(repaired)).toHaveLength(7);
  });
});

describe('verify', () => {
  it('notes a transaction index and a snapshot that are not as they were', async () => {
    const ottla = await Ottla.open(data);
    await ottla.topics.create('t');
    await abort(ottla.producer({ transactionalId: 'a' }), 'no');
    await ottla.close();
    expect((await Ottla.verify(data)).notes).toEqual([]);
    for (const name of [...files('.txnindex'), ...files('.snapshot')]) {
      rmSync(join(data, 't-0', name));
    }
    const { notes, problems } = await Ottla.verify(data);
    expect(problems).toEqual([]);
    expect(notes.map(({ code }) => code)).toEqual(['INDEX_MISSING', 'INDEX_MISSING']);
    const again = opened(await Ottla.open(data));
    expect(await values(again)).toEqual([]);
    await again.close();
    expect((await Ottla.verify(data)).notes).toEqual([]);
  });
});

describe('repair', () => {
  it('aborts what a producer elsewhere has open: records of it may be lost', async () => {
    const ottla = await Ottla.open(data);
    await ottla.topics.create('t', { partitions: 2 });
    const { id } = await ottla.topics.describe('t');
    const tx = ottla.producer({ transactionalId: 'a' });
    await commit(tx, 'yes');
    await ottla.producer().send('t', { value: 'torn', partition: 1 });
    await ottla.close();
    const store = await openLmdbStore(join(data, 'meta'));
    const row = store.get(['transaction', 'a'])!;
    const open = {
      startedAt: Date.now(),
      partitions: [{ topicId: id, partition: 0 }],
      groups: [],
      commits: [],
    };
    await store.write([put(['transaction', 'a'], { ...row, open })]);
    await store.close();
    truncateSync(join(data, 't-1', '00000000000000000000.log'), 10);
    expect(await Ottla.repair(data)).toContainEqual(
      expect.stringContaining('open transaction of a'),
    );
    const repaired = await openLmdbStore(join(data, 'meta'));
    expect(repaired.get(['transaction', 'a'])).toEqual({ ...row, open: null });
    await repaired.close();
  });
});

describe('a backup', () => {
  it('has all of a transaction that was committed before, and nothing of one that was open', async () => {
    const ottla = opened(await Ottla.open(data));
    await ottla.topics.create('t');
    const tx = ottla.producer({ transactionalId: 'a' });
    await abort(tx, 'no');
    await commit(tx, 'yes');
    const copy = join(place, 'copy');
    await tx.transaction(async (t) => {
      t.send('t', { value: 'open' });
      await tx.flush();
      await ottla.backup(copy);
    });
    const restored = opened(await Ottla.open(copy));
    expect(await values(restored)).toEqual(['yes']);
    expect(restored.recovery.some((line) => line.includes('aborted the transaction'))).toBe(true);
    await commit(restored.producer({ transactionalId: 'a' }), 'more');
    expect(await values(restored)).toEqual(['yes', 'more']);
    expect(existsSync(join(copy, 't-0'))).toBe(true);
  });
});

describe('a log that nobody numbers batches in', () => {
  it('has no files for producers', async () => {
    const ottla = await Ottla.open(data);
    await ottla.topics.create('t', { segmentBytes: 1024 });
    const producer = ottla.producer();
    for (let i = 0; i < 5; i++) await producer.send('t', { value: 'x'.repeat(400) });
    await ottla.close();
    expect([...files('.txnindex'), ...files('.snapshot')]).toEqual([]);
  });
});
