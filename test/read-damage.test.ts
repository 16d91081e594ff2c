import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { crc32c } from '../src/crc32c.js';
import { Ottla, type ReadOptions, type SkippedRange } from '../src/index.js';
import { collect } from './contract.js';
import { batchOf, failureOf } from './machine.js';

const count = 60;
let place: string;
let directory: string;
let logs: string[];
let batchBytes: number;

beforeEach(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-damage-'));
  directory = join(place, 'data');
  await using ottla = await Ottla.open(directory);
  await ottla.topics.create('t', { segmentBytes: 1024, indexIntervalBytes: 200 });
  const producer = ottla.producer();
  for (let i = 0; i < count; i++) await producer.send('t', { value: valueOf(i), timestamp: 1000 });
  logs = readdirSync(join(directory, 't-0')).filter((name) => name.endsWith('.log'));
  batchBytes = read(logs[0]!).readUInt32BE(8) + 12;
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

function valueOf(offset: number): string {
  return `value ${String(offset).padStart(2, '0')}`;
}

function read(name: string): Buffer {
  return readFileSync(join(directory, 't-0', name));
}

function write(name: string, bytes: Buffer): void {
  writeFileSync(join(directory, 't-0', name), bytes);
}

function baseOf(at: number): number {
  return Number.parseInt(logs.at(at)!, 10);
}

function change(at: number, edit: (bytes: Buffer) => void): void {
  const bytes = read(logs.at(at)!);
  edit(bytes);
  write(logs.at(at)!, bytes);
}

/** What a reading gives, and what it was told of. Every record must be the one of its offset. */
async function readAll(
  ottla: Ottla,
  options: ReadOptions = {},
): Promise<{ offsets: number[]; skipped: SkippedRange[] }> {
  const skipped: SkippedRange[] = [];
  const records = await collect(
    ottla.read('t', { onCorrupt: (range) => void skipped.push(range), ...options }),
  );
  for (const { offset, value } of records) expect(String(value)).toBe(valueOf(offset));
  return { offsets: records.map(({ offset }) => offset), skipped };
}

function allBut(from: number, to: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => i < from || i >= to);
}

