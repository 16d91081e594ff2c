import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { collect } from './contract.js';
import { failureOf } from './machine.js';

const partitions = 3;
let place: string;
let directory: string;

/** Three records in each partition; the group has committed two of each. */
beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-lost-'));
  directory = join(place, 'data');
  await using ottla = await Ottla.open(directory);
  await ottla.topics.create('t', { partitions });
  const producer = ottla.producer();
  for (let i = 0; i < 9; i++)
    await producer.send('t', { value: `${i}`, partition: i % partitions });
  await ottla.groups.resetOffsets('g', { to: { offset: 2 }, topic: 't' });
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

/** A directory in its place is another topic's; without commits opening it need not look. */
async function isOfAnotherTopic(): Promise<void> {
  await using ottla = await Ottla.open(directory);
  await ottla.groups.delete('g');
  await ottla.close();
  const path = join(directory, 't-1', 'partition.metadata');
  writeFileSync(path, 'version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ');
}

function isAway(): void {
  renameSync(join(directory, 't-1'), join(place, 'away'));
}

function isAFile(): void {
  isAway();
  writeFileSync(join(directory, 't-1'), '');
}

const losses: readonly (readonly [string, string, () => Promise<void> | void])[] = [
  ['whose directory is gone', 'KAFKA_STORAGE_ERROR', isAway],
  ['whose directory is a file', 'KAFKA_STORAGE_ERROR', isAFile],
  ["with another topic's directory", 'METADATA_LOST', isOfAnotherTopic],
];

describe.each([
  ['', false],
  [', read-only', true],
])('a partition%s', (_mode, readOnly) => {
  let ottla: Ottla;
  const open = async (): Promise<void> => {
    ottla = await Ottla.open(directory, { readOnly });
    ottla.on('warning', () => undefined).on('error', () => undefined);
  };
  afterEach(async () => ottla.close());

  describe.each(losses)('%s', (_what, code, lose) => {
    beforeEach(async () => {
      await lose();
      await open();
    });

    it('is described with its error and what the metadata knows, the others as they are', async () => {
      const described = await ottla.topics.describe('t');
      const { bytes } = described.partitions[0]!;
      for (const partition of [0, 1, 2]) {
        const info = { partition, logStartOffset: 0, highWatermark: 3, lastStableOffset: 3, bytes };
        expect(described.partitions[partition]).toMatchObject({ ...info, segments: 1 });
      }
      const codes = described.partitions.map(({ error }) => error?.code);
      expect(codes).toEqual([undefined, code, undefined]);
      expect(described.partitions[1]!.error!.message).toContain('t-1');
    });

    it('fails who reads it, and nobody else', async () => {
      const failure = await failureOf(collect(ottla.read('t')));
      expect(failure).toMatchObject({ code });
      expect(failure.message).toContain('t-1');
      for (const from of ['earliest', { 1: 1 }, { 1: 3 }] as const) {
        const reading = ottla.read('t', { partitions: [1], from });
        expect(await failureOf(collect(reading))).toMatchObject({ code });
      }
      const others = await collect(ottla.read('t', { partitions: [0, 2] }));
      const values = others.map(({ value }) => String(value));
      expect(values.toSorted()).toEqual(['0', '2', '3', '5', '6', '8']);
      const last = await collect(ottla.read('t', { partitions: [2], from: { 2: 2 } }));
      expect(last.map(({ value }) => String(value))).toEqual(['8']);
    });
  });

  it('whose directory is gone shows in its groups', async () => {
    isAway();
    await open();
    const { partitions: described } = await ottla.groups.describe('g');
    for (const partition of [0, 1, 2]) {
      expect(described[partition]).toMatchObject({ partition, committed: 2, end: 3, lag: 1 });
    }
    const codes = described.map(({ error }) => error?.code);
    expect(codes).toEqual([undefined, 'KAFKA_STORAGE_ERROR', undefined]);
  });
});

describe('a partition whose directory is gone', () => {
  it('is told once when all is opened', async () => {
    isAway();
    await using ottla = await Ottla.open(directory);
    expect(ottla.recovery).toEqual([
      expect.stringMatching(/^t-1 takes no records .*ENOENT.*\.$/) as unknown,
    ]);
  });

  it('takes no records, and leaves the others as they are', async () => {
    isAway();
    await using ottla = await Ottla.open(directory);
    ottla.on('error', () => undefined);
    const producer = ottla.producer();
    const refused = await failureOf(producer.send('t', { value: 'x', partition: 1 }));
    expect(refused).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
    expect(await producer.send('t', { value: 'x', partition: 2 })).toMatchObject({ offset: 3 });
    const to = { offset: 9 };
    const moved = await ottla.groups.resetOffsets('g', { to, topic: 't', partitions: [0] });
    expect(moved).toMatchObject([{ partition: 0, offset: 3 }]);
  });

  it('works again once it is back and reopened', async () => {
    isAway();
    await using ottla = await Ottla.open(directory);
    expect(await failureOf(ottla.topics.reopen('t', 1))).toMatchObject({
      code: 'KAFKA_STORAGE_ERROR',
    });
    renameSync(join(place, 'away'), join(directory, 't-1'));
    await ottla.topics.reopen('t', 1);
    const described = await ottla.topics.describe('t');
    expect(described.partitions.map(({ error }) => error)).toEqual(
      Array(partitions).fill(undefined),
    );
    expect(await collect(ottla.read('t'))).toHaveLength(9);
  });
});
