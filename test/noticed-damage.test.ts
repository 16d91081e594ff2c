import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla, type SkippedRange } from '../src/index.js';
import { collect } from './contract.js';
import { failureOf } from './machine.js';

const count = 60;
let place: string;
let directory: string;
let logs: string[];
let batchBytes: number;

beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-noticed-'));
  directory = join(place, 'data');
  await using ottla = await Ottla.open(directory);
  await ottla.topics.create('t', { segmentBytes: 1024, partitions: 2 });
  const producer = ottla.producer();
  for (let i = 0; i < count; i++) await producer.send('t', { ...recordOf(i), partition: 0 });
  await producer.send('t', { value: 'other', partition: 1 });
  logs = readdirSync(join(directory, 't-0')).filter((name) => name.endsWith('.log'));
  batchBytes = readFileSync(pathOf(0)).readUInt32BE(8) + 12;
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

/** All of the same size. */
function recordOf(offset: number): { value: string; timestamp: number } {
  return { value: `value ${String(offset).padStart(2, '0')}`, timestamp: 1000 };
}

function pathOf(at: number): string {
  return join(directory, 't-0', logs.at(at)!);
}

function baseOf(at: number): number {
  return Number.parseInt(logs.at(at)!, 10);
}

/** Changes a batch of a segment, counted from its beginning or, below 0, its end. @returns its offset */
function change(at: number, batch: number, edit: (bytes: Buffer) => void): number {
  const bytes = readFileSync(pathOf(at));
  const number = batch < 0 ? bytes.length / batchBytes + batch : batch;
  edit(bytes.subarray(number * batchBytes, (number + 1) * batchBytes));
  writeFileSync(pathOf(at), bytes);
  return baseOf(at) + number;
}

async function open(): Promise<Ottla> {
  const ottla = await Ottla.open(directory);
  return ottla.on('warning', () => undefined).on('error', () => undefined);
}

async function expectRefused(ottla: Ottla): Promise<void> {
  const producer = ottla.producer();
  const refused = await failureOf(producer.send('t', { value: 'x', partition: 0 }));
  expect(refused).toMatchObject({ code: 'CORRUPT_MESSAGE', retriable: false });
  expect(refused.message).toMatch(/^t-0 takes no records until Ottla\.repair\(\) has mended it/);
  expect(refused.message).toContain('damage at byte');
  expect(await producer.send('t', { value: 'x', partition: 1 })).toMatchObject({ partition: 1 });
}

const places: readonly (readonly [string, number, number])[] = [
  ['the first batch of a sealed segment', 1, 0],
  ['the last batch of a sealed segment', 1, -1],
  ['the first batch of the log', 0, 0],
  ['the last batch before the recovery point', -1, -1],
];

const edits: readonly (readonly [string, (bytes: Buffer) => void])[] = [
  ['a record', (bytes) => (bytes[bytes.length - 2]! ^= 1)],
  ['the checksum', (bytes) => (bytes[18]! ^= 1)],
  ['the length', (bytes) => (bytes[11]! ^= 1)],
  ['all of it', (bytes) => bytes.fill(0)],
];