describe('reading past damage', () => {
  const damages: [what: string, edit: (bytes: Buffer, at: number) => void, lost: number][] = [
    ['in a record', (bytes, at) => (bytes[at + 70]! ^= 1), 1],
    ['in a CRC', (bytes, at) => (bytes[at + 18]! ^= 1), 1],
    ['in a length, now larger', (bytes, at) => bytes.writeUInt32BE(5000, at + 8), 1],
    ['in a length, now too small', (bytes, at) => bytes.writeUInt32BE(1, at + 8), 1],
    ['in a base offset', (bytes, at) => bytes.writeUInt32BE(7, at + 4), 1],
    ['in the magic', (bytes, at) => (bytes[at + 16] = 1), 1],
    ['of zeros over two batches', (bytes, at) => bytes.fill(0, at + 20, at + batchBytes + 20), 2],
  ];

  describe.each([
    ['a sealed segment', 1],
    ['the active segment', -1],
  ])('in %s', (_what, at) => {
    it.each(damages)('%s costs what it hits, and is told', async (_damage, edit, lost) => {
      change(at, (bytes) => edit(bytes, batchBytes));
      const from = baseOf(at) + 1;
      await using ottla = await Ottla.open(directory);
      const failure = await failureOf(collect(ottla.read('t')));
      expect(failure).toMatchObject({ code: 'CORRUPT_MESSAGE' });
      expect(failure.message).toContain(`t-0: damage at byte ${batchBytes} of`);
      expect(failure.message).toContain(`offset ${from} cannot be read`);
      const { offsets, skipped } = await readAll(ottla);
      expect(offsets).toEqual(allBut(from, from + lost));
      expect(skipped).toMatchObject([
        { topic: 't', partition: 0, offset: from, nextOffset: from + lost },
      ]);
      expect(skipped[0]!.error.message).toContain(logs.at(at)!);
      // Every offset behind the damage can be sought, whatever index entry is before it.
      for (let start = from + lost; start < Math.min(count, from + 8); start++) {
        const records = await collect(ottla.read('t', { from: { 0: start } }));
        expect(records[0]!.offset).toBe(start);
      }
    });
  });

  it('a length that leads to a later batch costs one record', async () => {
    change(1, (bytes) => bytes.writeUInt32BE(2 * batchBytes - 12, batchBytes + 8));
    await using ottla = await Ottla.open(directory);
    const { offsets } = await readAll(ottla);
    expect(offsets).toEqual(allBut(baseOf(1) + 1, baseOf(1) + 2));
  });

  it.each([
    ['an earlier batch', 2],
    ['a much earlier batch', 4],
  ])('the length of %s that leads past the offset sought hides nothing', async (_what, behind) => {
    const at = 3 * batchBytes;
    // Without an index a search begins with the first batch.
    for (const name of readdirSync(join(directory, 't-0'))) {
      if (name.endsWith('index')) rmSync(join(directory, 't-0', name));
    }
    change(1, (bytes) => bytes.writeUInt32BE(behind * batchBytes - 12, at + 8));
    await using ottla = await Ottla.open(directory);
    const damagedOffset = baseOf(1) + 3;
    for (let offset = baseOf(1); offset < damagedOffset + behind + 2; offset++) {
      const { offsets } = await readAll(ottla, { from: { 0: offset } });
      expect(offsets).toEqual(allBut(damagedOffset, damagedOffset + 1).filter((i) => i >= offset));
    }
    for (let offset = damagedOffset + 1; offset < damagedOffset + behind + 2; offset++) {
      const records = await collect(ottla.read('t', { from: { 0: offset } }));
      expect(records[0]!.offset).toBe(offset);
    }
  });

  it('a segment that is gone is passed over whole', async () => {
    rmSync(join(directory, 't-0', logs[1]!));
    await using ottla = await Ottla.open(directory);
    ottla.on('warning', () => undefined);
    const { offsets, skipped } = await readAll(ottla);
    expect(offsets).toEqual(allBut(baseOf(1), baseOf(2)));
    expect(skipped).toMatchObject([{ offset: baseOf(1), nextOffset: baseOf(2) }]);
  });

  it('two segments that were swapped are not served', async () => {
    const [one, two] = [read(logs[1]!), read(logs[2]!)];
    write(logs[1]!, two);
    write(logs[2]!, one);
    await using ottla = await Ottla.open(directory);
    const failure = await failureOf(collect(ottla.read('t')));
    expect(failure.message).toMatch(/a batch of offsets \d+ to \d+ in a segment of/);
    const { offsets, skipped } = await readAll(ottla);
    expect(offsets).toEqual(allBut(baseOf(1), baseOf(3)));
    expect(skipped[0]!.offset).toBe(baseOf(1));
    expect(skipped.at(-1)!.nextOffset).toBe(baseOf(3));
  });

  it('ends at the end when nothing behind the damage can be read', async () => {
    change(-1, (bytes) => bytes.fill(0xff, 20));
    await using ottla = await Ottla.open(directory);
    ottla.on('warning', () => undefined);
    const { offsets, skipped } = await readAll(ottla);
    expect(offsets).toEqual(allBut(baseOf(-1), count));
    expect(skipped).toMatchObject([{ offset: baseOf(-1), nextOffset: count }]);
  });

  it('takes no batch in a value for one of the log', async () => {
    const topic = join(directory, 'u-0', '00000000000000000000.log');
    {
      await using ottla = await Ottla.open(directory);
      await ottla.topics.create('u');
      const producer = ottla.producer();
      await producer.send('u', { value: 'a' });
      const inner = batchOf(['inner'], { baseOffset: 2 });
      await producer.send('u', {
        value: Buffer.concat([Buffer.alloc(30), inner, Buffer.alloc(30)]),
      });
      await producer.send('u', { value: 'b' });
      await producer.send('u', { value: 'c' });
    }
    const bytes = readFileSync(topic);
    // The length of the second batch: where it ends is not known any more.
    bytes.writeUInt32BE(77, bytes.readUInt32BE(8) + 12 + 8);
    writeFileSync(topic, bytes);
    await using ottla = await Ottla.open(directory);
    const values = (await collect(ottla.read('u', { onCorrupt: () => undefined }))).map(
      ({ value }) => String(value),
    );
    expect(values).toEqual(['a', 'b', 'c']);
  });

  it("'skip' tells by a warning; what a function throws ends the reading", async () => {
    change(1, (bytes) => bytes.fill(0, batchBytes, 2 * batchBytes));
    await using ottla = await Ottla.open(directory);
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    await readAll(ottla, { onCorrupt: 'skip' });
    const lost = baseOf(1) + 1;
    expect(warnings).toEqual([
      expect.stringContaining(`passed over offsets ${lost} to ${lost}`) as unknown,
    ]);
    const reading = ottla.read('t', {
      onCorrupt: () => {
        throw new Error('enough');
      },
    });
    expect(await failureOf(collect(reading))).toMatchObject({ message: 'enough' });
    expect(() => ottla.read('t', { onCorrupt: 'no' as never })).toThrow(TypeError);
  });

  it('a group fails at damage, and reads on once it was sought behind it', async () => {
    change(1, (bytes) => bytes.fill(0, batchBytes, 2 * batchBytes));
    await using ottla = await Ottla.open(directory);
    const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
    const lost = baseOf(1) + 1;
    const seen: number[] = [];
    const failure = await failureOf(
      (async () => {
        for await (const { offset } of consumer) seen.push(offset);
      })(),
    );
    expect(failure).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(seen).toEqual(allBut(lost, count));
    for (const start of [lost + 1, lost + 1, lost + 2]) {
      await consumer.seek({ topic: 't', partition: 0, offset: start });
      for await (const { offset } of consumer) {
        expect(offset).toBe(start);
        break;
      }
    }
  });
});

