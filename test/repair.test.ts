import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { segmentFileName } from '../src/storage/checkpoint.js';
import { collect } from './contract.js';
import { failureOf } from './machine.js';

const count = 60;

/** Two topics, one of two partitions, several segments in each; a group that has committed. */
async function write(directory: string, from = 0): Promise<void> {
  await using ottla = await Ottla.open(directory);
  await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
  await ottla.topics.create('u');
  const producer = ottla.producer();
  for (let i = from; i < from + count; i++) {
    for (const partition of [0, 1]) {
      await producer.send('t', { value: `${partition} ${i}`, partition, timestamp: 1000 + i });
    }
  }
  await producer.send('u', { value: `u ${from}` });
  const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
  await consumer.ready();
  await consumer.commit([{ topic: 't', partition: 0, offset: 7 }]);
}

async function valuesOf(ottla: Ottla, topic: string, partition: number): Promise<string[]> {
  const records = await collect(ottla.read(topic, { partitions: [partition] }));
  for (const [i, { offset }] of records.entries()) {
    if (offset !== records[0]!.offset + i) throw new Error(`offset ${offset} at ${i}`);
  }
  return records.map(({ value }) => String(value));
}

function expected(partition: number, end = count): string[] {
  return Array.from({ length: end }, (_, i) => `${partition} ${i}`);
}

function segmentsOf(directory: string, partition = 0): string[] {
  return readdirSync(join(directory, `t-${partition}`)).filter((name) => name.endsWith('.log'));
}

let place: string;
let directory: string;

function fileOf(name: string, partition = 0): string {
  return join(directory, `t-${partition}`, name);
}

beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-repair-'));
  directory = join(place, 'data');
  await write(directory);
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

/** Opens, appends, and finds verify content. */
async function expectSound(partitionEnd = count): Promise<void> {
  const report = await Ottla.verify(directory);
  expect(report.problems).toEqual([]);
  await using ottla = await Ottla.open(directory);
  expect(await valuesOf(ottla, 't', 0)).toEqual(expected(0, partitionEnd));
  expect(await valuesOf(ottla, 't', 1)).toEqual(expected(1));
  expect(await valuesOf(ottla, 'u', 0)).toEqual(['u 0']);
  const { offset } = await ottla.producer().send('t', { value: 'new', partition: 0 });
  expect(offset).toBe(partitionEnd);
}

async function committed(): Promise<number | undefined> {
  await using ottla = await Ottla.open(directory);
  if (!(await ottla.groups.list()).includes('g')) return undefined;
  const { partitions } = await ottla.groups.describe('g');
  return partitions.find(({ topic, partition }) => topic === 't' && partition === 0)?.committed;
}

/** Every file with its bytes, but the lock and LMDB's table of readers. */
function contentOf(path: string): Record<string, string> {
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => !name.endsWith('lock') && !name.endsWith('lock.mdb'));
  return Object.fromEntries(
    files
      .filter((name) => statSync(join(path, name)).isFile())
      .map((name) => [name, readFileSync(join(path, name), 'hex')]),
  );
}

