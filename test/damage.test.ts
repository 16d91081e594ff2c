import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import type { OttlaError } from '../src/errors.js';
import { offsetForTimestamp } from '../src/partition-offsets.js';
import type { Partition } from '../src/partition.js';
import { put, remove } from '../src/storage/meta-store.js';
import {
  Machine,
  append,
  batchOf,
  createTopic,
  failureOf,
  firstLog,
  partitionOf,
  readFrom,
  readInto,
  valuesIn,
  type ReadRecord,
} from './machine.js';

const settings = { segmentBytes: 1024, indexIntervalBytes: 100 };
const batchCount = 60;

/** Batch i has one record, or two: so offsets and batches do not go in step. */
const batches = Array.from({ length: batchCount }, (_, i) =>
  batchOf(i % 3 === 0 ? [`${i}a`, `${i}b`] : [`${i}`], { timestamp: 1000 + i * 10 }),
);
const all = batches.flatMap((_, i) => (i % 3 === 0 ? [`${i}a`, `${i}b`] : [`${i}`]));

/** Several sealed segments and an active one of some batches. */
async function fill(machine: Machine): Promise<Broker> {
  const broker = await machine.open();
  const partition = await createTopic(broker, settings, 2);
  for (const batch of batches) await append(partition, Buffer.from(batch));
  await append(partitionOf(broker, 1), batchOf(['other']));
  return broker;
}

function logsOf(machine: Machine): string[] {
  return machine.names().filter((name) => name.endsWith('.log'));
}

async function expectOtherPartitionWorks(broker: Broker): Promise<void> {
  const other = partitionOf(broker, 1);
  const end = other.logEndOffset;
  expect(await append(other, batchOf(['more']), 'all')).toBe(end);
  expect((await valuesIn(other)).slice(0, 1)).toEqual(['other']);
}

/** Every look-up leads to the right record: by offset, and by time. */
async function expectLookUpsRight(partition: Partition): Promise<void> {
  const records = await readFrom(partition, 0);
  expect(records.map(({ value }) => value)).toEqual(all);
  for (const { offset, timestamp } of records) {
    expect((await readFrom(partition, offset))[0]?.offset).toBe(offset);
    expect(await offsetForTimestamp(partition, timestamp)).toBe(offset);
    // Between the batches, whose timestamps are 10 ms apart.
    const next = records.find((record) => record.timestamp >= timestamp + 2);
    expect(await offsetForTimestamp(partition, timestamp + 2)).toBe(next?.offset ?? null);
  }
}

const indexDamages: readonly (readonly [
  string,
  (bytes: Buffer, entry: number) => Buffer | undefined,
])[] = [
  ['missing', () => undefined],
  ['empty', () => Buffer.alloc(0)],
  ['short by one byte', (bytes) => bytes.subarray(0, -1)],
  ['short by an entry', (bytes, entry) => bytes.subarray(0, -entry)],
  ['without its first entry', (bytes, entry) => bytes.subarray(entry)],
  ['longer by one byte', (bytes) => Buffer.concat([bytes, Buffer.alloc(1)])],
  ['longer by an entry of zeros', (bytes, entry) => Buffer.concat([bytes, Buffer.alloc(entry)])],
  ['longer by a plausible entry', (bytes, entry) => longer(bytes, entry)],
  ['zeros', (bytes) => Buffer.alloc(bytes.length)],
  ['garbage', (bytes) => Buffer.alloc(bytes.length, 'garbage')],
  ['of other offsets', (bytes, entry) => shifted(bytes, entry, entry === 8 ? 5 : 1, 3)],
  ['of lower offsets', (bytes, entry) => shifted(bytes, entry, entry === 8 ? 5 : 1, -1)],
  ['of other positions, or times', (bytes, entry) => shifted(bytes, entry, entry - 7, 1)],
  ['of lower positions, or times', (bytes, entry) => shifted(bytes, entry, entry - 7, -1)],
];

/** With one more entry, whose numbers are larger than the last one's. */
function longer(bytes: Buffer, entry: number): Buffer {
  const last = Buffer.from(bytes.subarray(-entry));
  for (let at = entry - 1; at >= 3; at -= 4) last[at]!++;
  return Buffer.concat([bytes, last]);
}

