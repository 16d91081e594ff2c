import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { offsetForTimestamp } from '../src/partition-offsets.js';
import { readBatchHeader } from '../src/record.js';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { put, type RecoveryPoint } from '../src/storage/meta-store.js';
import { OpenFiles } from '../src/storage/open-files.js';
import { Segment } from '../src/storage/segment.js';
import { Machine, append, batchOf, createTopic, partitionOf, readFrom } from './machine.js';

interface SegmentVector {
  readonly id: string;
  readonly baseOffset: number;
  readonly indexIntervalBytes: number;
  readonly batches: readonly {
    readonly baseOffset: number;
    readonly lastOffset: number;
    readonly position: number;
    readonly size: number;
  }[];
  readonly files: Readonly<Record<string, string>>;
  readonly findOffsetByTimestamp: readonly (readonly [number, number | null, number | null])[];
}

const file = new URL('vectors/files.json', import.meta.url);
const { segments: vectors } = JSON.parse(readFileSync(file, 'utf8')) as {
  readonly segments: readonly SegmentVector[];
};

function fileOf(vector: SegmentVector, suffix: 'log' | 'index' | 'timeindex'): Buffer {
  const [, hex] = Object.entries(vector.files).find(([name]) => name.endsWith(`.${suffix}`))!;
  return Buffer.from(hex, 'hex');
}

function nameOf({ baseOffset }: SegmentVector, suffix: string): string {
  return `${String(baseOffset).padStart(20, '0')}.${suffix}`;
}

function startOf(baseOffset: number): RecoveryPoint {
  return {
    baseOffset,
    nextOffset: baseOffset,
    bytes: 0,
    offsetIndexBytes: 0,
    timeIndexBytes: 0,
    transactionIndex: { bytes: 0, checksum: 0 },
    lastBatchBytes: 0,
    lastCrc: 0,
    checksum: 0,
    maxTimestamp: -1,
    maxTimestampOffset: -1,
    bytesSinceIndexEntry: 0,
  };
}

/** The files that a segment makes of these bytes of whole batches, one written after the other. */
async function written(
  vector: SegmentVector,
  log: Buffer,
  sealed: boolean,
): Promise<{ readonly log: Buffer; readonly index: Buffer; readonly timeindex: Buffer }> {
  const files = new MemoryFiles();
  files.makeDirectory('/t-0');
  const { baseOffset, indexIntervalBytes } = vector;
  const segment = new Segment(new OpenFiles(files), '/t-0', baseOffset, indexIntervalBytes);
  segment.restoreActive(startOf(baseOffset), true);
  for (let at = 0; at < log.length;) {
    const header = readBatchHeader(log, at, log.length)!;
    segment.write(log, at, at + header.size);
    segment.added(header);
    at += header.size;
  }
  if (sealed) segment.seal();
  await segment.saveIndexes();
  const read = (suffix: string): Buffer =>
    files.readFile(`/t-0/${nameOf(vector, suffix)}`) ?? Buffer.alloc(0);
  return { log: read('log'), index: read('index'), timeindex: read('timeindex') };
}

/** A partition of which only the .log is there, as after a kill before the first recovery point. */
async function recovered(
  vector: SegmentVector,
  log: Buffer,
): Promise<{ readonly machine: Machine; readonly broker: Broker }> {
  const machine = new Machine();
  const { baseOffset, indexIntervalBytes } = vector;
  const { topicId } = await createTopic(await machine.open(), { indexIntervalBytes });
  const row = { logStartOffset: baseOffset, leaderEpochs: [[0, baseOffset]] as const };
  await machine.store.write([
    put(['partition', topicId, 0], {
      ...row,
      active: startOf(baseOffset),
      producers: { snapshotCrc: null, open: 0, hasAborted: false },
    }),
  ]);
  machine.write(nameOf(vector, 'log'), log);
  return { machine, broker: await machine.open() };
}

/** Long buffers compare a thousand times faster so. */
const hex = (bytes: Buffer): string => bytes.toString('hex');