describe('repair of metadata', () => {
  it('does nothing where all is well', async () => {
    expect(await Ottla.repair(directory)).toEqual([]);
    expect(readdirSync(directory).filter((name) => name.includes('old'))).toEqual([]);
    await expectSound();
    expect(await committed()).toBe(7);
  });

  it.each([
    ['gone', (path: string) => rmSync(path)],
    ['emptied', (path: string) => truncateSync(path)],
    // Half of it may hold all that counts.
    ['cut to its beginning', (path: string) => truncateSync(path, readFileSync(path).length / 8)],
  ])('rebuilds all of it when the file is %s', async (_what, damage) => {
    damage(join(directory, 'meta', 'data.mdb'));
    const lost = await failureOf(Ottla.open(directory));
    expect(lost).toMatchObject({ code: 'METADATA_LOST' });
    expect(lost.message).toContain('Ottla.repair(directory)');
    const report = await Ottla.repair(directory);
    expect(report.join('\n')).toContain(
      'topic t was taken over from its directories: 2 partitions',
    );
    expect(readdirSync(directory).filter((name) => name.endsWith('-old'))).toHaveLength(1);
    await expectSound();
    expect(await Ottla.repair(directory)).toEqual([]);
  });

  it('rebuilds it when meta/ and meta.properties are both gone', async () => {
    rmSync(join(directory, 'meta'), { recursive: true });
    rmSync(join(directory, 'meta.properties'));
    expect(await failureOf(Ottla.open(directory))).toMatchObject({ code: 'METADATA_LOST' });
    await Ottla.repair(directory);
    await expectSound();
  });

  it('keeps rows that can be read: a lost meta.properties costs nothing', async () => {
    rmSync(join(directory, 'meta.properties'));
    const report = await Ottla.repair(directory);
    expect(report).toEqual([expect.stringContaining('meta.properties was missing') as unknown]);
    expect(await committed()).toBe(7);
    await expectSound();
  });

  it('takes segments over that older metadata does not know, and keeps commits', async () => {
    const old = join(place, 'old');
    cpSync(join(directory, 'meta'), old, { recursive: true });
    const before = segmentsOf(directory);
    await write(directory, count);
    expect(segmentsOf(directory).length).toBeGreaterThan(before.length);
    rmSync(join(directory, 'meta'), { recursive: true });
    renameSync(old, join(directory, 'meta'));
    const report = await Ottla.repair(directory);
    expect(report.at(-1)).toContain('The metadata was rebuilt');
    expect(await committed()).toBe(7);
    expect((await Ottla.verify(directory)).problems).toEqual([]);
    await using ottla = await Ottla.open(directory);
    expect(await valuesOf(ottla, 't', 0)).toEqual(expected(0, 2 * count));
    expect((await ottla.topics.describe('t')).options.segmentBytes).toBe(1024);
  });

  const lostBy: Record<string, () => void> = {
    gone: () => rmSync(join(directory, 'meta'), { recursive: true }),
    emptied: () => truncateSync(join(directory, 'meta', 'data.mdb')),
    older: () => {
      rmSync(join(directory, 'meta'), { recursive: true });
      renameSync(join(place, 'older'), join(directory, 'meta'));
    },
    "another directory's": () => {
      rmSync(join(directory, 'meta'), { recursive: true });
      cpSync(join(place, 'other', 'meta'), join(directory, 'meta'), { recursive: true });
    },
  };

  it.each(Object.keys(lostBy))(
    'that is %s is METADATA_LOST, and nothing is touched; a compacted log and a deleted start are rebuilt',
    async (how) => {
      const other = await Ottla.open(join(place, 'other'));
      await other.close();
      const topic = {
        segmentBytes: 1024,
        cleanupPolicy: 'compact',
        minCleanableDirtyRatio: 0,
      } as const;
      const send = async (from: number): Promise<void> => {
        const ottla = await Ottla.open(directory);
        await ottla.topics.create('k', topic);
        for (let i = from; i < from + 40; i++) {
          await ottla.producer().send('k', { key: `k${i % 7}`, value: `${i}`.padStart(80, '.') });
          await ottla.producer().send('t', { value: `0 ${i + 60}`, partition: 0 });
        }
        if (from > 0) await ottla.topics.deleteRecords('t', 0, 30);
        await ottla.close();
      };
      await send(0);
      cpSync(join(directory, 'meta'), join(place, 'older'), { recursive: true });
      await send(40);
      const read = async (): Promise<unknown[]> => {
        await using ottla = await Ottla.open(directory);
        const found = [];
        for (const name of ['k', 't', 'u']) {
          const records = await collect(ottla.read(name));
          for (const { partition, offset, value } of records) {
            if (name !== 't' || partition === 1 || offset >= 30) {
              found.push([name, partition, offset, String(value)]);
            }
          }
          const { partitions } = await ottla.topics.describe(name);
          found.push(partitions.map(({ highWatermark }) => highWatermark));
        }
        return found;
      };
      const before = await read();
      lostBy[how]!();
      const files = contentOf(directory);
      expect(await failureOf(Ottla.open(directory))).toMatchObject({ code: 'METADATA_LOST' });
      const readOnly = async (): Promise<void> => {
        await using ottla = await Ottla.open(directory, { readOnly: true });
        await collect(ottla.read('k'));
      };
      expect(await failureOf(readOnly())).toMatchObject({ code: 'METADATA_LOST' });
      expect(contentOf(directory)).toEqual(files);
      expect((await Ottla.verify(directory)).ok).toBe(false);
      const said = (await Ottla.repair(directory)).join('\n');
      expect(said).toMatch(/groups' commits|what groups have committed|older than the log/);
      expect(said).toMatch(/where deleteRecords began|log start/);
      expect((await Ottla.verify(directory)).problems).toEqual([]);
      expect(await read()).toEqual(before);
    },
  );

  it("does not believe another directory's", async () => {
    const other = join(place, 'other');
    await write(other, 1000);
    rmSync(join(directory, 'meta'), { recursive: true });
    cpSync(join(other, 'meta'), join(directory, 'meta'), { recursive: true });
    expect(await failureOf(Ottla.open(directory))).toMatchObject({ code: 'METADATA_LOST' });
    const report = await Ottla.repair(directory);
    expect(report.join('\n')).toMatch(/group g: its commit .* was dropped/);
    await expectSound();
  });

  it('says who has it open, and what is no data directory', async () => {
    await using ottla = await Ottla.open(directory);
    expect(await failureOf(Ottla.repair(directory))).toMatchObject({ code: 'LOCKED' });
    expect(await failureOf(Ottla.repair(place))).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    expect(ottla.recovery).toEqual([]);
    expect(readdirSync(place)).toEqual(['data']);
  });
});

function flip(name: string, at: number): void {
  const bytes = readFileSync(fileOf(name));
  bytes[at]! ^= 1;
  writeFileSync(fileOf(name), bytes);
}

/** All bytes of partition 0's log, in the log and kept aside. */
function bytesKept(): number {
  return readdirSync(join(directory, 't-0'))
    .filter((name) => /\.(?:log|torn)$/.test(name))
    .reduce((sum, name) => sum + readFileSync(fileOf(name)).length, 0);
}

describe('repair of a damaged partition', () => {
  it.each([1, -1])('ends the log before damage in segment %i, and keeps all bytes', async (at) => {
    const name = segmentsOf(directory).at(at)!;
    const before = bytesKept();
    const batchBytes = readFileSync(fileOf(name)).readUInt32BE(8) + 12;
    flip(name, batchBytes + 30);
    const end = Number.parseInt(name, 10) + 1;
    expect((await Ottla.verify(directory)).ok).toBe(false);
    const report = await Ottla.repair(directory);
    expect(report[0]).toContain(`t-0: damage at byte ${batchBytes} of ${fileOf(name)}`);
    expect(report[0]).toContain(`The log ends at offset ${end}`);
    expect(bytesKept()).toBe(before);
    await expectSound(end);
    await using ottla = await Ottla.open(directory);
    const [first, second] = (await ottla.topics.describe('t')).partitions;
    expect(first!.leaderEpoch).toBe(1);
    expect(second!.leaderEpoch).toBe(0);
  });

  it('leaves .torn files of earlier times, and keeps the same bytes once', async () => {
    const name = segmentsOf(directory).at(-1)!;
    const bytes = readFileSync(fileOf(name));
    const batchBytes = bytes.readUInt32BE(8) + 12;
    flip(name, batchBytes + 30);
    const rest = readFileSync(fileOf(name)).subarray(batchBytes);
    const cut = segmentFileName(Number.parseInt(name, 10) + 1, '');
    // One of another time, as long as the rest; and what a repair kept that was interrupted then.
    const earlier = Buffer.alloc(rest.length, 'earlier');
    writeFileSync(fileOf(`${cut}torn`), earlier);
    writeFileSync(fileOf(`${cut}1.torn`), rest);
    expect((await Ottla.repair(directory))[0]).toContain(fileOf(`${cut}1.torn`));
    expect(readFileSync(fileOf(`${cut}torn`))).toEqual(earlier);
    expect(readFileSync(fileOf(`${cut}1.torn`))).toEqual(rest);
    const torn = readdirSync(join(directory, 't-0')).filter((file) => file.endsWith('.torn'));
    expect(torn).toHaveLength(2);
    expect(readFileSync(fileOf(name))).toEqual(bytes.subarray(0, batchBytes));
  });

  it('takes a commit behind the new end back', async () => {
    flip(segmentsOf(directory)[0]!, 100);
    await Ottla.repair(directory);
    await using ottla = await Ottla.open(directory);
    expect(ottla.recovery).toEqual([expect.stringContaining('went back from 7 to') as unknown]);
    const { partitions } = await ottla.groups.describe('g');
    expect(partitions[0]!.lag).toBe(0);
  });

  it('ends the log before a missing segment', async () => {
    const [, , name, ...later] = segmentsOf(directory);
    rmSync(fileOf(name!));
    const report = await Ottla.repair(directory);
    const end = Number.parseInt(name!, 10);
    expect(report[0]).toContain(`offsets ${end} to`);
    for (const other of later) expect(existsSync(fileOf(other.replace('log', 'torn')))).toBe(true);
    await expectSound(end);
  });

  it('serves no segment of another partition', async () => {
    const name = segmentsOf(directory)[1]!;
    writeFileSync(fileOf(name), readFileSync(fileOf(name, 1)));
    const report = await Ottla.repair(directory);
    expect(report[0]).toContain(`it is the segment of t-1, offset ${Number.parseInt(name, 10)}`);
    await expectSound(Number.parseInt(name, 10));
  });

  it('serves no swapped segments', async () => {
    const [, one, two] = segmentsOf(directory);
    const bytes = readFileSync(fileOf(one!));
    renameSync(fileOf(two!), fileOf(one!));
    writeFileSync(fileOf(two!), bytes);
    expect((await Ottla.repair(directory))[0]).toContain(`damage at byte 0 of ${fileOf(one!)}`);
    await expectSound(Number.parseInt(one!, 10));
  });

  it('ends the log with an older copy of a segment', async () => {
    const name = segmentsOf(directory)[1]!;
    const batchBytes = readFileSync(fileOf(name)).readUInt32BE(8) + 12;
    truncateSync(fileOf(name), 3 * batchBytes);
    expect((await Ottla.repair(directory))[0]).toContain('the metadata has');
    await expectSound(Number.parseInt(name, 10) + 3);
  });

  it('makes index files anew', async () => {
    for (const name of readdirSync(join(directory, 't-0'))) {
      if (name.endsWith('index')) writeFileSync(fileOf(name), 'no index at all!');
    }
    expect((await Ottla.verify(directory)).ok).toBe(false);
    await Ottla.repair(directory);
    await expectSound();
  });

  it.each([
    ["another topic's", () => readFileSync(join(directory, 'u-0', 'partition.metadata'))],
    ["no topic's", () => 'version: 0\ntopic_id: AAAAAAAAQAGAAAAAAAAAAQ'],
  ])('knows a log by its batches where partition.metadata is %s', async (_whose, metadata) => {
    for (const partition of [0, 1])
      writeFileSync(fileOf('partition.metadata', partition), metadata());
    expect(await failureOf(Ottla.open(directory))).toMatchObject({ code: 'METADATA_LOST' });
    const report = await Ottla.repair(directory);
    expect(report[0]).toMatch(/^t-0: partition\.metadata was missing or wrong/);
    await using ottla = await Ottla.open(directory);
    for (const partition of [0, 1]) {
      expect(await valuesOf(ottla, 't', partition)).toEqual(expected(partition));
    }
    expect((await ottla.groups.describe('g')).partitions[0]).toMatchObject({ committed: 7 });
  });

  it('gives a directory its topic id back, and makes a missing one', async () => {
    writeFileSync(fileOf('partition.metadata'), 'garbage');
    rmSync(join(directory, 'u-0'), { recursive: true });
    const report = await Ottla.repair(directory);
    expect(report.join('\n')).toMatch(/t-0: partition\.metadata was missing or wrong/);
    expect(report.join('\n')).toMatch(/u-0: there was no directory/);
    expect((await Ottla.verify(directory)).problems).toEqual([]);
    await using ottla = await Ottla.open(directory);
    expect(await valuesOf(ottla, 't', 0)).toEqual(expected(0));
    // Offsets that were given out are not given out again.
    expect(await ottla.producer().send('u', { value: 'x' })).toMatchObject({ offset: 1 });
  });
});