/** With the byte that lies `fromEnd` before each entry's end made larger by `by`. */
function shifted(bytes: Buffer, entry: number, fromEnd: number, by: number): Buffer {
  const changed = Buffer.from(bytes);
  for (let at = entry - fromEnd; at < changed.length; at += entry) changed[at]! += by;
  return changed;
}

describe.each([
  ['index', 8],
  ['timeindex', 12],
] as const)('a .%s file', (suffix, entry) => {
  describe.each([
    ['after a clean close', true],
    ['after a kill', false],
  ])('%s', (_when, clean) => {
    it.each(indexDamages)('may be %s', async (_what, damage) => {
      const machine = new Machine();
      const broker = await fill(machine);
      if (clean) await broker.close();
      const names = machine.names().filter((name) => name.endsWith(`.${suffix}`));
      expect(names.length).toBeGreaterThan(3);
      for (const name of names) {
        const bytes = machine.read(name);
        machine.write(name, bytes.length === 0 ? bytes : damage(bytes, entry));
      }
      const reopened = await machine.open();
      expect(reopened.recovery).toEqual([]);
      await expectLookUpsRight(partitionOf(reopened));
      // And once more, with what this opening has written.
      await append(partitionOf(reopened), batchOf(['last'], { timestamp: 900 }), 'all');
      await reopened.close();
      const again = await machine.open();
      expect(await valuesIn(partitionOf(again))).toEqual([...all, 'last']);
      expect(await offsetForTimestamp(partitionOf(again), 0)).toBe(0);
    });
  });
});

/** Reads what there is until the damage. */
async function readUntilDamage(
  partition: Partition,
  from = partition.logStartOffset,
): Promise<{ readonly found: ReadRecord[]; readonly error: OttlaError }> {
  const found: ReadRecord[] = [];
  try {
    await readInto(found, partition, from);
  } catch (error) {
    return { found, error: error as OttlaError };
  }
  throw new Error(`read ${found.length} records and no damage`);
}

/** The partition refuses appends, naming the place and the mend; nothing of it is touched. */
async function expectAppendsRefused(machine: Machine, broker: Broker, name: string): Promise<void> {
  const before = logsOf(machine).map((log) => machine.read(log));
  const refused = await failureOf(append(partitionOf(broker), batchOf(['x'])));
  expect(refused).toMatchObject({ code: 'CORRUPT_MESSAGE', retriable: false });
  expect(refused.message).toContain(name);
  expect(refused.message).toContain('topics.reopen("t", 0)');
  expect(await failureOf(append(partitionOf(broker), batchOf(['x']), 'all'))).toBe(refused);
  await expectOtherPartitionWorks(broker);
  await broker.close();
  expect(logsOf(machine).map((log) => machine.read(log))).toEqual(before);
}

/** With the CRC of the last batch changed. */
function changedInTheEnd(bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  changed[bytes.length - batches.at(-1)!.length + 17]! ^= 1;
  return changed;
}