/** What recovery left is what appending the whole batches before `end` makes. */
async function expectCut(vector: SegmentVector, machine: Machine, end: number): Promise<void> {
  const whole = fileOf(vector, 'log').subarray(0, end);
  const expected = await written(vector, whole, false);
  expect(hex(machine.read(nameOf(vector, 'log')))).toBe(hex(whole));
  for (const suffix of ['index', 'timeindex'] as const) {
    const bytes = expected[suffix];
    expect(hex(fileOf(vector, suffix).subarray(0, bytes.length))).toBe(hex(bytes));
    const isThere = machine.names().includes(nameOf(vector, suffix));
    expect(isThere ? hex(machine.read(nameOf(vector, suffix))) : '').toBe(hex(bytes));
  }
}

describe.each(vectors)("Kafka's segment $id", (vector) => {
  const log = fileOf(vector, 'log');
  const { batches, baseOffset } = vector;
  const lastOffset = batches.at(-1)!.lastOffset;

  it('has the same .log, .index and .timeindex, byte for byte', async () => {
    const files = await written(vector, log, true);
    expect(hex(files.log)).toBe(hex(log));
    expect(hex(files.index)).toBe(hex(fileOf(vector, 'index')));
    expect(hex(files.timeindex)).toBe(hex(fileOf(vector, 'timeindex')));
  });

  it.each(vector.findOffsetByTimestamp)(
    'finds by timestamp %i the record of %s at offset %s',
    async (timestamp, found, offset) => {
      const { broker } = await recovered(vector, log);
      const partition = partitionOf(broker);
      expect(await offsetForTimestamp(partition, timestamp)).toBe(offset);
      const records = offset === null ? [] : await readFrom(partition, offset);
      expect(records[0]?.timestamp ?? null).toBe(found);
    },
  );

  it('is found by every offset, also where only the .log is there', async () => {
    const { broker } = await recovered(vector, log);
    expect(broker.recovery).toEqual([]);
    const partition = partitionOf(broker);
    for (const batch of batches) {
      for (let offset = batch.baseOffset; offset <= batch.lastOffset; offset++) {
        expect((await readFrom(partition, offset))[0]).toMatchObject({ offset });
        expect(partition.segmentFor(offset).positionBefore(offset)).toBeLessThanOrEqual(
          batch.position,
        );
      }
    }
    expect(await append(partition, batchOf(['next']))).toBe(lastOffset + 1);
  });

  it('has its indexes made anew where only the .log is there', async () => {
    const { machine, broker } = await recovered(vector, log);
    await broker.close();
    await expectCut(vector, machine, log.length);
  });

  it('recoverAfterCut: ends with its last whole batch, and its indexes are made anew', async () => {
    for (const { position, size, baseOffset: next } of batches) {
      for (const end of [position, position + 1, position + 61, position + size - 1]) {
        const { machine, broker } = await recovered(vector, log.subarray(0, end));
        expect(broker.recovery).toHaveLength(end === position ? 0 : 1);
        expect(partitionOf(broker).logEndOffset).toBe(next);
        await broker.close();
        await expectCut(vector, machine, position);
      }
    }
  });

  it('recoverAfterBitFlip: everything from the first bad batch on is cut away', async () => {
    for (const [i, { position, size, baseOffset: next }] of batches.entries()) {
      const behind = log.length - position;
      // In the base offset, length, magic, CRC, attributes, and the last byte of the records.
      for (const at of [7, 10, 16, 20, 22, size - 1]) {
        const flipped = Buffer.from(log);
        flipped[position + at]! ^= 1 << (i % 8);
        const { machine, broker } = await recovered(vector, flipped);
        expect(broker.recovery).toEqual([
          expect.stringContaining(`cut ${behind} bytes at byte ${position}, next offset ${next}`),
        ]);
        await expectCut(vector, machine, position);
        const torn = machine.names().filter((name) => name.endsWith('.torn'));
        expect(torn).toHaveLength(i === batches.length - 1 ? 0 : 1);
        for (const name of torn) {
          expect(hex(machine.read(name))).toBe(hex(flipped.subarray(position)));
        }
      }
    }
  });

  it('recoverAfterBitFlip: a leader epoch is not under the CRC, and costs nothing', async () => {
    const flipped = Buffer.from(log);
    flipped[batches[1]!.position + 15]! ^= 1;
    const { broker } = await recovered(vector, flipped);
    expect(broker.recovery).toEqual([]);
    expect(await readFrom(partitionOf(broker), baseOffset)).toHaveLength(
      (await readFrom(partitionOf((await recovered(vector, log)).broker), baseOffset)).length,
    );
  });
});
