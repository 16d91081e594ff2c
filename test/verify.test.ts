import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { Ottla } from '../src/index.js';
import { remove } from '../src/storage/meta-store.js';
import { verifyStore } from '../src/verify.js';
import type { VerifyOptions, VerifyReport } from '../src/verify-report.js';
import { Machine, append, batchOf, createTopic, failureOf, partitionOf } from './machine.js';

const settings = { segmentBytes: 1024, indexIntervalBytes: 100 };

function check(machine: Machine, options?: VerifyOptions): Promise<VerifyReport> {
  const { files, store, clock } = machine;
  return verifyStore({ directory: '/', files, store, clock }, options);
}

function codesOf(report: VerifyReport): string[] {
  return report.problems.map(({ code }) => code);
}

/** Two partitions of equal batches, so that their segments have equal names and sizes. */
async function fill(machine: Machine): Promise<Broker> {
  const broker = await machine.open();
  await createTopic(broker, settings, 2);
  for (const partition of [0, 1]) {
    for (let i = 0; i < 60; i++) {
      const timestamp = 1000 + i * 10 + partition;
      await append(partitionOf(broker, partition), batchOf([`${partition} ${i}`], { timestamp }));
    }
  }
  return broker;
}

describe('verify', () => {
  let machine: Machine;
  let logs: string[];
  beforeEach(async () => {
    machine = new Machine();
    await (await fill(machine)).close();
    logs = machine.names().filter((name) => name.endsWith('.log'));
  });

  const copy = (name: string, directory?: string): Buffer =>
    Buffer.from(machine.read(name, directory));

  it('finds nothing in a sound directory, and counts all of it', async () => {
    const seen: string[] = [];
    const report = await check(machine, {
      progress: ({ topic, partition, segments }) => seen.push(`${topic}-${partition} ${segments}`),
    });
    expect(report).toMatchObject({ ok: true, problems: [], notes: [], topics: 1, partitions: 2 });
    expect(logs.length).toBeGreaterThan(4);
    expect(report).toMatchObject({ segments: 2 * logs.length, batches: 120, records: 120 });
    const bytes = logs.reduce((sum, name) => sum + 2 * machine.read(name).length, 0);
    expect(report.bytes).toBe(bytes);
    expect(seen).toHaveLength(2 * logs.length);
    expect(seen.at(-1)).toBe(`t-1 ${2 * logs.length}`);
  });

  it('f05 a bit flip anywhere in a .log is found and named; nothing is changed', async () => {
    for (const name of [logs[1]!, logs.at(-1)!]) {
      const good = copy(name);
      // Every byte of the first batches, and some of the others.
      for (let at = 0; at < good.length; at += at < 200 ? 1 : 7) {
        // Outside the CRC: of the leader epoch nothing is known that a flip would contradict.
        const batchBytes = good.readUInt32BE(8) + 12;
        if (at % batchBytes >= 12 && at % batchBytes < 16) continue;
        const bad = Buffer.from(good);
        bad[at]! ^= 1 << (at % 8);
        machine.write(name, bad);
        const report = await check(machine);
        expect(report.ok, `byte ${at}`).toBe(false);
        expect(report.problems[0]).toMatchObject({
          topic: 't',
          partition: 0,
          file: `/t-0/${name}`,
          position: at - (at % batchBytes),
        });
        expect(machine.read(name)).toEqual(bad);
      }
      machine.write(name, good);
    }
    expect((await check(machine)).ok).toBe(true);
  });

  it('a damaged batch has its place, and what lies behind it is checked as well', async () => {
    const bad = copy(logs[1]!);
    const batchBytes = bad.readUInt32BE(8) + 12;
    bad[3 * batchBytes + 30]! ^= 1;
    machine.write(logs[1]!, bad);
    const { problems, batches } = await check(machine);
    const offset = Number.parseInt(logs[1]!, 10) + 3;
    expect(batches).toBe(119);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({
      code: 'BATCH_DAMAGED',
      offset,
      position: 3 * batchBytes,
      file: `/t-0/${logs[1]}`,
    });
    expect(problems[0]!.message).toContain(`the log goes on at byte ${4 * batchBytes}`);
  });

  it('f08 two segments that were swapped are both named, and whose they are', async () => {
    const [one, two] = [copy(logs[1]!), copy(logs[2]!)];
    machine.write(logs[1]!, two);
    machine.write(logs[2]!, one);
    const { problems } = await check(machine);
    const bases = [1, 2].map((i) => Number.parseInt(logs[i]!, 10));
    expect(problems.map(({ code, file }) => [code, file])).toEqual([
      ['SEGMENT_MISMATCH', `/t-0/${logs[1]}`],
      ['SEGMENT_MISMATCH', `/t-0/${logs[2]}`],
    ]);
    expect(problems[0]!.message).toContain(`It is the segment of t-0, offset ${bases[1]}`);
    expect(problems[1]!.message).toContain(`It is the segment of t-0, offset ${bases[0]}`);
  });

  it("f08 another partition's segment of the same name, size and offsets is named", async () => {
    machine.write(logs[1]!, copy(logs[1]!, '/t-1'));
    const { problems } = await check(machine);
    expect(problems).toHaveLength(1);
    expect(problems[0]!.message).toMatch(/^t-0: .*the segment of t-1, offset/);
  });

  it("f08 another partition's active segment is named", async () => {
    machine.write(logs.at(-1)!, copy(logs.at(-1)!, '/t-1'));
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['SEGMENT_MISMATCH']);
    expect(report.problems[0]).toMatchObject({ partition: 0, file: `/t-0/${logs.at(-1)}` });
  });

  it.each([
    ['an older copy of a sealed segment', 2, 'SEGMENT_MISMATCH'],
    ['an older copy of the active segment', -1, 'SEGMENT_MISMATCH'],
  ])('%s is found', async (_what, at, code) => {
    const name = logs.at(at)!;
    const good = copy(name);
    machine.write(name, good.subarray(0, good.readUInt32BE(8) + 12));
    const report = await check(machine);
    expect(codesOf(report)).toEqual([code]);
    expect(report.problems[0]!.message).toContain('an older copy');
  });

  it('a missing segment in the middle is a problem, the oldest ones a note', async () => {
    machine.write(logs[2]!, undefined);
    machine.write(logs[0]!, undefined, '/t-1');
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['SEGMENT_MISSING']);
    expect(report.problems[0]).toMatchObject({ offset: Number.parseInt(logs[2]!, 10) });
    const notes = report.notes.filter(({ code }) => code === 'LOG_BEGINS_LATER');
    expect(notes).toMatchObject([{ partition: 1, offset: 0 }]);
  });

  it.each(['index', 'timeindex'])('a wrong entry in a .%s is named', async (suffix) => {
    const name = logs[1]!.replace('log', suffix);
    const bad = copy(name);
    bad[7]! ^= 1;
    machine.write(name, bad);
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['INDEX_MISMATCH']);
    expect(report.problems[0]).toMatchObject({ file: `/t-0/${name}`, position: 0 });
  });

  it('a missing directory and another topic id are named', async () => {
    machine.write(
      'partition.metadata',
      Buffer.from('version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA'),
    );
    machine.files.removeDirectory('/t-1');
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['IDENTITY_MISMATCH', 'PARTITION_MISSING']);
  });

  it('metadata that does not know a segment, or a topic, is named', async () => {
    const [topic] = [...machine.store.range(['topic'])];
    const { id } = topic!.value;
    const point = machine.store.get(['partition', id, 0])!;
    expect(point.active.baseOffset).toBe(Number.parseInt(logs.at(-1)!, 10));
    await machine.store.write([
      remove(['partition', id, 0]),
      ...logs.slice(1, -1).map((name) => remove(['segment', id, 0, Number.parseInt(name, 10)])),
    ]);
    expect(codesOf(await check(machine))).toContain('SEGMENT_UNKNOWN');
    await machine.store.write([remove(['topic', 't'])]);
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['IDENTITY_MISMATCH', 'IDENTITY_MISMATCH']);
    expect(report.batches).toBe(120);
  });

  it('a torn tail behind the recovery point is a note', async () => {
    machine.append(logs.at(-1)!, Buffer.from('torn'));
    machine.append(logs.at(-1)!, batchOf(['stale'], { baseOffset: 3 }), '/t-1');
    const report = await check(machine);
    expect(report.ok).toBe(true);
    expect(report.notes).toMatchObject([
      { code: 'TORN_TAIL', partition: 0, offset: 60 },
      { code: 'TORN_TAIL', partition: 1, offset: 60 },
    ]);
  });

  it('files that are not of the log are notes', async () => {
    for (const name of ['x.torn', 'y.tmp', 'notes.txt', '.DS_Store']) {
      machine.write(name, Buffer.from(name));
    }
    machine.write('mine.txt', Buffer.from('x'), '/');
    const { ok, notes } = await check(machine);
    expect(ok).toBe(true);
    expect(notes.map(({ code, file }) => [code, file])).toEqual([
      ['UNKNOWN_FILE', '/t-0/notes.txt'],
      ['LEFTOVER', '/t-0/x.torn'],
      ['LEFTOVER', '/t-0/y.tmp'],
      ['UNKNOWN_FILE', '/mine.txt'],
    ]);
  });

  it('a record that is none, under a right CRC, is named', async () => {
    const broker = await machine.open();
    const batch = batchOf(['value']);
    // The record says that it is one byte longer than it is; the CRC is made anew.
    batch[61]! += 2;
    const { crc32c } = await import('../src/crc32c.js');
    batch.writeUInt32BE(crc32c(batch, 21, batch.length), 17);
    const offset = await append(partitionOf(broker), batch, 'all');
    await broker.close();
    const report = await check(machine);
    expect(codesOf(report)).toEqual(['RECORD_INVALID']);
    expect(report.problems[0]).toMatchObject({ offset });
  });

  it('is ended by its signal', async () => {
    const stop = AbortSignal.abort(new Error('enough'));
    expect(await failureOf(check(machine, { signal: stop }))).toMatchObject({
      code: 'ABORTED',
    });
  });
});

