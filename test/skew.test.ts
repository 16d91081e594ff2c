import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDataDirectory } from '../src/data-directory.js';
import { Ottla } from '../src/index.js';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put } from '../src/storage/meta-store.js';
import { collect } from './contract.js';
import { failureOf } from './machine.js';

let place: string;
let data: string;
beforeEach(() => {
  place = fs.mkdtempSync(join(tmpdir(), 'ottla-skew-'));
  data = join(place, 'data');
});
afterEach(() => fs.rmSync(place, { recursive: true, force: true }));

const valuesOf = async (ottla: Ottla, topic = 't'): Promise<string[]> =>
  (await collect(ottla.read(topic))).map(({ value }) => String(value));

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `${from + i}`);

/** Sends records of these numbers, and lets the group commit all there is. */
async function sendAndCommit(ottla: Ottla, from: number, to: number): Promise<void> {
  const producer = ottla.producer();
  for (const value of numbers(from, to)) await producer.send('t', { value, partition: 0 });
  const consumer = ottla.consumer({ group: 'g', topics: ['t'], autoCommit: false });
  await consumer.ready();
  await consumer.commit([{ topic: 't', partition: 0, offset: to }]);
  await consumer.close();
}

/** Ten records, all committed; a part of it is copied; then five more, committed too, and `part` is as before. */
async function restoreOnly(
  part: 't-0' | 'meta',
  meanwhile: (ottla: Ottla) => Promise<void> = async () => undefined,
): Promise<void> {
  const first = await Ottla.open(data);
  await first.topics.create('t');
  await first.topics.create('old');
  await sendAndCommit(first, 0, 10);
  await first.close();
  fs.cpSync(join(data, part), join(place, 'older'), { recursive: true });
  const second = await Ottla.open(data);
  await sendAndCommit(second, 10, 15);
  await meanwhile(second);
  await second.close();
  fs.rmSync(join(data, part), { recursive: true });
  fs.cpSync(join(place, 'older'), join(data, part), { recursive: true });
}

async function expectGroupReads(ottla: Ottla, expected: readonly string[]): Promise<void> {
  const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
  const found: string[] = [];
  for await (const { value } of consumer) if (found.push(String(value)) === expected.length) break;
  await consumer.close();
  expect(found).toEqual(expected);
}

describe('f24: log and metadata disagree', () => {
  it('only the log is older: it can be read, and is mended by a repair, and then nothing new is skipped', async () => {
    await restoreOnly('t-0');
    const ottla = await Ottla.open(data);
    expect(ottla.recovery).toEqual([
      expect.stringMatching(/^t-0 takes no records until .*\.log has \d+ bytes, expected at least/),
    ]);
    const skipped: number[] = [];
    const reading = ottla.read('t', { onCorrupt: ({ offset }) => skipped.push(offset) });
    const values = (await collect(reading)).map(({ value }) => String(value));
    expect([values, skipped]).toEqual([numbers(0, 10), [10]]);
    const { partitions } = await ottla.groups.describe('g');
    expect(partitions).toMatchObject([{ committed: 15, end: 15, lag: 0 }]);
    ottla.on('error', () => undefined);
    const refused = ottla.producer().send('t', { value: 'x', partition: 0 });
    expect(await failureOf(refused)).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    await ottla.close();
    await Ottla.repair(data);
    const again = await Ottla.open(data);
    expect(again.recovery).toEqual([
      'group g: its committed offset of t-0 went back from 15 to 10, where the log now ends.',
    ]);
    await again.producer().send('t', { value: 'new', partition: 0 });
    await expectGroupReads(again, ['new']);
    expect(await valuesOf(again)).toEqual([...numbers(0, 10), 'new']);
    await again.close();
  });

  it('only the metadata are older: the records are there, and the group reads what it had not committed then', async () => {
    await restoreOnly('meta');
    const ottla = await Ottla.open(data);
    expect(ottla.recovery).toEqual([]);
    expect(await valuesOf(ottla)).toEqual(numbers(0, 15));
    const { partitions } = await ottla.groups.describe('g');
    expect(partitions).toMatchObject([{ committed: 10, end: 15, lag: 5 }]);
    await expectGroupReads(ottla, numbers(10, 15));
    await ottla.close();
  });

  it('metadata from before a topic was created: its directory is left alone, and set aside when it is created', async () => {
    await restoreOnly('meta', async (ottla) => {
      await ottla.topics.create('u');
      await ottla.producer().send('u', { value: 'kept' });
    });
    const ottla = await Ottla.open(data);
    expect(await ottla.topics.list()).toEqual(['old', 't']);
    const log = '00000000000000000000.log';
    const bytes = fs.readFileSync(join(data, 'u-0', log));
    await ottla.topics.create('u');
    expect(await valuesOf(ottla, 'u')).toEqual([]);
    await ottla.close();
    const aside = fs.readdirSync(data).filter((name) => name.endsWith('-stray'));
    expect(fs.readFileSync(join(data, aside[0]!, log))).toEqual(bytes);
  });

  it('metadata from before a compaction: that partition takes no records, and a repair has all of them', async () => {
    const latest = async (): Promise<[string, string][]> => {
      await using ottla = await Ottla.open(data);
      const records = await collect(ottla.read('t'));
      return records.map(({ key, value }) => [String(key), String(value)]);
    };
    const compacted = async (): Promise<void> => {
      const opened = await openDataDirectory(data, { readOnly: false, random: Math.random });
      await opened.broker.topics.partition({ topic: 't', partition: 0 }).compact();
      await opened.broker.close();
      opened.release();
    };
    const send = async (ottla: Ottla, count: number): Promise<void> => {
      const producer = ottla.producer();
      for (let i = 0; i < count; i++) {
        await producer.send('t', { key: `k${i % 7}`, value: String(i).padStart(50, '.') });
      }
    };
    const first = await Ottla.open(data);
    await first.topics.create('other');
    const cleaned = { cleanupPolicy: 'compact', segmentBytes: 1024 } as const;
    await first.topics.create('t', { ...cleaned, minCleanableDirtyRatio: 0 });
    await send(first, 40);
    await first.close();
    await compacted();
    // Beside segments that are clean those that are rolled now wait.
    const second = await Ottla.open(data);
    await second.topics.alter('t', { minCleanableDirtyRatio: 1 });
    await send(second, 30);
    await second.close();
    fs.cpSync(join(data, 'meta'), join(place, 'older'), { recursive: true });
    const logs = (): string[] =>
      fs.readdirSync(join(data, 't-0')).filter((name) => name.endsWith('.log'));
    const before = logs();
    const third = await Ottla.open(data);
    await third.topics.alter('t', { minCleanableDirtyRatio: 0 });
    await third.close();
    await compacted();
    // It took some away, and none was rolled: the active segment is the one that the older rows know.
    expect(logs().length).toBeLessThan(before.length);
    expect(logs().at(-1)).toBe(before.at(-1));
    const found = await latest();
    fs.rmSync(join(data, 'meta'), { recursive: true });
    fs.cpSync(join(place, 'older'), join(data, 'meta'), { recursive: true });
    const ottla = await Ottla.open(data);
    ottla.on('error', () => undefined).on('warning', () => undefined);
    const refused = ottla.producer().send('t', { key: 'k', value: 'x' });
    expect(await failureOf(refused)).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    await ottla.producer().send('other', { value: 'x' });
    await ottla.close();
    await Ottla.repair(data);
    expect(await latest()).toEqual(found);
    expect((await Ottla.verify(data)).ok).toBe(true);
  });

  it('metadata from before a topic was deleted: only that topic fails', async () => {
    await restoreOnly('meta', (ottla) => ottla.topics.delete('old'));
    const ottla = await Ottla.open(data);
    expect(await valuesOf(ottla)).toEqual(numbers(0, 15));
    expect(await failureOf(valuesOf(ottla, 'old'))).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    await ottla.topics.delete('old');
    expect(await ottla.topics.list()).toEqual(['t']);
    await ottla.close();
  });
});

