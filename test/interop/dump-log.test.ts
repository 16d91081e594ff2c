import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kafka, notRun, whyNotRun } from './kafka-tools.js';
import { asSeen, filesOf, writeLogs, type SeenRecord, type WrittenLogs } from './written-logs.js';

interface DumpedBatch {
  readonly timestampType: string;
  readonly isValid: boolean;
  readonly records: SeenRecord[];
}

const batchLine = /^baseOffset: .* (CreateTime|LogAppendTime): .* isvalid: (true|false)$/;
const recordLine =
  /^\| offset: (\d+) (?:CreateTime|LogAppendTime): (-?\d+) keySize: (-?\d+) valueSize: (-?\d+) sequence: -1 headerKeys: \[(.*?)\](?: key: (.*?))?(?: payload: (.*))?$/;

/** What dump-log, which exits 0 whatever it finds, says of logs. */
async function dumpLogs(files: readonly string[]) {
  const list = files.join(',');
  const { stdout, stderr } = await kafka('dump-log', '--print-data-log', '--files', list);
  const batches: DumpedBatch[] = [];
  for (const line of stdout.split('\n')) {
    const batch = batchLine.exec(line);
    if (batch !== null) {
      batches.push({ timestampType: batch[1]!, isValid: batch[2] === 'true', records: [] });
    }
    const record = recordLine.exec(line);
    if (record !== null) batches.at(-1)!.records.push(seen(record));
  }
  const records = batches.flatMap((batch) => batch.records);
  return { batches, records, output: stdout + stderr };
}

function seen([, offset, timestamp, keySize, valueSize, headers, key, value]: RegExpExecArray) {
  const sized = (text: string | undefined, size: string | undefined): string | null => {
    if (size === '-1') return null;
    expect(Buffer.byteLength(text ?? '')).toBe(Number(size));
    return text ?? '';
  };
  return {
    offset: Number(offset),
    timestamp: Number(timestamp),
    key: sized(key, keySize),
    value: sized(value, valueSize),
    headers: headers!,
  };
}

const headerKeys = (list: readonly (readonly [string, string | null])[]): string =>
  list.map(([name]) => name).join(',');

describe.skipIf(whyNotRun !== null)(`Kafka's dump-log${notRun}`, () => {
  const names = ['orders-0', 'orders-1', 'orders-2', 'stamped-0'];
  let parent: string;
  let written: WrittenLogs;

  beforeAll(async () => {
    parent = mkdtempSync(join(tmpdir(), 'ottla-dump-log-'));
    written = await writeLogs(join(parent, 'data'));
  });
  afterAll(() => rmSync(parent, { recursive: true, force: true }));

  it.each(names)('reads every record of %s, in batches that are all valid', async (name) => {
    const logs = filesOf(written.directory, name, '.log');
    expect(logs.length).toBeGreaterThanOrEqual(name === 'stamped-0' ? 1 : 3);
    const { batches, records, output } = await dumpLogs(logs);
    const expected = written.records.get(name)!;
    expect(records).toEqual(expected.map((record, i) => asSeen(record, i, headerKeys)));
    expect(batches.every(({ isValid }) => isValid)).toBe(true);
    expect(output).not.toMatch(/invalid bytes|isvalid: false/);
    const type = name === 'stamped-0' ? 'LogAppendTime' : 'CreateTime';
    expect(new Set(batches.map(({ timestampType }) => timestampType))).toEqual(new Set([type]));
  });

  it.each(names)('finds that the indexes of %s agree with the log', async (name) => {
    const offsetIndexes = filesOf(written.directory, name, '.index');
    // With a time index dump-log opens the offset index, which a segment of one batch has not.
    const timeIndexes = offsetIndexes.map((file) => file.replace('.index', '.timeindex'));
    const files = [...offsetIndexes, ...timeIndexes];
    const list = files.join(',');
    expect(offsetIndexes.length).toBeGreaterThan(0);
    expect(files.every((file) => statSync(file).size > 0)).toBe(true);
    const sanity = await kafka('dump-log', '--index-sanity-check', '--files', list);
    for (const file of files) expect(sanity.stdout).toContain(`${file} passed sanity check.`);
    const verified = await kafka('dump-log', '--verify-index-only', '--files', list);
    expect(verified).toEqual({
      stdout: files.map((file) => `Dumping ${file}\n`).join(''),
      stderr: '',
    });
  });

  it('tells a byte that changed', async () => {
    const [log] = filesOf(written.directory, 'orders-2', '.log');
    const bytes = readFileSync(log!);
    bytes[100]! ^= 1;
    const damaged = join(parent, basename(log!));
    writeFileSync(damaged, bytes);
    const { batches } = await dumpLogs([damaged]);
    expect(batches.filter(({ isValid }) => !isValid)).toHaveLength(1);
  });

  it('tells an index that disagrees', async () => {
    const [index] = filesOf(written.directory, 'orders-2', '.index');
    const bytes = readFileSync(index!);
    bytes[3]! ^= 1;
    const damaged = join(parent, basename(index!));
    writeFileSync(damaged, bytes);
    copyFileSync(index!.replace('.index', '.log'), damaged.replace('.index', '.log'));
    const verified = await kafka('dump-log', '--verify-index-only', '--files', damaged);
    expect(verified.stderr).toContain('Mismatches in');
  });
});
