import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestBroker, notRun, whyNotRun } from './kafka-tools.js';
import { asSeen, filesOf, writeLogs, type SeenRecord, type WrittenLogs } from './written-logs.js';

const separator = '\u001f';
const nothing = '\u0007';
const shown = ['timestamp', 'partition', 'offset', 'headers', 'key', 'value'];

/** What a consumer of Kafka's finds in a topic, by topic-partition. */
async function consume(
  broker: TestBroker,
  topic: string,
  count: number,
): Promise<Map<string, SeenRecord[]>> {
  const properties = [
    ...shown.map((part) => `print.${part}=true`),
    `key.separator=${separator}`,
    `null.literal=${nothing}`,
    'headers.separator=;',
  ];
  const output = await broker.kafka(
    'console-consumer',
    ...`--topic ${topic} --from-beginning --max-messages ${count} --timeout-ms 60000`.split(' '),
    ...properties.flatMap((property) => ['--formatter-property', property]),
  );
  const records = new Map<string, SeenRecord[]>();
  for (const line of output.split('\n').slice(0, -1)) {
    const [timestamp, partition, offset, headers, key, value] = line.split(separator);
    const name = `${topic}-${after(partition)}`;
    const list = records.get(name) ?? [];
    list.push({
      offset: Number(after(offset)),
      timestamp: Number(after(timestamp)),
      key: key === nothing ? null : key!,
      value: value === nothing ? null : value!,
      headers: headers!,
    });
    records.set(name, list);
  }
  return records;
}

function after(labelled: string | undefined): string {
  return labelled!.slice(labelled!.indexOf(':') + 1);
}

function headerPairs(list: readonly (readonly [string, string | null])[]): string {
  if (list.length === 0) return 'NO_HEADERS';
  return list.map(([name, value]) => `${name}:${value ?? nothing}`).join(';');
}

describe.skipIf(whyNotRun !== null)(`a Kafka broker given Ottla's segments${notRun}`, () => {
  let parent: string;
  let broker: TestBroker | undefined;
  let written: WrittenLogs;

  beforeAll(async () => {
    parent = mkdtempSync(join(tmpdir(), 'ottla-import-'));
    written = await writeLogs(join(parent, 'data'));
    broker = await TestBroker.start(join(parent, 'broker'));
    const create = (options: string): Promise<string> =>
      broker!.kafka('topics', '--create', ...options.split(' '));
    await create('--topic orders --partitions 3');
    await create('--topic stamped --config message.timestamp.type=LogAppendTime');
    await broker.stop();
    for (const name of written.records.keys()) {
      // The folder with its topic id is Kafka's; the indexes in it belong to no log any more.
      const folder = join(broker.directory, 'data');
      for (const index of filesOf(folder, name, 'index')) rmSync(index);
      for (const log of filesOf(written.directory, name, '.log')) {
        copyFileSync(log, join(folder, name, basename(log)));
      }
    }
    await broker.start();
  });
  afterAll(async () => {
    await broker?.stop();
    rmSync(parent, { recursive: true, force: true });
  });

  it.each(['orders', 'stamped'])('lets its consumer read all of %s', async (topic) => {
    const expected = new Map(
      [...written.records]
        .filter(([name]) => name.startsWith(`${topic}-`))
        .map(([name, list]) => [name, list.map((record, i) => asSeen(record, i, headerPairs))]),
    );
    const count = [...expected.values()].reduce((sum, list) => sum + list.length, 0);
    expect(await consume(broker!, topic, count)).toEqual(expected);
  });

  it('goes on at their end offsets', async () => {
    const ends = await broker!.kafka('get-offsets', '--topic', 'orders');
    const expected = ['orders-0', 'orders-1', 'orders-2'].map(
      (name, partition) => `orders:${partition}:${written.records.get(name)!.length}`,
    );
    expect(ends.trim().split('\n').toSorted()).toEqual(expected);
  });
});