describe('Ottla.verify', () => {
  let place: string;
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'ottla-verify-'));
  });
  afterEach(() => rmSync(place, { recursive: true, force: true }));

  async function write(): Promise<string> {
    const directory = join(place, 'data');
    const ottla = await Ottla.open(directory);
    await ottla.topics.create('t', { segmentBytes: 1024 });
    const producer = ottla.producer();
    for (let i = 0; i < 40; i++) await producer.send('t', { value: `v${i}` });
    await ottla.close();
    return directory;
  }

  it('works on a closed directory, and beside a running owner', async () => {
    const directory = await write();
    expect(await Ottla.verify(directory)).toMatchObject({ ok: true, notes: [], records: 40 });
    await using ottla = await Ottla.open(directory);
    const producer = ottla.producer();
    const sending = (async () => {
      for (let i = 0; i < 200; i++) await producer.send('t', { value: `w${i}` });
    })();
    for (let i = 0; i < 5; i++) {
      const { problems } = await Ottla.verify(directory);
      expect(problems).toEqual([]);
    }
    await sending;
    expect((await Ottla.verify(directory)).records).toBe(240);
  });

  it.each([
    ['emptied', () => Buffer.alloc(0)],
    ['cut in half', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    [
      'with a meta page overwritten',
      (bytes: Buffer) => Buffer.concat([Buffer.alloc(4096, 7), bytes.subarray(4096)]),
    ],
  ])('says of an LMDB file that is %s that the metadata is damaged', async (_what, damage) => {
    const directory = await write();
    const path = join(directory, 'meta', 'data.mdb');
    writeFileSync(path, damage(readFileSync(path)));
    const bad = readFileSync(path);
    const report = await Ottla.verify(directory);
    expect(codesOf(report)).toEqual(['METADATA_DAMAGED']);
    expect(report.records).toBe(40);
    expect(readFileSync(path)).toEqual(bad);
  });

  it("says that the directory is another store's", async () => {
    const directory = await write();
    const path = join(directory, 'meta.properties');
    writeFileSync(path, 'version=1\nstore.id=AAAAAAAAAAAAAAAAAAAAAA\n');
    const report = await Ottla.verify(directory);
    expect(report.problems).toMatchObject([{ code: 'IDENTITY_MISMATCH', file: path }]);
  });

  it('refuses what is no directory, and wrong options', async () => {
    expect(await failureOf(Ottla.verify(join(place, 'none')))).toMatchObject({
      code: 'KAFKA_STORAGE_ERROR',
      retriable: false,
    });
    await expect(Ottla.verify('')).rejects.toThrow(TypeError);
    await expect(Ottla.verify(place, { progress: 'x' as never })).rejects.toThrow(TypeError);
  });
});