describe('f36: version and format skew', () => {
  async function withStore(
    work: (store: Awaited<ReturnType<typeof openLmdbStore>>) => Promise<void>,
  ): Promise<void> {
    const store = await openLmdbStore(join(data, 'meta'));
    await work(store);
    await store.close();
  }

  beforeEach(async () => {
    const ottla = await Ottla.open(data);
    await ottla.topics.create('t');
    await sendAndCommit(ottla, 0, 3);
    await ottla.close();
  });

  it.each([0, 2, 1000])('format version %i is refused, and nothing is changed', async (version) => {
    await withStore(async (store) => {
      const { storeId } = store.get(['store'])!;
      await store.write([put(['store'], { formatVersion: version, storeId })]);
    });
    const before = fs.readFileSync(join(data, 'meta', 'data.mdb'));
    const error = await failureOf(Ottla.open(data));
    expect(error).toMatchObject({ code: 'UNSUPPORTED_FOR_MESSAGE_FORMAT' });
    expect(error.message).toContain(`format version ${version}`);
    expect(fs.readFileSync(join(data, 'meta', 'data.mdb'))).toEqual(before);
  });

  it('an option of a later version is kept, also when others are altered', async () => {
    const options = { laterOption: 'on' };
    await withStore(async (store) => {
      const row = store.get(['topic', 't'])!;
      await store.write([put(['topic', 't'], { ...row, options })]);
    });
    const ottla = await Ottla.open(data);
    await ottla.topics.alter('t', { retentionMs: 5 });
    expect(await valuesOf(ottla)).toEqual(numbers(0, 3));
    await ottla.close();
    await withStore(async (store) => {
      const row = store.get(['topic', 't'])!;
      expect(row.options).toEqual({ ...options, retentionMs: 5 });
    });
  });

  it('files that are not known are ignored and kept', async () => {
    const names = ['.DS_Store', 'notes.txt~', 't-0/00000000000000000000.snapshot.bak', 't-0/x.tmp'];
    for (const name of names) fs.writeFileSync(join(data, name), name);
    const ottla = await Ottla.open(data);
    expect(ottla.recovery).toEqual([]);
    expect(await valuesOf(ottla)).toEqual(numbers(0, 3));
    await ottla.close();
    for (const name of names) expect(fs.readFileSync(join(data, name), 'utf8')).toBe(name);
  });
});