describe('reading from a time on, over damage', () => {
  const times = 20;
  let path: string;
  const timeOf = (offset: number): Date => new Date(10_000 + offset * 1000);

  beforeEach(async () => {
    await using ottla = await Ottla.open(directory);
    await ottla.topics.create('timed');
    const producer = ottla.producer();
    for (let i = 0; i < times; i++) {
      await producer.send('timed', { value: `${i}`, timestamp: timeOf(i).getTime() });
    }
    path = join(directory, 'timed-0', '00000000000000000000.log');
  });

  /** Bytes of batch `at`, counted from its beginning. */
  function damage(at: number, edit: (batch: Buffer) => void): void {
    const bytes = readFileSync(path);
    let position = 0;
    for (let i = 0; i < at; i++) position += bytes.readUInt32BE(position + 8) + 12;
    edit(bytes.subarray(position));
    writeFileSync(path, bytes);
  }

  async function offsetsFrom(from: Date, onCorrupt?: ReadOptions['onCorrupt']): Promise<number[]> {
    await using ottla = await Ottla.open(directory);
    const options = onCorrupt === undefined ? {} : { onCorrupt };
    const records = await collect(ottla.read('timed', { from, ...options }));
    for (const { offset, value } of records) expect(String(value)).toBe(`${offset}`);
    return records.map(({ offset }) => offset);
  }

  const range = (from: number): number[] => [...Array(times).keys()].slice(from);

  it.each<[string, (batch: Buffer) => void]>([
    ['in a record', (batch) => (batch[64]! ^= 1)],
    ['in its largest timestamp, now small', (batch) => batch.fill(0, 35, 43)],
    ['in its largest timestamp, now large', (batch) => batch.fill(1, 36, 43)],
    ['in its length', (batch) => batch.writeUInt32BE(3 * (batch.readUInt32BE(8) + 12) - 12, 8)],
    ['of zeros', (batch) => batch.fill(0, 0, 60)],
  ])('%s: it fails there, or passes over it as it was told', async (_what, edit) => {
    damage(7, edit);
    for (const at of [5, 7, 9, 15]) {
      const failure = await failureOf(offsetsFrom(timeOf(at)));
      expect(failure).toMatchObject({ code: 'CORRUPT_MESSAGE' });
      expect(failure.message).toMatch(/timed-0: damage at byte \d+ of .*offset 7 cannot be read/);
      const skipped: SkippedRange[] = [];
      expect(await offsetsFrom(timeOf(at), (found) => void skipped.push(found))).toEqual(
        range(at).filter((offset) => offset !== 7),
      );
      expect(skipped).toMatchObject([{ topic: 'timed', partition: 0, offset: 7, nextOffset: 8 }]);
    }
  });

  it('gives the damage as the place of a time that may lie in it', async () => {
    damage(7, (batch) => (batch[64]! ^= 1));
    await using ottla = await Ottla.open(directory);
    expect(await ottla.topics.listOffsets('timed', timeOf(6))).toMatchObject([{ offset: 6 }]);
    expect(await ottla.topics.listOffsets('timed', timeOf(9))).toMatchObject([{ offset: 7 }]);
  });

  it('finds nothing to read where all is damaged', async () => {
    writeFileSync(path, Buffer.alloc(readFileSync(path).length));
    const skipped: SkippedRange[] = [];
    expect(await offsetsFrom(timeOf(3), (found) => void skipped.push(found))).toEqual([]);
    expect(skipped).toMatchObject([{ offset: 0, nextOffset: times }]);
  });
});

describe('reading what cannot be decompressed', () => {
  /** One batch, as if a later Kafka had compressed it. */
  function compressUnknown(at: number): void {
    change(0, (bytes) => {
      const start = at * batchBytes;
      bytes[start + 22]! |= 5;
      bytes.writeUInt32BE(crc32c(bytes, start + 21, start + batchBytes), start + 17);
    });
  }

  it('is no damage: it is not passed over', async () => {
    compressUnknown(3);
    await using ottla = await Ottla.open(directory);
    const skipped: SkippedRange[] = [];
    const offsets: number[] = [];
    const readOn = async (): Promise<void> => {
      const reading = ottla.read('t', { onCorrupt: (range) => void skipped.push(range) });
      for await (const { offset } of reading) offsets.push(offset);
    };
    expect(await failureOf(readOn())).toMatchObject({
      code: 'UNSUPPORTED_COMPRESSION_TYPE',
      message: 'batch at offset 3: a compression that is not known',
    });
    expect({ offsets, skipped }).toEqual({ offsets: [0, 1, 2], skipped: [] });
  });

  it('leaves verify content, which says what it did not read', async () => {
    compressUnknown(3);
    compressUnknown(5);
    const report = await Ottla.verify(directory);
    // The sum of the CRCs is another now.
    expect(report.problems.map(({ code }) => code)).toEqual(['SEGMENT_MISMATCH']);
    expect(report.notes).toMatchObject([
      { code: 'RECORDS_UNREAD', topic: 't', partition: 0, offset: 3, position: 3 * batchBytes },
    ]);
  });
});