describe.each(places)('damage in %s', (_where, at, batch) => {
  describe.each(edits)('in %s', (_what, edit) => {
    it('is read up to and, if wanted, past; refuses appends; is mended by a repair', async () => {
      const damaged = change(at, batch, edit);
      {
        await using ottla = await open();
        expect(ottla.recovery).toEqual([]);
        const values: string[] = [];
        const failure = await failureOf(
          (async () => {
            for await (const { value } of ottla.read('t', { partitions: [0] })) {
              values.push(String(value));
            }
          })(),
        );
        expect(values).toEqual(valuesUpTo(damaged));
        expect(failure).toMatchObject({ code: 'CORRUPT_MESSAGE' });
        const position = (damaged - baseOf(at)) * batchBytes;
        expect(failure.message).toContain(`t-0: damage at byte ${position} of ${pathOf(at)}`);
        expect(failure.message).toContain(`offset ${damaged} cannot be read`);
        const skipped: SkippedRange[] = [];
        const onCorrupt = (range: SkippedRange): void => void skipped.push(range);
        const rest = await collect(ottla.read('t', { partitions: [0], onCorrupt }));
        expect(rest).toHaveLength(count - 1);
        expect(skipped).toMatchObject([
          { topic: 't', partition: 0, offset: damaged, nextOffset: damaged + 1 },
        ]);
        const { partitions } = await ottla.topics.describe('t');
        expect(partitions.map(({ error }) => error?.code)).toEqual(['CORRUPT_MESSAGE', undefined]);
        await expectRefused(ottla);
      }
      const repaired = await Ottla.repair(directory);
      expect(repaired.join('\n')).toContain('t-0: damage at byte');
      await using mended = await open();
      const producer = mended.producer();
      expect(await producer.send('t', { value: 'new', partition: 0 })).toMatchObject({
        offset: damaged,
      });
      const values = await collect(mended.read('t', { partitions: [0] }));
      expect(values.map(({ value }) => String(value))).toEqual([...valuesUpTo(damaged), 'new']);
    });
  });

  it('refuses appends before anything is read', async () => {
    change(at, batch, (bytes) => (bytes[bytes.length - 2]! ^= 1));
    await using ottla = await open();
    await expectRefused(ottla);
    // Readers beside it change nothing, and are told nothing before they come to it.
    await using beside = await Ottla.open(directory, { readOnly: true });
    const { partitions } = await beside.topics.describe('t');
    expect(partitions.map(({ error }) => error)).toEqual([undefined, undefined]);
  });

  it('is over once the file was restored, and the partition reopened', async () => {
    const kept = join(place, 'kept');
    copyFileSync(pathOf(at), kept);
    change(at, batch, (bytes) => (bytes[bytes.length - 2]! ^= 1));
    await using ottla = await open();
    await expectRefused(ottla);
    expect(await failureOf(ottla.topics.reopen('t', 0))).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    await expectRefused(ottla);
    copyFileSync(kept, pathOf(at));
    await ottla.topics.reopen('t', 0);
    const producer = ottla.producer();
    expect(await producer.send('t', { value: 'new', partition: 0 })).toMatchObject({
      offset: count,
    });
  });
});

function valuesUpTo(offset: number): string[] {
  return Array.from({ length: offset }, (_, i) => recordOf(i).value);
}

describe('another file in the place of a segment', () => {
  it.each([
    ['a sealed one', 1],
    ['the active one', -1],
  ])('as large as it: %s', async (_which, at) => {
    // The same offsets, and a whole and valid batch at the end: but not the one that was written.
    await using other = await Ottla.open(join(place, 'other'));
    await other.topics.create('t', { segmentBytes: 1024 });
    const producer = other.producer();
    for (let i = 0; i < count; i++) {
      await producer.send('t', { value: recordOf(i).value.replace('v', 'V'), timestamp: 1000 });
    }
    await other.close();
    copyFileSync(join(place, 'other', 't-0', logs.at(at)!), pathOf(at));
    await using ottla = await open();
    const sent = ottla.producer().send('t', { value: 'x', partition: 0 });
    const refused = await failureOf(sent);
    expect(refused).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(refused.message).toContain(`${pathOf(at)} is another file`);
  });
});

describe('damage elsewhere', () => {
  it('is met by its readers alone: finding it would take reading all', async () => {
    const damaged = change(1, 3, (bytes) => (bytes[bytes.length - 2]! ^= 1));
    await using ottla = await open();
    const failure = await failureOf(collect(ottla.read('t', { partitions: [0] })));
    expect(failure.message).toContain(`offset ${damaged} cannot be read`);
    const producer = ottla.producer();
    expect(await producer.send('t', { value: 'x', partition: 0 })).toMatchObject({ offset: count });
  });
});