describe('damage before the recovery point', () => {
  let machine: Machine;
  let logs: string[];
  let epoch: number;
  beforeEach(async () => {
    machine = new Machine();
    const broker = await fill(machine);
    await broker.close();
    logs = logsOf(machine);
    epoch = partitionOf(broker).leaderEpoch;
  });

  it.each([
    ['a byte short', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['short by half', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    ['empty', () => Buffer.alloc(0)],
    ['gone', () => undefined],
  ])('an active file that is %s', async (_what, damage) => {
    const active = logs.at(-1)!;
    machine.write(active, damage(machine.read(active)));
    const broker = await machine.open();
    expect(broker.recovery).toEqual([
      expect.stringMatching(/^t-0 takes no records .*expected at least \d+\.$/) as unknown,
    ]);
    const partition = partitionOf(broker);
    const { found, error } = await readUntilDamage(partition);
    const values = found.map(({ value }) => value);
    expect(values).toEqual(all.slice(0, values.length));
    expect(values.length).toBeGreaterThanOrEqual(Number.parseInt(active, 10));
    expect(error).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(error.message).toContain(active);
    expect(partition.leaderEpoch).toBe(epoch);
    await expectAppendsRefused(machine, broker, active);
  });

  it.each([
    ['a byte short', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['empty', () => Buffer.alloc(0)],
    ['gone', () => undefined],
  ])('a sealed segment in the middle that is %s', async (_what, damage) => {
    const sealed = logs[2]!;
    machine.write(sealed, damage(machine.read(sealed)));
    const broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    const warnings: string[] = [];
    broker.onWarning = (warning) => warnings.push(warning);
    const partition = partitionOf(broker);
    const { found, error } = await readUntilDamage(partition);
    const values = found.map(({ value }) => value);
    expect(values).toEqual(all.slice(0, values.length));
    expect(values.length).toBeGreaterThanOrEqual(Number.parseInt(sealed, 10));
    expect(error).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(error.message).toContain(sealed);
    const behind = Number.parseInt(logs[3]!, 10);
    const later = await readFrom(partition, behind);
    expect(later.map(({ value }) => value)).toEqual(all.slice(behind));
    // Looked at when first used: opening does not list the directories of thousands of partitions.
    expect(warnings).toEqual([expect.stringContaining(sealed) as unknown]);
    await expectAppendsRefused(machine, broker, sealed);
  });

  it('a sealed segment that is longer', async () => {
    const sealed = logs[2]!;
    machine.append(sealed, Buffer.alloc(1));
    const broker = await machine.open();
    expect(await valuesIn(partitionOf(broker))).toEqual(all);
    await expectAppendsRefused(machine, broker, sealed);
  });

  it.each([1, 3])(
    '%i of the oldest sealed segments gone: the log starts behind them',
    async (count) => {
      for (const name of logs.slice(0, count)) machine.write(name, undefined);
      const broker = await machine.open();
      const warnings: string[] = [];
      broker.onWarning = (warning) => warnings.push(warning);
      const partition = partitionOf(broker);
      const start = Number.parseInt(logs[count]!, 10);
      expect(partition.logStartOffset).toBe(start);
      expect(warnings).toEqual([
        `t-0: the log begins at offset ${start}: its segments from offset 0 to ${start} are gone.`,
      ]);
      expect(await valuesIn(partition)).toEqual(all.slice(start));
      expect(await failureOf(readFrom(partition, start - 1))).toMatchObject({
        code: 'OFFSET_OUT_OF_RANGE',
      });
      expect(await append(partition, batchOf(['new']), 'all')).toBe(all.length);
      await broker.close();
      expect(partitionOf(await machine.open()).logStartOffset).toBe(start);
    },
  );

  it.each([
    ['of the other partition', (at: Machine) => at.read(firstLog, '/t-1')],
    ['with other bytes before the point', (at: Machine) => changedInTheEnd(at.read(logs.at(-1)!))],
  ])('an active file %s, and more behind', async (_what, bytes) => {
    const active = logs.at(-1)!;
    const damaged = Buffer.concat([bytes(machine), Buffer.alloc(10_000)]);
    machine.write(active, damaged);
    const broker = await machine.open();
    expect(broker.recovery).toEqual([
      expect.stringMatching(
        /^t-0 takes no records .* (?:is another file|damage at byte \d+ of .*): .*\.$/,
      ) as unknown,
    ]);
    expect(machine.read(active)).toEqual(damaged);
    await expectAppendsRefused(machine, broker, active);
  });

  it('a directory that is gone: the other partitions go on, and nothing is made anew', async () => {
    const files = machine.names().map((name) => [name, machine.read(name)] as const);
    machine.files.removeDirectory('/t-0');
    const broker = await machine.open();
    expect(broker.recovery).toEqual([
      expect.stringMatching(/^t-0 takes no records .*ENOENT.*\.$/) as unknown,
    ]);
    await expectOtherPartitionWorks(broker);
    const refused = await failureOf(append(partitionOf(broker), batchOf(['x'])));
    expect(refused).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
    expect(machine.files.isDirectory('/t-0')).toBe(false);
    machine.files.makeDirectory('/t-0');
    for (const [name, bytes] of files) machine.write(name, bytes);
    expect(await partitionOf(broker).reopen()).toBeNull();
    expect(await append(partitionOf(broker), batchOf(['x']))).toBe(all.length);
    expect(await valuesIn(partitionOf(broker))).toEqual([...all, 'x']);
  });

  it('all sealed segments gone: the log starts with the active one', async () => {
    for (const name of logs.slice(0, -1)) machine.write(name, undefined);
    const partition = partitionOf(await machine.open());
    const start = Number.parseInt(logs.at(-1)!, 10);
    expect(partition.logStartOffset).toBe(start);
    expect(await valuesIn(partition)).toEqual(all.slice(start));
  });
});

describe('metadata that does not know a segment', () => {
  const unknown = '00000000000000009999.log';

  it('is METADATA_LOST before anything is touched, if the partition needs recovery', async () => {
    const machine = new Machine();
    await fill(machine);
    machine.append(firstLog, Buffer.from('torn'), '/t-1');
    machine.write(unknown, batchOf(['x'], { baseOffset: 9999 }));
    const before = machine.names().map((name) => machine.read(name));
    const torn = machine.read(firstLog, '/t-1');
    const lost = await failureOf(machine.open());
    expect(lost).toMatchObject({ code: 'METADATA_LOST', retriable: false });
    expect(lost.message).toContain(unknown);
    expect(machine.names().map((name) => machine.read(name))).toEqual(before);
    expect(machine.read(firstLog, '/t-1')).toEqual(torn);
    // Taken away, all is well again.
    machine.write(unknown, undefined);
    const broker = await machine.open();
    expect(broker.recovery).toHaveLength(1);
    expect(await valuesIn(partitionOf(broker))).toEqual(all);
  });

  it('is METADATA_LOST of that partition, if it is found at first use', async () => {
    const machine = new Machine();
    await (await fill(machine)).close();
    machine.write(unknown, batchOf(['x'], { baseOffset: 9999 }));
    const broker = await machine.open();
    const partition = partitionOf(broker);
    expect(() => partition.logEndOffset).toThrow(
      expect.objectContaining({ code: 'METADATA_LOST' }),
    );
    expect(await failureOf(append(partition, batchOf(['x'])))).toMatchObject({
      code: 'METADATA_LOST',
      retriable: false,
    });
    await expectOtherPartitionWorks(broker);
    await broker.close();
    machine.write(unknown, undefined);
    expect(await valuesIn(partitionOf(await machine.open()))).toEqual(all);
  });

  it('as after a backup of older metadata is METADATA_LOST', async () => {
    const machine = new Machine();
    const broker = await machine.open();
    const { topicId } = await createTopic(broker, settings, 2);
    await append(partitionOf(broker), batchOf(['old']));
    await broker.close();
    const row = machine.store.get(['partition', topicId, 0])!;
    const later = await machine.open();
    for (const batch of batches) await append(partitionOf(later), Buffer.from(batch));
    await later.close();
    const segments = [...machine.store.range(['segment', topicId, 0])];
    await machine.store.write([
      put(['partition', topicId, 0], row),
      ...segments.map(({ key }) => remove(key)),
    ]);
    const before = machine.names().map((name) => machine.read(name));
    expect(await failureOf(machine.open())).toMatchObject({ code: 'METADATA_LOST' });
    expect(machine.names().map((name) => machine.read(name))).toEqual(before);
  });

  it('other files in the directory are left alone', async () => {
    const machine = new Machine();
    await (await fill(machine)).close();
    const others = ['.DS_Store', `${firstLog}~`, `${firstLog}.swp`, '1.log', 'notes.txt', 'x.torn'];
    for (const name of others) machine.write(name, Buffer.from(name));
    const broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    expect(await valuesIn(partitionOf(broker))).toEqual(all);
    await append(partitionOf(broker), batchOf(['x']), 'all');
    await broker.close();
    for (const name of others) expect(machine.read(name).toString()).toBe(name);
  });
});
